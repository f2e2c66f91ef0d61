// Table of members: plain elements, filled with text and never with markup. It can be sorted by
// every column, and a row can be chosen with the pointer or the keyboard.

const percent = (share) => Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : "–"

// name, whether the highest is first, value to sort by, tooltip, content
const COLUMNS = [
  ["member", false, (row) => row.id, "Its number: seeds have the first ones, then children in turn; ◆ where a person had a hand in it",
   (row) => row.name + (row.by_hand ? " ◆" : "") + (row.pinned ? " · pinned" : "")],
  ["made of", true, (row) => row.share, "Share of each seed along the vector, from first to last " +
   "weight; sorted by the first seed's", (row) => ({ image: row.painting, words: row.made })],
  ["fitness", true, (row) => row.fitness, "What it wins in the competition for data points",
   (row) => row.fitness.toFixed(1)],
  ["score", true, (row) => row.score, "Mean score over the data points", (row) => percent(row.score)],
  ["alone", true, (row) => row.alone, "Share of the data points that nobody else solves",
   (row) => percent(row.alone)],
  ["by class", true, (row) => row.worst, "Score in each class, strong is good; sorted by the lowest",
   (row) => ({ image: row.classes, words: row.scores })],
  ["born", true, (row) => row.born, "Step at which it came", (row) => row.born.toLocaleString("en")],
  ["parents", true, (row) => row.parents[0] ?? -1, "A × B",
   (row) => row.pair || "–"],
]

const show = (cell, value) => {
  if (typeof value === "string") {
    if (cell.textContent !== value) cell.textContent = value
    return
  }
  const image = cell.firstChild ?? make("img", cell)
  if (image.getAttribute("src") !== value.image) image.src = value.image
  if (image.alt !== value.words) image.alt = image.title = value.words
}

export default {
  render({ model, el }) {
    const table = make("table", el, { className: "members" })
    table.setAttribute("aria-label", "living members")
    const head = make("tr", make("thead", table)), body = make("tbody", table)
    let sorted = 2, down = true
    const lines = new Map() // rows of the table by id

    const headers = COLUMNS.map(([name, more, , words], column) => {
      const header = make("th", head, { scope: "col", title: words })
      make("button", header, { type: "button", textContent: name }).addEventListener("click", () => {
        down = sorted === column ? !down : more
        sorted = column
        draw()
      })
      return header
    })

    const choose = (id) => {
      model.set("selected", id)
      model.save_changes()
      mark()
    }
    const line = (id) => {
      const found = lines.get(id) ?? document.createElement("tr")
      if (lines.has(id)) return found
      lines.set(id, found)
      found.tabIndex = 0
      for (const _ of COLUMNS) make("td", found)
      found.addEventListener("click", () => choose(id))
      found.addEventListener("keydown", (event) => {
        const near = { ArrowDown: found.nextSibling, ArrowUp: found.previousSibling }[event.key]
        if (event.key === "Enter" || event.key === " ") choose(id)
        else if (near) near.focus()
        else return
        event.preventDefault()
        event.stopPropagation() // not the page's own keys
      })
      return found
    }
    const mark = () => {
      for (const [id, found] of lines)
        found.setAttribute("aria-current", id === model.get("selected") ? "true" : "false")
    }
    const draw = () => {
      const rows = [...model.get("rows")], value = COLUMNS[sorted][2], sign = down ? -1 : 1
      rows.sort((a, b) => sign * (value(a) - value(b)) || a.id - b.id)
      headers.forEach((header, column) => header.setAttribute(
        "aria-sort", column !== sorted ? "none" : down ? "descending" : "ascending"))
      rows.forEach((row, place) => {
        const found = line(row.id)
        COLUMNS.forEach(([, , , , content], column) => show(found.cells[column], content(row)))
        // Only rows that have moved, so that the focus stays.
        if (body.children[place] !== found) body.insertBefore(found, body.children[place] ?? null)
      })
      while (body.children.length > rows.length) {
        const gone = body.lastChild
        for (const [id, found] of lines) if (found === gone) lines.delete(id)
        gone.remove()
      }
      mark()
    }

    const watched = { rows: draw, selected: mark }
    for (const [name, react] of Object.entries(watched)) model.on(`change:${name}`, react)
    draw()
    return () => {
      for (const [name, react] of Object.entries(watched)) model.off(`change:${name}`, react)
    }
  },
}
