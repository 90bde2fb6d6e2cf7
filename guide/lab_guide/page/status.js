// The status line: what goes on at this moment, and else what was judged last.
import { benchTitle } from "./bench.js";

const clock = (at) => new Date(at).toLocaleTimeString("en-GB");

/** What a run was about: an exercise as a whole, or some checkpoints of it. */
function about(store, ids) {
  const whole = store.exercises.find((e) => e.ids.length === ids.length && e.ids.every((id) => ids.includes(id)));
  return whole ? `exercise ${whole.number}` : ids.length > 4 ? `${ids.length} checkpoints` : ids.join(", ");
}

/** The kind of the dot, what goes on, and more about that. While something runs nothing is said of the run before. */
export function doing(store) {
  const { running, bench, changed, ending, last, run, ended } = store;
  if (!store.connected) return { dot: "off", words: "Not connected", more: last && judged(store, last) };
  if (bench) return { dot: "run", words: benchTitle(store) + (changed ? ". Your saved files are judged afterwards" : "") };
  if (running) {
    const words = `Running ${running.only.join(", ") || `exercise ${running.exercise}`}`;
    if (ending) return { dot: "run", words: "Saved: this run ends, and a new one begins" };
    const begun = run && { of: run.exercises.flatMap((e) => e.checkpoints).length, judged: last.judged };
    return { dot: "run", words, more: begun && begun.of > 1 ? `${begun.judged} of ${begun.of} judged` : "" };
  }
  const words = changed ? "Saved, not judged yet" : "Watching your files";
  if (ended?.output) return { dot: "", words, more: "the last run left no results" };
  return { dot: "", words, more: last && judged(store, last) + (changed ? ", before your last save" : "") };
}

function judged(store, last) {
  const what = about(store, last.ids);
  if (last.finished) return `${what} judged at ${clock(Date.parse(last.started) + last.seconds * 1000)}, in ${last.seconds.toFixed(1)} s`;
  const part = `${last.judged} of ${last.ids.length} judged`;
  if (store.ended) return `${what} ${store.ended.stopped ? "stopped" : "ended early"}: ${part}`;
  return `${what}, begun at ${clock(last.started)}: ${part}`; // in a terminal: it goes on, or was cut off there
}
