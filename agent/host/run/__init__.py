"""Running other programs: processes, hooks, health checks, worker threads."""
