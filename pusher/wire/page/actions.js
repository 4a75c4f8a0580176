// The two things that can be changed from the page: which release is live, and which one stays. Each asks for the
// version in a person's own typing, and `pusher dashboard` compares it again.

import {ask, told} from "./api.js";
import {drawProblem} from "./app.js";
import {el, fill, focus} from "./dom.js";
import {name, visible} from "./words.js";

/** What `AppView` asks for: the ways to change an app, given its status. `environment` wants to be typed, too. */
export const changes = (base, app, host, environment) => (status, changed) => {
  const path = `${base}/apps/${encodeURIComponent(app)}`;
  const leaving = status.live?.release ?? "";
  const change = (what, version, why, send) =>
    confirm({what, to: [name(version, "version"), ` on ${visible(host)}`], wanted: environment ? `${environment} ${version}` : version, why, send, changed});
  const rollBack = (release, version) =>
    change("Roll back", version, `${visible(status.live?.version)} is live now.`, (typed) => post(`${path}/rollback`, {release, leaving, typed}));
  const pin = ({id, version, pinned}) =>
    change(pinned ? "Unpin" : "Pin", version, pinned ? "It may be removed then, when it is old." : "It stays then, whatever its age.",
      (typed) => post(`${path}/pin`, {release: id, pinned: !pinned, typed}));
  const {previous} = status;
  return {
    live: () => previous && el("p", {}, el("button", {class: "danger", "data-key": "rollback", click: () => rollBack(previous.release, previous.version)},
      "Roll back to ", name(previous.version, "version"))),
    release: (one) => el("span", {class: "tools"},
      !one.live && one.standing !== "candidate" && el("button", {class: "small danger", "data-key": `to-${one.id}`, click: () => rollBack(one.id, one.version)}, "Roll back"),
      el("button", {class: "small", "data-key": `pin-${one.id}`, click: () => pin(one)}, one.pinned ? "Unpin" : "Pin")),
  };
};

const post = (path, members) =>
  ask(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(members)});

/** Ask a person to type what is wanted, then send it. */
function confirm({what, to, wanted, why, send, changed}) {
  const wrong = el("div", {role: "alert"});
  const typed = el("input", {id: "typed", autocomplete: "off", spellcheck: "false", autofocus: true, input: () => (go.disabled = typed.value !== wanted),
    keydown: (event) => event.key === "Enter" && !go.disabled && act()});
  const go = el("button", {class: "danger", disabled: true, click: act}, what);
  const came = document.activeElement?.dataset.key;
  const dialog = el("dialog", {"aria-labelledby": "confirm-title", close: () => {
    dialog.remove();
    if (came && document.activeElement === document.body) focus(came); // the page may have drawn its button anew
  }},
    el("h2", {id: "confirm-title"}, `${what}: `, to), el("p", {}, why),
    el("p", {}, el("label", {for: "typed"}, "To confirm, type "), el("code", {}, visible(wanted))), el("p", {}, typed), wrong,
    el("p", {class: "tools"}, el("button", {click: () => dialog.close()}, "Leave it"), go));
  document.body.append(dialog);
  dialog.showModal();

  async function act() {
    go.disabled = true;
    fill(wrong, "Asking ...");
    try {
      await send(typed.value);
      dialog.close();
      changed();
    } catch (problem) {
      fill(wrong, drawProblem(told(problem)));
      go.disabled = false;
    }
  }
}
