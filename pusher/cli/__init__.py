"""The command line: its parser, running a command, shell completion."""
