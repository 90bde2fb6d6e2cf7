// The tables under "Predict before you measure": their fields are filled in here, the prediction before the measurement.
import { off } from "./bench.js";
import { el, patch, ticks } from "./dom.js";
import { ask, send } from "./server.js";

let open = null; // the exercise whose table is shown, its fields, their cells, and what was measured

/** Make the empty cells of a lesson's tables fields; `said` shows what the server has against a note. */
export async function journal(exercise, section, actions, said) {
  const told = await ask(`/journal/${exercise}`);
  const tables = [...section.querySelectorAll("table")];
  const cells = new Map(told.fields.map((field) => {
    const [, table, row, column] = field.id.split(".").map(Number);
    const cell = tables[table].tBodies[0].rows[row].cells[column];
    cell.classList.add("fill");
    return [field.id, cell];
  }));
  open = { exercise, fields: told.fields, cells, actions, folds: [...section.querySelectorAll("details.measured")] };
  const sentence = el("textarea", { id: "table-explained", rows: 3, maxlength: 2000 }, told.explained);
  const write = () => notes(said);
  const below = el("div", { class: "explain" }, el("button", { class: "btn main", type: "button", onclick: write }, "Write down what I have filled in"),
    el("label", { for: "table-explained" }, "What surprised you, and why? Write one sentence for your journal"), sentence,
    el("button", { class: "btn", type: "button", onclick: () => send("/journal/explain", { exercise, text: sentence.value }).then(() => said("It is in your journal.")).catch((error) => said(error.message)) }, "Write it down"));
  const frames = tables.map((table) => table.closest(".scroll") ?? table);
  if (told.fields.length) frames[0].after(below);
  frames.forEach((frame, n) => frame.after(...byHand(told.fields.filter((field) => field.id.startsWith(`${exercise}.${n}.`)))));
  update({ exercise, ...told });
}

/** Show what the journal has by now; a field that is being typed in stays as it is. */
export function update(told) {
  if (open?.exercise !== told.exercise) return;
  open.entries = told.entries;
  if (Object.keys(told.entries).length) for (const fold of open.folds.splice(0)) fold.open = true; // once: it can be closed again
  for (const field of open.fields) {
    const cell = open.cells.get(field.id), entry = told.entries[field.id];
    const typed = cell.contains(document.activeElement) && document.activeElement.value;
    if (!typed) patch(cell, [entry ?? null], () => content(field, entry));
  }
}

function content(field, entry) {
  const input = (what, label) => el("input", { "data-field": field.id, "data-what": what, "data-k": `${field.id}-${what}`, "aria-label": `${label}: ${field.row}, ${field.column}`, placeholder: what, maxlength: 200 });
  const bench = field.plan && el("button", { class: "btn", type: "button", "data-k": `${field.id}-bench`, "aria-label": `Measure on the bench: ${field.row}, ${field.column}`, onclick: () => toBench(field) }, "bench");
  const measure = bench || el("small", {}, "by hand");
  if (!entry) return [input("predicted", "Your prediction"), measure];
  if (!entry.measured) return [el("span", { class: "guessed" }, `predicted ${entry.predicted}`), input("measured", "Measured"), measure];
  const [guess, seen] = [entry.predicted, entry.measured].map((text) => Number(text.replace(/[^\d.eE+-]/g, "") || NaN));
  return [el("span", { class: "guessed" }, `predicted ${entry.predicted}`), el("span", {}, "measured ", el("b", {}, entry.measured)), entry.busy && el("small", {}, `busy: ${entry.busy}`), Number.isFinite(guess) && Number.isFinite(seen) && el("small", {}, percent(guess, seen))];
}

/** Why columns have no button of the bench: a sentence for each. */
const byHand = (fields) => [...new Map(fields.filter((field) => !field.plan).map((field) => [field.column, field.how]))]
  .map(([column, how]) => el("p", { class: "over by-hand" }, ticks(`${column}: ${how}`)));

const percent = (guess, seen) => off(guess, seen).replace(/^Your prediction (was|is) /, "").replace(/\.$/, "");

/** The fields that were typed into, all at once; the server decides whether each may be written down by now. */
function notes(said) {
  const typed = [...open.cells.values()].flatMap((cell) => [...cell.querySelectorAll("input")]).filter((input) => input.value.trim());
  if (!typed.length) return said("No field is filled in.");
  document.activeElement?.blur();
  return send("/journal", typed.map((input) => ({ field: input.dataset.field, [input.dataset.what]: input.value })))
    .then(() => said("")).catch((error) => said(error.message));
}

/** Open the bench with the plan of a field, and with what was predicted in the fields of the same plan. */
function toBench(field) {
  const same = open.fields.filter((one) => one.plan && JSON.stringify(one.plan) === JSON.stringify(field.plan));
  const typed = (one) => open.cells.get(one.id).querySelector("input[data-what=predicted]")?.value;
  const predicted = Object.fromEntries(same.map((one) => [one.quantity, Number.parseFloat(open.entries[one.id]?.predicted ?? typed(one))]).filter(([, value]) => Number.isFinite(value)));
  open.actions.predict({ plan: field.plan, predicted, cell: field.id });
}
