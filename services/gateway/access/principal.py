"""The principal of a request: an owner, the id of one of the owner's keys, and the scopes of that key."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class KeyScope(StrEnum):
    """A permission of a key. No scope includes another."""

    READ = "read"
    """Follow jobs, fetch images."""
    WRITE = "write"
    """Upload images, make masks, submit and cancel jobs."""
    ADMIN = "admin"
    """Read the details of the system's health."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated side of a request. Jobs and images of the request belong to its owner alone."""

    owner: str
    key_id: str
    scopes: frozenset[KeyScope]
    signed: bool = False
    """Whether the request came by a signed URL, which others may hold."""

    def may(self, scope: KeyScope) -> bool:
        """Return whether the key has this scope."""
        return scope in self.scopes


LOCAL = Principal("local", "", frozenset(KeyScope))
"""The principal of every request to an open gateway."""
ANONYMOUS = Principal("", "", frozenset())
"""The principal of a request without a key, at an address that needs none."""
