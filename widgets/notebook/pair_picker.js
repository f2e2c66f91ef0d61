// Pair picker: a matrix of attraction to click on, and a menu for each parent. Members are sent by
// their ids, never by their places, because the archive changes while a person picks.

const TEXT = 10 // size of the ids beside the matrix, in pixels

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "pair-picker"
    root.innerHTML = `
      <div class="menus">
        <label class="a">Parent A <select aria-label="Parent A"></select></label>
        <label class="b">Parent B <select aria-label="Parent B"></select></label>
      </div>
      <canvas role="img"></canvas>
      <div class="words" data-testid="attraction"></div>`
    el.append(root)
    const [menuA, menuB] = root.querySelectorAll("select")
    const canvas = root.querySelector("canvas"), words = root.querySelector(".words")
    const get = (name) => model.get(name)
    let frame = { left: 0, cell: 0 }

    const pick = (a, b) => { // set at once: the next pick may come before Python has answered
      model.set("a", a)
      model.set("b", b)
      model.save_changes()
    }
    const say = (a, b) => {
      const ids = get("ids"), worth = get("worth")[ids.indexOf(a)]?.[ids.indexOf(b)]
      const who = (name, id) => Object.assign(document.createElement("b"),
                                              { className: name, textContent: id })
      if (worth === undefined) words.replaceChildren()
      else if (a === b) words.replaceChildren(who("a", a), " meets itself")
      else words.replaceChildren(who("b", b), " solves what ", who("a", a),
                                 ` gets wrong, worth ${worth.toFixed(1)} points of reward`)
    }

    const fill = (menu, chosen) => {
      const ids = get("ids"), shown = [...menu.options].map((option) => Number(option.value))
      if (shown.length !== ids.length || shown.some((id, k) => id !== ids[k])) {
        menu.replaceChildren(...ids.map((id) => new Option(id, id)))
      }
      menu.value = chosen // empty if the chosen member has died
    }

    const draw = () => {
      const ids = get("ids"), worth = get("worth"), many = ids.length
      const wide = root.clientWidth || 320
      if (!many) return
      const style = getComputedStyle(root)
      const colour = (name) => style.getPropertyValue(`--${name}`).trim()
      const ramp = [0, 1, 2, 3, 4, 5, 6].map((k) => colour(`ramp${k}`))
      const named = wide / many >= TEXT + 3
      const longest = Math.max(...ids.map((id) => String(id).length))
      const left = named ? Math.ceil(longest * TEXT * 0.62 + 6) : 0
      const cell = Math.max(Math.floor(Math.min((wide - left) / many, 24)), 2)
      const scale = window.devicePixelRatio || 1, side = cell * many
      canvas.width = (left + side) * scale
      canvas.height = (left + side) * scale
      canvas.style.width = canvas.style.height = `${left + side}px`
      const pen = canvas.getContext("2d")
      pen.scale(scale, scale)
      const most = Math.max(1e-9, ...worth.flat())
      worth.forEach((row, r) => row.forEach((value, c) => {
        const at = r === c ? 0 : Math.max(value, 0) / most * (ramp.length - 1)
        const low = Math.min(Math.floor(at), ramp.length - 2)
        pen.fillStyle = ramp[low]
        pen.fillRect(left + c * cell, r * cell, cell, cell)
        pen.globalAlpha = at - low
        pen.fillStyle = ramp[low + 1]
        pen.fillRect(left + c * cell, r * cell, cell, cell)
        pen.globalAlpha = 1
      }))
      const row = ids.indexOf(get("a")), column = ids.indexOf(get("b"))
      if (named) {
        pen.font = `${TEXT}px system-ui, sans-serif`
        pen.textBaseline = "middle"
        pen.textAlign = "right"
        ids.forEach((id, k) => {
          pen.fillStyle = colour(k === row ? "parent_a" : "quiet")
          pen.fillText(id, left - 4, (k + 0.5) * cell)
        })
        ids.forEach((id, k) => {
          pen.save()
          pen.translate(left + (k + 0.5) * cell, side + 4)
          pen.rotate(-Math.PI / 2)
          pen.fillStyle = colour(k === column ? "parent_b" : "quiet")
          pen.fillText(id, 0, 0)
          pen.restore()
        })
      }
      pen.lineWidth = 2
      const box = (name, x, y, w, h) => {
        pen.strokeStyle = colour(name)
        pen.strokeRect(left + x + 1, y + 1, w - 2, h - 2)
      }
      if (row >= 0) box("parent_a", 0, row * cell, side, cell)
      if (column >= 0) box("parent_b", column * cell, 0, cell, side)
      frame = { left, cell }
      canvas.setAttribute("aria-label",
        `attraction of ${many} members; rows: parent A, columns: parent B; the menus choose too`)
    }
    const show = () => {
      fill(menuA, get("a"))
      fill(menuB, get("b"))
      draw()
      say(get("a"), get("b"))
    }
    let waiting = 0
    const soon = () => { // one drawing for all traits that have changed
      cancelAnimationFrame(waiting)
      waiting = requestAnimationFrame(show)
    }

    const cellAt = (event) => {
      const box = canvas.getBoundingClientRect(), ids = get("ids")
      const column = Math.floor((event.clientX - box.left - frame.left) / frame.cell)
      const row = Math.floor((event.clientY - box.top) / frame.cell)
      return [ids[row], ids[column]]
    }
    canvas.addEventListener("click", (event) => {
      const [a, b] = cellAt(event)
      if (a !== undefined && b !== undefined && a !== b) pick(a, b)
    })
    canvas.addEventListener("pointermove", (event) => {
      const [a, b] = cellAt(event)
      if (a !== undefined && b !== undefined) say(a, b)
    })
    canvas.addEventListener("pointerleave", () => say(get("a"), get("b")))
    // If the other parent is chosen, the two change places.
    menuA.addEventListener("change", () => {
      const a = Number(menuA.value)
      pick(a, a === get("b") ? get("a") : get("b"))
    })
    menuB.addEventListener("change", () => {
      const b = Number(menuB.value)
      pick(b === get("a") ? get("b") : get("a"), b)
    })

    const watched = ["ids", "worth", "a", "b"].map((name) => `change:${name}`)
    for (const name of watched) model.on(name, soon)
    const sized = new ResizeObserver(soon)
    sized.observe(root)
    const themed = new MutationObserver(soon) // the front end may become light or dark
    themed.observe(document.body, { attributes: true })
    show()
    return () => {
      cancelAnimationFrame(waiting)
      sized.disconnect()
      themed.disconnect()
      for (const name of watched) model.off(name, soon)
    }
  },
}
