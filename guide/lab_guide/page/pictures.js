// Pictures of the evidence, each with the same in words.
import { el } from "./dom.js";

export function picture(evidence) {
  const rows = tables[evidence.kind];
  return el("figure", { class: "fig" }, el("h3", {}, evidence.title), rows ? table(...rows(evidence)) : null);
}

export function table(columns, rows) {
  const cells = (tag, values) => el("tr", {}, values.map((value) => el(tag, {}, String(value ?? "–"))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": columns.join(", ") },
    el("table", {}, el("thead", {}, cells("th", columns)), el("tbody", {}, rows.map((row) => cells("td", row)))));
}

const ms = (value) => `${Number(value.toFixed(1))}`;
const tables = {
  table: (e) => [e.columns, e.rows],
  timeline: (e) => [["request", `waits from, ${e.unit}`, "worked on from", "answered"], e.rows.map((r) => [r.label, ms(r.wait), ms(r.work), ms(r.end)])],
  histogram: (e) => [[`from, ${e.unit}`, "to", "requests"], e.buckets.map((b) => [ms(b.from), ms(b.to), b.count])],
  curve: (e) => [["users", "requests/s", "p95, ms"], e.points.map((p) => [p.users, ms(p.requests_per_second), ms(p.p95_ms)])],
};
