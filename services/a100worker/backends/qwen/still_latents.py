"""Keeps the photo unchanged outside the mask: the latents there are the photo's, with the noise of the step.

Blended latent diffusion (Avrahami 2023). Works only if the painted image and the input image have the same token grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb


@dataclass(frozen=True, slots=True)
class StillLatents:
    """The photo's latents and the run's noise, packed (1, tokens, 64), and True where the model may paint."""

    photo: torch.Tensor
    noise: torch.Tensor
    paintable: torch.Tensor

    @classmethod
    def of(cls, pipeline: Any, photo: Rgb, paintable: Grey, noise: torch.Tensor) -> StillLatents:
        """Encode a photo of the frame's size; `paintable` is not 0 where the model may paint."""
        channels, (down, across) = pipeline.latent_channels, _cells(pipeline, photo)
        height, width = photo.shape[:2]
        pixels = pipeline.image_processor.preprocess(Image.fromarray(photo), height, width).unsqueeze(2)
        vae = pipeline.vae
        latents = pipeline._encode_vae_image(pixels.to(noise.device, vae.dtype), None)  # noqa: SLF001
        packed = pipeline._pack_latents(latents.to(noise.dtype), 1, channels, down, across)  # noqa: SLF001
        cells = torch.from_numpy(cells_of(paintable, pipeline.vae_scale_factor)).to(noise.device)
        mask = cells.expand(1, channels, 1, down, across)
        return cls(packed, noise, pipeline._pack_latents(mask.contiguous(), 1, channels, down, across))  # noqa: SLF001

    def blend(self, latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Return the latents with the photo at noise level `sigma` outside the mask; with 0 it is the photo exactly."""
        still = (1 - sigma) * self.photo + sigma * self.noise
        return torch.where(self.paintable, latents, still.to(latents.dtype))


def cells_of(paintable: Grey, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Reduce a mask to the latent grid: a cell with any paintable pixel is paintable, and so are its eight neighbours.

    One sample for each cell, or no margin, leaves a visible rim (stable-diffusion.cpp, pull request 1357).
    """
    height, width = paintable.shape
    blocks = paintable.reshape(height // side, side, width // side, side).max(axis=(1, 3))
    marked = np.where(blocks > 0, np.uint8(1), np.uint8(0))
    return np.asarray(cv2.dilate(marked, np.ones((3, 3), np.uint8)) > 0)


def _cells(pipeline: Any, photo: Rgb) -> tuple[int, int]:
    side = pipeline.vae_scale_factor
    return photo.shape[0] // side, photo.shape[1] // side
