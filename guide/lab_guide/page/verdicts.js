// The verdicts of the results, in marks and words. The page gives none itself.

export const MARK = { passed: "✓", failed: "✗", not_started: "·", locked: "–", inconclusive: "?", lab_error: "!", not_run: "○", running: "›" };
export const WORD = { passed: "passed", failed: "failed", not_started: "not started", locked: "locked", inconclusive: "inconclusive", lab_error: "lab error", not_run: "not run", running: "running" };

/** The verdict of a checkpoint as it stands; `running` for the one that runs at this moment. */
export function verdict(store, id) {
  if (running(store) === id) return "running";
  return store.results[id]?.verdict ?? "not_run";
}

/** What is equal for two failures by the same mistake: file and text of the line, and words. Numbers in them are random. */
export const mistake = (r) => JSON.stringify([r.verdict, r.where, r.seen, r.wanted, r.hint]).replace(/0x[0-9a-f]+|\d+(\.\d+)?/g, "0");

/** Whether a verdict is about files that have changed since. */
export const isStale = (store, id) => id in store.results && (store.changed || store.results[id].hash !== store.hash);

export const points = (store, exercise) => exercise.checkpoints.reduce((sum, c) => sum + (store.results[c.id]?.points ?? 0), 0);

/** The checkpoint that runs: the first one of the run's own list that has no verdict. */
function running(store) {
  if (!store.running) return null;
  const begun = store.run?.exercises.flatMap((e) => e.checkpoints);
  if (begun) return begun.find((c) => c.verdict === "not_run")?.id ?? null;
  return store.running.only[0] ?? store.exercises.find((e) => e.number === store.running.exercise).checkpoints[0].id;
}
