"""The way to a host: addresses, connections, HTTP, rsync."""
