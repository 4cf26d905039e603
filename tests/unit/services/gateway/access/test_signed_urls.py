"""Signed URLs: their path, their lifetime, and everything that they must not open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from services.gateway import keys
from services.gateway.access.principal import KeyScope, Principal
from services.gateway.access.signed_urls import SKEW_S, BadSignature, Signer, is_signable, read_secrets
from shared.errors import ConfigError
from shared.webhooks import sign_address

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/v1/jobs/j1/events"
ALICE = Principal("alice", "0123456789ab", frozenset({KeyScope.READ}))
NOON = 1_772_366_400.0


def find_by_id(key_id: str) -> Principal | None:
    """Return Alice for the id of her key."""
    return ALICE if key_id == ALICE.key_id else None


class Desk:
    """A signer with a clock that the test sets."""

    def __init__(self, file: Path, lifetime_s: float = 300) -> None:
        self.now = NOON
        self.signer = Signer(file, lifetime_s, lambda: self.now)

    def query(self, path: str = PATH, lifetime_s: float | None = None) -> str:
        """Return the query of a signed URL."""
        address, _ = self.signer.sign(ALICE, path, lifetime_s)
        resource, _, query = address.partition("?")
        assert resource == path.partition("?")[0]
        return query

    def opens(self, query: str, *, method: str = "GET", path: str = PATH) -> bool:
        """Return whether the signature is valid."""
        try:
            return self.signer.check(method, path, query, find_by_id) == replace(ALICE, signed=True)
        except BadSignature:
            return False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with a secret of the command."""
    keys.main(["signing-key", str(tmp_path / "secret")])
    return tmp_path / "secret"


@pytest.fixture
def desk(file: Path) -> Desk:
    """Return a signer with a lifetime of five minutes."""
    return Desk(file)


def test_a_signed_address_opens_its_path(desk: Desk) -> None:
    """Also with a longer query: an EventSource that resumes adds its position."""
    query = desk.query()

    assert desk.opens(query)
    assert desk.opens(f"{query}&last_event_id=41")


RESULT, IMAGE = "/v1/jobs/j1/result", f"/v1/images/{'0' * 64}"


@pytest.mark.parametrize("resource", [RESULT, IMAGE])
def test_a_rendition_is_part_of_what_is_signed(desk: Desk, resource: str) -> None:
    """Neither another format, quality or place in the metadata, nor one where none was signed; the order is free."""
    plain, chosen = desk.query(resource), desk.query(f"{resource}?quality=80&format=jpeg&gps=keep")

    assert desk.opens(chosen, path=resource)
    assert desk.opens("&".join(reversed(chosen.split("&"))), path=resource)
    for change in ("format=webp", "quality=81", "gps=drop", "format=", "%66ormat=png", "gps=keep"):
        assert not desk.opens(f"{plain}&{change}", path=resource), change
    for change in ("format=webp", "quality=81", "gps=drop", "format=", "%66ormat=png"):
        assert not desk.opens(f"{chosen}&{change}", path=resource), change
    for part in ("format=jpeg&", "quality=80&", "gps=keep&"):
        assert not desk.opens(chosen.replace(part, ""), path=resource), part


def test_parameters_of_other_addresses_are_free(desk: Desk) -> None:
    """They choose no rendition there."""
    path = "/api/generate/result-image/j1"

    assert desk.opens(f"{desk.query(path)}&format=png", path=path)


@pytest.mark.parametrize(
    "query", ["format=gif", "format=jpeg&format=png", "quality=0", "quality=101", "gps=yes", "key=1", "format=", "x"]
)
def test_a_wrong_query_is_not_signed(query: str) -> None:
    """It would open nothing."""
    assert not is_signable(f"{RESULT}?{query}")
    assert not is_signable(f"{PATH}?format=jpeg")
    assert is_signable(f"{RESULT}?format=jpeg&quality=100&gps=drop")


OTHERS = [("DELETE", PATH), ("HEAD", PATH), *(("GET", f"/v1/jobs/{rest}") for rest in ("j2/events", "j1/result", "j1"))]


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_it_opens_nothing_else(desk: Desk, method: str, path: str) -> None:
    """It is bound to method and path."""
    assert not desk.opens(desk.query(), method=method, path=path)


@pytest.mark.parametrize("field", ["key", "expires", "signature"])
def test_every_part_of_it_counts(desk: Desk, field: str) -> None:
    """A changed, empty or missing part makes it invalid."""
    parts = dict(part.split("=") for part in desk.query().split("&"))
    value = parts[field]
    changed = value[:-1] + ("0" if value[-1] != "0" else "4")
    spoilt = [{**parts, field: changed}, {**parts, field: ""}, {k: v for k, v in parts.items() if k != field}]

    assert [desk.opens("&".join(f"{k}={v}" for k, v in one.items())) for one in spoilt] == [False] * 3


def test_it_ends(desk: Desk) -> None:
    """With a minute of tolerance for the clock of the gateway that signed it."""
    query = desk.query()
    moments = [NOON + 300, NOON + 300 + SKEW_S - 1, NOON + 300 + SKEW_S]
    opened = []
    for desk.now in moments:
        opened.append(desk.opens(query))

    assert opened == [True, True, False]


def test_it_cannot_come_from_far_in_the_future(desk: Desk) -> None:
    """A clock an hour ahead must not have signed for an hour; a minute is tolerated."""
    desk.now = NOON + SKEW_S
    near = desk.query()
    desk.now = NOON + 3600
    far = desk.query()
    desk.now = NOON

    assert (desk.opens(near), desk.opens(far)) == (True, False)


def test_nobody_gets_more_time_than_the_setting_allows(desk: Desk) -> None:
    """A shorter lifetime is allowed."""
    _, long = desk.signer.sign(ALICE, PATH, 86_400)
    _, short = desk.signer.sign(ALICE, PATH, 10)

    assert (long, short) == (NOON + 300, NOON + 10)


def test_it_dies_with_its_key(desk: Desk) -> None:
    """Revoked or expired: the id has no principal."""
    with pytest.raises(BadSignature):
        desk.signer.check("GET", PATH, desk.query(), lambda _: None)


def test_it_is_bound_to_the_owner(desk: Desk) -> None:
    """If the id passes to another owner, the URL opens nothing of theirs."""
    bob = Principal("bob", ALICE.key_id, ALICE.scopes)
    with pytest.raises(BadSignature):
        desk.signer.check("GET", PATH, desk.query(), lambda _: bob)


def test_a_secret_can_be_changed_in_two_steps(file: Path) -> None:
    """First the new one above the old one: the new one signs, both verify. Then the old one goes."""
    desk = Desk(file)
    old_query, old = desk.query(), file.read_text()
    file.write_text("n" * 43 + "\n" + old)
    desk.now += 1
    both = desk.opens(old_query), desk.opens(desk.query())
    new_query = desk.query()
    file.write_text("n" * 43 + "\n")
    desk.now += 1

    assert both == (True, True)
    assert (desk.opens(old_query), desk.opens(new_query)) == (False, True)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"short", b"x" * 43 + b"\nshort"])
def test_a_weak_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    """The sentence names setting and file."""
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError) as refusal:
        read_secrets(tmp_path / "secret")

    assert refusal.value.message == (
        f"GATEWAY_SIGNING_KEY_FILE: {tmp_path}/secret needs a secret of 32 characters or more on each line."
    )


def test_a_secret_is_not_written_over(file: Path) -> None:
    """That would end all addresses at once."""
    with pytest.raises(ConfigError, match="already exists"):
        keys.main(["signing-key", str(file)])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/jobs/0f8fad5b-d9cb-469f-a165-70867728950e/result", True),
        (f"/v1/images/{'0' * 64}", True),
        ("/api/generate/stream/x", True),
        ("/api/debug/sessions/20260301_093000_00000001/images/01_input_image.png", True),
        ("/v1/jobs", False),
        ("/v1/jobs/x", False),
        ("/v1/jobs/x/receipt", False),
        ("/v1/jobs/x/events/", False),
        ("/v1/jobs/../images/events", False),
        ("/v1/jobs/x\n/events", False),
        (f"/v1/images/{'0' * 64}\n", False),
        ("/api/generate/async", False),
    ],
)
def test_only_streams_and_pictures_can_be_signed(path: str, expected: bool) -> None:  # noqa: FBT001
    """All other requests can send a key in a header."""
    assert is_signable(path) is expected


def test_a_webhook_signs_the_results_of_its_owner_alone(desk: Desk) -> None:
    """With its derived key: no other path, endpoint or rendition, and not for ever."""
    result, endpoint = "/v1/jobs/j1/result", "wh_1"
    key, expires = desk.signer.address_key(ALICE.owner, ALICE.key_id, endpoint), str(int(NOON + 300))

    def query(path: str = result, webhook: str = endpoint, more: str = "") -> str:
        signature = sign_address(key, path, expires)
        return f"key={ALICE.key_id}&webhook={webhook}&expires={expires}&signature={signature}{more}"

    assert desk.opens(query(), path=result)
    assert not desk.opens(query(), path="/v1/jobs/j2/result")
    assert not desk.opens(query("/v1/jobs/j1/events"), path="/v1/jobs/j1/events")
    assert not desk.opens(query(webhook="wh_2"), path=result)
    assert not desk.opens(query(more="&gps=keep"), path=result)
    assert not desk.opens(query(), path=result, method="DELETE")
    desk.now = NOON + 300 + SKEW_S
    assert not desk.opens(query(), path=result)
