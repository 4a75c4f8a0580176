"""The drop directory: what rsync writes there is deployed."""
