"""The pure rules: what an event is, when it may be appended, what it projects to.

Nothing here does I/O, reads a clock, or knows protobuf or a database.
"""
