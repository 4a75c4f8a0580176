// A fleet, from the reports in its repository: how many hosts stand where, what spreads in waves, and by name
// those of which a person should know.

import {ask, rest, seen, told} from "./api.js";
import {drawProblem} from "./app.js";
import {badge, el, facts, panel, part, quiet, svg, table} from "./dom.js";
import {age, long, many, name, state, tally} from "./words.js";

const EVERY_MS = 5000;
const WHY_MOST = 120;

// In parts: who reads a reason is not disturbed by counts, which move.
export class Fleet {
  summary = part("div", {role: "status"});
  spread = part();
  panel = panel("fleet", "Fleet", this.summary.node, this.spread.node);
  section = this.panel.section;

  async run() {
    this.summary.show(0, () => quiet("Reading the reports ..."));
    for (;;) {
      await seen();
      try {
        const {hosts, unwell, channel, counts, ...named} = await ask("/fleet", {signal: AbortSignal.timeout(120_000)});
        this.summary.show([hosts, unwell], () => tally(hosts, unwell));
        this.spread.show([channel, counts], drawSpread);
        this.panel.show(named, drawNamed);
      } catch (problem) {
        this.summary.show(told(problem), drawProblem); // what was seen last stays
      }
      await rest(EVERY_MS);
    }
  }
}

const drawSpread = ([channel, counts]) => [
  el("ol", {class: "waves", "aria-label": "Hosts by version and state"},
    counts.map(({version, state: word, hosts}) => el("li", {}, state(word), ` ${hosts.toLocaleString("en")}`, version && [" on ", name(version, "version")]))),
  channel
    ? [el("p", {class: "big"}, name(channel.version, "version"), " ", badge(channel.state, channel.state === "going" ? "good" : "bad")),
      facts([["channel", [name(channel.app), " ", name(channel.name)]], ["since", age(channel.created, "")], ["expires", age(channel.expires, "")],
        ["stops at", `${channel.max_failed} failed`], ["in no wave", channel.none]]),
      el("ol", {class: "waves", "aria-label": "Waves"}, channel.waves.map((one) => wave(one, channel.open)))]
    : quiet("The channel names nothing yet."),
];

const drawNamed = ({named, left_out}) => [
  table("Hosts", ["Host", "State", "Live", "Why"], named.map((one) => ({class: one.unwell && "unwell", cells: [
    name(one.host), state(one.state), one.version && name(one.version, "version"), long(one.why, `why ${one.host}`, WHY_MOST)]}))),
  left_out > 0 && quiet(`and ${many(left_out, "host")} more: pusher fleet status --state STATE`),
];

function wave({number, current = 0, unwell = 0, others = 0}, open) {
  const all = current + unwell + others;
  const bar = (count, kind) => svg("rect", {width: `${all && (count / all) * 100}%`, height: 8, class: `bar ${kind}`});
  return el("li", {class: number <= open && "open"}, `Wave ${number}${number <= open ? "" : ", closed"}: ${current} of ${all}${unwell ? `, ${unwell} unwell` : ""}`,
    svg("svg", {width: "100%", height: 8, "aria-hidden": "true"}, bar(all, "waiting"), bar(current + unwell, "failed"), bar(current, "done")));
}
