"""Messages, the bus, settings and the life of a process, shared by all services. Decision 0001 lists the modules."""

VERSION = "0.2.0"
"""The version of this release; `tests/unit/test_version.py` compares all other places with it."""
