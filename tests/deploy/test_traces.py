"""The way of a deployment, cut at each step and hook: what is done, what is undone, and in which order.

How to read a line: tests/deploy/tracing.py. `...` stands for what is done without a cut, up to the next word.
"""

from pathlib import Path

import pytest

from agent.core.plan import PLANS, RETURN_AFTER, RETURN_BEFORE, Hook, Kind, Step
from tests.deploy.tracing import trace

DEPLOY = """
-> unpack link-shared dependencies preflight switch restart confirm processes commit cleanup => done, new
unpack:fail -> unpack:fail preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
unpack:stop -> unpack:stop preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
unpack:die -> unpack:die | preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
link-shared:fail -> ... link-shared:fail preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
link-shared:stop -> ... link-shared:stop preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
link-shared:die -> ... link-shared:die | preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
dependencies:fail -> ... dependencies:fail preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
dependencies:stop -> ... dependencies:stop preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
dependencies:die -> ... dependencies:die | preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
preflight:fail -> ... preflight:fail preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
preflight:stop -> ... preflight:stop preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
preflight:stop-after -> ... preflight:stop-after preflight:undo dependencies:undo link-shared:undo unpack:undo
    => failed, old
preflight:die -> ... preflight:die | preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
switch:fail -> ... switch:fail processes:undo confirm:undo restart:undo switch:undo => failed, old
switch:stop -> ... switch:stop restart confirm processes commit cleanup => done, new
switch:die -> ... switch:die | processes:undo confirm:undo restart:undo switch:undo => failed, old
switched:die -> ... switch switched:die | restart confirm processes commit cleanup => done, new
restart:fail -> ... restart:fail processes:undo confirm:undo restart:undo switch:undo => failed, old
restart:stop -> ... restart:stop confirm processes commit cleanup => done, new
restart:die -> ... restart:die | restart confirm processes commit cleanup => done, new
confirm:fail -> ... confirm:fail processes:undo confirm:undo restart:undo switch:undo => failed, old
confirm:stop -> ... confirm:stop processes commit cleanup => done, new
confirm:die -> ... confirm:die | restart confirm processes commit cleanup => done, new
processes:fail -> ... processes:fail processes:undo confirm:undo restart:undo switch:undo => failed, old
processes:stop -> ... processes:stop commit cleanup => done, new
processes:die -> ... processes:die | restart confirm processes commit cleanup => done, new
commit:fail -> ... commit:fail processes:undo confirm:undo restart:undo switch:undo => failed, old
commit:stop -> ... commit:stop cleanup => done, new
commit:die -> ... commit:die | restart confirm processes commit cleanup => done, new
cleanup:fail -> ... cleanup:fail => done, new
cleanup:stop -> ... cleanup:stop => done, new
cleanup:die -> ... cleanup:die | cleanup => done, new
"""
"""Each step of a deploy fails, is stopped, and dies. `switched` is the moment after the link was flipped."""

HALT = """
preflight:halt -> ... preflight:halt preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
switch:halt -> ... switch:halt | processes:undo confirm:undo restart:undo switch:undo => failed, old
restart:halt -> ... restart:halt | restart confirm processes commit cleanup => done, new
confirm:halt -> ... confirm:halt | restart confirm processes commit cleanup => done, new
processes:halt -> ... processes:halt | restart confirm processes commit cleanup => done, new
cleanup:halt -> ... cleanup:halt => done, new
confirm:fail switch:undo:halt -> ... confirm:fail processes:undo confirm:undo restart:undo switch:undo:halt |
    processes:undo confirm:undo restart:undo switch:undo => failed, old
"""
"""A step of a deploy, or an undo, fails because the host is going down: with its app, or with systemd itself."""

ROLLBACK = """
-> preflight switch restart confirm processes commit cleanup => done, old
preflight:fail -> preflight:fail preflight:undo => failed, new
preflight:stop -> preflight:stop preflight:undo => failed, new
preflight:stop-after -> preflight:stop-after preflight:undo => failed, new
preflight:die -> preflight:die | preflight:undo => failed, new
switch:fail -> ... switch:fail processes:undo confirm:undo restart:undo switch:undo => failed, new
switch:stop -> ... switch:stop restart confirm processes commit cleanup => done, old
switch:die -> ... switch:die | processes:undo confirm:undo restart:undo switch:undo => failed, new
switched:die -> ... switch switched:die | restart confirm processes commit cleanup => done, old
restart:fail -> ... restart:fail processes:undo confirm:undo restart:undo switch:undo => failed, new
restart:stop -> ... restart:stop confirm processes commit cleanup => done, old
restart:die -> ... restart:die | restart confirm processes commit cleanup => done, old
confirm:fail -> ... confirm:fail processes:undo confirm:undo restart:undo switch:undo => failed, new
confirm:stop -> ... confirm:stop processes commit cleanup => done, old
confirm:die -> ... confirm:die | restart confirm processes commit cleanup => done, old
processes:fail -> ... processes:fail processes:undo confirm:undo restart:undo switch:undo => failed, new
processes:stop -> ... processes:stop commit cleanup => done, old
processes:die -> ... processes:die | restart confirm processes commit cleanup => done, old
commit:fail -> ... commit:fail processes:undo confirm:undo restart:undo switch:undo => failed, new
commit:stop -> ... commit:stop cleanup => done, old
commit:die -> ... commit:die | restart confirm processes commit cleanup => done, old
cleanup:fail -> ... cleanup:fail => done, old
cleanup:stop -> ... cleanup:stop => done, old
cleanup:die -> ... cleanup:die | cleanup => done, old
"""
"""The same for a rollback. What was live is the new release, and comes back."""

RETURN = """
confirm:fail processes:undo:fail -> ... confirm:fail processes:undo:fail => stuck, new
confirm:fail processes:undo:stop -> ... confirm:fail processes:undo:stop confirm:undo restart:undo switch:undo
    => failed, old
confirm:fail processes:undo:die -> ... confirm:fail processes:undo:die | processes:undo confirm:undo
    restart:undo switch:undo => failed, old
confirm:fail confirm:undo:fail -> ... confirm:fail processes:undo confirm:undo:fail => stuck, new
confirm:fail confirm:undo:stop -> ... confirm:fail processes:undo confirm:undo:stop restart:undo switch:undo
    => failed, old
confirm:fail confirm:undo:die -> ... confirm:fail processes:undo confirm:undo:die | processes:undo
    confirm:undo restart:undo switch:undo => failed, old
confirm:fail restart:undo:fail -> ... confirm:fail processes:undo confirm:undo restart:undo:fail => stuck, new
confirm:fail restart:undo:stop -> ... confirm:fail processes:undo confirm:undo restart:undo:stop switch:undo
    => failed, old
confirm:fail restart:undo:die -> ... confirm:fail processes:undo confirm:undo restart:undo:die |
    processes:undo confirm:undo restart:undo switch:undo => failed, old
confirm:fail switch:undo:fail -> ... confirm:fail processes:undo confirm:undo restart:undo switch:undo:fail =>
    stuck, new
confirm:fail switch:undo:stop -> ... confirm:fail processes:undo confirm:undo restart:undo switch:undo:stop =>
    failed, old
confirm:fail switch:undo:die -> ... confirm:fail processes:undo confirm:undo restart:undo switch:undo:die |
    processes:undo confirm:undo restart:undo switch:undo => failed, old
confirm:fail returned:die -> ... confirm:fail processes:undo confirm:undo restart:undo switch:undo
    returned:die | processes:undo confirm:undo restart:undo switch:undo => failed, old
"""
"""An automatic return (a deploy failed after the switch), cut again. `returned`: the link was flipped back."""

DISCARD = """
preflight:fail preflight:undo:fail -> ... preflight:fail preflight:undo:fail => stuck, old
preflight:fail preflight:undo:stop -> ... preflight:fail preflight:undo:stop dependencies:undo
    link-shared:undo unpack:undo => failed, old
preflight:fail preflight:undo:die -> ... preflight:fail preflight:undo:die | preflight:undo dependencies:undo
    link-shared:undo unpack:undo => failed, old
preflight:fail dependencies:undo:fail -> ... preflight:fail preflight:undo dependencies:undo:fail => stuck, old
preflight:fail dependencies:undo:stop -> ... preflight:fail preflight:undo dependencies:undo:stop
    link-shared:undo unpack:undo => failed, old
preflight:fail dependencies:undo:die -> ... preflight:fail preflight:undo dependencies:undo:die |
    preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
preflight:fail link-shared:undo:fail -> ... preflight:fail preflight:undo dependencies:undo
    link-shared:undo:fail => stuck, old
preflight:fail link-shared:undo:stop -> ... preflight:fail preflight:undo dependencies:undo
    link-shared:undo:stop unpack:undo => failed, old
preflight:fail link-shared:undo:die -> ... preflight:fail preflight:undo dependencies:undo
    link-shared:undo:die | preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
preflight:fail unpack:undo:fail -> ... preflight:fail preflight:undo dependencies:undo link-shared:undo
    unpack:undo:fail => stuck, old
preflight:fail unpack:undo:stop -> ... preflight:fail preflight:undo dependencies:undo link-shared:undo
    unpack:undo:stop => failed, old
preflight:fail unpack:undo:die -> ... preflight:fail preflight:undo dependencies:undo link-shared:undo
    unpack:undo:die | preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
"""
"""A deploy that failed before the switch is being undone, and is cut again."""

HOOKS_OF_A_DEPLOY = """
-> unpack before-setup after-setup before-update-code after-update-code before-symlink-shared link-shared
    after-symlink-shared dependencies build before-symlink release preflight switch restart confirm processes
    after-symlink before-cleanup commit cleanup after-cleanup => done, new
before-setup:fail -> ... before-setup:fail preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
before-setup:stop -> ... before-setup:stop preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
before-setup:die -> ... before-setup:die | preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
after-setup:fail -> ... after-setup:fail preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
after-setup:stop -> ... after-setup:stop preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
after-setup:die -> ... after-setup:die | preflight:undo dependencies:undo link-shared:undo unpack:undo =>
    failed, old
before-update-code:fail -> ... before-update-code:fail preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
before-update-code:stop -> ... before-update-code:stop preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
before-update-code:die -> ... before-update-code:die | preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
after-update-code:fail -> ... after-update-code:fail preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
after-update-code:stop -> ... after-update-code:stop preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
after-update-code:die -> ... after-update-code:die | preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
before-symlink-shared:fail -> ... before-symlink-shared:fail preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
before-symlink-shared:stop -> ... before-symlink-shared:stop preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
before-symlink-shared:die -> ... before-symlink-shared:die | preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
after-symlink-shared:fail -> ... after-symlink-shared:fail preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
after-symlink-shared:stop -> ... after-symlink-shared:stop preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
after-symlink-shared:die -> ... after-symlink-shared:die | preflight:undo dependencies:undo link-shared:undo
    unpack:undo => failed, old
before-symlink:fail -> ... before-symlink:fail preflight:undo dependencies:undo link-shared:undo unpack:undo
    => failed, old
before-symlink:stop -> ... before-symlink:stop preflight:undo dependencies:undo link-shared:undo unpack:undo
    => failed, old
before-symlink:die -> ... before-symlink:die | preflight:undo dependencies:undo link-shared:undo unpack:undo
    => failed, old
build:fail -> ... build:fail preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
build:stop -> ... build:stop preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
build:die -> ... build:die | preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
release:fail -> ... release:fail preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
release:stop -> ... release:stop preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
release:die -> ... release:die | preflight:undo dependencies:undo link-shared:undo unpack:undo => failed, old
after-symlink:fail -> ... after-symlink:fail processes:undo confirm:undo restart:undo rollback-before-setup
    rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink rollback-before-cleanup
    rollback-after-cleanup => failed, old
after-symlink:stop -> ... after-symlink:stop before-cleanup commit cleanup after-cleanup => done, new
after-symlink:die -> ... after-symlink:die | restart confirm processes after-symlink before-cleanup commit
    cleanup after-cleanup => done, new
before-cleanup:fail -> ... before-cleanup:fail processes:undo confirm:undo restart:undo rollback-before-setup
    rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink rollback-before-cleanup
    rollback-after-cleanup => failed, old
before-cleanup:stop -> ... before-cleanup:stop commit cleanup after-cleanup => done, new
before-cleanup:die -> ... before-cleanup:die | restart confirm processes after-symlink before-cleanup commit
    cleanup after-cleanup => done, new
after-cleanup:fail -> ... after-cleanup:fail => done, new
after-cleanup:stop -> ... after-cleanup:stop => done, new
after-cleanup:die -> ... after-cleanup:die | cleanup after-cleanup => done, new
"""
"""Each hook of a deploy."""

HOOKS_OF_A_ROLLBACK = """
-> rollback-before-setup rollback-after-setup rollback-before-symlink preflight switch restart confirm
    processes rollback-after-symlink rollback-before-cleanup commit cleanup rollback-after-cleanup => done, old
rollback-before-setup:fail -> rollback-before-setup:fail preflight:undo => failed, new
rollback-before-setup:stop -> rollback-before-setup:stop preflight:undo => failed, new
rollback-before-setup:die -> rollback-before-setup:die | preflight:undo => failed, new
rollback-after-setup:fail -> ... rollback-after-setup:fail preflight:undo => failed, new
rollback-after-setup:stop -> ... rollback-after-setup:stop preflight:undo => failed, new
rollback-after-setup:die -> ... rollback-after-setup:die | preflight:undo => failed, new
rollback-before-symlink:fail -> ... rollback-before-symlink:fail preflight:undo => failed, new
rollback-before-symlink:stop -> ... rollback-before-symlink:stop preflight:undo => failed, new
rollback-before-symlink:die -> ... rollback-before-symlink:die | preflight:undo => failed, new
rollback-after-symlink:fail -> ... rollback-after-symlink:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, new
rollback-after-symlink:stop -> ... rollback-after-symlink:stop rollback-before-cleanup commit cleanup
    rollback-after-cleanup => done, old
rollback-after-symlink:die -> ... rollback-after-symlink:die | restart confirm processes
    rollback-after-symlink rollback-before-cleanup commit cleanup rollback-after-cleanup => done, old
rollback-before-cleanup:fail -> ... rollback-before-cleanup:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, new
rollback-before-cleanup:stop -> ... rollback-before-cleanup:stop commit cleanup rollback-after-cleanup => done, old
rollback-before-cleanup:die -> ... rollback-before-cleanup:die | restart confirm processes
    rollback-after-symlink rollback-before-cleanup commit cleanup rollback-after-cleanup => done, old
rollback-after-cleanup:fail -> ... rollback-after-cleanup:fail => done, old
rollback-after-cleanup:stop -> ... rollback-after-cleanup:stop => done, old
rollback-after-cleanup:die -> ... rollback-after-cleanup:die | cleanup rollback-after-cleanup => done, old
"""
"""Each hook of a rollback."""

HOOKS_OF_A_RETURN = """
confirm:fail rollback-before-setup:fail -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup:fail rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-before-setup:stop -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup:stop rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-before-setup:die -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup:die | processes:undo confirm:undo restart:undo rollback-before-setup
    rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink rollback-before-cleanup
    rollback-after-cleanup => failed, old
confirm:fail rollback-after-setup:fail -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup:fail rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-after-setup:stop -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup:stop rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-after-setup:die -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup:die | processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-before-symlink:fail -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink:fail switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-before-symlink:stop -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink:stop switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-before-symlink:die -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink:die | processes:undo confirm:undo
    restart:undo rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo
    rollback-after-symlink rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-after-symlink:fail -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink:fail
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-after-symlink:stop -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink:stop
    rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-after-symlink:die -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink:die |
    processes:undo confirm:undo restart:undo rollback-before-setup rollback-after-setup rollback-before-symlink
    switch:undo rollback-after-symlink rollback-before-cleanup rollback-after-cleanup => failed, old
confirm:fail rollback-before-cleanup:fail -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup:fail rollback-after-cleanup => failed, old
confirm:fail rollback-before-cleanup:stop -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup:stop rollback-after-cleanup => failed, old
confirm:fail rollback-before-cleanup:die -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup:die | processes:undo confirm:undo restart:undo rollback-before-setup
    rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink rollback-before-cleanup
    rollback-after-cleanup => failed, old
confirm:fail rollback-after-cleanup:fail -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup:fail => failed, old
confirm:fail rollback-after-cleanup:stop -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup:stop => failed, old
confirm:fail rollback-after-cleanup:die -> ... confirm:fail processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup:die | processes:undo confirm:undo restart:undo
    rollback-before-setup rollback-after-setup rollback-before-symlink switch:undo rollback-after-symlink
    rollback-before-cleanup rollback-after-cleanup => failed, old
"""
"""Each hook of an automatic return: a failure is passed over."""

HOWS = ("fail", "stop", "die")


def lines(table: str) -> list[str]:
    """The lines of a table; those that begin with a space go on with the one before."""
    return table.strip().replace("\n    ", " ").splitlines()


def whole(line: str, table: str) -> str:
    """A line without `...`, which is filled from the first line of the table that has no cut."""
    before, dots, after = line.partition(" ... ")
    if not dots:
        return line
    uncut = lines(table)[0].removeprefix("-> ").split()
    cut = after.split()[0].partition(":")[0]
    return f"{before} {' '.join(uncut[: uncut.index(cut)])} {after}"


async def check(kind: Kind, line: str, folder: Path, *, table: str, hooks: bool = False) -> None:
    cuts = line.partition("->")[0].split()
    assert (await trace(kind, cuts, folder, hooks=hooks)).strip() == whole(line, table)


@pytest.mark.parametrize("line", lines(DEPLOY))
async def test_a_deploy_is_carried_out_and_taken_back_in_this_order(line: str, tmp_path: Path):
    await check(Kind.DEPLOY, line, tmp_path, table=DEPLOY)


@pytest.mark.parametrize("line", lines(ROLLBACK))
async def test_a_rollback_is_carried_out_and_taken_back_in_this_order(line: str, tmp_path: Path):
    await check(Kind.ROLLBACK, line, tmp_path, table=ROLLBACK)


@pytest.mark.parametrize("line", [*lines(RETURN), *lines(DISCARD)])
async def test_what_is_being_taken_back_is_taken_back_to_its_end_unless_an_undo_fails(line: str, tmp_path: Path):
    await check(Kind.DEPLOY, line, tmp_path, table=DEPLOY)


@pytest.mark.parametrize("line", lines(HALT))
async def test_what_fails_because_the_host_is_going_down_is_ended_after_its_next_start(line: str, tmp_path: Path):
    await check(Kind.DEPLOY, line, tmp_path, table=DEPLOY)


@pytest.mark.parametrize("line", lines(HOOKS_OF_A_DEPLOY))
async def test_the_hooks_of_a_deploy_run_in_this_order(line: str, tmp_path: Path):
    await check(Kind.DEPLOY, line, tmp_path, table=HOOKS_OF_A_DEPLOY, hooks=True)


@pytest.mark.parametrize("line", lines(HOOKS_OF_A_ROLLBACK))
async def test_the_hooks_of_a_rollback_run_in_this_order(line: str, tmp_path: Path):
    await check(Kind.ROLLBACK, line, tmp_path, table=HOOKS_OF_A_ROLLBACK, hooks=True)


@pytest.mark.parametrize("line", lines(HOOKS_OF_A_RETURN))
async def test_no_hook_of_an_automatic_return_can_stop_it(line: str, tmp_path: Path):
    await check(Kind.DEPLOY, line, tmp_path, table=HOOKS_OF_A_DEPLOY, hooks=True)


def test_the_tables_cut_every_step_and_hook_in_each_way():
    for kind, tables in (
        (Kind.DEPLOY, DEPLOY + HOOKS_OF_A_DEPLOY),
        (Kind.ROLLBACK, ROLLBACK + HOOKS_OF_A_ROLLBACK),
    ):
        cuts = {line.partition(" -> ")[0] for line in lines(tables)}
        names = [item.name if isinstance(item, Hook) else item.value for item in PLANS[kind]]
        assert {f"{name}:{how}" for name in names for how in HOWS} <= cuts
    cuts = {line.partition(" -> ")[0].partition(" ")[2] for line in lines(RETURN + DISCARD + HOOKS_OF_A_RETURN)}
    undone = {item.value for item in PLANS[Kind.DEPLOY] if isinstance(item, Step)} - {Step.CLEANUP}
    names = [*(f"{name}:undo" for name in undone), *(hook.name for hook in (*RETURN_BEFORE, *RETURN_AFTER))]
    assert {f"{name}:{how}" for name in names for how in HOWS} <= cuts
