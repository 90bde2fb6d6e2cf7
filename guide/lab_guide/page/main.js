// The page's state, the events that change it, and the keys.
import { bench, benchLink, benchTitle, fill, focusPrediction, updateBench } from "./bench.js";
import { card } from "./card.js";
import { $, el, patch, ticks } from "./dom.js";
import { update as updateJournal } from "./journal.js";
import { lesson } from "./lesson.js";
import { isOpen, map, score } from "./map.js";
import { ask, listen, send } from "./server.js";
import { WORD, verdict } from "./verdicts.js";

const view = () => (location.hash === "#bench" ? "bench" : "checkpoint");
const store = { connected: false, hints: 0, changed: false, run: null, said: "", view: view(), bench: null, shown: null, other: null, kept: null };
const exercise = () => store.exercises.find((e) => e.ids.includes(store.chosen));
const ids = () => store.exercises.filter((e) => isOpen(store, e)).flatMap((e) => e.ids);

const actions = {
  choose(id) { choose(id); actions.view("checkpoint"); send("/choose", { checkpoint: id }).catch(failed); },
  all() { send("/run", { exercise: exercise().number }).catch(failed); },
  alone() { send("/run", { exercise: exercise().number, only: [store.chosen] }).catch(failed); },
  stop() { send("/stop").catch(failed); },
  hint() { store.hints += 1; render(); },
  next() { // the next one that has not passed, behind the chosen one at first
    const from = ids().indexOf(store.chosen);
    return [...ids().slice(from + 1), ...ids().slice(0, from)].find((id) => verdict(store, id) !== "passed");
  },
  note(text) { note(text); },
  view(name) { if (name !== store.view) location.hash = name === "bench" ? "#bench" : ""; },
  async measure(wish) { store.other = null; await send("/bench", wish); },
  stopBench() { send("/bench/stop").catch(failed); },
  showRun(name) { ask(`/bench/${name}`).then((run) => { Object.assign(store, { shown: run, other: null }); render(); }).catch(failed); },
  compare(name) {
    if (store.other?.name === name) { store.other = null; return render(); }
    ask(`/bench/${name}`).then((run) => { store.other = run; render(); }).catch(failed);
  },
  explain(name, text) { send("/bench/explain", { name, text }).then((brief) => { if (store.shown?.name === name) store.shown = { ...store.shown, ...brief }; kept(); }).catch(failed); },
  predict(wish) { actions.view("bench"); store.view = "bench"; render(); fill(wish); focusPrediction(); },
  reset() {
    if (!confirm(`Put the stub of ${store.chosen} back? Your version is kept in .lab/kept.`)) return;
    send("/reset", { checkpoint: store.chosen }).then((said) => note(said.join("\n"))).catch(failed);
  },
};

const note = (text) => { store.said = text; render(); };
const failed = (error) => note(error.message);

function choose(id) {
  if (id !== store.chosen) Object.assign(store, { chosen: id, hints: 0, said: "" });
  render();
}

const kept = () => ask("/bench").then((runs) => { store.kept = runs; if (!store.shown && runs.length && !store.bench) actions.showRun(runs.at(-1).name); render(); }).catch(failed);

function render() {
  if (!store.exercises) return;
  const benching = store.view === "bench";
  $("app").classList.toggle("benching", benching);
  const { results, chosen, running, changed, hash, run } = store;
  patch($("score"), results, () => score(store));
  patch($("map"), [results, chosen, running, changed, hash, run], () => map(store, actions.choose));
  patch($("bench-link"), store.view, () => benchLink(store, actions));
  patch($("status"), [store.connected, running, store.ended, changed, run?.seconds, exercise().number, store.bench?.name, cutOff()], status);
  patch($("notes"), [store.connected, store.ended, store.note, store.said], notes);
  if (benching) {
    patch($("content"), "bench", () => bench(store, actions));
    return updateBench(store, actions);
  }
  patch($("content"), [results[chosen], store.before[chosen]?.started, verdict(store, chosen), chosen, changed, hash, store.hints, actions.next(), exercise().steps.map((s) => s.passes.map((id) => verdict(store, id)))], () => card(store, actions));
  lesson(exercise(), chosen, actions).catch(() => {});
}

function status() {
  const [dot, words] = !store.connected ? ["off", "Not connected"]
    : store.bench ? ["run", benchTitle(store) + (store.changed ? ". Your saved files are judged afterwards" : "")]
    : store.running ? ["run", `Running ${store.running.only.join(", ") || `exercise ${store.running.exercise}`}`]
      : ["", store.changed ? "Saved" : "Watching your files"];
  const clock = store.last && new Date(store.last.started).toLocaleTimeString("en-GB");
  return [el("span", {}, el("span", { class: `dot ${dot}` }), words),
    clock && el("span", {}, `judged ${clock}, ${store.last.seconds.toFixed(1)} s${cutOff() ? ": not to its end" : ""}`), el("span", { class: "grow" }),
    store.running && el("button", { class: "btn", "data-k": "stop", onclick: actions.stop }, "Stop"),
    store.last && el("a", { class: "btn quiet", "data-k": "export", href: "/export", download: "lab.html" }, "Export"),
    el("button", { class: "btn", "data-k": "all", onclick: actions.all, disabled: !store.connected }, `Run exercise ${exercise().number} `, el("kbd", {}, "r"))];
}

/** A run that somebody else has begun: it goes on in a terminal, or was cut off there. */
const cutOff = () => Boolean(store.last && !store.last.finished && !store.running && !store.ended);

function notes() {
  const code = store.ended?.exit_code;
  return [
    !store.connected && el("p", { class: "note bad" }, ticks("Not connected: `uv run lab` starts the page's server again. This page shows the last results until then.")),
    store.note && el("p", { class: "note" }, ticks(store.note)),
    store.said && el("p", { class: "note" }, ticks(store.said)),
    store.ended?.output && el("div", { class: "note bad" }, el("p", {}, `pytest ended with exit code ${code} and left no results:`), el("pre", { tabindex: "0" }, store.ended.output)),
  ];
}

listen({
  state(told) {
    if (store.version && store.version !== told.version) return location.reload(); // another version of the page
    const chosen = store.chosen ?? told.chosen;
    for (const e of told.exercises) e.ids = e.checkpoints.map((c) => c.id);
    Object.assign(store, told, { chosen, connected: true, changed: false, run: null });
    if (store.view === "bench" || store.kept) kept();
    render();
  },
  bench(told) {
    if (told.name) store.bench = { ...told, rows: told.rows ?? [] };
    else if (store.bench) {
      store.bench.rows.push(...(told.rows ?? []));
      Object.assign(store.bench, { ...told, rows: store.bench.rows });
    }
    later();
  },
  measured(told) {
    store.bench = null;
    $("live").textContent = `The measurement has ended: ${told.said || "measured"}`;
    ask(`/bench/${told.name}`).then((run) => { store.shown = run; kept(); }).catch(failed);
  },
  journal(told) { updateJournal(told); },
  before(told) { store.before = { ...store.before, ...told }; },
  chosen(told) { choose(told.checkpoint); },
  note(told) { store.note = told.note; render(); },
  saved(told) { Object.assign(store, { changed: true, ended: null, said: "", results: { ...store.results, ...told.again } }); render(); },
  running(told) { Object.assign(store, { running: told, run: null, ended: null }); render(); },
  run(told) {
    const judged = told.exercises.flatMap((e) => e.checkpoints).filter((c) => c.verdict !== "not_run");
    const results = { ...store.results };
    for (const c of judged) results[c.id] = { ...c, hash: told.hash, started: told.started };
    Object.assign(store, { results, run: told, last: told, hash: told.hash, changed: false });
    render();
  },
  ended(told) {
    Object.assign(store, { ended: told, running: null, run: null, runs: told.runs });
    const mine = exercise().checkpoints.reduce((sum, c) => sum + (store.results[c.id]?.points ?? 0), 0);
    $("live").textContent = told.stopped ? "Stopped" : `Judged: ${mine} points in exercise ${exercise().number}. ${store.chosen} ${WORD[verdict(store, store.chosen)]}`;
    render();
  },
}, () => { store.connected = false; render(); });

let drawn = 0;
/** Draw soon: while it measures, the page must not take the cores from what is measured. */
function later() {
  clearTimeout(drawn);
  const due = 250 - (performance.now() % 250);
  drawn = setTimeout(render, due);
}

addEventListener("hashchange", () => { store.view = view(); if (store.view === "bench" && !store.kept) kept(); render(); });

// -- keys, theme ------------------------------------------------------------------------------------------------------

const go = (by) => { const id = ids()[ids().indexOf(store.chosen) + by]; if (id) actions.choose(id); };
const KEYS = { r: actions.all, c: actions.alone, j: () => go(1), k: () => go(-1), n: () => { const id = actions.next(); if (id) actions.choose(id); }, b: () => actions.view(store.view === "bench" ? "checkpoint" : "bench"), ...Object.fromEntries([..."1234567"].map((n) => [n, () => $("map").querySelector(`[data-k="e${n}"]`)?.click()])), h: () => $("hint")?.click(), o: () => $("editor")?.click(), "?": () => $("keys").showModal() };

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !store.exercises) return;
  if (KEYS[event.key] && (event.key === "?" || $("single-keys").checked)) { event.preventDefault(); KEYS[event.key](); }
});
$("single-keys").checked = localStorage.keys !== "off";
$("single-keys").addEventListener("change", (event) => { localStorage.keys = event.target.checked ? "on" : "off"; });
$("keys-button").addEventListener("click", () => $("keys").showModal());
const theme = (name) => { if (name) document.documentElement.dataset.theme = localStorage.theme = name; };
theme(localStorage.theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  theme(dark === "dark" ? "light" : "dark");
  dispatchEvent(new Event("theme"));
});
