"""Plain point clouds in PLY files, as nerfstudio keeps seed points: x, y, z and, mostly, red, green, blue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gaussianvae.captures.capture import SparsePoints
from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.ply_header import parse_header, read_tables

_PLACE, _COLOR = ("x", "y", "z"), ("red", "green", "blue")


def read_point_cloud(file: Path) -> SparsePoints:
    """Read points; gray where they have no color, errors and track lengths unknown.

    Raises:
        GaussianVAEError: no readable PLY, no x, y, z, or a point that isn't finite.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise GaussianVAEError(f"{file}: can't be read ({error.strerror or error})") from error
    header = parse_header(file, data)
    vertex = header.element("vertex")
    if vertex is None or not set(_PLACE) <= set(vertex.names):
        raise GaussianVAEError(f"{file}: has no element vertex with x, y, z; expected a point cloud")
    table = read_tables(file, data, header, ["vertex"])["vertex"]
    colors = np.stack([_shares(table[name]) for name in _COLOR], 1) if set(_COLOR) <= set(vertex.names) else None
    with np.errstate(over="ignore", invalid="ignore"):
        means = torch.from_numpy(np.stack([table[name].astype(np.float32) for name in _PLACE], 1))
    shown: Float[Tensor, "P 3"] = torch.full_like(means, 0.5) if colors is None else torch.from_numpy(colors)
    if not bool(means.isfinite().all() & ((shown >= 0) & (shown <= 1)).all()):
        raise GaussianVAEError(f"{file}: has a point that isn't finite or whose color is out of range")
    return SparsePoints(means, shown, torch.full((len(means),), -1.0), torch.zeros(len(means), dtype=torch.long))


def _shares(column: NDArray[Any]) -> NDArray[np.float32]:
    """Colors as 0-1: integers are shares of their type's largest."""
    largest = np.iinfo(column.dtype).max if column.dtype.kind in "iu" else 1
    with np.errstate(over="ignore", invalid="ignore"):
        return (column / largest).astype(np.float32)
