// What is live, how it does, and what runs beside it.

import {badge, el, facts, part, table} from "./dom.js";
import {age, bytes, duration, long, name, visible} from "./words.js";

/** What the app answered to its health check. Only a change is read aloud, not each answer. */
export class Health {
  state = part("span", {role: "status"});
  answer = part("small");
  node = el("span", {class: "health"}, this.state.node, " ", this.answer.node);

  show({healthy, why, ms, asked}) {
    this.state.show([healthy, why], () => healthy ? badge("healthy", "good")
      : [badge(healthy === null ? "not asked" : "not healthy", healthy === null ? "plain" : "bad"), el("small", {}, ` ${visible(why)}`)]);
    this.answer.show([ms, asked], () => healthy && [`answered in ${duration(ms)}, asked `, age(asked)]);
  }
}

/** The status of an app. `health` and `room` are nodes that others fill; `again` asks anew. */
export function drawLive(status, {health, room, again, actions}) {
  const {live, previous} = status;
  const troubles = [
    (status.trouble || (live && !status.running)) && ["bad", "It does not run", status.trouble || "no process serves"],
    status.drift && ["bad", "Drift", `${status.drift}: the live release is not as it was signed`],
    status.history?.problem && ["bad", "The history was changed", status.history.problem],
    ...(status.warnings ?? []).map((one) => ["warn", "Warning", one]),
    ...(status.notices ?? []).filter(({problem}) => problem)
      .map(({address, problem}) => ["warn", "Nobody is told how deployments end", `${address}: ${problem}`]),
  ].filter(Boolean);
  return [
    live
      ? el("p", {class: "big"}, name(live.version, "version"), " ", el("span", {class: "quiet"}, live.release))
      : el("p", {class: "big quiet"}, "Nothing is live yet"),
    el("p", {}, health, " ", live && el("button", {class: "small", click: again, "data-key": "ask-health"}, "Ask now")),
    troubles.map(([kind, what, why], at) => el("div", {class: `problem ${kind}`}, el("strong", {}, `${what}: `), long(why, `trouble ${at}`))),
    actions?.live(),
    facts([
      ["since", live?.since && [age(live.since), live.by && [" by ", name(live.by)]]],
      ["signed by", live?.signed_by && name(live.signed_by)],
      ["commit", live?.source && commit(live.source)],
      ["rollback goes to", previous ? [name(previous.version, "version"), " ", el("small", {}, previous.release)] : "nothing"],
      ["drift", live && (status.drift === null ? "not known yet" : status.drift ? "yes" : "none")],
      ["listens at", name(status.listen)],
      ["start", status.start && el("code", {}, visible(status.start))],
      ["disk", status.disk && room],
      ["channel", status.channel && channel(status.channel)],
      ["agent", status.agent],
    ]),
  ];
}

export const drawRuns = ({processes = [], timers = []}) => [
  processes.length > 0 && table("Workers", ["Worker", "State", "Version", "Process"], processes.map((one) => ({cells: [
    name(one.name), [badge(one.running ? "runs" : "down", one.running ? "good" : "bad"), one.why && long(one.why, `why ${one.name}`)],
    name(one.version, "version"), one.pid]}))),
  timers.length > 0 && table("Timers", ["Timer", "Schedule", "Last run", "Next run"], timers.map((one) => ({cells: [
    name(one.name), el("code", {}, visible(one.schedule)),
    one.running ? badge("runs", "good") : [one.last ? age(one.last) : "never", one.ending && ` (${visible(one.ending)})`],
    one.next && age(one.next)]}))),
];

export function drawRoom(disk) {
  if (!disk) return null;
  const {free, total} = disk;
  const meter = el("meter", {min: 0, max: total, high: total * 0.9, value: total - free, "aria-label": "disk in use"});
  return [meter, ` ${bytes(free)} free of ${bytes(total)}`];
}

const commit = ({commit, branch, ref}) => [el("code", {}, visible(commit).slice(0, 12)), (branch ?? ref) && [" ", name(branch ?? ref)]];

const channel = (found) => [name(found.channel ?? found.name), " ", found.state && badge(visible(found.state), "plain"),
  found.problem?.title && ` ${visible(found.problem.title)}`];
