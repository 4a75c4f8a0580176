"""Shell completion: three small scripts, which ask `pusher __complete WORDS...` what could come next.

Invariant: a candidate consists of characters that no shell gives a meaning to; others are left out, for
the names of folders are anybody's to choose. The words are the parser's own, so they are always current.
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence

from pusher.errors import Usage

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@:/-]*|--?[a-z-]+", re.ASCII)

# Without a candidate, all three offer the names of files.
_SCRIPTS = {
    "bash": """\
# pusher completion bash > /etc/bash_completion.d/pusher, or: eval "$(pusher completion bash)"
_pusher() {
    mapfile -t COMPREPLY < <(pusher __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _pusher pusher
""",
    "zsh": """\
#compdef pusher
# pusher completion zsh > a folder of $fpath, as _pusher, or: eval "$(pusher completion zsh)"
_pusher() {
    local -a found
    found=("${(@f)$(pusher __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -a found; else _files; fi
}
if [[ "${funcstack[1]}" == _pusher ]]; then _pusher "$@"; else compdef _pusher pusher; fi
""",
    "fish": """\
# pusher completion fish > ~/.config/fish/completions/pusher.fish
function __pusher
    pusher __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c pusher -f -a '(__pusher)'
complete -c pusher -n 'not __pusher | string length -q' -F
""",
}


def script(shell: str) -> str:
    """The script that makes `shell` (bash, zsh or fish) complete `pusher`."""
    return _SCRIPTS[shell]


def candidates(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """What the last of `words` (perhaps empty) could become; none where a file's name is expected."""
    # bash makes three words of --host=web1.
    *before, last = [word for word in words if word != "="] or [""]
    commands = _commands(parser)
    command = next((commands[word] for word in before if word in commands), None)
    if command is None:
        found: Iterable[str] = (*commands, *_flags(parser))
    elif (option := command._option_string_actions.get(before[-1])) and option.nargs is None:
        found = _values(option)
    elif last.startswith("-"):
        found = _flags(command)
    else:
        found = (value for action in command._actions if not action.option_strings for value in _values(action))
    return sorted({one for one in found if one.startswith(last) and _HARMLESS.fullmatch(one)})


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    raise RuntimeError("the parser has no commands")


def _flags(parser: argparse.ArgumentParser) -> Iterable[str]:
    return (flag for flag in parser._option_string_actions if flag.startswith("--"))


def _values(action: argparse.Action) -> Iterable[str]:
    """The values that an option or argument can have, where there are few enough to name."""
    if action.choices is not None:
        return map(str, action.choices)
    if action.dest not in ("host", "what"):
        return ()
    from pusher.bundle.source import versions
    from pusher.config import load

    try:
        settings = load({})
    except Usage:
        return ()
    return settings.hosts if action.dest == "host" else versions(settings.source)
