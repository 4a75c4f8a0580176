// The releases on a host, and what became of each.

import {badge, el, quiet, table} from "./dom.js";
import {age, name, state, visible} from "./words.js";

export function drawReleases(releases, {actions} = {}) {
  if (!releases.length) return quiet("None yet");
  const heads = ["Version", "Release", "State", "Signed", "By"];
  return table("Releases", actions ? [...heads, "Change"] : heads, releases.map((one) => ({
    class: one.live && "chosen",
    cells: [
      name(one.version, "version"),
      el("code", {}, one.id),
      [one.live && badge("live", "good"), (one.standing !== "good" || !one.live) && state(one.standing),
        one.fallback && badge("rollback target", "plain"), one.pinned && badge("pinned", "plain"),
        one.revoked && el("small", {}, badge("revoked", "bad"), visible(one.revoked))],
      [age(one.created), one.signed_by && [" by ", name(one.signed_by)]],
      name(one.by),
      ...(actions ? [actions.release(one)] : []),
    ],
  })));
}
