"""Files that other programs read as we do, and theirs that we read as they do: PLY, SPZ and .splat, both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peers import assert_same, gsply_convert, lively_splats, matched, splat_transform, splat_transform_info
from spzfiles import file_of, random_parts

from gaussianvae.formats import FileOptions, read_splats, write_splats
from gaussianvae.scene.recipe import Recipe

pytestmark = pytest.mark.peer
SPZ = {
    "means": 2.0**-13,
    "degrees": 0.25,
    "log_scales": 1 / 32,
    "opacities": 0.5 / 255,
    "sh0": 0.5 / 255 / 0.15,
    "shN": 1 / 256,
}
"""What SPZ's rounding allows."""
LIBRARY = {**SPZ, "shN": 1 / 16 + 1 / 256}
"""The library rounds to 8 bits, then harmonics of bands 2 and 3 to 4 bits."""


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_of_splat_transform(tmp_path: Path, degree: int) -> None:
    truth = lively_splats(degree=degree)
    write_splats(tmp_path / "ours.ply", truth)
    splat_transform(tmp_path / "ours.ply", tmp_path / "theirs.ply")
    theirs = read_splats(tmp_path / "theirs.ply")
    assert_same(theirs, truth)
    assert theirs.recipe.mode == "mip"


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_of_gsply(tmp_path: Path, degree: int) -> None:
    truth = lively_splats(degree=degree)
    write_splats(tmp_path / "ours.ply", truth)
    gsply_convert(tmp_path / "ours.ply", tmp_path / "theirs.ply")
    assert_same(read_splats(tmp_path / "theirs.ply"), truth)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("mode", ["mip", "classic"])
def test_spz_of_splat_transform(tmp_path: Path, version: Any, mode: Any) -> None:
    truth = replace(lively_splats(), recipe=Recipe(mode=mode))
    write_splats(tmp_path / "ours.spz", truth, options=FileOptions(spz_version=version))
    splat_transform(tmp_path / "ours.spz", tmp_path / "read.ply")
    read = read_splats(tmp_path / "read.ply")
    assert_same(read, truth, **SPZ)
    write_splats(tmp_path / "ours.ply", truth)
    splat_transform(tmp_path / "ours.ply", "--spz-version", str(version), tmp_path / "theirs.spz")
    theirs = read_splats(tmp_path / "theirs.spz")
    assert_same(theirs, truth, **LIBRARY)
    # the mark is understood both ways
    assert (read.recipe.mode == "mip", theirs.recipe.mode == "mip") == (mode == "mip", mode == "mip")


@pytest.mark.parametrize("version", [3, 4])
def test_spz_of_gsply(tmp_path: Path, version: Any) -> None:
    truth = lively_splats()
    write_splats(tmp_path / "ours.spz", truth, options=FileOptions(spz_version=version))
    gsply_convert(tmp_path / "ours.spz", tmp_path / "read.ply")
    assert_same(read_splats(tmp_path / "read.ply"), truth, **SPZ)
    write_splats(tmp_path / "ours.ply", truth)
    gsply_convert(tmp_path / "ours.ply", tmp_path / "theirs.spz", spz_version=version)
    assert_same(read_splats(tmp_path / "theirs.spz"), truth, **SPZ)


@pytest.mark.parametrize("by", ["splat-transform", "gsply"])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_spz_bytes_mean_the_same_to_all(tmp_path: Path, by: str, version: int) -> None:
    """No peer writes version 2; so files of arbitrary bytes, which both read."""
    data = file_of(version, 500, 3, random_parts(version, 500, 3))
    (tmp_path / "a.spz").write_bytes(data)
    if by == "gsply":
        gsply_convert(tmp_path / "a.spz", tmp_path / "theirs.ply")
    else:
        splat_transform(tmp_path / "a.spz", tmp_path / "theirs.ply")
    ours, theirs = read_splats(tmp_path / "a.spz"), read_splats(tmp_path / "theirs.ply")
    assert_same(theirs, ours, means=1e-3, degrees=0.1, opacities=1e-5)


@pytest.mark.parametrize("by", ["splat-transform", "gsply"])
@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e5])
def test_spz_of_other_fractional_bits(tmp_path: Path, by: str, scale: float) -> None:
    """Small scenes in finer steps and large ones in coarser: peers go by the header."""
    truth = lively_splats(degree=0)
    truth = replace(truth, means=truth.means * scale, scales=truth.scales.clamp(max=0.02) * max(scale, 0.03))
    truth = replace(truth, scales=truth.scales.clamp(1e-4, 300))
    write_splats(tmp_path / "ours.spz", truth)
    if by == "gsply":
        gsply_convert(tmp_path / "ours.spz", tmp_path / "read.ply")
    else:
        splat_transform(tmp_path / "ours.spz", tmp_path / "read.ply")
    farthest = float(truth.means.abs().max())
    assert_same(read_splats(tmp_path / "read.ply"), truth, **{**SPZ, "means": max(2.0**-14, farthest / 2**22)})


@pytest.mark.parametrize("degree", [0, 3])
def test_splat_of_splat_transform(tmp_path: Path, degree: int) -> None:
    """Read only; it decodes quaternions as u / 255 * 2 - 1, half a step off (ours and the first viewer's: u / 128 - 1)."""
    truth = lively_splats(degree=degree)
    write_splats(tmp_path / "ours.splat", truth)
    splat_transform(tmp_path / "ours.splat", tmp_path / "read.ply")
    read = matched(read_splats(tmp_path / "read.ply"), truth)
    flat = replace(truth, shN=truth.shN[:, :0])
    assert_same(read, flat, degrees=2.5, opacities=0.6 / 255, sh0=0.6 / 255 / 0.282)
    ours = matched(read_splats(tmp_path / "ours.splat"), truth)
    assert_same(ours, flat, degrees=0.9, opacities=0.5 / 255, sh0=0.5 / 255 / 0.282)


@pytest.mark.parametrize("suffix", [".spz", ".splat"])
def test_splat_transform_counts_our_gaussians(tmp_path: Path, suffix: str) -> None:
    write_splats(tmp_path / f"a{suffix}", lively_splats(300, 0))
    info = splat_transform_info(tmp_path / f"a{suffix}")
    assert info["gaussian"] and info["numGaussians"] == 300


@pytest.mark.real
def test_the_real_spz_is_read_as_splat_transform_reads_it(tmp_path: Path, data: Path) -> None:
    splat_transform(data / "splats" / "biker.spz", tmp_path / "theirs.ply")
    ours, theirs = read_splats(data / "splats" / "biker.spz"), read_splats(tmp_path / "theirs.ply")
    assert_same(theirs, ours, degrees=0.1, opacities=1e-5)
