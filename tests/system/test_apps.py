"""What root sets up for an app, and takes down again."""

import json

import pytest

from tests.system.server import APP, Server

OTHER = "other-app"
ELSEWHERE = ("--listen", "127.0.0.1:8001")


def test_an_app_is_set_up_and_taken_down_again_without_a_trace_of_it(server: Server) -> None:
    run, says = server.machine.run, server.machine.says
    assert "other-app is set up" in run("pusher-agent", "app", "add", OTHER, *ELSEWHERE).stdout
    assert sorted(line.split()[0] for line in says("pusher-agent", "app", "list").splitlines()) == [APP, OTHER]
    assert server.says("is-enabled", f"{OTHER}.socket", f"{OTHER}.service").split() == ["enabled", "enabled"]
    assert server.says("is-active", f"{OTHER}.socket", f"{OTHER}.service").split() == ["inactive", "inactive"]
    allowed = ("systemctl", "--no-ask-password", "reset-failed", f"{OTHER}.service")
    run(*allowed, user="pusher-agent")
    assert run("pusher-agent", "app", "apply", OTHER).stdout.startswith(f"the units of {OTHER} are up to date")

    said = run("pusher-agent", "app", "remove", OTHER, "--purge").stdout
    assert f"removed /opt/{OTHER}" in said
    assert "left: the history" in said
    assert server.machine.run(*allowed, user="pusher-agent", check=False).returncode != 0
    assert says("find", "/etc", "/opt", "/run", "-path", f"*{OTHER}*") == ""
    assert server.machine.run("id", OTHER, check=False).returncode == 1


def test_an_app_named_like_an_existing_user_is_reported_to_run_as_that_user(server: Server) -> None:
    said = server.machine.run("pusher-agent", "app", "add", "mallory", *ELSEWHERE).stdout
    assert "mallory runs as mallory, a user that existed before" in said
    assert "left: user mallory" in server.machine.run("pusher-agent", "app", "remove", "mallory", "--purge").stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("app", "add", APP), "exists already"),
        (("app", "add", "ssh", *ELSEWHERE), "belongs to another unit"),
        (("app", "add", "flask-demo-preflight", *ELSEWHERE), ""),
        (("app", "add", "root", *ELSEWHERE), "cannot run as root"),
        (("app", "add", "alice", *ELSEWHERE), "cannot run as alice"),
        (("app", "add", OTHER), "cannot listen at"),
        (("app", "apply", "none"), "There is no app none"),
        (("app", "remove", "none"), "There is no app none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_somebody_elses_is_refused(argv: tuple[str, ...], said: str, server: Server) -> None:
    before = server.machine.says("find", "/etc", "/opt", "-newer", "/etc/key.pub", "-name", "*ssh*")
    done = server.machine.run("pusher-agent", *argv, check=False)
    assert done.returncode == 4, done
    assert said in done.stderr
    assert server.machine.says("find", "/etc", "/opt", "-newer", "/etc/key.pub", "-name", "*ssh*") == before


def test_an_app_whose_file_cannot_be_used_is_left_alone_and_is_in_no_others_way(live: Server) -> None:
    run, says, file = live.machine.run, live.machine.says, f"/etc/pusher-agent/apps/{OTHER}.toml"
    run("pusher-agent", "app", "add", OTHER, *ELSEWHERE)
    run("sh", "-c", f"echo 'lisen = 1' >>{file}")
    said = run("pusher-agent", "app", "apply", APP).stdout
    assert f"warning: {file}: " in said
    assert live.curl(f"/apps/{OTHER}/status")["warnings"][0].startswith("not in force: ")
    assert live.curl(f"/apps/{OTHER}/rollback", "-X", "POST")["code"] == "nothing_to_roll_back_to"
    run("rm", f"/var/lib/pusher-agent/apps/{OTHER}.json")  # as if it had been so from the beginning
    run("systemctl", "restart", "pusher-agent")
    live.machine.until(lambda: "LEFT ALONE" in live.status_text())
    live.deploy("v2")
    for path, code in ((f"/apps/{OTHER}/status", "configuration"), ("/status", "several_apps")):
        assert live.curl(path)["code"] == code
    answer = live.curl(f"/apps/{OTHER}/rollback", "-X", "POST")
    assert (answer["code"], answer["title"]) == ("configuration", f"{file}: unknown key 'lisen'"), answer
    assert f"Correct it, then run `pusher-agent app apply {OTHER}` as root" in answer["hint"]
    assert says("journalctl", "--unit=pusher-agent", "--grep=app_left_alone", "--quiet").count(file) == 1
    # Its units are the agent's to drive still, and would be in the rule of any other app.
    run("systemctl", "--no-ask-password", "reset-failed", f"{OTHER}.service", user="pusher-agent")
    assert f"BAD   {OTHER}: {file}: unknown key" in says("pusher-agent", "check")

    refused = run("pusher-agent", "app", "remove", OTHER, "--purge", check=False)
    assert (refused.returncode, f"Fix {file}; or leave out --purge" in refused.stderr) == (4, True), refused
    said = run("pusher-agent", "app", "remove", OTHER).stdout
    assert f"stopped and removed {OTHER}.socket" in said
    assert f"fix {file}.going and run `pusher-agent app remove {OTHER} --purge`" in said
    assert live.says("is-active", f"{OTHER}.socket") == "inactive"
    run("sed", "-i", "/lisen/d", f"{file}.going")
    assert f"removed /opt/{OTHER}" in run("pusher-agent", "app", "remove", OTHER, "--purge").stdout
    assert says("find", "/etc", "/opt", "/run", "-path", f"*{OTHER}*") == ""
    assert run("id", OTHER, check=False).returncode == 1
    live.machine.until(lambda: live.curl("/status").get("app") == APP)


def test_units_whose_app_has_another_name_by_now_are_named_and_can_be_removed(server: Server) -> None:
    run, apps = server.machine.run, "/etc/pusher-agent/apps"
    run("pusher-agent", "app", "add", OTHER, *ELSEWHERE)
    run("sh", "-c", f"printf '[processes.worker]\\nstart = \"python w.py\"\\n' >>{apps}/{OTHER}.toml")
    run("pusher-agent", "app", "apply", OTHER)
    run("mv", f"{apps}/{OTHER}.toml", f"{apps}/shop.toml")
    try:
        said = run("pusher-agent", "app", "apply", "shop").stdout
        sentence = f"the units of {OTHER} are here, and its file {apps}/{OTHER}.toml is not"
        assert f"warning: {sentence}" in said
        assert f"BAD   {sentence}" in server.machine.says("pusher-agent", "check")
        refused = run("pusher-agent", "app", "remove", OTHER, "--purge", check=False)
        assert (refused.returncode, f"{apps}/{OTHER}.toml is gone" in refused.stderr) == (4, True), refused
        said = run("pusher-agent", "app", "remove", OTHER).stdout
        assert f"stopped and removed {OTHER}-worker.service" in said
        assert "left: its releases, shared data and user, which only its file names\n" in said
        assert server.machine.says("find", "/etc/systemd", "/run", "-path", f"*{OTHER}*") == ""
        assert "warning" not in run("pusher-agent", "app", "apply", "shop").stdout
    finally:
        run("pusher-agent", "app", "remove", "shop", "--purge")
        run("userdel", OTHER)  # it was not created for the shop


def test_check_finds_out_whether_polkit_lets_the_agent_drive_its_apps(live: Server) -> None:
    def bad(user: str) -> list[str]:
        before = live.look()
        found = live.machine.says("pusher-agent", "check", user=user).splitlines()
        assert live.look() == before
        return [line.removeprefix("BAD   ") for line in found if line.startswith("BAD")]

    rule, file = "/etc/polkit-1/rules.d/50-pusher-agent.rules", f"/etc/pusher-agent/apps/{APP}.toml"
    well = f"ok    polkit lets the agent start and stop the units of {APP}"
    for user in ("", "pusher-agent"):
        assert well in live.machine.says("pusher-agent", "check", user=user)
        assert bad(user) == []
    with live.without_its_rule():
        (said,) = bad("")
        assert said.startswith(f"{rule} does not exist, so the agent may not start the units of {APP}; ")
        (said,) = bad("pusher-agent")
        assert said.startswith(f"polkit does not let the agent start or stop the units of {APP}: ")
        assert "as root, `pusher-agent check`" in said
    live.machine.run("systemctl", "mask", "--runtime", "--now", "polkit.service")
    (said,) = bad("")
    assert f"although {rule} names them; is polkit running?" in said
    live.machine.run("systemctl", "unmask", "--runtime", "polkit.service")
    live.machine.run("chmod", "0600", file)
    (said,) = bad("")
    assert f"pusher-agent may not read {file} (-rw------- root:root)" in said
    (said,) = bad("pusher-agent")
    assert said.startswith(f"{APP}: {file} could not be read: Permission denied. Run `chmod a+r {file}` as root. ")
    live.machine.run("chmod", "0644", file)
    assert bad("") == []


def test_only_root_sets_apps_up(server: Server) -> None:
    done = server.machine.run("pusher-agent", "app", "add", OTHER, user="alice", check=False)
    assert (done.returncode, "Only root can set up apps" in done.stderr) == (4, True), done


def test_a_typo_in_the_file_blocks_no_rollback_after_a_restart_of_the_agent(live: Server) -> None:
    run, file = live.machine.run, f"/etc/pusher-agent/apps/{APP}.toml"
    live.deploy("v1")
    live.deploy("v2")
    run("sed", "-i", "1i keep_release = 3", file)
    run("systemctl", "restart", "pusher-agent")
    live.machine.until(lambda: live.curl("/status").get("app") == APP)
    correct = f"Correct it, then run `pusher-agent app apply {APP}` as root"
    wrong = f"{file}: unknown key 'keep_release'. Did you mean keep_releases? {correct}"
    assert live.curl("/status")["warnings"] == [f"not in force: {wrong}"]
    refused = live.send("v3")
    assert (refused["outcome"], refused["title"]) == (
        "refused",
        f"The units of {APP} and its configuration disagree",
    )
    assert (refused["detail"], "hint" in refused) == (wrong, False)  # to apply it as it is would not help
    back = live.rollback()
    assert (back["outcome"], back["live"]["version"]) == ("done", "v1"), back
    assert "keep_release" in back["warning"]["detail"]
    run("sed", "-i", "/keep_release = 3/d", file)
    assert f"the units of {APP} are up to date" in run("pusher-agent", "app", "apply", APP).stdout
    live.machine.until(lambda: live.curl("/status").get("warnings") == [])
    live.deploy("v3")


def test_trusted_keys_that_the_agent_cannot_read_are_found_before_a_deployment_is_refused(server: Server) -> None:
    file = "/etc/pusher-agent/allowed_signers"
    server.machine.run("chmod", "0600", file)
    try:
        said = server.machine.says("pusher-agent", "check")
        assert f"BAD   pusher-agent may not read {file}" in said
        assert f"Run `chmod 0644 {file}` as root" in json.dumps(server.send("v1"))
    finally:
        server.machine.run("chmod", "0644", file)
