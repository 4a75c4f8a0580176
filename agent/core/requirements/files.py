"""The text of files of a release, within limits, and the digest of each file that was read.

Invariant: what is read is UTF-8 without control characters, and all together no larger than one file may be.
"""

import codecs
import hashlib
import re
from collections.abc import Callable
from typing import Any

from agent.core.requirements.requirement import unusable
from agent.core.requirements.toml_text import parse_toml
from pusher.wire import Code, Failed

Read = Callable[[str], bytes | None]
"""The content of a file of the release, by its path within; None if there is no such file.

It need not read more than `FILE_MOST` + 1 bytes.
"""

FILE_MOST = 8 * 1024**2
"""So many bytes a file may have, and so many all that it includes."""

LINE_END = re.compile(r"\r\n|\n|\r")

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


class ReleaseFiles:
    """The files of one release. `digests` has the SHA-256 (hex) of each that was read, by its path within."""

    def __init__(self, read: Read) -> None:
        self.digests: dict[str, str] = {}
        self._read = read
        self._size = 0

    def toml(self, name: str) -> dict[str, Any]:
        """The table in a file. Raises: as `text`."""
        return parse_toml(self.text(name), name=name)

    def text(self, name: str, by: str = "") -> str:
        """The text of a file. `by` is the place that includes it, if one does.

        Raises: Failed(dependencies_failed), naming the file, or `by` if it is not there.
        """
        content = self._read(name)
        if content is None:
            if by:
                raise unusable(by, why=f"the release has no {name}")
            raise Failed(
                Code.DEPENDENCIES_FAILED,
                f"The release has no {name}",
                why="a release's venv is made from it",
                hint="Add it, or set `requirements` in [dependencies] to the file that you have",
            )
        self._size += len(content)
        if self._size > FILE_MOST:
            raise unusable(name, why=f"with what includes it, it is larger than {FILE_MOST} bytes")
        self.digests[name] = hashlib.sha256(content).hexdigest()
        if content[:2] in _UTF_16:
            hint = "Save it as UTF-8 (PowerShell: `pip freeze | Out-File -Encoding utf8 requirements.txt`)"
            raise unusable(name, why="it is UTF-16", hint=hint)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise unusable(name, why="it is not UTF-8") from error
        check_control(text, name)
        return text


def check_control(text: str, name: str) -> None:
    """Raises: Failed(dependencies_failed), naming the line, if `text` has control characters."""
    if found := _CONTROL.search(text):
        line = len(LINE_END.findall(text, 0, found.start())) + 1
        raise unusable(f"{name}, line {line}", why="it has a control character")
