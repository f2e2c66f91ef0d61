// A menu on each panel that saves its visible plot as PNG or SVG, without the server.
addEventListener("DOMContentLoaded", () => {
  const shown = (element) => !element.closest("[aria-hidden=true]")
  // Plots are in shadow roots: go up from one to its place on the page.
  const place = (element) => {
    while (element.getRootNode() instanceof ShadowRoot) element = element.getRootNode().host
    return element.closest("section .plot")
  }
  const plot = (section) => Bokeh.documents
    .flatMap((document) => [...document.all_models])
    .filter((model) => model.type === "Figure" && model.name)
    .map((model) => Bokeh.index.find_one(model))
    .find((view) => view && section.contains(place(view.el)) && shown(place(view.el)))

  // The plot has no background of its own; a file gets the panel's.
  const blobs = {
    png(view, colour) {
      const { canvas } = view.export("png")
      const whole = Object.assign(document.createElement("canvas"),
                                  { width: canvas.width, height: canvas.height })
      const context = whole.getContext("2d")
      context.fillStyle = colour
      context.fillRect(0, 0, whole.width, whole.height)
      context.drawImage(canvas, 0, 0)
      return new Promise((done) => whole.toBlob(done, "image/png"))
    },
    svg(view, colour) {
      const { canvas } = view.export("svg")
      const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect")
      for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: colour })) {
        ground.setAttribute(name, value)
      }
      canvas.prepend(ground)
      // Bokeh adds an outline to each text, even an invisible one: every text would be there twice.
      canvas.querySelectorAll("text[fill=none][stroke-opacity='0']").forEach((text) => text.remove())
      const text = new XMLSerializer().serializeToString(canvas)
      return new Blob([text], { type: "image/svg+xml" })
    },
  }

  const save = async (section, kind) => {
    const view = plot(section)
    const blob = await blobs[kind](view, getComputedStyle(section).backgroundColor)
    const link = document.createElement("a")
    link.href = URL.createObjectURL(blob)
    link.download = `${view.model.name.replace(/View$/, "").toLowerCase()}.${kind}`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
  }

  for (const section of document.querySelectorAll("section:has(.plot)")) {
    const name = section.getAttribute("aria-label")
    const menu = document.createElement("details")
    menu.className = "save"
    menu.innerHTML = "<summary>⤓</summary><div></div>"
    menu.firstChild.setAttribute("aria-label", `Save: ${name}`)
    menu.firstChild.title = "Save this plot"
    for (const kind of Object.keys(blobs)) {
      const button = document.createElement("button")
      button.textContent = kind.toUpperCase()
      button.addEventListener("click", () => {
        menu.open = false
        save(section, kind)
      })
      menu.lastChild.append(button)
    }
    // Some plots are drawn only once there is something to show.
    menu.addEventListener("toggle", () => {
      for (const button of menu.lastChild.children) button.disabled = !plot(section)
    })
    section.prepend(menu)
    // A tab without a plot has nothing to save.
    const update = () => { menu.hidden = ![...section.querySelectorAll(".plot")].some(shown) }
    new MutationObserver(update).observe(section, { subtree: true, attributeFilter: ["aria-hidden"] })
    update()
  }
})
