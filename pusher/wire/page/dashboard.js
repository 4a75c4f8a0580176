// Several hosts on one page. One request waits until something has changed on any of them; a host that is opened is
// shown by the same view as the agent's own page, with the ways to change something added.

import {changes} from "./actions.js";
import {ask, clocks, rest, seen, told} from "./api.js";
import {AppView, drawProblem} from "./app.js";
import {badge, el, fill, panel, part, table} from "./dom.js";
import {Fleet} from "./fleet.js";
import {age, decoded, long, many, name, span, state, tally, visible} from "./words.js";

const OPENED_EVERY_MS = 5000;
const REFUSED_EVERY_MS = 15_000;
const CLOCK_MS = 30_000; // as in `pusher doctor`
const ENDED = {title: "pusher dashboard has ended", hint: "Start it again, and open the address that it prints"};

const top = document.getElementById("top");
const main = document.getElementById("main");
const notice = part("div", {role: "alert", class: "notice"});
const summary = part("p", {role: "status"});
const hosts = panel("hosts", "Hosts", summary.node);
const everything = el("div", {}, hosts.section);
let known = {number: 0, hosts: [], fleet: false};
let fleet = null;
let view = null;
let opened = null;

addEventListener("hashchange", route);
watch();

async function watch() {
  for (;;) {
    await seen();
    try {
      // Who looks at one host needs no news of all: they would keep one of the browser's six connections.
      known = await ask(`/all?after=${view ? 0 : known.number}`);
      notice.show(null, () => null);
      known.hosts.forEach(({ahead_ms}, place) => clocks.ahead.set(`/hosts/${place}`, ahead_ms));
      if (known.fleet && !fleet) {
        fleet = new Fleet();
        everything.append(fleet.section);
        fleet.run();
      }
      hosts.hide(!known.hosts.length);
      hosts.show(known.hosts, () => drawHosts(known.hosts));
      route();
      if (view) await untilLeft();
    } catch (problem) {
      const why = told(problem);
      notice.show(why, () => drawProblem(why.code === "gone" ? ENDED : why));
      await rest(why.code === "not_allowed" ? REFUSED_EVERY_MS : 2000);
    }
  }
}

/** Return after a while, or when the address changes. */
async function untilLeft() {
  const left = new AbortController();
  addEventListener("hashchange", () => left.abort(), {signal: left.signal});
  await rest(OPENED_EVERY_MS, left.signal);
  left.abort(); // the listener goes too: the page may be open for days
}

/** Show what the address names: a host and an app, or all of them. */
function route() {
  const [place, app] = location.hash.slice(2).split("/").map(decoded);
  if (location.hash === "#main" && opened !== null) return;
  const host = place === "" ? null : known.hosts[Number(place)];
  if (!host || !app) {
    if (opened === "" && main.contains(everything)) return;
    opened = "";
    view?.close();
    view = null;
    document.title = "pusher dashboard";
    fill(top, el("h1", {}, "pusher", el("small", {}, " dashboard")));
    return fill(main, notice.node, everything);
  }
  if (opened === location.hash) return;
  opened = location.hash;
  view?.close();
  document.title = `${app} on ${host.name}`;
  fill(top, el("nav", {"aria-label": "Hosts"}, el("a", {href: "#/", "data-key": "all"}, "All hosts")),
    el("h1", {}, name(app), el("small", {}, " on ", name(host.name))));
  const base = `/hosts/${Number(place)}`;
  view = new AppView({base, app, actions: changes(base, app, host.name, known.confirm)});
  fill(main, notice.node, view.node);
  view.run();
}

function drawHosts(all) {
  const rows = all.flatMap((host, place) =>
    (host.asked && !host.problem && host.apps.length ? host.apps : [null]).map((app) => ({host, place, app, rank: rank(host, app)})));
  rows.sort((one, other) => one.rank - other.rank || one.place - other.place);
  const unwell = rows.filter((one) => one.rank === 0).length;
  if (unwell || all.every((one) => one.asked)) summary.show([all.length, unwell], () => tally(all.length, unwell));
  return table("Hosts", ["Host", "App", "Live", "Since", "State", "Last deployment"], rows.map(drawRow));
}

/** 0: a person should look. 1: it is not known yet. 2: something is being done. 3: well. */
function rank(host, app) {
  if (!host.asked) return 1;
  if (host.problem || !app) return host.problem ? 0 : 3;
  if (app.problem || app.history || app.trouble || app.drift || (app.live && !app.running) || app.health?.healthy === false || hasFailed(app)) return 0;
  return app.deploying ? 2 : 3;
}

const hasFailed = ({last}) => ["failed", "stuck"].includes(last?.outcome);

function drawRow({host, place, app, rank}) {
  if (!host.asked) return {cells: [name(host.name), null, null, null, badge("being asked", "plain"), null]};
  const clock = `/hosts/${place}`;
  const key = `${place}/${app?.app ?? ""}`;
  const problem = host.problem ?? app?.problem;
  if (problem || !app) {
    return {class: problem && "unwell", cells: [name(host.name), app && name(app.app), null, null,
      problem ? [badge(app ? "unusable" : problem.code === "interrupted" ? "unreachable" : "refuses", "bad"),
        long([problem.title, problem.detail].filter(Boolean).join(": "), `${key} problem`), problem.hint && el("small", {class: "hint"}, ` ${visible(problem.hint)}`)] : "no app yet", null]};
  }
  const states = [
    app.deploying && badge(`deploying ${visible(app.deploying.version)}`, "going"),
    app.live && !app.running && badge("does not run", "bad"),
    app.running && app.health?.healthy === false && [badge("not healthy", "bad"), long(app.health.why, `${key} health`)],
    app.trouble && [badge("trouble", "bad"), long(app.trouble, `${key} trouble`)],
    app.drift && badge("drift", "bad"),
    app.history && badge("history changed", "bad"),
    !app.deploying && hasFailed(app) && badge(`last one ${app.last.outcome}`, "bad"),
    app.warnings?.length > 0 && badge(many(app.warnings.length, "warning"), "warn"),
    app.disk && app.disk.free < app.disk.total * 0.05 && badge("disk nearly full", "warn"),
    Math.abs(host.ahead_ms) >= CLOCK_MS && badge(`clock ${span(Math.abs(host.ahead_ms))} ${host.ahead_ms > 0 ? "ahead" : "behind"}`, "warn"),
  ].filter(Boolean);
  const {live, last} = app;
  return {class: rank === 0 && "unwell", cells: [
    el("a", {href: `#/${place}/${encodeURIComponent(app.app)}`, "data-key": key}, name(host.name)),
    name(app.app),
    live ? [name(live.version, "version"), " ", el("small", {}, visible(live.release)), live.signed_by && el("small", {}, " signed by ", name(live.signed_by))] : "nothing yet",
    live?.since && [age(live.since, clock), live.by && [" by ", name(live.by)]],
    states.length ? states.map((one) => [one, " "]) : badge(app.health?.healthy ? "healthy" : "well", "good"),
    last && [state(last.outcome), " ", name(last.version, "version"), " ", age(last.started, clock)],
  ]};
}
