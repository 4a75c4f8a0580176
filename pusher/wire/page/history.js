// All deployments of an app, from the records of its history. The newest are read first; the others when somebody
// looks for them. However many there are, the page holds 25 rows of them.

import {lines, told} from "./api.js";
import {el, fill, panel, table} from "./dom.js";
import {age, duration, long, name, state} from "./words.js";

const ROWS = 25;
const FIRST_RECORDS = 400;
const LAST_EVENT = 999_999_999;

export class History {
  known = new Map();
  rows = [];
  last = null; // the number of the last record that was read
  whole = false;
  page = 0;
  wanted = "";

  constructor({base, path, signal, chosen}) {
    this.base = base;
    this.path = path;
    this.ended = signal;
    this.chosen = chosen;
    this.filter = el("input", {type: "search", placeholder: "Version, outcome, name ...", "aria-label": "Look for", "data-key": "filter",
      input: () => this.look(this.filter.value)});
    this.said = el("span", {"aria-live": "polite"});
    this.newer = el("button", {class: "small", click: () => this.turn(-1)}, "Newer");
    this.older = el("button", {class: "small", click: () => this.turn(1)}, "Older");
    this.body = el("div");
    this.section = panel("history", "History", el("p", {class: "tools"}, this.filter, " ", this.newer, " ", this.older, " ", this.said), this.body).section;
  }

  /** Take in the newest deployments, with their reasons, and how many records there are. */
  newest(deployments, head) {
    for (const {deployment, started, ...one} of deployments ?? []) {
      this.put(deployment, {problem: null, ...one, started: Date.parse(started)});
    }
    this.last ??= Math.max(0, (head?.records ?? 0) - FIRST_RECORDS);
    this.whole ||= this.last === 0;
    this.draw();
  }

  /** Read the records that are new. Throws: Problem. */
  async read(after = this.last) {
    for await (const some of lines(`${this.path}/history?after=${after}`, this.ended)) some.forEach((one) => this.take(one));
    this.draw();
  }

  take({what, id, record, kind, version, release, by, started, phase, finished}) {
    this.last = Math.max(this.last, record);
    const row = this.known.get(id);
    if (what === "begun" && !row) this.put(id, {kind, version, release, by, started, outcome: null, ms: null, problem: null});
    else if (what === "ended" && row) this.put(id, {outcome: phase, ms: finished - row.started});
  }

  put(id, members) {
    this.known.set(id, {id, ...this.known.get(id), ...members});
    this.stale = true;
  }

  async look(words) {
    this.wanted = words.trim().toLowerCase();
    this.page = 0;
    if (this.wanted) await this.all();
    this.draw();
  }

  async turn(by) {
    this.page = Math.max(0, this.page + by);
    if ((this.page + 1) * ROWS >= this.rows.length) await this.all();
    this.draw();
  }

  async all() {
    if (this.whole) return;
    this.whole = true;
    this.said.textContent = "Reading all of it ...";
    try {
      await this.read(0);
    } catch (problem) {
      this.whole = false;
      told(problem);
    }
  }

  draw() {
    if (this.stale) {
      this.rows = [...this.known.values()].sort((one, other) => (one.id < other.id ? 1 : -1));
      this.stale = false;
    }
    const found = this.wanted ? this.rows.filter((one) => matches(one, this.wanted)) : this.rows;
    this.page = Math.min(this.page, Math.max(0, Math.ceil(found.length / ROWS) - 1));
    const from = this.page * ROWS;
    const shown = found.slice(from, from + ROWS);
    this.newer.disabled = this.page === 0;
    this.older.disabled = from + ROWS >= found.length && this.whole;
    const said = found.length ? `${from + 1} to ${from + shown.length} of ${found.length.toLocaleString("en")}${this.whole ? "" : " or more"}` : "None";
    if (this.said.textContent !== said) this.said.textContent = said;
    const now = JSON.stringify(shown);
    if (now === this.drawn) return;
    this.drawn = now;
    fill(this.body, shown.length > 0 && table("Deployments", ["Version", "Outcome", "Took", "Began", "By", "Reason"], shown.map((one) => ({cells: [
      el("button", {class: "link", click: () => this.chosen(one.id), "data-key": one.id, title: one.id}, one.kind === "rollback" ? "back to " : "", name(one.version, "version")),
      state(one.outcome),
      el("span", {class: "ms"}, duration(one.ms)), age(one.started), name(one.by), one.problem?.title && long(one.problem.title, `why ${one.id}`)]}))));
    this.reasons(shown);
  }

  /** Ask for the reasons of those that failed: records have none. */
  async reasons(shown) {
    for (const one of shown) {
      if (!one.outcome || one.outcome === "done" || one.problem || one.asked) continue;
      one.asked = true;
      try {
        for await (const [event] of lines(`${this.base}/deployments/${encodeURIComponent(one.id)}/events?after=${LAST_EVENT}`, this.ended)) {
          if (event.problem) this.put(one.id, {problem: {title: event.problem.title}});
        }
      } catch (problem) {
        told(problem); // it is shown without a reason
      }
    }
    if (this.stale) this.draw();
  }
}

const matches = (one, wanted) => `${one.version} ${one.kind} ${one.outcome} ${one.by} ${one.id} ${one.problem?.title ?? ""}`.toLowerCase().includes(wanted);
