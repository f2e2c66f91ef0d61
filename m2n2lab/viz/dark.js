// Gives a plot in a notebook the colours of the dark theme where the notebook is dark: only the
// front end knows whether it is. `stops` and `colours` are those of both themes.
const body = document.body.dataset, vscode = document.body.classList.contains("vscode-dark")
if ((body.jpThemeLight === "false" || vscode) && !cb_obj.tags.includes("dark")) {
  cb_obj.setv({ tags: [...cb_obj.tags, "dark"] }, { silent: true })
  const parts = (colour) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16))
  const mixed = (from, to, share) => "#" + parts(from).map((low, k) =>
    Math.round(low + (parts(to)[k] - low) * share).toString(16).padStart(2, "0")).join("")
  const ramp = (theme, start, steps) => Array.from({ length: steps }, (_, k) => {
    const own = stops[theme].slice(start), at = k / Math.max(steps - 1, 1) * (own.length - 1)
    const low = Math.min(Math.floor(at), own.length - 2)
    return mixed(own[low], own[low + 1], at - low)
  })
  const known = { ...colours } // those of single marks are taken from the ramp without its start
  const strong = ramp(1, 2, 256)
  ramp(0, 2, 256).forEach((colour, k) => { known[colour] ??= strong[k] })
  const light = Object.fromEntries(stops[0].map((colour, k) => [colour, k]))
  const own = (value) => {
    if (typeof value === "string") return known[value] ?? value
    if (typeof value?.value === "string" && known[value.value])
      return { ...value, value: known[value.value] }
    return value
  }
  for (const model of cb_obj.references()) {
    const fresh = {}
    for (const [name, value] of Object.entries(model.attributes)) {
      if (name === "palette") fresh.palette = ramp(1, light[value[0]] ?? 0, value.length)
      else if (/color/.test(name) && own(value) !== value) fresh[name] = own(value)
    }
    if (model.type === "ColumnDataSource")
      fresh.data = Object.fromEntries(Object.entries(model.data).map(([name, values]) =>
        [name, Array.isArray(values) ? values.map(own) : values]))
    model.setv(fresh)
  }
}
