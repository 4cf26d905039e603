"""Who asks: an owner, by which of their keys, and what that key may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class KeyScope(StrEnum):
    """What a key may be used for; none includes another."""

    READ = "read"
    """Follow jobs, fetch pictures."""
    WRITE = "write"
    """Upload, mark, order edits and cancel them."""
    ADMIN = "admin"
    """What an operator asks: how the system is, in detail."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of what a request makes, and the only one who may read it again."""

    owner: str
    key_id: str
    scopes: frozenset[KeyScope]

    def may(self, scope: KeyScope) -> bool:
        """Whether the key is good for this."""
        return scope in self.scopes


LOCAL = Principal("local", "", frozenset(KeyScope))
"""Everybody, where there is no access control."""
ANONYMOUS = Principal("", "", frozenset())
"""Somebody without a key, at an address that is open to all."""
