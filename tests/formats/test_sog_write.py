"""SOG bundles that we write: errors near the format's own steps, every image as its description says."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sogfiles import decode_row, pixels_of

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import read_splats, write_splats
from gaussianvae.formats.morton import morton_order
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import quats_to_rotmats
from gaussianvae.scene.splats import STATE, Splats
from scenes import Told, random_splats


def sorted_like_the_file(splats: Splats) -> Splats:
    return splats.select(torch.from_numpy(morton_order(splats.means.numpy())))


def angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Between rotations, degrees."""
    turns = quats_to_rotmats(a.double()).transpose(1, 2) @ quats_to_rotmats(b.double())
    skew = torch.stack(
        [turns[:, 2, 1] - turns[:, 1, 2], turns[:, 0, 2] - turns[:, 2, 0], turns[:, 1, 0] - turns[:, 0, 1]]
    )
    return torch.rad2deg(torch.asin((skew.norm(dim=0) / 2).clamp(max=1)))


@settings(max_examples=25)
@given(
    count=st.integers(1, 400),
    degree=st.integers(0, 3),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([1e-3, 1.0, 1e3, 1e6]),
)
def test_a_round_trip_is_off_by_the_steps_of_the_format(
    tmp_path_factory: pytest.TempPathFactory, count: int, degree: int, seed: int, spread: float
) -> None:
    splats = random_splats(count, degree, seed)
    splats = replace(splats, means=splats.means * spread, scales=splats.scales * spread)
    path = tmp_path_factory.mktemp("sog") / "a.sog"
    write_splats(path, splats)
    read, splats = read_splats(path), sorted_like_the_file(splats)
    assert read.sh_degree == degree and read.recipe == splats.recipe
    # half a step of 65535 in sign(x) log(1 + |x|), where the slope is 1 + |x|
    logs = splats.means.double().sign() * splats.means.double().abs().log1p()
    step = (logs.max(0).values - logs.min(0).values) / 65535
    bound = 0.501 * step * (1 + splats.means.abs().double().max(0).values) + 1e-6 * splats.means.abs().max()
    assert bool(((read.means - splats.means).abs() <= bound).all())
    # three components off by half a step of 2/255/sqrt(2), and the largest by what follows
    assert float(angles(read.quats, splats.quats).max()) < 1.1
    assert float((read.opacities - splats.opacities).abs().max()) <= 0.5 / 255 + 1e-6
    # at most 256 different values are exact; more are as near as a codebook gets
    for mine, theirs in ((splats.scales.log(), read.scales.log()), (splats.sh0, read.sh0), (splats.shN, read.shN)):
        if mine.numel():
            extent = float(mine.max() - mine.min())
            exact = mine.unique().numel() <= 256
            off = (mine - theirs).abs()
            assert float(off.max()) <= 2e-6 * float(mine.abs().max()) if exact else float(off.max()) <= extent / 12
            assert float(off.mean()) <= extent / 256


def test_every_row_is_what_the_description_decodes(tmp_path: Path) -> None:
    splats = random_splats(300, 3)
    write_splats(tmp_path / "a.sog", splats)
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        files = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(files["meta.json"])
    assert meta["version"] == 2 and meta["count"] == 300 and meta["model"] == "antialiased"
    assert meta["shN"]["bands"] == 3 and len(meta["shN"]["codebook"]) == 256
    # 300 Gaussians: 20 x 16 pixels, both whole multiples of 4; 64 entries of 15 pixels a row of the palette
    shapes = {name: pixels_of(data).shape[:2] for name, data in files.items() if name.endswith(".webp")}
    assert shapes.pop("shN_centroids.webp") == (5, 960) and set(shapes.values()) == {(16, 20)}
    splats = sorted_like_the_file(splats)
    for row in range(0, 300, 37):
        decoded = decode_row(files, row)
        for name, atol in (("means", 1e-4), ("quats", 1e-2), ("sh0", 0.2), ("shN", 0.03), ("opacities", 2e-3)):
            truth = getattr(splats, name)[row].numpy().ravel()
            truth = truth * np.sign(truth[np.abs(truth).argmax()]) if name == "quats" else truth
            np.testing.assert_allclose(decoded[name], truth, atol=atol, err_msg=name)


def test_writing_what_was_read_changes_nothing(tmp_path: Path) -> None:
    write_splats(tmp_path / "a.sog", random_splats(500, 2))
    first = read_splats(tmp_path / "a.sog")
    write_splats(tmp_path / "b.sog", first)
    second = read_splats(tmp_path / "b.sog")
    for name in STATE:
        # which of two equal components of a rotation is the largest may change by the rounding
        atol = 0.01 if name == "quats" else 1e-6
        torch.testing.assert_close(getattr(second, name), getattr(first, name), rtol=1e-6, atol=atol)
    write_splats(tmp_path / "c.sog", first)
    assert (tmp_path / "b.sog").read_bytes() == (tmp_path / "c.sog").read_bytes()


def test_edges_of_what_splats_hold(tmp_path: Path) -> None:
    splats = random_splats(40, 1)
    splats = replace(
        splats,
        scales=torch.where(torch.arange(40)[:, None] == 7, 0.0, splats.scales),
        opacities=torch.linspace(0, 1, 40),
        sh0=torch.zeros_like(splats.sh0),
        shN=torch.zeros_like(splats.shN),
        means=torch.ones_like(splats.means),
    )
    write_splats(tmp_path / "a.sog", splats)
    read = read_splats(tmp_path / "a.sog")
    # all at one place: the order is kept
    torch.testing.assert_close(read.means, splats.means)
    assert float(read.scales[7].max()) < 1e-12 and float(read.opacities[39]) == 1 and float(read.opacities[0]) == 0
    assert not read.sh0.any() and not read.shN.any()
    keep = torch.arange(40) != 7
    torch.testing.assert_close(read.scales[keep], splats.scales[keep], rtol=1e-5, atol=0)


def test_far_values_keep_their_own_entries(tmp_path: Path) -> None:
    splats = random_splats(5000, 0)
    splats = replace(splats, scales=splats.scales.index_fill(0, torch.tensor([11]), 1e4))
    write_splats(tmp_path / "a.sog", splats)
    read = read_splats(tmp_path / "a.sog")
    assert float(read.scales.max()) == pytest.approx(1e4, rel=0.01)


def test_more_different_harmonics_than_a_palette_holds(tmp_path: Path) -> None:
    """One Gaussian of eight has to share, with one that is as near as random vectors get; the others are exact."""
    splats = random_splats(70_000, 1)
    write_splats(tmp_path / "a.sog", splats)
    read, splats = read_splats(tmp_path / "a.sog"), sorted_like_the_file(splats)
    error = (read.shN - splats.shN).square().mean().sqrt() / splats.shN.square().mean().sqrt()
    assert float(error) < 0.1
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        assert json.loads(archive.read("meta.json"))["shN"]["count"] <= 65536


def test_recipe_and_comments_travel_in_meta_json(tmp_path: Path) -> None:
    recipe = Recipe(mode="classic", eps2d=0.3, focal_px=200.0, width=100)
    splats = replace(random_splats(9, 0, recipe=recipe), comments=("Exported from X",))
    write_splats(tmp_path / "a.sog", splats)
    read = read_splats(tmp_path / "a.sog")
    assert read.recipe == recipe and read.comments == ("Exported from X",)
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        assert "model" not in json.loads(archive.read("meta.json"))


def test_losses_are_said(tmp_path: Path) -> None:
    splats = random_splats(9, 1)
    for extras, says in (
        ({}, []),
        ({"provenance": torch.zeros(9)}, ["a.sog: SOG can't hold extra properties (provenance)"]),
    ):
        listener = Told()
        write_splats(tmp_path / "a.sog", replace(splats, extras=extras), report=listener)  # type: ignore[arg-type]
        assert listener.messages == says


def test_refusals_leave_no_file(tmp_path: Path) -> None:
    splats = random_splats(9, 1)
    with pytest.raises(GaussianVAEError, match="1 to"):
        write_splats(tmp_path / "a.sog", splats.select(torch.arange(0)))
    with pytest.raises(GaussianVAEError, match="no finite"):
        write_splats(tmp_path / "a.sog", replace(splats, sh0=splats.sh0 * np.nan))
    write_splats(tmp_path / "a.sog", splats)
    with pytest.raises(GaussianVAEError, match="is an input"):
        write_splats(tmp_path / "a.sog", splats, [tmp_path / "a.sog"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.sog"]
