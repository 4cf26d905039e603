"""The errors of a service that the broker refuses, and the rotation of the key of a running service."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from prometheus_client import REGISTRY

from deploy import credentials
from deploy.permissions import DUTIES
from services.jobmanager import service as jobmanager
from services.jobmanager.settings import Settings
from services.stack.nats_server import NatsServer
from shared import declaring, rpc, subjects
from shared.bus import open_bus
from shared.errors import ConfigError
from shared.messages import HealthReply, HealthRequest
from shared.settings import NatsSettings, StreamSettings
from shared.topology import JOB_EV
from tests.deploy.cause import shorten_certificate
from tests.keys import Keys, connect, run_locked
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.keys import Node

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def node(keys: Keys, tmp_path: Path) -> AsyncIterator[Node]:
    """Start a locked broker."""
    async with run_locked(keys, tmp_path / "store") as node:
        yield node


async def last_words(service: str, variables: dict[str, str]) -> tuple[int | None, str]:
    """Start a service, wait for its end, and return exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{service}"),
        cwd=ROOT,
        env={**os.environ, "LOG_LEVEL": "ERROR", "GATEWAY_PORT": "0", **variables},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()


@pytest.mark.parametrize("service", sorted(set(DUTIES) - {"webhooks"}))  # which is a part of the job manager
async def test_a_missing_secret_is_named(service: str, keys: Keys, tmp_path: Path) -> None:
    """The output has the setting, the file and the reason, no traceback, and the exit code of a wrong setting."""
    missing = tmp_path / "missing.nk"
    code, said = await last_words(
        service, {**keys.variables("tls://127.0.0.1:9", service), "NATS_NKEY_FILE": str(missing)}
    )

    assert code == 78
    assert said == f"{service}: NATS_NKEY_FILE: cannot read {missing}: No such file or directory.\n"


async def refusal(settings: NatsSettings) -> str:
    """Try to connect; returns why that will never be."""
    with pytest.raises(ConfigError) as refused:
        async with open_bus(settings, "imageutils"):
            pass
    return refused.value.message


async def test_whoever_does_not_belong_is_told_why(keys: Keys, node: Node, tmp_path: Path) -> None:
    """A sentence for each way of being wrong, at start."""
    garbage, another = tmp_path / "garbage", Keys.made(tmp_path / "another").folder
    garbage.write_bytes(b"\xff\x00 no key")
    right, stranger = keys.settings(node.url, "imageutils"), another / "imageutils/nats.nk"
    wrong: dict[str, dict[str, Any]] = {
        f"NATS_NKEY_FILE: {garbage} does not contain a seed (SU...).": {"nkey_file": garbage},
        f"NATS_CA_FILE: {garbage} does not contain a certificate.": {"ca_file": garbage},
        f"NATS_CA_FILE: cannot read {tmp_path}/no: No such file or directory.": {
            "ca_file": tmp_path / "no"
        },
        f"NATS_NKEY_FILE: cannot read {tmp_path}: Is a directory.": {"nkey_file": tmp_path},
        f"The broker does not accept the key in {stranger} (NATS_NKEY_FILE).": {"nkey_file": stranger},
        "The broker's certificate is not trusted: unable to get local issuer certificate; "
        f"NATS_CA_FILE is {another}/ca.crt.": {"ca_file": another / "ca.crt"},
        "The broker requires a key; set NATS_NKEY_FILE.": {"nkey_file": None},
        "The broker does not accept the user and password (NATS_USER and NATS_PASSWORD, or in NATS_URL).": {
            "nkey_file": None, "user": "imageutils", "password": "hunter2"
        },
    }  # fmt: skip
    told = [await refusal(right.model_copy(update=changed)) for changed in wrong.values()]

    assert told == list(wrong)


async def test_an_expired_certificate_is_renewed_by_the_same_command(tmp_path: Path) -> None:
    """The sentence names the command; after it and a SIGHUP a service connects, without a restart of the broker."""
    keys = Keys.made(tmp_path / "keys")
    shorten_certificate(keys, timedelta(minutes=-1))
    async with run_locked(keys, tmp_path / "store") as node:
        told = await refusal(keys.settings(node.url, "imageutils"))
        credentials.make(keys.folder)
        node.reload()

        async def connects() -> bool:
            try:
                async with connect(keys, node, "imageutils"):
                    return True
            except ConfigError:
                return False

        await wait_until(connects, "the broker has its new certificate")

    assert told == (
        "The broker's certificate has expired; run `make credentials` or `make secrets` again, then send the broker "
        "a SIGHUP."
    )


async def test_the_end_of_the_brokers_certificate_is_a_metric(keys: Keys, node: Node) -> None:
    """The alert warns before the services can connect no more."""
    certificate = x509.load_pem_x509_certificate((keys.folder / "nats/server.crt").read_bytes())

    async with open_bus(keys.settings(node.url, "imageutils"), "imageutils"):
        ends = REGISTRY.get_sample_value("artmancer_broker_certificate_ends_timestamp_seconds")

    assert ends == certificate.not_valid_after_utc.timestamp()


async def test_a_connection_to_a_silent_broker_is_closed(keys: Keys, node: Node) -> None:
    """The broker ends no TLS connection while it stands still, and asyncio would wait for that for 30 s."""
    assert node.pid is not None
    try:
        async with open_bus(keys.settings(node.url, "imageutils"), "imageutils") as bus:
            plain = bus.client._transport._bare_io_writer.transport  # type: ignore[union-attr]  # noqa: SLF001
            os.kill(node.pid, signal.SIGSTOP)

        await wait_until(lambda: plain.get_extra_info("socket").fileno() == -1, "the socket is closed", timeout_s=25)
    finally:
        os.kill(node.pid, signal.SIGCONT)


async def test_whoever_forgets_tls_is_told_why_nothing_is_heard(
    keys: Keys, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker waits for a handshake and the service for a greeting, so neither sends anything."""
    plain = keys.settings(node.url.replace("tls://", "nats://"), "imageutils").model_copy(update={"ca_file": None})
    async with open_bus(plain, "imageutils", wait=False):
        await wait_until(
            lambda: any("if it requires TLS" in vars(record).get("reason", "") for record in caplog.records),
            "it is told",
        )


async def test_a_manager_that_may_not_declare_waits_until_it_may(
    keys: Keys, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """It logs that once and does not crash: a broker in an election, or one that hangs, looks the same."""
    settings = Settings(nats=keys.settings(node.url, "imageutils"))
    manager = asyncio.create_task(jobmanager.run(settings, asyncio.Event()), name="manager")
    try:
        await wait_until(
            lambda: "jobmanager.not-declared" in caplog.messages or manager.done(), "it has tried", timeout_s=30
        )
        assert not manager.done()
    finally:
        manager.cancel()
        await asyncio.wait({manager})


async def test_a_broker_that_speaks_no_tls_gets_no_key(keys: Keys, tmp_path: Path) -> None:
    """An attacker between service and broker cannot switch TLS off."""
    async with NatsServer(tmp_path / "plain") as server:
        code, said = await last_words("gateway", keys.variables(server.url, "gateway"))

    assert code == 78
    assert said == f"gateway: The broker at NATS_URL does not use TLS; NATS_CA_FILE is {keys.folder}/ca.crt.\n"


async def test_a_rotated_key_is_picked_up_by_a_running_service(keys: Keys, node: Node) -> None:
    """The broker drops the old key first; the service reads its file again and reconnects."""
    async with (
        open_bus(keys.settings(node.url, "jobmanager"), "jobmanager") as bus,
        open_bus(keys.settings(node.url, "gateway"), "gateway") as gateway,
    ):
        await declaring.declare_streams(bus, StreamSettings(picture_bytes=1024**3))
        old = (keys.folder / "gateway/nats.nk").read_text()
        credentials.make(keys.folder, rotate=frozenset({"gateway"}))
        new = (keys.folder / "gateway/nats.nk").read_text()
        (keys.folder / "gateway/nats.nk").write_text(old)  # a secret that arrives later than the broker's users
        node.reload()
        await wait_until(lambda: not gateway.up.is_set(), "the old key is out")
        (keys.folder / "gateway/nats.nk").write_text(new)
        await wait_until(gateway.up.is_set, "the new key is in")
        seq = await gateway.publish(subjects.end("j1"), b"{}")
        stored = await gateway.get(JOB_EV, seq)

    assert old != new
    assert stored is not None
    assert bus.client.stats["reconnects"] == 0


async def test_the_folder_is_made_once_and_kept(tmp_path: Path) -> None:
    """Keys are for their owner's eyes, survive a second run, and are replaced one by one, when asked for by name."""
    folder = tmp_path / "keys"
    first = credentials.make(folder)
    private = {path: path.read_bytes() for path in first if path.suffix in {".nk", ".key"}}

    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert credentials.make(folder) == []
    assert {path.name for path in credentials.make(folder, hosts=("nats.example",))} == {"server.crt"}
    assert {path.relative_to(folder).as_posix() for path in credentials.make(folder, hosts=("nats.example",), rotate=frozenset({"gateway"}))} == {"gateway/nats.nk", "nats/users.conf"}  # fmt: skip  # noqa: E501
    changed = [path for path, content in private.items() if path.read_bytes() != content]
    assert [path.parent.name for path in changed] == ["gateway"]


async def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """One sentence, and nothing overwritten."""
    (tmp_path / "ca.crt").write_text("not ours")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.credentials", str(tmp_path)), cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()

    assert process.returncode == 78
    assert said.decode() == (
        f"{tmp_path} holds a file that is not a key or certificate from this program; move the folder away.\n"
    )
    assert (tmp_path / "ca.crt").read_text() == "not ours"


async def test_the_replies_of_all_instances_pass(node: Node, keys: Keys) -> None:
    """The gateway and operators get all replies from the instances' own account."""
    subject = subjects.health("imageutils")

    def endpoint(name: str) -> rpc.Endpoint[HealthRequest]:
        reply = HealthReply(service="imageutils", instance=name, status="healthy")

        async def report(_: HealthRequest) -> HealthReply:
            return reply

        return rpc.Endpoint(subject, HealthRequest, report, everywhere=True)

    async with (
        connect(keys, node, "imageutils") as first,
        connect(keys, node, "imageutils") as second,
        rpc.serve(first, "imageutils", [endpoint("i1")]),
        rpc.serve(second, "imageutils", [endpoint("i2")]),
    ):
        for user in ("gateway", "operator"):
            async with connect(keys, node, user) as bus:
                replies = await rpc.call_all(bus, subject, HealthRequest(), HealthReply, timeout_s=20, more_s=1)
                assert sorted(reply.instance for reply in replies) == ["i1", "i2"]
