// Time slider: a plain range input with a label, keyboard control and a visible focus. Its right
// end is the present (-1 for Python) and moves with the search, unless the slider is dragged.

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "timeline"
    root.innerHTML = `
      <b aria-hidden="true">Time</b>
      <input type="range" step="1" aria-label="Time, the step that is looked at">
      <span data-testid="when"></span>`
    el.append(root)
    const [input, when] = ["input", "span"].map((name) => root.querySelector(name))
    const count = (number) => number.toLocaleString("en")
    let held = false

    const say = () => {
      const at = Number(input.value), end = Number(input.max), past = at < end
      const words = past ? `Viewing step ${count(at)} of ${count(model.get("last"))}`
        : `step ${count(at)}, now`
      when.textContent = words
      input.setAttribute("aria-valuetext", words)
      root.classList.toggle("past", past)
      document.body.classList.toggle("past", past) // what still shows the present is greyed
    }
    const draw = () => {
      if (held) return // the slider must not move while it is dragged
      const [first, last, at] = ["first", "last", "at"].map((name) => model.get(name))
      input.min = first
      input.max = last
      input.value = at < 0 ? last : at
      input.disabled = first === last
      say()
    }
    let waiting = false
    input.addEventListener("input", () => {
      say()
      if (waiting) return // one message per frame, however fast the pointer moves
      waiting = true
      requestAnimationFrame(() => {
        waiting = false
        const at = Number(input.value)
        model.set("at", at < Number(input.max) ? at : -1)
        model.save_changes()
      })
    })
    input.addEventListener("pointerdown", () => { held = true })
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
      input.addEventListener(name, () => { held = false })
    const watched = ["first", "last", "at"].map((name) => `change:${name}`)
    for (const name of watched) model.on(name, draw)
    draw()
    return () => { for (const name of watched) model.off(name, draw) }
  },
}
