// The operator's page: asks for a rune, fetches the figures with it, and draws them. Everything that comes from the mint
// is set as text, never as markup.

import { balanceChart, volumeChart } from "./charts.js";
import { ago, amount, date, element, sat, table } from "./show.js";

const KEY = "rune";
const RETRY_MS = 3000;
const ANEW_MS = 1000; // also when something between here and the mint ends each stream at once
const AGES_MS = 15000;
const MANY = 10; // times, not percent, from there on
const byId = (id) => document.getElementById(id);
const METHODS = { bolt11: "Lightning invoice", bolt12: "Lightning offer", onchain: "Bitcoin address" };

let rune = sessionStorage.getItem(KEY);
let shown = null; // the last answer, and when it came
let stream = null; // what ends the stream that is followed

// --- the door ----------------------------------------------------------------------------------------------------------

function askForRune(complaint) {
  stream?.abort();
  rune = null;
  shown = null;
  sessionStorage.removeItem(KEY);
  byId("figures").hidden = true;
  byId("leave").hidden = true;
  byId("door").hidden = false;
  byId("plain").hidden = window.isSecureContext || location.hostname.endsWith(".onion");
  byId("complaint").textContent = complaint ? `${complaint[0].toUpperCase()}${complaint.slice(1)}.` : "";
  tell("", "");
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  rune = byId("rune").value.trim();
  byId("rune").value = "";
  follow();
});

byId("leave").addEventListener("click", () => {
  askForRune("");
  byId("rune").focus();
});

// --- fetching ----------------------------------------------------------------------------------------------------------

const ask = (path, options = {}) =>
  fetch(path, { headers: { Rune: rune }, cache: "no-store", credentials: "omit", ...options });

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function tell(text, state) {
  byId("live").textContent = text;
  byId("live").className = state;
}

// Whether an answer can be used. A refused rune leads back to the door.
async function usable(answer) {
  if (answer.ok) return true;
  let why = `the mint answers ${answer.status}`;
  try {
    why = (await answer.json()).detail;
  } catch {
    // no JSON: the number must do
  }
  if (answer.status === 401) {
    askForRune(why);
  } else {
    tell(why, "off");
  }
  return false;
}

let loading = false;
let again = false;

async function load() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  try {
    do {
      again = false;
      const asked = rune;
      const answer = await ask(`/operator/data?span=${document.querySelector("input[name=span]:checked").value}`);
      if (asked !== rune || !(await usable(answer))) return;
      shown = { data: await answer.json(), at: Date.now() };
      if (asked !== rune) return;
      sessionStorage.setItem(KEY, rune);
      show();
      tell("live", "on");
    } while (again);
  } catch {
    tell("the mint can't be reached: trying again", "off");
  } finally {
    loading = false;
  }
}

// One stream at a time; each event in it is a reason to look again. It ends by itself now and then, and is opened anew.
async function follow() {
  stream?.abort();
  const mine = (stream = new AbortController());
  while (rune && !mine.signal.aborted) {
    let wait = RETRY_MS;
    try {
      const answer = await ask("/operator/events", { signal: mine.signal });
      if (await usable(answer)) {
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let rest = "", part = await reader.read(); !part.done; part = await reader.read()) {
          const lines = (rest + part.value).split("\n");
          rest = lines.pop();
          if (lines.some((line) => line.startsWith("data:"))) load();
        }
        wait = ANEW_MS;
      }
    } catch {
      if (mine.signal.aborted) return;
      tell("the mint can't be reached: trying again", "off");
    }
    await pause(wait);
  }
}

// --- showing -----------------------------------------------------------------------------------------------------------

const now = () => shown.data.time + Math.round((Date.now() - shown.at) / 1000);

function show() {
  const data = shown.data;
  byId("door").hidden = true;
  byId("figures").hidden = false;
  byId("leave").hidden = false;
  byId("name").textContent = data.name || "Operator";
  document.title = `${data.name || "Mint"}: operator`;
  byId("tiles").replaceChildren(...tiles(data));
  byId("health").replaceChildren(...data.health.map(check));
  byId("balance").replaceChildren(...balanceChart(data));
  byId("volume").replaceChildren(...volumeChart(data, METHODS));
  byId("failures").replaceChildren(failures(data));
  byId("keysets").replaceChildren(keysets(data));
  showAges();
}

function showAges() {
  if (shown) byId("pending").replaceChildren(pending(shown.data));
}

function tile(title, msat, note) {
  const value = msat === null ? element("span", {}, "unknown") : amount(msat);
  return element("dl", { class: "tile" }, element("dt", {}, title), element("dd", { class: "value" }, value),
    element("dd", { class: "note" }, note));
}

function covered({ owned_msat, owed_msat }) {
  if (owned_msat === null || !owed_msat) return "by the node";
  const times = owned_msat / owed_msat;
  return times >= MANY ? `${Math.floor(times).toLocaleString("en")} times what is owed`
    : `${Math.floor(times * 100)} % of what is owed`;
}

function tiles({ balance, fees, pending }) {
  const cover = covered(balance);
  return [
    tile("Owed to wallets", balance.owed_msat,
      balance.unissued_msat ? `${sat(balance.unissued_msat)} sat of it to be issued` : "ecash in wallets"),
    tile("Owned", balance.owned_msat, cover),
    tile("Can leave now", balance.sendable_msat, "over Lightning"),
    tile("Left over", fees.earned_msat, `fees taken ${sat(fees.input_msat)}, paid ${sat(fees.paid_msat)} sat`),
  ];
}

const WORDS = { good: "well", warn: "look", bad: "wrong" };

const check = ({ name, state, text }) =>
  element("li", {}, element("span", { class: `tag ${{ good: "good", warn: "", bad: "warn" }[state]}` }, WORDS[state]),
    element("span", {}, element("strong", {}, `${name}: `), text));

function pending({ pending: { count, sum_msat, melts } }) {
  if (!count) return element("p", { class: "empty" }, "None.");
  const rows = melts.map((melt) => [
    { text: melt.handle, class: "mono" }, METHODS[melt.method] ?? melt.method,
    { text: `${melt.amount.toLocaleString("en").replaceAll(",", "\u202f")} ${melt.unit}`, class: "number" },
    { text: ago(now() - melt.begun_at), class: "number" },
  ]);
  const more = count > melts.length ? `, of which the ${melts.length} oldest are listed` : "";
  return element("div", {}, element("p", { class: "soft small" }, `${count}, ${sat(sum_msat)} sat together${more}.`),
    table("Melts in flight", ["Handle", "Method", { text: "Amount", class: "number" }, { text: "Age", class: "number" }], rows));
}

function failures({ failures: found }) {
  if (!found.length) return element("p", { class: "empty" }, "None in this time.");
  return table("Melts that failed, by reason", ["Reason", "Method", { text: "Count", class: "number" }],
    found.map(({ reason, method, count }) => [reason, METHODS[method] ?? method, { text: String(count), class: "number" }]));
}

function keysets({ keysets: all }) {
  const number = (text) => ({ text, class: "number" });
  const inUnit = (value) => number(value.toLocaleString("en").replaceAll(",", "\u202f"));
  const rows = all.map((keyset) => [
    { text: `${keyset.id.slice(0, 16)}…`, class: "mono" }, keyset.unit,
    keyset.active ? { tag: "signs", class: "good" } : "older",
    number(String(keyset.input_fee_ppk)), { text: keyset.final_expiry ? date(keyset.final_expiry) : "none", class: "date" },
    inUnit(keyset.issued), inUnit(keyset.redeemed), inUnit(keyset.fees), inUnit(keyset.outstanding),
  ]);
  const heads = ["Keyset", "Unit", "State", number("Fee, ppk"), "Ends", number("Issued"), number("Redeemed"),
    number("Fees"), number("Outstanding")];
  return table("Keysets and their books", heads, rows);
}

// --- begin -------------------------------------------------------------------------------------------------------------

byId("spans").addEventListener("change", load);
setInterval(showAges, AGES_MS);
if (rune) {
  follow();
} else {
  askForRune("");
}
