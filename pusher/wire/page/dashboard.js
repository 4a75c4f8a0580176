// Several hosts on one page. One request waits until something has changed on any of them; a host that is opened is
// shown by the same view as the agent's own page, with the ways to change something added.

import {changes} from "./actions.js";
import {ask, Problem, rest, seen} from "./api.js";
import {AppView} from "./app.js";
import {badge, el, fill, panel, table} from "./dom.js";
import {Fleet} from "./fleet.js";
import {age, KINDS, name, visible} from "./words.js";

const top = document.getElementById("top");
const main = document.getElementById("main");
const hosts = panel("hosts", "Hosts");
const everything = el("div", {}, hosts.section);
const notice = el("div", {role: "alert", class: "notice"});
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
      known = await ask(`/all?after=${known.number}`);
      fill(notice);
      if (known.fleet && !fleet) {
        fleet = new Fleet();
        everything.append(fleet.section);
        fleet.run();
      }
      hosts.hide(!known.hosts.length);
      hosts.show(known.hosts, () => drawHosts(known.hosts));
      route();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fill(notice, el("p", {class: "problem"}, problem.members.code === "gone" ? "pusher dashboard has ended. Start it again, and open the address that it prints." : `${problem.members.title}: ${problem.members.detail ?? ""}`));
      await rest(2000);
    }
  }
}

/** Show what the address names: a host and an app, or all of them. */
function route() {
  const [place, app] = location.hash.slice(2).split("/");
  if (location.hash === "#main" && opened !== null) return;
  const host = place === "" ? null : known.hosts[Number(place)];
  if (!host || !app) {
    if (opened === "" && main.contains(everything)) return;
    opened = "";
    view?.close();
    view = null;
    document.title = "pusher dashboard";
    fill(top, el("h1", {}, "pusher", el("small", {}, " dashboard")));
    return fill(main, notice, everything);
  }
  if (opened === location.hash) return;
  opened = location.hash;
  view?.close();
  const named = decodeURIComponent(app);
  document.title = `${named} on ${host.name}`;
  fill(top, el("nav", {"aria-label": "Hosts"}, el("a", {href: "#/", "data-key": "all"}, "All hosts")),
    el("h1", {}, name(named), el("small", {}, " on ", name(host.name))));
  view = new AppView({base: `/hosts/${Number(place)}`, app: named, actions: changes(`/hosts/${Number(place)}`, named, host.name, known.confirm)});
  fill(main, notice, view.node);
  view.run();
}

function drawHosts(all) {
  const rows = all.flatMap((host, place) => {
    if (!host.asked || host.problem || !host.apps.length) return [{host, place, app: null}];
    return host.apps.map((app) => ({host, place, app}));
  });
  const order = rows.map((row) => ({...row, rank: rank(row)})).sort((one, other) => one.rank - other.rank || one.place - other.place);
  const unwell = order.filter((one) => one.rank === 0).length;
  return [
    el("p", {role: "status"}, `${all.length} hosts, `, unwell ? badge(`${unwell} unwell`, "bad") : badge("all well", "good")),
    table("Hosts", ["Host", "App", "Live", "Since", "State", "Last deployment"], order.map(drawRow)),
  ];
}

/** 0: a person should look. 1: it is not known yet. 2: something is being done. 3: well. */
function rank({host, app}) {
  if (!host.asked) return 1;
  if (host.problem || !app) return host.problem ? 0 : 3;
  if (app.problem || app.history || app.trouble || app.drift || (app.live && !app.running) || app.health?.healthy === false || app.last?.outcome === "stuck" || app.last?.outcome === "failed") return 0;
  return app.deploying ? 2 : 3;
}

function drawRow({host, place, app, rank}) {
  if (!host.asked) return {cells: [name(host.name), null, null, null, badge("being asked", "plain"), null]};
  const problem = host.problem ?? app?.problem;
  if (problem || !app) {
    return {class: problem && "unwell", cells: [name(host.name), app && name(app.app), app?.live && name(app.live.version, "version"), null,
      problem ? [badge(host.problem ? "unreachable" : "unusable", "bad"), ` ${visible(problem.title)}`, problem.detail && `: ${visible(problem.detail)}`] : "no app yet", null]};
  }
  const states = [
    app.deploying && badge(`deploying ${visible(app.deploying.version)}`, "going"),
    app.live && !app.running && badge("does not run", "bad"),
    app.running && app.health?.healthy === false && [badge("not healthy", "bad"), ` ${visible(app.health.why)}`],
    app.trouble && [badge("trouble", "bad"), ` ${visible(app.trouble)}`],
    app.drift && badge("drift", "bad"),
    app.history && badge("history changed", "bad"),
    !app.deploying && (app.last?.outcome === "failed" || app.last?.outcome === "stuck") && badge(`last one ${app.last.outcome}`, "bad"),
    app.warnings?.length > 0 && badge(`${app.warnings.length} warnings`, "warn"),
    app.disk && app.disk.free < app.disk.total * 0.05 && badge("disk nearly full", "warn"),
  ].filter(Boolean);
  const {live, last} = app;
  return {class: rank === 0 && "unwell", cells: [
    el("a", {href: `#/${place}/${encodeURIComponent(app.app)}`, "data-key": `${place}/${app.app}`}, name(host.name)),
    name(app.app),
    live ? [name(live.version, "version"), " ", el("small", {}, visible(live.release)), live.signed_by && el("small", {}, " signed by ", name(live.signed_by))] : "nothing yet",
    live?.since && [age(live.since), " by ", name(live.by)],
    states.length ? states : badge(app.health?.healthy ? "healthy" : "well", "good"),
    last && [badge(last.outcome ?? "under way", KINDS[last.outcome] ?? "going"), " ", name(last.version, "version"), " ", age(last.started)],
  ]};
}
