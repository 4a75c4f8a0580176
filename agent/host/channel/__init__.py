"""Repositories as a subscribed host sees them: read, never trusted."""
