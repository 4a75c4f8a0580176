"""Decisions: pure functions and frozen records. No I/O, no clock, no logging."""
