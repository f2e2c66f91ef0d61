// Whether the page was there before: it was reloaded, found by Back or Forward, or is opened again
// by its own script, which names the session.
const returned = new URL(window.location).searchParams.has("browser_session") ||
  ["reload", "back_forward"].includes(performance.getEntriesByType("navigation")[0]?.type)
// Settles what is asked for once: a page that returns keeps its browser session, and colours are dark
// where the system is dark and nothing else was chosen.
{
  const here = new URL(window.location), asked = here.searchParams
  const kept = SESSION_KEY && sessionStorage.getItem("browser_session")
  const dark = matchMedia("(prefers-color-scheme: dark)").matches
  const given = asked.has("browser_session")
  const key = given ? asked.get("browser_session") : returned ? kept : null
  if ((key && !given) || (!asked.has("theme") && dark)) {
    if (key) asked.set("browser_session", key)
    if (!asked.has("theme") && dark) asked.set("theme", "dark")
    window.location.replace(here)
  } else {
    if (SESSION_KEY) {
      asked.delete("browser_session") // a link is to be shared, a session is not
      sessionStorage.setItem("browser_session", SESSION_KEY)
    } // else it is a notebook's, which opens by that alone, or there is none
    history.replaceState(null, "", here)
  }
}
// Loads the page's own font before there is text in it: Chromium never redraws the first text that
// needs a font which is still loading.
document.fonts.load("12px 'm2n2lab Japanese'", "円")
// Sets a hidden widget through which the script sends a value to Python.
const tell = (name, value) => {
  for (const made of Bokeh.documents) {
    const model = made.get_model_by_name(name)
    if (model) model.value = value
  }
}
// All elements below a root, including those in shadow roots.
const everything = (root) => [...root.querySelectorAll("*")].flatMap((element) =>
  [element, ...(element.shadowRoot ? everything(element.shadowRoot) : [])])
// Shows what Run, Pause or Step orders before Python receives it; the outcome follows from there.
const order = (button, words) => {
  const phase = { Run: "running", Pause: "pausing" }[button.label] ?? "stepping"
  if (phase !== "stepping") button.label = phase === "running" ? "Pause" : "Run"
  for (const figure of everything(document.querySelector("header")))
    if (figure.dataset.testid === "phase") figure.textContent = words[phase]
}
// Shows in the address bar a link that starts the search on the page; the appearance stays.
const show_address = (query) => {
  const there = new URL(window.location), before = new URLSearchParams(there.search)
  there.search = query
  for (const name of ["theme", "browser_session"])
    if (before.get(name)) there.searchParams.set(name, before.get(name))
  history.replaceState(null, "", there)
}
// Shows or hides a tab that only some tasks have; if it was selected, the first tab is then.
const show_tab = (name, shown) => {
  const tab = document.getElementById(`tab-${name}`)
  tab.hidden = !shown
  if (!shown && tab.getAttribute("aria-selected") === "true") tab.parentNode.firstElementChild.click()
}
// Shows a tab that Python asks for.
const click_tab = (name) => {
  if (name) document.getElementById(`tab-${name}`).click()
}
// Asks before steps are lost that nothing records: once for the steps so far.
let unrecorded = 0, asked_for = 0, going_on = false
const set_unrecorded = (text) => { unrecorded = Number(text) }
addEventListener("beforeunload", (event) => {
  if (going_on || unrecorded <= asked_for) return
  asked_for = unrecorded
  event.preventDefault()
})
// Shows what is being loaded in the place of the panels, and for how long; nothing if there is no
// text.
const show_loading = (text) => {
  const wait = document.querySelector(".wait"), bar = wait.querySelector("progress")
  const [, done, all] = text.match(/(\d[\d,]*) of (\d[\d,]*)/) ?? []
  document.body.classList.toggle("loading", text !== "")
  if (text && wait.hidden) wait.dataset.since = performance.now()
  wait.hidden = !text
  bar.removeAttribute("value")
  if (all) Object.assign(bar, { max: parseInt(all), value: parseInt(done) })
  const say = () => {
    const seconds = Math.round((performance.now() - wait.dataset.since) / 1000)
    wait.firstElementChild.textContent = `${text} · ${seconds} s`
  }
  clearInterval(show_loading.clock)
  if (text) { say(); show_loading.clock = setInterval(say, 1000) }
}
// Tabs with the usual arrow keys.
addEventListener("DOMContentLoaded", () => {
  for (const list of document.querySelectorAll("[role=tablist]")) {
    const tabs = [...list.children]
    const select = (chosen) => {
      for (const tab of tabs) {
        const on = tab === chosen
        tab.setAttribute("aria-selected", on)
        tab.tabIndex = on ? 0 : -1
        document.getElementById(tab.getAttribute("aria-controls"))
          .setAttribute("aria-hidden", !on)
      }
      tell("tab", chosen.getAttribute("aria-controls"))
      sessionStorage.setItem("tab", chosen.id)
    }
    tabs.forEach((tab) => {
      tab.addEventListener("click", () => select(tab))
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
        if (!step) return
        const seen = tabs.filter((other) => !other.hidden)
        const next = seen[(seen.indexOf(tab) + step + seen.length) % seen.length]
        select(next)
        next.focus()
      })
    })
    const kept = returned && tabs.find((tab) => tab.id === sessionStorage.getItem("tab"))
    select(kept && !kept.hidden ? kept : tabs[0])
    const again = () => { // once there is a widget to set
      if (!window.Bokeh?.documents.some((made) => made.get_model_by_name("tab")))
        return setTimeout(again, 100)
      tabs.find((tab) => tab.getAttribute("aria-selected") === "true").click()
    }
    if (kept && !kept.hidden) again()
  }
})
// Shows an alert when the connection is lost: buttons have no effect then. As soon as the server
// answers the page is loaded again, and shows the run as it is by then.
addEventListener("DOMContentLoaded", () => {
  const RETRY_MILLISECONDS = 2000
  const notice = document.querySelector(".lost")
  let retrying = null
  const retry = async () => {
    const asked = new URL("static/js/bokeh.min.js", document.baseURI)
    const answer = await fetch(asked, { method: "HEAD", cache: "no-store" }).catch(() => null)
    if (answer?.ok && !notice.hidden) {
      going_on = true // to the same run
      return window.location.reload()
    }
    if (!notice.hidden) retrying = setTimeout(retry, RETRY_MILLISECONDS)
  }
  const watch = () => {
    const made = window.Bokeh?.documents[0]
    if (!made) return setTimeout(watch, 250)
    made.on_event("connection_lost", () => {
      notice.hidden = false
      clearTimeout(retrying)
      retrying = setTimeout(retry, RETRY_MILLISECONDS)
    })
    made.on_event("client_reconnected", () => { notice.hidden = true })
  }
  watch()
})
// Space runs and pauses, s steps, unless a control has the focus or Setup has switched keys off.
addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector(".shortcuts input")
  box.checked = localStorage.getItem("shortcuts") !== "off"
  box.addEventListener("change", () => localStorage.setItem("shortcuts", box.checked ? "on" : "off"))
})
addEventListener("keydown", (event) => {
  if (!document.querySelector(".shortcuts input").checked) return
  const at = event.composedPath()[0]
  const busy = at.closest?.("input, select, textarea, button, summary, [role=slider]")
  const name = { " ": ["Run", "Pause"], s: ["Step"] }[event.key]
  if (!name || busy || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return
  const button = everything(document.querySelector("header"))
    .find((found) => found.tagName === "BUTTON" && name.includes(found.textContent.trim()))
  if (!button) return
  event.preventDefault()
  button.click()
})
// Ctrl+Z takes back what was done last, and Ctrl+Shift+Z does it again, unless a text is edited.
addEventListener("keydown", (event) => {
  const at = event.composedPath()[0]
  const edits = at.closest?.("textarea, select, input:not([type=range], [type=checkbox])")
  if (edits || event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.altKey)
    return
  const name = event.shiftKey ? "Redo" : "Undo"
  const button = everything(document.querySelector(".time"))
    .find((found) => found.tagName === "BUTTON" && found.textContent.trim() === name)
  event.preventDefault()
  button?.click()
})
// Names a plot for screen readers, and takes it out of the order of the Tab key: nothing in it is
// done by keys, and what it shows can be reached beside it. A narrow plot has a narrow legend.
const NARROW_PLOT_PIXELS = 340
const name_plot = (model) => {
  const canvas = Bokeh.index.find_one(model)?.canvas_view
  if (!canvas) return
  canvas.events_el.tabIndex = -1
  canvas.el.setAttribute("role", "img")
  canvas.el.setAttribute("aria-label", model.name.replace(/View$/, ""))
  const narrow = model.inner_width < NARROW_PLOT_PIXELS
  model.title?.setv({ offset: narrow ? -60 : 0 }, { sync: false })
  const legends = [...model.above, ...model.center].filter((found) => found.type === "Legend")
  for (const legend of legends)
    legend.setv(narrow
      ? { ncols: 1, label_text_font_size: "9px" } : { ncols: 2, label_text_font_size: "11px" },
                { sync: false })
}
// A click elsewhere or Escape closes an open menu, drawer or note.
const MENUS = "details:is(.help, .save, .setup)[open]"
addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(MENUS))
    if (!event.composedPath().includes(menu)) menu.open = false
})
addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector(MENUS)
  if (!menu) return
  menu.open = false
  menu.querySelector("summary").focus()
})
// Light and dark are two pages over the same searches.
addEventListener("DOMContentLoaded", () => {
  document.querySelector(".appearance").addEventListener("click", () => {
    const there = new URL(window.location)
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    there.searchParams.set("theme", dark ? "light" : "dark")
    if (SESSION_KEY) there.searchParams.set("browser_session", SESSION_KEY)
    going_on = true // to the same run
    window.location.assign(there)
  })
})
