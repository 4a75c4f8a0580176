"""What root types on a server: set up, check, add and remove apps."""
