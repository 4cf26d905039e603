"""For an operator with a GPU: times of the diffusion engine's start and edits, and its overhead over diffusers.

    python -m tests.benchmarks.gpu_edit --sizes 512 1024 --steps 8 --json a100.json
    python -m tests.benchmarks.gpu_edit --random --json h200.json             # the published sizes, without weights
                                                                              # then plans, compile, attention kinds
    python -m tests.benchmarks.gpu_edit --recipes photo.jpg mask.png --sheet recipes.png

The worker's own settings apply (MODEL_DIR, A100WORKER_QWEN_PLAN, ...). On the CPU times are processor time. `--recipes`
paints removals with each recipe, for people to compare; its photos and masks come in pairs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import torch
from PIL import Image

from services.a100worker.backend import InsertionInputs, RemovalInputs, WhiteBalanceInputs, edit
from services.a100worker.backends.qwen.engine import Qwen
from services.a100worker.backends.qwen.scenes.balance import BalanceScene
from services.a100worker.backends.qwen.scenes.scene import draw
from services.a100worker.cancel_flag import CancelFlag
from services.a100worker.job.previews import PreviewEncoder
from services.a100worker.settings import Settings
from shared.image_codec import decode_photo
from shared.messages import Task
from shared.settings import load
from tests.benchmarks.measuring import gpu_passes, gpu_sweep, recipe_sheet
from tests.benchmarks.measuring.gpu_passes import Figure
from tests.benchmarks.measuring.meter import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.a100worker.backend import EditInputs, PhaseReporter, Preview, TaskInputs
    from shared.image_codec import Rgb

SAMPLES = Path(__file__).parents[2] / "services/gateway/static/samples"
_SWITCHES = 20


class Watch:
    """A clock for the device: on the CPU other processes do not count, on a GPU it waits for the queued work."""

    def __init__(self, device: str) -> None:
        self.card = None if device == "cpu" else torch.device(device)

    def __call__(self) -> float:
        """Return seconds."""
        if self.card is None:
            return time.process_time()
        torch.cuda.synchronize(self.card)
        return time.perf_counter()

    def of(self, act: Callable[[], object]) -> float:
        """Return the seconds that a call takes."""
        before = self()
        act()
        return self() - before


class Steps:
    """Records the time of each step, and the cost of its preview."""

    def __init__(self, watch: Callable[[], float]) -> None:
        self.cancel_flag = CancelFlag()
        self.at: list[float] = []
        self.previews: list[float] = []
        self._watch = watch
        self._small = PreviewEncoder(clock=itertools.count().__next__)

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """See Step."""
        del total, message
        now = self._watch()
        if done:
            self.at.append(now)
        if preview is not None:
            self._small.encode(preview)
            spent = self._watch() - now
            self.previews.append(spent)
            self.at[-1] += spent  # not part of the next step

    @property
    def each_s(self) -> float:
        """Seconds a step, without the first, which begins before it is known to."""
        return statistics.median(after - before for before, after in itertools.pairwise(self.at))


class Unseen(Steps):
    """Asks for no previews: the bare call has none either."""

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """See Step."""
        del preview
        super().__call__(done, total, message)


def start(open_engine: Callable[[PhaseReporter], Qwen], watch: Watch) -> tuple[Qwen, list[Figure]]:
    """Load the engine and time each phase."""
    begun = [("importing", watch())]

    def loading(phase: str) -> None:
        begun.append((phase, watch()))

    engine = open_engine(loading)
    begun.append(("", watch()))
    pairs = itertools.pairwise(begun[1:])
    return engine, [Figure(f"start: {phase}", after - at, "s") for (phase, at), (_, after) in pairs]


def job(task: Task, side: int, steps: int) -> TaskInputs:
    """Make a job on a sample photo, scaled to a square."""
    photo = _photo("astronaut", side)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 255
    match task:
        case Task.REMOVAL:
            return RemovalInputs(image=photo, mask=mask, steps=steps, seed=7)
        case Task.INSERTION:
            return InsertionInputs(image=photo, mask=mask, reference=_photo("coffee", side), steps=steps, seed=7)
        case Task.WHITE_BALANCE:
            return balance(side, steps)
    assert_never(task)


def balance(side: int, steps: int) -> WhiteBalanceInputs:
    """Make a white balance of a sample photo, scaled to a square."""
    photo = _photo("astronaut", side)
    return WhiteBalanceInputs(image=photo, fetch_balanced=lambda: photo, steps=steps, seed=7)


def _photo(name: str, side: int) -> Rgb:
    picture = decode_photo((SAMPLES / f"{name}.jpg").read_bytes()).rgb
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def edits(engine: Qwen, watch: Watch, task: Task, side: int, steps: int) -> list[Figure]:
    """Edit twice, the first time to warm up: every size has its own kernels to choose."""
    what, asked = f"{task} {side} px", job(task, side, steps)
    edit(engine, asked, Steps(watch))
    if watch.card is not None:
        torch.cuda.reset_peak_memory_stats(watch.card)
    taken = Steps(watch)
    whole = watch.of(lambda: edit(engine, asked, taken))
    figures = [
        Figure(f"{what}: a step", taken.each_s, "s"),
        Figure(f"{what}: whole edit of {len(taken.at)} steps", whole, "s"),
        Figure(f"{what}: a preview", 1000 * statistics.median(taken.previews), "ms", target=1.0),
    ]
    if watch.card is not None:  # the card must have the reserved memory, of which the allocator could do without some
        used, reserved = torch.cuda.max_memory_allocated(watch.card), torch.cuda.max_memory_reserved(watch.card)
        figures.append(Figure(f"{what}: peak memory", used / 1e9, "GB"))
        figures.append(Figure(f"{what}: peak memory reserved", reserved / 1e9, "GB"))
    return figures


def overhead(engine: Qwen, watch: Watch, side: int, steps: int, rounds: int) -> Figure:
    """Compare a white balance by the engine with the bare pipeline on the same pictures, turn by turn."""
    asked = balance(side, steps)
    if engine.settings.qwen_lightning != "off":  # the engine does so by itself
        asked = replace(asked, steps=int(engine.settings.qwen_lightning), guidance=1.0)
    scene = BalanceScene(asked.image, engine.settings.qwen_work_px**2)
    seen = [draw(scene, view) for view in engine.recipes[Task.WHITE_BALANCE].views]
    ours, bare = [], []
    for number in range(rounds + 1):
        seconds = (
            watch.of(lambda: engine.balance(asked, Unseen(watch))),
            watch.of(lambda: call_bare(engine, asked, seen)),
        )
        if number:  # the first warms up
            ours.append(seconds[0])
            bare.append(seconds[1])
    base = 1000 * statistics.median(bare)
    return Figure(
        f"white-balance {side} px, {steps} steps: engine over bare pipeline",
        1000 * statistics.median(ours),
        "ms",
        target=base + max(10.0, 0.03 * base),
        baseline=base,
    )


def call_bare(engine: Qwen, asked: EditInputs, seen: Sequence[Rgb]) -> Any:
    """Run the library as its documentation does."""
    height, width = seen[0].shape[:2]
    return engine.painter.pipeline(
        image=[Image.fromarray(picture) for picture in seen],
        prompt=engine.recipes[Task.WHITE_BALANCE].words,
        negative_prompt=" ",
        true_cfg_scale=asked.guidance,
        num_inference_steps=asked.steps,
        width=width,
        height=height,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
    ).images[0]


def switching(engine: Qwen, watch: Watch) -> Figure:
    """Compare a switch from one task's adapter to another's with the library's own call."""
    names = [task.value for task in Task][:2]
    switch, pipeline = engine.painter.adapters, engine.painter.pipeline
    ours, bare = [], []
    for _ in range(_SWITCHES):
        ours += [watch.of(partial(switch.to, [name])) for name in names]
        bare += [watch.of(partial(pipeline.set_adapters, [name])) for name in names]
    base = 1000 * statistics.median(bare)
    return Figure("adapter switch", 1000 * statistics.median(ours), "ms", target=2 * base, baseline=base)


def measure(
    settings: Settings,
    sizes: Sequence[int],
    steps: int,
    rounds: int,
    open_engine: Callable[[PhaseReporter], Qwen] | None = None,
) -> list[Figure]:
    """Run everything once through."""
    watch = Watch(settings.qwen_device)
    engine, figures = start(open_engine or partial(Qwen, settings), watch)
    with closing(engine):
        for side in sizes:
            figures += gpu_passes.passes(engine, watch, side, steps)
        for task, side in itertools.product(Task, sizes):
            figures += edits(engine, watch, task, side, steps)
        figures += gpu_passes.windows(engine, watch, steps)
        figures.append(overhead(engine, watch, min(sizes), steps, rounds))
        if all(task.value in engine.adapters for task in list(Task)[:2]):
            figures.append(switching(engine, watch))
        jobs = [job(task, min(sizes), 2) for task in Task]
        figures += gpu_passes.growth(engine, watch, jobs)
        figures.append(gpu_passes.same_bytes(engine, watch, jobs[0], rounds))
        figures.append(gpu_passes.cancel_latency(engine, jobs[0]))
    return figures


def write_table(figures: Sequence[Figure], write: Callable[[str], None]) -> None:
    """Write the table."""
    table = Table(write)
    for figure in figures:
        table.row(figure.name, figure.value, figure.unit, target=figure.target, baseline=figure.baseline)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write the JSON; or draw the contact sheet."""
    given = parse(arguments)
    settings = load(Settings)
    if given.recipes:
        pairs = list(zip(given.recipes[::2], given.recipes[1::2], strict=True))
        with closing(Qwen(settings, lambda _: None)) as engine:
            Image.fromarray(recipe_sheet.draw_sheet(engine, pairs, given.steps)).save(given.sheet)
        return
    with tempfile.TemporaryDirectory() as scratch:
        open_engine = random_engine(Path(scratch)) if given.random else Qwen
        figures = measure(settings, given.sizes, given.steps, given.rounds, partial(open_engine, settings))
        if given.random and not given.no_sweep:
            watch = Watch(settings.qwen_device)
            figures += gpu_sweep.sweep(settings, watch, open_engine, max(given.sizes), given.steps)
    write_table(figures, lambda line: print(line, flush=True))  # noqa: T201
    if given.json:
        device = settings.qwen_device
        device = device if device == "cpu" else torch.cuda.get_device_name(torch.device(device))
        facts = {"device": device, "torch": torch.__version__, "plan": settings.qwen_plan, "steps": given.steps}
        given.json.write_text(json.dumps({**facts, "figures": [asdict(figure) for figure in figures]}, indent=1))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="sides of the pictures, in pixels")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="of the comparisons with the bare pipeline and of bytes")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--random", action="store_true", help="published sizes with random weights, without a volume")
    parser.add_argument("--no-sweep", action="store_true", help="with --random: only the plan of the settings")
    parser.add_argument("--recipes", type=Path, nargs="+", help="photos and masks, in pairs")
    parser.add_argument("--sheet", type=Path, default=Path("recipes.png"), help="where to write the contact sheet")
    given = parser.parse_args(arguments)
    if given.recipes and len(given.recipes) % 2:
        parser.error("--recipes needs a mask after each photo")
    return given


def random_engine(scratch: Path) -> Callable[[Settings, PhaseReporter], Qwen]:
    """Return a function that makes the engine without weights."""
    from tests.benchmarks.measuring.random_qwen import RandomQwen  # noqa: PLC0415 (only with --random)

    return partial(RandomQwen, scratch=scratch)


if __name__ == "__main__":
    main(sys.argv[1:])
