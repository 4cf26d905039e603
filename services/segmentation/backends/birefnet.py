"""BiRefNet: detailed soft masks of the salient object in a region. FastSAM maps clicks to regions.

Zheng et al., "Bilateral Reference for High-Resolution Dichotomous Image Segmentation", 2024. It runs
as an ONNX graph: no model code and no torch.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import onnxruntime

from services.segmentation.backend import Candidate
from services.segmentation.backends.fastsam import engine, selection
from services.segmentation.backends.onnx_sessions import CANCEL_POLL_S, CPU, cancellable_by, make_options
from services.segmentation.geometry import Box, resize, whole_image
from services.segmentation.masks import INSIDE, bbox, iou, keep_inside
from shared.errors import ConfigError, EngineFailed, NothingFound
from shared.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures, Checkpoint, Prompt
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb

_CUDA = "CUDAExecutionProvider"
_SIDE_PX = 1024  # for files with a dynamic input size
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet, as in training
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_MARGIN = 0.1  # share of a region's long side: background around the object, for comparison
_SAME = 0.9  # IoU above which two masks are one answer
_LARGEST_LOGIT = 30.0  # above it, the sigmoid is exactly 0 or 1, and the exponential overflows
log = logging.getLogger(__name__)


class Region(NamedTuple):
    """The input box of a run, and the parts of its output that belong to the answer."""

    window: Box
    touching: Grey | None = None
    """A mask of the image's size; parts that do not touch it are removed."""
    within: Box | None = None
    """A box; everything outside is removed."""
    without: Grey | None = None
    """A mask of the image's size that is removed."""

    def restrict(self, matte: Grey) -> Grey:
        """Return the parts of a soft mask that belong to the answer."""
        if self.within is not None:
            return keep_inside(matte, self.within)
        if self.touching is None:
            return matte
        parts = np.asarray(cv2.connectedComponents((matte > 0).astype(np.uint8), connectivity=8)[1])
        held = np.unique(parts[(self.touching > INSIDE) & (matte > INSIDE)])
        own = np.where(np.isin(parts, held), matte, np.uint8(0))
        return own if self.without is None else np.minimum(own, ~self.without)


class BiRefNet:
    """Has no state per request; threads may share it."""

    name = "birefnet"

    def __init__(self, settings: Settings) -> None:
        volume = Volume(settings.model_dir, "birefnet")
        path, facts = volume.verify(settings.birefnet_file), volume.manifest.files[settings.birefnet_file]
        self._detector = engine.load(settings)
        self._network = Network(path, settings.device)
        self._fallback = _fallback(volume, settings)
        self.note = None if self._network.on_gpu else "BiRefNet runs on the CPU here, which is slow."
        self._name = f"birefnet-{facts.sha256[:16]}"

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """See Engine.segment."""
        checkpoint()
        found, score = list[Candidate](), 1.0
        for region in self._regions(image, prompt, cached):
            mask = region.restrict(self._matte(image, region.window, cached, checkpoint))
            if mask.max() > INSIDE and all(iou(mask, other.mask) <= _SAME for other in found):
                score = min(score, float(mask[mask > INSIDE].mean()) / 255)
                found.append(Candidate(mask, score))
        if not found:
            raise NothingFound
        return found

    def _regions(self, image: Rgb, prompt: Prompt, cached: CachedFeatures) -> list[Region]:
        if prompt.auto:
            return [Region(whole_image(image))]
        if prompt.box is not None:
            return [Region(_add_margin(prompt.box, image), within=prompt.box)]
        instances = self._detector.detect(image, cached)
        without = selection.excluded_mask(instances, prompt)
        masks = [candidate.mask for candidate in selection.find(instances, prompt)]
        boxes = [(bbox(mask), mask) for mask in masks]
        return [Region(_add_margin(box, image), touching=mask, without=without) for box, mask in boxes if box]

    def _matte(self, image: Rgb, box: Box, cached: CachedFeatures, checkpoint: Checkpoint) -> Grey:
        """Return the soft mask of a box at the image's size, 0 elsewhere."""
        x0, y0, x1, y1 = box
        name = f"{self._name}-{x0}-{y0}-{x1}-{y1}"
        soft = cached(name, lambda: self._predict(image[box.slices], checkpoint))
        checkpoint()
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[box.slices] = resize(soft, box.width, box.height)
        return mask

    def _predict(self, crop: Rgb, checkpoint: Checkpoint) -> Grey:
        try:
            try:
                return self._network.predict(crop, checkpoint)
            except NotFiniteError:
                if self._fallback is None:
                    raise
            log.warning("birefnet.fallback")
            return self._fallback.predict(crop, checkpoint)
        except NotFiniteError as error:
            raise EngineFailed("BiRefNet returned NaN for this image.") from error


class NotFiniteError(ArithmeticError):
    """The network returned NaN or infinity."""


class Fallback:
    """The network in full precision. It is loaded when it is first needed, and runs one image at a time.

    Threads may share it.
    """

    def __init__(self, path: Path, device: str) -> None:
        """`path` is a verified file."""
        self._path = path
        self._device = device
        self._network: Network | None = None
        self._lock = threading.Lock()

    def predict(self, crop: Rgb, checkpoint: Checkpoint) -> Grey:
        """See Network.predict. Raises EngineFailed also if the file cannot be loaded."""
        while not self._lock.acquire(timeout=CANCEL_POLL_S):
            checkpoint()
        try:
            if self._network is None:
                self._network = Network(self._path, self._device)
            return self._network.predict(crop, checkpoint)
        except ConfigError as error:
            raise EngineFailed(error.message) from error
        finally:
            self._lock.release()


def _fallback(volume: Volume, settings: Settings) -> Fallback | None:
    """Return the fallback for NaN if its file is on the volume. Raises ConfigError if the file is damaged."""
    name = settings.birefnet_fallback_file
    if name in {"", settings.birefnet_file}:
        return None
    if name not in volume.manifest.files:
        log.warning("birefnet.no-fallback", extra={"file": f"birefnet/{name}"})
        return None
    return Fallback(volume.verify(name), settings.device)


class Network:
    """The ONNX network. Threads may share it."""

    def __init__(self, path: Path, device: str) -> None:
        """Load a verified file and run it once. Raises ConfigError."""
        try:
            self._session = onnxruntime.InferenceSession(str(path), make_options(), providers=_providers(device))
            self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[-1]
            self._side_px = self._input.shape[-1] if isinstance(self._input.shape[-1], int) else _SIDE_PX
            self.on_gpu = _CUDA in self._session.get_providers()  # without CUDA libraries the session falls back
            self.predict(np.full((8, 8, 3), 127, np.uint8), lambda: None)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise ConfigError(f"The file birefnet/{path.name} cannot be used as BiRefNet weights.") from error
        if device == "cuda" and not self.on_gpu:
            raise ConfigError("SEGMENTATION_DEVICE is cuda, but onnxruntime cannot use it here.")

    def predict(self, crop: Rgb, checkpoint: Checkpoint) -> Grey:
        """Return the saliency of a crop, stretched to (side, side), 0 to 255.

        Raises EngineFailed, NotFiniteError, and JobCancelled within 50 ms of a cancel.
        """
        kind = np.float16 if self._input.type == "tensor(float16)" else np.float32
        small = resize(crop, self._side_px, self._side_px).astype(np.float32) / 255
        planes = ((small - _MEAN) / _DEVIATION).transpose(2, 0, 1)[np.newaxis].astype(kind)
        logits = np.asarray(self._run(planes, checkpoint), np.float32)
        if logits.shape != (1, 1, self._side_px, self._side_px):
            raise EngineFailed("BiRefNet returned an output of the wrong shape.")
        if not np.isfinite(logits).all():
            raise NotFiniteError
        belief = 1 / (1 + np.exp(-logits[0, 0].clip(-_LARGEST_LOGIT, _LARGEST_LOGIT)))
        return np.asarray(np.rint(belief * 255).astype(np.uint8))

    def _run(self, planes: NDArray[Any], checkpoint: Checkpoint) -> Any:
        checkpoint()
        with cancellable_by(checkpoint) as options:
            try:
                return self._session.run([self._output.name], {self._input.name: planes}, options)[0]
            except Exception as error:  # as in __init__
                checkpoint()
                raise EngineFailed("BiRefNet failed on this image.") from error


def _providers(device: str) -> list[str]:
    if device == "cpu" or _CUDA not in onnxruntime.get_available_providers():
        return [CPU]
    onnxruntime.preload_dlls()  # the CUDA libraries installed with torch
    return [_CUDA, CPU]


def _add_margin(box: Box, image: Rgb) -> Box:
    return box.with_margin(_MARGIN * box.long_side, whole_image(image))
