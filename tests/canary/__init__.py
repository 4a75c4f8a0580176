"""Each defence of docs/security.md, switched off in a copy of the source: does its test notice?"""
