// Run table: plain elements, filled with text and never with markup. A row keeps its fields while
// it is typed into.

const when = (text) => {
  const at = new Date(text), today = new Date().toDateString() === at.toDateString()
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
  return today ? `today ${time}` : `${at.toLocaleDateString("sv")} ${time}`
}
const PLACES = { shown: "on the page", open: "open", elsewhere: "on another page", stored: "" }

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "runs"
    root.innerHTML = `
      <div class="told"><span role="status"></span> <button type="button">Undo delete</button></div>
      <div class="scroll" tabindex="0" role="group" aria-label="List of runs">
      <table aria-label="runs"><thead><tr></tr></thead><tbody></tbody></table></div>`
    el.append(root)
    const [told, undo, head, body] = ["span", ".told button", "thead tr", "tbody"]
      .map((name) => root.querySelector(name))
    for (const name of ["Name", "Task", "Method", "Steps", "Best", "When", "Note", "Actions"])
      head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: name }))

    let count = 0
    const ask = (deed, key = "", text = "") => {
      model.set("asked", [++count, deed, key, text])
      model.save_changes()
    }
    undo.addEventListener("click", () => ask("undo"))

    const lines = new Map()
    const cell = (line) => line.appendChild(document.createElement("td"))
    const field = (line, name, key) => {
      const input = cell(line).appendChild(document.createElement("input"))
      input.addEventListener("change", () => ask(name, key, input.value))
      return input
    }
    const button = (place, text, act) => {
      const made = document.createElement("button")
      Object.assign(made, { type: "button", textContent: text })
      made.addEventListener("click", act)
      return place.appendChild(made)
    }
    const made = (key) => {
      const line = document.createElement("tr")
      const row = { line, name: field(line, "name", key) }
      row.place = row.name.parentNode.appendChild(document.createElement("small"))
      row.texts = ["task", "method", "steps", "best", "created"].map((name) => [name, cell(line)])
      row.note = field(line, "note", key)
      const actions = cell(line)
      row.open = button(actions, "Open", () => ask("open", key))
      row.compare = button(actions, "Compare", () => ask("compare", key))
      row.pin = button(actions, "Pin", () =>
        ask("pin", key, row.pin.getAttribute("aria-pressed") === "true" ? "no" : "yes"))
      row.remove = button(actions, "Delete", () => ask("delete", key))
      lines.set(key, row)
      return row
    }
    const shown = { steps: (value) => value.toLocaleString("en"), created: when }
    const fill = (input, value) => {
      if (input.getRootNode().activeElement !== input) input.value = value
    }
    const draw = () => {
      const rows = model.get("rows"), keys = rows.map((row) => row.key)
      for (const [key, row] of lines)
        if (!keys.includes(key)) { row.line.remove(); lines.delete(key) }
      rows.forEach((data, place) => {
        const row = lines.get(data.key) ?? made(data.key), called = data.name || data.title
        fill(row.name, data.name)
        fill(row.note, data.note)
        row.name.placeholder = data.title
        row.name.setAttribute("aria-label", `Name of ${data.title}`)
        row.note.setAttribute("aria-label", `Note on ${called}`)
        row.place.textContent = PLACES[data.place] + (data.recorded || !data.steps ? ""
          : `${data.place === "stored" ? "" : ", "}not recorded`)
        for (const [name, td] of row.texts) {
          const text = (shown[name] ?? String)(data[name])
          if (td.textContent !== text) td.textContent = text
        }
        row.line.setAttribute("aria-current", data.place === "shown")
        for (const [name, act] of Object.entries({ open: "Open", compare: "Compare", pin: "Pin",
                                                   remove: "Delete" }))
          row[name].setAttribute("aria-label", `${act} ${called}`)
        row.pin.setAttribute("aria-pressed", data.pinned)
        row.open.disabled = row.remove.disabled = data.place === "shown"
        row.compare.disabled = data.place === "shown" || data.place === "open"
        if (body.children[place] !== row.line)
          body.insertBefore(row.line, body.children[place] ?? null)
      })
      told.textContent = model.get("told") || (rows.length ? "" : "There are no runs yet.")
      undo.hidden = !model.get("undoable")
    }
    for (const name of ["rows", "told", "undoable"]) model.on(`change:${name}`, draw)
    draw()
    const seen = new IntersectionObserver(([entry]) => {
      model.set("seen", entry.isIntersecting)
      model.save_changes()
    })
    seen.observe(root)
    return () => {
      seen.disconnect()
      for (const name of ["rows", "told", "undoable"]) model.off(`change:${name}`, draw)
    }
  },
}
