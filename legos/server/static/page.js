"use strict";
// The page of `legos serve`. Everything a catalogue says is set as text, never as markup.

const $ = (id) => document.getElementById(id);
const SHOWN = 6; // items of a history before "show all"
const MOST = 1000; // the longest list the server gives
const state = { reader: null, picked: [], history: [], whole: false, current: null, fresh: null, fields: [], asked: 0 };

function element(tag, classes, text) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(path, body) {
  const headers = {};
  const key = sessionStorage.getItem("key");
  if (key) headers["X-API-Key"] = key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) $("key").hidden = false;
  if (!response.ok) throw new Error(answer.error || `The server answered ${response.status}.`);
  return answer;
}

function tell(error) {
  $("problem").textContent = error ? error.message : "";
  $("problem").hidden = !error;
}

/** Run something that asks the server; what it throws is shown. */
async function attempt(work) {
  try {
    await work();
    tell(null);
  } catch (error) {
    tell(error);
  }
}

const name = (item) => item.title || item.item_id;

function labels(item, place) {
  const made = place || element("span", "labels");
  made.replaceChildren(...item.labels.map((text) => element("span", "", text)));
  return made;
}

function listed(item, rank) {
  const row = element("li");
  const button = element("button");
  button.type = "button";
  button.dataset.item = item.item_id;
  button.append(element("span", "rank", rank), element("span", "title", name(item)), element("span", "score", item.score.toFixed(3)), labels(item));
  if (item.item_id === state.fresh) button.classList.add("fresh");
  button.setAttribute("aria-current", String(item.item_id === state.current));
  button.addEventListener("click", () => attempt(() => explain(item)));
  row.append(button);
  return row;
}

function fill(list, items) {
  list.replaceChildren(...items.map((item, at) => listed(item, String(at + 1))));
}

// The reader -----------------------------------------------------------------------------------

function showHistory() {
  const isNew = $("new-side").hidden === false;
  const items = isNew ? state.picked : state.history;
  const shown = isNew || state.whole ? items : items.slice(0, SHOWN);
  $("history").replaceChildren(...shown.map((item) => {
    const row = element("li", "", "");
    row.append(element("span", "", name(item)));
    if (isNew) {
      const remove = element("button", "", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${name(item)}`);
      remove.addEventListener("click", () => {
        state.picked = state.picked.filter((other) => other !== item);
        pickedChanged();
      });
      row.append(remove);
    }
    return row;
  }));
  $("more").hidden = shown.length === items.length;
  $("more").textContent = `Show all ${items.length}`;
  if (!items.length) $("history").append(element("li", "quiet", isNew ? "Empty: search for items above." : "Empty."));
}

async function setUser(user) {
  const found = await ask(`/history?user=${encodeURIComponent(user)}&limit=200`);
  state.history = found.items;
  state.whole = false;
  state.reader = { user };
  history.replaceState(null, "", `#user=${encodeURIComponent(user)}`);
  $("user").value = user;
  showHistory();
  await recommend();
}

function pickedChanged() {
  state.reader = state.picked.length ? { history: state.picked.map((item) => item.item_id) } : null;
  showHistory();
  attempt(recommend);
}

function showNotice(notice) {
  $("notice").textContent = notice ?? "";
  $("notice").hidden = !notice;
}

async function recommend() {
  const turn = ++state.asked;
  $("empty").hidden = Boolean(state.reader);
  $("list-title").textContent = state.reader ? `Recommended to ${state.reader.user ?? "a new user"}` : "Recommended";
  if (!state.reader) {
    showNotice(null);
    return $("items").replaceChildren();
  }
  $("list").classList.add("busy");
  try {
    const body = { ...state.reader, k: Number($("k").value), exclude_seen: $("unseen").checked };
    const found = await ask("/recommend", body);
    if (turn !== state.asked) return; // a later question is under way
    fill($("items"), found.items);
    showNotice(found.notice);
  } finally {
    if (turn === state.asked) $("list").classList.remove("busy");
  }
}

// One item -------------------------------------------------------------------------------------

async function explain(item) {
  state.current = item.item_id;
  for (const button of document.querySelectorAll(".items button")) {
    button.setAttribute("aria-current", String(button.dataset.item === item.item_id));
  }
  $("detail-title").textContent = name(item);
  labels(item, $("detail-labels"));
  $("detail-hint").hidden = true;
  $("detail-body").hidden = false;
  $("reasons").replaceChildren(element("li", "quiet", "…"));
  $("similar").replaceChildren();
  const [reasons, similar] = await Promise.allSettled([
    state.reader ? ask("/reasons", { ...state.reader, item: item.item_id }) : { reasons: [] },
    ask("/similar", { item: item.item_id, k: 8 }),
  ]);
  if (state.current !== item.item_id) return;
  if (similar.status === "fulfilled") fill($("similar"), similar.value.items);
  else $("similar").append(element("li", "quiet", similar.reason.message));
  const told = reasons.status === "fulfilled" ? reasons.value.reasons : [];
  const why = reasons.status === "fulfilled" ? "The history is empty, so no item of it explains the score." : reasons.reason.message;
  $("reasons").replaceChildren(...told.slice(0, 8).map(reason));
  if (!told.length) $("reasons").append(element("li", "quiet", why));
  if (matchMedia("(max-width: 1080px)").matches) $("detail").scrollIntoView({ block: "start" });
  $("detail").focus({ preventScroll: true });
}

function reason(told) {
  const row = element("li", told.share < 0 ? "against" : "");
  const line = element("div", "row");
  line.append(element("span", "", name(told)), element("span", "share", `${Math.round(100 * told.share)} %`));
  const track = element("div", "track");
  const bar = element("div");
  bar.style.setProperty("--share", `${Math.min(100, 100 * Math.abs(told.share))}%`);
  track.append(bar);
  row.append(line, track);
  return row;
}

// A new item -----------------------------------------------------------------------------------

function showFields() {
  const inputs = state.fields.map((field) => {
    const label = element("label", "", field);
    const input = element(field === "description" || field === "abstract" ? "textarea" : "input");
    if (input.tagName === "INPUT") input.type = "text";
    input.name = field;
    input.id = `field-${field}`;
    label.append(input);
    return label;
  });
  if (inputs.length) inputs[0].querySelector("input, textarea").required = true;
  $("add-fields").replaceChildren(...inputs);
}

async function add() {
  const item = { item_id: `new-${Date.now().toString(36)}` };
  for (const field of state.fields) {
    const text = $(`field-${field}`).value.trim();
    if (text) item[field] = text;
  }
  const { added } = await ask("/items", { items: [item] });
  state.fresh = added[0];
  const near = await ask("/similar", { item: added[0], k: 5 }).catch(() => ({ items: [] }));
  let rank = "The item can be recommended now. Choose a user to see its rank.";
  if (state.reader) {
    const whole = await ask("/recommend", { ...state.reader, k: MOST, exclude_seen: $("unseen").checked });
    const place = whole.items.findIndex((other) => other.item_id === added[0]) + 1;
    const who = state.reader.user ?? "the new user";
    rank = place ? `Rank ${place} of ${whole.items.length} for ${who}.` : `Below the first ${whole.items.length} for ${who}.`;
  }
  $("landed").hidden = false;
  $("landed-rank").textContent = rank;
  fill($("landed-near"), near.items);
  $("add-form").reset();
  await recommend();
  await about();
}

// Completion -----------------------------------------------------------------------------------

function combobox(input, options, find, choose) {
  let found = [], at = -1, turn = 0, latest = Promise.resolve();
  const close = () => { options.hidden = true; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const mark = (place) => {
    at = place;
    [...options.children].forEach((option, row) => option.setAttribute("aria-selected", String(row === at)));
    if (at < 0) return;
    input.setAttribute("aria-activedescendant", options.children[at].id);
    options.children[at].scrollIntoView({ block: "nearest" });
  };
  const take = (place) => { close(); choose(found[place].value); };
  const search = () => { latest = attempt(async () => {
    const mine = ++turn;
    const answer = await find(input.value);
    if (mine !== turn || document.activeElement !== input) return;
    found = answer;
    options.replaceChildren(...found.map((each, row) => {
      const option = element("li", "", each.text);
      option.id = `${options.id}-${row}`;
      option.setAttribute("role", "option");
      option.addEventListener("pointerdown", (event) => { event.preventDefault(); take(row); });
      return option;
    }));
    options.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
    mark(found.length && input.value ? 0 : -1);
  }); };
  input.addEventListener("input", search);
  let entered = false; // by a pointer, whose release would undo the selection
  input.addEventListener("focus", () => { entered = true; input.select(); search(); });
  input.addEventListener("pointerup", () => { if (entered) input.select(); entered = false; });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return close();
    if (event.key === "ArrowDown" && options.hidden) return search();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (found.length) mark((at + step + found.length) % found.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      latest.then(() => { // not what an earlier letter found
        if (!options.hidden && at >= 0) take(at);
        else if (input.value.trim()) { close(); choose(null, input.value.trim()); }
      });
    }
  });
}

async function findUsers(query) {
  const { users } = await ask(`/users?limit=12&query=${encodeURIComponent(query)}`);
  return users.map((user) => ({ text: user, value: user }));
}

async function findItems(query) {
  const { items } = await ask(`/items?limit=12&query=${encodeURIComponent(query)}`);
  return items.map((item) => ({ text: [name(item), ...item.labels].join(" · "), value: item }));
}

// Start ----------------------------------------------------------------------------------------

async function about() {
  const told = await ask("/health");
  if (!told.run) { $("key").hidden = false; throw new Error("This server needs its API key."); }
  const count = (number) => number.toLocaleString("en");
  $("run").textContent = `${told.run} · ${count(told.items)} items · ${count(told.users)} users`;
  if (String(state.fields) !== String(told.fields)) {
    state.fields = told.fields;
    showFields();
  }
  return told;
}

async function start() {
  const told = await about();
  $("key").hidden = true;
  const asked = new URLSearchParams(location.hash.slice(1)).get("user");
  const { users } = await ask("/users?limit=1");
  if (asked !== null || users.length) return setUser(asked ?? users[0]);
  document.querySelector("[name=who][value=new]").click();
  return told;
}

combobox($("user"), $("user-options"), findUsers, (user, typed) => attempt(() => setUser(user ?? typed)));
combobox($("pick"), $("pick-options"), findItems, (item) => {
  if (!item) return;
  if (!state.picked.some((other) => other.item_id === item.item_id)) state.picked.push(item);
  $("pick").value = "";
  pickedChanged();
});
for (const choice of document.querySelectorAll("[name=who]")) {
  choice.addEventListener("change", () => {
    const isNew = choice.value === "new";
    $("user-side").hidden = isNew;
    $("new-side").hidden = !isNew;
    if (isNew) pickedChanged();
    else if ($("user").value) attempt(() => setUser($("user").value));
  });
}
$("k").addEventListener("change", () => attempt(recommend));
$("unseen").addEventListener("change", () => attempt(recommend));
$("more").addEventListener("click", () => { state.whole = true; showHistory(); });
$("add-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(add); });
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key-text").value);
  attempt(start);
});
attempt(start);
