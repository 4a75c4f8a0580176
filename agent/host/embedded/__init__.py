"""The service adapter in which the agent is the parent of the app."""
