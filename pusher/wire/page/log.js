// The app's own log, as it is written. Old lines go when there are many: the page stays quick for days.

import {lines, Problem, rest, seen} from "./api.js";
import {el, fill, panel} from "./dom.js";
import {visible} from "./words.js";

const MOST = 1000;

export class Log {
  constructor({path, signal}) {
    this.path = path;
    this.ended = signal;
    this.unit = "";
    this.names = "";
    this.turn = new AbortController();
    this.choice = el("select", {"aria-label": "Unit", change: () => this.choose(this.choice.value)}, el("option", {value: ""}, "all units"));
    this.follows = el("input", {type: "checkbox", checked: true, id: "log-follow"});
    this.lines = el("div", {class: "log", role: "log", tabindex: "0", "aria-label": "Log", "aria-live": "off"});
    this.state = el("p", {class: "quiet"}, "Reading ...");
    this.panel = panel("log", "Log", el("p", {class: "tools"}, this.choice, " ", el("label", {for: "log-follow"}, this.follows, " keep to the end")), this.lines, this.state);
    this.section = this.panel.section;
  }

  /** Which units there are to choose from. */
  offer(names) {
    if (this.names === names.join()) return;
    this.names = names.join();
    fill(this.choice, el("option", {value: ""}, "all units"), names.map((one) => el("option", {value: one, selected: one === this.unit}, one)));
  }

  choose(unit) {
    this.unit = unit;
    this.turn.abort();
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
    const fresh = document.createDocumentFragment();
    let waiting = false;
    const opened = () => { this.lines.replaceChildren(); this.state.textContent = "Follows."; };
    const show = () => {
      waiting = false;
      if (signal.aborted) return;
      const stays = this.follows.checked;
      this.lines.append(fresh);
      while (this.lines.childElementCount > MOST) this.lines.firstElementChild.remove();
      if (stays) this.lines.scrollTop = this.lines.scrollHeight;
    };
    try {
      const unit = this.unit ? `&unit=${encodeURIComponent(this.unit)}` : "";
      for await (const line of lines(`${this.path}/logs?lines=200&follow=1${unit}`, signal, opened)) {
        fresh.append(drawn(line));
        if (!waiting) { waiting = true; setTimeout(show, 30); }  // not an animation frame: hidden pages have none
      }
      this.state.textContent = "The agent ended the log. It is read again soon.";
    } catch (problem) {
      if (signal.aborted) { this.lines.replaceChildren(); this.state.textContent = "Reading ..."; return; }
      this.state.textContent = problem instanceof Problem ? visible(problem.members.title) : String(problem);
    }
  }
}

function drawn({time, unit, pid, message, priority}) {
  const at = new Date(time);
  const clock = Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString();
  return el("div", {class: priority <= 3 ? "line bad" : "line"}, el("span", {class: "quiet"}, `${clock} ${visible(unit)}${pid ? `[${pid}]` : ""} `), visible(message));
}
