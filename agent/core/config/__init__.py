"""The configuration of the host and of its apps: TOML in, checked records out."""
