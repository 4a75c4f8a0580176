"""The service adapter for systemd units."""
