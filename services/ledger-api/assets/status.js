// The live status page. Everything from the network goes into the page as text, never as markup.
"use strict";

const COMMITS_SHOWN = 15;
const RATE_WINDOW_MS = 10000;
const recent = [];
let validators = [];
let epoch = 0;
let transactions = 0;
let countedFrom = 0;
let dirty = false;

const at = (id) => document.getElementById(id);
const put = (id, text) => { at(id).textContent = String(text); };
const grouped = (number) => Number(number).toLocaleString("en");

function cell(row, content, className) {
  const td = document.createElement("td");
  if (className) td.className = className;
  td.append(content);
  row.append(td);
}

function link(path, text) {
  const a = document.createElement("a");
  a.href = path;
  a.className = "mono";
  a.textContent = text;
  return a;
}

function kdx(units) {
  const digits = String(units).padStart(19, "0");
  const whole = digits.slice(0, -18);
  return whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

const validatorName = (index) => (validators[index] ? validators[index].name : String(index));

function drawCommits() {
  const rows = recent.slice(-COMMITS_SHOWN).reverse().map((commit) => {
    const row = document.createElement("tr");
    cell(row, link("/v1/commits/" + Number(commit.index), grouped(commit.index)));
    cell(row, new Date(commit.timestamp_ms).toLocaleTimeString());
    cell(row, grouped(commit.leader ? commit.leader.round : 0), "number");
    cell(row, commit.leader ? validatorName(commit.leader.author) : "–");
    cell(row, grouped(commit.blocks.length), "number");
    cell(row, grouped(commit.transaction_count), "number");
    cell(row, link("/v1/blocks/" + encodeURIComponent(commit.leader ? commit.leader.digest : ""), String(commit.digest).slice(0, 12) + "…"));
    return row;
  });
  at("commits").replaceChildren(...rows);
}

function drawValidators() {
  const rows = validators.map((validator) => {
    const row = document.createElement("tr");
    cell(row, validator.in_committee ? String(validator.index) : "–", "number");
    cell(row, String(validator.name));
    cell(row, String(validator.region));
    cell(row, grouped(validator.stake), "number");
    cell(row, String(validator.scheme));
    cell(row, grouped(validator.last_round), "number");
    return row;
  });
  at("validators").replaceChildren(...rows);
}

function drawRates() {
  const since = Date.now() - RATE_WINDOW_MS;
  const window = recent.filter((commit) => commit.seen >= since);
  const seconds = RATE_WINDOW_MS / 1000;
  const count = window.reduce((sum, commit) => sum + commit.transaction_count, 0);
  put("tps", (count / seconds).toLocaleString("en", { maximumFractionDigits: 1 }));
  put("cps", (window.length / seconds).toLocaleString("en", { maximumFractionDigits: 1 }));
}

function note(commit, seen) {
  const last = recent[recent.length - 1];
  if (last && commit.index <= last.index) return;
  commit.seen = seen;
  recent.push(commit);
  if (recent.length > 1000) recent.shift();
  for (const block of commit.blocks) {
    const author = validators[block.author];
    if (author && block.round > author.last_round) author.last_round = block.round;
  }
  if (commit.index > countedFrom) transactions += commit.transaction_count;
  if (commit.epoch > epoch) {
    // Another committee: indices mean others from here on.
    epoch = commit.epoch;
    get("/v1/validators").then((list) => { validators = list.validators; dirty = true; }).catch(() => {});
  }
  dirty = true;
}

function draw() {
  drawRates();
  if (!dirty || document.hidden) return;
  dirty = false;
  const last = recent[recent.length - 1];
  put("commit", grouped(last.index));
  put("round", grouped(last.leader ? last.leader.round : 0));
  put("epoch", grouped(last.epoch));
  put("transactions", grouped(transactions));
  drawCommits();
  drawValidators();
}

async function get(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(path + " answered " + response.status);
  return response.json();
}

function follow() {
  const events = new EventSource("/v1/events" + (recent.length ? "?from=" + (recent[recent.length - 1].index + 1) : ""));
  const state = at("link");
  events.onopen = () => { state.textContent = "live"; state.className = "good"; };
  events.onerror = () => { state.textContent = "reconnecting…"; state.className = "bad"; };
  events.addEventListener("commit", (event) => note(JSON.parse(event.data), Date.now()));
}

async function start() {
  const [network, list, page] = await Promise.all([get("/v1/network"), get("/v1/validators"), get("/v1/commits?limit=50")]);
  document.title = network.name + " – Kaldrix status";
  put("name", network.name);
  put("region", network.region || "–");
  put("chain", network.chain_id);
  put("supply", kdx(network.supply));
  put("version", "Kaldrix " + network.version);
  validators = list.validators;
  epoch = list.epoch;
  transactions = network.transaction_count;
  countedFrom = network.commit_index;
  for (const commit of page.commits.reverse()) note(commit, commit.timestamp_ms);
  put("commit", grouped(network.commit_index));
  put("round", grouped(network.round));
  put("epoch", grouped(network.epoch));
  put("transactions", grouped(transactions));
  drawValidators();
  draw();
  setInterval(draw, 500);
  follow();
}

function retry(error) {
  const state = at("link");
  state.textContent = "not available: " + error.message;
  state.className = "bad";
  setTimeout(() => start().catch(retry), 2000);
}

start().catch(retry);
