"""PlayCanvas compressed PLY, read only: 256 Gaussians a chunk, 16 bytes each plus one byte a harmonic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.comments import read_comments
from gaussianvae.formats.ply_header import Header
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.splats import Splats

CHUNK = 256
REST_COUNTS = (0, 9, 24, 45)


def _unpack_111011(packed: np.ndarray) -> np.ndarray:
    parts = [(packed >> 21) / 2047, ((packed >> 11) & 1023) / 1023, (packed & 2047) / 2047]
    return np.stack(parts, 1)


def _unpack_quats(packed: np.ndarray) -> np.ndarray:
    """Index of the largest of (w, x, y, z) in two bits, the other three in ten each."""
    largest = (packed >> 30).astype(np.int64)
    others = np.stack([(packed >> 20) & 1023, (packed >> 10) & 1023, packed & 1023], 1)
    others = (others / 1023 - 0.5) * np.sqrt(2)
    quats = np.empty((len(packed), 4))
    for which in range(4):
        rows = largest == which
        quats[np.ix_(rows, [k for k in range(4) if k != which])] = others[rows]
        quats[rows, which] = np.sqrt(np.maximum(0, 1 - np.square(others[rows]).sum(1)))
    return quats


def read_compressed(path: Path, header: Header, tables: dict[str, np.ndarray]) -> Splats:
    """Decode the tables of a compressed PLY.

    Raises:
        GaussianVAEError: chunks or columns missing, or an unknown number of harmonics.
    """
    chunk, vertex, sh = tables["chunk"], tables["vertex"], tables.get("sh")
    count = len(vertex)
    if len(chunk) * CHUNK < count:
        raise GaussianVAEError(f"{path}: {count} Gaussians need {-(-count // CHUNK)} chunks, {len(chunk)} are there")
    of_row = np.arange(count) // CHUNK

    def between(unit: np.ndarray, names: tuple[str, ...], default: bool = False) -> np.ndarray:
        if default and f"min_{names[0]}" not in (chunk.dtype.names or ()):
            return unit
        low = np.stack([chunk[f"min_{name}"] for name in names], 1).astype(np.float64)[of_row]
        high = np.stack([chunk[f"max_{name}"] for name in names], 1).astype(np.float64)[of_row]
        return low + unit * (high - low)

    try:
        means = between(_unpack_111011(vertex["packed_position"]), ("x", "y", "z"))
        log_scales = between(_unpack_111011(vertex["packed_scale"]), ("scale_x", "scale_y", "scale_z"))
        quats = _unpack_quats(vertex["packed_rotation"])
        color = vertex["packed_color"]
        rgb = np.stack([(color >> 24) / 255, ((color >> 16) & 255) / 255, ((color >> 8) & 255) / 255], 1)
        rgb = between(rgb, ("r", "g", "b"), default=True)
    except ValueError as error:
        raise GaussianVAEError(f"{path}: no compressed splat ({error})") from error
    rest = len(sh.dtype.names or ()) if sh is not None else 0
    if rest not in REST_COUNTS or (sh is not None and len(sh) != count):
        raise GaussianVAEError(f"{path}: has {rest} harmonics for {0 if sh is None else len(sh)} of {count} Gaussians")
    shN = torch.zeros(count, rest // 3, 3)
    if sh is not None and rest:
        raw = np.stack([sh[f"f_rest_{k}"] for k in range(rest)], 1).astype(np.float64)
        unit = np.where(raw == 0, 0.0, np.where(raw == 255, 1.0, (raw + 0.5) / 256))
        shN = torch.from_numpy(((unit - 0.5) * 8).reshape(count, 3, rest // 3).transpose(0, 2, 1).copy()).float()
    parts = [torch.from_numpy(values).float() for values in (means, quats, log_scales, rgb)]
    for name, values in zip(("means", "rotations", "scales", "colors"), parts, strict=True):
        if not bool(values.isfinite().all()):
            raise GaussianVAEError(f"{path}: some {name} are no finite numbers")
    recipe, others = read_comments(header.comments)
    return Splats(
        means=parts[0],
        quats=torch.nn.functional.normalize(parts[1], dim=1),
        scales=parts[2].exp(),
        opacities=torch.from_numpy((color & 255) / 255).float(),
        sh0=((parts[3] - 0.5) / C0)[:, None],
        shN=shN,
        recipe=recipe,
        comments=others,
    )
