// One deployment, step by step, as its events come: the one under way, the last one, or one of the history.

import {lines, now as clock, rest, told} from "./api.js";
import {badge, el, facts, panel, part, quiet} from "./dom.js";
import {drawSteps} from "./timeline.js";
import {age, duration, long, name, state, visible} from "./words.js";

const OUTPUT_MOST = 500;
const DETAIL_MOST = 600;

/** What the events of a deployment say, one after the other. */
export class Course {
  seq = 0;
  facts = {};
  steps = [];
  output = [];
  said = 0;
  began = null;
  finished = null;
  unknown = false;

  constructor(id) {
    this.id = id;
  }

  add(event) {
    this.seq = Math.max(this.seq, event.seq);
    const at = Date.parse(event.time);
    this.began ??= at;
    const [kind, end] = event.event.split("_");
    if (event.event === "started") this.facts = event;
    else if (event.event === "output") {
      if (this.output.push(event) > OUTPUT_MOST) this.output.shift();
      this.said += 1;
    } else if (event.event === "finished") {
      this.finished = event;
      this.facts = {...event, ...this.facts};
      if (!this.steps.length && event.ms) this.began = at - event.ms;
    } else if (end === "started") this.steps.push({kind, name: event.hook ?? event.step, began: at, state: "going", ms: null});
    else if (end === "done" || end === "failed") {
      const step = this.steps.findLast((one) => one.kind === kind && one.name === (event.hook ?? event.step) && one.ms === null);
      if (step) Object.assign(step, {state: end, ms: event.ms ?? at - step.began, problem: event.problem});
    }
  }
}

/** The panel that shows one. Its parts are drawn apart: who reads the output of a hook is not disturbed by the steps,
 * which move all the time. */
export class Shown {
  turn = new AbortController();
  newest = null;
  outcome = part("span", {role: "status"});
  when = part("span");
  problems = part();
  steps = part();
  output = part();
  facts = part();
  none = quiet("None yet");

  constructor({base, signal}) {
    this.base = base;
    this.section = panel("deployment", "Deployment", this.none, el("p", {class: "outcome"}, this.outcome.node, this.when.node),
      ...[this.problems, this.steps, this.output, this.facts].map((one) => one.node)).section;
    signal.addEventListener("abort", () => this.turn.abort());
  }

  /** Show this one, unless a person chose another and nothing new has begun since. */
  follow(id) {
    if (id === this.newest) return;
    this.newest = id;
    if (id) this.show(id);
  }

  async show(id, {scroll = false} = {}) {
    this.turn.abort();
    const {signal} = (this.turn = new AbortController());
    const course = new Course(id);
    if (scroll) this.section.scrollIntoView({block: "start"});
    let wrong = "";
    const redraw = () => this.draw(course, wrong);
    const ticking = setInterval(() => course.seq && redraw(), 250);
    signal.addEventListener("abort", () => clearInterval(ticking));
    while (!signal.aborted && !course.finished) {
      try {
        for await (const some of lines(`${this.base}/deployments/${encodeURIComponent(id)}/events?after=${course.seq}`, signal)) {
          some.forEach((event) => course.add(event));
          wrong = "";
        }
      } catch (problem) {
        if (signal.aborted) return;
        const {title, code} = told(problem);
        wrong = title;
        course.unknown = code === "unknown_deployment";
        if (course.unknown) break;
      }
      redraw();
      if (!course.finished) await rest(1000, signal);
    }
    clearInterval(ticking);
    if (!signal.aborted) redraw();
  }

  draw(course, wrong) {
    const {id, facts: known, finished, steps, output} = course;
    const outcome = finished?.outcome;
    this.none.hidden = true;
    this.outcome.show([id, outcome, course.unknown, known.kind, known.version, finished?.ms], () => [
      course.unknown ? badge("not known", "plain") : state(outcome), " ",
      known.kind === "rollback" ? "rollback to " : "", name(known.version ?? "", "version"), finished?.ms !== undefined && ` in ${duration(finished.ms)}`]);
    this.when.show([id, course.began, known.by], () => [course.began && [", ", age(course.began)], known.by && [" by ", name(known.by)]]);
    this.problems.show([id, wrong, finished?.problem, finished?.warning], () => [
      wrong && el("p", {class: "problem warn"}, visible(wrong)),
      finished?.problem && problemOf(finished.problem, "bad", id),
      finished?.warning && problemOf(finished.warning, "warn", id)]);
    const now = finished ? Date.parse(finished.time) : Math.max(clock(), ...steps.map((one) => one.began));
    this.steps.show([id, course.seq, course.unknown, finished ? 0 : Math.floor(Date.now() / 250)], () =>
      steps.length ? drawSteps(steps, {began: course.began, now}) : quiet(finished || course.unknown ? "Its steps are not kept any more." : "It has not begun yet."));
    this.output.show([id, course.said, Boolean(finished)], () => output.length > 0 && el("details", {open: !finished || outcome !== "done", "data-key": `output-${id}`},
      el("summary", {"data-key": "output"}, `Output of hooks and steps, lines: ${course.said > output.length ? `the last ${output.length} of ${course.said}` : output.length}`),
      el("pre", {tabindex: "0", "aria-label": "Output", "data-key": `lines-${id}`}, output.map((one) => `${visible(one.source)}: ${visible(one.text)}\n`).join(""))));
    this.facts.show([id, known.release, known.previous], () =>
      facts([["id", el("code", {}, visible(id))], ["release", known.release], ["before it", known.previous]]));
  }
}

/** A problem, with the traceback or the output that belongs to it. */
function problemOf({title, detail, hint, output}, kind, id) {
  return el("div", {class: `problem ${kind}`},
    el("div", {}, el("strong", {}, visible(title)), detail && [": ", long(detail, `${kind} ${id}`, DETAIL_MOST)]),
    hint && el("p", {class: "hint"}, visible(hint)),
    output && el("pre", {tabindex: "0", "aria-label": "Output of the problem"}, visible(output)));
}
