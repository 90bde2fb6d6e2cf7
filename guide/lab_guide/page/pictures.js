// Pictures of the evidence: each has a sentence, keys that ask it, and the same as a table.
import { batchTable, batches } from "./batches.js";
import { goodput, hockeyStick, law, overload } from "./curves.js";
import { el } from "./dom.js";
import { histogram } from "./histogram.js";
import { fit } from "./svg.js";
import { timeline } from "./timeline.js";
import { tokenTable, tokens } from "./tokens.js";
import { ms, number } from "./units.js";

const DRAWN = { timeline, histogram, curve: hockeyStick, overload, tokens, goodput, batches, law };

const TABLES = {
  table: (e) => [e.columns, e.rows],
  timeline: (e) => [["request", `due, ${e.unit}`, "in the model from", "ended", "how"], e.rows.map((r, n) => [r.label || n + 1, number(r.wait), number(r.work), number(r.end), r.how ?? "answered"])],
  histogram: (e) => [[`from, ${e.unit}`, `to, ${e.unit}`, "requests"], e.buckets.map((b) => [number(b.from), number(b.to), b.count])],
  curve: (e) => [["users", "requests/s", "p95, ms"], e.points.map((p) => [p.users, number(p.requests_per_second), number(p.p95_ms)])],
  tokens: tokenTable,
  batches: batchTable,
  law: (e) => [["requests/s", "batch", "by the law", "mean latency", "by the law"], e.points.map((p) => { const by = e.law.find((at) => at.rate === p.rate); return [number(p.rate), ...[p.size, by.size].map((v) => v && Number(v.toFixed(2))), ...[p.mean_ms, by.mean_ms].map((v) => (v == null ? null : ms(v)))]; })],
  goodput: (e) => [["load", "sent/s", "finished/s", "goodput/s", "TTFT p95", "TPOT p95"], e.points.map((p) => [`${p.times} ×`, number(p.sent), number(p.finished), number(p.goodput), ...[p.ttft_p95_ms, p.tpot_p95_ms].map((v) => (v == null ? "never" : ms(v)))])],
  overload: (e) => [["load", "for, s", "sent/s", "goodput/s", "p95", "without: goodput/s", "without: p95"], e.points.map((p) => [
    `${p.times} ×`, p.lasted, number(p.sent), ...[p.limited, p.unlimited].flatMap((s) => [number(s.goodput), s.p95_ms == null ? `> ${ms(e.gave_up_ms)}` : ms(s.p95_ms)])])],
};

const AT_ONCE = 200; // rows of a table that is built before it is opened

/** A figure of one piece of evidence; null for what is no picture. `until` is the end of its time axis, in ms. */
export function picture(evidence, { until } = {}) {
  fit();
  const columns = TABLES[evidence.kind];
  if (!columns) return null;
  const drawn = DRAWN[evidence.kind]?.(evidence, until);
  return el("figure", { class: "fig" }, evidence.title && el("h3", {}, evidence.title), drawn, drawn ? same(() => table(...columns(evidence)), evidence) : table(...columns(evidence)));
}

function same(build, evidence) {
  const details = el("details", {}, el("summary", {}, "The same as a table"));
  if ((evidence.rows?.length ?? 0) <= AT_ONCE) details.append(build());
  else details.addEventListener("toggle", () => details.append(build()), { once: true });
  return details;
}

const MARKED = /^<- /; // what the last column of a row says of the one before it

export function table(columns, rows) {
  const cells = (tag, values) => el("tr", {}, values.map((value) => el(tag, { class: MARKED.test(value) && "marked" }, value instanceof Node ? value : String(value ?? "–").replace(MARKED, "← "))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": columns.join(", ") },
    el("table", {}, el("thead", {}, cells("th", columns)), el("tbody", {}, rows.map((row) => cells("td", row)))));
}
