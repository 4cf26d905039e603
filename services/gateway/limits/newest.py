"""Runs only the newest work of each owner: new work replaces the work before it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from shared.lifecycle import race

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class NewestOnly:
    """Runs the newest work of each owner, in this gateway alone. Use it if new work makes older work useless."""

    def __init__(self) -> None:
        self._newest: dict[str, asyncio.Event] = {}

    async def run(self, owner: str, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of the work, or None as soon as the owner brings newer work. Raises the work's errors."""
        replaced = asyncio.Event()
        if older := self._newest.get(owner):
            older.set()
        self._newest[owner] = replaced
        try:
            working, _ = await race(work, replaced.wait())
            return None if working.cancelled() else working.result()
        finally:
            if self._newest.get(owner) is replaced:
                del self._newest[owner]
