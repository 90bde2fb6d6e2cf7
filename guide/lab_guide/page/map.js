// The map: exercises, checkpoints, points, and what is locked by what.
import { el } from "./dom.js";
import { MARK, WORD, isStale, points, verdict } from "./verdicts.js";

export function score(store) {
  const most = store.exercises.map((e) => e.checkpoints.reduce((sum, c) => sum + c.points, 0));
  const mine = store.exercises.map((e) => points(store, e));
  const all = (numbers, bonus) => numbers.reduce((sum, points, n) => sum + (store.exercises[n].bonus === bonus ? points : 0), 0);
  const bonus = store.exercises.some((e) => e.bonus && isOpen(store, e)) ? `, bonus ${all(mine, true)} of ${all(most, true)}` : "";
  const bars = store.exercises.flatMap((e, n) => {
    if (e.bonus) return [];
    const bar = el("progress", { max: most[n], value: mine[n], "aria-label": `Exercise ${e.number}: ${mine[n]} of ${most[n]} points` });
    bar.style.flex = most[n];
    return [bar];
  });
  return [el("p", { class: "score" }, el("b", {}, all(mine, false)), `of ${all(most, false)} points${bonus}`), el("div", { class: "meter" }, bars)];
}

// A bonus exercise is not on the map until what it needs has passed, or it has been judged.
export function isOpen(store, e) {
  const needs = e.checkpoints.flatMap((c) => c.needs).filter((id) => !e.ids.includes(id));
  const judged = (c) => !["not_run", "locked"].includes(verdict(store, c.id));
  return !e.bonus || e.ids.includes(store.chosen) || needs.every((id) => verdict(store, id) === "passed") || e.checkpoints.some(judged);
}

export function map(store, choose) {
  const open = Number(store.chosen.split(".")[0]);
  return el("ul", { class: "map" }, store.exercises.filter((e) => isOpen(store, e)).map((e) => {
    const most = e.checkpoints.reduce((sum, c) => sum + c.points, 0);
    const first = () => e.checkpoints.find((c) => verdict(store, c.id) !== "passed") ?? e.checkpoints[0];
    return el("li", {},
      el("button", { "data-k": `e${e.number}`, "aria-expanded": String(e.number === open), onclick: () => choose(first().id) },
        el("span", {}, e.number), el("span", {}, e.title), el("small", {}, `${points(store, e)}/${most}`)),
      e.number === open && el("ol", {}, e.checkpoints.map((c) => checkpoint(store, c, choose))));
  }));
}

function checkpoint(store, c, choose) {
  const now = verdict(store, c.id);
  const missing = c.needs.filter((id) => verdict(store, id) !== "passed");
  const said = missing.length && now !== "passed" ? `${WORD[now]}, needs ${missing.join(", ")}` : WORD[now];
  return el("li", { class: isStale(store, c.id) ? "stale" : "" },
    el("button", { "data-k": c.id, "aria-current": c.id === store.chosen ? "true" : null, title: `${c.title}: ${said}`, onclick: () => choose(c.id) },
      el("span", { class: `mark ${now}`, "aria-hidden": "true" }, MARK[now]), el("small", {}, c.id),
      el("span", {}, c.title, el("span", { class: "sr" }, `: ${said}`))));
}
