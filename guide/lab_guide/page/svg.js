// Elements of SVG.

const SVG = "http://www.w3.org/2000/svg";
export let WIDTH = 640;

/** Draw for the room that there is: in a narrow window fewer units, so that words do not become too small to read. */
export function fit() {
  const room = (document.getElementById("content")?.clientWidth ?? 640) - 42;
  WIDTH = Math.max(320, Math.min(640, room));
}

export function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const text = (words, attributes) => svg("text", attributes, words);

/** A number of a path: short, for there are ten thousand rows. */
export const short = (value) => Math.round(value * 100) / 100;
