// Elements are made from text: nothing that a run printed is ever taken for markup.

/** An element; `on…` are listeners, `class` and others attributes; children are elements or text, null ones are left out. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

/** Text with its `code` as code elements. */
export const ticks = (text) => text.split(/`([^`]+)`/).map((part, n) => (n % 2 ? el("code", {}, part) : part));

/** HTML that the server has rendered and escaped: a lesson, or highlighted source. */
export function rendered(tag, html, attributes = {}) {
  const made = el(tag, attributes);
  made.innerHTML = html;
  return made;
}

const keys = new WeakMap();

/** Build what is in a node anew, but only if `key` has changed; what had the focus has it again, by its `data-k`. */
export function patch(node, key, build) {
  const said = JSON.stringify(key);
  if (keys.get(node) === said) return;
  keys.set(node, said);
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.k : null;
  const children = [build()].flat(Infinity).filter((child) => child != null && child !== false);
  node.replaceChildren(...children);
  if (focused) node.querySelector(`[data-k="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

export const $ = (id) => document.getElementById(id);
