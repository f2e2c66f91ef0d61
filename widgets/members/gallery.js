// Gallery: a row of pictures for each member, a column for each prompt. A picture is a button that
// enlarges it above the table at once; its parents' pictures follow from Python. The arrow keys
// move among pictures, and only text is inserted, never markup.

export default {
  render({ model, el }) {
    const large = make("div", el, { className: "large", hidden: true })
    large.dataset.testid = "large"
    const table = make("table", el, { className: "gallery" })
    table.setAttribute("aria-label", "pictures of members")
    const head = make("tr", make("thead", table)), body = make("tbody", table)

    const choose = (row, column) => {
      const [old, at] = model.get("chosen")
      model.set("chosen", old === row && at === column ? ["", 0] : [row, column])
      model.save_changes()
      mark()
    }
    const figure = (kind, { name, src, score }) => {
      const made = make("figure", large, { className: kind })
      const image = make("img", made, { alt: name })
      if (src) image.src = src
      make("figcaption", made, { textContent: `${name} ${score ?? ""}` })
    }
    const enlarge = () => {
      const [name, column] = model.get("chosen"), detail = model.get("detail")
      const row = model.get("rows").find((found) => found.name === name)
      const prompt = model.get("prompts")[column]
      large.hidden = !row || prompt === undefined
      large.replaceChildren()
      if (large.hidden) return
      const known = detail.row === name && detail.prompt === prompt
      figure("own", { name, ...row.pictures[column], ...(known && detail.src && { src: detail.src }) })
      for (const parent of known ? detail.parents : []) figure("parent", parent)
      const words = make("div", large)
      make("b", make("p", words), { textContent: prompt })
      if (known) make("p", words, { textContent: detail.words })
    }
    // Elements are changed in place, so that the focus stays.
    const fitted = (parent, name, many) => {
      while (parent.children.length > many) parent.lastChild.remove()
      while (parent.children.length < many) make(name, parent)
      return [...parent.children]
    }
    const show = (cell, row, column, picture) => {
      const button = cell.querySelector("button") ?? make("button", cell, { type: "button" })
      const image = button.firstChild ?? make("img", button, { alt: "" })
      button.onclick = () => choose(row.name, column)
      button.setAttribute("aria-label", picture ? picture.label : "not drawn yet")
      if (picture && image.getAttribute("src") !== picture.src) image.src = picture.src
      if (!picture) image.removeAttribute("src")
      const score = cell.querySelector("span") ?? make("span", cell)
      score.textContent = picture?.score ?? ""
    }
    const mark = () => {
      const [name, at] = model.get("chosen")
      model.get("rows").forEach((row, line) => {
        const buttons = body.children[line]?.querySelectorAll("button") ?? []
        buttons.forEach((button, column) =>
          button.setAttribute("aria-pressed", row.name === name && column === at))
      })
      enlarge()
    }
    const draw = () => {
      const rows = model.get("rows"), prompts = model.get("prompts")
      fitted(head, "th", prompts.length + 1).forEach((cell, column) => {
        cell.scope = "col"
        cell.textContent = column ? prompts[column - 1] : ""
      })
      fitted(body, "tr", rows.length).forEach((line, k) => {
        const row = rows[k]
        if (!line.children.length) make("th", line, { scope: "row" })
        line.firstChild.textContent = row.name
        line.className = row.kind
        while (line.children.length > prompts.length + 1) line.lastChild.remove()
        while (line.children.length < prompts.length + 1) make("td", line)
        prompts.forEach((_, column) =>
          show(line.children[column + 1], row, column, row.pictures[column]))
      })
      mark()
    }
    table.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }
      const cell = event.target.closest("td"), way = step[event.key]
      if (!cell || !way) return
      const line = body.children[[...body.children].indexOf(cell.parentNode) + way[0]]
      line?.children[cell.cellIndex + way[1]]?.querySelector("button")?.focus()
      event.preventDefault()
      event.stopPropagation() // not the page's own keys
    })

    const watched = { rows: draw, prompts: draw, chosen: mark, detail: enlarge }
    for (const [name, react] of Object.entries(watched)) model.on(`change:${name}`, react)
    draw()
    return () => {
      for (const [name, react] of Object.entries(watched)) model.off(`change:${name}`, react)
    }
  },
}
