"""Runs the recipes of docs/operations.md as they are written there."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/operations.md"
_RECIPE = re.compile(r"<!-- recipe: ([a-z-]+) -->\n```sh\n(.*?)```", re.DOTALL)


def recipes() -> dict[str, str]:
    """Each recipe by its name."""
    return dict(_RECIPE.findall(PAGE.read_text(encoding="utf-8")))


class Operator:
    """Runs recipes in a folder of its own, with only the variables that the page sets."""

    def __init__(self, nats: Path, url: str, folder: Path, keys: Path | None = None) -> None:
        """`keys` is the operator's folder, where the broker asks for keys."""
        self.folder = folder
        self._environment = {
            "PATH": f"{nats.parent}:{os.environ['PATH']}",
            "HOME": str(folder),  # the command keeps its settings there
            "NATS_URL": url,
        }
        if keys is not None:
            self._environment["XDG_CONFIG_HOME"] = str(keys)

    async def run(self, name: str, **variables: object) -> str:
        """Run a recipe to its end and return its output. Raises an error unless it succeeds."""
        return await self.shell(recipes()[name], **variables)

    async def shell(self, script: str, **variables: object) -> str:
        """Run any commands to their end and return their output. Raises an error unless they succeed."""
        code, out, err = await self.result(script, **variables)
        assert code == 0, f"{script}\nended with {code}:\n{out}\n{err}"
        return out

    async def result(self, script: str, **variables: object) -> tuple[int, str, str]:
        """Run any commands; returns the exit code and both outputs."""
        process = await self._start(script, variables, stderr=asyncio.subprocess.PIPE)
        out, err = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode or 0, out.decode(), err.decode()

    @asynccontextmanager
    async def follow(self, name: str, **variables: object) -> AsyncIterator[asyncio.StreamReader]:
        """Run a recipe that a person ends with Ctrl-C. Yield its output."""
        process = await self._start(recipes()[name], variables, stderr=asyncio.subprocess.STDOUT)
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            with suppress(ProcessLookupError):
                # Not SIGINT: a process in the background of a shell, as a gate may be, ignores it.
                os.killpg(process.pid, signal.SIGTERM)
            await process.communicate()

    async def _start(self, script: str, variables: dict[str, object], **options: Any) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={**self._environment, **{key: str(value) for key, value in variables.items()}},
            cwd=self.folder,
            start_new_session=True,
            **options,
        )
