"""The options of the commands that change several hosts."""

import argparse

from pusher.commands.options import count
from pusher.fleet.fleet import AT_ONCE
from pusher.fleet.rollout import RolloutOptions


def add_rollout(parser: argparse.ArgumentParser, *, all_or_none: bool = False) -> None:
    """In which order the hosts are changed, and what happens if one fails."""
    order = parser.add_mutually_exclusive_group()
    order.add_argument(
        "--in-turn", action="store_true", help="one host after the other; stop at the first failure"
    )
    order.add_argument(
        "--parallel", type=_hosts, default=0, metavar="N", help=f"how many hosts at once (default {AT_ONCE})"
    )
    parser.add_argument(
        "--skip-unreachable",
        action="store_true",
        help="go on without hosts that cannot be reached, instead of changing none",
    )
    if all_or_none:
        parser.add_argument(
            "--all-or-none",
            action="store_true",
            help="if a host fails, take the others back to the release that was live there",
        )


def rollout_options(arguments: argparse.Namespace) -> RolloutOptions:
    """The options of `add_rollout` among the arguments."""
    return RolloutOptions(
        at_once=arguments.parallel or AT_ONCE,
        in_turn=arguments.in_turn,
        skip_unreachable=arguments.skip_unreachable,
        all_or_none=getattr(arguments, "all_or_none", False),
    )


def _hosts(text: str) -> int:
    return count(text, least=1, most=1000, of="a number of hosts")
