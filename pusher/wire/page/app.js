// One app on one host, whole: asked every two seconds while somebody looks. What costs more to read is read again
// only when the head of the history has moved, for nothing of it changes without a record.

import {ask, lookAt, Problem, rest, seen} from "./api.js";
import {Shown} from "./deployment.js";
import {el, panel, part} from "./dom.js";
import {History} from "./history.js";
import {drawLive, drawRoom, drawRuns, Health} from "./live.js";
import {Log} from "./log.js";
import {drawReleases} from "./releases.js";
import {drawTimeline} from "./timeline.js";
import {long, visible} from "./words.js";

const EVERY_MS = 2000;
const HEALTH_EVERY_MS = 10_000;
const MENDED_EVERY_MS = 5000;

export class AppView {
  /** `base` leads to the host, `actions` offers changes (without it, there are none). */
  constructor({base, app, problem = null, actions = null}) {
    this.base = base;
    this.path = `${base}/apps/${encodeURIComponent(app)}`;
    this.actions = actions;
    this.problem = problem;
    this.ended = new AbortController();
    this.head = null;
    this.notice = part("div", {role: "alert", class: "notice"});
    this.health = new Health();
    this.room = part("span");
    this.live = panel("live", "Live");
    this.runs = panel("runs", "Workers and timers");
    this.releases = panel("releases", "Releases");
    this.shown = new Shown({base, signal: this.ended.signal});
    this.timeline = panel("timeline", "Deployments over time");
    this.history = new History({base, path: this.path, signal: this.ended.signal, chosen: (id) => this.shown.show(id, {scroll: true})});
    this.log = new Log({path: this.path, signal: this.ended.signal});
    this.node = el("div", {class: "app"}, this.notice.node, this.live.section, this.shown.section, this.timeline.section,
      this.releases.section, this.runs.section, this.history.section, this.log.section);
    this.runs.hide(true);
    lookAt(base);
  }

  /** Draw, and go on, until `close`. */
  async run() {
    await this.mended();
    if (this.ended.signal.aborted) return;
    this.askHealth();
    this.log.run();
    while (!this.ended.signal.aborted) {
      await seen();
      await this.refresh();
      await rest(EVERY_MS, this.ended.signal);
    }
  }

  /** Return when the app can be used: somebody may be correcting its file just now. */
  async mended() {
    while (this.problem && !this.ended.signal.aborted) {
      this.say(this.problem);
      await rest(MENDED_EVERY_MS, this.ended.signal);
      await seen();
      try {
        await ask(`${this.path}/status`);
        this.problem = null;
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        this.problem = problem.members;
      }
    }
  }

  close() {
    this.ended.abort();
  }

  async refresh() {
    try {
      const status = await ask(`${this.path}/status`);
      if (this.ended.signal.aborted) return;
      this.draw(status);
      const head = `${status.history?.records}:${status.history?.head}`;
      if (head !== this.head) {
        const found = await ask(`${this.path}/releases`);
        this.releases.show(found.releases, () => drawReleases(found.releases, this.offered(status)));
        this.history.newest(found.deployments, status.history);
        await this.history.read();
        this.head = head;
        this.timeline.show(this.history.rows.slice(0, 60), () => drawTimeline(this.history.rows, (id) => this.shown.show(id, {scroll: true})));
        this.askHealthNow();
      }
      this.say(null);
    } catch (problem) {
      if (this.ended.signal.aborted) return;
      if (!(problem instanceof Problem)) throw problem;
      this.say(problem.members);
    }
  }

  draw(status) {
    this.units(status);
    // What is different each time has a part of its own: what a person selects in the rest stays selected.
    const {history, newest_created, deploying, disk, processes, timers, last, ...rest} = status;
    this.room.show(disk, drawRoom);
    this.live.show([rest, history?.problem, Boolean(disk)], () =>
      drawLive(status, {health: this.health.node, room: this.room.node, again: () => this.askHealthNow(), ...this.offered(status)}));
    this.runs.hide(!processes?.length && !timers?.length);
    this.runs.show([processes, timers], () => drawRuns(status));
    this.shown.follow(deploying?.deployment ?? last?.deployment ?? null);
  }

  units(status) {
    const names = ["service", "socket", "preflight", "hook", ...(status.processes ?? []).map((one) => one.name), ...(status.timers ?? []).map((one) => one.name)];
    this.log.offer(names);
  }

  offered(status) {
    return this.actions ? {actions: this.actions(status, () => { this.head = null; this.refresh(); })} : {};
  }

  async askHealth() {
    while (!this.ended.signal.aborted) {
      await seen();
      await this.askHealthNow();
      await rest(HEALTH_EVERY_MS, this.ended.signal);
    }
  }

  async askHealthNow() {
    try {
      this.health.show(await ask(`${this.path}/health`));
    } catch (problem) {
      if (problem instanceof Problem) this.health.show({healthy: null, why: problem.members.title});
    }
  }

  /** Say what is wrong, once: it is read aloud. */
  say(problem) {
    this.notice.show(problem, () => problem && drawProblem(problem));
  }
}

/** What could not be done, why, and what to do about it. */
export const drawProblem = ({title, detail, hint}) =>
  el("div", {class: "problem"}, el("strong", {}, visible(title)), detail && [": ", long(detail, "notice")], hint && el("span", {class: "hint"}, ` ${visible(hint)}`));
