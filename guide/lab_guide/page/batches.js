// Who travelled in which batch: the wait of each request, and the call of the model that it shared.
import { el } from "./dom.js";
import { key, readable } from "./readable.js";
import { WIDTH, short, svg, text } from "./svg.js";
import { ms, number, steps } from "./units.js";

const LINE = 11; // height of a number
const RIGHT = 60; // room for the size of the last batch

export function batches(e, until) {
  const all = e.batches, count = all.reduce((sum, b) => sum + b.due.length, 0);
  const last = all.reduce((most, b) => Math.max(most, b.ended), 0) || 1, end = until || last, scale = (WIDTH - RIGHT) / end;
  const height = Math.max(3, Math.min(12, 380 / (count + all.length))), between = height; // a row of room after each batch
  let y = 0, waits = "", named = -LINE;
  const tops = [], marks = [];
  const calls = all.map((b, n) => {
    tops.push(y);
    b.due.forEach((due, row) => { waits += `M${short(due * scale)} ${short(y + row * height)}h${short(Math.max(0, (b.began - due) * scale))}v${short(height * 0.78)}H${short(due * scale)}z`; });
    const tall = b.due.length * height;
    if (y + tall / 2 - named >= LINE) { // else it would stand in the one above
      named = y + tall / 2;
      marks.push(text(b.due.length, { x: b.ended * scale + 4, y: named + 4 }));
    }
    const call = svg("rect", { class: "bar", "data-n": n, x: b.began * scale, width: Math.max(2, (b.ended - b.began) * scale), y, height: tall });
    y += tall + between;
    return call;
  });
  const grid = steps(end).map((at) => svg("line", { class: "grid", x1: at * scale, x2: at * scale, y1: 0, y2: y }));
  const drawing = svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${y + 18}` }, ...grid, svg("path", { class: "waiting", d: waits }), ...calls, ...marks, ...steps(end).map((at) => text(at || `0 ${e.unit}`, { x: at * scale, y: y + 14 })));
  const asked = readable(drawing, {
    sentence: `${all.length} batches with ${count} requests, ${number(count / (all.length || 1))} on average.${e.left_out ? ` ${e.left_out} more are behind them.` : ""}`,
    count: all.length,
    say: (n) => { const b = all[n]; return `batch ${n + 1}: ${b.due.length} request${b.due.length > 1 ? "s" : ""}, in the model from ${ms(b.began)} to ${ms(b.ended)}; the first had waited ${ms(Math.max(0, b.began - b.due[0]))}, the last ${ms(Math.max(0, b.began - b.due.at(-1)))}`; },
    mark: (n) => calls.forEach((call, one) => call.classList.toggle("chosen", one === n)),
    at: (event) => { const box = drawing.getBoundingClientRect(); const at = ((event.clientY - box.top) / box.height) * (y + 18); return tops.findLastIndex((top) => top <= at); },
  });
  return [key(["waiting", "waiting"], ["working", "in the model together, with their number"]), asked.element, e.note && el("p", { class: "over" }, e.note)];
}

/** The same as a table. */
export const batchTable = (e) => [["batch", "requests", `in the model from, ${e.unit}`, "ended", "its first waited"], e.batches.map((b, n) => [n + 1, b.due.length, number(b.began), number(b.ended), number(Math.max(0, b.began - b.due[0]))])];
