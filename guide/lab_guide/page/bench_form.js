// The bench's form: endpoint, load, workers, settings, and the prediction, without which nothing is measured.
import { el } from "./dom.js";

const PATHS = {
  "/predict": ["answer", "awaited: the loop serves others meanwhile"],
  "/predict/threaded": ["answer", "a thread of the pool for each call"],
  "/predict/blocking": ["answer", "holds the event loop"],
  "/predict/batched": ["batch", "shares a call of the model with others"],
  "/generate": ["stream", "streams tokens, from one of a few slots"],
};
const LOADS = { burst: "all at once", closed: "closed loop", open: "open loop", sweep: "over load" };
const ABOUT = {
  burst: "Each connection sends one request, all in the same moment.",
  closed: "Each user sends its next request as soon as the last one is answered.",
  open: "Requests come at random times, however slowly they are answered. Latency counts from when a request was due.",
  sweep: { stream: "Open loops one after the other, each for so many seconds: half of what the slots can decode, all of it, and twice as much.", batch: "Open loops one after the other, each for so many seconds: a tenth of what full batches can serve, 40 and 80 % of it. The law is drawn beside the measurement." },
};
const whole = (min, max) => ({ min, max, step: 1 }), any = (min, max) => ({ min, max, step: "any" });
/** Label, value (or one for each kind of path), limits, and for which loads and kinds; without those, for all. */
const FIELDS = {
  connections: ["users", { answer: 60, stream: 8, batch: 16 }, whole(1, 500), { loads: ["burst", "closed"] }],
  rate: ["requests per second", { answer: 50, stream: 4, batch: 32 }, any(0, 2000), { loads: ["open"] }],
  seconds: ["seconds", 5, any(0.5, 60), { loads: ["closed", "open", "sweep"] }],
  workers: ["workers", 1, whole(1, 8), { kinds: ["answer"] }],
  inference_seconds: ["model, seconds", 0.1, any(0, 5), { kinds: ["answer"] }],
  max_tokens: ["tokens", 16, whole(1, 512), { kinds: ["stream"] }],
  ttft_ms: ["TTFT limit, ms", 700, any(0, 60000), { kinds: ["stream"] }],
  tpot_ms: ["TPOT limit, ms", 40, any(0, 60000), { kinds: ["stream"] }],
};
const SETTINGS = [
  ["answer batch", "Admission control: lifted, as in the checkpoints", "With a number here the service refuses requests above it.",
    { max_in_flight: ["max_in_flight", "", whole(1, 10000)], max_queue: ["max_queue", "", whole(0, 10000)] }],
  ["batch", "The batcher and its model", "A call takes base + n × item seconds. A batch leaves when the model is free, and the batch is full or its first request has waited for the window.",
    { max_batch: ["max_batch", 8, whole(1, 500)], batch_window: ["batch_window, seconds", 0.005, any(0, 5)], batch_base_seconds: ["base, seconds", 0.08, any(0, 5)], batch_item_seconds: ["item, seconds", 0.0025, any(0, 1)] }],
  ["stream", "The decoder: slots, queue, seconds", "A stream that finds no free slot waits in the queue. It is refused after queue_seconds, or at once if the queue is full.",
    { decoder_slots: ["decoder_slots", 4, whole(1, 500)], decoder_queue: ["decoder_queue", 8, whole(0, 10000)], queue_seconds: ["queue_seconds", 1, any(0, 60)], prefill_seconds: ["prefill_seconds", 0.2, any(0, 5)], token_seconds: ["token_seconds", 0.02, any(0, 1)] }],
];

/** The form with `fill(wish)`, which puts a plan into it, and `busy(why)`, which says why it cannot measure now. */
export function benchForm({ quantities, asked }, actions) {
  let cell = "";
  const of = (value, kind) => (typeof value === "object" ? value[kind] : value);
  const input = (id, value, limits) => el("input", { id, name: id, type: "number", value, ...limits, required: value !== "" });
  const field = (id, label, made) => el("label", { class: "field", for: id }, label, made);
  const fields = (all) => Object.entries(all).map(([id, [label, value, limits]]) => field(id, label, input(id, of(value, "answer"), limits)));
  const choice = (name, value, n, ...words) => el("label", { class: "choice" }, el("input", { type: "radio", name, value, checked: n === 0 }), el("span", {}, ...words));
  const about = el("p", { class: "over" });
  const predicted = el("div", { id: "predicted", class: "fields-row" });
  const said = el("p", { class: "note bad", role: "alert", hidden: true });
  const why = el("p", { class: "over", role: "status" });
  const measure = el("button", { class: "btn main", type: "submit", "data-k": "measure" }, "Measure");
  const load = () => form.elements.load.value;
  const kind = () => PATHS[form.elements.path.value][0];
  const settings = SETTINGS.map(([of, summary, words, all]) => el("details", { "data-kind": of }, el("summary", {}, summary), el("p", { class: "over" }, words), el("div", { class: "fields-row" }, fields(all))));
  const form = el("form", { class: "bench-form", onsubmit: submit, novalidate: true, oninput: () => { said.hidden = true; } },
    el("fieldset", { onchange: shape }, el("legend", {}, "Endpoint"), Object.entries(PATHS).map(([path, [, words]], n) => choice("path", path, n, el("code", {}, path), el("small", {}, words)))),
    el("fieldset", { onchange: shape }, el("legend", {}, "Load"), el("div", { class: "segments" }, Object.entries(LOADS).map(([name, words], n) => choice("load", name, n, words))), about, el("div", { class: "fields-row" }, fields(FIELDS))),
    settings,
    el("fieldset", { class: "prediction" }, el("legend", {}, "Your prediction"), el("p", { class: "over" }, "It is kept with the run, before your service starts. One number is enough."), predicted),
    said, el("div", { class: "actions" }, measure, why));

  let shaped = [];
  function shape() { // only for another load or kind: a field that has just been clicked must not be replaced under its focus
    const before = shaped[0] ?? "answer", now = kind();
    for (const one of form.elements.load) one.closest(".choice").hidden = !asked[now][one.value];
    if (!asked[now][load()]) form.elements.load.value = "open";
    if (shaped[0] === now && shaped[1] === load()) return;
    shaped = [now, load()];
    for (const [id, [, value, , { loads, kinds }]] of Object.entries(FIELDS)) {
      const one = form.elements[id];
      one.closest(".field").hidden = Boolean((loads && !loads.includes(load())) || (kinds && !kinds.includes(now)));
      if (one.value === String(of(value, before))) one.value = of(value, now); // what was typed stays
    }
    for (const one of settings) one.hidden = !one.dataset.kind.split(" ").includes(now);
    about.textContent = of(ABOUT[load()], now);
    const typed = Object.fromEntries([...predicted.querySelectorAll("input")].map((one) => [one.name, one.value]));
    predicted.replaceChildren(...asked[now][load()].map((name) => field(name, quantities[name], el("input", { id: name, name, type: "number", min: 0, step: "any", value: typed[name] ?? "" }))));
  }
  async function submit(event) {
    event.preventDefault();
    const value = (id) => (form.elements[id].value === "" ? null : Number(form.elements[id].value));
    const plan = { path: form.elements.path.value, load: load() };
    const used = [...Object.keys(FIELDS), ...SETTINGS.flatMap(([, , , all]) => Object.keys(all))].filter((id) => !form.elements[id].closest("[hidden]"));
    for (const id of used) if (value(id) != null) plan[id] = value(id);
    const guesses = Object.fromEntries(asked[kind()][load()].map((name) => [name, value(name)]));
    try {
      await actions.measure({ plan, predicted: guesses, cell });
      cell = "";
      for (const one of predicted.querySelectorAll("input")) one.value = ""; // the next run has a prediction of its own
    } catch (error) {
      said.textContent = error.message;
      said.hidden = false;
    }
  }
  shape();
  return {
    element: form,
    fill(wish) {
      cell = wish.cell ?? "";
      form.elements.path.value = wish.plan.path;
      form.elements.load.value = wish.plan.load;
      shape();
      for (const [id, value] of Object.entries(wish.plan)) if (form.elements[id]) form.elements[id].value = value ?? "";
      for (const [name, value] of Object.entries(wish.predicted ?? {})) if (form.elements[name]) form.elements[name].value = value ?? "";
    },
    busy(reason) {
      measure.disabled = Boolean(reason);
      why.textContent = reason;
    },
  };
}
