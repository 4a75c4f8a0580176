"""What a command was told to pack: found by its arguments and settings, and read."""

import argparse
from typing import TYPE_CHECKING, NamedTuple

from pusher.bundle.source import BundleFile, Folder, locate
from pusher.config import Settings
from pusher.errors import Usage

if TYPE_CHECKING:
    from pusher.bundle.tree import Tree
    from pusher.run.section import Said


def chosen(arguments: argparse.Namespace, settings: Settings, *, dirty: bool = False) -> Folder | BundleFile:
    """What the arguments of `add_what` name. `dirty`: also without that argument. Raises: Usage."""
    found = locate(
        arguments.what,
        source=settings.source,
        root=settings.root,
        named=arguments.named,
        dirty=dirty or arguments.dirty,
    )
    for option in ("build_wheels", "relock"):
        if isinstance(found, BundleFile) and getattr(arguments, option, False):
            hint = "Name that option when you pack it: pusher pack"
            raise Usage(f"--{option.replace('_', '-')} changes nothing: {found.path} is packed already", hint=hint)
    return found


class Ready(NamedTuple):
    """A folder as it travels, what people should know of that, a line each, how it says that it runs, and the
    Pythons that it admits."""

    tree: "Tree"
    notes: tuple[str, ...]
    said: "Said"
    requires_python: str


def prepared(found: Folder, settings: Settings, *, anew: bool = False) -> Ready:
    """A folder, read to be packed. `anew`: ask the index again. Raises: Usage."""
    # Imported here: half of a start's time, and a bundle file needs none of it.
    from pusher.dependencies.prepare import prepare
    from pusher.run.section import run_section

    tracked = found.checkout.tracked if found.checkout else None
    ready = prepare(found.path, wanted=settings.dependencies, anew=anew, tracked=tracked)
    said = run_section(found.path, settings.run, packages=ready.packages)
    notes = (*ready.notes, *found.remarks(ready.tree), said.note)
    return Ready(ready.tree, notes, said, ready.requires_python)
