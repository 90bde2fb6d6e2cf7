// The numbers of a measurement: of single answers, or of streams with the names that other tools have for them.
import { el } from "./dom.js";
import { table } from "./pictures.js";
import { ms } from "./units.js";

export const shortly = (value) => (value == null ? "–" : Number(value.toPrecision(3)).toLocaleString("en-GB"));
const time = (value) => (value == null ? "–" : ms(value));
const failures = (m) => Object.entries(m.failed).map(([words, n]) => `${n} × ${words}`).join(", ") || 0;
const QUANTILES = ["p50", "p95", "p99"];

/** What a run came to, in a few words. */
export const cameTo = ({ kind, measured: m }) => {
  if (kind === "batch" && m.points) return `batches of ${m.points.map((p) => shortly(p.size)).join(", ")}`;
  if (kind !== "stream") return `${shortly(m.per_second)} answers/s, p95 ${time(m.p95_ms)}`;
  if (m.points) return `goodput ${m.points.map((p) => shortly(p.goodput)).join(", ")}/s`;
  return `goodput ${shortly(m.goodput)}/s, TTFT p95 ${m.never.includes("ttft_p95_ms") ? "infinite" : time(m.ttft_p95_ms)}`;
};

export function numbers({ name, kind, plan, measured: m }) {
  if (kind !== "stream") {
    const more = m.points ? [[], []] : [[...QUANTILES, "answers/s"], [...QUANTILES.map((q) => time(m[`${q}_ms`])), shortly(m.per_second)]];
    return el("div", { class: "fig" }, table(["requests", "answered", "refused", "failed", ...more[0]], [[m.requests, m.answered, m.refused, failures(m), ...more[1]]]),
      plan.load !== "burst" && !m.points && el("p", { class: "over" }, `Rates are those of the ${plan.seconds} s of load: answers that come after it do not lower them.`),
      m.sizes && el("p", { class: "over" }, `Your service counts batches by size: ${Object.entries(m.sizes).map(([size, n]) => `${n} × ${size}`).join(", ")}.`),
      kind === "batch" && m.batch_mean === null && el("p", { class: "over" }, "GET /metrics does not say how large the batches were."));
  }
  const rates = m.tails ? [["finished/s", "goodput/s", "slots held"], [m.per_second, m.goodput, m.slots_held].map(shortly)] : [[], []];
  const value = (of, q) => (m.never.includes(`${of}_${q}_ms`) ? "infinite" : time(m.tails[of][q]));
  return el("div", { class: "fig" }, table(["streams", "finished", "refused", "failed", ...rates[0]], [[m.requests, m.answered, m.refused, failures(m), ...rates[1]]]),
    m.tails && table(["", ...QUANTILES], [["ttft", "TTFT: first token, from when it was due"], ["tpot", "TPOT: per token after the first, a mean for each stream"], ["itl", "ITL: all gaps between tokens, in one pool"]].map(([of, words]) => [words, ...QUANTILES.map((q) => value(of, q))])),
    m.ends && el("p", { class: "over" }, `Your service counts: ${Object.entries(m.ends).map(([name, n]) => `${n} ${name}`).join(", ")}.`),
    el("p", { class: "over" }, "Rates are over the time until the last stream had ended. A stream that failed has an infinite TTFT, if no token came, and an infinite TPOT: AIPerf calls such percentiles adj_, its plain ones and vLLM's leave failures out. AIPerf's inter_token_latency is the TPOT here, its inter_chunk_latency the ITL; vLLM's names are these. Both count TTFT from when a request was sent."),
    m.slots_held != null && el("p", { class: "over" }, "A slot is taken to be held for the prefill that is set, and from the first token to the last."),
    el("a", { class: "btn", href: `/bench/${name}/aiperf`, download: "profile_export.jsonl" }, "Records in AIPerf's form"));
}
