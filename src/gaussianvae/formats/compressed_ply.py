"""Reading of PlayCanvas compressed PLY: 256 Gaussians a chunk, 16 bytes each plus one byte a harmonic."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.columns import refuse_unless_finite
from gaussianvae.formats.comments import read_comments
from gaussianvae.formats.ply_header import Element, Header, read_tables
from gaussianvae.formats.registry import Bytes
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.splats import Splats

CHUNK = 256
REST_COUNTS = (0, 9, 24, 45)
POSITIONS = ("x", "y", "z")
SCALES = ("scale_x", "scale_y", "scale_z")
COLORS = ("r", "g", "b")
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")


def read_compressed(path: Path, header: Header, data: Bytes) -> Splats:
    """Decode a compressed PLY.

    Raises:
        GaussianVAEError: cut off, chunks or columns missing, or an unknown number of harmonics.
    """
    rest, has_colors = _check_elements(path, header)
    tables = read_tables(path, data, header, ["chunk", "vertex", "sh"])
    chunk, vertex = tables["chunk"], tables["vertex"]
    count = len(vertex)
    if len(chunk) * CHUNK < count:
        raise GaussianVAEError(f"{path}: {count} Gaussians need {-(-count // CHUNK)} chunks, {len(chunk)} are there")
    of_row = np.arange(count) // CHUNK

    def between(unit: NDArray[np.float64], names: Collection[str]) -> NDArray[np.float64]:
        low = np.stack([chunk[f"min_{name}"] for name in names], 1).astype(np.float64)[of_row]
        high = np.stack([chunk[f"max_{name}"] for name in names], 1).astype(np.float64)[of_row]
        return low + unit * (high - low)

    # a damaged chunk decodes to what is refused below
    with np.errstate(invalid="ignore", over="ignore"):
        means = between(_unpack_111011(vertex["packed_position"]), POSITIONS)
        scales = np.exp(between(_unpack_111011(vertex["packed_scale"]), SCALES))
        packed = vertex["packed_color"]
        colors = np.stack([(packed >> shift & 255) / 255 for shift in (24, 16, 8)], 1)
        colors = between(colors, COLORS) if has_colors else colors
        parts = {
            "means": _tensor(means),
            "scales": _tensor(scales),
            "quaternions": _tensor(_unpack_quats(vertex["packed_rotation"])),
            "colors": _tensor((colors - 0.5) / C0),
        }
    refuse_unless_finite(path, **parts)
    recipe, others = read_comments(header.comments)
    return Splats(
        means=parts["means"],
        quats=torch.nn.functional.normalize(parts["quaternions"], dim=1),
        scales=parts["scales"],
        opacities=_tensor((packed & 255) / 255),
        sh0=parts["colors"][:, None],
        shN=_unpack_harmonics(tables.get("sh"), count, rest),
        recipe=recipe,
        comments=others,
    )


def _check_elements(path: Path, header: Header) -> tuple[int, bool]:
    """The number of harmonics, and whether chunks hold the range of colors (older files' don't)."""
    chunk, vertex, sh = (header.element(name) for name in ("chunk", "vertex", "sh"))
    if chunk is None or vertex is None:
        raise GaussianVAEError(f"{path}: is no compressed splat: it needs elements chunk and vertex")

    def bounds(names: Collection[str]) -> list[str]:
        return [f"{end}_{name}" for end in ("min", "max") for name in names]

    def lacking(element: Element, names: Collection[str], code: str) -> list[str]:
        types = dict(element.properties)
        return [name for name in names if types.get(name) != code]

    missing = lacking(chunk, bounds([*POSITIONS, *SCALES]), "f4") + lacking(vertex, PACKED, "u4")
    if missing:
        raise GaussianVAEError(
            f"{path}: is no compressed splat: lacks {', '.join(missing[:4])}, or has them as another type"
        )
    rest = len(sh.properties) if sh is not None else 0
    if rest not in REST_COUNTS or (sh is not None and lacking(sh, [f"f_rest_{k}" for k in range(rest)], "u1")):
        raise GaussianVAEError(f"{path}: has {rest} harmonics; SH degrees 0, 1, 2, 3 have 0, 9, 24, 45 uchar f_rest")
    if sh is not None and sh.count != vertex.count:
        raise GaussianVAEError(f"{path}: has harmonics for {sh.count} of {vertex.count} Gaussians")
    return rest, not lacking(chunk, bounds(COLORS), "f4")


def _unpack_111011(packed: NDArray[Any]) -> NDArray[np.float64]:
    return np.stack([(packed >> 21) / 2047, (packed >> 11 & 1023) / 1023, (packed & 2047) / 2047], 1)


def _unpack_quats(packed: NDArray[Any]) -> NDArray[np.float64]:
    """Index of the largest of (w, x, y, z) in two bits, the other three in ten each."""
    largest = (packed >> 30).astype(np.int64)
    others = np.stack([packed >> 20 & 1023, packed >> 10 & 1023, packed & 1023], 1)
    others = (others / 1023 - 0.5) * np.sqrt(2)
    quats = np.empty((len(packed), 4))
    for which in range(4):
        rows = largest == which
        quats[np.ix_(rows, [k for k in range(4) if k != which])] = others[rows]
        quats[rows, which] = np.sqrt(np.maximum(0, 1 - np.square(others[rows]).sum(1)))
    return quats


def _unpack_harmonics(sh: NDArray[Any] | None, count: int, rest: int) -> torch.Tensor:
    if sh is None or rest == 0:
        return torch.zeros(count, 0, 3)
    raw = np.stack([sh[f"f_rest_{k}"] for k in range(rest)], 1).astype(np.float64)
    unit = np.where(raw == 0, 0.0, np.where(raw == 255, 1.0, (raw + 0.5) / 256))
    return _tensor((unit - 0.5) * 8).reshape(count, 3, rest // 3).transpose(1, 2).contiguous()


def _tensor(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
