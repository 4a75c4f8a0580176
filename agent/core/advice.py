"""What to do about an error that ended an app, where its last line says what the app misses.

Invariant: text in, text out, and no guess: an error that may well have another reason gets no advice.
"""

import re
from collections.abc import Sequence

_MODULE = re.compile(r"ModuleNotFoundError: No module named '(?P<name>[^'.]+)[^']*'")
_VARIABLES = (
    re.compile(r"UndefinedValueError: (?P<name>\w+) not found\. Declare it as envvar"),
    re.compile(r"ImproperlyConfigured: Set the (?P<name>\w+) environment variable"),
    re.compile(r"Error: Environment variable \"(?P<name>\w+)\" not set"),
)
"""How python-decouple, django-environ and environs say that a variable is not set."""
_KEY = re.compile(r"KeyError: '(?P<name>\w+)'")
_ENVIRON = re.compile(r'File "(?:<frozen os>|[^"]*/os\.py)", line \d+, in __getitem__')
_SETTINGS = re.compile(r"ValidationError: \d+ validation errors? for \w*(?:Settings|Config)")
_READ_ONLY = re.compile(r"\[Errno 30\] Read-only file system|attempt to write a readonly database")
_NO_DATABASE = re.compile(r"\bunable to open database file\b")
_NO_TASK = re.compile(r"RuntimeError: can't start new thread")
_SHARED = "`shared_paths` in the app's file: it lies in shared/ in the app's folder, and every release has it"


def advise(error: str, *, frames: Sequence[str]) -> str:
    """What to do about the last line of a traceback; empty if not known. `frames` are the heads of its frames."""
    if found := _MODULE.search(error):
        return f"Is {found['name']} in the release, or among its dependencies?"
    if (name := _variable(error, frames)) == "PORT":
        return 'A program that opens a port of its own needs `listen_via = "port"` beside its start command'
    if name:
        return f"The app's environment has no {name}: set it in the `environment_file` of the app's file"
    if _SETTINGS.search(error):
        return "Settings that are missing belong into the `environment_file` of the app's file"
    if _READ_ONLY.search(error):
        return f"The app cannot write to its release. A folder that it writes to belongs into {_SHARED}"
    if _NO_DATABASE.search(error):
        return f"Is its folder there, and may the app write to it? A folder for it belongs into {_SHARED}"
    if _NO_TASK.search(error):
        return "How many threads and processes the app may have is tasks_max in [resources] of the app's file"
    return ""


def _variable(error: str, frames: Sequence[str]) -> str:
    """The variable that the environment does not have; empty if the error is another one."""
    last = frames[-1] if frames else ""
    patterns = (*_VARIABLES, *((_KEY,) if _ENVIRON.search(last) else ()))
    return next((found["name"] for one in patterns if (found := one.search(error))), "")
