// Elements of the page. Every text of a host comes in as a text node or an attribute, never as markup: a version may
// be called `<img onerror=...>`, and is then shown as that.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. A function among the attributes listens to the event of its name: `{click: f}`. */
export const el = (name, attributes = {}, ...children) =>
  dressed(document.createElement(name), attributes, children);

/** The same for SVG. */
export const svg = (name, attributes = {}, ...children) =>
  dressed(document.createElementNS(SVG, name), attributes, children);

/** Replace what is in `node`. Whoever had the focus keeps it, if an element with the same `data-key` comes back. */
export function fill(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset?.key : undefined;
  const caret = focused && "selectionStart" in document.activeElement ? document.activeElement.selectionStart : null;
  node.replaceChildren(...flat(children));
  if (!focused) return;
  const again = [...node.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused);
  again?.focus({preventScroll: true});
  if (again && caret !== null) again.setSelectionRange(caret, caret);
}

/** A part of the page that is drawn only when what it shows has changed. */
export function panel(id, title, ...more) {
  const body = el("div");
  const section = el("section", {id, "aria-labelledby": `${id}-title`}, el("h2", {id: `${id}-title`}, title), ...more, body);
  let shown;
  return {
    section,
    show(facts, draw) {
      const now = JSON.stringify(facts);
      if (now === shown) return;
      shown = now;
      fill(body, draw(facts));
    },
    hide: (hidden) => (section.hidden = hidden),
  };
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
