// How many requests took how long, and where the percentiles are.
import { readable } from "./readable.js";
import { WIDTH, svg, text } from "./svg.js";
import { ms, number } from "./units.js";

const TALL = 150, TOP = 44, RIGHT = 95; // room for the names of the percentiles, a line each, and for the last name

export function histogram(e) {
  if (!e.buckets.length) return null;
  const most = Math.max(...e.buckets.map((b) => b.count)), wide = (WIDTH - RIGHT) / e.buckets.length;
  const bars = e.buckets.map((b, n) => svg("rect", { class: "bar", "data-n": n, x: n * wide + 1, width: wide - 2, y: TOP + TALL * (1 - b.count / most), height: (TALL * b.count) / most }));
  const longest = Math.max(...e.buckets.map((b) => String(number(b.from)).length)) * 7 + 6, each = Math.ceil(longest / wide);
  const ends = e.buckets.map((b, n) => (n % each ? null : text(number(b.from), { x: n * wide, y: TOP + TALL + 16 }))).filter(Boolean);
  const x = (value) => { // within its bucket: the buckets may be wider and wider
    const n = Math.max(0, e.buckets.findLastIndex((b) => b.from <= value)), b = e.buckets[n];
    return (n + (b.to > b.from ? Math.min(1, (value - b.from) / (b.to - b.from)) : 0.5)) * wide;
  };
  const marks = ["p50", "p95", "p99"].filter((q) => e[q] != null).flatMap((q, n) => [
    svg("line", { class: "mark-line", x1: x(e[q]), x2: x(e[q]), y1: 2 + n * 14, y2: TOP + TALL }),
    text(`${q} ${ms(e[q])}`, { class: "strong", x: x(e[q]) + 4, y: 11 + n * 14 })]);
  const drawing = svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${TOP + TALL + 22}` }, ...bars, ...ends, ...marks);
  return readable(drawing, {
    sentence: `${e.count} requests: half within ${ms(e.p50)}, 95 % within ${ms(e.p95)}, 99 % within ${ms(e.p99)}.`,
    count: e.buckets.length,
    say: (n) => `${e.buckets[n].count} of ${e.count} requests took ${ms(e.buckets[n].from)} to ${ms(e.buckets[n].to)}`,
    mark: (n) => bars.forEach((bar, one) => bar.classList.toggle("chosen", one === n)),
    at: (event) => { const box = drawing.getBoundingClientRect(); return Math.floor((((event.clientX - box.left) / box.width) * WIDTH) / wide); },
  }).element;
}
