"""The HTTP door, on loopback and on a unix socket."""
