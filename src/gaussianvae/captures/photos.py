"""Image files of photos: their size from the header, their pixels when asked for."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from gaussianvae.errors import GaussianVAEError

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of more than 8 bits a channel, which it would clip to white."""

FEW_PIXELS, MOST_PIXELS_A_BYTE = 1 << 20, 2000
"""A larger photo of more pixels a byte is refused: no compression of a real photo comes near that."""


def look(path: Path) -> tuple[tuple[int, int], bool]:
    """(width, height) of a photo and whether it has an alpha channel, from its header.

    Raises:
        GaussianVAEError: not an image that can be decoded.
    """
    with _opened(path) as image:
        return image.size, image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def decode(path: Path, with_alpha: bool) -> Float[Tensor, "H W C"]:
    """Pixels 0-1: straight RGBA, or RGB.

    Raises:
        GaussianVAEError: not an image that can be decoded.
    """
    with _opened(path) as image:
        values = np.asarray(image.convert("RGBA" if with_alpha else "RGB"))
    return torch.from_numpy(values.astype(np.float32) / 255)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # photos of 100 megapixels are unusual, not wrong; what Pillow calls an attack it still refuses
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # a map, not a file: a file would make room for as much as a damaged chunk claims
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
                Image.open(cast(IO[bytes], data)) as image,
            ):
                if image.mode in _DEEP:
                    raise GaussianVAEError(f"{path}: has more than 8 bits a channel; convert it to 8-bit RGB or RGBA")
                pixels, size = image.width * image.height, path.stat().st_size
                if pixels > FEW_PIXELS + MOST_PIXELS_A_BYTE * size:
                    raise GaussianVAEError(
                        f"{path}: claims to be {image.width}x{image.height}, which {size} bytes can't hold"
                    )
                yield image
    except GaussianVAEError:
        raise
    except Exception as error:  # Pillow's plugins raise almost anything for a damaged file
        raise GaussianVAEError(f"{path}: can't be decoded as an image ({error})") from error
