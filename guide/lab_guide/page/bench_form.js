// The bench's form: endpoint, load, workers, admission, and the prediction, without which nothing is measured.
import { el } from "./dom.js";

const PATHS = { "/predict": "awaited: the loop serves others meanwhile", "/predict/threaded": "a thread of the pool for each call", "/predict/blocking": "holds the event loop" };
const LOADS = { burst: "all at once", closed: "closed loop", open: "open loop" };
const ABOUT = {
  burst: "Each connection sends one request, all in the same moment.",
  closed: "Each user sends the next request when the last one was answered.",
  open: "Requests come at random times, however slowly they are answered. Latency counts from when a request was due.",
};
const FIELDS = {
  connections: ["users", 60, { min: 1, max: 500, step: 1 }, ["burst", "closed"]],
  rate: ["requests per second", 50, { min: 1, max: 2000, step: "any" }, ["open"]],
  seconds: ["seconds", 5, { min: 0.5, max: 60, step: "any" }, ["closed", "open"]],
  workers: ["workers", 1, { min: 1, max: 8, step: 1 }],
  inference_seconds: ["model, seconds", 0.1, { min: 0, max: 5, step: "any" }],
};
const LIMITS = { max_in_flight: ["max_in_flight", { min: 1, max: 10000, step: 1 }], max_queue: ["max_queue", { min: 0, max: 10000, step: 1 }] };

/** The form with `fill(wish)`, which puts a plan into it, and `busy(why)`, which says why it cannot measure now. */
export function benchForm({ quantities, asked }, actions) {
  let cell = "";
  const input = (id, value, limits) => el("input", { id, name: id, type: "number", value, ...limits, required: value != null && value !== "" });
  const field = (id, label, made) => el("label", { class: "field", for: id }, label, made);
  const choices = (name, words, about) => Object.entries(words).map(([value, text], n) => el("label", { class: "choice" },
    el("input", { type: "radio", name, value, checked: n === 0 }), el("span", {}, about ? el("code", {}, value) : text, about && el("small", {}, text))));
  const fields = Object.entries(FIELDS).map(([id, [label, value, limits]]) => field(id, label, input(id, value, limits)));
  const limits = Object.entries(LIMITS).map(([id, [label, range]]) => field(id, label, input(id, "", range)));
  const about = el("p", { class: "over" });
  const predicted = el("div", { id: "predicted", class: "fields-row" });
  const said = el("p", { class: "note bad", role: "alert", hidden: true });
  const why = el("p", { class: "over", role: "status" });
  const measure = el("button", { class: "btn main", type: "submit", "data-k": "measure" }, "Measure");
  const load = () => form.elements.load.value;
  const form = el("form", { class: "bench-form", onsubmit: submit, novalidate: true, oninput: () => { said.hidden = true; } },
    el("fieldset", {}, el("legend", {}, "Endpoint"), choices("path", PATHS, true)),
    el("fieldset", { onchange: shape }, el("legend", {}, "Load"), el("div", { class: "segments" }, choices("load", LOADS)), about, el("div", { class: "fields-row" }, fields)),
    el("details", {}, el("summary", {}, "Admission control: lifted, as in the checkpoints"), el("p", { class: "over" }, "With a number here the service refuses what is above it."), el("div", { class: "fields-row" }, limits)),
    el("fieldset", { class: "prediction" }, el("legend", {}, "Your prediction"), el("p", { class: "over" }, "It is kept with the run, before your service starts. One number is enough."), predicted),
    said, el("div", { class: "actions" }, measure, why));

  let shaped = null;
  function shape() { // only for another load: a field that has just been clicked must not be replaced under its focus
    if (shaped === load()) return;
    shaped = load();
    for (const [id, [, , , loads]] of Object.entries(FIELDS)) form.elements[id].closest(".field").hidden = Boolean(loads) && !loads.includes(load());
    about.textContent = ABOUT[load()];
    const typed = Object.fromEntries([...predicted.querySelectorAll("input")].map((one) => [one.name, one.value]));
    predicted.replaceChildren(...asked[load()].map((name) => field(name, quantities[name], el("input", { id: name, name, type: "number", min: 0, step: "any", value: typed[name] ?? "" }))));
  }
  async function submit(event) {
    event.preventDefault();
    const value = (id) => (form.elements[id].value === "" ? null : Number(form.elements[id].value));
    const plan = { path: form.elements.path.value, load: load() };
    for (const id of [...Object.keys(FIELDS), ...Object.keys(LIMITS)]) if (value(id) != null) plan[id] = value(id);
    const guesses = Object.fromEntries(asked[load()].map((name) => [name, value(name)]));
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
      for (const [id, value] of Object.entries(wish.plan)) if (form.elements[id]) form.elements[id].value = value ?? "";
      shape();
      for (const [name, value] of Object.entries(wish.predicted ?? {})) if (form.elements[name]) form.elements[name].value = value ?? "";
    },
    busy(reason) {
      measure.disabled = Boolean(reason);
      why.textContent = reason;
    },
  };
}
