"""Two ONNX networks of Segment Anything: the encoder sees an image once, the decoder answers a prompt in milliseconds.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024; Zhang et al., "Faster Segment Anything", 2023.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime

from services.segmentation.backends.onnx_sessions import CANCEL_POLL_S, CPU, cancellable_by, make_options
from services.segmentation.backends.sam.layouts import MAP_PX, recognise
from shared.errors import ConfigError, EngineFailed
from shared.image_memory import give_back
from shared.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures, Checkpoint
    from shared.image_codec import Grey, Rgb

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
EDGE = 128  # the level at an edge, where the logit is 0
_LEVELS = 16  # per logit
_THREADS = 2  # of a laptop's cores; the others stay free
_HALF, _FLOAT = np.dtype(np.float16), np.dtype(np.float32)
_LARGEST_HALF = 65_000.0


class Question(NamedTuple):
    """A prompt for the decoder: points in pixels of the encoder's square, with labels, and maybe a mask."""

    points: list[tuple[float, float]]
    labels: list[int]
    """1: on the object; 0: off it; 2 and 3: the corners of a box."""
    mask: NDArray[np.float32] | None = None
    """Logits, (1, 1, 256, 256)."""


class Maps(NamedTuple):
    """The decoder's answers: levels (n, 256, 256), 16 a logit, 128 at the edge; and predicted overlaps (n,), 0 to 1."""

    levels: Grey
    scores: NDArray[np.float32]


class Network:
    """The two networks. Threads may share it; one image is encoded at a time, because that takes much memory."""

    def __init__(self, model_dir: Path, model: str) -> None:
        """Verify and load the files of a model, and run them once. Raises ConfigError."""
        volume = Volume(model_dir, model)
        self._encoder, self._decoder = (_open(volume, model, name) for name in (ENCODER, DECODER))
        self.name = f"{model}-{volume.manifest.files[ENCODER].sha256[:16]}"
        try:
            self.layout = recognise(self._encoder, self._decoder)
        except ValueError as error:
            raise ConfigError(f"The files in {model} are not a Segment Anything export: {error}.") from None
        self._input = self._encoder.get_inputs()[0]
        self._kinds = {node.name: _HALF if "16" in node.type else _FLOAT for node in self._decoder.get_inputs()}
        self._lock = threading.Lock()
        give_back()  # frees 100 MB from the load before the run allocates memory
        self._try(model)
        give_back()  # frees 300 MB from the run

    def _try(self, model: str) -> None:
        try:
            seen = self._encode(np.full((8, 8, 3), 127, np.uint8), lambda: None)
            self.answer(seen, Question([(4.0, 4.0)], [1]), 8, 8)
        except EngineFailed as error:
            raise ConfigError(f"The files in {model} cannot be used as a Segment Anything export: {error}") from error

    def see(self, image: Rgb, cached: CachedFeatures, checkpoint: Checkpoint) -> NDArray[np.float16]:
        """Return the embedding of an image as one row of half precision, from the cache if it is there.

        Raises EngineFailed, and JobCancelled within 50 ms of a cancel.
        """
        return cached(self.name, lambda: self._encode(image, checkpoint))

    def _encode(self, image: Rgb, checkpoint: Checkpoint) -> NDArray[np.float16]:
        planes = self.layout.prepare(image, self._input.shape)
        planes = planes.astype(_HALF if "16" in self._input.type else _FLOAT, copy=False)
        names = list(self.layout.embeddings)
        while not self._lock.acquire(timeout=CANCEL_POLL_S):
            checkpoint()
        try:
            checkpoint()
            found = self._run(self._encoder, names, {self._input.name: planes}, checkpoint)
        finally:
            self._lock.release()
        for name, array in zip(names, found, strict=True):
            _check_shape(array, self.layout.embeddings[name])
        return np.concatenate([_to_half(array).ravel() for array in found])

    def answer(self, seen: NDArray[np.float16], question: Question, width: int, height: int) -> Maps:
        """Return the decoder's maps for an image of this size. Raises EngineFailed."""
        fed = self._split(seen) | self._feed(question, width, height)
        fed = {name: array.astype(self._kinds[name], copy=False) for name, array in fed.items()}
        maps, scores = self._run(self._decoder, [self.layout.masks, "iou_predictions"], fed, None)
        if maps.ndim != 4 or maps.shape[2:] != (MAP_PX, MAP_PX) or scores.shape != maps.shape[:2]:  # noqa: PLR2004
            raise EngineFailed("The network returned an output of the wrong shape.")
        levels = (maps[0].astype(np.float32) * _LEVELS + EDGE).clip(0, 255)
        return Maps(levels.astype(np.uint8), scores[0].astype(np.float32).clip(0, 1))

    def _split(self, seen: NDArray[np.float16]) -> dict[str, NDArray[Any]]:
        shapes = {name: tuple(side or 1 for side in shape) for name, shape in self.layout.embeddings.items()}
        sizes = [math.prod(shape) for shape in shapes.values()]
        if seen.shape != (sum(sizes),):
            raise EngineFailed("The stored embedding of this image does not fit the network.")
        parts = np.split(seen, np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def _feed(self, question: Question, width: int, height: int) -> dict[str, NDArray[Any]]:
        points, labels = list(question.points), list(question.labels)
        if self.layout.pads_points and not {2, 3} & set(labels):
            points.append((0.0, 0.0))
            labels.append(-1)
        no_mask = question.mask is None
        fed = {
            "point_coords": np.array([points], np.float32),
            "point_labels": np.array([labels], np.float32),
            "mask_input": np.zeros((1, 1, MAP_PX, MAP_PX), np.float32) if question.mask is None else question.mask,
            "has_mask_input": np.array([0.0 if no_mask else 1.0], np.float32),
        }
        if "orig_im_size" in self.layout.prompt:
            # The file also enlarges its maps to this size, 16 bytes a pixel. We do not read these.
            across, down = self.layout.map_size(width, height)
            fed["orig_im_size"] = np.array([down, across], np.float32)
        return fed

    def _run(self, session: Any, names: list[str], fed: dict[str, Any], checkpoint: Checkpoint | None) -> list[Any]:
        try:
            if checkpoint is None:
                found = session.run(names, fed)
            else:
                with cancellable_by(checkpoint) as options:
                    found = session.run(names, fed, options)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            if checkpoint is not None:
                checkpoint()
            raise EngineFailed("The network failed on this image.") from error
        if not all(np.isfinite(array).all() for array in found):
            raise EngineFailed("The network returned NaN for this image.")
        return list(found)


def _open(volume: Volume, model: str, name: str) -> Any:
    path = volume.verify(name)
    options = make_options()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[CPU])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise ConfigError(f"The file {model}/{name} cannot be read as ONNX.") from error


def _check_shape(array: NDArray[Any], wanted: tuple[int | None, ...]) -> None:
    if array.shape != wanted:
        raise EngineFailed("The network returned an output of the wrong shape.")


def _to_half(array: NDArray[Any]) -> NDArray[np.float16]:
    return array.clip(-_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
