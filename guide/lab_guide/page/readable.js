// What makes a drawing one that can be asked: a sentence, the pointer, and arrow keys that read out one part of it.
import { el } from "./dom.js";

const KEYS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };

/** `count` parts, which `say` puts into words; `mark` shows the chosen one. The element, and `choose` for a pointer. */
export function readable(drawing, { sentence, count, say, mark = () => {}, at }) {
  const words = el("p", { class: "read" }, sentence);
  let chosen = -1;
  const choose = (n) => {
    if (!count) return;
    chosen = Math.max(0, Math.min(count - 1, n));
    words.textContent = say(chosen);
    mark(chosen);
  };
  const about = { role: "slider", tabindex: "0", "aria-label": sentence, "aria-valuemin": 0, "aria-valuemax": Math.max(0, count - 1), "aria-valuenow": 0 };
  for (const [name, value] of Object.entries(about)) drawing.setAttribute(name, value);
  drawing.addEventListener("keydown", (event) => {
    const to = { Home: 0, End: count - 1 }[event.key] ?? (KEYS[event.key] && chosen + KEYS[event.key]);
    if (to == null) return;
    event.preventDefault();
    event.stopPropagation();
    choose(to);
    drawing.setAttribute("aria-valuenow", chosen);
    drawing.setAttribute("aria-valuetext", words.textContent);
  });
  if (at) drawing.addEventListener("pointermove", (event) => choose(at(event)));
  return { element: el("div", {}, drawing, words), choose };
}

export const key = (...entries) => el("p", { class: "key" }, entries.map(([name, text]) => el("span", {}, el("i", { class: name }), text)));
