"""Picture files of every mode and format with every kind of statement about their colours."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from shared import icc
from tests.browser.odd_files import PICTURE, chunk, save

if TYPE_CHECKING:
    from collections.abc import Mapping

SRGB_CURVE = 0.04045, 12.92, 0.055, 2.4


def files() -> dict[str, bytes]:
    """Return the files by name: the format, the mode, and the statement. All of them are shown by Chromium."""
    found: dict[str, bytes] = {}
    for name, profile in profiles().items():
        options = {} if profile is None else {"icc_profile": profile}
        found |= {f"png {mode} {name}": save(picture, "PNG", **options) for mode, picture in _pictures().items()}
        for mode in ("RGB", "L"):
            found[f"jpeg {mode} {name}"] = save(_pictures()[mode], "JPEG", quality=98, **options)
        for mode in ("RGB", "RGBA"):
            found[f"webp {mode} {name}"] = save(_pictures()[mode], "WEBP", lossless=True, **options)
        if name in {"wide", "printer", "photographer", "none"}:  # Chromium shows no AVIF with a profile that is broken
            found[f"avif RGB {name}"] = save(PICTURE, "AVIF", quality=100, subsampling="4:4:4", **options)
    found["jpeg CMYK none"] = save(PICTURE.convert("CMYK"), "JPEG", quality=98, subsampling=0)
    return found | _make_chunked() | _encode()


def profiles() -> dict[str, bytes | None]:
    """Return ICC profiles by name: three of displays, one grey, two that fit nothing, and none at all."""
    return {
        "wide": icc.build_profile(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), icc.D65, _srgb),
        "printer": icc.build_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), icc.D65, lambda value: value**2.2),
        "photographer": icc.build_profile(
            ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585), lambda value: value**1.8
        ),
        "grey": grey_profile(),
        "lab": _rename_chunk(grey_profile(), b"Lab "),
        "garbage": bytes(range(128)) * 2,
        "none": None,
    }


def grey_profile() -> bytes:
    """Return a profile of a grey display with the exponent 1.8."""
    head = icc.build_profile(icc.SRGB, icc.D65, lambda value: value)[:128]
    tags = {
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(1.8 * 256)),
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    whole = struct.pack(">I", start + len(body)) + head[4:] + struct.pack(">I", len(tags)) + table + body
    return _rename_chunk(whole, b"GRAY")


def _rename_chunk(profile: bytes, space: bytes) -> bytes:
    return profile[:16] + space + profile[20:]


def _pictures() -> Mapping[str, Image.Image]:
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (16, 1))
    grey, glass = Image.fromarray(ramp), PICTURE.convert("RGBA")
    glass.putalpha(200)
    return {
        "RGB": PICTURE,
        "RGBA": glass,
        "P": PICTURE.quantize(4),
        "L": grey,
        "LA": grey.convert("LA"),
        "1": grey.convert("1"),
        "I;16": Image.fromarray(ramp.astype(np.uint16) * 257),
    }


def _make_chunked() -> dict[str, bytes]:
    """Return PNGs that state their colours in chunks."""
    points = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(profiles()["printer"] or b""))
    linear, steep = (chunk(b"gAMA", struct.pack(">I", value)) for value in (100_000, 45_455))
    wide, bright = (chunk(b"cICP", bytes(code)) for code in ((12, 13, 0, 1), (9, 16, 0, 1)))
    statements = {
        "gamma 1": linear, "gamma and points": steep + points, "points": points, "srgb": chunk(b"sRGB", b"\0") + linear,
        "coded": wide, "coded bright": bright, "coded before profile": wide + profile,
        "gamma and profile": linear + profile,
    }  # fmt: skip
    found: dict[str, bytes] = {}
    for mode in ("RGB", "L", "P", "RGBA"):
        plain = save(_pictures()[mode], "PNG")
        found |= {f"png {mode} {name}": plain[:33] + chunks + plain[33:] for name, chunks in statements.items()}
    return found


def _encode() -> dict[str, bytes]:
    """Return AVIFs with code points of ITU-T H.273."""
    plain = save(PICTURE, "AVIF", quality=100, subsampling="4:4:4")
    at = plain.index(b"nclx") + 4
    codes = {"wide": (12, 13), "television": (1, 1), "ultra": (9, 1), "bright": (9, 16), "unstated": (2, 2)}
    return {
        f"avif coded {name}": plain[:at] + struct.pack(">HH", *code) + plain[at + 4 :] for name, code in codes.items()
    }


def _srgb(value: float) -> float:
    knee, slope, offset, power = SRGB_CURVE
    return value / slope if value <= knee else ((value + offset) / (1 + offset)) ** power
