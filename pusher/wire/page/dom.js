// Elements of the page. Every text of a host comes in as a text node or an attribute, never as markup: a version may
// be called `<img onerror=...>`, and is then shown as that.

const SVG = "http://www.w3.org/2000/svg";
const KEPT = "details[data-key], pre[data-key]";

/** An HTML element. A function among the attributes listens to the event of its name: `{click: f}`. */
export const el = (name, attributes = {}, ...children) =>
  dressed(document.createElement(name), attributes, children);

/** The same for SVG. */
export const svg = (name, attributes = {}, ...children) =>
  dressed(document.createElementNS(SVG, name), attributes, children);

/** Replace what is in `node`. An element with a `data-key` that comes back is as a person left it: it keeps the focus,
 * and is as open and as far scrolled as it was. What was scrolled to its end stays at its end. */
export function fill(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset?.key : undefined;
  const left = new Map([...node.querySelectorAll(KEPT)].map((one) =>
    [one.dataset.key, {open: one.open, top: one.scrollTop, end: atEnd(one)}]));
  node.replaceChildren(...flat(children));
  for (const one of left.size ? node.querySelectorAll(KEPT) : []) {
    const {open, top, end} = left.get(one.dataset.key) ?? {};
    if (one.localName === "details") one.open = open ?? one.open;
    else one.scrollTop = end ? one.scrollHeight : top ?? 0;
  }
  if (focused) focus(focused, node);
}

/** Give the focus to the element with this `data-key`. */
export const focus = (key, node = document) =>
  [...node.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus({preventScroll: true});

/** Whether a person who scrolls there sees its end. */
export const atEnd = (node) => node.scrollTop + node.clientHeight >= node.scrollHeight - 8;

/** A part that is drawn only when what it shows has changed: what a person selects in it, or reads aloud, stays. */
export function part(name = "div", attributes = {}) {
  const node = el(name, attributes);
  let shown;
  return {
    node,
    show(facts, draw) {
      const now = JSON.stringify(facts);
      if (now === shown) return;
      shown = now;
      fill(node, draw(facts));
    },
  };
}

/** Such a part, with a title. */
export function panel(id, title, ...more) {
  const body = part();
  const section = el("section", {id, "aria-labelledby": `${id}-title`}, el("h2", {id: `${id}-title`}, title), ...more, body.node);
  return {section, show: body.show, hide: (hidden) => (section.hidden = hidden)};
}

/** A table that becomes a list of cards where there is no room for its columns. Cells are nodes or texts. */
export function table(caption, heads, rows) {
  const cell = (one, at) => el("td", {"data-label": heads[at]}, flat([one]).length > 0 && el("div", {}, one));
  return el("div", {class: "table"}, el("table", {},
    el("caption", {class: "unseen"}, caption),
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", {scope: "col"}, head)))),
    el("tbody", {}, rows.map(({cells, ...attributes}) => el("tr", attributes, cells.map(cell))))));
}

/** Facts, a line each: pairs of a word and what there is; what is null, false or "" is left out. */
export const facts = (pairs) =>
  el("dl", {}, pairs.filter(([, value]) => value || value === 0).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

/** What is no news. */
export const quiet = (text) => el("p", {class: "quiet"}, text);

/** A state in a word and a colour: the word is enough for those who see no colours. */
export const badge = (word, kind) => el("span", {class: `badge ${kind}`}, word);

function dressed(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...flat(children));
  return node;
}

const flat = (children) => children.flat(9).filter((one) => one !== null && one !== undefined && one !== false && one !== "");
