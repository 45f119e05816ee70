"""3DGS PLY files (INRIA's layout): properties by name, raw values before activation, comments and extras kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.formats.activation import activate, deactivate
from gaussianvae.formats.columns import Part, check_rows, gather, refuse_unless_finite, scatter
from gaussianvae.formats.comments import read_comments, recipe_comments
from gaussianvae.formats.compressed_ply import read_compressed
from gaussianvae.formats.compressed_ply_write import compressed_losses, write_compressed
from gaussianvae.formats.ply_header import NAMES, Header, make_header, parse_header, read_tables
from gaussianvae.formats.registry import Bytes, FileOptions, Format
from gaussianvae.progress import Reporter
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.splats import Splats, Stored

MEANS = ("x", "y", "z")
SH0 = ("f_dc_0", "f_dc_1", "f_dc_2")
SCALES = ("scale_0", "scale_1", "scale_2")
QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
NEEDED = (*MEANS, *SH0, "opacity", *SCALES, *QUATS)
RGB = ("red", "green", "blue")
"""What nerfstudio's `--ply-color-mode rgb` writes in place of f_dc, 0-255."""
REST_COUNTS = (0, 9, 24, 45, 72)
"""Number of f_rest properties for SH degree 0, 1, 2, 3, 4."""
MOST_REST = 45
"""Of those that are kept: colors are expanded up to degree 3."""
WRITTEN_ROWS = 1 << 15
"""Rows brought into a file's layout at a time."""
NORMALS = ("nx", "ny", "nz")
FILTER_3D = "filter_3D"


def read_ply(path: Path, data: Bytes, options: FileOptions, report: Reporter) -> Splats:
    """Read a splat from the bytes of a PLY file, compressed or not (a `Reader`).

    Raises:
        GaussianVAEError: not a splat, cut off, or with values that are no numbers.
    """
    header = parse_header(path, data)
    if header.element("chunk") is not None:
        return read_compressed(path, header, data)
    rest = _check_properties(path, header)
    if rest > MOST_REST:
        report.message(f"{path}: SH degree 4: the fourth band is left out")
    return splats_from_table(path, read_tables(path, data, header, ["vertex"])["vertex"], rest, header.comments)


def _check_properties(path: Path, header: Header) -> int:
    """The number of f_rest properties of a header that is a splat's."""
    vertex = header.element("vertex")
    if vertex is None:
        raise GaussianVAEError(f"{path}: has no element vertex; it is no splat")
    names = set(vertex.names)
    if vertex.has_lists or (any(element.has_lists for element in header.elements) and "opacity" not in names):
        raise GaussianVAEError(f"{path}: has list properties; this is a mesh, not a splat")
    if "scale_0" in names and "scale_2" not in names:
        raise GaussianVAEError(
            f"{path}: has fewer than 3 scales a Gaussian (2DGS surfels?); only 3D Gaussians are read"
        )
    missing = [name for name in NEEDED if name not in names]
    if set(missing) == set(SH0) and set(RGB) <= names:
        missing = []
    if missing and set(RGB) <= names:
        raise GaussianVAEError(
            f"{path}: is a plain point cloud, without {', '.join(missing[:3])}; expected a splat in INRIA's layout"
        )
    if missing:
        raise GaussianVAEError(f"{path}: is no splat: element vertex lacks {', '.join(missing[:6])}")
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in REST_COUNTS or any(f"f_rest_{k}" not in names for k in range(rest)):
        raise GaussianVAEError(f"{path}: has {rest} f_rest properties; SH degrees 0 to 4 have 0, 9, 24, 45, 72")
    return rest


def _rest_parts(rest: NDArray[np.float32], stored: int) -> list[Part]:
    """The channel-major f_rest columns of shN (N, K, 3), of files that have `stored` of them a channel."""
    kept = rest.shape[1]
    return [(rest[:, :, channel], [f"f_rest_{channel * stored + j}" for j in range(kept)]) for channel in range(3)]


def splats_from_table(path: Path, table: NDArray[Any], rest: int, comments: Iterable[str]) -> Splats:
    """Activate the raw columns of a table; values that are no numbers are refused."""
    n, kept = len(table), min(rest, MOST_REST)
    means, sh, logits, log_scales, quats = (
        np.empty(shape, np.float32) for shape in ((n, 3), (n, 1 + kept // 3, 3), (n, 1), (n, 3), (n, 4))
    )
    sh0, shN = sh[:, :1], sh[:, 1:]
    colored = SH0[0] not in (table.dtype.names or ())
    gather(
        table,
        [
            (means, MEANS),
            (sh0[:, 0], RGB if colored else SH0),
            *_rest_parts(shN, rest // 3),
            (logits, ["opacity"]),
            (log_scales, SCALES),
            (quats, QUATS),
        ],
    )
    if colored:
        sh0[:] = (sh0 / 255 - 0.5) / C0
    stored = Stored(torch.from_numpy(log_scales), torch.from_numpy(logits[:, 0]), torch.from_numpy(quats))
    scales, opacities, unit_quats = activate(stored)
    all_sh = torch.from_numpy(sh)
    used = {*NEEDED, *NORMALS, *(RGB if colored else ()), *(f"f_rest_{k}" for k in range(rest))}
    recipe, others = read_comments(comments)
    splats = Splats(
        means=torch.from_numpy(means),
        quats=unit_quats,
        scales=scales,
        opacities=opacities,
        sh0=all_sh[:, :1],
        shN=all_sh[:, 1:],
        recipe=recipe,
        comments=others,
        extras={name: _extra(table[name]) for name in (table.dtype.names or ()) if name not in used},
        stored=stored,
    )
    refuse_unless_finite(path, quaternions=stored.quats)
    if FILTER_3D in splats.extras:
        splats = _fuse_filter(splats)
    check_rows(path, splats)
    return splats


def _extra(column: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(column, column.dtype.newbyteorder("=")))


def _fuse_filter(splats: Splats) -> Splats:
    """Mip-Splatting's un-fused 3D filter becomes part of the Gaussians (its `fuse` step)."""
    extras = dict(splats.extras)
    squares = splats.scales.double().square()
    wider = squares + extras.pop(FILTER_3D).double().square()[:, None]
    # an axis without width and without filter stays as it is
    shares = torch.where(wider > 0, squares / wider, torch.ones_like(wider))
    return replace(
        splats,
        scales=wider.sqrt().float(),
        opacities=(splats.opacities.double() * shares.prod(1).sqrt()).float(),
        extras=extras,
        recipe=replace(splats.recipe, mode="mip", filter_3d=True),
        stored=None,
    )


def write_ply(path: Path, splats: Splats, inputs: Iterable[Path | str], options: FileOptions, report: Reporter) -> None:
    """Write a splat atomically; rows that were not changed since they were read are written bit for bit (a `Writer`).

    Raises:
        GaussianVAEError: values that are no finite numbers, or a place that can't be written.
    """
    write_ply_parts(path, len(splats), [splats], inputs, options, report)


def write_ply_parts(
    path: Path,
    count: int,
    parts: Iterable[Splats],
    inputs: Iterable[Path | str],
    options: FileOptions,
    report: Reporter,
) -> None:
    """The same for a splat of `count` Gaussians that comes in parts of one kind (a `PartsWriter`)."""
    written, layout = 0, None
    with replacing(path, inputs) as beside, beside.open("wb") as file:
        for splats in parts:
            properties, columns = _layout(path, splats)
            if layout is None:
                layout = properties
                file.write(make_header(count, properties, [*splats.comments, *recipe_comments(splats.recipe)]))
            if properties != layout:
                raise ValueError("the parts of a splat must have the same properties")
            dtype = np.dtype([(name, f"<{code}") for name, code in properties])
            for start in range(0, len(splats), WRITTEN_ROWS):
                rows = slice(start, start + WRITTEN_ROWS)
                table = np.empty(len(splats.means[rows]), dtype)
                scatter([(array[rows], names) for array, names in columns], table)
                table.tofile(file)
            written += len(splats)
        if written != count:
            raise ValueError(f"{count} Gaussians were announced, {written} came")


def _layout(path: Path, splats: Splats) -> tuple[list[tuple[str, str]], list[Part]]:
    """The properties of a splat (name, type) in the order of a file, and where their values are."""
    check_rows(path, splats)
    raw = deactivate(splats)
    shN = _array(splats.shN)
    parts: list[Part] = [
        (_array(splats.means), MEANS),
        (_array(splats.sh0[:, 0]), SH0),
        *_rest_parts(shN, shN.shape[1]),
        (raw.logits.numpy()[:, None], ["opacity"]),
        (raw.log_scales.numpy(), SCALES),
        (raw.quats.numpy(), QUATS),
    ]
    properties = [(name, "f4") for _, names in parts for name in names]
    for name, column in splats.extras.items():
        values = _column(column)
        if len(name.split()) != 1 or name in dict(properties):
            raise ValueError(f"an extra property can't be named {name!r}: a word is needed that no other property has")
        properties.append((name, values.dtype.str[1:]))
        parts.append((values[:, None], [name]))
    return properties, parts


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().cpu().float().numpy()


def _column(column: Tensor) -> NDArray[Any]:
    """An extra property as the nearest type that PLY has."""
    column = column.detach().cpu()
    if column.dtype in (torch.float16, torch.bfloat16):
        column = column.float()
    values: NDArray[Any] = column.numpy()
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.str[1:] in NAMES:
        return values
    # PLY's integers end at 32 bits
    small = len(values) == 0 or (values.min() >= -(2**31) and values.max() < 2**31)
    return values.astype(np.int32 if small else np.float64)


def _begins(start: bytes) -> bool:
    return start.split(b"\n")[0].strip() == b"ply"


PLY = Format("PLY", (".ply",), _begins, read_ply, write_ply, write_parts=write_ply_parts)
COMPRESSED_PLY = Format("compressed PLY", (".compressed.ply",), _begins, read_ply, write_compressed, compressed_losses)
