"""The box of a one-off command, and the words that systemd-run and ssh get."""

import shlex
from pathlib import Path

import pytest

from agent.core.config.app import AppConfig
from agent.core.layout import HostLayout
from agent.core.one_off import SCRIPT, OneOff, box, run_argv, scope_argv
from agent.host.systemd.unit_files import read_templates, rendered
from pusher.errors import Usage
from pusher.transport.hosts import Ssh
from pusher.transport.hosts import run_argv as ssh_run_argv
from pusher.wire import Refused

UNITS = OneOff.of("web", "7")


def test_the_box_has_every_line_of_the_hardening_and_nothing_of_how_the_app_is_started() -> None:
    config = AppConfig(path="/opt/web", user="web", environment_file="/etc/web.env")
    units = rendered("web", config, host=HostLayout(Path("/")))
    found = box("web", units["web.service"])
    for line in read_templates()["hardening"].splitlines():
        if "=" in line and not line.startswith("#"):
            name = line.partition("=")[0]
            assert ("@" in line and "@system" not in line) or line in found, line
            assert name in ("MemoryMax", "TasksMax", "BindPaths") or any(
                one.startswith(f"{name}=") for one in found
            ), line
    assert "User=web" in found
    assert "EnvironmentFile=/etc/web.env" in found
    assert "ReadWritePaths=-/opt/web/shared" in found
    for name in (
        "ExecStart",
        "ExecReload",
        "Type",
        "Restart",
        "Sockets",
        "NotifyAccess",
        "KillMode",
        "SyslogIdentifier",
    ):
        assert not any(one.startswith(f"{name}=") for one in found), name


def test_drop_ins_count_in_their_order_and_only_their_service_section() -> None:
    text = (
        "# /etc/systemd/system/web.service\n[Unit]\nDescription=web\n[Service]\nUser=web\n  # not this=1\n"
        "; nor=1\n[Install]\nWantedBy=x\n\n# /etc/systemd/system/web.service.d/a.conf\n[Service]\nUser=other\n"
        "ReadWritePaths=\nReadWritePaths=/a \\\n  /b\nEnvironment=A=100%%\n"
    )
    assert box("web", text)[-5:] == [
        *("User=web", "User=other", "ReadWritePaths=", "ReadWritePaths=/a    /b", "Environment=A=100%"),
    ]


def test_what_cannot_be_carried_over_is_refused_and_not_left_out() -> None:
    with pytest.raises(Refused, match=r"ReadWritePaths=/srv/%p, and %p is not known here"):
        box("web", "[Service]\nReadWritePaths=/srv/%p\n")
    assert box("web", "[Service]\nExecStart=/bin/x %p\n")[-1] != "ExecStart=/bin/x %p"


def test_every_word_of_the_command_reaches_it_unchanged() -> None:
    argv = run_argv(UNITS, ["Nice=1"], folder="/c", command=("flask", "$A", "%h"), title="T", terminal=False)
    assert argv[: argv.index("--")] == (
        *("systemd-run", "--quiet", "--collect", "--wait", "--service-type=exec", "--pipe"),
        *("--unit=web-run-7.service", "--description=T", "--property=BindsTo=web-run-7.scope"),
        *("--property=After=web-run-7.scope", "--property=WorkingDirectory=/c", "--property=Nice=1"),
    )
    assert argv[-6:] == ("/bin/sh", "-c", SCRIPT.replace("$", "$$"), "sh", "flask", "$$A", "%h")[-6:]
    assert "--pty" in run_argv(UNITS, [], folder="/c", command=("x",), title="T", terminal=True)


def test_the_scope_is_made_of_the_caller_and_never_replaces_another() -> None:
    assert (
        scope_argv(UNITS, 99)[-9:]
        == (
            *("StartTransientUnit", "ssa(sv)a(sa(sv))", "web-run-7.scope", "fail", "1", "PIDs", "au"),
            *("1", "99", "0"),
        )[-9:]
    )


def test_over_ssh_each_word_is_quoted_for_the_shell_of_the_host() -> None:
    words = ("sudo", "flask", "a b", "", "$HOME", "it's", "\n", "--", "a\\b", "\\'", 'a"b', "\\\\")
    argv = ssh_run_argv(Ssh("web1", "alice", 22), words, ssh="ssh -F 'a file'", terminal=True)
    assert argv[:8] == ("ssh", "-F", "a file", "-t", "-p", "22", "alice@web1", "--")
    assert shlex.split(argv[8]) == list(words)
    assert len(argv) == 9
    # fish takes a backslash between quotes for an escape.
    assert argv[8].endswith(""" a\\\\b \\\\\\' 'a"b' \\\\\\\\""")
    assert ssh_run_argv(Ssh("web1"), words, ssh="ssh", terminal=False)[:3] == ("ssh", "-T", "web1")
    with pytest.raises(Usage):
        ssh_run_argv(Ssh("web1"), words, ssh="", terminal=False)
