"""`pusher`: the thin command line, and the wire contract it shares with the agent."""

__version__ = "0.2.0"
