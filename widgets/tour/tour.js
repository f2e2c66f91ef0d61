// Tour: a button, an invitation for newcomers, and a bubble beside the section of the page that a
// stop is about. Python decides on texts and progress.

const SEEN = "m2n2lab.tour" // in the browser's storage, once the invitation was answered
const MAX_PRESSES = 8 // sent in one message
const GAP = 12, EDGE = 8
const NARROW = 900 // up to this width the sections lie below each other

const clamp = (x, low, high) => Math.max(Math.min(x, high), low)

// Storage may be forbidden; then there is no invitation at all.
const seen = () => { try { return localStorage.getItem(SEEN) } catch { return "unknown" } }
const remember = () => { try { localStorage.setItem(SEEN, "yes") } catch { /* forbidden */ } }

const section = (name) => [...document.querySelectorAll("section")]
  .find((found) => found.getAttribute("aria-label") === name)

// A button or a labelled element by one of its names, also inside widgets.
const named = (root, names) => {
  for (const element of root.querySelectorAll("*")) {
    const name = element.getAttribute("aria-label") ??
      (element.tagName === "BUTTON" ? element.textContent.trim() : "")
    const found = names.includes(name) ? element
      : element.shadowRoot && named(element.shadowRoot, names)
    if (found) return found
  }
  return null
}

// The element of the page itself that an element inside of widgets is in.
const outermost = (element) => {
  const root = element.getRootNode()
  return root instanceof ShadowRoot ? outermost(root.host) : element
}

const focused = () => {
  let at = document.activeElement
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
  return at
}

const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top

export default {
  render({ model, el }) {
    const root = document.createElement("div")
    root.className = "tour"
    root.innerHTML = `
      <button type="button" class="open">Tour</button>
      <div class="invitation" role="note" hidden>
        <span>New here? Take the tour: seven stops, three minutes.</span>
        <button type="button" class="start" aria-label="Start the tour">Start</button>
        <button type="button" class="refuse">No thanks</button>
      </div>
      <div class="bubble" role="dialog" aria-modal="false" aria-labelledby="tour-title"
           aria-describedby="tour-text" tabindex="-1" hidden>
        <h3><span class="place"></span> <span id="tour-title"></span></h3>
        <div aria-live="polite">
          <p id="tour-text"></p>
          <p class="hint" data-testid="tour-hint"></p>
        </div>
        <div class="buttons">
          <button type="button" class="act" hidden></button>
          <button type="button" class="help">Do it for me</button>
          <button type="button" class="back">Back</button>
          <button type="button" class="next"></button>
        </div>
        <button type="button" class="skip">Skip tour</button>
      </div>`
    el.append(root)
    const find = (name) => root.querySelector(name)
    const [opener, invitation, bubble] = [".open", ".invitation", ".bubble"].map(find)
    const header = document.querySelector("header")
    const shown = () => model.get("shown") ?? {}

    // Of presses in quick succession only the last message arrives, so it contains all of them.
    const ask = (what) => {
      const before = model.get("asked")
      model.set("asked", [...before, [(before.at(-1)?.[0] ?? 0) + 1, what]].slice(-MAX_PRESSES))
      model.save_changes()
    }

    // -- the invitation: the header makes room for it, so that it covers nothing ----------------
    const padding = header ? parseFloat(getComputedStyle(header).paddingBottom) : 0
    const invite = () => {
      if (invitation.hidden) return
      const high = invitation.offsetHeight, wide = invitation.offsetWidth
      header.style.paddingBottom = `${padding + high + GAP / 2}px`
      const here = root.getBoundingClientRect(), button = opener.getBoundingClientRect()
      const middle = button.left + button.width / 2
      const left = clamp(middle - wide / 2, EDGE, innerWidth - wide - EDGE)
      const top = header.getBoundingClientRect().bottom - padding - high
      Object.assign(invitation.style, { left: `${left - here.left}px`, top: `${top - here.top}px` })
      invitation.style.setProperty("--middle", `${middle - left}px`)
      invitation.classList.toggle("below", top - button.bottom < 2 * GAP)
    }
    const answered = () => {
      remember()
      invitation.hidden = true
      if (header) header.style.paddingBottom = ""
    }
    const sized = new ResizeObserver(invite)

    const TOUCH = matchMedia("(hover: none) and (pointer: coarse)")
    const touched = () => { model.set("touch", TOUCH.matches); model.save_changes() }
    if (TOUCH.matches) touched()
    TOUCH.addEventListener("change", touched)

    // -- the bubble: beside its section, or at the bottom of a narrow window ---------------------
    let number = 0, timer, control = null, marked = []
    const mark = (elements) => {
      const colour = getComputedStyle(root).getPropertyValue("--child")
      for (const old of marked)
        if (!elements.includes(old)) old.style.outline = old.style.outlineOffset = ""
      marked = elements
      for (const element of elements)
        Object.assign(element.style, { outline: `2px solid ${colour}`, outlineOffset: "2px" })
    }
    const place = () => {
      const part = section(shown().section), names = shown().controls
      if (!control?.isConnected && names.length)
        control = (part && named(part, names)) ?? named(document.body, names)
      // The handle of a slider is too thin for an outline, its track is not.
      const slides = control?.getAttribute("role") === "slider"
      mark([part, slides ? control.parentElement : control].filter(Boolean))
      bubble.dataset.side = "" // or its size would be that of another side
      const wide = bubble.offsetWidth, high = bubble.offsetHeight
      const box = part?.getBoundingClientRect(), used = control?.getBoundingClientRect()
      const spots = !box || innerWidth <= NARROW ? [] : [
        ["left", box.left - GAP - wide, box.top], ["right", box.right + GAP, box.top],
        ["below", box.left, box.bottom + GAP], ["above", box.left, box.top - GAP - high],
      ]
      const spot = spots.find(([, x, y]) => {
        const mine = { left: x, right: x + wide, top: y, bottom: y + high }
        return x >= EDGE && y >= EDGE && mine.right <= innerWidth - EDGE &&
          mine.bottom <= innerHeight - EDGE && !(used && !apart(mine, used))
      })
      bubble.dataset.side = spot?.[0] ?? "bottom"
      Object.assign(bubble.style, spot ? { left: `${spot[1]}px`, top: `${spot[2]}px` }
                                       : { left: "", top: "" })
      // In a narrow window a button of the header would be far from the rows to be watched.
      const act = find(".act"), far = !spot && control && part && !part.contains(outermost(control))
      act.hidden = !far
      if (far && act.textContent !== control.textContent) {
        act.textContent = control.textContent
        act.setAttribute("aria-label", `${control.textContent} (tour)`)
      }
      return { part, box, used: far ? null : used }
    }
    // Scrolls the section to the top of the window, but never so that its control is covered.
    const reveal = ({ part, box, used }) => {
      if (!part) return
      if (bubble.dataset.side !== "bottom") {
        (control ?? part).scrollIntoView({ block: "nearest" })
        return
      }
      const room = innerHeight - bubble.offsetHeight - 2 * EDGE
      let by = box.top - EDGE
      if (used) {
        by = Math.max(by, used.bottom + GAP - room)
        by = Math.min(by, used.top - GAP)
      }
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches
      scrollBy({ top: by, behavior: calm ? "instant" : "smooth" })
    }

    const close = () => {
      clearInterval(timer)
      mark([])
      const inside = root.contains(focused())
      bubble.hidden = true
      if (inside) opener.focus({ preventScroll: true })
    }
    const draw = () => {
      const now = shown(), moved = (now.number ?? 0) !== number
      number = now.number ?? 0
      opener.setAttribute("aria-expanded", number > 0)
      if (!number) {
        if (moved) close()
        return
      }
      const say = (name, words) => {
        const line = find(name)
        if (line.textContent !== words) line.textContent = words // or screen readers would read it again
      }
      say(".place", `${number} of ${now.of}`)
      say("#tour-title", now.title)
      say("#tour-text", now.text)
      say(".hint", now.hint)
      say(".next", number < now.of ? "Next" : "Finish")
      find(".hint").classList.toggle("done", now.done)
      if (now.done && model.get("seen") !== number) {
        model.set("seen", number)
        model.save_changes()
      }
      if (!now.helps && focused() === find(".help")) find(".next").focus()
      find(".help").hidden = !now.helps
      find(".back").hidden = number === 1
      bubble.hidden = false
      if (!moved) {
        place()
        return
      }
      control = null
      clearInterval(timer)
      timer = setInterval(place, 250) // the page moves, and its buttons are made again
      reveal(place())
      // A person who types or drags keeps the focus.
      if (!focused()?.closest("input, select, textarea, [role=slider]"))
        bubble.focus({ preventScroll: true })
    }

    for (const name of ["start", "help", "back", "next", "skip"])
      find(`.${name}`).addEventListener("click", () => ask(name))
    find(".act").addEventListener("click", () => control?.click())
    opener.addEventListener("click", () => ask("toggle"))
    for (const button of [opener, ...invitation.querySelectorAll("button")])
      button.addEventListener("click", answered)
    root.addEventListener("keydown", (event) => { // the page has keys of its own
      if (event.target.closest("button") && event.key !== "Escape") event.stopPropagation()
    })
    const escape = (event) => {
      if (event.key === "Escape" && number && !event.defaultPrevented) ask("skip")
    }
    addEventListener("keydown", escape)
    addEventListener("resize", invite)
    model.on("change:shown", draw)
    invitation.hidden = !header || Boolean(seen())
    if (header) sized.observe(header)
    draw()
    return () => {
      sized.disconnect()
      if (header) header.style.paddingBottom = ""
      clearInterval(timer)
      mark([])
      removeEventListener("keydown", escape)
      removeEventListener("resize", invite)
      model.off("change:shown", draw)
      TOUCH.removeEventListener("change", touched)
    }
  },
}
