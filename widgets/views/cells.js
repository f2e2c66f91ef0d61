// Maps whose cells can be picked: by a click, or arrow keys move a frame and Enter picks its cell,
// which is described for screen readers. A pick is sent as the page shows it at that moment: a pair
// by its ids, because a running search moves members to other cells.
const MAPS = {
  AttractionView: {
    start: ({ rows }) => ({ row: rows - 1, column: 1 }),
    words: ({ row, column, value, ...map }) => {
      const [a, b] = pair(map, row, column, "members")
      return a === b ? `${a} meets itself`
        : `A ${a}, B ${b}: solves what A gets wrong, worth ${value.toFixed(1)} points of reward`
    },
    picked: (map, row, column) => {
      const [a, b] = pair(map, row, column)
      if (a === b) return null
      surround(map, row, column)
      return [a, b]
    },
  },
  NichesView: {
    start: ({ rows }) => ({ row: rows - 1, column: 0 }),
    words: ({ row, column, value, ...map }) => {
      const { rows, columns } = map, solvers = about(map, column + columns)
      return `member ${map.data.members[0][rows - 1 - row]}, data point ${about(map, column)}, ` +
        `class ${group(map, column)}: ${value ? value.toFixed(3) : 0}, solved by ${solvers}`
    },
    picked: (map, row, column) => {
      open_formula("point", about(map, column))
      return null
    },
  },
  LandscapeView: {
    start: ({ rows, columns }) => ({ row: (rows - 1) >> 1, column: (columns - 1) >> 1 }),
    words: ({ data, row, column, value }) =>
      `split ${data.splits[0][column].toLocaleString("en")}, mix ${data.mixes[0][row].toFixed(2)}: `
      + (isNaN(value) ? "not evaluated yet" : `score ${value.toFixed(1)} %`),
    picked: ({ left, bottom, wide, high }, row, column) =>
      [left + (column + 0.5) * wide, bottom + (row + 0.5) * high],
  },
}
// What a column of the niche map is about: the data point and, a row further each, its solvers and
// what it pays; and its class.
const about = ({ data, columns }, at) =>
  data.about[0].shape ? data.about[0][at] : data.about[0][Math.floor(at / columns)][at % columns]
const group = ({ data }, column) =>
  data.classes[0][data.edges[0].findLastIndex((edge) => edge <= column)]
const pair = ({ data, rows }, row, column, by = "ids") =>
  [data[by][0][rows - 1 - row], data[by][0][column]]
// Lays an element over cells of a map, from one corner to the other.
const cover = (element, place, map, [low, left], [high, right]) => {
  const { x_scale, y_scale } = map.view.frame
  const box = map.view.canvas_view.el.getBoundingClientRect()
  const around = place.getBoundingClientRect()
  const x = (value) => box.x - around.x + x_scale.compute(map.left + value * map.wide)
  const y = (value) => box.y - around.y + y_scale.compute(map.bottom + value * map.high)
  element.style.left = `${x(left)}px`
  element.style.width = `${x(right) - x(left)}px`
  element.style.top = `${y(high)}px`
  element.style.height = `${y(low) - y(high)}px`
}
// Frames a pair's row and column before Python receives the pick and sends its own frames. Elements
// are drawn first, as they cost the browser next to nothing; then the canvas is drawn again.
const surround = (map, row, column) => {
  const { frames, rows, columns } = map, colours = getComputedStyle(document.documentElement)
  const line_color = ["--parent_a", "--parent_b"].map((of) => colours.getPropertyValue(of).trim())
  const place = document.querySelector("[data-cells=AttractionView]")
  const sides = [[[row, 0], [row + 1, columns]], [[0, column], [rows, column + 1]]]
  place.querySelectorAll(".mark").forEach((old) => old.remove())
  sides.forEach((corners, which) => {
    const mark = document.createElement("div")
    mark.className = "mark"
    mark.style.borderColor = line_color[which]
    cover(mark, place, map, ...corners)
    place.append(mark)
    setTimeout(() => mark.remove(), 300)
  })
  const data = {
    left: [0, column], right: [columns, column + 1], bottom: [row, 0], top: [row + 1, rows],
    line_color,
  }
  const old = frames?.data
  const draw = () => {
    if (frames && frames.data === old) frames.setv({ data: { ...old, ...data } }, { sync: false })
  }
  setTimeout(draw, 60)
}
let picks = 0 // counted, so that the same cell can be picked again
const pick = (name, map, row, column) => {
  if (document.body.classList.contains("watching")) return
  const picked = MAPS[name].picked(map, row, column)
  if (picked) tell("cell", JSON.stringify([name, ...picked, ++picks]))
}
const MOVES = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }

// Returns the map's figure, its numbers and its shape; the first row is the lowest.
const seen = (name) => {
  // Not by ``get_model_by_name``: a plot that was replaced is among the models for a while.
  const models = Bokeh.documents.flatMap((made) => [...made.all_models])
  const model = models.find((found) => found.name === name && Bokeh.index.find_one(found))
  const view = model && Bokeh.index.find_one(model)
  const drawn = (kind) => model?.renderers.find((found) => found.glyph?.type === kind)
  const glyph = drawn("Image"), frames = drawn("Quad")?.data_source
  if (!view?.canvas_view || !glyph) return null
  const data = glyph.data_source.data, image = data.image[0]
  const [rows, columns] = image.shape ?? [image.length, image[0].length]
  const of = (key) => data[key]?.[0] ?? glyph.glyph[key].value
  const wide = of("dw") / columns, high = of("dh") / rows
  return { view, data, frames, rows, columns, wide, high, left: of("x"), bottom: of("y"),
           at: (row, column) => image.shape ? image[row * columns + column] : image[row][column] }
}

const movable = (place, name) => {
  let cell = null
  const frame = document.createElement("div"), words = document.createElement("div")
  frame.className = "cell"
  words.className = "spoken"
  words.setAttribute("role", "status")
  place.append(frame, words)
  place.tabIndex = 0

  const show = () => {
    const map = seen(name)
    if (!map) return
    cell ??= MAPS[name].start(map)
    const within = (value, many) => Math.min(Math.max(value, 0), many - 1)
    cell = { row: within(cell.row, map.rows), column: within(cell.column, map.columns) }
    const { row, column } = cell
    cover(frame, place, map, [row, column], [row + 1, column + 1])
    const said = MAPS[name].words({ ...map, ...cell, value: map.at(row, column) })
    if (words.textContent !== said) words.textContent = said
  }
  // A click is at whole pixels, the pointer between them: there may be several columns in one.
  let pointer = { clientX: -9, clientY: -9 }
  place.addEventListener("pointermove", (event) => { pointer = event })
  place.addEventListener("click", (event) => {
    const near = Math.abs(event.clientX - pointer.clientX) < 1 &&
      Math.abs(event.clientY - pointer.clientY) < 1
    const { clientX, clientY } = near ? pointer : event
    const map = seen(name), box = map?.view.canvas_view.el.getBoundingClientRect()
    if (!map) return
    const { x_scale, y_scale } = map.view.frame
    const column = Math.floor((x_scale.invert(clientX - box.x) - map.left) / map.wide)
    const row = Math.floor((y_scale.invert(clientY - box.y) - map.bottom) / map.high)
    const within = row >= 0 && row < map.rows && column >= 0 && column < map.columns
    if (within) pick(name, map, row, column)
  })
  let watching
  place.addEventListener("focus", () => {
    show()
    watching = setInterval(show, 500) // the search may go on
  })
  place.addEventListener("blur", () => clearInterval(watching))
  place.addEventListener("keydown", (event) => {
    const map = seen(name), move = MOVES[event.key]
    if (!map || !cell || event.ctrlKey || event.metaKey || event.altKey) return
    if (move) cell = { row: cell.row + move[0], column: cell.column + move[1] }
    else if (event.key === "Home") cell = { ...cell, column: 0 }
    else if (event.key === "End") cell = { ...cell, column: map.columns - 1 }
    else if (event.key === "Enter") pick(name, map, cell.row, cell.column)
    else return
    event.preventDefault()
    show()
  })
}

addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll("[data-cells]")) movable(place, place.dataset.cells)
})
