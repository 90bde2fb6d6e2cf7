// Pictures of the evidence: requests in time, latencies, curves. Each has a sentence, keys, and the same as a table.
import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 640, RIGHT = 60;

export function picture(evidence) {
  const columns = TABLES[evidence.kind];
  if (!columns) return null;
  const drawn = DRAWN[evidence.kind]?.(evidence);
  const same = table(...columns(evidence));
  return el("figure", { class: "fig" }, el("h3", {}, evidence.title), drawn,
    drawn ? el("details", {}, el("summary", {}, "The same as a table"), same) : same);
}

function table(columns, rows) {
  const cells = (tag, values) => el("tr", {}, values.map((value) => el(tag, {}, String(value ?? "–"))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": columns.join(", ") },
    el("table", {}, el("thead", {}, cells("th", columns)), el("tbody", {}, rows.map((row) => cells("td", row)))));
}

const ms = (value) => (value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
const number = (value) => Number(value.toFixed(1));
const last = (rows) => Math.max(...rows.map((r) => r.end), 0);

const TABLES = {
  table: (e) => [e.columns, e.rows],
  timeline: (e) => [["request", `sent, ${e.unit}`, "in the model from", "answered"], e.rows.map((r, n) => [r.label || n + 1, number(r.wait), number(r.work), number(r.end)])],
  histogram: (e) => [[`from, ${e.unit}`, `to, ${e.unit}`, "requests"], e.buckets.map((b) => [number(b.from), number(b.to), b.count])],
  curve: (e) => [["users", "requests/s", "p95, ms"], e.points.map((p) => [p.users, number(p.requests_per_second), number(p.p95_ms)])],
};

const DRAWN = { timeline, histogram, curve };

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Round steps of an axis from 0 to `most`: at most six. */
function steps(most) {
  const rough = most / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, n) => n * step);
}

/** A drawing with a sentence; arrow keys and the pointer choose one of `count` things, and `say` puts it into words. */
function readable(drawing, sentence, count, say, at) {
  const words = el("p", { class: "read" }, sentence);
  let chosen = -1;
  const choose = (n) => {
    chosen = Math.max(0, Math.min(count - 1, n));
    drawing.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
    drawing.querySelectorAll(`[data-n="${chosen}"]`).forEach((one) => one.classList.add("chosen"));
    words.textContent = say(chosen);
  };
  for (const [name, value] of Object.entries({ role: "slider", tabindex: "0", "aria-label": sentence, "aria-valuemin": 0, "aria-valuemax": count - 1, "aria-valuenow": 0 })) drawing.setAttribute(name, value);
  drawing.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    choose(chosen + by);
    drawing.setAttribute("aria-valuenow", chosen);
    drawing.setAttribute("aria-valuetext", words.textContent);
  });
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    choose(at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height));
  });
  return el("div", {}, drawing, words);
}

/** A row for each request: when it was sent, when it was in the model, when it was answered. */
function timeline(e) {
  const rows = e.rows, end = last(rows) || 1, scale = (WIDTH - RIGHT) / end;
  const height = Math.max(3, Math.min(14, 260 / rows.length)), bottom = rows.length * height;
  const grid = steps(end).map((at) => [svg("line", { class: "grid", x1: at * scale, x2: at * scale, y1: 0, y2: bottom }),
    Object.assign(svg("text", { x: at * scale, y: bottom + 14 }), { textContent: at ? at : `0 ${e.unit}` })]).flat();
  // One path for all that waits and one for all that is in the model: ten thousand rows are two elements.
  const bars = (from, to) => rows.map((r, n) => `M${(r[from] * scale).toFixed(2)} ${(n * height).toFixed(2)}h${Math.max(from === "work" ? 1.5 : 0, (r[to] - r[from]) * scale).toFixed(2)}v${(height * 0.78).toFixed(2)}H${(r[from] * scale).toFixed(2)}z`).join("");
  const cursor = svg("rect", { class: "cursor", x: 0, width: WIDTH, height, y: -height });
  const drawing = svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${bottom + 18}` }, ...grid, cursor,
    svg("path", { class: "waiting", d: bars("wait", "work") }), svg("path", { class: "working", d: bars("work", "end") }),
    Object.assign(svg("text", { class: "strong", x: end * scale + 5, y: Math.max(10, bottom - 2) }), { textContent: ms(end) }));
  const left = e.left_out ? ` ${e.left_out} more are between them.` : "";
  const sentence = `${rows.length} requests in the order of the picture. The last answer came after ${ms(end)}.${left}`;
  const say = (n) => {
    cursor.setAttribute("y", n * height - height * 0.11);
    const r = rows[n];
    return `${r.label || `request ${n + 1}`}: waited ${ms(r.work - r.wait)}, in the model ${ms(r.end - r.work)}, answered after ${ms(r.end)}`;
  };
  const shown = readable(drawing, sentence, rows.length, say, (_, y) => Math.floor((y * (bottom + 18)) / height));
  return [key(["waiting", "waiting"], ["working", "in the model"]), shown, e.note ? el("p", { class: "over" }, e.note) : null];
}

/** How many requests took how long, and where the percentiles are. */
function histogram(e) {
  if (!e.buckets.length) return null;
  const most = Math.max(...e.buckets.map((b) => b.count)), tall = 150, wide = (WIDTH - RIGHT) / e.buckets.length;
  const bars = e.buckets.map((b, n) => svg("rect", { class: "bar", "data-n": n, x: n * wide + 1, width: wide - 2, y: 16 + tall * (1 - b.count / most), height: (tall * b.count) / most }));
  const ends = e.buckets.map((b, n) => Object.assign(svg("text", { x: n * wide, y: tall + 32 }), { textContent: number(b.from) }));
  const x = (value) => { // within its bucket: the buckets may be wider and wider
    const n = Math.max(0, e.buckets.findLastIndex((b) => b.from <= value)), b = e.buckets[n];
    return (n + (b.to > b.from ? Math.min(1, (value - b.from) / (b.to - b.from)) : 0.5)) * wide;
  };
  const marks = ["p50", "p95", "p99"].filter((q) => e[q] != null).flatMap((q, n) => [svg("line", { class: "mark-line", x1: x(e[q]), x2: x(e[q]), y1: 12, y2: tall + 16 }),
    Object.assign(svg("text", { class: "strong", x: Math.min(x(e[q]) + 3, WIDTH - 90), y: 11 + n * 13 }), { textContent: `${q} ${ms(e[q])}` })]);
  const drawing = svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${tall + 38}` }, ...bars, ...ends, ...marks);
  const sentence = `${e.count} requests: half within ${ms(e.p50)}, 95 % within ${ms(e.p95)}, 99 % within ${ms(e.p99)}.`;
  const say = (n) => `${e.buckets[n].count} of ${e.count} requests took ${ms(e.buckets[n].from)} to ${ms(e.buckets[n].to)}`;
  return readable(drawing, sentence, e.buckets.length, say, (at) => Math.floor((at * WIDTH) / wide));
}

/** Throughput and p95 over users, side by side, with the SLO and the breaking point. */
function curve(e) {
  const users = e.points.map((p) => p.users);
  const broke = e.found == null ? "No breaking point was found" : `It breaks at ${e.found} users`;
  const sentence = `${broke}; the target can answer ${number(e.capacity)} requests/s, the SLO is ${ms(e.slo_ms)}.`;
  const words = el("p", { class: "read" }, sentence);
  const pair = el("div", { class: "two", role: "img", "aria-label": sentence });
  const draw = (title, values, limit, limitName) => {
    const holder = el("div", {}, el("p", { class: "over" }, title));
    pair.append(holder);
    const css = (name) => getComputedStyle(holder).getPropertyValue(name);
    const axis = { stroke: css("--chart-ink"), grid: { stroke: css("--chart-line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    new window.uPlot({
      width: holder.clientWidth || 300, height: 190, legend: { show: false }, scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(high, limit) * 1.1] } },
      cursor: { sync: { key: e.title }, drag: { x: false, y: false } }, axes: [axis, axis],
      hooks: { setCursor: [(chart) => { const n = chart.cursor.idx; if (n != null) words.textContent = `${users[n]} users: ${number(e.points[n].requests_per_second)} requests/s, p95 ${ms(e.points[n].p95_ms)}`; }] },
      series: [{}, { stroke: css("--chart-model"), width: 2, points: { show: true } }, { stroke: css("--chart-bad"), width: 1.5, dash: [5, 4], label: limitName }],
    }, [users, values, users.map(() => limit)], holder);
  };
  requestAnimationFrame(() => {
    draw("requests/s over users; dashed: what the target can answer", e.points.map((p) => p.requests_per_second), e.capacity, "capacity");
    draw("p95 in ms over users; dashed: the SLO", e.points.map((p) => p.p95_ms), e.slo_ms, "SLO");
  });
  return el("div", {}, pair, words);
}

const key = (...entries) => el("p", { class: "key" }, entries.map(([name, text]) => el("span", {}, el("i", { class: name }), text)));
