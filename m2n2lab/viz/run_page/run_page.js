// Draws a run from the JSON beside it. Every text is set as text, never as HTML.
"use strict"
const run = JSON.parse(document.getElementById("data").textContent)
const byId = (id) => document.getElementById(id)
const made = (name, parent, text = "", css = "") => {
  const element = document.createElement(name)
  element.textContent = text
  if (css) element.className = css
  parent?.append(element)
  return element
}
const shape = (name, parent, attributes, css = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  if (css) element.setAttribute("class", css)
  parent.append(element)
  return element
}
const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))
const number = (value) => value === null ? "–" : value.toLocaleString("en", { maximumSignificantDigits: 3 })
const percent = (share) => share === null ? "–" : `${(100 * share).toFixed(1)} %`

// -- appearance ---------------------------------------------------------------------------------

const preferred = matchMedia("(prefers-color-scheme: dark)")
const shown = () => document.documentElement.dataset.theme ?? (preferred.matches ? "dark" : "light")
const theme = () => run.themes[shown()]
const colour = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16))
const appear = () => {
  document.documentElement.dataset.shown = shown()
  byId("appearance").textContent = shown() === "dark" ? "Light" : "Dark"
  for (const element of document.querySelectorAll(".strong")) {
    element.textContent = shown() === "dark" ? "Brighter" : "Darker"
  }
  drawAll()
}
byId("appearance").addEventListener("click", () => {
  document.documentElement.dataset.theme = shown() === "dark" ? "light" : "dark"
  appear()
})
preferred.addEventListener("change", () => appear())
const seedColour = (k, count) => k === count - 1 ? theme().outside[0] : theme().seeds[k % theme().seeds.length]

// -- maps ---------------------------------------------------------------------------------------

const { maps } = run
const called = (id) => maps.called[id] ?? String(id)
const columns = maps.groups.length
const known = new Map()
// The scores of a member in [0, 1], one for each column.
const scores = (id) => {
  if (!known.has(id)) {
    const packed = bytes(maps.scores[id])
    known.set(id, maps.binary
      ? Float32Array.from({ length: columns }, (_, j) => packed[j >> 3] >> (7 - (j & 7)) & 1)
      : Float32Array.from(packed, (value) => value / 255))
  }
  return known.get(id)
}
let now = null // the moment that the maps show

const ordered = (moment) => {
  const rows = moment.ids.map(scores)
  const crowd = Float32Array.from({ length: columns }, (_, j) => rows.reduce((sum, row) => sum + row[j], 0))
  const solvers = Int32Array.from({ length: columns }, (_, j) => rows.reduce((sum, row) => sum + (row[j] > 0), 0))
  const order = [...Array(columns).keys()]
    .sort((a, b) => maps.groups[a] - maps.groups[b] || crowd[b] - crowd[a] || a - b)
  const weights = Float32Array.from(bytes(moment.weights), (value) => value / 255 * moment.most)
  return { moment, rows, solvers, order, weights }
}

// Colours the cells (rows x columns) of a canvas by values in [0, 1]; 0 is the background.
const paint = (canvas, height, width, value) => {
  Object.assign(canvas, { width, height })
  canvas.style.imageRendering = canvas.clientWidth && width > canvas.clientWidth ? "auto" : "pixelated"
  const context = canvas.getContext("2d")
  const image = context.createImageData(width, height)
  const colours = theme().ramp.map(colour)
  const ground = colour(getComputedStyle(document.documentElement).getPropertyValue("--card").trim())
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at += 4) {
      const share = value(row, column)
      const [r, g, b] = share > 0 ? colours[Math.round(35 + 220 * Math.min(share, 1))] : ground
      image.data.set([r, g, b, 255], at)
    }
  }
  context.putImageData(image, 0, 0)
}
const nameRows = (list, ids) => {
  list.replaceChildren()
  const every = Math.ceil(ids.length / 30)
  ids.forEach((id, row) => made("li", list, row % every ? "" : called(id)))
}
const drawNiches = () => {
  const { moment, rows, order, weights } = now
  let most = 1e-12
  for (const row of rows) for (let j = 0; j < columns; j++) most = Math.max(most, row[j] * weights[j])
  paint(byId("niches"), rows.length, columns, (k, at) => rows[k][order[at]] * weights[order[at]] / most)
  byId("niches").setAttribute("aria-label", `Niche map after step ${moment.step}: ${rows.length} members, `
    + `${columns} data points, ${now.solvers.filter((count) => count > 0).length} of them solved by some member`)
  nameRows(byId("niche-names"), moment.ids)
  const line = byId("niche-classes")
  line.replaceChildren()
  const canvas = byId("niches")
  line.style.marginLeft = `${canvas.offsetLeft - line.parentElement.offsetLeft - 15}px`
  const room = canvas.clientWidth / Math.max(maps.classes.length, 1)
  maps.classes.forEach((name, k) => {
    const [first, end] = [maps.groups.indexOf(k), maps.groups.lastIndexOf(k) + 1]
    if (first < 0) return
    const label = made("span", line, room < 7 * name.length ? name.slice(0, Math.max(1, Math.floor(room / 7))) : name)
    label.style.left = `${50 * (first + end) / columns}%`
  })
}
const drawAttraction = () => {
  const { moment } = now, many = moment.ids.length
  const values = bytes(moment.attraction)
  paint(byId("attraction"), many, many, (a, b) => values[a * many + b] / 255)
  byId("attraction").setAttribute("aria-label",
    `Attraction matrix after step ${moment.step}: ${many} members, the strongest ${number(moment.strongest)}`)
  nameRows(byId("attraction-names"), moment.ids)
}
const cell = (event, rows, wide) => {
  const box = event.currentTarget.getBoundingClientRect()
  const at = (position, size, count) => Math.max(0, Math.min(count - 1, Math.floor(position / size * count)))
  return [at(event.clientY - box.top, box.height, rows), at(event.clientX - box.left, box.width, wide)]
}
const readNiche = (event) => {
  const { moment, rows, solvers, order, weights } = now
  const [row, at] = cell(event, rows.length, columns), j = order[at]
  const score = rows[row][j], others = solvers[j] - (score > 0)
  const does = !score ? "does not solve" : score > 0.999 ? "solves" : `scores ${number(score * maps.top)} on`
  const point = maps.names ? maps.names[j] : `data point ${maps.points[j]}`
  const group = maps.classes.length > 1 ? `, class ${maps.classes[maps.groups[j]]}` : ""
  byId("niche-reading").textContent = `Member ${called(moment.ids[row])} ${does} ${point}${group}; `
    + `${others} of ${rows.length - 1} others do. Worth ${number(weights[j])} to each solver.`
}
const readAttraction = (event) => {
  const { moment } = now, many = moment.ids.length
  const [a, b] = cell(event, many, many)
  const value = bytes(moment.attraction)[a * many + b] / 255 * moment.strongest
  byId("attraction-reading").textContent = a === b
    ? `Member ${called(moment.ids[a])} cannot meet itself.`
    : `A ${called(moment.ids[a])}, B ${called(moment.ids[b])}: attraction ${number(value)}.`
}
for (const kind of ["pointermove", "pointerdown"]) {
  byId("niches").addEventListener(kind, readNiche)
  byId("attraction").addEventListener(kind, readAttraction)
}

// -- plots over the steps -------------------------------------------------------------------------

const MARGIN = { left: 38, right: 10, top: 8, bottom: 22 }
// An empty plot with axes in a container, and its scales.
const plot = (container, label, height, [start, end], [low, high], ticks) => {
  const width = Math.max(container.clientWidth, 240)
  container.replaceChildren()
  const svg = shape("svg", container, { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label })
  const x = (step) => MARGIN.left + (step - start) / Math.max(end - start, 1) * (width - MARGIN.left - MARGIN.right)
  const y = (value) => height - MARGIN.bottom - (value - low) / (high - low) * (height - MARGIN.top - MARGIN.bottom)
  for (const value of ticks) {
    shape("line", svg, { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }, "grid")
    shape("text", svg, { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }).textContent = value
  }
  const rough = Math.max(end - Math.max(start, 0), 1) / Math.max(2, Math.floor(width / 110))
  const power = 10 ** Math.floor(Math.log10(rough))
  const every = Math.max(1, power * [1, 2, 5, 10].find((times) => times * power >= rough))
  for (let step = Math.ceil(Math.max(start, 0) / every) * every; step <= end; step += every) {
    const anchor = x(step) > width - 40 ? "end" : "middle"
    shape("text", svg, { x: x(step), y: height - 5, "text-anchor": anchor }).textContent = step.toLocaleString("en")
  }
  const mark = shape("line", svg, { y1: MARGIN.top, y2: height - MARGIN.bottom }, "now")
  container.mark = (step) => {
    mark.setAttribute("x1", x(step))
    mark.setAttribute("x2", x(step))
  }
  return { svg, x, y }
}
const keyed = (list, entries) => {
  list.replaceChildren()
  for (const [name, style] of entries) {
    const entry = made("span", list)
    made("i", entry).style.background = style
    entry.append(name)
  }
}
const LINES = ["var(--quiet)", "var(--faint)", "var(--parent_a)", "var(--child)"]
const NAMES = ["covered", "how mixed the answers are (entropy)", "best, train", "best, held out"]
const drawCurves = () => {
  const { steps, lines } = run.curves
  const span = [steps[0], steps.at(-1)]
  const last = lines.map((line) => `${line.name} ${number(line.values.at(-1))} %`).join(", ")
  const { svg, x, y } = plot(byId("curves"), `Progress; at the end: ${last}`, 260, span, [0, 100], [0, 25, 50, 75, 100])
  let classes = 0
  const strokes = lines.map(({ name }) => LINES[NAMES.indexOf(name)] ?? theme().runs[1 + classes++ % (theme().runs.length - 1)])
  lines.forEach(({ values }, k) => {
    let pen = "M"
    const path = values.map((value, at) => {
      if (value === null) { pen = "M"; return "" }
      const part = `${pen}${x(steps[at]).toFixed(1)} ${y(value).toFixed(1)}`
      pen = "L"
      return part
    }).join("")
    shape("path", svg, { d: path, fill: "none", "stroke-width": k < 2 ? 1.5 : 2 }).style.stroke = strokes[k]
  })
  keyed(byId("curves-key"), lines.map(({ name }, k) => [name, strokes[k]]))
}
const drawShares = () => {
  const { steps, shares, names } = run.shares
  const { svg, x, y } = plot(byId("shares"), `Mean shares of the seeds; at the end: `
    + names.map((name, k) => `${name} ${percent(shares.at(-1)[k])}`).join(", "),
    260, [steps[0], steps.at(-1)], [0, 100], [0, 25, 50, 75, 100])
  const below = steps.map(() => 0)
  names.forEach((_, k) => {
    const top = below.map((base, at) => base + 100 * shares[at][k])
    const ends = [...steps.keys()]
    // Each moment's shares hold until the next.
    const edge = (values, list) => list.map((at) => `${x(steps[at]).toFixed(1)} ${y(values[at]).toFixed(1)}`)
    const path = `M${[...edge(top, ends), ...edge(below, ends.reverse())].join("L")}Z`
    svg.prepend(shape("path", svg, { d: path, fill: seedColour(k, names.length), "fill-opacity": .85 }))
    top.forEach((value, at) => { below[at] = value })
  })
  keyed(byId("shares-key"), names
    .map((name, k) => [`${name} ${percent(shares.at(-1)[k])}`, seedColour(k, names.length), shares.some((row) => row[k] > 0.0005)])
    .filter(([, , some]) => some))
}
const SEEN = .1 // share of the best from which on an ancestor is marked
const drawLineage = () => {
  const { lanes, start, end, lives, links } = run.lineage
  const { svg, x, y } = plot(byId("lineage"), `Lineage of ${run.best.name}: ${lives.length} models`,
    260, [start, end], [0, Math.max(lanes, 1)], [])
  for (const [x0, y0, x1, y1, given] of links) {
    const link = shape("line", svg, { x1: x(x0), y1: y(y0), x2: x(x1), y2: y(y1) }, given > SEEN ? "link ancestor" : "link")
    if (given > SEEN) link.setAttribute("stroke-width", .7 + 3 * given)
  }
  for (const [name, x0, x1, lane, gave, alive] of lives) {
    const css = `life${gave > SEEN ? " ancestor" : ""}${alive ? " alive" : ""}`
    const life = shape("line", svg, { x1: x(x0), x2: Math.max(x(x1), x(x0) + 1), y1: y(lane), y2: y(lane) }, css)
    if (gave > SEEN) life.setAttribute("stroke-width", 1 + 3 * gave)
    shape("title", life, {}).textContent = `Model ${name}${gave ? `: ${percent(gave)} of the best` : ""}`
  }
}

// -- tables -------------------------------------------------------------------------------------

const table = (element, head, rows) => {
  element.replaceChildren()
  const line = made("tr", made("thead", element))
  for (const name of head) made("th", line, name).scope = "col"
  const body = made("tbody", element)
  return rows.map((row) => {
    const line = made("tr", body)
    return row.map(([text, css = ""], k) => {
      const cell = made(k ? "td" : "th", line, text, css)
      if (!k) cell.scope = "row"
      return cell
    })
  })
}
const drawMembers = () => {
  const { rows, seeds } = run.members
  const cells = table(byId("members"),
    ["model", "made of", "fitness", "score", "solves alone", "born", "parents"],
    rows.map((row) => [[row.name], [""], [number(row.fitness), "number"], [percent(row.score), "number"],
      [percent(row.alone), "number"], [row.born ? String(row.born) : "seed", "number"], [row.parents]]))
  rows.forEach((row, at) => {
    const shares = bytes(row.painting), bins = shares.length / seeds.length
    const canvas = made("canvas", cells[at][1])
    Object.assign(canvas, { width: bins, height: 26 })
    const context = canvas.getContext("2d"), sums = seeds.map(() => 0)
    for (let bin = 0; bin < bins; bin++) {
      let top = 0
      seeds.forEach((_, k) => {
        const share = shares[bin * seeds.length + k] / 255
        sums[k] += share / bins
        context.fillStyle = seedColour(k, seeds.length)
        context.fillRect(bin, 26 * top, 1, 26 * share + .5)
        top += share
      })
    }
    canvas.setAttribute("role", "img")
    canvas.setAttribute("aria-label", seeds.map((name, k) => [name, sums[k]]).filter(([, share]) => share > .0005)
      .map(([name, share]) => `${name} ${percent(share)}`).join(", "))
    canvas.title = canvas.getAttribute("aria-label")
  })
}
const drawBest = () => {
  const { name, classes, accuracy, held_out: held, confusion, answers } = run.best
  byId("best-name").textContent = `model ${name}: its classes, confusions and answers`
  const box = byId("best")
  box.replaceChildren()
  const tables = made("div", box, "", "tables")
  const scroll = (label) => {
    const column = made("div", tables)
    made("h3", column, label)
    const part = made("div", column, "", "scroll")
    part.tabIndex = 0
    part.setAttribute("role", "group")
    part.setAttribute("aria-label", label)
    return part
  }
  if (accuracy) {
    table(made("table", scroll("Mean score in each class")), ["class", "train", ...held ? ["held out"] : []],
      classes.map((each, k) => [[each], [percent(accuracy[k]), "number"], ...held ? [[percent(held[k]), "number"]] : []]))
  }
  if (confusion) {
    const label = "Confusions: truth in rows, answers in columns"
    const cells = table(made("table", scroll(label), "", "confusion"), ["truth", ...classes],
      confusion.map((row, k) => [[classes[k]], ...row.map((count) => [count ? String(count) : ""])]))
    confusion.forEach((row, k) => row.forEach((count, column) => {
      const total = row.reduce((sum, each) => sum + each, 0) || 1
      if (!count) return
      const cell = cells[k][column + 1], hex = theme().ramp[Math.round(255 * count / total)]
      cell.style.background = hex
      const [r, g, b] = colour(hex).map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
      cell.style.color = .2126 * r + .7152 * g + .0722 * b > .179 ? "#000" : "#fff"
    }))
  }
  if (answers.length) made("h3", box, "Some of its answers, wrong ones first")
  const css = answers.some((each) => each.text) ? " long" : answers.some((each) => each.picture && !each.grey) ? " pictures" : ""
  const list = made("ul", box, "", `answers${css}`)
  for (const each of answers) {
    const item = made("li", list)
    if (each.picture) {
      const picture = made("img", item, "", each.grey ? "grey" : "")
      picture.src = each.picture
      picture.alt = each.text ? "" : `A picture of ${each.truth}`
    }
    if (each.text) made("p", item, each.text)
    const line = made("p", item)
    made("span", line, each.prediction, each.right ? "right" : "wrong")
    if (!each.right || !css) line.append(each.right ? " ✓" : " ✗ ")
    if (!each.right) made("small", line, `truth ${each.truth}`)
    if (each.answer) {
      const whole = made("details", item)
      made("summary", whole, "all it wrote")
      made("pre", whole, each.answer).tabIndex = 0
    }
  }
  if (!answers.length && !accuracy) made("p", box, "The task has no answers to show.", "about")
}

// -- the page -----------------------------------------------------------------------------------

const slider = byId("moment")
const look = () => {
  now = ordered(maps.moments[slider.value])
  byId("step").textContent = now.moment.step.toLocaleString("en")
  slider.setAttribute("aria-valuetext", `step ${now.moment.step}`)
  drawNiches()
  drawAttraction()
  for (const id of ["curves", "lineage", "shares"]) byId(id).mark?.(now.moment.step)
}
const drawAll = () => {
  drawCurves()
  drawLineage()
  drawShares()
  drawMembers()
  drawBest()
  look()
}
for (const [name, value] of run.figures) {
  const figure = made("div", byId("figures"))
  made("dt", figure, name)
  made("dd", figure, value)
}
table(byId("settings"), ["setting", "value"], run.settings.map(([name, value]) => [[name], [value]]))
byId("code").textContent = run.code
for (const note of run.notes) made("li", byId("notes"), note)
byId("notes").hidden = !run.notes.length
byId("made").textContent = `Made by ${run.made}. This file loads nothing from elsewhere.`
slider.max = maps.moments.length - 1
slider.value = slider.max
byId("time").hidden = maps.moments.length < 2
slider.addEventListener("input", look)
let width = innerWidth
addEventListener("resize", () => { // phones resize their height as they scroll
  if (innerWidth !== width) { width = innerWidth; drawAll() }
})
appear()
