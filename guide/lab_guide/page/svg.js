// Elements of SVG.

const SVG = "http://www.w3.org/2000/svg";
export const WIDTH = 640;

export function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const text = (words, attributes) => svg("text", attributes, words);

/** A number of a path: short, for there are ten thousand rows. */
export const short = (value) => Math.round(value * 100) / 100;
