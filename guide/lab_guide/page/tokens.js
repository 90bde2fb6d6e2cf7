// A row for each stream: the wait for its first token, each token a tick, and where it stalled.
import { el } from "./dom.js";
import { key, readable } from "./readable.js";
import { WIDTH, short, svg, text } from "./svg.js";
import { ms, number, steps } from "./units.js";

const RIGHT = 60; // room for the time of the last token
const KINDS = [["waiting", "until the first token"], ["token", "a token each"], ["stall", "a stall: more than twice the TPOT"], ["refused", "refused"], ["failed", "did not finish"]];

export function tokens(e, until) {
  const last = e.rows.reduce((most, r) => Math.max(most, r.end), 0) || 1;
  const end = until || last, scale = (WIDTH - RIGHT) / end;
  const height = Math.max(5, Math.min(16, 320 / e.rows.length)), bottom = e.rows.length * height, thick = short(height * 0.78);
  const shown = Object.fromEntries(KINDS.map(([name]) => [name, ""]));
  const bar = (kind, from, to, y, tall = thick) => { shown[kind] += `M${short(from * scale)} ${short(y)}h${short(Math.max(1, (to - from) * scale))}v${tall}H${short(from * scale)}z`; };
  e.rows.forEach((r, n) => {
    const y = n * height;
    if (r.how === "refused") return bar("refused", r.due, r.end, y);
    bar("waiting", r.due, r.tokens[0] ?? r.end, y);
    for (const at of r.tokens) shown.token += `M${short(at * scale)} ${short(y)}v${thick}`;
    for (const k of r.stalls) bar("stall", r.tokens[k], r.tokens[k + 1], y + height * 0.25, short(height * 0.28));
    if (r.how === "failed") bar("failed", r.end, r.end + 3 / scale, y);
  });
  const of = (how) => e.rows.filter((r) => r.how === how).length;
  const others = [of("refused") && `${of("refused")} were refused`, of("failed") && `${of("failed")} did not finish`].filter(Boolean).join(", ");
  const sentence = `${e.rows.length} streams in the order in which they were due${others ? `; ${others}` : ""}. The last had ended after ${ms(last)}.${e.left_out ? ` ${e.left_out} more are between them.` : ""}`;
  const cursor = svg("rect", { class: "cursor", x: 0, width: WIDTH, height, y: -height });
  const grid = steps(end).map((at) => svg("line", { class: "grid", x1: at * scale, x2: at * scale, y1: 0, y2: bottom }));
  const drawing = svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${bottom + 18}` }, ...grid, cursor,
    ...KINDS.filter(([name]) => shown[name]).map(([name]) => svg("path", { class: name, d: shown[name] })),
    ...steps(end).map((at) => text(at || `0 ${e.unit}`, { x: at * scale, y: bottom + 14 })),
    text(ms(last), { class: "strong", x: last * scale + 5, y: Math.max(10, bottom - 2) }));
  const asked = readable(drawing, {
    sentence, count: e.rows.length, say: (n) => say(e.rows[n], n),
    mark: (n) => cursor.setAttribute("y", n * height - height * 0.11),
    at: (event) => { const box = drawing.getBoundingClientRect(); return Math.floor((((event.clientY - box.top) / box.height) * (bottom + 18)) / height); },
  });
  return [key(...KINDS.filter(([name]) => shown[name])), asked.element, e.note && el("p", { class: "over" }, e.note)];
}

function say(r, n) {
  const name = `stream ${n + 1}, due at ${ms(r.due)}`;
  if (r.how === "refused") return `${name}: refused after ${ms(r.end - r.due)}`;
  if (!r.tokens.length) return `${name}: no token came until ${ms(r.end)}`;
  const longest = Math.max(...r.stalls.map((k) => r.tokens[k + 1] - r.tokens[k]));
  const stalls = r.stalls.length ? `; ${r.stalls.length} stall${r.stalls.length > 1 ? "s" : ""}, the longest ${ms(longest)}` : "";
  const paced = r.tpot == null ? "" : `, ${r.tokens.length - 1} more at TPOT ${ms(r.tpot)}`;
  return `${name}: TTFT ${ms(r.ttft)}${paced}${stalls}, ${r.how === "failed" ? `broken off after ${r.tokens.length} tokens` : "finished"} at ${ms(r.end)}`;
}

/** The same as a table. */
export const tokenTable = (e) => [["stream", `due, ${e.unit}`, "TTFT", "TPOT", "tokens", "stalls", "how"],
  e.rows.map((r, n) => [n + 1, number(r.due), r.ttft == null ? "never" : number(r.ttft), r.tpot == null ? "–" : number(r.tpot), r.tokens.length, r.stalls.length, r.how])];
