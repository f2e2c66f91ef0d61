// What the benchmarks do inside a page: find its parts, and time what becomes of a click.
// Parts are found by role, name or test id, in the page and in the shadow roots inside it.
// Times run from the release of a button, as the browser took it in, to the frame that shows what
// came of it; a page too busy to hear the release is counted with the rest.
window.inside = (() => {
  const LONGEST = 10_000 // milliseconds after which there is no answer

  let roots = []
  const look = (root = document) => {
    if (root === document) roots = []
    roots.push(root)
    for (const element of root.querySelectorAll("*"))
      if (element.shadowRoot) look(element.shadowRoot)
  }
  const all = (selector) => roots.flatMap((root) => [...root.querySelectorAll(selector)])
  const button = (name) => all("button").find((found) => found.textContent.trim() === name)
  const figure = (name) => all(`[data-testid="${name}"]`)[0]?.textContent
  const steps = () => Number(figure("step").replaceAll(",", ""))
  const name = (part) =>
    (part.getAttribute("aria-label") ?? part.labels?.[0]?.textContent ?? part.textContent).trim()
  const field = (label) => all("input").find((found) => name(found) === label)?.value

  // Bring one of the parts that can be seen and used into view; `pick` in [0, 1) tells which.
  // Returns the place where a click meets it, or null.
  const spot = (selector, pick, only = "", never = "^$") => {
    look()
    const wanted = (text) => RegExp(only, "i").test(text) && !RegExp(never, "i").test(text)
    const found = all(selector).filter((part) =>
      !part.disabled && part.checkVisibility({ visibilityProperty: true }) && wanted(name(part)))
    const part = found[Math.floor(pick * found.length)]
    if (!part) return null
    part.scrollIntoView({ block: "nearest", inline: "nearest" })
    if (part.matches("input, [role=slider]")) part.focus()
    part.select?.()
    const box = part.getBoundingClientRect()
    return [box.x + box.width / 2, box.y + box.height / 2]
  }

  // The attraction matrix: ids of its rows and columns, and the pair that is framed.
  const plot = (name) => Bokeh.documents.map((d) => d.get_model_by_name(name)).find(Boolean)
  const matrix = () => plot("AttractionView")
  const label = (axis, place) => axis.formatter.doFormat([place], { loc: 0 })[0]
  const cell = (event) => {
    const figure = matrix(), view = Bokeh.index.find_one(figure)
    const box = view.canvas_view.el.getBoundingClientRect()
    const x = Math.floor(view.frame.x_scale.invert(event.clientX - box.x)) + 0.5
    const y = Math.floor(view.frame.y_scale.invert(event.clientY - box.y)) + 0.5
    return [label(figure.left[0], y), label(figure.below[0], x)]
  }
  const framed = () => {
    const { left: [rows], below: [columns], renderers } = matrix()
    const frames = renderers.map((r) => r.data_source?.data).find((data) => data?.bottom)
    const pair = [undefined, undefined]
    for (const [i, left] of [...frames.left].entries()) {
      const [right, bottom, top] = [frames.right[i], frames.bottom[i], frames.top[i]]
      if (right - left >= top - bottom) pair[0] = label(rows, bottom + 0.5)
      else pair[1] = label(columns, left + 0.5)
    }
    return pair
  }
  const typed = () => [field("Parent A"), field("Parent B")]
  // The pair whose preview is on the bench: A's and B's scores stand beside their numbers.
  const previewed = () => ["score-a", "score-b"].map((name) =>
    all(`[data-testid="${name}"]`)[0]?.parentElement.textContent.match(/\d+/)?.[0])
  const same = (a, b) => a.join() === b.join()
  const members = () => matrix()?.x_range.end

  // The picture of the gallery that is seen large.
  const large = () => all('[data-testid="large"] img')[0]?.getAttribute("src")

  // How the page shows that it has heard a click, where that comes before what the click leads to.
  const heard = {
    Pause: () => button("Run") && figure("phase").startsWith("paus"),
    Step: () => figure("phase").startsWith("stepping"),
    pair: () => document.querySelectorAll(".mark").length === 2,
  }
  // What each click leads to, and what else is to be told of it.
  const ends = {
    Run: () => button("Pause") && figure("phase") === "running" && {},
    Pause: () => button("Run") && figure("phase") === "paused" && {},
    Step: (before) => steps() !== before.steps && figure("phase") === "paused" && {},
    picture: (before) => large() && large() !== before.large && {},
    pair: (before) => {
      const now = previewed()
      // Who died since is in no row any more, and gets no frame.
      const seen = framed().every((id, i) => id === undefined || id === now[i])
      if (seen && same(now, typed()) && !same(now, before.pair))
        return { answer: same(now, before.asked) ? "the pair" : "another pair" }
      const note = figure("note") ?? ""
      return note !== before.note && /does not live|is not in the archive/.test(note) && { answer: "refused" }
    },
  }

  const painted = () => new Promise((done) => requestAnimationFrame(() => {
    const after = new MessageChannel()
    after.port1.onmessage = () => done(performance.now())
    after.port2.postMessage("")
  }))
  const frame = () => new Promise(requestAnimationFrame)

  // Wait for the next release of a button and tell how long it took to show that it was heard, and
  // what it did.
  const arm = (kind) => new Promise((done) => {
    look()
    addEventListener("pointerup", async (event) => {
      const before = { steps: steps(), large: large() }
      if (kind === "pair") {
        Object.assign(before, { asked: cell(event), pair: previewed(), note: figure("note") ?? "" })
        if (same(before.asked, before.pair)) return done({ answer: "there already" })
      }
      let found, first = Infinity
      while (!(found = ends[kind](before))) {
        if (first === Infinity && heard[kind]?.(before)) first = await painted()
        else await frame()
        if (performance.now() - event.timeStamp > LONGEST) return done({ answer: "nothing" })
        if (!button("Run") && !button("Pause")) look() // parts that were made anew
      }
      if (kind === "pair") await frame() // a canvas is drawn in the frame after
      const end = await painted(), began = event.timeStamp
      const times = { began, heard: Math.min(first, end) - began, took: end - began }
      done({ ...times, was: before.steps, steps: steps(), ...found })
    }, { capture: true, once: true })
  })

  // The second at which another step is shown next, and that step.
  const change = () => new Promise((done) => {
    look()
    const before = steps(), poll = () => {
      if (steps() === before) requestAnimationFrame(poll)
      else done([performance.now() / 1000, steps()])
    }
    poll()
  })

  // Milliseconds from the start of the navigation until Run can be clicked.
  const usable = new Promise((done) => {
    const poll = async () => {
      look()
      const run = button("Run")
      if (run && !run.disabled) done(await painted())
      else setTimeout(poll, 25)
    }
    addEventListener("DOMContentLoaded", poll)
  })

  return { arm, change, members, plot, spot, usable }
})()
