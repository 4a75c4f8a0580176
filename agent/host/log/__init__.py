"""The agent's own log, and its notifications to systemd."""
