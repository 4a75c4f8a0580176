// One deployment, step by step, as its events come: the one under way, the last one, or one of the history.

import {lines, now as clock, Problem, rest} from "./api.js";
import {badge, el, facts, panel} from "./dom.js";
import {drawSteps} from "./timeline.js";
import {age, duration, KINDS, name, visible} from "./words.js";

const OUTPUT_MOST = 500;

/** What the events of a deployment say, one after the other. */
export class Course {
  constructor(id) {
    this.id = id;
    this.seq = 0;
    this.facts = {};
    this.steps = [];
    this.output = [];
    this.began = null;
    this.finished = null;
  }

  add(event) {
    this.seq = Math.max(this.seq, event.seq);
    const at = Date.parse(event.time);
    this.began ??= at;
    const [kind, end] = event.event.split("_");
    if (event.event === "started") this.facts = event;
    else if (event.event === "output") this.output.push(event);
    else if (event.event === "finished") {
      this.finished = event;
      this.facts = {...event, ...this.facts};
      if (!this.steps.length && event.ms) this.began = at - event.ms;
    } else if (end === "started") this.steps.push({kind, name: event.hook ?? event.step, began: at, state: "going", ms: null});
    else if (end === "done" || end === "failed") {
      const step = this.steps.findLast((one) => one.kind === kind && one.name === (event.hook ?? event.step) && one.ms === null);
      if (step) Object.assign(step, {state: end, ms: event.ms ?? at - step.began, problem: event.problem});
    }
    if (this.output.length > OUTPUT_MOST) this.output.shift();
  }
}

/** The part of the page that shows one. */
export class Shown {
  constructor({base, signal}) {
    this.base = base;
    this.ended = signal;
    this.turn = new AbortController();
    this.newest = null;
    this.panel = panel("deployment", "Deployment");
    this.section = this.panel.section;
    this.panel.show("none", () => el("p", {class: "quiet"}, "None yet"));
    signal.addEventListener("abort", () => this.turn.abort());
  }

  /** Show this one, unless a person chose another and nothing new has begun since. */
  follow(id, going) {
    if (id === this.newest) return;
    this.newest = id;
    if (id) this.show(id, {going});
  }

  async show(id, {scroll = false} = {}) {
    this.turn.abort();
    const {signal} = (this.turn = new AbortController());
    const course = new Course(id);
    if (scroll) this.section.scrollIntoView({block: "start"});
    let told = "";
    const redraw = () => this.panel.show([course.seq, course.finished, told, id, course.finished ? 0 : Math.floor(Date.now() / 250)], () => drawn(course, told));
    const ticking = setInterval(() => course.seq && redraw(), 250);
    signal.addEventListener("abort", () => clearInterval(ticking));
    while (!signal.aborted && !course.finished) {
      try {
        for await (const event of lines(`${this.base}/deployments/${encodeURIComponent(id)}/events?after=${course.seq}`, signal)) {
          course.add(event);
          told = "";
        }
      } catch (problem) {
        if (signal.aborted) return;
        if (!(problem instanceof Problem)) throw problem;
        told = problem.members.title;
        if (problem.members.code === "unknown_deployment") break;
      }
      redraw();
      if (!course.finished) await rest(1000, signal);
    }
    clearInterval(ticking);
    if (!signal.aborted) redraw();
  }
}

function drawn(course, told) {
  const {facts: known, finished} = course;
  const outcome = finished?.outcome;
  const now = finished ? Date.parse(finished.time) : Math.max(clock(), ...course.steps.map((one) => one.began));
  return [
    el("p", {class: "outcome", role: "status"}, badge(outcome ?? "under way", outcome ? KINDS[outcome] ?? "plain" : "going"), " ",
      known.kind === "rollback" ? "rollback to " : "", name(known.version ?? "", "version"),
      finished?.ms !== undefined && ` in ${duration(finished.ms)}`, course.began && [", ", age(course.began)], known.by && [" by ", name(known.by)]),
    told && el("p", {class: "problem warn"}, visible(told)),
    finished?.problem && problemOf(finished.problem),
    finished?.warning && problemOf(finished.warning, "warn"),
    course.steps.length ? drawSteps(course.steps, {began: course.began, now}) : el("p", {class: "quiet"}, "Its steps are not kept any more."),
    course.output.length > 0 && el("details", {open: !finished || outcome !== "done"}, el("summary", {"data-key": "output"}, `Output of hooks and steps (${course.output.length} lines)`),
      el("pre", {tabindex: "0"}, course.output.map((one) => `${visible(one.source)}: ${visible(one.text)}\n`).join(""))),
    facts([["id", el("code", {}, visible(course.id))], ["release", known.release], ["before it", known.previous]]),
  ];
}

/** A problem, with the traceback or the output that belongs to it. */
function problemOf({title, detail, hint, output}, kind = "bad") {
  return el("div", {class: `problem ${kind}`},
    el("p", {}, el("strong", {}, visible(title)), detail && `: ${visible(detail)}`),
    hint && el("p", {class: "hint"}, visible(hint)),
    output && el("pre", {tabindex: "0", "aria-label": "output"}, output.split("\n").map(visible).join("\n")));
}
