// Sketch: a square to draw in, with a mouse, a pen, a finger, or the keys. What is drawn is sent in
// ``side`` × ``side`` pixels.
const SIZE = 192, PEN = 18, MOVE = 8 // pixels of the canvas
const SEND_MILLISECONDS = 150
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "pad"
    root.innerHTML = `
      <canvas width="${SIZE}" height="${SIZE}" tabindex="0" role="application"
              aria-label="Draw here with mouse or finger. Keys: arrows move the pen, space puts it down and lifts it, Delete clears."></canvas>
      <div><button type="button">Clear</button><span role="status"></span></div>`
    el.append(root)
    const [canvas, button, said] = ["canvas", "button", "span"].map((name) => root.querySelector(name))
    const ink = document.createElement("canvas"), context = ink.getContext("2d")
    const screen = canvas.getContext("2d")
    ink.width = ink.height = SIZE
    Object.assign(context, { lineWidth: PEN, lineCap: "round", lineJoin: "round" })

    let at = [SIZE / 2, SIZE / 4], down = false, keys = false, waiting = null
    const paint = () => {
      const style = getComputedStyle(root)
      screen.clearRect(0, 0, SIZE, SIZE)
      screen.drawImage(ink, 0, 0)
      screen.globalCompositeOperation = "source-in"
      screen.fillStyle = style.getPropertyValue("--text")
      screen.fillRect(0, 0, SIZE, SIZE)
      screen.globalCompositeOperation = "source-over"
      if (!keys) return
      screen.strokeStyle = style.getPropertyValue("--child")
      screen.lineWidth = 2
      screen.beginPath()
      screen.arc(...at, PEN / 2 + 2, 0, 7)
      screen.stroke()
    }
    const send = () => {
      waiting = null
      const side = model.get("side"), small = document.createElement("canvas")
      small.width = small.height = side
      const into = small.getContext("2d")
      into.imageSmoothingQuality = "high"
      into.drawImage(ink, 0, 0, side, side)
      const pixels = into.getImageData(0, 0, side, side).data
      model.set("ink", Array.from({ length: side * side }, (_, k) => pixels[4 * k + 3]))
      model.save_changes()
    }
    const changed = () => {
      paint()
      waiting ??= setTimeout(send, SEND_MILLISECONDS)
    }
    const stroke = (to) => {
      context.beginPath()
      context.moveTo(...at)
      context.lineTo(to[0] + 0.01, to[1]) // a point has a length too
      context.stroke()
      at = to
      changed()
    }
    const clear = () => {
      context.clearRect(0, 0, SIZE, SIZE)
      changed()
    }
    const place = (event) => {
      const box = canvas.getBoundingClientRect()
      return [(event.clientX - box.x) / box.width * SIZE, (event.clientY - box.y) / box.height * SIZE]
    }
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return
      keys = down = false
      canvas.setPointerCapture(event.pointerId)
      at = place(event)
      stroke(at)
    })
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) stroke(place(event))
    })
    canvas.addEventListener("keydown", (event) => {
      const move = MOVES[event.key]
      if (event.ctrlKey || event.metaKey || event.altKey) return
      if (move) {
        keys = true
        const to = at.map((x, k) => Math.min(Math.max(x + move[k] * MOVE, PEN), SIZE - PEN))
        if (down) stroke(to)
        else at = to
        paint()
      } else if (event.key === " ") {
        keys = true
        down = !down
        said.textContent = down ? "pen down" : "pen up"
        if (down) stroke(at)
        paint()
      } else if (event.key === "Delete" || event.key === "Backspace") clear()
      else return
      event.preventDefault()
      event.stopPropagation() // the page has keys of its own
    })
    button.addEventListener("click", clear)
    paint()
    return () => clearTimeout(waiting)
  },
}
