// One app on one host, whole: asked every two seconds while somebody looks. What costs more to read is read again
// only when the head of the history has moved, for nothing of it changes without a record.

import {ask, clocks, rest, seen, told} from "./api.js";
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

export class AppView {
  ended = new AbortController();
  head = null;
  notice = part("div", {role: "alert", class: "notice"});
  health = new Health();
  room = part("span");
  live = panel("live", "Live");
  runs = panel("runs", "Workers and timers");
  releases = panel("releases", "Releases");
  timeline = panel("timeline", "Deployments over time");

  /** `base` leads to the host, `actions` offers changes (without it, there are none). */
  constructor({base, app, actions = null}) {
    this.path = `${base}/apps/${encodeURIComponent(app)}`;
    this.actions = actions;
    const {signal} = this.ended;
    this.shown = new Shown({base, signal});
    this.chosen = (id) => this.shown.show(id, {scroll: true});
    this.history = new History({base, path: this.path, signal, chosen: this.chosen});
    this.log = new Log({path: this.path, signal});
    this.node = el("div", {class: "app"}, this.notice.node,
      [this.live, this.shown, this.timeline, this.releases, this.runs, this.history, this.log].map((one) => one.section));
    this.runs.hide(true);
    clocks.looked = base;
  }

  /** Draw, and go on, until `close`. */
  async run() {
    this.askHealth();
    this.log.run();
    while (!this.ended.signal.aborted) {
      await seen();
      await this.refresh();
      await rest(EVERY_MS, this.ended.signal);
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
        this.timeline.show(this.history.rows.slice(0, 60), () => drawTimeline(this.history.rows, this.chosen));
        this.askHealthNow();
      }
      this.say(null);
    } catch (problem) {
      if (this.ended.signal.aborted) return;
      this.say(told(problem));
    }
  }

  draw(status) {
    this.log.offer(["service", "socket", "preflight", "hook", ...[...(status.processes ?? []), ...(status.timers ?? [])].map((one) => one.name)]);
    // What is different each time has a part of its own: what a person selects in the rest stays selected.
    const {history, newest_created, deploying, disk, processes, timers, last, ...rest} = status;
    this.room.show(disk, drawRoom);
    this.live.show([rest, history?.problem, Boolean(disk)], () =>
      drawLive(status, {health: this.health.node, room: this.room.node, again: () => this.askHealthNow(), ...this.offered(status)}));
    this.runs.hide(!processes?.length && !timers?.length);
    this.runs.show([processes, timers], () => drawRuns(status));
    this.shown.follow(deploying?.deployment ?? last?.deployment ?? null);
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
      this.health.show({healthy: null, why: told(problem).title});
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
