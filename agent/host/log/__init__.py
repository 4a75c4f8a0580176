"""The agent's own log, and what it tells systemd."""
