// The lesson beside the work: its sections, commands to copy, and the row of the step in hand.
import { $, el, rendered } from "./dom.js";
import { journal } from "./journal.js";
import { ask } from "./server.js";

let shown = 0;

/** Show the lesson of an exercise, and mark the step that a checkpoint belongs to. */
export async function lesson(exercise, id, actions) {
  const pane = $("lesson");
  if (shown !== exercise.number) {
    shown = exercise.number;
    const sections = await ask(`/lesson/${exercise.number}`).catch((error) => { shown = 0; throw error; });
    if (shown !== exercise.number) return;
    pane.replaceChildren(top(exercise, sections), ...sections.flatMap(section));
    pane.scrollTop = 0;
    const tables = [...pane.querySelectorAll("section")].find((s) => s.dataset.title === "Predict before you measure");
    if (tables) await journal(exercise.number, tables, actions, actions.note);
  }
  const step = exercise.steps.find((s) => s.passes.includes(id));
  const work = [...pane.querySelectorAll("section")].find((s) => s.dataset.title === "The work");
  for (const row of work?.querySelectorAll("tbody tr") ?? []) {
    row.classList.toggle("here", row.cells[0].textContent === String(step?.number));
  }
}

function top(exercise, sections) {
  const select = el("select", { "aria-label": "Section of the lesson", onchange: () => $(select.value).scrollIntoView() },
    sections.map((s, n) => el("option", { value: `section-${n}` }, n ? s.title : "Beginning")));
  return el("div", { class: "ltop" }, el("b", {}, `Lesson ${exercise.number}`), select);
}

function section(s, n) {
  const body = rendered("section", s.html, { "data-title": s.title });
  for (const pre of body.querySelectorAll("pre")) {
    const frame = el("div", { class: "pre" });
    pre.tabIndex = 0;
    if (/[█░│]/.test(pre.textContent)) { // a drawing says nothing once a part of it is cut off: as small as fits
      pre.classList.add("drawing");
      pre.style.setProperty("--columns", Math.max(...pre.textContent.split("\n").map((line) => line.length)));
    }
    pre.replaceWith(frame);
    frame.append(pre);
    if (/^\s*\$?\s*(uv|curl|docker|python) /.test(pre.textContent)) {
      const copy = el("button", { class: "btn", onclick: () => navigator.clipboard.writeText(pre.textContent.replace(/^\$ /gm, "").trim()).then(() => { copy.textContent = "Copied"; }) }, "Copy");
      frame.append(copy);
    }
  }
  for (const table of body.querySelectorAll("table")) {
    const frame = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${table.rows[0].textContent}` });
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const link of body.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noreferrer";
  }
  return [el("h2", { id: `section-${n}` }, s.title), body];
}
