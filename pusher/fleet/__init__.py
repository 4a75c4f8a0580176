"""Several hosts at once: order, progress, and what happens when one fails."""
