// The page's state, the events that change it, and the keys.
import { bench, benchLink, benchTitle, fill, focusPrediction, showResult, updateBench } from "./bench.js";
import { card } from "./card.js";
import { $, el, patch, ticks } from "./dom.js";
import { update as updateJournal } from "./journal.js";
import { lesson, toLesson } from "./lesson.js";
import { isOpen, map, score } from "./map.js";
import { ask, listen, send } from "./server.js";
import { doing } from "./status.js";
import { WORD, mistake, verdict } from "./verdicts.js";

const view = () => (location.hash === "#bench" ? "bench" : "checkpoint");
const store = { connected: false, hints: {}, changed: false, ending: false, run: null, said: "", view: view(), bench: null, shown: null, other: null, kept: null };
const exercise = () => store.exercises.find((e) => e.ids.includes(store.chosen));
const ids = () => store.exercises.filter((e) => isOpen(store, e)).flatMap((e) => e.ids);

const actions = {
  choose(id) { choose(id); actions.view("checkpoint"); send("/choose", { checkpoint: id }).catch(failed); },
  all() { send("/run", { exercise: exercise().number }).catch(failed); },
  alone() { send("/run", { exercise: exercise().number, only: [store.chosen] }).catch(failed); },
  stop() { send("/stop").catch(failed); },
  hint() { // of a failure: another one begins with none
    const { chosen, hints, results } = store, of = mistake(results[chosen]);
    store.hints = { ...hints, [chosen]: { of, shown: (hints[chosen]?.of === of ? hints[chosen].shown : 0) + 1 } };
    render();
  },
  next() { // the next one that has not passed, behind the chosen one at first
    const from = ids().indexOf(store.chosen);
    return [...ids().slice(from + 1), ...ids().slice(0, from)].find((id) => verdict(store, id) !== "passed");
  },
  note(text) { note(text); },
  view(name) { if (name !== store.view) location.hash = name === "bench" ? "#bench" : ""; },
  async measure(wish) { store.other = null; await send("/bench", wish); showResult(); },
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
  if (id !== store.chosen) Object.assign(store, { chosen: id, said: "" });
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
  patch($("status"), [doing(store), exercise().number, benching, store.connected, running, Boolean(store.last)], status);
  patch($("notes"), [store.connected, store.ended, store.note, store.said], notes);
  if (benching) {
    patch($("content"), "bench", () => bench(store, actions));
    return updateBench(store, actions);
  }
  patch($("content"), [results[chosen], store.before[chosen]?.started, verdict(store, chosen), chosen, changed, hash, store.hints[chosen], actions.next(), exercise().steps.map((s) => s.passes.map((id) => verdict(store, id)))], () => card(store, actions));
  lesson(exercise(), chosen, actions).catch(() => {});
}

function status() {
  const { dot, words, more } = doing(store);
  return [el("p", { class: "doing" }, el("span", {}, el("span", { class: `dot ${dot}` }), words), more && el("span", {}, more)), el("div", { class: "actions" },
    store.view === "bench" ? null : el("button", { class: "btn to-lesson", "data-k": "lesson", onclick: toLesson }, "Lesson ", el("kbd", {}, "l")),
    store.running && el("button", { class: "btn", "data-k": "stop", onclick: actions.stop }, "Stop"),
    store.last && el("a", { class: "btn quiet", "data-k": "export", href: "/export", download: "lab.html" }, "Export"),
    el("button", { class: "btn", "data-k": "all", onclick: actions.all, disabled: !store.connected }, `Run exercise ${exercise().number} `, el("kbd", {}, "r")))];
}

function notes() {
  const code = store.ended?.exit_code;
  return [
    !store.connected && el("p", { class: "note bad" }, ticks("Not connected: `uv run lab` starts the page's server again. This page shows the last results until then.")),
    store.note && el("p", { class: "note" }, ticks(store.note)),
    store.said && el("p", { class: "note" }, ticks(store.said)),
    store.ended?.output && el("div", { class: "note bad" }, el("p", {}, `pytest ended with exit code ${code} and left no results:`), el("pre", { tabindex: "0" }, store.ended.output)),
  ];
}

const checkpoints = (run) => run.exercises.flatMap((e) => e.checkpoints);
const judgedOf = (run) => checkpoints(run).filter((c) => c.verdict !== "not_run");
const brief = (run) => ({ ...run, ids: checkpoints(run).map((c) => c.id), judged: judgedOf(run).length });

listen({
  state(told) {
    if (store.version && store.version !== told.version) return location.reload(); // another version of the page
    const chosen = store.chosen ?? told.chosen;
    for (const e of told.exercises) e.ids = e.checkpoints.map((c) => c.id);
    Object.assign(store, told, { chosen, connected: true, changed: false, ending: false, run: null });
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
  saved(told) { // what runs at this moment is ended, and what it still writes is about the files of before
    Object.assign(store, { changed: true, ending: Boolean(store.running), ended: null, said: "", results: { ...store.results, ...told.again } });
    render();
  },
  running(told) { Object.assign(store, { running: told, run: null, ended: null, ending: false }); render(); },
  run(told) {
    const judged = judgedOf(told);
    const results = { ...store.results };
    for (const c of judged) results[c.id] = { ...c, hash: told.hash, started: told.started };
    const changed = store.changed && store.ending;
    Object.assign(store, { results, run: told, last: brief(told), hash: told.hash, changed });
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
const KEYS = { r: actions.all, c: actions.alone, j: () => go(1), k: () => go(-1), n: () => { const id = actions.next(); if (id) actions.choose(id); }, b: () => actions.view(store.view === "bench" ? "checkpoint" : "bench"), l: toLesson, ...Object.fromEntries([..."1234567"].map((n) => [n, () => $("map").querySelector(`[data-k="e${n}"]`)?.click()])), h: () => $("hint")?.click(), o: () => $("editor")?.click(), "?": () => $("keys").showModal() };

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
