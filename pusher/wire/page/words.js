// Numbers and times in words, and texts of strangers made visible.

import {clocks, now} from "./api.js";
import {badge, el} from "./dom.js";

const LONG = 300;
const STEPS = [[60, "s"], [60, "min"], [24, "h"], [Infinity, "d"]];

/** A span of milliseconds: `840 ms`, `1.2 s`, `3 min`. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms);
}

/** A time, as its age by the clock of the host that is looked at, or of `host`; the time itself is its title. It ages
 * by itself. */
export function age(when, host = clocks.looked) {
  const at = typeof when === "number" ? when : /^\d{4}-\d\d-\d\dT/.test(when) ? Date.parse(when) : NaN;
  if (!Number.isFinite(at)) return null;
  const iso = new Date(at).toISOString();
  return el("time", {datetime: iso, title: iso.replace("T", " ").replace(/\.\d+Z/, " UTC"), "data-host": host}, aged(at, host));
}

/** `1 host`, `1,000 hosts`. */
export const many = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

/** How many hosts there are, and are not well. */
export const tally = (hosts, unwell) => [`${many(hosts, "host")}, `, unwell ? badge(`${unwell} unwell`, "bad") : badge("all well", "good")];

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

/** What a part of an address names; nothing, if it cannot be read. */
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** A text of a stranger that may be long: its beginning, and all of it for who opens it. */
export function long(text, key, most = LONG) {
  const whole = visible(text).trim();
  const [first] = whole.split("\n");
  if (whole.length <= most && first === whole) return whole;
  return el("details", {class: "long", "data-key": key}, el("summary", {"data-key": `${key} all`}, `${first.slice(0, most)} ...`),
    el("pre", {tabindex: "0", "aria-label": "All of it", "data-key": `${key} text`}, whole));
}

/** A name of a stranger, isolated, so that it turns nothing around it. */
export const name = (text, kind = "") => el("bdi", {class: kind}, visible(text));

const KINDS = {
  done: "good", good: "good", current: "good", failed: "bad", stuck: "bad", refused: "bad", unproved: "bad", silent: "bad",
  unreachable: "bad", withdrawn: "warn", held: "warn", stale: "warn", ahead: "warn",
};

/** An outcome or a state, in its colour; without one, it goes on. */
export const state = (word) => badge(word ?? "under way", word ? KINDS[word] ?? "plain" : "going");

setInterval(() => {
  if (document.hidden) return;
  for (const one of document.querySelectorAll("time")) {
    const text = aged(Date.parse(one.dateTime), one.dataset.host);
    if (one.textContent !== text) one.textContent = text;
  }
}, 5000);

function aged(at, host) {
  const ms = now(host) - at;
  if (Math.abs(ms) < 1500) return "now";
  return ms > 0 ? `${span(ms)} ago` : `in ${span(-ms)}`;
}

/** A span of milliseconds, roughly: `3 min`. */
export function span(ms) {
  let number = ms / 1000;
  for (const [size, unit] of STEPS) {
    if (Math.round(number) < size) return `${Math.round(number)} ${unit}`;
    number /= size;
  }
}
