"""How much of the door one user can occupy, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """The limits of one door; times in seconds."""

    connections_each: int = 64
    """Open connections of one user."""
    connections_others: int = 256
    """Open connections of all who are not operators. Never more than a quarter of the descriptors."""
    rate_each: float = 50.0
    """Connections that one user who is no operator may open in a second."""
    burst_each: int = 100
    """And how many of them at once."""
    lookups: int = 32
    """Connections whose callers are being identified at a time."""
    withheld_s: int = 15
    """How long the kernel keeps a connection to itself that brings nothing; 0 hands it over at once."""
    idle_s: float = 15.0
    """How long a connection may take, from then on, to bring a request."""
    silence_s: float = 15.0
    """A stream of events brings an empty line this often."""
    unread_s: float = 60.0
    """How long the reader of a stream may leave it unread."""
    drain_s: float = 5.0
    """How long responses may take to end when the door stops."""
    accept_retry_s: float = 0.5
    """The pause after no connection could be accepted."""
