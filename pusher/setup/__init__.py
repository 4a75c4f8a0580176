"""Setting up a server, and finding out what keeps one from working: over ssh and sudo, not through the agent."""
