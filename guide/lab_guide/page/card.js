// The card of a checkpoint: what was seen and wanted, the learner's lines, why it matters, hints, and the evidence.
import { el, rendered, ticks } from "./dom.js";
import { picture } from "./pictures.js";
import { ask } from "./server.js";
import { WORD, MARK, isStale, mistake, verdict } from "./verdicts.js";

export function card(store, actions) {
  const exercise = store.exercises.find((e) => e.ids.includes(store.chosen));
  const known = exercise.checkpoints.find((c) => c.id === store.chosen);
  const result = store.results[known.id];
  const now = verdict(store, known.id);
  return [
    el("p", { class: "over" }, `Exercise ${exercise.number}`), el("h1", {}, exercise.title),
    step(store, exercise, known),
    el("article", { class: `card ${isStale(store, known.id) ? "stale" : ""}`, "aria-labelledby": "card-title" },
      head(known, result, now),
      result ? fields(store, known, result, actions) : el("p", { class: "fig" }, ticks(known.why || "Not judged yet.")),
      pictures(store, known, result, now),
      foot(store, known, now, actions)),
  ];
}

/** The pictures; of a checkpoint that a change has made pass, each beside the one of before, on one scale. */
function pictures(store, known, result, now) {
  const all = (of) => (of?.evidence ?? []).filter((e) => e.kind !== "number");
  const before = now === "passed" ? store.before[known.id] : null;
  const said = (of) => `${new Date(of.started).toLocaleTimeString("en-GB")}, ${of.evidence.find((e) => e.kind === "number")?.text ?? WORD[of.verdict]}`;
  return all(result).map((e, n) => {
    const old = all(before)[n];
    if (old?.kind !== e.kind || e.kind === "table") return picture(e);
    const until = e.kind === "timeline" ? Math.max(...[e, old].flatMap((one) => one.rows.map((r) => r.end))) : undefined;
    return [picture({ ...old, title: `Before: ${old.title} (${said(before)})` }, { until }), picture({ ...e, title: `Now: ${e.title} (${said(result)})` }, { until })];
  });
}

function step(store, exercise, known) {
  const found = exercise.steps.find((s) => s.passes.includes(known.id));
  if (!found) return null;
  return el("p", { class: "step" }, el("span", {}, `Step ${found.number} of ${exercise.steps.length}`),
    found.files.map((f) => el("code", {}, f)), el("span", { class: "grow" }, ticks(found.write)),
    el("span", { class: "ids" }, found.passes.map((id) => el("span", { class: verdict(store, id) }, `${MARK[verdict(store, id)]} ${id}`, el("span", { class: "sr" }, ` ${WORD[verdict(store, id)]}`)))));
}

function head(known, result, now) {
  const number = result?.evidence.find((e) => e.kind === "number")?.text;
  const said = number && ["passed", "failed", "running"].includes(now) ? number : WORD[now];
  return el("header", {},
    el("div", { class: "row" }, el("span", { class: `mark ${now}`, "aria-hidden": "true" }, MARK[now]),
      el("h2", { id: "card-title" }, `${known.id} ${known.title}`),
      el("span", { class: `chip verdict ${now}` }, WORD[now]), el("span", { class: "over" }, `${result?.points ?? 0} of ${known.points} points`)),
    el("p", { class: "big" }, said[0].toUpperCase() + said.slice(1)));
}

function fields(store, known, result, actions) {
  const open = !["passed", "locked"].includes(result.verdict);
  const row = (name, ...what) => [el("dt", {}, name), el("dd", {}, ...what)];
  const same = Object.values(store.results).filter((r) => r.same_as === known.id).map((r) => r.id);
  const about = { not_started: "To do", inconclusive: "Why not" }[result.verdict] ?? "Seen";
  return el("dl", { class: "fields" },
    result.seen ? row(about, ticks(result.seen)) : null,
    result.wanted ? row("Wanted", ticks(result.wanted)) : null,
    result.same_as ? row("Same as", `the mistake of ${result.same_as}`) : null,
    same.length ? row("Also", `${same.join(", ")}: the same mistake`) : null,
    result.where ? row("Your line", where(store, result)) : null,
    result.why ? row("Why", ticks(result.why)) : null,
    open ? row("Hint", hints(store, result, actions)) : null,
    result.output && open ? row("Printed", el("pre", {}, result.output)) : null);
}

/** The learner's line: its place, a link that opens it in an editor, and the lines around it. */
export function where(store, result) {
  const [place, ...text] = result.where.split("\n");
  const found = /^([^:\s]+):(\d+)/.exec(place);
  const lines = el("div");
  if (found) {
    const [, file, line] = found;
    ask(`/source?${new URLSearchParams({ file, line })}`).catch(() => null).then((source) => lines.append(source ? excerpt(source, result) : el("pre", {}, text.join("\n").trim())));
    const link = el("a", { class: "btn", "data-k": "editor", id: "editor", href: `vscode://file/${store.files}/${file}:${line}` }, "Open in VS Code ", el("kbd", {}, "o"));
    return [el("div", { class: "actions" }, el("code", {}, place), link), lines];
  }
  return [el("code", {}, place), el("pre", {}, text.join("\n"))];
}

function excerpt(source, result) {
  const shown = el("div", { class: `src ${result.verdict === "not_started" ? "todo" : ""}`, tabindex: "0", role: "region", "aria-label": `Lines of ${source.file}` },
    source.lines.map((l) => el("div", { class: l.here ? "here" : "" }, el("span", { class: "ln" }, l.number), rendered("span", l.html))));
  return el("div", {}, paragraphs(source.task).map((text) => el("p", { class: "task" }, ticks(text))), shown);
}

/** The paragraphs of a docstring, whose lines are filled anew; of an example they stay as they are. */
const paragraphs = (text) => text.split(/\n\s*\n/).filter(Boolean).map((part) => (/^\s*>>>/.test(part) ? part : part.replace(/\s*\n\s*/g, " ")));

function hints(store, result, actions) {
  const all = [result.hint, ...result.hints].filter(Boolean);
  const opened = store.hints[result.id];
  const shown = opened?.of === mistake(result) ? Math.min(opened.shown, all.length) : 0;
  if (!all.length) return "There is no hint for this.";
  const more = el("button", { class: "btn", "data-k": "hint", id: "hint", onclick: actions.hint }, shown ? "One more hint " : "Show a hint ", el("kbd", {}, "h"));
  return [all.slice(0, shown).map((text) => el("p", { class: "hint" }, ticks(text))), shown < all.length ? more : null];
}

function foot(store, known, now, actions) {
  const command = `${store.command.replace("test_ex0", `test_ex${known.id.split(".")[0]}`)} -k ${known.id}`;
  const next = actions.next();
  return el("div", { class: "fig actions" },
    el("button", { class: "btn", "data-k": "alone", id: "alone", onclick: actions.alone }, "Run this one ", el("kbd", {}, "c")),
    el("button", { class: "btn", "data-k": "reset", onclick: actions.reset }, "Put the stub back"),
    el("code", {}, command.split(" ").map((word) => [el("span", { class: "word" }, word), " "])), el("span", { class: "grow" }),
    next && next !== known.id ? el("button", { class: `btn ${now === "passed" ? "main" : ""}`, "data-k": "next", onclick: () => actions.choose(next) }, `Next: ${next} `, el("kbd", {}, "n")) : null);
}
