"""3DGS PLY files (INRIA's layout): properties by name, raw values before activation, comments and extras kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.formats.comments import read_comments, recipe_comments
from gaussianvae.formats.ply_header import Element, make_header, parse_header, read_tables
from gaussianvae.scene.rotations import normalize_quats
from gaussianvae.scene.splats import Splats, Stored

MEANS = ("x", "y", "z")
SCALES = ("scale_0", "scale_1", "scale_2")
QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
SH0 = ("f_dc_0", "f_dc_1", "f_dc_2")
REST_COUNTS = {0: 0, 9: 1, 24: 2, 45: 3}
NORMALS = ("nx", "ny", "nz")
FILTER_3D = "filter_3D"
SMALLEST = 1e-7
"""Opacities that we computed are kept this far from 0 and 1, so that their logits are finite."""


def read_ply(path: Path, data: bytes) -> Splats:
    """Read a splat from the bytes of a PLY file.

    Raises:
        GaussianVAEError: not a splat, cut off, or with values that are no numbers.
    """
    header = parse_header(path, data)
    if header.element("chunk") is not None and header.element("vertex") is not None:
        from gaussianvae.formats.compressed_ply import read_compressed

        return read_compressed(path, header, read_tables(path, data, header))
    vertex = header.element("vertex")
    if vertex is None:
        raise GaussianVAEError(f"{path}: has no element vertex; it is no splat")
    rest = _check_properties(path, vertex)
    table = read_tables(path, data, header)["vertex"]
    return splats_from_table(path, table, rest, header.comments)


def _check_properties(path: Path, vertex: Element) -> int:
    names = set(vertex.names)
    if "scale_0" in names and "scale_2" not in names:
        raise GaussianVAEError(f"{path}: has two scales a Gaussian (2DGS surfels); only 3D Gaussians can be read")
    missing = [name for name in (*MEANS, *SH0, "opacity", *SCALES, *QUATS) if name not in names]
    if missing:
        what = "a plain point cloud" if {"red", "green", "blue"} <= names and "scale_0" not in names else "no splat"
        raise GaussianVAEError(f"{path}: is {what}: element vertex lacks {', '.join(missing[:6])}")
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in REST_COUNTS or any(f"f_rest_{k}" not in names for k in range(rest)):
        raise GaussianVAEError(f"{path}: has {rest} f_rest properties; SH degrees 0-3 have 0, 9, 24 or 45")
    return rest


def _columns(table: np.ndarray, names: Iterable[str]) -> torch.Tensor:
    picked = [np.asarray(table[name], dtype=np.float32) for name in names]
    return torch.from_numpy(np.stack(picked, 1)) if picked else torch.zeros(len(table), 0)


def splats_from_table(path: Path, table: np.ndarray, rest: int, comments: list[str]) -> Splats:
    """Activate the raw columns of a table; values that are no numbers are refused."""
    with np.errstate(invalid="ignore", over="ignore"):
        means, quats = _columns(table, MEANS), _columns(table, QUATS)
        log_scales, sh0 = _columns(table, SCALES), _columns(table, SH0)
        logits = torch.from_numpy(np.asarray(table["opacity"], dtype=np.float32).copy())
        flat = _columns(table, (f"f_rest_{k}" for k in range(rest)))
    shN = flat.reshape(len(table), 3, rest // 3).transpose(1, 2).contiguous()
    _check_values(path, means=means, quats=quats, colors=torch.cat([sh0, flat], 1))
    broken = logits.isnan() | log_scales.isnan().any(1) | (log_scales == torch.inf).any(1)
    _refuse(path, "opacity or scale", broken)
    used = {*MEANS, *QUATS, *SCALES, *SH0, "opacity", *NORMALS, *(f"f_rest_{k}" for k in range(rest))}
    extras = {name: torch.from_numpy(_native(table[name])) for name in (table.dtype.names or ()) if name not in used}
    recipe, others = read_comments(comments)
    splats = Splats(
        means=means,
        quats=normalize_quats(quats),
        scales=log_scales.exp(),
        opacities=logits.sigmoid(),
        sh0=sh0[:, None, :].contiguous(),
        shN=shN,
        recipe=recipe,
        comments=others,
        extras=extras,
        stored=Stored(log_scales, logits, quats),
    )
    return _fuse_filter(splats) if FILTER_3D in extras else splats


def _native(column: NDArray[Any]) -> NDArray[Any]:
    """The column in this machine's byte order and as a type that torch has."""
    kind: np.dtype[Any] = column.dtype.newbyteorder("=")
    wider: dict[np.dtype[Any], np.dtype[Any]] = {np.dtype("u2"): np.dtype("i4"), np.dtype("u4"): np.dtype("i8")}
    return np.ascontiguousarray(column.astype(wider.get(kind, kind)))


def _check_values(path: Path, **parts: torch.Tensor) -> None:
    for name, values in parts.items():
        _refuse(path, name, ~values.isfinite().all(1))


def _refuse(path: Path, name: str, broken: torch.Tensor) -> None:
    if broken.any():
        first = int(torch.nonzero(broken)[0, 0])
        raise GaussianVAEError(
            f"{path}: {int(broken.sum())} rows have {name} that are no finite numbers (the first is row {first})"
        )


def _fuse_filter(splats: Splats) -> Splats:
    """Mip-Splatting's un-fused 3D filter becomes part of the Gaussians (its `fuse` step)."""
    variance = splats.extras[FILTER_3D].float().square()[:, None]
    squares = splats.scales.square()
    wider = squares + variance
    extras = {name: column for name, column in splats.extras.items() if name != FILTER_3D}
    return replace(
        splats,
        scales=wider.sqrt(),
        opacities=splats.opacities * (squares / wider.clamp_min(1e-30)).prod(1).sqrt(),
        extras=extras,
        recipe=replace(splats.recipe, mode="mip", filter_3d=True),
        stored=None,
    )


def write_ply(path: Path, splats: Splats, inputs: Iterable[Path | str] = ()) -> None:
    """Write a splat atomically; rows that were not changed since they were read are written bit for bit."""
    log_scales, logits, quats = _raw_values(splats)
    rest = splats.shN.transpose(1, 2).reshape(len(splats), -1)
    blocks = [
        (list(MEANS), splats.means),
        (list(SH0), splats.sh0[:, 0]),
        ([f"f_rest_{k}" for k in range(rest.shape[1])], rest),
        (["opacity"], logits[:, None]),
        (list(SCALES), log_scales),
        (list(QUATS), quats),
    ]
    properties = [(name, "f4") for names, _ in blocks for name in names]
    extras = {name: column.detach().cpu().numpy() for name, column in splats.extras.items()}
    extras = {
        name: column.astype("i4") if column.dtype.kind in "bi" and column.dtype.itemsize == 8 else column
        for name, column in extras.items()
    }
    properties += [(name, f"{column.dtype.kind}{column.dtype.itemsize}") for name, column in extras.items()]
    table = np.empty(len(splats), np.dtype([(name, f"<{code}") for name, code in properties]))
    for names, values in blocks:
        columns = values.detach().cpu().float().numpy()
        for index, name in enumerate(names):
            table[name] = columns[:, index]
    for name, column in extras.items():
        table[name] = column
    header = make_header(len(splats), properties, [*splats.comments, *recipe_comments(splats.recipe)])
    with replacing(path, inputs) as beside, beside.open("wb") as file:
        file.write(header)
        table.tofile(file)


def _raw_values(splats: Splats) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    log_scales = splats.scales.log()
    opacities = splats.opacities.double().clamp(SMALLEST, 1 - SMALLEST)
    logits, quats = torch.logit(opacities).float(), splats.quats
    stored = splats.stored
    if stored is not None:
        same = stored.log_scales.exp() == splats.scales
        log_scales = torch.where(same, stored.log_scales, log_scales)
        logits = torch.where(stored.logits.sigmoid() == splats.opacities, stored.logits, logits)
        kept = (normalize_quats(stored.quats) == splats.quats).all(1, keepdim=True)
        quats = torch.where(kept, stored.quats, quats)
    return log_scales, logits, quats
