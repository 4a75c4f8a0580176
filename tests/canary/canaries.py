"""How each defence is switched off, and the test that must then fail.

Invariant: each test that docs/security.md names stands here, and each text to replace is in its file exactly once
(`tests/docs/test_security.py`).
"""

from typing import NamedTuple


class Edit(NamedTuple):
    """In `file`, `old` becomes `new`."""

    file: str
    old: str
    new: str


class Canary:
    """After all of the `edits`, `test` fails. There are several where one threat meets several walls."""

    def __init__(self, test: str, file: str, old: str, new: str, *more: Edit) -> None:
        self.test = test
        self.edits = (Edit(file, old, new), *more)


LINES = "agent/core/requirements/requirement.py"
REQUIREMENTS_FILE = "agent/core/requirements/requirements_file.py"
BUILD_UNIT = "packaging/systemd/app/app-build.service"
STREAM = "agent/host/dependencies/stream.py"
SOCKET = "packaging/systemd/pusher-agent.socket"
BOX = "packaging/systemd/app/hardening"
BUDGET = "agent/host/bundle/budget.py"
QUOTA = "agent/doors/http/quota.py"
GUARDS = "agent/doors/http/guards.py"
TRUST = "agent/core/trust.py"
SIGNERS = "agent/host/bundle/signers.py"
SIGNING = "agent/core/signing.py"
DROP_PLACE = "pusher/transport/drop_place.py"

BUILDS_ALLOWED = Edit("agent/core/venv.py", 'argv += ["--no-build"]', "pass")
CONFIG_READ = Edit("agent/core/venv.py", '_ALWAYS = ("--no-config", ', "_ALWAYS = (")

CANARIES = (
    # Code of a release never runs as the agent.
    Canary(
        "tests/hostile/test_requirements.py::test_an_include_that_uv_reads_under_another_name",
        REQUIREMENTS_FILE,
        'if "$" in value:',
        "if False:",
    ),
    Canary(
        "tests/hostile/test_requirements.py::test_no_spelling_of_a_requirements_file_runs_build_code",
        REQUIREMENTS_FILE,
        'if option == "--no-binary" and self.wheels_only:',
        "if False:",
        BUILDS_ALLOWED,
    ),
    Canary(
        "tests/hostile/test_requirements.py::test_no_spelling_of_a_project_runs_build_code",
        LINES,
        'if not names[-1].endswith(".whl"):\n        if wheels_only:',
        'if not names[-1].endswith(".whl"):\n        if False:',
        BUILDS_ALLOWED,
    ),
    Canary(
        "tests/hostile/test_requirements.py::test_no_lock_runs_build_code",
        LINES,
        'if not names[-1].endswith(".whl"):\n        if wheels_only:',
        'if not names[-1].endswith(".whl"):\n        if False:',
        BUILDS_ALLOWED,
    ),
    Canary(
        "tests/hostile/test_requirements.py::test_settings_that_a_release_brings_along_are_not_read",
        "agent/host/dependencies/venvs.py",
        "        for name, digest in inputs.wheels.items():\n            if",
        "        if (release / 'uv.toml').exists():\n"
        "            content = [(release / 'uv.toml').read_bytes()]\n"
        "            self._disk.create(work / 'uv.toml', content, op='x', mode=0o644)\n"
        "        for name, digest in inputs.wheels.items():\n            if",
        CONFIG_READ,
        BUILDS_ALLOWED,
    ),
    Canary(
        "tests/hostile/test_requirements.py::test_variables_of_the_agent_change_nothing",
        "agent/core/venv.py",
        "_PASSED_ON = (",
        '_PASSED_ON = ("UV_NO_BINARY_PACKAGE", "UV_NO_BUILD", "UV_CONFIG_FILE",',
        BUILDS_ALLOWED,
    ),
    Canary(
        "tests/system/test_build_unit.py::test_code_that_builds_a_package_can_do_nothing_but_build_it",
        BUILD_UNIT,
        "InaccessiblePaths=-/run/dbus -/run/systemd/private -/run/pusher-agent -/etc/pusher-agent",
        "",
    ),
    Canary(
        "tests/system/test_build_unit.py::test_a_build_without_a_network_has_none",
        BUILD_UNIT,
        "PrivateNetwork=@private_network@",
        "",
    ),
    Canary(
        "tests/hostile/test_build_steps.py::test_anything_else_is_refused_and_nothing_outside_is_touched",
        "agent/host/dependencies/steps_exchange.py",
        "or not matches(path) or reserved(path) or path in there or path in made",
        "",
    ),
    Canary(
        "tests/hostile/test_build_stream.py::test_what_is_no_venv_is_refused_and_nothing_outside_of_it_is_touched",
        STREAM,
        'any(name in ("", ".", "..") or len(name) > 255 for name in names)',
        "False",
    ),
    Canary(
        "tests/hostile/test_build_stream.py::test_no_more_is_taken_than_a_venv_can_have",
        STREAM,
        "if seen > limits.files:",
        "if False:",
    ),
    Canary(
        "tests/deploy/test_venvs.py::test_credentials_go_to_the_host_they_are_for_and_nowhere_else",
        "agent/core/venv.py",
        'logins.get(parts.hostname or "")',
        'logins.get("localhost")',
    ),
    Canary(
        "tests/deploy/test_venvs.py::test_a_venv_that_was_changed_is_found",
        "agent/host/releases/venv_files.py",
        "if now == kept:",
        "if True:",
    ),
    # The agent is who answers.
    Canary(
        "tests/system/test_door.py::test_while_the_agent_restarts_connections_wait_and_nobody_else_gets_its_place",
        "packaging/systemd/pusher-agent.service",
        "Requires=pusher-agent.socket",
        "PropagatesStopTo=pusher-agent.socket",
    ),
    Canary(
        "tests/system/test_door.py::test_after_a_boot_the_addresses_are_held_before_anybody_asks",
        SOCKET,
        "WantedBy=sockets.target",
        "WantedBy=rescue.target",
    ),
    Canary(
        "tests/hostile/test_impostors.py::test_to_another_users_socket_nothing_is_said",
        "pusher/transport/listener.py",
        'return user(strange[0]) if strange else ""',
        'return ""',
    ),
    Canary(
        "tests/unit/test_false_reports.py::test_send_calls_nothing_live_but_what_was_signed",
        "pusher/fleet/follow.py",
        "if said != digest:",
        "if False:",
    ),
    Canary(
        "tests/system/test_rights.py::test_from_another_host_there_is_no_door",
        SOCKET,
        "ListenStream=127.0.0.1:9000",
        "ListenStream=9000",
    ),
    Canary(
        "tests/deploy/test_door.py::test_each_route_serves_those_its_policy_names_and_nobody_else",
        "agent/doors/http/server.py",
        "if match.row.policy is not Policy.ANYONE:",
        "if False:",
    ),
    Canary(
        "tests/unit/test_peer.py::test_another_user_is_not_mistaken_for_root",
        "agent/host/net/peer.py",
        "return found.uid if own_state in _CONNECTED else None",
        "return 0",
    ),
    Canary(
        "tests/deploy/test_door.py::test_a_request_from_a_web_page_is_refused",
        GUARDS,
        'if origins and not (reads and origins == [f"http://{host}"]):',
        "if False:",
    ),
    Canary(
        "tests/deploy/test_door.py::test_the_name_of_another_server_is_refused",
        GUARDS,
        "if len(hosts) != 1 or hosts[0].lower() not in allowed:",
        "if len(hosts) != 1:",
    ),
    Canary(
        "tests/browser/test_strangers.py::test_headers_of_browsers_are_judged_one_by_one",
        GUARDS,
        "if sites and not (reads and sites[0] in _OWN_SITES and len(sites) == 1):",
        "if sites and not reads:",
    ),
    Canary(
        "tests/browser/test_strangers.py::test_even_the_pages_own_scripts_can_change_nothing",
        GUARDS,
        "if sites and not (reads and sites[0] in _OWN_SITES and len(sites) == 1):",
        "if False:",
        Edit(GUARDS, 'if origins and not (reads and origins == [f"http://{host}"]):', "if False:"),
    ),
    Canary(
        "tests/browser/test_page.py::test_names_logs_and_versions_are_shown_as_text_whatever_they_are",
        "pusher/wire/page/dom.js",
        "node.append(...flat(children));",
        'node.insertAdjacentHTML("beforeend", flat(children).map((one) => one.outerHTML ?? one).join(""));',
        Edit("pusher/wire/page/__init__.py", "; require-trusted-types-for 'script'; ", "; "),
    ),
    Canary(
        "tests/hostile/test_dashboard.py::test_a_request_from_elsewhere_gets_nothing_and_is_noted",
        "pusher/dashboard/guards.py",
        "if len(headers.hosts) != 1 or headers.hosts[0] not in self._names:",
        "if len(headers.hosts) != 1:",
    ),
    Canary(
        "tests/hostile/test_dashboard.py::test_another_user_of_this_machine_gets_nothing_even_with_the_cookie",
        "pusher/dashboard/server.py",
        "if uid in (0, os.geteuid()):",
        "if True:",
    ),
    Canary(
        "tests/hostile/test_dashboard.py::test_a_change_without_the_version_as_the_host_has_it_is_refused",
        "pusher/dashboard/routes.py",
        "if typed != wanted:",
        "if False:",
    ),
    # A server that lies.
    Canary(
        "tests/hostile/test_impostors.py::test_a_folder_without_the_mark_of_its_app_is_left_alone",
        DROP_PLACE,
        "or found != wanted:",
        "or False:",
    ),
    Canary(
        "tests/hostile/test_impostors.py::test_a_server_elsewhere_names_no_other_folder",
        DROP_PLACE,
        "if wanted != usual and not",
        "if False and not",
    ),
    Canary(
        "tests/hostile/test_impostors.py::test_a_folder_that_another_user_made_or_may_replace_is_left_alone",
        DROP_PLACE,
        "if state.st_uid not in trusted or (state.st_mode & 0o022 and not state.st_mode & stat.S_ISVTX):",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_lying_server.py::test_a_document_that_would_fill_the_memory_is_refused",
        "pusher/transport/connection.py",
        'if sum(map(raw.count, (b",", b"[", b"{"))) > values:',
        "if False:",
    ),
    Canary(
        "tests/hostile/test_lying_server.py::test_an_answer_without_an_end_is_given_up",
        "pusher/transport/bounds.py",
        "if self._left <= 0:",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_lying_server.py::test_an_answer_that_comes_drop_by_drop_is_given_up",
        "pusher/transport/bounds.py",
        "left_s = self._deadline - self._elapsed()",
        "left_s = 5.0",
    ),
    # The app stays in its box, and ends with it.
    Canary(
        "tests/system/test_box.py::test_from_a_hook_there_is_no_way_to_process_1",
        BOX,
        "InaccessiblePaths=-/run/dbus -/run/systemd/private -/run/user",
        "",
    ),
    Canary(
        "tests/system/test_box.py::test_polkit_refuses_lingering_to_the_users_of_apps_wherever_they_ask",
        "agent/core/polkit.py",
        "return polkit.Result.NO;",
        "return polkit.Result.NOT_HANDLED;",
    ),
    Canary(
        "tests/system/test_box.py::test_neither_a_stranger_nor_another_app_reads_the_code_or_the_uploads",
        "agent/host/setup/app_folders.py",
        "(layout.releases.name, group, 0o750),",
        "(layout.releases.name, group, 0o755),",
    ),
    Canary(
        "tests/system/test_box.py::test_what_an_app_writes_is_not_readable_by_strangers",
        BOX,
        "UMask=0027",
        "UMask=0022",
    ),
    Canary(
        "tests/system/test_box.py::test_an_app_is_held_to_the_memory_and_the_processes_of_its_file",
        BOX,
        "TasksMax=@tasks_max@",
        "",
    ),
    Canary(
        "tests/system/test_box.py::test_a_removed_app_leaves_no_process_of_its_user",
        "agent/host/setup/user_processes.py",
        "found = left = running(uid)",
        "found = left = []",
    ),
    Canary(
        "tests/system/test_rights.py::test_the_agent_has_no_capability_and_cannot_gain_one",
        "packaging/systemd/pusher-agent.service",
        "CapabilityBoundingSet=\n",
        "\n",
    ),
    Canary(
        "tests/system/test_rights.py::test_the_agents_user_can_touch_nothing_but_its_apps",
        "agent/core/polkit.py",
        'units.indexOf(action.lookup("unit")) >= 0',
        "true",
    ),
    # Nothing before the signature costs much, and nobody takes the agent away.
    Canary(
        "tests/hostile/test_budget.py::test_a_bomb_before_the_signature_is_refused_after_little_work",
        BUDGET,
        "if used <= most:",
        "if True:",
    ),
    Canary(
        "tests/hostile/test_budget.py::test_a_dropped_file_with_a_hole_of_a_terabyte_is_refused_after_little_work",
        BUDGET,
        "if used <= most:",
        "if True:",
    ),
    Canary(
        "tests/hostile/test_budget.py::test_a_bomb_behind_a_signed_manifest_is_refused_by_the_signed_sizes",
        BUDGET,
        "self._most = signed_allowance(manifest)",
        "self._most = Allowance(**dict.fromkeys(Allowance.__slots__, 10**12))",
    ),
    Canary(
        "tests/hostile/test_budget.py::test_processor_time_is_limited_before_the_signature",
        BUDGET,
        "used = self._processor_s + self._processor() - self._began",
        "used = 0.0",
    ),
    Canary(
        "tests/hostile/test_budget.py::test_no_regular_expression_of_the_product_has_nested_repetitions",
        LINES,
        '_NAME = re.compile(r"[A-Za-z0-9._+!~-]+")',
        '_NAME = re.compile(r"(?:[A-Za-z0-9._+!~-]+)+")',
    ),
    Canary(
        "tests/unit/test_requirements.py::test_lines_have_limits",
        LINES,
        "if len(text) > LINE_MOST:",
        "if False:",
    ),
    Canary(
        "tests/deploy/test_door_quota.py::test_idle_connections_of_many_users_leave_operators_their_share",
        QUOTA,
        "if not operator and self._others_open >= self._others:",
        "if False:",
    ),
    Canary(
        "tests/deploy/test_door_quota.py::test_connections_that_bring_nothing_are_not_taken",
        "agent/doors/http/server.py",
        "withhold_silent(sock, self._limits.withheld_s)",
        "withhold_silent(sock, 0)",
    ),
    Canary(
        "tests/deploy/test_door_quota.py::test_a_flood_of_one_user_is_turned_away_and_others_are_served",
        QUOTA,
        "if not operator and not self._allowance.spend(uid, now=self._elapsed()):",
        "if False:",
    ),
    Canary(
        "tests/deploy/test_door_quota.py::test_others_never_get_more_than_a_quarter_of_the_descriptors",
        "agent/doors/http/server.py",
        "others=min(self._limits.connections_others, files // 4),",
        "others=self._limits.connections_others,",
    ),
    Canary(
        "tests/deploy/test_door_quota.py::test_a_shortage_of_descriptors_does_not_end_the_reports_of_life",
        "agent/host/log/notify.py",
        "self._kept.sendto(message, name)\n                return",
        'self._kept.send(b"")\n                return',
    ),
    Canary(
        "tests/deploy/test_door_uploads.py::test_an_upload_that_stalls_is_cut_off",
        "agent/doors/http/uploads.py",
        "async with asyncio.timeout(stall_s):",
        "async with asyncio.timeout(600):",
        Edit("agent/doors/http/uploads.py", "Pipe(stall_s=self._limits.stall_s", "Pipe(stall_s=600"),
    ),
    Canary(
        "tests/deploy/test_door.py::test_a_user_that_is_named_reads_the_metrics_and_nothing_else",
        "agent/doors/http/rights.py",
        "return may_watch(caller, own_uid=own_uid, group=group, users=self._metrics_users)",
        "return True",
    ),
    Canary(
        "tests/deploy/test_metrics.py::test_many_callers_at_once_get_one_scrape",
        "agent/doors/http/metrics.py",
        "if self._scraping is None or self._scraping.done():",
        "if True:",
    ),
    # Only what was signed, whole, fresh and for this host.
    Canary(
        "tests/hostile/test_archives.py::test_it_is_refused_and_leaves_nothing",
        "pusher/wire/index.py",
        'any(part in ("", ".", "..") or "\\0" in part or len(part.encode()) > 255 for part in parts)',
        "False",
    ),
    Canary(
        "tests/hostile/test_drop.py::test_a_link_in_the_place_of_a_folder_is_not_followed",
        "agent/host/drop/directory.py",
        "_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
    ),
    Canary(
        "tests/hostile/test_signatures.py::test_a_signature_made_for_something_else_is_refused",
        "agent/core/sshsig.py",
        "if found != namespace:",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_signatures.py::test_short_rsa_keys_are_refused_even_if_they_are_listed",
        "agent/core/sshsig.py",
        "RSA_BITS = 3072",
        "RSA_BITS = 1024",
    ),
    Canary(
        "tests/hostile/test_drop.py::test_a_bundle_that_was_deployed_and_rolled_back_from_is_not_replayed",
        TRUST,
        "if manifest.created < newest_accepted or not retry:",
        "if manifest.created < newest_accepted:",
    ),
    Canary(
        "tests/deploy/test_refusals.py::test_a_replayed_bundle_does_not_bring_an_old_version_back",
        TRUST,
        "if newest_accepted is None or manifest.created > newest_accepted:",
        "if True:",
    ),
    Canary(
        "tests/deploy/test_refusals.py::test_a_bundle_that_is_refused_changes_nothing",
        TRUST,
        "if manifest.hosts and host not in manifest.hosts:",
        "if False:",
    ),
    Canary(
        "tests/deploy/test_refusals.py::test_a_file_that_was_changed_on_the_way_fails_before_anything_is_live",
        "agent/host/releases/unpack.py",
        "if got != (file.size, file.sha256):\n            raise",
        "if False:\n            raise",
        Edit("agent/host/releases/unpack.py", "if size != file.size:", "if False:"),
    ),
    # Keys end.
    Canary(
        "tests/deploy/test_ended_keys.py::test_a_rollback_never_goes_to_a_release_whose_key_was_removed",
        "agent/host/releases/revocations.py",
        "if release in self._allowed:",
        "if True:",
    ),
    Canary(
        "tests/deploy/test_ended_keys.py::test_a_revoked_key_signs_no_more_and_its_releases_stay_away",
        SIGNERS,
        '*(("-r", str(revoked_keys)) if revoked_keys is not None else ()),',
        "",
    ),
    Canary(
        "tests/deploy/test_ended_keys.py::test_one_signature_is_refused_where_two_people_must_sign",
        SIGNING,
        "if len(counted) >= self.required:",
        "if counted:",
    ),
    Canary(
        "tests/hostile/test_several_signatures.py::test_one_person_with_two_keys_counts_once",
        SIGNING,
        "one.principal != it.principal and ",
        "",
    ),
    Canary(
        "tests/hostile/test_several_signatures.py::test_a_forged_signature_spoils_the_good_ones_beside_it",
        "agent/host/bundle/signatures.py",
        "if refusal.code not in (Code.SIGNER_UNKNOWN, Code.SIGNER_REVOKED, Code.TOUCH_MISSING):",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_several_signatures.py::test_a_security_key_must_have_been_touched_where_the_app_asks_for_it",
        SIGNING,
        "if (envelope.touched or not self.touch) and (envelope.unlocked or not self.pin):",
        "if True:",
    ),
    # What happened can be proved.
    Canary(
        "tests/deploy/test_history.py::test_a_row_that_was_changed_by_hand_is_named_by_the_command_and_by_check",
        "agent/core/history.py",
        "    return replay.difference(tables)",
        '    return ""',
    ),
    Canary(
        "tests/deploy/test_history.py::test_the_command_follows_the_history_and_names_one_that_was_replaced",
        "pusher/fleet/history.py",
        "if seen is not None and (difference := _difference(client, app, seen, now)):",
        'if seen is not None and (difference := ""):',
    ),
    Canary(
        "tests/unit/test_refusals.py::test_a_flood_of_many_callers_is_bounded_and_does_not_hide_a_forged_bundle",
        "agent/doors/refusals.py",
        "and self._kinds.spend(problem.code, now=now)",
        "",
    ),
    # Hosts that fetch by themselves.
    Canary(
        "tests/hostile/test_channel.py::test_arbitrary_software_in_the_place_of_a_bundle",
        "agent/host/storage/partial.py",
        "return digest.hexdigest() == sha256",
        "return True",
    ),
    Canary(
        "tests/hostile/test_channel.py::test_a_document_that_was_signed_as_a_release",
        "agent/host/channel/signed.py",
        "            namespace=CHANNEL_NAMESPACE,",
        '            namespace="pusher-release",',
    ),
    Canary(
        "tests/hostile/test_channel.py::test_rollback_by_an_older_document",
        "agent/core/channel.py",
        "if mark is not None and document.created < mark.created:",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_channel.py::test_freeze_at_a_document_that_is_never_renewed",
        "agent/core/channel.py",
        "if now >= document.expires:",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_channel.py::test_mix_and_match_of_a_release_and_the_bundle_of_another",
        "agent/doors/channel/subscription.py",
        "if verified.digest != action.target.release.manifest:",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_channel.py::test_endless_data_in_the_place_of_a_bundle",
        "agent/host/channel/web.py",
        "if at + len(piece) > into.size:",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_channel.py::test_a_redirect_is_followed_nowhere",
        "agent/host/channel/web.py",
        "allow_redirects=False",
        "allow_redirects=True",
    ),
    Canary(
        "tests/unit/test_subscription.py::test_nobody_begins_while_any_mirror_has_the_brake",
        "agent/core/channel.py",
        "if facts.braked:",
        "if False:",
    ),
    Canary(
        "tests/unit/test_fleet_status.py::test_only_the_signature_of_this_key_over_this_document_counts",
        "pusher/fleet/host_key.py",
        "return bool(done == 1)",
        "return True",
    ),
    Canary(
        "tests/unit/test_proved.py::test_another_report_another_signature_and_another_key_are_verified_anew",
        "pusher/fleet/proved.py",
        "hashlib.sha256(_RULES + key + content)",
        "hashlib.sha256(_RULES)",
    ),
    Canary(
        "tests/unit/test_proved.py::test_what_others_could_have_written_is_not_read",
        "pusher/fleet/proved.py",
        "if state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):",
        "if True:",
    ),
    Canary(
        "tests/unit/test_repository.py::test_a_team_names_its_signers_once_and_no_command_believes_another",
        "pusher/repository/channel.py",
        "signers=self._signers, namespace=CHANNEL_NAMESPACE",
        "namespace=CHANNEL_NAMESPACE",
    ),
    Canary(
        "tests/unit/test_repository.py::test_an_older_document_that_somebody_put_back_is_not_renewed",
        "pusher/repository/channel.py",
        "if document.created < seen:",
        "if False:",
    ),
    Canary(
        "tests/hostile/test_web_publishing.py::test_a_server_that_ignores_conditions_is_not_published_to",
        "pusher/repository/web_folder.py",
        "self._compares = False",
        "self._compares = True",
    ),
    Canary(
        "tests/deploy/test_publishing_by_https.py::test_nobody_else_writes_a_byte",
        "agent/repository/server.py",
        "if not who:",
        "if False:",
    ),
    # Notices say no more than they should.
    Canary(
        "tests/unit/test_courier.py::test_a_redirect_to_another_host_is_not_followed",
        "agent/host/notices/web.py",
        "allow_redirects=False",
        "allow_redirects=True",
    ),
    Canary(
        "tests/unit/test_notice.py::test_slack_gets_no_markup_from_names",
        "agent/core/notice_formats.py",
        '.replace("<", "&lt;")',
        "",
    ),
    Canary(
        "tests/unit/test_notice.py::test_no_text_makes_a_header_of_ntfy_longer_than_a_line",
        "agent/core/notice.py",
        "one if one.isprintable() else",
        "one if True else",
    ),
    Canary(
        "tests/unit/test_notice.py::test_what_a_release_wrote_is_in_no_notice",
        "agent/core/notice.py",
        'shown = ("code", "title", "detail", "hint")',
        'shown = ("code", "title", "detail", "hint", "output")',
    ),
    Canary(
        "tests/unit/test_setup.py::test_a_server_that_answers_nonsense_is_not_believed",
        "pusher/setup/remote.py",
        "if not _FOLDER.fullmatch(folder):",
        "if False:",
    ),
)
