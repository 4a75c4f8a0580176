"""A shared folder that is a link: root's decision opens it to the app, and `check` tries it."""

from tests.system.server import APP, Server


def test_an_app_writes_where_roots_links_lead_and_check_tries_it(live: Server) -> None:
    machine, file = live.machine, f"/etc/pusher-agent/apps/{APP}.toml"
    live.deploy("v1")
    machine.run("cp", file, "/etc/kept.toml")
    script = f"""
        mkdir -p /srv/data && chown {APP}: /srv/data && ln -sfn /srv/data /opt/{APP}/shared/media
        sed -i -e '1ishared_paths = ["media"]' -e /^shared_paths/d {file}
    """
    try:
        machine.run("sh", "-c", script)
        said = machine.says("pusher-agent", "app", "apply", APP)
        assert f"media leads to /srv/data: the units of {APP} may write there" in said
        live.deploy("v2")
        assert f"{APP}: the app can write to media" in machine.says("pusher-agent", "check")
        machine.run("chown", "root:", "/srv/data")
        said = machine.says("pusher-agent", "check")
        assert f"the app cannot write to /opt/{APP}/shared/media -> /srv/data" in said
    finally:
        machine.run(
            "sh", "-c", f"cp /etc/kept.toml {file}; rm /opt/{APP}/shared/media; pusher-agent app apply {APP}"
        )
