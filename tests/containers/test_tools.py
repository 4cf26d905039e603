"""The operators' container runs the recipes of docs/operations.md on a compose host, a whole restore included."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.containers.edits import PHOTO, good, order, upload, wait_for_end
from tests.containers.engine import ROOT
from tests.containers.images import NATS
from tests.containers.project import COMPOSE
from tests.operations.recipes import PAGE, recipes
from tests.waiting import SELDOM_S, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.containers.project import Project

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not NATS.exists(), reason="Go is missing, so `make tools` has built no nats command."),
]
_FUNCTION = re.compile(r"```bash\n(nats\(\) .*?)```", re.DOTALL)


class Host:
    """A shell on the host of compose.yaml, in a folder of its own, with the function of the page."""

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self.folder = folder
        self._begin = f'docker() {{ shift; "{COMPOSE}" "$@"; }}\n{_FUNCTION.findall(PAGE.read_text())[0]}\n'

    def run(self, name: str, **variables: object) -> str:
        """Run a recipe to its end and return its output; fail the test if it fails."""
        return self.shell(recipes()[name], **variables)

    def shell(self, script: str, **variables: object) -> str:
        """Run commands to their end and return their output; fail the test if they fail."""
        environment = {
            **self._project.environment,
            "COMPOSE_FILE": str(ROOT / "compose.yaml"),
            **{name: str(value) for name, value in variables.items()},
        }
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._begin + script],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, f"{script}\nended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout


@pytest.fixture
def host(project: Project, tmp_path: Path) -> Host:
    """Return the host's shell."""
    return Host(project, tmp_path)


async def balance(client: httpx.AsyncClient) -> str:
    """Finish a white balance and return its id."""
    photo = await upload(client, PHOTO.read_bytes())
    job = await order(client, task="white-balance", image=photo)
    assert (await wait_for_end(client, job))["status"] == "done"
    return job


def test_services_are_listed(host: Host) -> None:
    """The command reaches the broker through its own context: address, key, authority and TLS."""
    listed = host.run("list-services")

    missing = [name for name in ("a100worker", "imageutils", "jobmanager", "segmentation") if name not in listed]
    assert missing == [], listed


async def test_a_job_is_replayed_and_a_dead_letter_redriven(host: Host, client: httpx.AsyncClient) -> None:
    """A file of the host reaches the store, and standard input reaches the command."""
    job = await balance(client)
    shutil.copy(PHOTO, host.folder / "photo.jpg")
    stored = host.run("put-input", FILE="photo.jpg").split()[-1]
    host.run("submit-job", OWNER="operator", JOB="by-hand", IMAGE=stored)
    host.run("submit-job", OWNER="operator", JOB="lost", IMAGE="0" * 64)

    def letter() -> str:
        return host.run("list-dead-letters")

    seq = host.shell(f'nats stream get JOB_LOG --last-for "job.submit.*.*.*.{job}" --json | jq .seq').strip()
    replayed = host.run("replay", FROM=seq, TO=seq)
    await wait_until(
        lambda: ".lost" in letter(),
        "the job without an image is a dead letter",
        timeout_s=60,
        look_every_s=SELDOM_S,
    )
    redriven = host.run("redrive", JOB="lost")

    assert '"new_job_id"' in replayed
    assert '"job_id": "lost"' in redriven
    assert '"type":"done"' in host.run("job-history", JOB=job)


async def test_a_backup_is_restored_into_an_empty_broker(
    host: Host, client: httpx.AsyncClient, project: Project
) -> None:
    """The restore drill of the page: afterwards an old result is there and new edits work."""
    job = await balance(client)
    result = (await client.get(f"/v1/jobs/{job}/result")).content
    host.run("backup", FOLDER="backup")

    project.compose("down")
    project.engine.podman("volume", "rm", "artmancer_nats")
    project.up("nats")
    host.run("restore", FOLDER="backup")
    project.up()
    await project.wait_until_healthy(150)

    assert (await client.get(f"/v1/jobs/{job}/result")).content == result
    assert good(await client.get(f"/v1/jobs/{await balance(client)}"))["status"] == "done"
