// A menu on each panel that saves its visible plot as PNG in several sizes, as SVG or its numbers as
// CSV, without the server.
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

  // Bokeh draws as many pixels as the screen has, and an export makes new canvases.
  const scaled = (times, draw) => {
    const own = Object.getOwnPropertyDescriptor(window, "devicePixelRatio")
    Object.defineProperty(window, "devicePixelRatio", { value: times, configurable: true })
    try { return draw() } finally { Object.defineProperty(window, "devicePixelRatio", own) }
  }
  // Columns of a source as lines: those of one length, and each row of a matrix.
  const lines = (name, data) => {
    const columns = Object.entries(data).map(([key, values]) => [key, Array.from(values ?? [])])
    const longest = Math.max(0, ...columns.map(([, values]) => values.length))
    const plain = columns.filter(([, values]) => values.length === longest
      && values.every((value) => value === null || typeof value !== "object"))
    const quoted = (value) => /[",\n]/.test(String(value))
      ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? "")
    const table = plain.length && longest
      ? [[name, ...plain.map(([key]) => key)],
         ...Array.from({ length: longest }, (_, row) =>
           [name, ...plain.map(([, values]) => values[row])])] : []
    const matrices = columns.flatMap(([key, values]) => values
      .filter((value) => value?.shape?.length === 2 || Array.isArray(value?.[0]))
      .flatMap((value) => {
        const [rows, wide] = value.shape ?? [value.length, value[0].length]
        const row = (k) => value.shape ? Array.from(value.slice(k * wide, (k + 1) * wide)) : value[k]
        return Array.from({ length: rows }, (_, k) => [`${name} ${key}, row ${k}`, ...row(k)])
      }))
    return [...table, ...matrices].map((row) => row.map(quoted).join(","))
  }
  // The plot has no background of its own; a file gets the panel's.
  const blobs = {
    png(view, colour, times) {
      const { canvas } = scaled(times, () => view.export("png"))
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
    csv(view) {
      const seen = new Set()
      const text = view.model.renderers.flatMap((found) => {
        const { data_source: source, glyph, name } = found
        if (!source?.data || seen.has(source)) return []
        seen.add(source)
        return lines(name || glyph?.type || "", source.data)
      })
      return new Blob([text.join("\n") + "\n"], { type: "text/csv" })
    },
  }
  const CHOICES = [["PNG 1×", "png", 1], ["PNG 2×", "png", 2], ["PNG 3×", "png", 3],
                   ["SVG", "svg"], ["CSV", "csv"]]

  const save = async (section, kind, times = 1) => {
    const view = plot(section)
    const blob = await blobs[kind](view, getComputedStyle(section).backgroundColor, times)
    const link = document.createElement("a")
    link.href = URL.createObjectURL(blob)
    const name = view.model.name.replace(/View$/, "").toLowerCase()
    link.download = `${name}${times > 1 ? `@${times}x` : ""}.${kind}`
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
    for (const [text, kind, times] of CHOICES) {
      const button = document.createElement("button")
      button.textContent = text
      button.addEventListener("click", () => {
        menu.open = false
        save(section, kind, times)
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
