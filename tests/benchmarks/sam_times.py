"""Times and memory of the engine `sam` with random weights of SAM 2.1's real size (Hiera tiny).

Run it with the models' environment: `.venv-models/bin/python -m tests.benchmarks.sam_times`. The files have the
tensors and shapes of the published ones, 109 and 16 MB.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.segmentation.backend import Click, Outliner, Prompt, load
from services.segmentation.settings import Settings
from tests.models.seal import seal
from tests.unit.services.segmentation.photos import LocalFeatures, never_cancel

WIDTH, HEIGHT = 1600, 1200
CLICK = Click(800, 600, positive=True)
HOVERS = 100


def export(folder: Path) -> None:
    """Write encoder.onnx and decoder.onnx with random weights."""
    import torch  # noqa: PLC0415 (of the models' environment)
    from transformers import Sam2Config, Sam2Model  # noqa: PLC0415

    torch.manual_seed(0)
    model = Sam2Model(Sam2Config()).eval()

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: Any) -> Any:
            return tuple(self.model.get_image_embeddings(image))

    class Decoder(Encoder):
        def forward(self, *args: Any) -> Any:
            embed, fine, finer, points, labels, mask, has_mask = args
            found = self.model(
                image_embeddings=[fine, finer, embed], input_points=points[:, None],
                input_labels=labels[:, None].to(torch.int32), input_masks=mask, multimask_output=True,
            )  # fmt: skip
            return found.pred_masks[:, 0] + has_mask * 0, found.iou_scores[:, 0]

    features = ["high_res_feats_0", "high_res_feats_1", "image_embed"]
    prompt = ["point_coords", "point_labels", "mask_input", "has_mask_input"]
    any_number = {"point_coords": {1: "points"}, "point_labels": {1: "points"}}
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        image = torch.zeros(1, 3, 1024, 1024)
        fine, finer, embed = Encoder()(image)
        torch.onnx.export(Encoder(), (image,), str(folder / "encoder.onnx"), input_names=["image"],
                          output_names=features, opset_version=17, dynamo=False)  # fmt: skip
        asked = (torch.rand(1, 2, 2), torch.ones(1, 2), torch.zeros(1, 1, 256, 256), torch.ones(1))
        torch.onnx.export(Decoder(), (embed, fine, finer, *asked), str(folder / "decoder.onnx"),
                          input_names=["image_embed", *features[:2], *prompt], dynamic_axes=any_number,
                          output_names=["masks", "iou_predictions"], opset_version=17, dynamo=False)  # fmt: skip


def memory_mb(entry: str) -> int:
    """Return an entry of /proc/self/status in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) // 1000


def report(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 (a program for a terminal)


def measure(folder: Path) -> None:
    """Print the times of a first click, a second one, and of hovers, and the memory of the process."""
    before = memory_mb("VmRSS")
    engine, features = load("sam", Settings(model_dir=folder)), LocalFeatures()
    assert isinstance(engine, Outliner)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 20), np.uint8)
    report(f"loaded: {memory_mb('VmRSS') - before} MB more than without")
    mask = None  # the studio sends the mask before each correction
    for name, clicks in (("first", (CLICK,)), ("second", (CLICK, Click(300, 300, positive=False)))):
        began, used = time.perf_counter(), time.process_time()
        mask = engine.segment(image, Prompt(points=clicks, previous=mask), features, never_cancel)[0].mask
        report(f"{name} click: {time.perf_counter() - began:.2f} s, {time.process_time() - used:.2f} s of CPU")
    walls, cpus = [], []
    for number in range(HOVERS):
        began, used = time.perf_counter(), time.process_time()
        engine.outline(WIDTH, HEIGHT, Click(10 + 15 * number, 10 + 11 * number, positive=True), features.arrays.get)
        walls.append(1000 * (time.perf_counter() - began))
        cpus.append(1000 * (time.process_time() - used))
    report(f"hover: {np.percentile(walls, 95):.0f} ms p95, {np.median(cpus):.0f} ms of CPU")
    report(f"peak: {memory_mb('VmHWM') - before} MB more than without")


def main() -> None:
    """Export in a child, which takes its memory along, and measure."""
    import multiprocessing  # noqa: PLC0415 (of this command alone)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "sam").mkdir()
        child = multiprocessing.get_context("spawn").Process(target=export, args=(folder / "sam",))
        child.start()
        child.join()
        seal(folder / "sam")
        measure(folder)


if __name__ == "__main__":
    main()
