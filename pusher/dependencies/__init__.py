"""The dependencies of a version, decided where it is packed: one `pylock.toml`, and wheels of its own."""
