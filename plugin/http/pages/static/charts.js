// The two charts, as SVG without any library. Each has its figures as a table below it, for who can't see it.

import { date, element, folded, moment, sat, short, svg, table } from "./show.js";

const HEIGHT = 240;
const PAD = { left: 46, right: 8, top: 10, bottom: 26 };
const NARROW = 560; // below this width there is room for fewer labels
const FAR = 8; // times what is owed
const GAP = 0.25; // of a step, between bars

// Drawn at the width at which it is shown, so that its letters have the size of the page's.
const width = () => Math.max(300, Math.min(document.querySelector("#balance").clientWidth || 900, 1100));

const when = (at) => ({ text: `${date(at)}, ${moment(at, 3600)}`, class: "date" });

// A round number above the largest value, and steps up to it.
function scale(largest) {
  if (largest <= 0) return { top: 1, ticks: [0] };
  const size = 10 ** Math.floor(Math.log10(largest));
  const step = [0.2, 0.5, 1, 2, 5].map((part) => part * size).find((part) => largest / part <= 5);
  const count = Math.ceil(largest / step);
  return { top: count * step, ticks: Array.from({ length: count + 1 }, (_, i) => i * step) };
}

function frame(wide, label) {
  return svg("svg", { class: "chart", viewBox: `0 0 ${wide} ${HEIGHT}`, role: "img", "aria-label": label });
}

function timeAxis(chart, data, wide, x) {
  const steps = (Math.floor(data.time / data.step_s) * data.step_s - data.since) / data.step_s + 1;
  const every = Math.max(1, Math.ceil(steps / (wide < NARROW ? 4 : 8)));
  for (let i = 0; i < steps - every / 2; i += every) {
    const at = data.since + i * data.step_s;
    chart.append(svg("text", { x: x(at), y: HEIGHT - 6, "text-anchor": "start" }, moment(at, data.step_s)));
  }
}

function rule(chart, wide, y, text, name = "rule") {
  chart.append(svg("line", { class: name, x1: PAD.left, x2: wide - PAD.right, y1: y, y2: y }),
    svg("text", { x: PAD.left - 6, y: y + 4, "text-anchor": "end" }, text));
}

const legend = (entries) => element("ul", { class: "legend" },
  ...entries.map(([name, text]) => element("li", {}, element("i", { class: name, "aria-hidden": "true" }), text)));

const across = (data, wide) => {
  const end = data.since + Math.max(1, Math.floor((data.time - data.since) / data.step_s) + 1) * data.step_s;
  return (at) => PAD.left + ((at - data.since) / (end - data.since)) * (wide - PAD.left - PAD.right);
};

// --- owed against owned ------------------------------------------------------------------------------------------------

export function balanceChart(data) {
  const points = data.history.filter(({ at }) => at >= data.since);
  const { owed_msat, owned_msat } = data.balance;
  if (owned_msat !== null) points.push({ at: data.time, owed_msat, owned_msat });
  if (!points.length) return [element("p", { class: "empty" }, "Nothing has been noted in this time.")];
  const wide = width();
  const x = across(data, wide);
  const mostOwed = Math.max(...points.map((p) => p.owed_msat));
  // Where the node owns far more than is owed, what is owed would be a line on the ground: it gets the room.
  const isFar = mostOwed > 0 && Math.min(...points.map((p) => p.owned_msat)) > FAR * mostOwed;
  const { top, ticks } = scale(isFar ? mostOwed * 1.5 : Math.max(mostOwed, ...points.map((p) => p.owned_msat)));
  const y = (msat) => HEIGHT - PAD.bottom - (Math.min(msat, top) / top) * (HEIGHT - PAD.top - PAD.bottom);
  const last = points.at(-1);
  const chart = frame(wide, `Owed ${sat(last.owed_msat)} sat, owned ${sat(last.owned_msat)} sat; the course is in the table`);
  for (const tick of ticks) rule(chart, wide, y(tick), short(tick), tick ? "rule" : "zero");
  timeAxis(chart, data, wide, x);
  const course = (key) => points.map((p) => `${x(p.at).toFixed(1)},${y(p[key]).toFixed(1)}`).join(" ");
  chart.append(svg("polygon", {
    class: "under", points: `${x(points[0].at)},${y(0)} ${course("owned_msat")} ${x(last.at)},${y(0)}`,
  }));
  for (const name of ["owned", "owed"]) {
    chart.append(svg("polyline", { class: `line ${name}`, points: course(`${name}_msat`) }),
      svg("circle", { class: `dot ${name}`, cx: x(last.at), cy: y(last[`${name}_msat`]), r: 3.5 }));
  }
  const number = (text) => ({ text, class: "number" });
  const rows = points.toReversed().map((p) =>
    [when(p.at), number(sat(p.owed_msat)), number(sat(p.owned_msat))]);
  const owned = isFar ? `owned by the node: far above this chart, ${sat(last.owned_msat)} sat` : "owned by the node";
  return [legend([["owned", owned], ["owed", "owed to wallets"]]), chart,
    folded("As a table", table("Owed and owned, in sat", ["When", number("Owed, sat"), number("Owned, sat")], rows))];
}

// --- in and out --------------------------------------------------------------------------------------------------------

export function volumeChart(data, names) {
  const { flows } = data;
  if (!flows.length) return [element("p", { class: "empty" }, "Nothing came in or went out in this time.")];
  const wide = width();
  const x = across(data, wide);
  const methods = Object.keys(names).filter((name) => flows.some(({ method }) => method === name));
  const sums = new Map();
  for (const { at, in_msat, out_msat } of flows) {
    const sum = sums.get(at) ?? { in: 0, out: 0 };
    sums.set(at, { in: sum.in + in_msat, out: sum.out + out_msat });
  }
  const largest = (key) => Math.max(...[...sums.values()].map((sum) => sum[key]));
  const { top, ticks } = scale(Math.max(largest("in"), largest("out")));
  const room = HEIGHT - PAD.top - PAD.bottom;
  // The line between in and out lies where both have the room that they need.
  const up = largest("in") ? top : 0;
  const down = largest("out") ? top : 0;
  const zero = PAD.top + (room * up) / (up + down || 1);
  const perMsat = room / (up + down || 1);
  const total = (key) => flows.reduce((sum, flow) => sum + flow[key], 0);
  const chart = frame(wide, `In ${sat(total("in_msat"))} sat, out ${sat(total("out_msat"))} sat; the steps are in the table`);
  for (const tick of ticks.filter((_, i) => i % 2 === 0 || ticks.length < 4)) {
    if (tick && up) rule(chart, wide, zero - tick * perMsat, short(tick));
    if (tick && down) rule(chart, wide, zero + tick * perMsat, short(tick));
  }
  rule(chart, wide, zero, "0", "zero");
  timeAxis(chart, data, wide, x);
  const thick = (x(data.since + data.step_s) - x(data.since)) * (1 - GAP);
  const ends = new Map();
  for (const flow of flows) {
    const end = ends.get(flow.at) ?? { in: zero, out: zero };
    const left = (x(flow.at) + thick * (GAP / 2)).toFixed(1);
    const bar = (y, high) => svg("rect", {
      class: names[flow.method] ? flow.method : "other", x: left, y: y.toFixed(1), width: thick.toFixed(1),
      height: Math.max(high, 0.75).toFixed(1), rx: 1,
    });
    if (flow.in_msat) chart.append(bar((end.in -= flow.in_msat * perMsat), flow.in_msat * perMsat));
    if (flow.out_msat) {
      chart.append(bar(end.out, flow.out_msat * perMsat));
      end.out += flow.out_msat * perMsat;
    }
    ends.set(flow.at, end);
  }
  const number = (text) => ({ text, class: "number" });
  const rows = flows.toReversed().map((flow) => [
    when(flow.at), names[flow.method] ?? flow.method, number(sat(flow.in_msat)),
    number(sat(flow.out_msat)), number(sat(flow.fees_msat)), number(`${flow.receipts} / ${flow.payments}`),
  ]);
  const heads = ["From", "Method", number("In, sat"), number("Out, sat"), number("Fees paid, sat"), number("Number in / out")];
  const summary = `in ${sat(total("in_msat"))}, out ${sat(total("out_msat"))}, fees paid ${sat(total("fees_msat"))} sat`;
  return [legend(methods.map((name) => [name, names[name]])), chart,
    element("p", { class: "small soft" }, `Up is in, down is out. Together: ${summary}.`),
    folded("As a table", table("In and out, by step of time and method", heads, rows))];
}
