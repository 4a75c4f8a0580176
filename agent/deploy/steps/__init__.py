"""The steps of a deployment: each does one thing, and knows how to take it back.

Invariant: `do` runs once and may stop anywhere. `undo` may run after any part of `do`, after none of it, and again
after itself. Nothing live changes before `Switch`.
"""
