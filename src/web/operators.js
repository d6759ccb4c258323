// What the pages for operators and developers share.

/** Makes an element with a class and contents: texts and elements. Texts are never parsed as HTML. */
export function make(tag, className, ...contents) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...contents.filter((one) => one !== null));
  return element;
}

/** Follows the colour scheme of the system. */
export function followSystem() {
  const light = matchMedia("(prefers-color-scheme: light)");
  const dress = () => {
    document.documentElement.dataset.theme = light.matches ? "day" : "night";
    dispatchEvent(new Event("theme"));
  };
  light.addEventListener("change", dress);
  dress();
}

/** Makes boxes that scroll reachable by keyboard, and only while they do. */
export function reachScrollers(selector) {
  const look = () => {
    for (const box of document.querySelectorAll(selector)) {
      const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("resize", look);
  return look;
}
