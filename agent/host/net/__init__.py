"""Sockets: listening, who holds one, who is at the other end."""
