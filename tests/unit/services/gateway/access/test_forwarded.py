"""The sub-path that a proxy states, from trusted proxies only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.access.forwarded import ForwardedMiddleware, own_path, public_path

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PROXY, STRANGER = ("10.0.0.7", 4321), ("192.0.2.1", 4321)
PATH = "/v1/jobs/a"


async def address_of(*prefixes: str, client: tuple[str, int] | None = PROXY, trusted: str = "10.0.0.0/8") -> str:
    """Return the address of PATH in a request with these X-Forwarded-Prefix headers."""
    seen: list[str] = []

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        seen.append(public_path(PATH))

    headers = [(b"x-forwarded-prefix", prefix.encode("latin-1")) for prefix in prefixes]
    scope: Any = {"type": "http", "client": client, "scheme": "http", "headers": headers}
    never: Any = None
    await asyncio.create_task(ForwardedMiddleware(app, trusted)(scope, never, never), name="request")
    return seen[0]


@pytest.mark.parametrize("prefix", ["/art", "/art/", "/a/b-c/d_e~f", "/v1.2"])
async def test_a_trusted_proxy_moves_the_addresses(prefix: str) -> None:
    """With or without the last slash."""
    assert await address_of(prefix) == prefix.rstrip("/") + PATH


@pytest.mark.parametrize(
    "wrong",
    ["//evil.example", "/art//b", "https://evil.example", "art", "/", "", "/../x", "/art/..", "/a\r\nSet-Cookie: b",
     "/a b", "/a?b", "/a#b", "/%2e", "/\\evil", "/ä", "/" + 200 * "a"],
)  # fmt: skip
async def test_a_prefix_that_is_no_path_counts_nothing(wrong: str) -> None:
    """It could send a client to another host, or into another header."""
    assert await address_of(wrong) == PATH


async def test_two_prefixes_count_nothing() -> None:
    """Nobody knows which proxy is the outer one."""
    assert await address_of("/art", "/b") == PATH


@pytest.mark.parametrize(("client", "trusted"), [(STRANGER, "10.0.0.0/8"), (None, "10.0.0.0/8"), (PROXY, "")])
async def test_nobody_else_moves_them(client: tuple[str, int] | None, trusted: str) -> None:
    """A stranger could make the answers of others, which a cache keeps, lead elsewhere."""
    assert await address_of("/art", client=client, trusted=trusted) == PATH


async def test_the_next_request_begins_anew() -> None:
    """The prefix belongs to one request."""
    assert [await address_of("/art"), await address_of()] == ["/art" + PATH, PATH]


def test_without_a_proxy_a_path_is_its_address() -> None:
    """In both directions."""
    assert (public_path(PATH), own_path(PATH)) == (PATH, PATH)
