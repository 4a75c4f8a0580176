"""What root sets up on a server: users, folders, rights, the polkit rule, configuration files."""
