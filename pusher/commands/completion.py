"""`pusher completion`: the completion scripts of three shells, which ask `pusher __complete WORDS...`."""

import argparse

from pusher.commands.command import Command, always
from pusher.terminal.screen import Screen
from pusher.terminal.text import Line

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


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(_SCRIPTS))


def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    screen.draw([Line(script(arguments.shell).rstrip("\n"))])
    return 0


COMMAND = Command(
    name="completion",
    help="print the completion script of a shell",
    description="Prints the completion script of a shell.",
    options=_options,
    run=_run,
    reads=always,
)
