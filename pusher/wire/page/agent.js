// The page of one agent: its apps, one at a time. It reads, and has no way to change anything.

import {ask, Problem, rest} from "./api.js";
import {AppView} from "./app.js";
import {el, fill} from "./dom.js";
import {name} from "./words.js";

const top = document.getElementById("top");
const main = document.getElementById("main");
let view = null;

async function start() {
  for (;;) {
    try {
      const found = await ask("/apps");
      addEventListener("hashchange", () => open(found));
      return open(found);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fill(main, el("p", {class: "problem", role: "alert"}, `${problem.members.title}: ${problem.members.detail ?? ""}`));
      await rest(2000);
    }
  }
}

function open({host, apps}) {
  if (location.hash === "#main" && view) return;
  const wanted = decodeURIComponent(location.hash.slice(2));
  const app = apps.find((one) => one.app === wanted) ?? apps[0];
  view?.close();
  document.title = app ? `${app.app} on ${host}` : host;
  fill(top, el("h1", {}, name(app?.app ?? "No app yet"), el("small", {}, " on ", name(host))),
    apps.length > 1 && el("nav", {"aria-label": "Apps"}, apps.map((one) =>
      el("a", {href: `#/${encodeURIComponent(one.app)}`, "aria-current": one === app && "page", "data-key": one.app}, name(one.app)))));
  if (!app) return fill(main, el("p", {}, "Set one up, as root: ", el("code", {}, "pusher-agent app add NAME")));
  view = new AppView({base: "", app: app.app, problem: app.problem});
  fill(main, view.node);
  view.run();
}

start();
