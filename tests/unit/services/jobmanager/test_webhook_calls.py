"""Calls to endpoints: only to the address that was checked, bounded in time and size, without redirects."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import httpcore
import pytest

from deploy import certificates
from services.jobmanager.webhooks.calls import Caller, open_caller
from services.jobmanager.webhooks.look_up import OWNER, SystemResolver, UnknownHost
from services.jobmanager.webhooks.network import ANSWER_BYTES, ShortAnswers
from shared.errors import BadInput, ConfigError
from shared.webhooks import check_url, is_allowed, parse_networks
from tests.receiver import OK, Receiver, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from services.jobmanager.webhooks.look_up import Resolver
    from shared.webhooks import Address

LOOPBACK = parse_networks("127.0.0.0/8")
FORBIDDEN = (
    "127.0.0.1", "10.1.1.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "198.18.0.1", "203.0.113.5", "224.0.0.1", "240.0.0.1", "0.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:1.1.1.1",
    "::ffff:169.254.169.254", "::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a9fe:a9fe::", "2001::1",
    "fec0::1", "3fff::1", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1",
)  # fmt: skip


class Names:
    """A name server that gives the next answer at each look-up, the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self._answers = [answer.split() for answer in answers]
        self.asked = 0

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """See Resolver."""
        del host, port
        self.asked += 1
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ip_address(each) for each in found]


class _Endless(httpcore.AsyncMockBackend):
    """A network with one server, which answers a part again and again without end."""

    def __init__(self, head: bytes, part: bytes) -> None:
        super().__init__([])
        self._head, self._part = head, part
        self.asked: list[int] = []

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return ShortAnswers(_EndlessStream(self._head, self._part, self.asked))


class _EndlessStream(httpcore.AsyncMockStream):
    def __init__(self, head: bytes, part: bytes, asked: list[int]) -> None:
        super().__init__([])
        self._head, self._parts, self._asked = head, part * 16_000, asked

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        del timeout
        self._asked.append(max_bytes)
        found, self._head = (self._head + self._parts)[:max_bytes], b""
        return found


@asynccontextmanager
async def calling(resolver: Resolver, *, ca_file: Path | None = None, timeout_s: float = 30.0) -> AsyncIterator[Caller]:
    async with open_caller(resolver, allowed=LOOPBACK, timeout_s=timeout_s, at_once=8, ca_file=ca_file) as caller:
        yield caller


async def outcome_of(
    receiver: Receiver, resolver: Resolver | None = None, *, timeout_s: float = 30.0
) -> tuple[int | None, str | None]:
    async with receiver.running(), calling(resolver or Names("127.0.0.1"), timeout_s=timeout_s) as caller:
        found = await caller.post(f"http://example.test:{receiver.port}/hook", {}, b"{}")
    return found.status, found.error


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_forbidden(address: str) -> None:
    """Also those that lead to one by IPv6, and the metadata of clouds."""
    assert not is_allowed(ip_address(address))


def test_public_addresses_and_those_of_the_setting_are_allowed() -> None:
    """Nothing else follows from the setting."""
    networks = parse_networks("10.1.0.0/16, fd00::/8")

    assert all(is_allowed(ip_address(each)) for each in ("1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"))
    assert all(is_allowed(ip_address(each), networks) for each in ("10.1.2.3", "fd00::1"))
    assert not any(is_allowed(ip_address(each), networks) for each in ("10.2.0.1", "127.0.0.1", "fe80::1"))


@pytest.mark.parametrize(
    "url",
    ["https://example.com/hook?x=1", "https://example.com:8443/", "https://93.184.216.34/", "https://EXA_mple.3com.",
     "https://xn--bcher-kva.example", "https://[2606:4700:4700::1111]:8443/"],
)  # fmt: skip
def test_a_plain_url_is_accepted(url: str) -> None:
    check_url(url, allow_http=False)


@pytest.mark.parametrize(
    "url",
    ["", "https://", "https:///x", "//example.com", "http://example.com", "file:///etc/passwd", "https://a@example.com",
     "https://a:b@example.com", "https://example.com:25", "https://example.com:0", "https://example.com:65536",
     "https://example.com:x", "https://exam ple.com", "https://example.com\r\nX: y", "https://example.com#x",
     "https://example.com\\@127.0.0.1", "https://bücher.example", "https://127.0.0.1", "https://[::1]",
     "https://[fe80::1%25eth0]", "https://[::", "https://2130706433", "https://0177.0.0.1", "https://127.1",
     "https://0x7f000001", "https://example.0x1", "https://%31%32%37.0.0.1", "https://a..b", "https://a;b", "https://1.2.3.4.5",
     "https://" + "a" * 64, "https://" + "a." * 127, "https://[::1].example.com", "https://example.com/" + "x" * 2048],
)  # fmt: skip
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(BadInput):
        check_url(url, allow_http=False)


async def test_a_call_has_one_look_up_whatever_the_second_would_be() -> None:
    """DNS rebinding: the address that was checked is the one that is connected to."""
    receiver, names = Receiver(), Names("127.0.0.1", "169.254.169.254")

    assert await outcome_of(receiver, names) == (204, None)
    assert (names.asked, len(receiver.received)) == (1, 1)
    assert receiver.received[0].headers["host"] == f"example.test:{receiver.port}"


@pytest.mark.parametrize(
    "answer", ["169.254.169.254", "127.0.0.1 169.254.169.254", "127.0.0.1 ::1", "::ffff:127.0.0.1"]
)
async def test_a_name_with_a_forbidden_address_is_not_connected_to(answer: str) -> None:
    """One such address is enough, wherever it stands in the answer."""
    receiver = Receiver()

    assert await outcome_of(receiver, Names(answer)) == (None, "The host leads to an address that is not allowed.")
    assert receiver.connections == 0


async def test_a_new_connection_is_checked_anew() -> None:
    """A name that led to an allowed address for the first call may lead elsewhere for the second."""
    receiver = Receiver(answer=lambda _: status(204, "Connection: close"))
    async with receiver.running(), calling(Names("127.0.0.1", "169.254.169.254")) as caller:
        found = [await caller.post(f"http://example.test:{receiver.port}/", {}, b"{}") for _ in range(2)]

    assert [each.status for each in found] == [204, None]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "localhost", "127.1"])
async def test_other_spellings_of_loopback_are_forbidden(host: str) -> None:
    """The operating system reads them as 127.0.0.1."""
    resolver = SystemResolver()
    try:
        async with open_caller(resolver, allowed=(), timeout_s=30, at_once=8, ca_file=None) as caller:
            found = await caller.post(f"http://{host}:8080/", {}, b"{}")
    finally:
        resolver.close()

    assert found.error in {"The host leads to an address that is not allowed.", "The host has no address."}


async def test_a_slow_name_server_delays_no_other_host() -> None:
    """All look-ups of one host are one, and an owner has a few at once; the next ones wait for them."""
    answered = threading.Event()
    asked: list[str] = []

    def look_up(host: str, port: int, *, type: int) -> list[Any]:  # noqa: A002 (as getaddrinfo)
        asked.append(host)
        assert not host.startswith("slow") or answered.wait(30)
        return [(socket.AF_INET, type, 6, "", ("127.0.0.1", port))]

    async def resolve(owner: str, host: str) -> Sequence[Address]:
        OWNER.set(owner)
        return await resolver.resolve(host, 80)

    resolver = SystemResolver(look_up)
    try:
        async with asyncio.TaskGroup() as group:
            slow = [group.create_task(resolve("ann", "slow-1")) for _ in range(9)]
            quick = await group.create_task(resolve("ann", "quick"))
            slow += [group.create_task(resolve("ann", f"slow-{number}")) for number in range(2, 9)]
            other = await group.create_task(resolve("bob", "quick"))
            asked_at_once = list(asked)
            answered.set()
    finally:
        answered.set()
        resolver.close()

    assert sorted(asked_at_once) == ["quick", "quick", "slow-1", "slow-2", "slow-3", "slow-4"]
    assert {str(address) for found in (quick, other, *(each.result() for each in slow)) for address in found} == {
        "127.0.0.1"
    }
    assert sorted(asked[6:]) == ["slow-5", "slow-6", "slow-7", "slow-8"]


async def test_a_call_that_is_given_up_keeps_the_look_up_of_others() -> None:
    """Its own timeout is over, not theirs; a look-up that fails is no address for all of them."""
    answered = threading.Event()

    def look_up(*_: object, **__: object) -> list[Any]:
        assert answered.wait(30)
        raise socket.gaierror

    resolver = SystemResolver(look_up)
    try:
        other = asyncio.create_task(resolver.resolve("example.test", 80))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await resolver.resolve("example.test", 80)
        answered.set()
        with pytest.raises(UnknownHost):
            await other
    finally:
        answered.set()
        resolver.close()


async def test_a_redirect_is_a_failure() -> None:
    """Its target is not called."""
    receiver = Receiver(answer=lambda _: status(302, "Location: /elsewhere"))

    assert await outcome_of(receiver) == (302, "The endpoint answered 302; redirects are not followed.")
    assert [each.path for each in receiver.received] == ["/hook"]


async def test_an_endpoint_that_hangs_is_given_up() -> None:
    """After the timeout."""
    found = await outcome_of(Receiver(answer=lambda _: b""), timeout_s=0.1)

    assert found == (None, "There was no answer within 0.1 s.")


async def test_the_status_counts_even_if_the_answer_never_ends() -> None:
    """A long answer is not read to its end either."""
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n"
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 100_000

    assert await outcome_of(Receiver(answer=lambda _: endless)) == (200, None)
    assert await outcome_of(Receiver(answer=lambda _: long)) == (200, None)


@pytest.mark.parametrize(
    ("head", "part", "status"),
    [
        (b"", b"HTTP/1.1 103 Early\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n", b"a:\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 200),
    ],
)
async def test_little_of_an_answer_without_end_is_read(head: bytes, part: bytes, status: int | None) -> None:
    """Else thousands of tiny parts would be parsed in one go, and the whole process would wait."""
    network = _Endless(head, part)
    async with httpcore.AsyncConnectionPool(network_backend=network) as pool:
        found = await Caller(pool, 30.0).post("http://example.test/", {}, b"{}")

    assert (found.status, found.error is None) == (status, status == 200)
    assert max(network.asked) <= 4096
    assert sum(network.asked) <= ANSWER_BYTES + 4096


async def test_each_call_may_have_an_answer() -> None:
    """A connection that is used for hours has the limit for each of them."""
    receiver = Receiver(answer=lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
    async with receiver.running(), calling(Names("127.0.0.1")) as caller:
        found = [await caller.post(f"http://example.test:{receiver.port}/", {}, b"{}") for _ in range(4)]

    assert ([each.status for each in found], receiver.connections) == ([200] * 4, 1)


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, b"HTTP/1.1 103 Early\r\n\r\n" * 20_000]
)
async def test_nonsense_is_a_failure(answer: bytes) -> None:
    """Also headers without an end, and informational answers without one."""
    found = await outcome_of(Receiver(answer=lambda _: answer), timeout_s=2.0)

    assert found[1] is not None


async def test_a_refused_connection_is_a_failure() -> None:
    """The sentence names no address."""
    async with calling(Names("127.0.0.1")) as caller:
        found = await caller.post(f"http://example.test:{Receiver().port}/", {}, b"{}")

    assert (found.status, found.error) == (None, "The connection failed.")


async def test_retry_after_is_read() -> None:
    """Up to an hour."""
    receiver = Receiver(answer=lambda request: status(503, f"Retry-After: {request.headers['x-ask']}"))
    async with receiver.running(), calling(Names("127.0.0.1")) as caller:
        url = f"http://example.test:{receiver.port}/"
        found = [(await caller.post(url, {"X-Ask": value}, b"")).retry_after_s for value in ("7", "999999", "soon")]

    assert found == [7.0, 3600.0, 0.0]


async def test_the_certificate_is_that_of_the_name(tmp_path: Path) -> None:
    """The connection goes to the address that was checked; the name of the URL decides over the certificate."""
    authority_key, key = certificates.new_key(), certificates.new_key()
    authority = certificates.authority(authority_key)
    files = {"ca": authority, "key": key, "crt": certificates.server(key, ("example.test",), authority, authority_key)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    receiver = Receiver(tls=context, answer=lambda _: OK)
    async with receiver.running(), calling(Names("127.0.0.1"), ca_file=tmp_path / "ca") as caller:
        good = await caller.post(f"https://example.test:{receiver.port}/", {}, b"{}")
        other = await caller.post(f"https://other.test:{receiver.port}/", {}, b"{}")
    async with receiver.running(), calling(Names("127.0.0.1")) as caller:
        unknown = await caller.post(f"https://example.test:{receiver.port}/", {}, b"{}")

    assert (good.status, asked[0]) == (204, "example.test")
    assert other.error == unknown.error == "The certificate is not valid, or the endpoint does not speak TLS."


async def test_a_file_without_certificates_is_a_wrong_setting(tmp_path: Path) -> None:
    """The process ends with a sentence."""
    (tmp_path / "ca").write_text("no certificate")

    with pytest.raises(ConfigError, match="JOBMANAGER_WEBHOOKS_CA_FILE"):
        async with calling(Names("127.0.0.1"), ca_file=tmp_path / "ca"):
            pass
