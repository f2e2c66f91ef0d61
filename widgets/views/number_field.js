// Number field: a text input for whole numbers. What cannot be used is refused in a sentence, and
// the field shows the number in use again.

const NO_LAST = -1 // as in number_field.py

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "number-field"
    root.innerHTML = `
      <label><span></span><input type="text" inputmode="numeric" autocomplete="off"></label>
      <p role="alert" hidden></p>`
    el.append(root)
    const [name, input, said] = ["span", "input", "p"].map((part) => root.querySelector(part))
    const count = (number) => number.toLocaleString("en")
    const typing = () => input.getRootNode().activeElement === input && input.value !== shown
    let shown = ""

    const say = (text) => {
      said.textContent = text
      said.hidden = text === ""
      input.setAttribute("aria-invalid", text !== "")
    }
    const draw = () => {
      name.textContent = model.get("label")
      input.disabled = model.get("disabled")
      if (typing() && !input.disabled) return // the search must not overwrite what is typed
      input.value = shown = String(model.get("value"))
    }
    const reset = () => { input.value = shown = String(model.get("value")) }
    const use = (number) => {
      say("")
      model.set("value", number)
      model.save_changes()
      reset()
    }
    const last = () => {
      const found = model.get("last")
      return found === NO_LAST ? Number.MAX_SAFE_INTEGER : found
    }
    const take = () => {
      const text = input.value.trim(), number = Number(text.replace(/[,\s]/g, ""))
      if (text === shown) return
      if (/^\d[\d,\s]*$/.test(text) && number <= last()) return use(number)
      const range = model.get("last") === NO_LAST ? ">= 0" : `in [0, ${count(last())}]`
      const got = text === "" ? "nothing" : `“${text.slice(0, 20)}”`
      reset()
      say(`${model.get("label")} must be an integer ${range}, got ${got}; it stays ${count(model.get("value"))}.`)
    }
    input.addEventListener("change", take)
    input.addEventListener("input", () => say(""))
    input.addEventListener("blur", () => setTimeout(() => say(""), 4000))
    input.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 1, ArrowDown: -1 }[event.key]
      if (event.key === "Enter") take()
      if (event.key === "Escape") { say(""); reset() }
      if (!step) return
      event.preventDefault()
      const next = model.get("value") + step
      if (next >= 0 && next <= last()) use(next)
    })
    const watched = ["label", "value", "last", "disabled"].map((name) => `change:${name}`)
    for (const name of watched) model.on(name, draw)
    draw()
    return () => { for (const name of watched) model.off(name, draw) }
  },
}
