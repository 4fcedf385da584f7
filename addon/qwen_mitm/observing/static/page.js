"use strict";
/* Asks for status.json again and again, and changes what has changed. */

const REFRESH_MS = 4000;
const TIMEOUT_MS = 10000;
const LIMITED = ["burst", "window", "concurrency", "transient"];

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const charts = new Charts();
/** How far the clock of this browser is behind the proxy's. */
let behind = 0;

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function say(id, text) { set(byId(id), text); }

function element(tag, className) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  return made;
}

/** Keep one child for each item, in order; `make` makes it, `fill` says what it holds now. */
function keep(parent, items, key, make, fill) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const name = key(item);
    let child = before.get(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    before.delete(name);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
    fill(child, item);
  });
  for (const gone of before.values()) gone.remove();
}

function span(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  let left = seconds;
  return parts.slice(first, first + 2).map(([size, unit]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return `${count} ${unit}`;
  }).join(" ");
}

function clock(ms) {
  const then = new Date(ms);
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return then.toDateString() === new Date().toDateString() ? time : `${then.toLocaleDateString()} ${time}`;
}

function ago(ms) {
  if (!ms) return "never";
  const past = Date.now() + behind - ms;
  return past < 60000 ? "just now" : `${span(past)} ago`;
}

function countDown() {
  for (const until of document.querySelectorAll("[data-until]")) {
    const left = Number(until.dataset.until) - Date.now() - behind;
    set(until, left > 0 ? `until ${clock(Number(until.dataset.until))} (in ${span(left)})` : "is over");
  }
}

function until(parent, at) {
  if (at === null) {
    delete parent.dataset.until;
    set(parent, "until it is cleared");
  } else if (parent.dataset.until !== String(at)) {
    parent.dataset.until = String(at);
  }
}

// Accounts -------------------------------------------------------------------------------------

function stateClass(account) {
  if (account.state === "ok") return account.cooldowns.length ? "state limited" : "state good";
  if (account.state === "disabled") return "state off";
  return LIMITED.includes(account.state) ? "state limited" : "state bad";
}

function accountRow() {
  const row = element("tr");
  const name = element("td");
  name.append(element("div", "name"), element("div", "aside"));
  const state = element("td");
  state.append(element("div", "state"), element("div", "until"), element("div", "aside"), element("div", "models"));
  row.append(name, state);
  for (const label of ["Turns today", "Tokens today", "Last used"]) {
    const cell = element("td", "number");
    cell.dataset.label = label;
    cell.append(element("span"));
    row.append(cell);
  }
  return row;
}

function fillAccount(row, account) {
  const [name, state, turns, tokens, used] = row.children;
  set(name.children[0], account.name);
  set(name.children[1], `${account.provider} · ${account.kind.replace("_", " ")}`);
  const [words, end, message, models] = state.children;
  words.className = stateClass(account);
  set(words, account.words);
  const isLimited = !["ok", "disabled", "needs_login"].includes(account.state);
  end.hidden = !isLimited;
  if (isLimited) until(end, account.until);
  set(message, account.message);
  message.hidden = !account.message;
  keep(models, account.cooldowns, (one) => one.model, () => {
    const line = element("div", "aside");
    line.append(element("span"), " ", element("span", "until"));
    return line;
  }, (line, one) => {
    set(line.children[0], `${one.model}: ${one.words}`);
    until(line.children[1], one.until);
  });
  set(turns.firstChild, number.format(account.today.turns));
  set(tokens.firstChild, number.format(account.today.input + account.today.output));
  set(used.firstChild, ago(account.last_used));
}

// Failures -------------------------------------------------------------------------------------

function failureItem(failure) {
  const item = element("li");
  const what = element("div");
  const title = element("span", "what");
  set(title, failure.explanation);
  const when = element("span", "aside");
  const model = failure.model ? ` · ${failure.model}` : "";
  set(when, ` ${clock(failure.at * 1000)}${model}${failure.attempts.map((one) => ` · ${one}`).join("")}`);
  what.append(title, when);
  const message = element("div", "aside");
  set(message, failure.message);
  const toDo = element("p", "todo");
  set(toDo, failure.to_do);
  item.append(what, message, toDo);
  return item;
}

// Figures --------------------------------------------------------------------------------------

function sum(days, field) { return days.reduce((total, day) => total + day[field], 0); }

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

function showTiles(observed, today) {
  const input = sum(today, "input");
  say("turns", number.format(sum(today, "turns")));
  const failed = sum(today, "failed");
  say("failed", failed ? `${number.format(failed)} failed` : "none failed");
  say("input", compact(input));
  say("cached", input ? `${Math.round((100 * sum(today, "cached")) / input)} % cached` : "");
  say("output", compact(sum(today, "output")));
  say("reasoning", sum(today, "reasoning") ? `${compact(sum(today, "reasoning"))} of them thoughts` : "");
  const first = median(observed.moments.map((one) => one.first_event_s));
  const speed = median(observed.moments.map((one) => one.tokens_per_second).filter((one) => one !== null));
  say("first", first === null ? "–" : `${first.toFixed(2)} s`);
  say("speed", speed === null ? "median" : `median; ${Math.round(speed)} tokens/s`);
  byId("cost-tile").hidden = !observed.days.some((day) => day.cost);
  say("cost", sum(today, "cost").toFixed(2));
  say("currency", observed.currency);
  say("streams", number.format(observed.open_streams));
}

function showDaysTable(days) {
  keep(byId("days-table").tBodies[0], [...days].reverse(), (day) => `${day.date} ${day.account}`, () => {
    const row = element("tr");
    row.append(element("td"), element("td"));
    for (let i = 0; i < 6; i += 1) row.append(element("td", "number"));
    return row;
  }, (row, day) => {
    const figures = [day.turns, day.input, day.cached, day.output, day.failed].map((one) => number.format(one));
    figures.push(day.cost ? day.cost.toFixed(4) : "");
    [day.date, day.account || NO_ACCOUNT, ...figures].forEach((text, place) => set(row.children[place], text));
  });
}

function show(status) {
  const observed = status.observed;
  behind = observed.now - Date.now();
  const date = new Date(observed.now).toISOString().slice(0, 10);
  const today = observed.days.filter((day) => day.date === date);
  const none = { turns: 0, input: 0, output: 0 };
  // The account file gets the time of a turn half a minute later.
  const heard = new Map(observed.moments.map((one) => [one.account, one.at * 1000]));
  const accounts = observed.accounts.map((account) => ({
    ...account,
    last_used: Math.max(account.last_used ?? 0, heard.get(account.name) ?? 0),
    today: today.find((day) => day.account === account.name) ?? none,
  }));

  say("version", status.version);
  showTiles(observed, today);
  keep(byId("accounts").tBodies[0], accounts, (account) => account.name, accountRow, fillAccount);
  say("problem", observed.accounts_problem ?? "");
  byId("problem").hidden = !observed.accounts_problem;
  byId("costs-section").hidden = !observed.days.some((day) => day.cost);
  charts.show(observed);
  showDaysTable(observed.days);
  say("days-note", observed.days_kept
    ? `Days in UTC, of all proxies of this user; kept for ${observed.days_kept} days on this machine.`
    : `Days in UTC, of this proxy, since ${clock(observed.since)}: none are kept on disk (qwen_days_kept).`);
  say("firsts-note", observed.moments.length
    ? `The last ${observed.moments.length} streamed answers of this proxy, since ${clock(observed.since)}; not kept.`
    : "No streamed answer yet.");
  byId("no-failures").hidden = observed.failures.length > 0;
  keep(byId("failures"), observed.failures, (one) => `${one.at} ${one.kind} ${one.message}`, failureItem, () => {});

  say("hosts", status.hosts.join(", "));
  say("listen", status.listen.join(", "));
  say("modes", status.modes.join(", "));
  say("pid", String(status.pid));
  say("worker", status.workers > 1 ? ` (worker ${status.worker} of ${status.workers})` : "");
  say("mitmproxy", status.mitmproxy);
  say("python", status.python);
  say("since", clock(observed.since));
  say("accounts-file", status.accounts_file ?? "the one of the environment");
  countDown();
}

async function refresh() {
  const live = byId("live");
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    live.className = "";
    set(live, `Live, ${new Date().toLocaleTimeString()}`);
  } catch (error) {
    live.className = "lost";
    set(live, `The proxy does not answer (${error.message}). What you see may be old.`);
  }
}

async function follow() {
  if (!document.hidden) await refresh();
  setTimeout(follow, REFRESH_MS);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.paint());
setInterval(countDown, 1000);
follow();
