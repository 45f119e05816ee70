""".splat files against bytes made by hand, what others write, and hostile ones."""

from __future__ import annotations

import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import read_splats, write_splats
from gaussianvae.formats.splat32 import losses
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import quats_to_rotmats
from gaussianvae.scene.splats import Splats
from scenes import random_splats

ROW = struct.pack("<6f", 1, -2, 3, 0.5, 0.25, 0) + bytes([255, 0, 51, 128]) + bytes([128, 0, 128, 128])


def read_bytes(data: bytes) -> Splats:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.splat").write_bytes(data)
        return read_splats(Path(folder) / "a.splat")


def written(splats: Splats) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_splats(Path(folder) / "a.splat", splats)
        return (Path(folder) / "a.splat").read_bytes()


def row_of_others(mean: list[float], scales: list[float], rgba: list[float], quat: list[float]) -> bytes:
    """As the first writer makes it: every byte truncated."""
    length = sum(value * value for value in quat) ** 0.5
    turns = [min(255, int(value / length * 128 + 128)) for value in quat]
    return struct.pack("<6f", *mean, *scales) + bytes([int(value * 255) for value in rgba] + turns)


def test_bytes_written_by_hand() -> None:
    splats = read_bytes(ROW)
    assert splats.means.tolist() == [[1, -2, 3]] and splats.scales.tolist() == [[0.5, 0.25, 0]]
    assert splats.quats.tolist() == [[0, -1, 0, 0]] and splats.opacities.tolist() == [pytest.approx(128 / 255)]
    torch.testing.assert_close(0.5 + C0 * splats.sh0[0, 0], torch.tensor([1, 0, 0.2]))
    assert splats.sh_degree == 0 and splats.recipe == Recipe()
    # written again they are the same bytes: no half turn is cut off at 127/128
    assert written(splats) == ROW


def test_what_others_write_is_off_by_a_step() -> None:
    splats = read_bytes(row_of_others([1, 2, 3], [0.1, 0.2, 0.3], [0.3, 0.6, 0.9, 0.45], [0.9, -0.1, 0.3, -0.2]))
    rgb = 0.5 + C0 * splats.sh0[0, 0]
    assert float((rgb - torch.tensor([0.3, 0.6, 0.9])).abs().max()) <= 1 / 255
    truth = torch.nn.functional.normalize(torch.tensor([0.9, -0.1, 0.3, -0.2]), dim=0)
    assert float((splats.quats[0] - truth).abs().max()) < 1.5 / 128


def test_a_quaternion_without_length_turns_nothing() -> None:
    assert read_bytes(ROW[:28] + bytes([128] * 4)).quats.tolist() == [[1, 0, 0, 0]]
    splats = replace(random_splats(1), quats=torch.zeros(1, 4))
    assert read_bytes(written(splats)).quats[0, 0].abs() == 1


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_round_trips_are_off_by_half_a_step_at_most(seed: int) -> None:
    splats = random_splats(50, 0, seed)
    splats = replace(splats, opacities=torch.rand(50), sh0=splats.sh0 * 2)
    back = read_bytes(written(splats))
    # viewers show what has arrived: the largest and most opaque first
    weight = splats.scales.double().prod(1) * splats.opacities
    truth = splats.select(torch.argsort(weight, descending=True))
    assert torch.equal(back.means, truth.means) and torch.equal(back.scales, truth.scales)
    assert float((back.opacities - truth.opacities).abs().max()) <= 0.5 / 255 + 1e-6
    rgb, rgb_back = (0.5 + C0 * each.sh0 for each in (truth, back))
    assert float((rgb.clamp(0, 1) - rgb_back).abs().max()) <= 0.5 / 255 + 1e-6
    near = torch.minimum((truth.quats - back.quats).norm(dim=1), (truth.quats + back.quats).norm(dim=1))
    # half a step in four components at most, of 1/128 each
    assert float(near.max()) <= 1 / 128 + 1e-3


def test_losses_are_those_that_the_splat_has() -> None:
    plain = replace(random_splats(5, 0), recipe=Recipe())
    plain = replace(plain, sh0=plain.sh0.clamp(-1.7, 1.7))
    assert losses(plain) == []
    rich = replace(random_splats(5, 1), comments=("c",), extras={"a": torch.zeros(5), "b": torch.zeros(5)})
    rich = replace(rich, sh0=torch.tensor([0.0, 0, 2, -2, 1.7])[:, None, None].expand(5, 1, 3))
    assert losses(rich) == [
        "the spherical harmonics",
        "the recipe of its training",
        "comments",
        "extra properties (a, b)",
        "colors outside 0-1 (2 of 5 Gaussians)",
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (ROW[:31], "31 bytes"),
        (ROW + ROW[:1], "33 bytes"),
        (ROW + struct.pack("<f", np.nan) + ROW[4:], "means.*row 1"),
        (ROW + struct.pack("<f", -np.inf) + ROW[4:], "means.*row 1"),
        (ROW[:12] + struct.pack("<f", np.inf) + ROW[16:], "scales.*row 0"),
        (ROW[:20] + struct.pack("<f", -0.1) + ROW[24:], "negative scales.*row 0"),
    ],
)
def test_broken_files_are_one_clear_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.splat").write_bytes(data)
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_splats(tmp_path / "a.splat")
    assert "\n" not in str(caught.value)


def test_what_makes_no_file_is_refused(tmp_path: Path) -> None:
    splats = random_splats(3)
    with pytest.raises(GaussianVAEError, match="no Gaussians"):
        write_splats(tmp_path / "a.splat", splats.select(torch.zeros(0, dtype=torch.long)))
    with pytest.raises(GaussianVAEError, match="scales"):
        write_splats(tmp_path / "a.splat", replace(splats, scales=splats.scales * float("inf")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("plant", 113_648), ("spot_10k", 10_000)])
def test_real_scenes(data: Path, tmp_path: Path, name: str, count: int) -> None:
    splats = read_splats(data / "splats" / f"{name}.splat")
    assert len(splats) == count
    torch.testing.assert_close(splats.quats.norm(dim=1), torch.ones(count))
    # nothing is lost a second time: colors, opacities, places and sizes are those that were read
    write_splats(tmp_path / "a.splat", splats)
    again = read_splats(tmp_path / "a.splat")
    for field in ("means", "scales", "opacities", "sh0"):
        values, values_again = (getattr(each, field).reshape(count, -1).numpy() for each in (splats, again))
        np.testing.assert_array_equal(np.unique(values_again, axis=0), np.unique(values, axis=0))


@pytest.mark.real
def test_gaussians_lie_flat_on_the_surface_that_they_make(data: Path) -> None:
    """A splat made from a mesh: its thin axes are the normals of the cloud of its centers, if wxyz is understood."""
    from scipy.spatial import cKDTree

    splats = read_splats(data / "splats" / "spot_10k.splat")
    assert bool((splats.opacities == 1).all())
    _, near = cKDTree(splats.means.numpy()).query(splats.means.numpy(), 12)
    patches = splats.means[torch.from_numpy(near)]
    patches = patches - patches.mean(1, keepdim=True)
    normals = torch.linalg.eigh(patches.transpose(1, 2) @ patches).eigenvectors[:, :, 0]
    axes = quats_to_rotmats(splats.quats)
    thin = axes[torch.arange(len(splats)), :, splats.scales.argmin(1)]
    assert float((thin * normals).sum(1).abs().median()) > 0.99
