"""Telling others how deployments end: a queue that is emptied, by HTTP and by mail."""
