"""What the agent last read of each app's file and could use, kept in its own folder.

Invariant: a file that can be used counts more. Only the agent reads this: it is its own word, not root's.
"""

import os
from dataclasses import replace

import structlog
from pydantic import ValidationError

from agent.core.config.app import AppConfig
from agent.core.config.clashes import clashes
from agent.core.layout import HostLayout
from agent.host.setup.config_files import Apps, after_mending, read_again
from agent.host.storage.disk import Disk
from pusher.wire import Failed, Refused

_log = structlog.get_logger()


class LastRead:
    """The memory of one host. Everything here blocks."""

    def __init__(self, host: HostLayout, disk: Disk) -> None:
        self._host = host
        self._disk = disk

    def keep(self, app: str, config: AppConfig) -> None:
        """Remember what was read of an app's file. A full disk is logged, and does not matter before a mistake."""
        text = config.model_dump_json(exclude_unset=True, indent=1).encode()
        file = self._host.last_read / f"{app}.json"
        try:
            if file.exists() and file.read_bytes() == text:
                return
            self._disk.make_folders(file.parent, op="last-read.folder")
            self._disk.write(file, text, op="last-read", mode=0o600, replace=True)
        except (Failed, OSError) as error:
            _log.warning("configuration_not_remembered", app=app, why=str(error))

    def recall(self, app: str) -> AppConfig | None:
        """What was read last of an app's file; None if nothing is remembered that this agent can use."""
        try:
            return AppConfig.model_validate_json((self._host.last_read / f"{app}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def stand_in(self, apps: Apps) -> Apps:
        """The same apps, but one whose file is unusable is held, with what was read last, where that can be.

        What is remembered of apps that have no file any more is forgotten.
        """
        self._forget_all_but({*apps.usable, *apps.unusable})
        for app, config in apps.usable.items():
            self.keep(app, config)
        recalled = {app: read for app in apps.unusable if (read := self.recall(app))}
        for clash in clashes({**apps.usable, **recalled}):
            for app in clash.apps:
                recalled.pop(app, None)
        unusable = {app: problem for app, problem in apps.unusable.items() if app not in recalled}
        held = {app: apps.unusable[app] for app in recalled}
        return replace(apps, usable={**apps.usable, **recalled}, unusable=unusable, held=held)

    def _forget_all_but(self, apps: set[str]) -> None:
        try:
            for name in os.listdir(self._host.last_read):
                if name.removesuffix(".json") not in apps:
                    self._disk.unlink(self._host.last_read / name, op="last-read.forget")
        except FileNotFoundError:
            return
        except (Failed, OSError) as error:
            _log.warning("configuration_not_forgotten", why=str(error))


class ReadFile:
    """`AppFile` for one app of an agent that reads its file again for each deployment."""

    def __init__(self, app: str, memory: LastRead, *, host: HostLayout) -> None:
        self._app = app
        self._memory = memory
        self._host = host

    def read(self, in_force: AppConfig) -> AppConfig:
        try:
            return read_again(self._app, in_force, host=self._host)
        except Refused as problem:
            raise after_mending(self._app, problem, service="embedded", runs=True) from problem

    def keep(self, config: AppConfig) -> None:
        self._memory.keep(self._app, config)
