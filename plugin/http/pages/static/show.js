// Small things for showing: elements, amounts, times, tables.

const SVG = "http://www.w3.org/2000/svg";
const MSAT_PER_SAT = 1000;
const GROUP = "\u202f";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

export const element = (name, attributes = {}, ...children) =>
  build(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, name), attributes, children);

// Millisatoshis as whole sats, as the mint counts them: never more than there is.
export const sat = (msat) => Math.floor(msat / MSAT_PER_SAT).toLocaleString("en").replaceAll(",", GROUP);

export const amount = (msat) => element("span", {}, `${sat(msat)} `, element("small", {}, "sat"));

// For axes: 1 200 000 sat is 1.2M.
export function short(msat) {
  const value = Math.abs(msat) / MSAT_PER_SAT;
  for (const [size, sign] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${+(value / size).toPrecision(3)}${sign}`;
  }
  return String(+value.toPrecision(3));
}

export function ago(seconds) {
  const [size, name] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([limit]) => seconds >= limit) ?? [1, "s"];
  return `${Math.floor(Math.max(0, seconds) / size)} ${name}`;
}

export const date = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);

// A step's name on an axis: the hour for short steps, the day for long ones.
export function moment(seconds, step) {
  const at = new Date(seconds * 1000);
  const day = at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  if (step >= 86400) return day;
  const hour = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return step >= 21600 ? `${day}, ${hour}` : hour;
}

// A cell is a text, { text, class } or { tag, class }.
function cell(name, content, attributes = {}) {
  if (typeof content === "string") return element(name, attributes, content);
  if (content.tag) return element(name, attributes, element("span", { class: `tag ${content.class}` }, content.tag));
  return element(name, { ...attributes, class: content.class }, content.text);
}

export function table(caption, heads, rows) {
  const head = element("tr", {}, ...heads.map((text) => cell("th", text, { scope: "col" })));
  const body = rows.map((row) => element("tr", {}, ...row.map((content) => cell("td", content))));
  // What can be scrolled must be reachable by keyboard.
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    element("table", {}, element("caption", { class: "sr" }, caption), element("thead", {}, head),
      element("tbody", {}, ...body)));
}

export const folded = (title, content) => element("details", {}, element("summary", {}, title), content);
