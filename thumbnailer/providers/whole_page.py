"""Scripts that make a page fit to be photographed from top to bottom, in the order in which they run.

Each is one function expression; times are milliseconds, lengths CSS pixels. The viewport keeps its size, so
that nothing that is as high as the viewport becomes as high as the page; what clings to it is moved instead.
"""

from __future__ import annotations

#: What a page shows when it comes into view, it may take away again when it goes out of view. From the event
#: on that ``SCROLL_THROUGH`` sends, the page is told of arrivals only. Runs before the page's own scripts.
KEEP_SHOWN = """
() => {
  const Observer = window.IntersectionObserver;
  let hasBegun = false;
  addEventListener("thumbnailer-scrolls", () => { hasBegun = true; });
  window.IntersectionObserver = class IntersectionObserver extends Observer {
    constructor(callback, options) {
      super((entries, self) => {
        const told = hasBegun ? entries.filter(entry => entry.isIntersecting) : entries;
        if (told.length) callback.call(self, told, self);
      }, options);
    }
  };
}
"""

#: Draws what a page leaves out while it is out of view, as ``content-visibility: auto`` asks for.
DRAW_ALL = """
() => {
  for (const element of document.querySelectorAll("body *")) {
    if (getComputedStyle(element).contentVisibility === "auto") {
      element.style.setProperty("content-visibility", "visible", "important");
    }
  }
}
"""

#: Lays out in full what scrolls in place of the page: it is in the middle of the viewport, and half as large.
#: Or what cuts off a higher page that scripts move behind it: it is as large as the viewport, and stands
#: still where the page scrolls all the same. What they move is held, for they are told that the page scrolls.
UNFOLD = """
() => {
  const root = document.documentElement, [x, y] = [innerWidth / 2, innerHeight / 2];
  const doesPageScroll = root.scrollHeight - innerHeight > innerHeight / 4;
  const around = element => element.assignedSlot || element.parentElement || element.getRootNode().host;
  const scrolls = element => !doesPageScroll && /auto|scroll/.test(getComputedStyle(element).overflowY)
    && element.scrollHeight > element.clientHeight + 1
    && element.clientWidth * element.clientHeight >= innerWidth * innerHeight / 2;
  const cutsOff = element => /hidden|clip/.test(getComputedStyle(element).overflowY)
    && element.scrollHeight >= innerHeight * 1.5 && Math.abs(element.clientHeight - innerHeight) <= 1
    && element.clientWidth >= innerWidth * 0.9
    && (!doesPageScroll || getComputedStyle(element).position === "fixed");
  const set = (element, styles) => {
    for (const name in styles) element.style.setProperty(name, styles[name], "important");
  };
  let element = document.elementFromPoint(x, y);
  for (let inner; (inner = element?.shadowRoot?.elementFromPoint(x, y)) && inner !== element;) {
    element = inner;
  }
  const within = [];
  const isIt = element => element !== root && (scrolls(element) || cutsOff(element));
  for (; element && !isIt(element); element = around(element)) within.push(element);
  if (!element) return;
  const isCut = !scrolls(element), scope = element.getRootNode(), still = new CSSStyleSheet();
  still.replaceSync("[data-thumbnailer-still] { transform: none !important; translate: none !important }");
  scope.adoptedStyleSheets = [...scope.adoptedStyleSheets, still];
  for (const moved of isCut ? within : []) {
    if (moved.scrollHeight >= innerHeight * 1.5) moved.dataset.thumbnailerStill = "";
  }
  for (; element; element = around(element)) {
    set(element, {overflow: "visible", contain: "none"});
    if (!isCut) set(element, {height: "auto", "max-height": "none"});
    if (/fixed|absolute/.test(getComputedStyle(element).position)) {
      set(element, isCut ? {position: "absolute"} : {position: "absolute", bottom: "auto"});
    }
  }
}
"""

#: Down in steps of a viewport, so that what loads when seen is seen, and up again. Ends at the
#: bottom, at ``limit`` or after ``patience``, whichever comes first: some pages grow for ever.
#: There, pages that look where they are only once nobody scrolls any more have time to; at the top, what
#: began to move on the way has time to come to its end.
SCROLL_THROUGH = """
async ({limit, patience, pause, stay, rest}) => {
  const wait = time => new Promise(resolve => setTimeout(resolve, time));
  const until = Date.now() + patience;
  const root = document.scrollingElement || document.documentElement;
  window.dispatchEvent(new Event("thumbnailer-scrolls"));
  for (const image of document.querySelectorAll("img[loading=lazy]")) image.loading = "eager";
  for (let top = 0; Date.now() < until && top < Math.min(root.scrollHeight, limit); top += innerHeight) {
    window.scrollTo({top, behavior: "instant"});
    await wait(pause);
  }
  await wait(stay);
  window.scrollTo({top: 0, behavior: "instant"});
  await wait(rest);
}
"""

#: On a page that is drawn at once no background stands still while the rest scrolls. And the libraries AOS
#: and Locomotive Scroll have hidden again what is below the viewport, by its position alone.
LAY_FLAT = """
*, ::before, ::after { background-attachment: scroll !important }
[data-aos], [data-scroll-section] { opacity: 1 !important; transform: none !important }
"""

#: Moves what clings to the bottom of the viewport to the bottom of the page, and lets a backdrop that fills
#: the viewport, without a word and behind what stands in its middle, reach as far as the page.
SINK = """
limit => {
  const heights = [document.documentElement, document.body].map(element => element?.scrollHeight ?? 0);
  const further = Math.min(limit, Math.max(...heights)) - innerHeight;
  if (further <= 0) return;
  const set = (element, styles) => {
    for (const name in styles) element.style.setProperty(name, styles[name], "important");
  };
  const middle = document.elementFromPoint(innerWidth / 2, innerHeight / 2);
  const isBackdrop = (element, box) => box.left <= 0 && box.top <= 0 && box.right >= innerWidth
    && box.bottom >= innerHeight && !element.contains(middle) && !element.innerText?.trim();
  for (const element of document.querySelectorAll("body *")) {
    const {position, top, bottom} = getComputedStyle(element);
    if (position === "sticky" && top === "auto" && bottom !== "auto") {
      set(element, {position: "relative", bottom: "auto"});
    } else if (position === "fixed" && !element.offsetParent) {
      const box = element.getBoundingClientRect();
      const moved = {top: parseFloat(top) + further, bottom: parseFloat(bottom) - further};
      if (box.top >= innerHeight / 2) {
        set(element, {top: `${moved.top}px`, bottom: `${moved.bottom}px`, transition: "none"});
      } else if (isBackdrop(element, box)) {
        set(element, {height: `${box.height + further}px`, "max-height": "none", transition: "none"});
      }
    }
  }
}
"""
