// Mix slider: a plain range input with a label, keyboard control and a visible focus.

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "mix-slider"
    root.innerHTML = `
      <div aria-hidden="true">Mix: share of B before the split <b></b></div>
      <input type="range" min="0" max="1" step="0.01"
             aria-label="Mix, the share of B before the split">`
    el.append(root)
    const [label, share, input] = ["div", "b", "input"].map((name) => root.querySelector(name))

    const draw = () => {
      const value = model.get("value"), degrees = model.get("angle")
      label.title = Number.isFinite(degrees) ? `ω, the angle between A and B: ${degrees.toFixed(1)}°` : ""
      share.textContent = value.toFixed(2)
      input.value = value
      input.disabled = model.get("disabled")
    }
    let waiting = false
    input.addEventListener("input", () => {
      model.set("value", Number(input.value))
      share.textContent = Number(input.value).toFixed(2)
      if (waiting) return // one message per frame, however fast the pointer moves
      waiting = true
      requestAnimationFrame(() => { waiting = false; model.save_changes() })
    })
    const watched = ["value", "angle", "disabled"].map((name) => `change:${name}`)
    for (const name of watched) model.on(name, draw)
    draw()
    return () => { for (const name of watched) model.off(name, draw) }
  },
}
