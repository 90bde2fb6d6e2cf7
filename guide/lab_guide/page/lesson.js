// The lesson beside the work: its sections, commands to copy, and the row of the step in hand.
import { $, el, rendered } from "./dom.js";
import { journal } from "./journal.js";
import { ask } from "./server.js";

const COMMAND = /^\s*(\$ |([A-Z_]+=\S+\s+(\\\s+)?)*(uv|curl|docker|python) )/;
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

/** Go to the lesson, or from there back to the checkpoint: below 1150 px it stands under it. */
export function toLesson() {
  const to = $($("lesson").contains(document.activeElement) ? "main" : "lesson");
  to.scrollIntoView();
  to.focus({ preventScroll: true });
}

function top(exercise, sections) {
  const select = el("select", { "aria-label": "Section of the lesson", onchange: () => $(select.value).scrollIntoView() },
    sections.map((s, n) => el("option", { value: `section-${n}` }, n ? s.title : "Beginning")));
  return el("div", { class: "ltop" }, el("b", {}, `Lesson ${exercise.number}`),
    el("button", { class: "btn back", onclick: toLesson }, "Back"), select);
}

/** What is typed of a block: where lines begin with a `$`, those, and what goes on below them. */
function typed(lines) {
  const shell = lines.some((line) => line.startsWith("$ "));
  const mine = lines.filter((line, n) => !shell || line.startsWith("$ ") || (n && (lines[n - 1].endsWith("\\") || line.startsWith("   "))));
  return mine.map((line) => line.replace(/^\$ /, "")).join("\n").trim();
}

function section(s, n) {
  const body = rendered("section", s.html, { "data-title": s.title });
  for (const pre of body.querySelectorAll("pre")) {
    const frame = el("div", { class: "pre" }), lines = pre.textContent.trimEnd().split("\n");
    const drawing = /[█░│]/.test(pre.textContent), commands = COMMAND.test(pre.textContent);
    const name = drawing ? "Drawing" : commands ? "Commands" : lines.length > 1 ? "Table or code" : "Formula";
    for (const [attribute, value] of Object.entries({ tabindex: "0", role: "group", "aria-label": `${name}: ${lines[0].trim()}` })) pre.setAttribute(attribute, value);
    pre.classList.add(name.split(" ")[0].toLowerCase()); // a drawing says nothing once a part of it is cut off: as small as fits
    pre.style.setProperty("--columns", Math.max(...lines.map((line) => line.length)));
    pre.replaceWith(frame);
    frame.append(pre);
    if (commands) {
      const copy = el("button", { class: "btn", onclick: () => navigator.clipboard.writeText(typed(lines)).then(() => { copy.textContent = "Copied"; }) }, "Copy");
      frame.append(copy);
    }
  }
  for (const table of body.querySelectorAll("table")) {
    const frame = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${table.rows[0].textContent}` });
    table.replaceWith(frame);
    frame.append(table);
    for (const code of table.querySelectorAll("td code")) { // a long name may go on in the next line
      code.replaceChildren(...code.textContent.split(/(?<=[/_(])|(?<=\.)(?=\w{4})/).flatMap((part) => [el("wbr"), part]).slice(1));
    }
  }
  for (const link of body.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noreferrer";
  }
  return [el("h2", { id: `section-${n}` }, s.title), body];
}
