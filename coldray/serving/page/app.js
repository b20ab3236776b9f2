// The page: a history, the recommendations for it with their reasons, and new items.

import * as api from "./api.js";
import { Drawing } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const BEYOND = 14; // items that share entities with a new one, that are drawn
const PER_HOP = 10; // edges of a hop that are drawn while it is walked
const history = []; // {given, title}; given is what the service is asked with
let asking = null; // the AbortController of the recommendation that is on its way
let shownItem = null;

const drawing = new Drawing($("drawing"), (node) => select(node.item_id));
const around = new Drawing($("around"));

function make(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function button(text, act, label) {
  const made = make("button", text, { type: "button" });
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

/** Say what went wrong beside the form that caused it; ask for a token where one is missing. */
function complain(place, error) {
  place.hidden = !error;
  place.textContent = error ? error.message : "";
  if (error?.status === 401 || error?.status === 403) {
    $("access").hidden = false;
    $("access-why").textContent = error.message;
    $("token").focus();
  } else if (error && !(error instanceof api.Problem)) throw error;
}

// History

function remember(given, title) {
  if (!history.some((one) => one.given === given)) history.push({ given, title });
  showHistory();
}

function showHistory() {
  $("history").replaceChildren(...history.map((one, place) => {
    const row = make("li");
    row.append(make("span", one.title));
    row.append(button("×", () => { history.splice(place, 1); showHistory(); $("search").focus(); }, `Remove ${one.title}`));
    return row;
  }));
  $("history-empty").hidden = history.length > 0;
}

// Finding items: a combobox of the ARIA authoring practices

let options = [], active = -1, later = 0, finding = null;

function close() {
  options = [];
  active = -1;
  $("found").hidden = true;
  $("search").setAttribute("aria-expanded", "false");
  $("search").removeAttribute("aria-activedescendant");
}

function open(found) {
  const text = $("search").value.trim();
  options = found.map((one) => ({ given: one.item_id, title: one.title }));
  options.push({ given: text, title: text, free: true });
  $("found").replaceChildren(...options.map((one, place) => {
    const row = make("li", one.free ? `Add “${one.title}” as a description` : one.title, { role: "option", id: `option-${place}` });
    row.addEventListener("mousedown", (event) => { event.preventDefault(); choose(place); });
    return row;
  }));
  $("found").hidden = false;
  $("search").setAttribute("aria-expanded", "true");
  move(0);
}

function move(to) {
  active = (to + options.length) % options.length;
  [...$("found").children].forEach((row, place) => row.setAttribute("aria-selected", String(place === active)));
  $("search").setAttribute("aria-activedescendant", `option-${active}`);
  $("found").children[active].scrollIntoView({ block: "nearest" });
}

function choose(place) {
  remember(options[place].given, options[place].title);
  $("search").value = "";
  close();
}

async function search() {
  finding?.abort();
  const text = $("search").value.trim();
  if (!text) return close();
  finding = new AbortController();
  try {
    const found = await api.find(text, finding.signal);
    if ($("search").value.trim() === text) open(found.items);
  } catch (error) {
    if (error.name !== "AbortError") complain($("ask-problem"), error);
  }
}

$("search").addEventListener("input", () => { clearTimeout(later); later = setTimeout(search, 150); });
$("search").addEventListener("blur", close);
$("search").addEventListener("keydown", (event) => {
  const acts = {
    ArrowDown: () => (options.length ? move(active + 1) : search()),
    ArrowUp: () => options.length && move(active - 1),
    Enter: () => (options.length ? choose(active) : search()),
    Escape: close,
  };
  if (acts[event.key]) {
    event.preventDefault();
    acts[event.key]();
  }
});

// Recommendations

function hop(told) {
  $("progress").textContent =
    `Hop ${told.hop}: ${told.passed} of ${told.scored} edges passed ${told.threshold.toFixed(1)}, ${told.pool} items found`;
  if (told.hop === 1) for (const { source } of told.walked) drawing.add(source, 0);
  for (const edge of told.walked.slice(0, PER_HOP)) drawing.link(edge, told.hop);
  drawing.draw();
}

/** Draw only what leads to the items that were chosen: the rest was of interest while it was walked. */
function settle(answer) {
  drawing.clear();
  for (const { node } of answer.anchors) drawing.add(node, 0);
  for (const { paths } of answer.items) {
    for (const path of paths.slice(0, 2)) path.forEach((edge, step) => drawing.link(edge, step + 1));
  }
  if (drawing.edges.size) drawing.draw();
  $("drawing-note").textContent = drawing.edges.size
    ? "From the history on the left to the items; numbers say how relevant an edge is, 0 to 10. Choose an item to see its ways."
    : "No way through the graph leads to these items.";
}

function way(path) {
  const row = make("li");
  row.append(make("span", path[0].source.name, { class: "step" }));
  for (const edge of path) {
    row.append(make("span", edge.description || "related", { class: "relation" }), make("span", edge.score.toFixed(1), { class: "number" }));
    row.append(make("span", edge.target.name, { class: "step" }));
  }
  return row;
}

function recommended(one, rank) {
  const row = make("li", undefined, { "data-item": one.item_id });
  const head = make("div", undefined, { class: "head" });
  const title = button(one.title, () => select(one.item_id), `${one.title}: show why`);
  title.className = "title";
  title.setAttribute("aria-expanded", "false");
  head.append(make("span", String(rank), { class: "rank" }), title, make("span", one.score.toFixed(2), { class: "number" }));
  head.append(button("+", () => remember(one.item_id, one.title), `Add ${one.title} to the history`));
  row.append(head);
  const ways = make("ul", undefined, { class: "ways" });
  ways.append(...(one.paths.length ? one.paths.map(way) : [make("li", "It was not reached through the graph; its description is near to the history.")]));
  ways.hidden = true;
  row.append(ways);
  row.paths = one.paths;
  return row;
}

function select(itemId) {
  let paths = null;
  for (const row of $("results").children) {
    const chosen = row.dataset.item === itemId && !row.classList.contains("chosen");
    row.classList.toggle("chosen", chosen);
    row.querySelector(".title").setAttribute("aria-expanded", String(chosen));
    row.querySelector(".ways").hidden = !chosen;
    if (chosen) paths = row.paths;
  }
  drawing.light(paths?.length ? paths : null);
}

function show(answer) {
  $("results").replaceChildren(...answer.items.map((one, place) => recommended(one, place + 1)));
  const notes = [`${answer.items.length} items`];
  if (answer.unknown.length) notes.push(`not known: ${answer.unknown.join(", ")}`);
  for (const { given, node, similarity } of answer.anchors) {
    if (similarity < 1) notes.push(`“${given}” was taken as ${node.name}`);
  }
  if (answer.fallback) notes.push(answer.fallback);
  if (answer.stopped === "budget") notes.push("the budget was spent: these are the best found until then");
  if (answer.spent.calls) notes.push(`${answer.spent.calls} questions to the model`);
  $("progress").textContent = `${notes.join("; ")}.`;
  settle(answer);
}

async function recommend(event) {
  event.preventDefault();
  asking?.abort();
  const mine = (asking = new AbortController());
  const settings = {};
  for (const name of ["scorer", "ranker"]) if ($(name).value) settings[name] = $(name).value;
  const body = { history: history.map((one) => one.given), k: Number($("count").value), settings };
  complain($("ask-problem"), null);
  drawing.clear();
  $("results").replaceChildren();
  $("progress").textContent = "Asking …";
  $("stop").hidden = false;
  try {
    for await (const [name, told] of api.recommend(body, mine.signal)) (name === "hop" ? hop : show)(told);
  } catch (error) {
    $("progress").textContent = error.name === "AbortError" ? "Stopped." : "";
    if (error.name !== "AbortError") complain($("ask-problem"), error);
  } finally {
    if (asking === mine) {
      asking = null;
      $("stop").hidden = true;
    }
  }
}

$("ask").addEventListener("submit", recommend);
$("stop").addEventListener("click", () => asking?.abort());

// New items

$("more-fields").addEventListener("click", () => {
  const place = $("more").children.length / 2 + 1;
  const name = make("input", undefined, { "aria-label": `Name of field ${place}`, placeholder: "name, such as brand" });
  $("more").append(name, make("input", undefined, { "aria-label": `Value of field ${place}`, placeholder: "value" }));
  name.focus();
});

$("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const row = { item_id: $("new-id").value, title: $("new-title").value };
  if ($("new-text").value) row.description = $("new-text").value;
  const more = [...$("more").children].map((input) => input.value.trim());
  for (let i = 0; i < more.length; i += 2) if (more[i] && !(more[i] in row)) row[more[i]] = more[i + 1];
  complain($("add-problem"), null);
  $("add-go").disabled = true;
  $("add-progress").textContent = "The model profiles the item and looks for what it shares with others …";
  try {
    const done = await api.add(row);
    const [{ status, error }] = done.items;
    if (status === "failed") throw new api.Problem(422, "The item was not added", error);
    await joined(row.item_id, done.graph_version, status);
  } catch (error) {
    $("add-progress").textContent = "";
    complain($("add-problem"), error);
  } finally {
    $("add-go").disabled = false;
  }
});

async function joined(itemId, version, status) {
  $("add-progress").textContent = `${status} in version ${version}; the service is taking it up …`;
  for (let tries = 0; tries < 120; tries += 1) {
    const now = await refresh();
    if (now?.graph_version >= version) {
      $("add-progress").textContent = `${status}: it can be recommended now.`;
      return showItem(itemId);
    }
    await new Promise((done) => setTimeout(done, 500));
  }
  $("add-progress").textContent = `${status} in version ${version}, which the service has not taken up yet.`;
}

async function showItem(itemId) {
  const [item, found] = await Promise.all([api.item(itemId), api.around(itemId)]);
  shownItem = itemId;
  $("shown").hidden = false;
  $("shown-title").textContent = item.title;
  $("shown-profile").textContent = item.profile;
  around.clear();
  const near = found.nodes.filter((node) => node.hops < 2);
  const beyond = found.nodes.filter((node) => node.hops === 2);
  for (const node of [...near, ...beyond.slice(0, BEYOND)]) around.add(node, node.hops);
  const left = found.left_out + Math.max(0, beyond.length - BEYOND);
  $("around-note").textContent = left ? `${left} more entities are not drawn.` : "";
  for (const edge of found.edges) {
    const ends = [found.nodes[edge.source], found.nodes[edge.target]].sort((a, b) => a.hops - b.hops);
    if (around.nodes.has(ends[1].id)) around.link({ source: ends[0], target: ends[1], description: edge.description }, ends[1].hops);
  }
  around.draw();
  $("shown").scrollIntoView({ block: "start" });
}

$("remove").addEventListener("click", async () => {
  if (!confirm(`Remove ${$("shown-title").textContent} from the graph?`)) return;
  complain($("shown-problem"), null);
  try {
    const done = await api.remove(shownItem);
    $("shown").hidden = true;
    $("add-progress").textContent = `Removed in version ${done.graph_version}.`;
    await refresh();
  } catch (error) {
    complain($("shown-problem"), error);
  }
});

// The service's state

function choices(select, names, chosen) {
  if (select.children.length === names.length) return;
  select.replaceChildren(...names.map((name) => make("option", name, { value: name })));
  select.value = chosen;
}

async function refresh() {
  try {
    const now = await api.status();
    choices($("scorer"), now.scorers, now.default.scorer);
    choices($("ranker"), now.rankers, now.default.ranker);
    $("adding").hidden = now.engine !== "coldrag" || now.llm === "none";
    const graph = now.engine === "coldrag" ? `graph version ${now.graph_version}, ${now.entities} entities, ${now.relations} relations; ` : "";
    const away = now.store === "reachable" ? "" : "; its store cannot be reached, this version goes on";
    $("status").textContent = `${now.items} items; ${graph}language model: ${now.llm}${away}`;
    return now;
  } catch (error) {
    $("status").textContent = error.message;
    if (error.status === 401 || error.status === 403) complain($("access-why"), error);
    return null;
  }
}

$("access").addEventListener("submit", async (event) => {
  event.preventDefault();
  api.keepToken($("token").value.trim());
  $("token").value = "";
  if (await refresh()) $("access").hidden = true;
});

api.takeToken();
showHistory();
refresh();
