// Curves over load: throughput and p95 over users, goodput with and without admission control, and of streams. uPlot draws them.
import { el } from "./dom.js";
import { key, readable } from "./readable.js";
import { ms, number } from "./units.js";

const HEIGHT = 190;

/** Throughput and p95 over users, side by side, with the SLO and the breaking point. */
export function hockeyStick(e) {
  const broke = e.found == null ? "No breaking point was found" : `It breaks at ${e.found} users`;
  const flat = (value) => e.points.map(() => value);
  return side(e.points.map((p) => p.users), [
    { title: "requests/s over users; dashed: what the target can answer", lines: [{ values: e.points.map((p) => p.requests_per_second) }, { values: flat(e.capacity), colour: "bad", dash: [5, 4] }] },
    { title: "p95 in ms over users; dashed: the SLO", lines: [{ values: e.points.map((p) => p.p95_ms) }, { values: flat(e.slo_ms), colour: "bad", dash: [5, 4] }] },
  ], `${broke}; the target can answer ${number(e.capacity)} requests/s, the SLO is ${ms(e.slo_ms)}.`, (n) => {
    const p = e.points[n], slo = p.p95_ms > e.slo_ms ? "above" : "within";
    return `${p.users} users: ${number(p.requests_per_second)} requests/s, p95 ${ms(p.p95_ms)}, ${slo} the SLO${p.users === e.found ? "; it breaks here" : ""}`;
  }, { whole: true });
}

/** Goodput and p95 over the load that was sent, with admission control and without it. */
export function overload(e) {
  const sent = e.points.map((p) => p.sent), good = (of) => e.points.map((p) => p[of].goodput);
  const p95 = (of) => e.points.map((p) => p[of].p95_ms ?? e.gave_up_ms);
  const most = (of) => e.points.reduce((best, p) => (p.times > best.times ? p : best))[of].goodput;
  const lasted = [...new Set(e.points.map((p) => p.lasted))];
  const uneven = lasted.length > 1 ? ` ${e.points.map((p) => `${p.times} × lasted ${p.lasted} s`).join(", ")}: without a limit a longer overload is worse, so do not read the points as one curve.` : "";
  const told = (s) => `${number(s.goodput)}/s in time, p95 ${s.p95_ms == null ? `more than ${ms(e.gave_up_ms)}: callers gave up` : ms(s.p95_ms)}`;
  return [
    key(["with", "with admission control"], ["without", "without (dashed)"]),
    side(sent, [
      { title: "goodput over requests sent, per second; dotted: all that was sent, and the capacity", lines: [{ values: good("limited") }, { values: good("unlimited"), colour: "bad", dash: [8, 4] }, { values: sent.map((s) => Math.min(s, e.capacity)), colour: "ink", dash: [2, 4], plain: true }] },
      { title: `p95 in ms of those let in, logarithmic; ${number(e.gave_up_ms)}: callers gave up`, log: true, lines: [{ values: p95("limited") }, { values: p95("unlimited"), colour: "bad", dash: [8, 4] }] },
    ], `At the highest load goodput is ${number(most("limited"))}/s with admission control and ${number(most("unlimited"))}/s without, of a capacity of ${number(e.capacity)}/s.${most("limited") > e.capacity ? " Goodput is counted over the seconds in which requests were sent, and answers that come just after them count as well: so it can be above the capacity." : ""}`,
    (n) => { const p = e.points[n]; return `${p.times} × the capacity, ${number(p.sent)} sent/s for ${p.lasted} s: with ${told(p.limited)}; without ${told(p.unlimited)}`; }),
    uneven && el("p", { class: "over" }, uneven.trim()),
  ];
}

/** Goodput of streams under both limits, beside all that finished; and TTFT and TPOT in parts of their limits. */
export function goodput(e) {
  const sent = e.points.map((p) => p.sent), last = e.points.at(-1);
  const part = (name, limit) => e.points.map((p) => (p[name] == null ? null : p[name] / limit));
  const told = (value) => (value == null ? "infinite: streams failed" : ms(value));
  return [
    key(["with", "goodput; TTFT"], ["without", "all that finished; TPOT (dashed)"]),
    side(sent, [
      { title: "streams over streams sent, per second; dotted: all that was sent, and the capacity", lines: [{ values: e.points.map((p) => p.goodput) }, { values: e.points.map((p) => p.finished), colour: "bad", dash: [8, 4] }, { values: sent.map((s) => Math.min(s, e.capacity)), colour: "ink", dash: [2, 4], plain: true }] },
      { title: "p95 of TTFT and TPOT of those let in, in times of their limits; dotted: the limit", lines: [{ values: part("ttft_p95_ms", e.ttft_ms) }, { values: part("tpot_p95_ms", e.tpot_ms), colour: "bad", dash: [8, 4] }, { values: sent.map(() => 1), colour: "ink", dash: [2, 4], plain: true }] },
    ], `At ${last.times} × the capacity of ${number(e.capacity)}/s, ${number(last.finished)}/s finish and ${number(last.goodput)}/s are of use.`,
    (n) => { const p = e.points[n]; return `${p.times} × the capacity, ${number(p.sent)} sent/s: ${number(p.finished)}/s finished, ${number(p.goodput)}/s of use; p95 of those let in: TTFT ${told(p.ttft_p95_ms)}, TPOT ${told(p.tpot_p95_ms)}`; }),
  ];
}

/** Batch and mean latency over the rate: points are measured, lines are the law. Only the points can be asked. */
export function law(e) {
  const x = e.law.map((at) => at.rate), of = (name) => x.map((rate) => e.points.find((p) => p.rate === rate)?.[name] ?? null);
  const panel = (title, name) => ({ title, lines: [{ values: of(name), alone: true }, { values: e.law.map((at) => at[name]), colour: "ink", dash: [5, 4], plain: true }] });
  const last = e.points.at(-1), by = e.law.find((at) => at.rate === last.rate), told = (value) => (value == null ? "–" : Number(value.toFixed(1)));
  return [
    side(x, [panel("mean batch over requests/s; dashed: the law", "size"), panel("mean latency in ms over requests/s; dashed: the law", "mean_ms")],
      `At ${number(last.rate)} requests/s a batch holds ${told(last.size)}, by the law ${told(by.size)}. Full batches serve ${number(e.capacity)} requests/s.`,
      (n) => { const p = e.points[n], at = e.law.find((one) => one.rate === p.rate); return `${number(p.rate)} requests/s: batch ${told(p.size)}, by the law ${told(at.size)}; mean latency ${told(p.mean_ms)} ms, by the law ${told(at.mean_ms)} ms`; },
      { places: e.points.map((p) => x.indexOf(p.rate)) }),
    el("p", { class: "over" }, "The law assumes that requests arrive as a steady flow. Random arrivals also make a queue: near the capacity the measured latency is higher."),
  ];
}

/** Charts side by side over the same x, which are asked together: at each x, or only at those of these places. `whole`: x counts. */
function side(x, panels, sentence, say, { places = x.map((_, n) => n), whole } = {}) {
  const pair = el("div", { class: "two" });
  const charts = [];
  const shown = readable(pair, {
    sentence, count: places.length, say,
    mark: (n) => charts.forEach((chart) => chart.setCursor({ left: chart.valToPos(x[places[n]], "x"), top: chart.valToPos(chart.data[1][places[n]] ?? 0, "y") }, false)),
  });
  const nearest = (n) => places.reduce((best, place, one) => (Math.abs(place - n) < Math.abs(places[best] - n) ? one : best), 0);
  const draw = () => panels.forEach((panel) => charts.push(chart(pair, x, { ...panel, whole }, (n) => shown.choose(nearest(n)))));
  requestAnimationFrame(draw); // its width is known once it is on the page
  new ResizeObserver(() => charts.forEach((one) => one.setSize({ width: one.root.parentNode.clientWidth, height: HEIGHT }))).observe(pair);
  const recolour = () => (pair.isConnected ? charts.forEach((one) => one.redraw()) : removeEventListener("theme", recolour));
  addEventListener("theme", recolour);
  return shown.element;
}

const WHOLE = [1, 10, 100, 1000].flatMap((power) => [1, 2, 5].map((n) => n * power));

function chart(pair, x, { title, lines, log, whole }, choose) {
  const holder = el("div", {}, el("p", { class: "over" }, title));
  pair.append(holder);
  const css = (name) => () => getComputedStyle(holder).getPropertyValue(`--chart-${name}`);
  const axis = () => ({ stroke: css("ink"), grid: { stroke: css("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" });
  const y = log ? { distr: 3 } : { range: (_, low, high) => [0, high * 1.1] };
  const made = new window.uPlot({
    width: holder.clientWidth || 300, height: HEIGHT, legend: { show: false }, scales: { x: { time: false }, y },
    cursor: { drag: { x: false, y: false } }, axes: [{ ...axis(), size: 26, ...(whole && { incrs: WHOLE }) }, axis()],
    series: [{}, ...lines.map((line) => ({ stroke: css(line.colour ?? "model"), width: line.plain ? 1 : 2, dash: line.dash, points: { show: !line.plain && !(line.dash?.[0] === 5), size: line.alone ? 10 : undefined } }))],
  }, [x, ...lines.map((line) => line.values)], holder);
  made.over.addEventListener("pointermove", (event) => choose(made.posToIdx(event.offsetX)));
  return made;
}
