"""What real repositories, configurations and mistakes bring: one file a kind.

The docstring of a test says what its user expected. The input is the small one that disappointed somebody.
"""
