"""SOG, compressed PLY and glTF against splat-transform and gsply: what they write, and what they read of ours."""

from __future__ import annotations

import io
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peers import assert_same, gsply_convert, lively_splats, matched, splat_transform
from PIL import Image

from gaussianvae.formats import read_splats, write_splats
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats

pytestmark = pytest.mark.peer
COMPRESSED = {
    "means": 2e-2,
    "degrees": 0.3,
    "log_scales": 2 / 2046,
    "opacities": 0.5 / 255,
    "sh0": 0.5 / 255 * 2 / 0.28,
    "shN": 1 / 64,
}
"""Steps of its chunks: colors of the scene span 2, log scales 2, the coarsest axis has 10 bits."""
SOG = {"means": 2.1e-4, "degrees": 1.9, "log_scales": 0.03, "opacities": 1 / 255, "sh0": 0.02}
"""Steps of its bytes; splat-transform cuts where we round."""
OURS = {**SOG, "means": 1.1e-4, "degrees": 0.95, "opacities": 0.5 / 255, "shN": 0.005}


def both_read(path: Path, folder: Path) -> tuple[Splats, Splats]:
    """A file as we read it, and as splat-transform does."""
    splat_transform(path, folder / "as read.ply")
    return read_splats(path), read_splats(folder / "as read.ply")


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("ending", [".compressed.ply", ".sog"])
def test_splat_transform_reads_ours_as_we_do(tmp_path: Path, degree: int, ending: str) -> None:
    truth = lively_splats(700, degree)
    write_splats(tmp_path / f"a{ending}", truth)
    ours, theirs = both_read(tmp_path / f"a{ending}", tmp_path)
    assert_same(theirs, ours, means=1e-5, degrees=0.1, opacities=1e-5, sh0=1e-5, shN=1e-5)
    assert theirs.recipe.mode == "mip"
    assert_same(matched(theirs, truth), truth, **(OURS if ending == ".sog" else COMPRESSED))


@pytest.mark.parametrize("mode", ["mip", "classic"])
def test_compressed_ply_of_splat_transform(tmp_path: Path, mode: str) -> None:
    truth = lively_splats()
    truth = replace(truth, recipe=Recipe(mode="mip" if mode == "mip" else "classic"))
    write_splats(tmp_path / "a.ply", truth)
    splat_transform(tmp_path / "a.ply", tmp_path / "a.compressed.ply")
    theirs = read_splats(tmp_path / "a.compressed.ply")
    assert_same(matched(theirs, truth), truth, **COMPRESSED)
    assert (theirs.recipe.mode == "mip") == (mode == "mip")


def test_compressed_ply_of_gsply(tmp_path: Path) -> None:
    truth = lively_splats()
    write_splats(tmp_path / "a.ply", truth)
    gsply_convert(tmp_path / "a.ply", tmp_path / "theirs.compressed.ply")
    assert_same(matched(read_splats(tmp_path / "theirs.compressed.ply"), truth), truth, **COMPRESSED)
    write_splats(tmp_path / "ours.compressed.ply", truth)
    gsply_convert(tmp_path / "ours.compressed.ply", tmp_path / "read.ply")
    ours, read = read_splats(tmp_path / "ours.compressed.ply"), read_splats(tmp_path / "read.ply")
    assert_same(read, ours, means=1e-5, degrees=0.1, opacities=1e-5, sh0=1e-5, shN=1e-5)


@pytest.mark.parametrize("mode", ["mip", "classic"])
def test_sog_of_splat_transform_without_harmonics(tmp_path: Path, mode: str) -> None:
    truth = lively_splats(1500, 0)
    truth = replace(truth, recipe=Recipe(mode="mip" if mode == "mip" else "classic"))
    write_splats(tmp_path / "a.ply", truth)
    splat_transform("-g", "cpu", tmp_path / "a.ply", tmp_path / "a.sog")
    theirs = read_splats(tmp_path / "a.sog")
    assert_same(matched(theirs, truth), truth, **SOG)
    # splat-transform marks only what is antialiased
    assert theirs.recipe.mode == ("mip" if mode == "mip" else None)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_sog_of_splat_transform_is_read_as_it_reads_it(tmp_path: Path, degree: int) -> None:
    """Its palette's error is its own; what the file says must be the same to both. A folder is the same file."""
    write_splats(tmp_path / "a.ply", lively_splats(150, degree))
    splat_transform("-g", "cpu", tmp_path / "a.ply", tmp_path / "a.sog")
    ours, theirs = both_read(tmp_path / "a.sog", tmp_path)
    assert ours.sh_degree == degree
    assert_same(theirs, ours, means=1e-5, degrees=0.1, opacities=1e-5, sh0=1e-5, shN=1e-5)
    splat_transform(tmp_path / "a.sog", "-g", "cpu", tmp_path / "scene" / "meta.json")
    assert read_splats(tmp_path / "scene").sh_degree == degree


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gltf_of_splat_transform_is_the_ply_that_it_came_from(tmp_path: Path, degree: int) -> None:
    """Frame and colors, too: its half turn about z is undone."""
    truth = lively_splats(degree=degree)
    write_splats(tmp_path / "a.ply", truth)
    splat_transform(tmp_path / "a.ply", tmp_path / "a.glb")
    assert_same(read_splats(tmp_path / "a.glb"), truth, degrees=0.01, sh0=1e-5, shN=1e-5)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_gsply_reads_our_sog_as_we_do(tmp_path: Path, degree: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gsply", reason="gsply is not installed (make peers)")
    if "imagecodecs" not in sys.modules:
        # gsply's decoder of WebP, which is 50 MB for one function
        stand_in = types.ModuleType("imagecodecs")
        stand_in.webp_decode = lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "imagecodecs", stand_in)
    from gsply import sog_reader

    monkeypatch.setattr(sog_reader, "imagecodecs", sys.modules["imagecodecs"])
    write_splats(tmp_path / "a.sog", lively_splats(400, degree))
    ours, theirs = read_splats(tmp_path / "a.sog"), sog_reader.sogread(str(tmp_path / "a.sog"))
    read = Splats(
        means=torch.from_numpy(theirs.means),
        quats=torch.nn.functional.normalize(torch.from_numpy(theirs.quats), dim=1),
        scales=torch.from_numpy(theirs.scales).exp(),
        opacities=torch.from_numpy(theirs.opacities).sigmoid(),
        sh0=torch.from_numpy(theirs.sh0)[:, None],
        shN=torch.from_numpy(theirs.shN).reshape(400, -1, 3) if degree else ours.shN,
    )
    assert_same(read, ours, means=1e-5, degrees=0.1, opacities=1e-5, sh0=1e-5, shN=1e-5)
