"""Previews of latents without the VAE: a linear map from latent channels to colours, fitted when the model loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from typing import Self

    from shared.image_codec import Rgb

_SAMPLES = 4
_SIDE_PX = 256
LATENT_PX = 8  # pixels of the image for each latent, per side


class LatentColours:
    """Maps latents to rough colours in a millisecond; the VAE takes a second. They show where each object is."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix  # (17, 3): a row for each channel, and the offset

    @classmethod
    def fit(cls, pipeline: Any) -> Self:
        """Fit by least squares: latents of generated images against those images at an eighth of their size."""
        vae = pipeline.vae
        pixels = torch.from_numpy(_samples()).permute(0, 3, 1, 2)
        wanted = torch.nn.functional.avg_pool2d(pixels, LATENT_PX)
        with torch.no_grad():  # else the map keeps 2.7 GB of activations on the GPU
            latents = pipeline._encode_vae_image((pixels * 2 - 1)[:, :, None].to(vae.device, vae.dtype), None)[:, :, 0]  # noqa: SLF001
        known = _with_offset(latents.float().cpu().permute(0, 2, 3, 1).reshape(-1, latents.shape[1]))
        matrix = torch.linalg.lstsq(known, wanted.permute(0, 2, 3, 1).reshape(-1, 3)).solution
        return cls(matrix.to(vae.device))

    def decode(self, packed: torch.Tensor, size: tuple[int, int]) -> Rgb:
        """Return packed latents (1, n, 64) as an image of an eighth of `size` (width, height)."""
        across, down = (side // (2 * LATENT_PX) for side in size)
        channels = packed.shape[2] // 4
        blocks = packed[0].float().view(down, across, channels, 2, 2)
        flat = blocks.permute(0, 3, 1, 4, 2).reshape(-1, channels)
        colours = (_with_offset(flat) @ self._matrix).clamp(0, 1) * 255
        return np.asarray(colours.round().to(torch.uint8).view(2 * down, 2 * across, 3).cpu())


def _with_offset(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def _samples() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return images (n, side, side, 3) of 0..1 in patches of several sizes, with all colours."""
    random = np.random.default_rng(1)
    cells = [4 << number for number in range(_SAMPLES)]
    grids = [random.random((count, count, 3), np.float32) for count in cells]
    return np.stack([grid.repeat(_SIDE_PX // len(grid), 0).repeat(_SIDE_PX // len(grid), 1) for grid in grids])
