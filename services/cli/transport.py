"""The parts of both clients: the address, the key, time limits, and the parsing of event streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from .errors import WrongArguments
from .models import Event

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

DEFAULT_URL = "http://localhost:8080"
# Masks and extractions answer when they are done; an event stream sends a comment at least every 15 seconds.
TIMEOUT = httpx.Timeout(130.0, connect=10.0)
NO_MORE_EVENTS = 204
STREAM_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


def http_options(url: str, key: str | None) -> dict[str, Any]:
    """Return the options of an httpx client for this server. Raises WrongArguments."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise WrongArguments(f"The address {url!r} must be that of the server, such as {DEFAULT_URL}.")
    if key and not (key.isascii() and key.isprintable()):
        raise WrongArguments("The API key must consist of printable ASCII characters, without line breaks.")
    headers = {"User-Agent": "artmancer-python", **({"Authorization": f"Bearer {key}"} if key else {})}
    # Accept an address with /v1 at its end, because OpenAI's clients use this form.
    return {"base_url": url.rstrip("/").removesuffix("/v1"), "headers": headers, "timeout": TIMEOUT}


def resume_headers(after: int) -> dict[str, str]:
    """Return the headers that continue an event stream after an event."""
    return {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}


def event_of(sent: ServerSentEvent) -> Event | None:
    """Return an event of the stream; None for any other content."""
    if not sent.id.isdigit() or not sent.data:
        return None
    return Event(id=int(sent.id), name=sent.event, data=json.loads(sent.data))
