"""`pusher unpin`: let retention remove a pinned release again."""

from pusher.commands.command import Command
from pusher.commands.pin import add_release, set_pinned

COMMAND = Command(
    name="unpin",
    help="no longer keep a pinned release",
    description="Lets retention remove a pinned release again, when it is old enough.",
    options=add_release,
    run=lambda arguments, screen: set_pinned(arguments, screen, pinned=False),
)
