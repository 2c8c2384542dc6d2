"""The few scripts that run inside a page. Each is one function expression; times are milliseconds.

All but ``CONSENT_SETTLED``, and ``HIDE`` where it runs before the page's own scripts, run in a ``PageWorld``.
"""

from __future__ import annotations

#: Which of the given texts are no CSS selectors.
INVALID_SELECTORS = """
selectors => selectors.filter(selector => {
  try { document.createDocumentFragment().querySelector(selector); return false; } catch { return true; }
})
"""

#: Takes elements out of the page, now and whenever they appear. A constructed sheet, since a page's
#: Content-Security-Policy forbids style elements but not these.
HIDE = """
selectors => {
  const sheet = new CSSStyleSheet();
  for (const selector of selectors) {
    try { sheet.insertRule(`${selector} { display: none !important }`, sheet.cssRules.length); } catch {}
  }
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
"""

#: Adds a style sheet, in the same way; ``@import`` does not work in it.
ADD_STYLE = """
css => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
"""

#: Takes out pictures and frames whose content was blocked, instead of leaving a hole with a broken icon.
COLLAPSE = """
urls => {
  const blocked = new Set(urls);
  for (const element of document.querySelectorAll("img, iframe, embed, object")) {
    if (blocked.has(element.currentSrc || element.src || element.data)) {
      element.style.setProperty("display", "none", "important");
    }
  }
}
"""

#: Whether the page, which may still be loading, has anything that a visitor would look at.
HAS_CONTENT = """
() => {
  const body = document.body;
  return !!body && (body.innerText.trim() !== "" || body.querySelector("img, svg, canvas, video") !== null);
}
"""

#: How much of the page is there, in characters.
LENGTH = "() => document.documentElement.outerHTML.length"

#: The classes and ids that occur in the page, at most so many of each.
NAMES_IN_USE = """
limit => {
  const classes = new Set(), ids = new Set();
  for (const element of document.querySelectorAll("[class], [id]")) {
    if (element.id && ids.size < limit) ids.add(element.id);
    for (const name of element.classList) if (classes.size < limit) classes.add(name);
  }
  return {classes: [...classes], ids: [...ids]};
}
"""

#: Settled once autoconsent has refused, or has found nothing to refuse in its second look; the first
#: half of its heuristics runs in the second.
CONSENT_SETTLED = """
async patience => {
  const pause = time => new Promise(resolve => setTimeout(resolve, time));
  const ends = ["done", "optOutSucceeded", "optOutFailed", "nothingDetected"];
  const until = Date.now() + patience;
  let looks = 0;
  while (Date.now() < until) {
    const state = window.autoconsentStandalone?.instance?.state;
    if (!state || ends.includes(state.lifecycle)) return;
    if (state.findCmpAttempts >= 2 && state.lifecycle === "started" && ++looks > 3) return;
    await pause(50);
  }
}
"""

#: Hides what matches, and lets the page scroll again where one of them had locked it.
HIDE_LEFTOVERS = """
selectors => {
  const left = document.querySelectorAll(selectors.join(","));
  for (const element of left) element.style.setProperty("display", "none", "important");
  if (!left.length) return;
  for (const root of [document.documentElement, document.body]) {
    if (root && getComputedStyle(root).overflowY === "hidden") {
      root.style.setProperty("overflow", "auto", "important");
    }
  }
}
"""

#: Fonts loaded, pictures above ``depth`` CSS pixels there, animations that have an end at their end. What
#: beats or turns without end is shown at rest, and no caret, so that a page looks the same until it changes.
#: What moves by scrolling stays as it is at the top; further down it is shown as if it did not move.
SETTLED = """
async ({depth, patience}) => {
  document.documentElement.getBoundingClientRect();  // so that pictures of new styles are asked for
  const tooLong = new Promise(resolve => setTimeout(resolve, patience));
  const shown = image => {
    const box = image.getBoundingClientRect();
    return box.bottom > 0 && box.top < depth && image.checkVisibility();
  };
  const loaded = image => new Promise(resolve => {
    image.addEventListener("load", resolve, {once: true});
    image.addEventListener("error", resolve, {once: true});
  });
  const pending = [...document.images].filter(image => !image.complete && shown(image)).map(loaded);
  await Promise.race([tooLong, Promise.all([document.fonts.ready, ...pending])]);
  for (const animation of document.getAnimations()) {
    const {duration, iterations} = animation.effect?.getComputedTiming() ?? {};
    if (animation.timeline !== document.timeline) {
      if (depth > innerHeight && animation.timeline instanceof ViewTimeline) animation.cancel();
    } else if (iterations !== Infinity) {
      try { animation.finish(); } catch {}
    } else if (duration <= 5000) {
      animation.cancel();
    }
  }
  for (let focused = document.activeElement; focused; focused = focused.shadowRoot?.activeElement) {
    focused.style?.setProperty("caret-color", "transparent", "important");
  }
}
"""

#: How far the page reaches to the left of where it begins, in CSS pixels: one that is written from the right
#: and wider than the viewport does.
_REACH_LEFT = """
  const reachLeft = () => {
    const {direction, writingMode} = getComputedStyle(document.documentElement), seen = [scrollX, scrollY];
    if (direction !== "rtl" && writingMode !== "vertical-rl") return 0;
    window.scrollTo({left: -1e9, behavior: "instant"});
    const reach = Math.round(-scrollX);
    window.scrollTo({left: seen[0], top: seen[1], behavior: "instant"});
    return reach;
  };
"""

#: The sizes a picture is measured by, in CSS pixels from the page's top left corner; ``start`` is not 0 where
#: the page begins at its right. ``scale`` is a phone's zoom that fits a wide page.
MEASURES = f"""
() => {{
  {_REACH_LEFT}
  const root = document.documentElement, body = document.body, seen = window.visualViewport;
  const start = reachLeft();
  return {{
    start, left: seen.pageLeft + start, top: seen.pageTop,
    width: seen.width, height: seen.height, scale: seen.scale,
    pageWidth: Math.max(root.scrollWidth, body ? body.scrollWidth : 0),
    pageHeight: Math.max(root.scrollHeight, root.offsetHeight || 0, body ? body.scrollHeight : 0),
  }};
}}
"""

#: Brings the first match into view, so that what loads when seen is seen.
BRING_INTO_VIEW = """
selector => {
  const element = document.querySelector(selector);
  for (const image of element?.querySelectorAll("img[loading=lazy]") ?? []) image.loading = "eager";
  element?.scrollIntoView({block: "nearest", inline: "nearest", behavior: "instant"});
}
"""

#: The box of the first match, brought into view, from the page's top left corner; null where none is.
BOX_OF = f"""
selector => {{
  {_REACH_LEFT}
  const element = document.querySelector(selector);
  if (!element) return null;
  element.scrollIntoView({{block: "nearest", inline: "nearest", behavior: "instant"}});
  const box = element.getBoundingClientRect();
  return {{x: box.x + scrollX + reachLeft(), y: box.y + scrollY, width: box.width, height: box.height}};
}}
"""
