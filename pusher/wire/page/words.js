// Numbers and times in words, and texts of strangers made visible.

import {now} from "./api.js";
import {el} from "./dom.js";

const STEPS = [[60, "s"], [60, "min"], [24, "h"], [Infinity, "d"]];

/** A span of milliseconds: `840 ms`, `1.2 s`, `3 min`. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms);
}

/** A time, as its age; the time itself is its title. It ages by itself. */
export function age(when) {
  const at = typeof when === "number" ? when : /^\d{4}-\d\d-\d\dT/.test(when) ? Date.parse(when) : NaN;
  if (!Number.isFinite(at)) return null;
  const iso = new Date(at).toISOString();
  return el("time", {datetime: iso, title: iso.replace("T", " ").replace(/\.\d+Z/, " UTC")}, aged(at));
}

/** Bytes: `1.4 GB`. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) { count /= 1000; at += 1; }
  return `${count < 10 && at ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

/** A text of a stranger: colours of a terminal are dropped, other controls and turns of direction are shown. */
export const visible = (text) =>
  String(text ?? "")
    .replace(/\x1b\[[0-9;]*m/g, "")
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g, (one) =>
      `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A name of a stranger, isolated, so that it turns nothing around it. */
export const name = (text, kind = "") => el("bdi", {class: kind}, visible(text));

/** The colour of an outcome or a state. */
export const KINDS = {
  done: "good", good: "good", current: "good", failed: "bad", stuck: "bad", refused: "bad", unproved: "bad", silent: "bad",
  unreachable: "bad", withdrawn: "warn", held: "warn", stale: "warn", ahead: "warn", candidate: "plain",
};

setInterval(() => {
  if (document.hidden) return;
  for (const one of document.querySelectorAll("time")) {
    const text = aged(Date.parse(one.dateTime));
    if (one.textContent !== text) one.textContent = text;
  }
}, 5000);

function aged(at) {
  const ms = now() - at;
  if (Math.abs(ms) < 1500) return "now";
  return ms > 0 ? `${span(ms)} ago` : `in ${span(-ms)}`;
}

function span(ms) {
  let number = ms / 1000;
  for (const [size, unit] of STEPS) {
    if (number < size) return `${Math.round(number)} ${unit}`;
    number /= size;
  }
}
