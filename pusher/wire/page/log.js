// The app's own log, as it is written. Old lines go when there are many: the page stays quick for days. Who scrolls
// back reads there in peace: it follows again from the end on.

import {lines, rest, seen} from "./api.js";
import {atEnd, el, fill, panel, quiet} from "./dom.js";
import {visible} from "./words.js";

const FIRST = 200;
const MOST = 1000;
const MOST_READ = 5000;
const BURST_MS = 300;

export class Log {
  unit = "";
  names = "";
  wanted = FIRST;
  newest = null; // the last line shown, as it came
  turn = new AbortController();

  constructor({path, signal}) {
    this.path = path;
    this.ended = signal;
    this.choice = el("select", {"aria-label": "Unit", change: () => this.begin({unit: this.choice.value, wanted: FIRST})});
    this.follows = el("input", {type: "checkbox", checked: true, id: "log-follow", change: () => this.stay()});
    this.earlier = el("button", {class: "small", click: () => this.begin({unit: this.unit, wanted: this.wanted < MOST ? MOST : MOST_READ})}, "Earlier lines");
    this.lines = el("div", {class: "log", role: "log", tabindex: "0", "aria-label": "Log", "aria-live": "off", scroll: () => this.scrolled()});
    this.state = quiet("Reading ...");
    this.section = panel("log", "Log", el("p", {class: "tools"}, this.choice, " ", this.earlier, " ", el("label", {for: "log-follow"}, this.follows, " keep to the end")), this.lines, this.state).section;
  }

  /** Which units there are to choose from. */
  offer(names) {
    if (this.names === names.join()) return;
    this.names = names.join();
    fill(this.choice, el("option", {value: ""}, "all units"), names.map((one) => el("option", {value: one, selected: one === this.unit}, one)));
  }

  /** Read anew: of another unit, or from further back. */
  begin({unit, wanted}) {
    this.unit = unit;
    this.wanted = wanted;
    this.newest = null;
    this.earlier.disabled = wanted >= MOST_READ;
    this.turn.abort();
  }

  stay() {
    if (this.follows.checked) this.lines.scrollTop = this.lines.scrollHeight;
  }

  /** Who scrolls back wants to read there. */
  scrolled() {
    this.follows.checked = atEnd(this.lines);
  }

  async run() {
    this.ended.addEventListener("abort", () => this.turn.abort());
    // A browser has six connections to a server, for all its tabs: one that nobody sees must not keep one of them.
    document.addEventListener("visibilitychange", () => document.hidden && this.turn.abort(), {signal: this.ended});
    while (!this.ended.aborted) {
      this.turn = new AbortController();
      await seen();
      await this.read(this.turn.signal);
      if (!this.turn.signal.aborted) await rest(2000, this.turn.signal);
    }
  }

  async read(signal) {
    let came = [];
    let again = this.newest; // until it is found in what comes first, nothing is known to be new
    let waiting = 0;
    const show = () => {
      waiting = 0;
      if (signal.aborted) return;
      if (again) came = since(came, again);
      again = null;
      this.add(came);
      came = [];
    };
    try {
      const unit = this.unit ? `&unit=${encodeURIComponent(this.unit)}` : "";
      const opened = () => {
        this.state.textContent = "Follows.";
        if (!this.newest) this.lines.replaceChildren();
      };
      for await (const some of lines(`${this.path}/logs?lines=${this.wanted}&follow=1${unit}`, signal, opened)) {
        came.push(...some);
        waiting ||= setTimeout(show, again ? BURST_MS : 30);  // not an animation frame: hidden pages have none
      }
      this.state.textContent = "The agent ended the log. It is read again soon.";
    } catch (problem) {
      this.state.textContent = signal.aborted ? "Reading ..." : visible(problem.members?.title ?? problem);
    }
    clearTimeout(waiting);
    if (came.length) show();
  }

  add(came) {
    if (!came.length) return;
    this.newest = JSON.stringify(came.at(-1));
    this.lines.append(...came.map(drawn));
    const most = Math.max(this.follows.checked ? MOST : MOST_READ, this.wanted);
    while (this.lines.childElementCount > most) this.lines.firstElementChild.remove();
    this.stay();
  }
}

/** Those after the line that was shown last. If it is not among them, there is a gap. */
function since(came, last) {
  const at = came.map((one) => JSON.stringify(one)).lastIndexOf(last);
  return at < 0 ? [{gap: true}, ...came] : came.slice(at + 1);
}

function drawn({time, unit, pid, message, priority, gap}) {
  if (gap) return el("div", {class: "line quiet"}, "... lines in between were not read ...");
  const at = new Date(time);
  const clock = Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString();
  return el("div", {class: priority <= 3 ? "line bad" : "line", title: clock && at.toLocaleString()}, el("span", {class: "quiet"}, `${clock} ${visible(unit)}${pid ? `[${pid}]` : ""} `), visible(message));
}
