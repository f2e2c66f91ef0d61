// Toggles: a row of plain buttons, of which one is pressed.

export default {
  render({ model, el }) {
    const row = document.createElement("div")
    row.className = "toggles"
    row.setAttribute("role", "group")
    row.setAttribute("aria-label", model.get("label"))
    el.append(row)
    const draw = () => {
      for (const button of row.children)
        button.setAttribute("aria-pressed", button.textContent === model.get("value"))
    }
    for (const text of model.get("options")) {
      const button = document.createElement("button")
      button.type = "button"
      button.textContent = text
      button.addEventListener("click", () => {
        model.set("value", text)
        model.save_changes()
        draw()
      })
      row.append(button)
    }
    model.on("change:value", draw)
    draw()
    return () => model.off("change:value", draw)
  },
}
