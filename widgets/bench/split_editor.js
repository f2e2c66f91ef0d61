// Split editor: the flat vector as a strip that shows the parents' shares in the child, with a
// split that can be dragged. Used by Panel and by anywidget; it observes the model.

const clamp = (x, low, high) => Math.min(Math.max(x, low), high)

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "split-editor"
    root.innerHTML = `
      <div class="map">
        <div class="place" aria-hidden="true"></div>
        <div class="made a"><b aria-hidden="true">A</b><img draggable="false"></div>
        <div class="made b"><b aria-hidden="true">B</b><img draggable="false"></div>
        <div class="strip">
          <div class="part a before"></div><div class="part b before"></div>
          <div class="part a after"></div><div class="part b after"></div>
          <div class="beside"></div>
          <div class="borders"></div>
        </div>
        <div class="handle" role="slider" tabindex="0" aria-label="split point"></div>
      </div>
      <div class="ends" aria-hidden="true"><span></span><span></span></div>`
    el.append(root)
    const find = (name) => root.querySelector(name)
    const [map, place, strip, handle, borders, beside] =
      [".map", ".place", ".strip", ".handle", ".borders", ".beside"].map(find)
    const parts = [...root.querySelectorAll(".part")]
    const ends = [...root.querySelectorAll(".ends span")]

    const get = (name) => model.get(name)
    let moved = null // a split that is still to be sent
    const at = () => clamp(moved ?? get("split"), 0, get("size"))
    const where = (index) => {
      const starts = get("borders"), names = get("names"), rows = get("rows")
      if (index >= get("size")) return "the end"
      let low = 0, high = names.length - 1
      while (low < high) {
        const middle = (low + high + 1) >> 1
        if (starts[middle] <= index) low = middle; else high = middle - 1
      }
      const inside = index - starts[low]
      return rows[low] ? `${names[low]}, row ${Math.floor(inside / rows[low])}`
                       : `${names[low]}, entry ${inside}`
    }

    const draw = () => {
      const size = Math.max(get("size"), 1), split = at()
      const mix = get("mix"), left = 100 * split / size
      const set = (part, left, width, top, height) =>
        Object.assign(part.style, { left: `${left}%`, width: `${width}%`,
                                    top: `${top}%`, height: `${height}%` })
      // A on top, B below; each as high as its share.
      set(parts[0], 0, left, 0, 100 * (1 - mix))
      set(parts[1], 0, left, 100 * (1 - mix), 100 * mix)
      set(parts[2], left, 100 - left, 0, 100 * mix)
      set(parts[3], left, 100 - left, 100 * mix, 100 * (1 - mix))
      handle.style.left = `${left}%`
      const words = `${Math.round(left)} % · ${where(split)}`
      place.textContent = words
      const half = place.offsetWidth / 2, width = strip.offsetWidth || 1
      place.style.left = `${clamp(left / 100 * width, half, Math.max(width - half, half))}px`
      const now = { valuemin: 0, valuemax: size, valuenow: split, valuetext: words }
      for (const [name, value] of Object.entries(now)) handle.setAttribute(`aria-${name}`, value)
    }
    const drawBorders = () => {
      const size = Math.max(get("size"), 1), names = get("names"), starts = get("borders")
      borders.replaceChildren(...starts.slice(1, -1).slice(0, 400).map((start) => {
        const line = document.createElement("i")
        line.style.left = `${100 * start / size}%`
        return line
      }))
      ends[0].textContent = names[0] ?? ""
      ends[1].textContent = names.length > 1 ? names[names.length - 1] : ""
      draw()
    }

    const drawBeside = () => {
      const size = Math.max(get("size"), 1)
      beside.replaceChildren(...get("beside").map(([start, end, reason]) => {
        const part = document.createElement("i")
        part.style.left = `${100 * start / size}%`
        part.style.width = `${100 * (end - start) / size}%`
        part.title = reason
        part.setAttribute("role", "img")
        part.setAttribute("aria-label", reason)
        return part
      }))
    }

    const drawMade = () => {
      const made = get("made")
      root.classList.toggle("painted", made.length > 0)
      root.querySelectorAll(".made img").forEach((image, k) => {
        const { uri, words } = made[k] ?? { uri: "", words: "" }
        if (uri) image.src = uri; else image.removeAttribute("src")
        image.alt = image.title = words
      })
    }

    const move = (split) => {
      const waiting = moved !== null
      moved = Math.round(clamp(split, 0, get("size")))
      draw()
      if (waiting) return // one message per frame, however fast the pointer moves
      requestAnimationFrame(() => {
        model.set("split", moved)
        moved = null
        model.save_changes()
      })
    }
    const drag = (event) => {
      const box = strip.getBoundingClientRect()
      move((event.clientX - box.left) / box.width * get("size"))
    }
    const release = () => map.removeEventListener("pointermove", drag)
    map.addEventListener("pointerdown", (event) => {
      map.setPointerCapture(event.pointerId)
      map.addEventListener("pointermove", drag)
      handle.focus({ preventScroll: true })
      drag(event)
      event.preventDefault()
    })
    map.addEventListener("pointerup", release)
    map.addEventListener("pointercancel", release)
    handle.addEventListener("keydown", (event) => {
      const size = get("size"), split = at(), step = event.shiftKey ? size / 20 : 1
      const to = { ArrowLeft: split - step, ArrowDown: split - step, ArrowRight: split + step,
                   ArrowUp: split + step, PageDown: split - size / 10, PageUp: split + size / 10,
                   Home: 0, End: size }[event.key]
      if (to === undefined) return
      event.preventDefault()
      event.stopPropagation()
      move(to)
    })

    const drawSize = () => {
      drawBeside()
      drawBorders()
    }
    const watched = { split: draw, mix: draw, size: drawSize, borders: drawBorders,
                      names: drawBorders, rows: draw, made: drawMade, beside: drawBeside }
    for (const [name, react] of Object.entries(watched)) model.on(`change:${name}`, react)
    const sized = new ResizeObserver(draw)
    sized.observe(strip)
    drawMade()
    drawSize()
    return () => {
      sized.disconnect()
      for (const [name, react] of Object.entries(watched)) model.off(`change:${name}`, react)
    }
  },
}
