// A row for each request: waiting, in the model, answered or refused. Of many rows only those in view are drawn.
import { el } from "./dom.js";
import { key, readable } from "./readable.js";
import { WIDTH, short, svg, text } from "./svg.js";
import { ms, steps } from "./units.js";

const RIGHT = 60; // room for the time of the last answer
const FITTING = 150; // rows that are drawn whole
const ROW = 4, VIEW = 300; // height of one of many rows, and of the window that they are seen through

const KINDS = [["waiting", "waiting"], ["working", "until answered"], ["refused", "refused"], ["failed", "no good answer"]];

/** The paths of rows from `first` on: ten thousand rows are a few elements, whichever are in view. */
function paths(rows, first, count, height, scale) {
  const shown = Object.fromEntries(KINDS.map(([name]) => [name, ""]));
  const thick = short(height * 0.78);
  const bar = (from, to, y, least) => `M${short(from * scale)} ${y}h${short(Math.max(least, (to - from) * scale))}v${thick}H${short(from * scale)}z`;
  for (let n = first; n < Math.min(rows.length, first + count); n += 1) {
    const r = rows[n], y = short((n - first) * height);
    const how = r.how ?? "answered";
    if (how !== "answered") shown[how] += bar(r.wait, r.end, y, 1.5);
    else {
      if (r.work > r.wait) shown.waiting += bar(r.wait, r.work, y, 0);
      shown.working += bar(r.work, r.end, y, 1.5);
    }
  }
  return KINDS.filter(([name]) => shown[name]).map(([name]) => svg("path", { class: name, d: shown[name] }));
}

export function timeline(e, until) {
  const rows = e.rows, inside = e.inside ?? "in the model";
  const last = rows.reduce((most, r) => Math.max(most, r.end), 0) || 1;
  const end = until || last, scale = (WIDTH - RIGHT) / end;
  const of = (how) => rows.filter((r) => (r.how ?? "answered") === how).length;
  const refused = of("refused"), failed = of("failed");
  const others = [refused && `${refused} were refused`, failed && `${failed} got no good answer`].filter(Boolean).join(", ");
  const sentence = `The picture has ${rows.length} requests, from top to bottom${others ? `; ${others}` : ""}. The last answer came after ${ms(last)}.${e.left_out ? ` ${e.left_out} more are between them.` : ""}`;
  const say = (n) => {
    const r = rows[n], name = r.label || `request ${n + 1}`, how = r.how ?? "answered";
    const due = r.wait >= 1 ? `, due at ${ms(r.wait)}` : "";
    if (how === "answered") return `${name}${due}: waited ${ms(r.work - r.wait)}, ${inside} ${ms(r.end - r.work)}, answered at ${ms(r.end)}`;
    return `${name}${due}: ${how === "refused" ? "refused" : "no good answer"}${r.status ? ` (${r.status})` : ""} after ${ms(r.end - r.wait)}`;
  };
  const kinds = KINDS.filter(([name]) => ({ refused, failed })[name] ?? rows.length).map(([name, words]) => [name, name === "working" ? `${inside}, ${words}` : words]);
  const drawn = (rows.length > FITTING ? many : few)(rows, { sentence, say, scale, end, last, unit: e.unit });
  return [key(...kinds), drawn, e.note && el("p", { class: "over" }, e.note)];
}

const grid = (end, scale, bottom) => steps(end).map((at) => svg("line", { class: "grid", x1: at * scale, x2: at * scale, y1: 0, y2: bottom }));
const axis = (end, scale, unit, y) => steps(end).map((at) => text(at || `0 ${unit}`, { x: at * scale, y }));

function few(rows, { sentence, say, scale, end, last, unit }) {
  const height = Math.max(3, Math.min(14, 260 / rows.length)), bottom = rows.length * height;
  const cursor = svg("rect", { class: "cursor", x: 0, width: WIDTH, height, y: -height });
  const drawing = svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${bottom + 18}` },
    ...grid(end, scale, bottom), cursor, ...paths(rows, 0, rows.length, height, scale), ...axis(end, scale, unit, bottom + 14),
    text(ms(last), { class: "strong", x: last * scale + 5, y: Math.max(10, bottom - 2) }));
  return readable(drawing, {
    sentence, count: rows.length, say,
    mark: (n) => cursor.setAttribute("y", n * height - height * 0.11),
    at: (event) => { const box = drawing.getBoundingClientRect(); return Math.floor((((event.clientY - box.top) / box.height) * (bottom + 18)) / height); },
  }).element;
}

function many(rows, { sentence, say, scale, end, unit }) {
  const inner = svg("svg", { class: "picture rows", viewBox: `0 0 ${WIDTH} ${VIEW}`, preserveAspectRatio: "none", height: VIEW });
  const scroller = el("div", { class: "rows-view" }, el("div", { class: "rows-all" }, inner));
  scroller.firstChild.style.height = `${rows.length * ROW}px`;
  const lines = grid(end, scale, VIEW), cursor = svg("rect", { class: "cursor", x: 0, width: WIDTH, height: ROW });
  let chosen = -1, waiting = false;
  const draw = () => {
    waiting = false;
    const first = Math.min(Math.floor(scroller.scrollTop / ROW), Math.max(0, rows.length - VIEW / ROW));
    cursor.setAttribute("y", chosen < 0 ? -ROW : (chosen - first) * ROW);
    inner.replaceChildren(...lines, cursor, ...paths(rows, first, VIEW / ROW + 1, ROW, scale));
  };
  scroller.addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } });
  draw();
  const shown = readable(scroller, {
    sentence, count: rows.length, say,
    mark: (n) => {
      chosen = n;
      const top = n * ROW;
      if (top < scroller.scrollTop || top + ROW > scroller.scrollTop + VIEW) scroller.scrollTop = top - VIEW / 2;
      draw();
    },
    at: (event) => Math.floor((event.clientY - scroller.getBoundingClientRect().top + scroller.scrollTop) / ROW),
  }).element;
  shown.insertBefore(svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} 18`, "aria-hidden": "true" }, ...axis(end, scale, unit, 14)), shown.lastChild);
  return shown;
}
