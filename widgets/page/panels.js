// Panels: each can be enlarged to the window, and some open the equations behind them.
const TOOLS = { formula: { "Niches": "point", "Attraction": "pair", "Merge bench": "weight" } }

// Opens the equations with their numbers, or shows another part of them.
let formula_opener = null
const open_formula = (part, point) => {
  const dialog = document.getElementById("formula")
  if (!dialog.open) {
    formula_opener = document.activeElement
    dialog.show()
  }
  tell("formula_opened", point === undefined ? part : `${part}:${point}`)
}
addEventListener("DOMContentLoaded", () => {
  const dialog = document.getElementById("formula")
  dialog.querySelector(".close").addEventListener("click", () => dialog.close())
  dialog.addEventListener("close", () => {
    tell("formula_opened", "")
    formula_opener?.focus?.({ preventScroll: true })
  })
})

// Enlarges a section, or puts it back. Its place is kept, or all other panels would move.
const enlarge = (section, on) => {
  const button = section.querySelector(":scope > .enlarge")
  if (on) for (const other of document.querySelectorAll("section.large")) enlarge(other, false)
  if (on === section.classList.contains("large")) return
  if (on) section.before(Object.assign(document.createElement("div"), { className: "place" }))
  else section.previousElementSibling.remove()
  section.classList.toggle("large", on)
  document.body.classList.toggle("enlarged", on)
  button.setAttribute("aria-pressed", on)
  button.textContent = on ? "⤡" : "⤢"
}
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return
  const dialog = document.getElementById("formula"), large = document.querySelector("section.large")
  if (dialog.open) dialog.close()
  else if (large) {
    enlarge(large, false)
    large.querySelector(":scope > .enlarge").focus()
  } else return
  event.preventDefault()
})

addEventListener("DOMContentLoaded", () => {
  const round = (section, name, sign, label, title) => {
    const button = document.createElement("button")
    Object.assign(button, { type: "button", className: name, textContent: sign, title })
    button.setAttribute("aria-label", `${label}: ${section.getAttribute("aria-label")}`)
    section.querySelector(":scope > .help").before(button)
    return button
  }
  for (const section of document.querySelectorAll("main > section")) {
    const part = TOOLS.formula[section.getAttribute("aria-label")]
    if (part) {
      round(section, "formula", "ƒ", "Formula", "The equation with its numbers")
        .addEventListener("click", () => open_formula(part))
    }
    const button = round(section, "enlarge", "⤢", "Enlarge", "Enlarge to the window, or back (Esc)")
    button.setAttribute("aria-pressed", "false")
    button.addEventListener("click", () => enlarge(section, !section.classList.contains("large")))
    const tools = [...section.querySelectorAll(":scope > :is(.help, .save, .enlarge, .formula)")]
    const order = [".help", ".enlarge", ".formula", ".save"]
    tools.sort((a, b) => order.findIndex((css) => a.matches(css)) -
                         order.findIndex((css) => b.matches(css)))
    tools.forEach((tool, at) => { tool.style.right = `${10 + 30 * at}px` })
    section.style.setProperty("--tools", tools.length)
  }
})

// A plot is announced by its outline until it is drawn.
addEventListener("DOMContentLoaded", () => {
  const look = () => {
    const waiting = [...document.querySelectorAll(".plot:not(.drawn)")]
    for (const place of waiting)
      if (everything(place).some((element) => element.tagName === "CANVAS"))
        place.classList.add("drawn")
    if (waiting.length) setTimeout(look, 200)
  }
  look()
})

// Shows who is before the pages of a shared search. Who only watches finds all controls switched
// off, can put up a hand, and gets a turn from a teacher.
let said = 0
const say_to_people = (what) => tell("people_said", `${what} ${++said}`)
const show_people = (text) => {
  const bar = document.querySelector(".people"), now = text ? JSON.parse(text) : null
  const watching = Boolean(now && !now.steers)
  bar.hidden = !now
  document.body.classList.toggle("watching", watching)
  for (const part of document.querySelectorAll("[data-root-id]"))
    if (!part.closest(".plot, .figures, .words, [hidden], [aria-label=Answers] .scroll"))
      part.inert = watching
  if (!now) return
  const focused = bar.contains(document.activeElement) && document.activeElement.dataset.key
  const chip = (person) => {
    const mine = person.number === now.me, can = now.teaches && !person.teaches
    const element = document.createElement(can ? "button" : "span")
    element.className = "person"
    element.dataset.key = person.number
    element.style.background = person.colour
    element.textContent = `${person.teaches ? "T" : "V"}${person.number}` +
      `${person.hand ? " ☝" : ""}${person.turn ? " ✎" : ""}`
    const state = person.turn ? ", steers" : person.hand ? ", hand up" : ""
    const does = can ? `. ${person.turn ? "End the turn" : "Let this viewer steer"}` : ""
    element.title = `${person.name}${mine ? " (you)" : ""}${state}${does}`
    element.setAttribute("aria-label", element.title)
    if (!can) element.setAttribute("role", "img")
    if (can) element.addEventListener("click", () => say_to_people(person.number))
    return element
  }
  bar.replaceChildren(...now.people.map(chip))
  if (!now.teaches) {
    const me = now.people.find((person) => person.number === now.me)
    const button = document.createElement("button")
    button.dataset.key = "own"
    button.textContent = me.turn ? "Give the turn back" : me.hand ? "☝ Lower hand" : "☝ Raise hand"
    button.addEventListener("click", () => say_to_people(me.turn ? "end" : "hand"))
    const words = document.createElement("span")
    words.setAttribute("role", "status")
    words.textContent = me.turn ? "You steer." : "You watch: a teacher steers."
    bar.append(button, words)
  }
  if (focused) bar.querySelector(`[data-key="${focused}"]`)?.focus()
}
