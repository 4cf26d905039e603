"""BiRefNet: fine, soft masks of what stands out in a region; FastSAM says which region a click means.

Zheng et al., "Bilateral Reference for High-Resolution Dichotomous Image Segmentation", 2024. As ONNX: a graph of known
operations, no code, and no torch.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import onnxruntime

from services.segmentation.backend import Candidate
from services.segmentation.backends.fastsam import engine, selection
from services.segmentation.geometry import Box, resize, whole_image
from services.segmentation.masks import INSIDE, bbox, iou, keep_inside
from shared.errors import ConfigError, EngineFailed, JobCancelled, NothingFound
from shared.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures, Checkpoint, Prompt
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_SIDE_PX = 1024  # where the file leaves it open
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, as in training
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_MARGIN = 0.1  # of a region's long side: surroundings for the network to compare with
_SAME = 0.9  # intersection over union from which two masks are one answer
_LARGEST_LOGIT = 30.0  # beyond it a sigmoid is 0 or 1 to the last bit, and its exponential overflows
_LOOK_UP_S = 0.05  # how often a run is asked whether somebody still wants it


class Region(NamedTuple):
    """Where to look, and what of the answer is meant."""

    window: Box
    touching: Grey | None = None
    """Of the picture's size: parts that do not touch it are something else."""
    within: Box | None = None
    """Nothing outside of it is taken."""
    without: Grey | None = None
    """Of the picture's size: what the user ruled out."""

    def own_part(self, matte: Grey) -> Grey:
        """Return a soft mask of the picture's size without what is not meant."""
        if self.within is not None:
            return keep_inside(matte, self.within)
        if self.touching is None:
            return matte
        parts = np.asarray(cv2.connectedComponents((matte > 0).astype(np.uint8), connectivity=8)[1])
        held = np.unique(parts[(self.touching > INSIDE) & (matte > INSIDE)])
        own = np.where(np.isin(parts, held), matte, np.uint8(0))
        return own if self.without is None else np.minimum(own, ~self.without)


class BiRefNet:
    """Keeps nothing; threads may share it."""

    name = "birefnet"

    def __init__(self, settings: Settings) -> None:
        volume = Volume(settings.model_dir, "birefnet")
        path, facts = volume.verify(settings.birefnet_file), volume.manifest.files[settings.birefnet_file]
        self._detector = engine.load(settings)
        self._network = Network(path, settings.device)
        self.note = None if self._network.on_gpu else "BiRefNet runs on the processor here, which takes long."
        self._name = f"birefnet-{facts.sha256[:16]}"

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """See Engine.segment."""
        checkpoint()
        found, sure = list[Candidate](), 1.0
        for region in self._regions(image, prompt, cached):
            mask = region.own_part(self._matte(image, region.window, cached, checkpoint))
            if mask.max() > INSIDE and all(iou(mask, other.mask) <= _SAME for other in found):
                sure = min(sure, float(mask[mask > INSIDE].mean()) / 255)
                found.append(Candidate(mask, sure))
        if not found:
            raise NothingFound
        return found

    def _regions(self, image: Rgb, prompt: Prompt, cached: CachedFeatures) -> list[Region]:
        if prompt.auto:
            return [Region(whole_image(image))]
        if prompt.box is not None:
            return [Region(_roomy(prompt.box, image), within=prompt.box)]
        instances = self._detector.detect(image, cached)
        without = selection.excluded_mask(instances, prompt)
        masks = [candidate.mask for candidate in selection.find(instances, prompt)]
        boxes = [(bbox(mask), mask) for mask in masks]
        return [Region(_roomy(box, image), touching=mask, without=without) for box, mask in boxes if box]

    def _matte(self, image: Rgb, region: Box, cached: CachedFeatures, checkpoint: Checkpoint) -> Grey:
        """Return the mask of a region at the picture's size, 0 elsewhere."""
        x0, y0, x1, y1 = region
        name = f"{self._name}-{x0}-{y0}-{x1}-{y1}"
        soft = cached(name, lambda: self._network.predict(image[y0:y1, x0:x1], checkpoint))
        checkpoint()
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[y0:y1, x0:x1] = resize(soft, region.width, region.height)
        return mask


class Network:
    """The network in onnxruntime. Threads may share it."""

    def __init__(self, path: Path, device: str) -> None:
        """Load a file, which was checked, and try it. Raises ConfigError."""
        try:
            self._session = onnxruntime.InferenceSession(str(path), _options(), providers=_providers(device))
            self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[-1]
            self._side_px = self._input.shape[-1] if isinstance(self._input.shape[-1], int) else _SIDE_PX
            self.on_gpu = _CUDA in self._session.get_providers()  # without its libraries the session does without it
            self.predict(np.full((8, 8, 3), 127, np.uint8), lambda: None)
        except Exception as error:  # onnxruntime has an exception for each status, without a common root
            raise ConfigError(f"The file birefnet/{path.name} is no BiRefNet that works here.") from error
        if device == "cuda" and not self.on_gpu:
            raise ConfigError("SEGMENTATION_DEVICE is cuda, but onnxruntime cannot use it here.")

    def predict(self, crop: Rgb, checkpoint: Checkpoint) -> Grey:
        """Return (side, side), whatever the crop's shape: 255 where something stands out.

        Raises EngineFailed, or what the checkpoint raises, at the latest a moment after it does.
        """
        kind = np.float16 if self._input.type == "tensor(float16)" else np.float32
        small = resize(crop, self._side_px, self._side_px).astype(np.float32) / 255
        planes = ((small - _MEAN) / _DEVIATION).transpose(2, 0, 1)[np.newaxis].astype(kind)
        logits = np.asarray(self._run(planes, checkpoint), np.float32)
        if logits.shape != (1, 1, self._side_px, self._side_px):
            raise EngineFailed("BiRefNet gave an answer of another shape than a mask.")
        if not np.isfinite(logits).all():
            raise EngineFailed("BiRefNet lost its numbers in this picture.")
        belief = 1 / (1 + np.exp(-logits[0, 0].clip(-_LARGEST_LOGIT, _LARGEST_LOGIT)))
        return np.asarray(np.rint(belief * 255).astype(np.uint8))

    def _run(self, planes: NDArray[Any], checkpoint: Checkpoint) -> Any:
        checkpoint()
        with _ended_by(checkpoint) as options:
            try:
                return self._session.run([self._output.name], {self._input.name: planes}, options)[0]
            except Exception as error:  # see above
                checkpoint()
                raise EngineFailed("BiRefNet could not look at the picture.") from error


@contextmanager
def _ended_by(checkpoint: Checkpoint) -> Iterator[Any]:
    """Yield options of a run, which ends it with an exception once the checkpoint says that nobody wants it."""
    options, over = onnxruntime.RunOptions(), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_UP_S):
            try:
                checkpoint()
            except JobCancelled:
                options.terminate = True
                return

    watcher = threading.Thread(target=watch, name="birefnet-watch", daemon=True)
    watcher.start()
    try:
        yield options
    finally:
        over.set()
        watcher.join()


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # see Saliency
    options.log_severity_level = 3
    return options


def _providers(device: str) -> list[str]:
    if device == "cpu" or _CUDA not in onnxruntime.get_available_providers():
        return [_CPU]
    onnxruntime.preload_dlls()  # those that came with torch
    return [_CUDA, _CPU]


def _roomy(box: Box, image: Rgb) -> Box:
    return box.with_margin(_MARGIN * box.long_side, whole_image(image))
