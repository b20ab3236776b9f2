// A layered drawing of a part of the graph: columns from the history to the items, an edge for each relation.

const NS = "http://www.w3.org/2000/svg";
const COLUMN = 216, ROW = 42, WIDTH = 150, HEIGHT = 28, MOST = 60, LETTERS = 20;

function element(name, attributes = {}, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const short = (text) => (text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}…` : text);
const kind = (node) => (node.item_id !== null && node.item_id !== undefined ? "item" : "entity");

/** A drawing in `place`, to which edges are added; `pick(node)` hears of items that are chosen in it. */
export class Drawing {
  constructor(place, pick = () => {}) {
    this.place = place;
    this.pick = pick;
    this.clear();
  }

  clear() {
    this.nodes = new Map(); // id -> {node, column}
    this.edges = new Map(); // "source target" -> {source, target, score, description}
    this.lit = null;
    this.place.replaceChildren();
  }

  add(node, column) {
    if (!this.nodes.has(node.id) && this.nodes.size < MOST) this.nodes.set(node.id, { node, column });
    return this.nodes.has(node.id);
  }

  /** Add an edge whose source is drawn; its target comes into `column` if it is new. */
  link(edge, column) {
    if (!this.nodes.has(edge.source.id) || !this.add(edge.target, column)) return;
    const key = `${edge.source.id} ${edge.target.id}`;
    if (!this.edges.has(key)) this.edges.set(key, edge);
  }

  /** Light up the ways to one item, or none. */
  light(paths) {
    this.lit = paths && new Set(paths.flat().flatMap((edge) => [edge.source.id, edge.target.id, `${edge.source.id} ${edge.target.id}`]));
    this.draw();
  }

  /** Put the nodes of each column near those that they come from, and draw all. */
  draw() {
    const columns = [];
    for (const [id, { column }] of this.nodes) (columns[column] ??= []).push(id);
    const at = new Map();
    columns.forEach((ids, column) => {
      const wish = new Map(ids.map((id) => {
        const from = [...this.edges.values()].filter((e) => e.target.id === id && at.has(e.source.id)).map((e) => at.get(e.source.id).y);
        return [id, from.length ? from.reduce((a, b) => a + b) / from.length : Infinity];
      }));
      ids.sort((a, b) => wish.get(a) - wish.get(b) || 0);
      ids.forEach((id, row) => at.set(id, { x: 8 + column * COLUMN, y: 22 + row * ROW }));
    });
    const height = Math.max(0, ...columns.map((ids) => ids?.length ?? 0)) * ROW + 12;
    const back = [...this.edges.values()].some((e) => at.get(e.target.id).x <= at.get(e.source.id).x);
    const width = columns.length * COLUMN - (COLUMN - WIDTH) + (back ? 64 : 16);
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": this.told() });
    const labels = [];
    for (const [key, edge] of this.edges) labels.push(this.edge(svg, key, edge, at.get(edge.source.id), at.get(edge.target.id)));
    for (const [id, { node }] of this.nodes) svg.append(this.box(node, at.get(id)));
    svg.append(...labels.filter(Boolean)); // over the boxes, or they could not be read
    this.place.replaceChildren(svg);
  }

  told() {
    const items = [...this.nodes.values()].filter(({ node, column }) => column && kind(node) === "item").length;
    return `A graph of ${this.nodes.size} entities, ${items} of them items; the list of recommendations tells the ways as text`;
  }

  state(key) {
    return this.lit === null ? "" : this.lit.has(key) ? " on" : " off";
  }

  edge(svg, key, edge, from, to) {
    const back = to.x <= from.x;
    const [x1, x2] = back ? [from.x + WIDTH, to.x + WIDTH] : [from.x + WIDTH, to.x];
    const bend = back ? 46 : (x2 - x1) / 2;
    const path = element("path", {
      class: `edge${this.state(key)}`,
      d: `M${x1} ${from.y} C${x1 + bend} ${from.y} ${back ? x2 + bend : x2 - bend} ${to.y} ${x2} ${to.y}`,
    });
    path.append(element("title", {}, `${edge.source.name} – ${edge.target.name}: ${edge.description}`));
    svg.append(path);
    if (edge.score === undefined) return null;
    const x = back ? x2 + bend * 0.75 : x2 - 15;
    return element("text", { class: `score${this.state(key)}`, x, y: to.y - 5, "text-anchor": "middle" }, edge.score.toFixed(1));
  }

  box(node, { x, y }) {
    const group = element("g", { class: `node ${kind(node)}${this.state(node.id)}` });
    group.append(element("title", {}, `${node.type}: ${node.name}`));
    group.append(element("rect", { x, y: y - HEIGHT / 2, width: WIDTH, height: HEIGHT, rx: kind(node) === "item" ? 5 : HEIGHT / 2 }));
    group.append(element("text", { x: x + WIDTH / 2, y: y + 4, "text-anchor": "middle" }, short(node.name)));
    if (kind(node) === "item") group.addEventListener("click", () => this.pick(node));
    return group;
  }
}
