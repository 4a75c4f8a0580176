"""The page for several hosts: a server on loopback of this machine, for the person who began it and nobody else.

Invariant: it can do what its table of routes names, and reaches hosts only as every other command does. Nothing is
answered before the request was judged. docs/adr/0031-a-page.md says why it is made like this.
"""
