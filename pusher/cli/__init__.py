"""The command line: its words, and where problems become exit codes."""
