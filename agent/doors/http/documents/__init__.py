"""The JSON documents that the door sends, as models: what each member is, for clients and for the reference.

Invariant: the models describe what the parts behind the door make; a test compares them with the answers of a
running agent, member by member. Only the description of the door imports them: no answer is made from them, so
they cost nothing until somebody asks for `/openapi.json`.
"""
