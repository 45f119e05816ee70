""".splat files (antimatter15): 32 bytes a Gaussian, no header, no harmonics.

Three floats of position, three of scale (linear), RGBA and a quaternion (wxyz) in bytes. Two choices of ours:

- Bytes are rounded to nearest. The first writer (github.com/antimatter15/splat, convert.py) truncates, but every reader
  decodes color and opacity as u / 255, so its files are darker by half a step.
- Of the two quaternions that mean one rotation, the one whose largest component is negative is written: (u - 128) / 128
  reaches -1 but not 1, so the largest component of small turns would be cut off at 127/128.

As the first writer does, rows are sorted by volume times opacity, the largest first: viewers show what has arrived
while they load. So **rows come back in another order**.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.formats.columns import check_rows, refuse_rows, refuse_unless_finite
from gaussianvae.formats.losses import lost_notes, lost_values
from gaussianvae.formats.registry import Bytes, FileOptions, Format
from gaussianvae.progress import Reporter
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.splats import Splats

ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("colors", "u1", 4), ("quats", "u1", 4)])


def read_splat(path: Path, data: Bytes, options: FileOptions, report: Reporter) -> Splats:
    """Read a splat from the bytes of a .splat file (a `Reader`).

    Raises:
        GaussianVAEError: no whole number of rows, values that are no finite numbers, or negative scales.
    """
    if len(data) % ROW.itemsize:
        raise GaussianVAEError(
            f"{path}: is no .splat file or cut off: it has {len(data)} bytes, not a multiple of {ROW.itemsize}"
        )
    table = np.frombuffer(data, ROW)
    means, scales = (torch.from_numpy(table[name].astype(np.float32)) for name in ("means", "scales"))
    refuse_unless_finite(path, means=means, scales=scales)
    refuse_rows(path, "negative scales", (scales < 0).any(1))
    colors = torch.from_numpy(table["colors"].astype(np.float32)) / 255
    quats = torch.from_numpy(table["quats"].astype(np.float32)) - 128
    # four bytes of 128 name no rotation; it turns nothing, as in PLY files
    quats[(quats == 0).all(1), 0] = 1
    return Splats(
        means=means,
        quats=torch.nn.functional.normalize(quats, dim=1),
        scales=scales,
        opacities=colors[:, 3].clone(),
        sh0=(colors[:, None, :3] - 0.5) / C0,
        shN=torch.zeros(len(table), 0, 3),
    )


def write_splat(
    path: Path, splats: Splats, inputs: Iterable[Path | str], options: FileOptions, report: Reporter
) -> None:
    """Write a splat atomically, its rows sorted by volume times opacity (a `Writer`).

    Raises:
        GaussianVAEError: no Gaussians, values that are no finite numbers, or a place that can't be written.
    """
    if not len(splats):
        raise GaussianVAEError(f"{path}: a .splat file of no Gaussians would be an empty file; write .ply or .spz")
    check_rows(path, splats)
    means, quats, scales, opacities, sh0 = (
        t.detach().cpu().float().numpy()
        for t in (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh0)
    )
    order = np.argsort(-scales.astype(np.float64).prod(1) * opacities, kind="stable")
    quats = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
    largest = np.take_along_axis(quats, np.abs(quats).argmax(1)[:, None], 1)
    table = np.empty(len(splats), ROW)
    table["means"], table["scales"] = means[order], scales[order]
    colors = np.concatenate([0.5 + C0 * sh0[:, 0], opacities[:, None]], 1)[order]
    table["colors"] = np.clip(np.floor(colors * 255 + 0.5), 0, 255)
    table["quats"] = np.clip(np.floor(np.where(largest > 0, -quats, quats)[order] * 128 + 128.5), 0, 255)
    with replacing(path, inputs) as beside, beside.open("wb") as file:
        table.tofile(file)


def losses(splats: Splats) -> list[str]:
    """What of a splat a .splat file can't hold."""
    rgb = 0.5 + C0 * splats.sh0[:, 0]
    return [
        *(["the spherical harmonics"] if splats.sh_degree else []),
        *lost_notes(splats, keeps_mip=False),
        *lost_values("colors outside 0-1", ((rgb < 0) | (rgb > 1)).any(1)),
    ]


SPLAT = Format(".splat", (".splat",), lambda start: False, read_splat, write_splat, losses)
