// The bench: a prediction first, then a measurement of one's own service, live; runs are kept, and two can be compared.
import { benchForm } from "./bench_form.js";
import { where } from "./card.js";
import { cameTo, numbers, shortly } from "./bench_numbers.js";
import { $, el, patch, ticks } from "./dom.js";
import { picture, table } from "./pictures.js";
import { ms } from "./units.js";

const STATES = {
  written: "written down, not measured", measured: "measured", stub: "still a stub", no_start: "did not start", no_answer: "no answer",
  crashed: "ended in the middle", stopped: "stopped", lab_error: "lab error",
};
const LIVE_ROWS = 1000; // that are drawn while it runs
const time = (at) => new Date(at).toLocaleTimeString("en-GB");

/** What a row `[due, ended, status, first token]` is for the picture: the model's time is taken to be the end of an answer. */
export function rowsOf(run) {
  const model = (run.kind === "batch" ? run.plan.batch_base_seconds : run.plan.inference_seconds) * 1000;
  const began = (due, end, first) => (run.kind === "stream" ? first ?? end : Math.max(due, end - model));
  const how = (status) => (status === 200 ? "answered" : status === 429 || status === 503 ? "refused" : "failed");
  return run.rows.map(([due, end, status, first]) => ({ label: "", wait: due, work: began(due, end, first), end, how: how(status), status }));
}

let form = null;
const place = el("div", { class: "bench" });
const result = el("div", { class: "results" });

/** The view; it is built once, so that what is being typed stays. */
export function bench(store, actions) {
  if (!form) {
    form = benchForm(store.bench_form, actions);
    place.append(el("p", { class: "over" }, "The bench"), el("h1", {}, "First write down what you expect, then measure"),
      el("div", { class: "sides" }, form.element, result));
  }
  return place;
}

/** Bring what is measured into view, where its head is not: it begins beside the head of the form, or below it. */
export function showResult() {
  const { top } = result.getBoundingClientRect();
  if (top < 0 || top > innerHeight - 200) result.scrollIntoView();
}

export const fill = (wish) => form?.fill(wish);

/** Show what is new: what runs, the chosen run, the list. */
export function updateBench(store, actions) {
  if (!form) return;
  form.busy(!store.connected ? "Not connected." : store.bench ? "A measurement is running." : store.running ? "Checkpoints are being judged: wait for their end, or stop them." : "");
  const { bench: live, shown, other, kept } = store;
  const now = live ? [live.name, live.phase, live.rows.length, live.answered, live.refused, live.failed] : null;
  patch(result, [now, shown?.name, shown?.state, shown?.explained, other?.name, kept?.map((k) => [k.name, k.state, k.explained])], () => [
    live ? running(live, actions) : shown ? record(store, shown, actions) : el("p", { class: "note" }, "Nothing is measured yet. Your service runs on a real uvicorn, from a copy of your files. The load comes from the generator of the checkpoints."),
    !live && shown && other ? compared(store, shown, other) : null,
    list(store, actions)]);
}

function running(live, actions) {
  const count = live.answered + live.refused + live.failed;
  const words = live.phase === "starting" ? "Starts your service" : `${live.answered} answered${live.of ? ` of ${live.of}` : ""}${live.refused ? `, ${live.refused} refused` : ""}${live.failed ? `, ${live.failed} without a good answer` : ""}`;
  const rows = rowsOf({ ...live, rows: live.rows.slice(0, LIVE_ROWS) }).sort((a, b) => a.wait - b.wait);
  return el("article", { class: "card", "aria-labelledby": "bench-title" },
    el("header", {}, el("div", { class: "row" }, el("h2", { id: "bench-title" }, live.words), el("span", { class: "chip verdict running" }, live.phase),
      el("button", { class: "btn", "data-k": "bench-stop", onclick: actions.stopBench }, "Stop")), el("p", { class: "big" }, words)),
    count ? picture({ kind: "timeline", title: "", rows, unit: "ms", left_out: count - rows.length, inside: live.kind === "stream" ? "tokens came" : undefined }) : null);
}

function record(store, run, actions) {
  const good = run.state === "measured";
  const { plan } = run, m = run.measured;
  return el("article", { class: "card", "aria-labelledby": "bench-title", "data-run": run.name },
    el("header", {}, el("div", { class: "row" }, el("h2", { id: "bench-title" }, run.words), el("span", { class: `chip verdict ${good ? "passed" : run.state === "stub" ? "not_started" : "failed"}` }, STATES[run.state]), el("span", { class: "over" }, time(run.written_at)))),
    el("div", { class: "guesses" }, store.bench_form.asked[run.kind][plan.load].filter((name) => run.predicted[name] != null).map((name) => guess(store, name, run.predicted[name], m))),
    run.said || run.where ? el("dl", { class: "fields" },
      run.said ? [el("dt", {}, good ? "One failed" : "Why"), el("dd", {}, ticks(run.said))] : null,
      run.where ? [el("dt", {}, "Your line"), el("dd", {}, where(store, { where: run.where, verdict: "failed" }))] : null) : null,
    run.machine.busy ? el("p", { class: "note bad busy" }, `This machine was busy: ${run.machine.busy}. Times are too long, and rates too low: measure again when it is quiet.`) : null,
    m ? numbers(run) : null,
    drawn(run).map((one) => picture(one)),
    lag(m), explanation(run, actions));
}

const requests = (run) => ({ kind: "timeline", title: "Requests", rows: rowsOf(run), unit: "ms", left_out: run.left_out, note: `The ${run.plan.inference_seconds} s of the model are drawn at the end of each answer. The time before them was waiting.` });

/** The pictures of a run: of streams the server has made them, of single answers they are made of the rows. */
const drawn = (run) => (run.kind === "answer" ? [run.rows.length && requests(run), run.measured?.histogram.count && run.measured.histogram].filter(Boolean) : run.pictures);

const lag = (m) => (m?.lag_p99_ms > 20 ? el("p", { class: "note bad" }, `The load generator itself was late, by ${ms(m.lag_p99_ms)} for one request of a hundred. This machine is too busy for this load: the latencies shown are too high.`) : null);

/** A prediction beside its measurement, and how far it was off, in percent of the measurement. */
function guess(store, name, predicted, m) {
  const measured = m?.[name], never = m?.never?.includes(name);
  const most = Math.max(predicted, measured ?? 0, m?.law?.[name] ?? 0) || 1;
  const row = (label, value, kind) => [el("span", {}, label), el("progress", { class: kind, max: most, value: value ?? 0, "aria-label": `${label}: ${shortly(value)}` }), el("b", {}, shortly(value))];
  return el("section", { class: "guess" }, el("h3", {}, store.bench_form.quantities[name]), el("div", { class: "bars" }, row("predicted", predicted, "guessed"), row("measured", measured, "seen"), m?.law?.[name] != null ? row("the law", m.law[name], "by-law") : []), el("p", { class: "error" }, never ? "It is infinite: too many streams failed." : off(predicted, measured)));
}

export function off(predicted, measured) {
  if (measured == null) return "There is no measurement.";
  if (!measured) return predicted ? "It was 0." : "Exactly.";
  const percent = ((predicted - measured) / measured) * 100;
  if (Math.abs(percent) < 0.5) return "Your prediction is right, to within 1 %.";
  return `Your prediction was ${Number(Math.abs(percent).toPrecision(2)).toLocaleString("en-GB")} % too ${percent > 0 ? "high" : "low"}.`;
}

function explanation(run, actions) {
  const field = el("textarea", { id: "explained", rows: 2, maxlength: 1000, "data-k": "explained" }, run.explained);
  return el("div", { class: "fig explain" }, el("label", { for: "explained" }, "Why did you get this result? Write one sentence for your journal"), field,
    el("button", { class: "btn", "data-k": "explain", onclick: () => actions.explain(run.name, field.value) }, run.explained ? "Write it down again" : "Write it down"));
}

function compared(store, one, two) {
  const [a, b] = [one, two].sort((x, y) => x.name.localeCompare(y.name)); // the change is from the earlier to the later
  const names = Object.keys(store.bench_form.quantities).filter((name) => a.measured[name] != null || b.measured[name] != null);
  const change = (x, y) => (x && y ? `${y >= x ? "+" : "−"}${Math.round(Math.abs(y / x - 1) * 100)} %` : "–");
  const until = Math.max(...[a, b].flatMap((run) => run.rows.map((row) => row[1])));
  return el("article", { class: "card", "aria-labelledby": "compared-title" }, el("header", {}, el("h2", { id: "compared-title" }, "Two runs, on one scale")),
    el("div", { class: "fig" }, table(["", time(a.written_at), time(b.written_at), "change"], [["plan", a.words, b.words, ""], ...names.map((name) => [store.bench_form.quantities[name], shortly(a.measured[name]), shortly(b.measured[name]), change(a.measured[name], b.measured[name])])])),
    [a, b].map((run) => ({ run, one: drawn(run)[0] })).filter(({ one }) => one).map(({ run, one }) => picture({ ...one, title: `${time(run.written_at)}: ${run.words}` }, { until })));
}

function list(store, actions) {
  const runs = [...(store.kept ?? [])].reverse();
  if (!runs.length) return null;
  const open = (run) => el("button", { class: "btn quiet", "data-k": `run-${run.name}`, "aria-current": run.name === store.shown?.name ? "true" : null, onclick: () => actions.showRun(run.name) }, time(run.written_at));
  const both = (run) => (store.shown?.measured && run.measured && run.name !== store.shown.name ? el("button", { class: "btn quiet", "data-k": `with-${run.name}`, "aria-pressed": String(run.name === store.other?.name), onclick: () => actions.compare(run.name) }, "Compare") : "");
  return el("section", { class: "kept" }, el("h2", {}, "Kept runs"), table(["", "plan", "result", ""], runs.map((run) => [open(run), run.words, (run.measured ? cameTo(run) : STATES[run.state]) + (run.machine.busy ? ` (busy: ${run.machine.busy})` : ""), both(run)])));
}

export const benchLink = (store, actions) => el("button", { class: "btn quiet bench-link", "data-k": "bench", "aria-current": store.view === "bench" ? "true" : null, onclick: () => actions.view(store.view === "bench" ? "checkpoint" : "bench") },
  store.view === "bench" ? "Back to the checkpoints " : "The bench ", el("kbd", {}, "b"));

export const benchTitle = (store) => (store.bench ? `Measuring ${store.bench.plan.path}` : null);
export const focusPrediction = () => $("predicted")?.querySelector("input")?.focus();
