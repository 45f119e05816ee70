"""PLY files made by hand: the raw rows are the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray

from gaussianvae.formats.ply_header import make_header

NAMES = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
NAMES += ["rot_0", "rot_1", "rot_2", "rot_3"]
"""Of a splat of SH degree 0, in the order that we write."""


def names_of(degree: int) -> list[str]:
    """Properties of a splat of a degree, in the order that we write."""
    rest = [f"f_rest_{k}" for k in range(3 * ((degree + 1) ** 2 - 1))]
    return [*NAMES[:6], *rest, *NAMES[6:]]


def rows_of(count: int, names: list[str], kind: str = "<f4", seed: int = 0) -> NDArray[Any]:
    """Random rows."""
    random = np.random.default_rng(seed)
    rows = np.zeros(count, [(name, kind) for name in names])
    for name in names:
        rows[name] = random.normal(size=count)
    return rows


def file_of(rows: NDArray[Any], comments: list[str] | None = None) -> bytes:
    """A little-endian PLY with these rows."""
    rows = repack_fields(rows)
    properties = [(name, rows.dtype[name].str[1:]) for name in rows.dtype.names or ()]
    return make_header(len(rows), properties, comments or []) + rows.tobytes()


def written_rows(path: Path) -> NDArray[Any]:
    """The rows of a little-endian PLY, parsed without the package's reader."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    types = {"float": "<f4", "double": "<f8", "int": "<i4", "uint": "<u4", "uchar": "u1", "ushort": "<u2"}
    lines = [line.decode().split() for line in head.splitlines() if line.startswith(b"property")]
    return np.frombuffer(body, [(name, types[kind]) for _, kind, name in lines])
