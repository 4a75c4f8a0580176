// A fleet, from the reports in its repository: the release that spreads, its waves, how many hosts stand where, and
// by name those of which a person should know.

import {ask, rest, seen, told} from "./api.js";
import {drawProblem} from "./app.js";
import {badge, el, facts, panel, quiet, svg, table} from "./dom.js";
import {age, long, name, state} from "./words.js";

const EVERY_MS = 5000;

export class Fleet {
  panel = panel("fleet", "Fleet");
  section = this.panel.section;

  async run() {
    for (;;) {
      await seen();
      try {
        const found = await ask("/fleet", {signal: AbortSignal.timeout(120_000)});
        this.panel.show(found, drawn);
      } catch (problem) {
        this.panel.show(told(problem), drawProblem);
      }
      await rest(EVERY_MS);
    }
  }
}

function drawn({channel, hosts, unwell, counts, named, left_out}) {
  return [
    channel
      ? [el("p", {class: "big"}, name(channel.version, "version"), " ", badge(channel.state, channel.state === "going" ? "good" : "bad")),
        facts([["channel", [name(channel.app), " ", name(channel.name)]], ["since", age(channel.created, "")], ["expires", age(channel.expires, "")],
          ["stops at", `${channel.max_failed} failed`], ["in no wave", channel.none]]),
        el("ol", {class: "waves", "aria-label": "Waves"}, channel.waves.map((one) => wave(one, channel.open)))]
      : quiet("The channel names nothing yet."),
    el("p", {role: "status"}, `${hosts.toLocaleString("en")} hosts, `, unwell ? badge(`${unwell} unwell`, "bad") : badge("all well", "good")),
    table("Hosts by version and state", ["Live", "State", "Hosts"], counts.map((one) => ({cells: [name(one.version, "version"), state(one.state), one.hosts]}))),
    table("Hosts", ["Host", "State", "Live", "Reported", "Why"], named.map((one) => ({class: one.unwell && "unwell", cells: [
      name(one.host), state(one.state), name(one.version ?? "", "version"), one.reported && age(one.reported, ""), long(one.why, `why ${one.host}`)]}))),
    left_out > 0 && quiet(`and ${left_out.toLocaleString("en")} more: pusher fleet status`),
  ];
}

function wave({number, current = 0, unwell = 0, others = 0}, open) {
  const all = current + unwell + others;
  const share = (count) => `${all ? (count / all) * 100 : 0}%`;
  let x = 0;
  const part = (count, kind) => {
    const rect = svg("rect", {x: share(x), width: share(count), height: 8, class: `bar ${kind}`});
    x += count;
    return rect;
  };
  return el("li", {class: number <= open && "open"}, `Wave ${number}${number <= open ? "" : ", closed"}: ${current} of ${all}${unwell ? `, ${unwell} unwell` : ""}`,
    svg("svg", {width: "100%", height: 8, "aria-hidden": "true"}, part(current, "done"), part(unwell, "failed"), part(others, "waiting")));
}
