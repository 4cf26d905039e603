"""A Python client that a public generator makes from the OpenAPI document edits a photo on the running system."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.v1.routes.docs import SNAPSHOT
from tests.gateway import SAMPLES
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

GENERATOR = Path(sys.executable).parent / "openapi-python-client"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[str]:
    """Return the name of the generated package, which can be imported. Any warning of the generator is a failure."""
    described = json.loads(SNAPSHOT.read_text())
    kinds = {
        kind
        for path in described["paths"].values()
        for method in path.values()
        for part in bodies(method)
        for kind in part
    }
    overrides = {kind: "application/octet-stream" for kind in kinds if kind.startswith("image/")}
    overrides["text/event-stream"] = "text/plain"
    config = {"post_hooks": [], "content_type_overrides": overrides, "package_name_override": "generated_artmancer"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = subprocess.run(
        [GENERATOR, "generate", "--path", SNAPSHOT, "--output-path", tmp_path / "client", "--config",
         tmp_path / "config.json", "--fail-on-warning"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(tmp_path / "client"))
    yield "generated_artmancer"
    sys.path.remove(str(tmp_path / "client"))
    for name in [name for name in sys.modules if name.split(".")[0] == "generated_artmancer"]:
        del sys.modules[name]


def bodies(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the content of each body of an operation, by its media type."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield part.get("content", {})


async def test_a_generated_client_edits_a_photo(package: str, stack_url: str) -> None:
    """Upload, select, remove, download, by types and functions of the document alone."""

    def api(name: str) -> Any:
        return importlib.import_module(f"{package}.api.{name}").sync

    models, types = importlib.import_module(f"{package}.models"), importlib.import_module(f"{package}.types")
    client = importlib.import_module(package).Client(base_url=stack_url)
    with client, (SAMPLES / "rocket.jpg").open("rb") as photo:
        image = api("images.upload_image")(client=client, body=types.File(photo))
        query = models.MaskQuery(image=image.sha256, points=[[330.0, 200.0, 1]])
        mask = api("masks.find_masks")(client=client, body=query)
        submission = models.JobSubmission(task=models.Task.REMOVAL, image=image.sha256, mask=mask.sha256)
        job = api("jobs.submit_job")(client=client, body=submission)
        await wait_until(lambda: api("jobs.read_job")(job.id, client=client).status == "done", "the job is done", 120)
        result = api("jobs.download_result")(job.id, client=client)

        assert result.payload.read().startswith(b"\x89PNG")
        assert api("jobs.read_receipt")(job.id, client=client).pixels_changed_outside_mask == 0
