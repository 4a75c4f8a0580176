// Pictures of time, as SVG. Widths are in percent and heights in pixels: text stays readable on any screen.

import {el, quiet, svg} from "./dom.js";
import {age, duration, visible} from "./words.js";

const SHOWN = 60;
const HIGH = 72;

/** The newest deployments, the newest at the right: a bar each, as high as it took long, in the colour of its outcome. */
export function drawTimeline(rows, chosen) {
  const shown = rows.slice(0, SHOWN).reverse();
  if (!shown.length) return quiet("None yet");
  const longest = Math.max(...shown.map((one) => one.ms ?? 0), 1);
  const wide = 100 / Math.max(shown.length, 24);
  const bars = shown.map((one, at) => {
    const high = 4 + (HIGH - 4) * Math.sqrt((one.ms ?? longest) / longest);
    const said = `${visible(one.version)} ${one.kind}, ${one.outcome ?? "under way"}${one.ms === null ? "" : `, ${duration(one.ms)}`}`;
    return svg("rect", {x: `${at * wide + wide * 0.1}%`, width: `${wide * 0.8}%`, y: HIGH - high, height: high, rx: 2,
      class: `bar ${one.outcome ?? "going"} ${one.kind}`, click: () => chosen(one.id)}, svg("title", {}, said));
  });
  const failed = shown.filter((one) => one.outcome && one.outcome !== "done").length;
  const label = `The newest ${shown.length} deployments: ${failed} did not go well, the longest took ${duration(longest)}`;
  return [
    svg("svg", {class: "timeline", width: "100%", height: HIGH, role: "img", "aria-label": label},
      svg("line", {x1: 0, x2: "100%", y1: HIGH - 0.5, y2: HIGH - 0.5, class: "axis"}), bars),
    el("p", {class: "quiet ends"}, [age(shown[0].started), `highest: ${duration(longest)}`, age(shown.at(-1).started)].map((one) => el("span", {}, one))),
  ];
}

/** The steps of a deployment, in order: each with a bar from when it began to when it ended. Times in ms. */
export function drawSteps(steps, {began, now}) {
  const whole = Math.max(now - began, 1);
  return el("ol", {class: "steps"}, steps.map((one) => {
    const ms = one.ms ?? now - one.began;
    const x = Math.min(99, (Math.max(0, one.began - began) / whole) * 100);
    const wide = Math.min(100 - x, Math.max(0.6, (ms / whole) * 100));
    return el("li", {class: `step ${one.state} ${one.kind}`},
      el("span", {class: "step-name"}, one.kind === "step" ? "" : `${one.kind} `, visible(one.name)),
      svg("svg", {width: "100%", height: 12, "aria-hidden": "true"}, svg("rect", {x: `${x}%`, width: `${wide}%`, height: 12, rx: 2, class: `bar ${one.state}`})),
      el("span", {class: "step-ms"}, one.state === "going" ? "..." : duration(ms)),
      el("span", {class: "unseen"}, one.state === "going" ? "under way" : one.state));
  }));
}
