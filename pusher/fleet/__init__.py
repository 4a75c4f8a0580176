"""Several hosts at once: the pool, following deployments, and what happens when one fails."""
