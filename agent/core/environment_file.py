"""A file of environment variables, read exactly as systemd reads one (systemd.exec(5), `EnvironmentFile=`).

Invariant: what systemd would leave out, or would read otherwise than it looks, is refused with its line and the
right form: the app would run without it. This is the automaton of systemd's `parse_env_file_internal`
(src/basic/env-file.c of version 252), state by state; tests/system/test_environment_file.py compares the two.
"""

import re
from enum import Enum, auto

from pusher.wire import Code, Refused

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WHITE = " \t\n\r"
_NEWLINE = "\n\r"
_NEEDS_ESCAPE = '"\\`$'


class _In(Enum):
    """Where the automaton is."""

    PRE_KEY = auto()
    KEY = auto()
    PRE_VALUE = auto()
    VALUE = auto()
    VALUE_ESCAPE = auto()
    SINGLE = auto()
    DOUBLE = auto()
    DOUBLE_ESCAPE = auto()
    COMMENT = auto()
    COMMENT_ESCAPE = auto()


def parse_environment_file(text: str, *, file: str) -> dict[str, str]:
    """The assignments in the text of a file. Raises: Refused(configuration), with the line and the right form."""
    return _Reader(text, file).read()


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.found: dict[str, str] = {}
        self.key: list[str] = []
        self.value: list[str] = []
        self.kept = 0
        """How much of a bare value is not white space at its end."""
        self.began = 0
        """Where the assignment begins."""

    def read(self) -> dict[str, str]:
        if self.text.startswith("\ufeff"):
            raise self._wrong(0, "it begins with a byte order mark, so the first variable has another name",
                              hint="Save it as UTF-8 without one")  # fmt: skip
        state = _In.PRE_KEY
        for at, letter in enumerate(self.text):
            if letter == "\0":
                raise self._wrong(at, "it contains a NUL", hint="Save it as text")
            state = self._step(state, letter, at)
        match state:
            case _In.SINGLE | _In.DOUBLE | _In.DOUBLE_ESCAPE:
                raise self._wrong(self.began, "a quote is not closed", hint=f"Close it: {self._name()}='...'")
            case _In.KEY:
                self._no_assignment()
            case _In.PRE_VALUE | _In.VALUE | _In.VALUE_ESCAPE:
                self._push()
        return self.found

    def _step(self, state: _In, letter: str, at: int) -> _In:
        """The next state, after this character."""
        match state:
            case _In.PRE_KEY:
                if letter in "#;":
                    return _In.COMMENT
                if letter in _WHITE:
                    return state
                self.key, self.value, self.kept, self.began = [letter], [], 0, at
                return _In.KEY
            case _In.KEY:
                if letter in _NEWLINE:
                    self._no_assignment()
                if letter == "=":
                    return _In.PRE_VALUE
                self.key.append(letter)
                return state
            case _In.PRE_VALUE | _In.VALUE:
                return self._step_in_value(state, letter)
            case _In.VALUE_ESCAPE:
                if letter not in _NEWLINE:  # a continued line
                    self._keep(letter)
                return _In.VALUE
            case _In.SINGLE | _In.DOUBLE:
                return self._step_in_quotes(state, letter)
            case _In.DOUBLE_ESCAPE:
                if letter in _NEEDS_ESCAPE:
                    self._keep(letter)
                elif letter != "\n":
                    self._keep("\\" + letter)
                return _In.DOUBLE
            case _In.COMMENT:
                if letter == "\\":
                    return _In.COMMENT_ESCAPE
                return _In.PRE_KEY if letter in _NEWLINE else state
            case _:  # COMMENT_ESCAPE
                if letter in _NEWLINE and self._begins_assignment(at + 1):
                    why = "a backslash ends the comment above, so this line belongs to it"
                    raise self._wrong(at + 1, why, hint="Take the backslash out")
                return _In.COMMENT

    def _step_in_value(self, state: _In, letter: str) -> _In:
        if letter in _NEWLINE:
            self._push()
            return _In.PRE_KEY
        if letter == "\\":
            self.kept = len(self.value)
            return _In.VALUE_ESCAPE
        if state is _In.PRE_VALUE:
            if letter == "'":
                return _In.SINGLE
            if letter == '"':
                return _In.DOUBLE
            if letter in _WHITE:
                return state
        self.value.append(letter)
        if letter not in _WHITE:
            self.kept = len(self.value)
        return _In.VALUE

    def _step_in_quotes(self, state: _In, letter: str) -> _In:
        if letter == ("'" if state is _In.SINGLE else '"'):
            return _In.PRE_VALUE
        if letter == "\\" and state is _In.DOUBLE:
            return _In.DOUBLE_ESCAPE
        self._keep(letter)
        return state

    def _keep(self, text: str) -> None:
        self.value.append(text)
        self.kept = len(self.value)

    def _name(self) -> str:
        return "".join(self.key).rstrip(_WHITE)

    def _push(self) -> None:
        name = self._name()
        if not _NAME.fullmatch(name):
            raise self._bad_name(name)
        self.found[name] = "".join(self.value[: self.kept])

    def _bad_name(self, name: str) -> Refused:
        words = name.split()
        if words[:1] == ["export"] and len(words) == 2:
            return self._wrong(self.began, "`export` belongs to shells", hint=f"Write {words[1]}=... without it")
        fixed = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "NAME"
        fixed = f"_{fixed}" if fixed[0].isdigit() else fixed
        why = f"{name!r} is no name: letters, digits and _, no digit first"
        return self._wrong(self.began, why, hint=f"For example: {fixed}=...")

    def _no_assignment(self) -> None:
        shown = self._name().split(" ")[0][:40]
        raise self._wrong(self.began, f"{shown!r} is not NAME=value", hint="A comment begins with #")

    def _begins_assignment(self, at: int) -> bool:
        line = re.split(r"[\n\r]", self.text[at:], maxsplit=1)[0]
        name, equals, _ = line.partition("=")
        return bool(equals) and _NAME.fullmatch(name.strip()) is not None

    def _wrong(self, at: int, why: str, *, hint: str) -> Refused:
        line = len(re.findall(r"\r\n|\n|\r", self.text[:at])) + 1
        return Refused(Code.CONFIGURATION, f"{self.file}: line {line} would be left out", why=why, hint=hint)
