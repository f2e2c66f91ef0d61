// Tabs that answer to the arrow keys, as tabs do.
addEventListener("DOMContentLoaded", () => {
  for (const list of document.querySelectorAll("[role=tablist]")) {
    const tabs = [...list.children]
    const select = (chosen) => tabs.forEach((tab) => {
      const on = tab === chosen
      tab.setAttribute("aria-selected", on)
      tab.tabIndex = on ? 0 : -1
      document.getElementById(tab.getAttribute("aria-controls"))
        .setAttribute("aria-hidden", !on)
    })
    tabs.forEach((tab, i) => {
      tab.addEventListener("click", () => select(tab))
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
        if (!step) return
        const next = tabs[(i + step + tabs.length) % tabs.length]
        select(next)
        next.focus()
      })
    })
    select(tabs[0])
  }
})
// Space runs and pauses, s steps, unless something is being typed or pressed.
addEventListener("keydown", (event) => {
  const at = event.composedPath()[0]
  const busy = at.closest?.("input, select, textarea, button, [role=slider], [role=tab]")
  const name = { " ": ["Run", "Pause"], s: ["Step"] }[event.key]
  if (!name || busy || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return
  const buttons = (root) => [...root.querySelectorAll("*")].flatMap((element) =>
    [...(element.tagName === "BUTTON" ? [element] : []),
     ...(element.shadowRoot ? buttons(element.shadowRoot) : [])])
  const button = buttons(document.querySelector("header"))
    .find((found) => name.includes(found.textContent.trim()))
  if (!button) return
  event.preventDefault()
  button.click()
})
// Without a choice in the address the page follows the system's appearance.
const here = new URL(window.location)
if (!here.searchParams.has("theme") && matchMedia("(prefers-color-scheme: dark)").matches) {
  here.searchParams.set("theme", "dark")
  window.location.replace(here)
}
