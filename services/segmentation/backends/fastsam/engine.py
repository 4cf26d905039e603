"""FastSAM: a YOLOv8 that segments all instances of an image at once; a prompt selects among them.

Zhao et al., "Fast Segment Anything", 2023. The licence of ultralytics is AGPL-3.0. It then also applies to a
service that loads this module; see docs/models.md.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from services.segmentation.backend import Click, Outlined, Prompt
from services.segmentation.backends.fastsam import selection
from services.segmentation.backends.fastsam.instances import EDGE, LEVELS, Instances, record
from services.segmentation.geometry import Box, resize
from services.segmentation.masks import INSIDE, binary
from shared.errors import ConfigError, EngineFailed, NothingFound
from shared.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures, Candidate, Checkpoint, SeenFeatures
    from services.segmentation.settings import Settings
    from shared.image_codec import Rgb

_STRIDE, _CELL = 32, 4  # input pixels: input sides are multiples of _STRIDE; a prototype pixel covers _CELL
_GREY = 114  # padding, as in training
_OVERLAP = 0.9  # IoU of boxes for the suppression; high, because nested instances are wanted
_MAX_INSTANCES = 200


class FastSam:
    """Has no state per request; threads may share it."""

    name = "fastsam"
    note = None

    def __init__(self, settings: Settings) -> None:
        self._network = load(settings)

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """See Engine.segment."""
        checkpoint()
        instances = self._network.detect(image, cached)
        checkpoint()
        return selection.find(instances, prompt)

    def outline(self, width: int, height: int, click: Click, seen: SeenFeatures) -> Outlined | None:
        """See Outliner.outline."""
        records = seen(self._network.name)
        if records is None:
            return None
        instances = Instances(records, Box(0, 0, *records["belief"].shape[:0:-1]))
        across, down = instances.limits.width / width, instances.limits.height / height
        prompt = Prompt(points=(Click(click.x * across, click.y * down, positive=True),))
        try:
            best = selection.find(instances, prompt)[0]
        except NothingFound:
            return Outlined(np.zeros((1, 1), np.uint8), 0.0)
        return Outlined(binary(best.mask > INSIDE), best.score)


class Network:
    """The network. It processes one image at a time."""

    def __init__(self, path: Path, digest: str, side_px: int, confidence: float, device: str) -> None:
        """Load verified weights and run them once. Raises ConfigError."""
        torch, self._suppress, network = _import(path)
        self._torch = torch
        self._device = _device(torch, device)
        self._type = torch.float16 if self._device == "cuda" else torch.float32
        self._network = network.to(self._device, self._type).eval()
        self._side_px, self._confidence = side_px, confidence
        self.name = f"fastsam-{digest[:16]}-{side_px}-{confidence:g}"
        self._lock = threading.Lock()  # the network keeps the grid of the last input size
        try:
            self._detect(np.full((side_px, side_px, 3), _GREY, np.uint8))
        except EngineFailed as error:
            raise ConfigError(f"The file fastsam/{path.name} is not a FastSAM network.") from error

    def detect(self, image: Rgb, cached: CachedFeatures) -> Instances:
        """Return all instances of an image. Raises EngineFailed."""
        return Instances.from_records(image, cached(self.name, lambda: self._detect(image)))

    def _detect(self, image: Rgb) -> NDArray[Any]:
        height, width = image.shape[:2]
        scale = self._side_px / max(height, width) / _CELL
        across, down = (max(1, round(side * scale)) * _CELL for side in (width, height))
        canvas = np.full((_pad(down), _pad(across), 3), _GREY, np.uint8)
        canvas[:down, :across] = resize(image, across, down)
        try:
            with self._lock, self._torch.inference_mode():
                levels, boxes, scores = self._run(canvas)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # torch has no exception of its own
            raise EngineFailed("FastSAM failed on this image.") from error
        shares = np.asarray(boxes / np.array([across, down, across, down]), np.float32)
        return record(levels[:, : down // _CELL, : across // _CELL], shares, scores)

    def _run(self, canvas: Rgb) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """Return levels (n, h / 4, w / 4), boxes (n, 4) in pixels of the canvas (h, w, 3), and scores (n,)."""
        pixels = self._torch.from_numpy(canvas).to(self._device).permute(2, 0, 1)[None].to(self._type) / 255
        (detected, prototypes), _ = self._network(pixels)
        found = self._suppress(detected.float(), self._confidence, _OVERLAP, nc=1, max_det=_MAX_INSTANCES)[0]
        planes = prototypes[0].float()
        logits = (found[:, 6:] @ planes.flatten(1)).unflatten(1, planes.shape[1:])
        levels = (logits * LEVELS + EDGE).clamp(0, 255).byte()
        return levels.cpu().numpy(), found[:, :4].cpu().numpy(), found[:, 4].cpu().numpy()


def _pad(side_px: int) -> int:
    return -(-side_px // _STRIDE) * _STRIDE


def _device(torch: Any, wanted: str) -> str:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("SEGMENTATION_DEVICE is cuda, but torch finds no CUDA device.")
    return "cuda" if available and wanted != "cpu" else "cpu"


@functools.cache
def load(settings: Settings) -> Network:
    """Load the network once per process for all engines that use it. Raises ConfigError."""
    volume = Volume(settings.model_dir, "fastsam")
    path, digest = volume.verify(settings.fastsam_file), volume.manifest.files[settings.fastsam_file].sha256
    return Network(path, digest, settings.fastsam_px, settings.fastsam_confidence, settings.device)


def _import(path: Path) -> tuple[Any, Any, Any]:
    """Return torch, the non-maximum suppression and the network. Stay offline and run no code from the file."""
    scratch = tempfile.mkdtemp(prefix="artmancer-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    # ultralytics reads these variables once, at import, and has no other setting for them.
    os.environ |= {
        "YOLO_OFFLINE": "true",  # no DNS look-ups, no statistics
        "YOLO_AUTOINSTALL": "false",  # no pip
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": scratch,
        "MPLCONFIGDIR": scratch,
        "ULTRALYTICS_SAFE_LOAD": "1",  # a pickle of tensors and known classes only
    }
    import torch  # noqa: PLC0415 (takes seconds; only for this engine)
    from ultralytics import FastSAM  # noqa: PLC0415
    from ultralytics.utils.nms import non_max_suppression  # noqa: PLC0415

    try:
        return torch, non_max_suppression, FastSAM(path).model.fuse(verbose=False)
    except Exception as error:  # a damaged or hostile file fails in many ways
        raise ConfigError(f"The file fastsam/{path.name} cannot be loaded as FastSAM weights.") from error
