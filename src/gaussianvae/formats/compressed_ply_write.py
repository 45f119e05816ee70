"""Writing of PlayCanvas compressed PLY; its encoding as `compressed_ply` has it, its rounding as splat-transform's
(src/lib/writers/compressed-chunk.ts)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaussianvae.files import replacing
from gaussianvae.formats.activation import deactivate
from gaussianvae.formats.columns import check_rows
from gaussianvae.formats.comments import recipe_comments
from gaussianvae.formats.compressed_ply import CHUNK, COLORS, PACKED, POSITIONS, SCALES
from gaussianvae.formats.losses import lost_values
from gaussianvae.formats.morton import morton_order
from gaussianvae.formats.ply_header import Element, header_of
from gaussianvae.formats.registry import FileOptions
from gaussianvae.progress import Reporter
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.splats import Splats

LARGEST_LOG_SCALE = 20.0
LARGEST_SH = 4.0


def write_compressed(
    path: Path, splats: Splats, inputs: Iterable[Path | str], options: FileOptions, report: Reporter
) -> None:
    """Write a splat atomically as compressed PLY (a `Writer`). Rows are put into Z-order.

    Positions and log scales have 11, 10 and 11 bits between the bounds of their 256 neighbors; rotations 10 bits a
    component (0.2 degrees), colors and opacities 8 bits, harmonics steps of 1/32.

    Raises:
        GaussianVAEError: values that are no finite numbers, or a place that can't be written.
    """
    check_rows(path, splats)
    order = morton_order(splats.means.detach().cpu().float().numpy())
    splats = splats.select(torch.from_numpy(order).to(splats.means.device))
    means = splats.means.detach().cpu().float().numpy()
    colors = (0.5 + C0 * splats.sh0[:, 0].detach().cpu().double()).float().numpy()
    log_scales = deactivate(splats).log_scales.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE).numpy()
    chunks, units = [], []
    for names, values in ((POSITIONS, means), (SCALES, log_scales), (COLORS, colors)):
        low, high, unit = _between_bounds(values)
        chunks += [(f"min_{name}", low[:, k]) for k, name in enumerate(names)]
        chunks += [(f"max_{name}", high[:, k]) for k, name in enumerate(names)]
        units.append(unit)
    opacities = splats.opacities.detach().cpu().double().numpy().clip(0, 1)
    words = [
        _pack(units[0], (11, 10, 11)),
        _pack_quats(splats.quats.detach().cpu().double().numpy()),
        _pack(units[1], (11, 10, 11)),
        _pack(np.concatenate([units[2], opacities[:, None]], 1), (8, 8, 8, 8)),
    ]
    tables = [_table("chunk", chunks, "f4"), _table("vertex", list(zip(PACKED, words, strict=True)), "u4")]
    # channel-major, as in a plain PLY
    rest = splats.shN.detach().cpu().float().transpose(1, 2).flatten(1).numpy()
    if splats.sh_degree:
        bytes_ = np.trunc((rest / (2 * LARGEST_SH) + 0.5) * 256).clip(0, 255)
        tables.append(_table("sh", [(f"f_rest_{k}", bytes_[:, k]) for k in range(rest.shape[1])], "u1"))
    header = header_of([element for element, _ in tables], [*splats.comments, *recipe_comments(splats.recipe)])
    with replacing(path, inputs) as beside, beside.open("wb") as file:
        file.write(header)
        for _, table in tables:
            table.tofile(file)


def compressed_losses(splats: Splats) -> list[str]:
    """What of a splat a compressed PLY can't hold; its header has room for comments and the recipe."""
    far = splats.scales.log().abs() > LARGEST_LOG_SCALE
    beyond = splats.shN.abs() > LARGEST_SH
    return [
        *([f"extra properties ({', '.join(splats.extras)})"] if splats.extras else []),
        *lost_values("sizes outside exp(-20) to exp(20)", far.any(1)),
        *lost_values(f"spherical harmonics beyond {LARGEST_SH:.0f}", beyond.flatten(1).any(1)),
    ]


def _between_bounds(values: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Bounds (chunks, 3) of each chunk's rows, and where (0-1) the rows (N, 3) lie between them."""
    starts = np.arange(0, len(values), CHUNK)
    if not len(starts):
        return values, values, values.astype(np.float64)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    of_row = np.arange(len(values)) // CHUNK
    extent = high.astype(np.float64) - low
    # rows that are all the same are at their lower bound
    unit = (values - low.astype(np.float64)[of_row]) / np.where(extent > 0, extent, 1)[of_row]
    return low, high, unit


def _pack(units: NDArray[np.float64], bits: Sequence[int]) -> NDArray[np.uint32]:
    """Numbers (N, C) of 0-1 in a word, the first in the highest bits."""
    words = np.zeros(len(units), np.uint32)
    for k, count in enumerate(bits):
        most = (1 << count) - 1
        words = words << np.uint32(count) | np.floor(units[:, k] * most + 0.5).clip(0, most).astype(np.uint32)
    return words


def _pack_quats(quats: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Index of the largest of (w, x, y, z) in two bits, the other three in ten each; the largest is made positive."""
    quats = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
    largest = np.abs(quats).argmax(1)
    signed = quats * np.where(quats[np.arange(len(quats)), largest] < 0, -1, 1)[:, None]
    others = signed[np.arange(4) != largest[:, None]].reshape(-1, 3)
    return largest.astype(np.uint32) << np.uint32(30) | _pack(others / np.sqrt(2) + 0.5, (10, 10, 10))


def _table(name: str, columns: Sequence[tuple[str, NDArray[Any]]], kind: str) -> tuple[Element, NDArray[Any]]:
    """An element of a file and its rows, all columns of one type."""
    element = Element(name, len(columns[0][1]), [(column, kind) for column, _ in columns])
    table = np.empty(element.count, element.dtype("<"))
    for column, values in columns:
        table[column] = values
    return element, table
