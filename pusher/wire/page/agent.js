// The page of one agent: its apps, one at a time. It reads, and has no way to change anything.

import {ask, rest, seen, told} from "./api.js";
import {AppView, drawProblem} from "./app.js";
import {el, fill, part} from "./dom.js";
import {decoded, name} from "./words.js";

const APPS_EVERY_MS = 5000;

const top = document.getElementById("top");
const main = document.getElementById("main");
const notice = part("div", {role: "alert"});
let found = {host: "", apps: []};
let view = null;
let opened = null;

addEventListener("hashchange", open);
start();

/** Look which apps there are, on and on: root may add one while somebody looks. */
async function start() {
  fill(main, notice.node);
  for (;;) {
    try {
      const now = await ask("/apps");
      notice.show(null, () => null);
      if (JSON.stringify(now) !== JSON.stringify(found)) {
        found = now;
        open();
      }
    } catch (problem) {
      const why = told(problem);
      if (!view) notice.show(why, drawProblem); // a view says so itself
    }
    await rest(APPS_EVERY_MS);
    await seen();
  }
}

function open() {
  if (location.hash === "#main" && view) return;
  const {host, apps} = found;
  const wanted = decoded(location.hash.slice(2));
  const app = apps.find((one) => one.app === wanted) ?? apps[0];
  document.title = app ? `${app.app} on ${host}` : host;
  fill(top, el("h1", {}, name(app?.app ?? "No app yet"), el("small", {}, " on ", name(host))),
    apps.length > 1 && el("nav", {"aria-label": "Apps"}, apps.map((one) =>
      el("a", {href: `#/${encodeURIComponent(one.app)}`, "aria-current": one === app && "page", "data-key": one.app}, name(one.app)))));
  if (view && app && opened === app.app) return;
  opened = app?.app ?? null;
  view?.close();
  view = null;
  if (!app) return fill(main, notice.node, el("p", {}, "Set one up, as root: ", el("code", {}, "pusher-agent app add NAME")));
  view = new AppView({base: "", app: app.app});
  fill(main, view.node);
  view.run();
}
