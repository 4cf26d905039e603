"""Fills the holes that PatchMatch fills badly: with LaMa on the CPU, in a child process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from services.a100worker.backends.lama import child as child_module
from services.a100worker.backends.lama.choice import suits_network
from services.a100worker.backends.lama.lama import FILE, MODEL
from services.a100worker.backends.lama.square import fill_in_square
from services.a100worker.cancel_flag import CancelFlag
from services.a100worker.child_process import ChildProcess
from shared.errors import ConfigError, EngineFailed
from shared.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Grey, Rgb

    Choice = Literal["auto", "lama", "patchmatch"]

_IDLE_S = 180.0  # the child then closes its session, which takes a quarter of a gigabyte
_PROBLEMS = {
    child_module.BAD_ANSWER: "LaMa returned NaN or an image of another size.",
    child_module.NO_LIBRARY: "LaMa needs the package onnxruntime, which is not installed.",
    child_module.DAMAGED: f"The model file {MODEL}/{FILE} cannot be used: it is damaged.",
    child_module.OTHER_SIGNATURE: f"The model file {MODEL}/{FILE} cannot be used: it has other inputs than image and "
    f"mask of {child_module.SIDE_PX} pixels.",
}


class LaptopLama:
    """Owns the child process. Not thread-safe; only the cancel flag may be set from another thread."""

    def __init__(self, path: Path, choice: Choice, idle_s: float = _IDLE_S) -> None:
        self._choice = choice
        self._child = ChildProcess(child_module.__file__, str(path), str(idle_s))

    @classmethod
    def find(cls, models: Path, choice: Choice) -> Self | None:
        """Check the file on the volume; return None if there is none. Raises ConfigError if it cannot be used."""
        if choice == "patchmatch" or not (models / MODEL / FILE).is_file():
            return None
        found = cls(Volume(models, MODEL).verify(FILE), choice)
        try:
            answer = found._child.ask([child_module.CHECK], 1, CancelFlag())
        except EngineFailed as error:  # for example without enough memory
            raise ConfigError(f"The model file {MODEL}/{FILE} cannot be used: loading it failed.") from error
        finally:
            found.close()  # the first fill starts the child again
        if answer != child_module.OK:
            raise ConfigError(_PROBLEMS[answer])
        return found

    def suits(self, image: Rgb, hole: Hole) -> bool:
        """Return whether LaMa should fill this hole."""
        return self._choice == "lama" or suits_network(image, hole)

    def fill(self, image: Rgb, part: Hole, unknown: Grey, seed: int, cancel_flag: CancelFlag) -> None:
        """Fill one hole of the image, in place. `unknown`, of the image's size, marks the pixels to ignore.

        Raises JobCancelled as soon as the flag is set, and EngineFailed if LaMa returns NaN or fails.
        """

        def paint(square: Rgb, mask: Grey) -> Rgb:
            parts = (child_module.FILL, square.tobytes(), mask.tobytes())
            answer = self._child.ask(parts, 1 + square.nbytes, cancel_flag)
            if answer[:1] != child_module.OK:
                raise EngineFailed(_PROBLEMS[answer[:1]])
            return np.frombuffer(answer, np.uint8, offset=1).reshape(square.shape)

        fill_in_square(image, part, unknown, paint, seed)

    def close(self) -> None:
        """Kill the child, if there is one, and wait for its end. A later fill starts a new one."""
        self._child.close()
