"""SPZ files (Niantic): 20 bytes a Gaussian before compression, one more a harmonic.

Versions 1 to 4 are read, 3 and 4 written. The axes are a matter of `FileOptions.spz_frame`: the format's text says
right, up, back, nearly every tool writes what it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.formats.columns import check_rows, refuse_unless_finite
from gaussianvae.formats.losses import lost_notes, lost_values
from gaussianvae.formats.registry import Bytes, FileOptions, Format
from gaussianvae.formats.spz_streams import ANTIALIASED, EXTENSIONS, GZIP, MAGIC, Header, read_streams, write_streams
from gaussianvae.formats.spz_values import (
    LARGEST,
    LARGEST_COLOR,
    LARGEST_SCALE,
    SMALLEST_SCALE,
    fractional_bits,
    pack,
    unpack,
    wanted_bits,
)
from gaussianvae.progress import Reporter
from gaussianvae.scene.harmonics import C0, MAX_DEGREE
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats

TURNED_SIGNS = (-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1)
"""Of the harmonics of bands 1 to 3 when y and z change sign (half a turn about x)."""


def read_spz(path: Path, data: Bytes, options: FileOptions, report: Reporter) -> Splats:
    """Read a splat from the bytes of an SPZ file (a `Reader`).

    The antialias mark says mip; without it nothing is known, for most writers never set it.

    Raises:
        GaussianVAEError: no SPZ, cut off, damaged, or with values that are no numbers.
    """
    header, streams = read_streams(path, data)
    if header.degree > MAX_DEGREE:
        report.message(f"{path.name}: SH degree 4: the fourth band is left out")
    if header.flags & EXTENSIONS:
        report.message(f"{path.name}: its extensions are left out")
    splats = unpack(header, streams, min(header.degree, MAX_DEGREE))
    refuse_unless_finite(path, means=splats.means)
    splats = replace(splats, recipe=Recipe(mode="mip" if header.flags & ANTIALIASED else None))
    return turned(splats) if options.spz_frame == "rub" else splats


def write_spz(path: Path, splats: Splats, inputs: Iterable[Path | str], options: FileOptions, report: Reporter) -> None:
    """Write a splat atomically (a `Writer`).

    Raises:
        GaussianVAEError: values that are no finite numbers, positions beyond what SPZ holds, or a place that can't
            be written.
    """
    check_rows(path, splats)
    bits = fractional_bits(splats.means, splats.scales)
    if bits < 0:
        raise GaussianVAEError(
            f"{path}: SPZ holds positions up to {LARGEST} units, the farthest Gaussian is at "
            f"{float(splats.means.abs().max()):.4g}; remove it, or write another format"
        )
    if options.spz_frame == "rub":
        splats = turned(splats)
    flags = ANTIALIASED if splats.recipe.mode == "mip" else 0
    header = Header(options.spz_version, len(splats), splats.sh_degree, bits, flags)
    streams = pack(splats, bits)
    with replacing(path, inputs) as beside, beside.open("wb") as file:
        write_streams(file, header, streams)


def turned(splats: Splats) -> Splats:
    """The splat with y and z negated, from right-down-forward to right-up-back or back: signs only, so exact.

    A Gaussian's own axes are turned along with the world (F R F for F R: its covariance is the same).
    """
    signs = splats.shN.new_tensor(TURNED_SIGNS[: splats.shN.shape[1]])
    return replace(
        splats,
        means=splats.means * splats.means.new_tensor([1, -1, -1]),
        quats=splats.quats * splats.quats.new_tensor([1, 1, -1, -1]),
        shN=splats.shN * signs[:, None],
    )


def losses(splats: Splats) -> list[str]:
    """What of a splat an SPZ file can't hold."""
    largest = splats.scales.max(1).values if len(splats) else splats.scales.new_zeros(0)
    bits = fractional_bits(splats.means, splats.scales)
    edge = 0.5 + C0 * LARGEST_COLOR
    return [
        *lost_notes(splats, keeps_mip=True),
        *([f"positions to less than {2.0**-bits:.3g} units"] if bits < wanted_bits(splats.scales) else []),
        *lost_values(f"sizes below {SMALLEST_SCALE:.2g} units", largest < SMALLEST_SCALE),
        *lost_values(f"sizes above {LARGEST_SCALE:.0f} units", largest > LARGEST_SCALE),
        *lost_values(f"colors outside {1 - edge:.2f} to {edge:.2f}", _beyond(splats.sh0, LARGEST_COLOR)),
        *lost_values("spherical harmonics beyond 1", _beyond(splats.shN, 1)),
    ]


def _beyond(values: Tensor, most: float) -> Tensor:
    return (values.abs() > most).flatten(1).any(1) if values.numel() else torch.zeros(len(values), dtype=torch.bool)


def _begins(start: bytes) -> bool:
    return start.startswith((MAGIC, GZIP))


SPZ = Format("SPZ", (".spz",), _begins, read_spz, write_spz, losses)
