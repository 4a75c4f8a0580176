"""The connection to a host: addresses, streams, HTTP, rsync."""
