"""WebP as arrays: exact both ways, sizes read from every kind of header, damage and giants refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.webp import decode_webp, encode_webp, webp_size


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (7, 33), (300, 5)])
def test_every_byte_comes_back(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4)).astype(np.uint8)
    pixels[0, 0] = [1, 2, 3, 0]
    data = encode_webp(pixels)
    assert webp_size(data) == (size[1], size[0])
    np.testing.assert_array_equal(decode_webp("x", data, 1, 10_000), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")), pixels)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"lossless": True, "exif": b"Exif\0\0x" * 9}])
def test_sizes_of_all_kinds_of_headers(options: dict[str, object]) -> None:
    """VP8L, VP8 and VP8X."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((20, 31, 3), np.uint8)).save(file, "WEBP", **options)
    assert webp_size(file.getvalue()) == (31, 20)
    assert decode_webp("x", file.getvalue(), 1, 1000).shape == (20, 31, 4)


def test_bounds_and_damage() -> None:
    data = encode_webp(np.random.default_rng(0).integers(0, 256, (20, 31, 4)).astype(np.uint8))
    for least, most, says in ((621, 9999, "at least 621"), (1, 619, "at most 619")):
        with pytest.raises(GaussianVAEError, match=f"31x20 pixels; expected {says}"):
            decode_webp("x", data, least, most)
    for broken in (data[:29], data[:200], b"", b"\x89PNG" + data[4:], data[:40] + bytes(len(data) - 40)):
        with pytest.raises(GaussianVAEError, match="WebP"):
            decode_webp("x", broken, 1, 1000)
    assert webp_size(data[:12] + b"VP9 " + data[16:]) is None
