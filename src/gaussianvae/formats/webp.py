"""Lossless WebP images as arrays of bytes: the pictures that SOG stores its numbers in."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gaussianvae.errors import GaussianVAEError

LARGEST_SIDE = 16383
"""Of a WebP image, in pixels."""
EFFORT, METHOD = 50, 2
"""Of the encoder: 0.1 % above the smallest files of a real SOG in a fifth of the time; method 0 is 12 % above."""


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP file states, in pixels; None when it is no WebP file.

    Of the RIFF container the first chunk counts (VP8X, VP8L or VP8), as the container's specification has it.
    """
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<2H", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None


def decode_webp(what: str, data: bytes, least: int, most: int) -> NDArray[np.uint8]:
    """The pixels (H, W, 4) of an image, RGBA.

    Args:
        what: names the image in messages.
        data: the file.
        least: pixels that it must have.
        most: pixels that it may have; checked before anything is decoded, since a kilobyte of WebP can be a gigabyte.

    Raises:
        GaussianVAEError: no WebP image, damaged, or of another size.
    """
    size = webp_size(data)
    if size is None:
        raise GaussianVAEError(f"{what}: is no WebP image")
    pixels = size[0] * size[1]
    if not least <= pixels <= most:
        bound = f"at least {least}" if pixels < least else f"at most {most}"
        raise GaussianVAEError(f"{what}: has {size[0]}x{size[1]} pixels; expected {bound}, by the count of Gaussians")
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            if image.size != size:
                raise GaussianVAEError(f"{what}: is damaged; it states two sizes, {size} and {image.size}")
            return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, EOFError, SyntaxError, UnidentifiedImageError) as error:
        why = " ".join(str(error).split())[:80]
        raise GaussianVAEError(f"{what}: is a damaged WebP image ({why})") from error


def encode_webp(pixels: NDArray[np.uint8]) -> bytes:
    """A lossless WebP file of pixels (H, W, 4), RGBA; colors under an alpha of 0 are kept, too."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, exact=True, quality=EFFORT, method=METHOD)
    return file.getvalue()
