// One app on one host, whole: asked every two seconds while somebody looks. What costs more to read is read again
// only when the head of the history has moved, for nothing of it changes without a record.

import {ask, Problem, rest, seen} from "./api.js";
import {Shown} from "./deployment.js";
import {el, fill, panel} from "./dom.js";
import {History} from "./history.js";
import {drawLive, drawRuns, healthBadge} from "./live.js";
import {Log} from "./log.js";
import {drawReleases} from "./releases.js";
import {drawTimeline} from "./timeline.js";
import {visible} from "./words.js";

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
    this.health = null;
    this.notice = el("div", {role: "alert", class: "notice"});
    this.healthNode = el("span", {class: "health", "aria-live": "polite"});
    this.live = panel("live", "Live");
    this.runs = panel("runs", "Workers and timers");
    this.releases = panel("releases", "Releases");
    this.shown = new Shown({base, signal: this.ended.signal});
    this.timeline = panel("timeline", "Deployments over time");
    this.history = new History({base, path: this.path, signal: this.ended.signal, chosen: (id) => this.shown.show(id, {scroll: true})});
    this.log = new Log({path: this.path, signal: this.ended.signal});
    this.node = el("div", {class: "app"}, this.notice, this.live.section, this.shown.section, this.timeline.section,
      this.releases.section, this.runs.section, this.history.section, this.log.section);
    this.runs.hide(true);
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
      fill(this.notice);
    } catch (problem) {
      if (this.ended.signal.aborted) return;
      if (!(problem instanceof Problem)) throw problem;
      this.say(problem.members);
    }
  }

  draw(status) {
    this.units(status);
    const {history, newest_created, deploying, ...rest} = status;
    this.live.show([rest, history?.problem], () => drawLive(status, {health: this.healthNode, again: () => this.askHealthNow(), ...this.offered(status)}));
    this.runs.hide(!status.processes?.length && !status.timers?.length);
    this.runs.show([status.processes, status.timers], () => drawRuns(status));
    this.shown.follow(deploying?.deployment ?? status.last?.deployment ?? null, Boolean(deploying));
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
      fill(this.healthNode, healthBadge(await ask(`${this.path}/health`)));
    } catch (problem) {
      if (problem instanceof Problem) fill(this.healthNode, healthBadge({healthy: null, why: problem.members.title}));
    }
  }

  say(problem) {
    fill(this.notice, el("p", {class: "problem"}, el("strong", {}, visible(problem.title)), problem.detail && `: ${visible(problem.detail)}`,
      problem.hint && el("span", {class: "hint"}, ` ${visible(problem.hint)}`)));
  }
}
