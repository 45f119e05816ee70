from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import Silent
from gaussianvae.scene.cameras import footprints, project
from gaussianvae.scene.orbits import TYPICAL_SIZE_PX, estimate_cameras, orbit, robust_extent
from gaussianvae.scene.recipe import Recipe
from scenes import random_splats


@given(
    st.integers(1, 7),
    st.floats(-80, 80),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1)).filter(lambda up: sum(x * x for x in up) > 0.1),
)
@settings(max_examples=30, deadline=None)
def test_every_camera_is_rigid_upright_and_looks_at_the_center(
    count: int, elevation: float, up: tuple[float, float, float]
) -> None:
    splats = random_splats(120)
    cameras = orbit(splats, count, 64, elevation, up)
    center, _ = robust_extent(splats.means)
    rotation = cameras.viewmats[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(count, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(count), atol=1e-5, rtol=0)
    upward = torch.tensor(up) / torch.tensor(up).norm()
    # the world's up lies in the picture's vertical plane and points to smaller rows
    assert (rotation[:, 0] @ upward).abs().max() < 1e-4
    assert (rotation[:, 1] @ upward).max() < 0
    sines = (cameras.positions - center) @ upward / (cameras.positions - center).norm(dim=1)
    expected = torch.full((count,), math.sin(math.radians(elevation)))
    torch.testing.assert_close(sines, expected, atol=1e-4, rtol=0)
    for view in range(count):
        pixel, depth = project(cameras, view, center[None])
        torch.testing.assert_close(pixel, torch.full((1, 2), 32.0), atol=1e-2, rtol=0)
        assert depth > 0


def test_far_outliers_don_t_move_the_orbit_much() -> None:
    splats = random_splats(400)
    means = splats.means.clone()
    means[:8] = 1e4
    center, radius = robust_extent(splats.means)
    moved, grown = robust_extent(means)
    assert (moved - center).norm() < 0.1 * radius
    assert grown < 1.3 * radius


def test_what_an_orbit_refuses() -> None:
    splats = random_splats(120)
    with pytest.raises(GaussianVAEError, match="no Gaussians"):
        orbit(splats.select(torch.zeros(0, dtype=torch.long)), 3, 64)
    for count, size in [(0, 64), (3, 0)]:
        with pytest.raises(GaussianVAEError, match="at least 1"):
            orbit(splats, count, size)
    with pytest.raises(GaussianVAEError, match="elevation"):
        orbit(splats, 3, 64, elevation=90.0)
    with pytest.raises(GaussianVAEError, match="upward"):
        orbit(splats, 3, 64, up=(0.0, 0.0, 0.0))


class Listener(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def message(self, text: str) -> None:
        self.notes.append(text)


def test_estimated_cameras_see_typical_gaussians_at_the_typical_size_in_any_unit() -> None:
    splats = replace(random_splats(500), recipe=Recipe())
    for unit in (1.0, 100.0):
        grown = replace(splats, means=unit * splats.means, scales=unit * splats.scales)
        phi = footprints(estimate_cameras(grown), grown.means).median()
        least = grown.scales.amin(1).quantile(0.75)
        # phi is that of the nearest camera: somewhat less than at the center, where the estimate is made
        assert 0.8 * TYPICAL_SIZE_PX < least / phi < 1.6 * TYPICAL_SIZE_PX


def test_what_is_known_of_the_width_is_not_estimated() -> None:
    listener = Listener()
    splats = replace(random_splats(50), recipe=Recipe(width=77))
    assert set(estimate_cameras(splats, report=listener).sizes) == {(77, 77)}
    assert set(estimate_cameras(splats, 55, listener).sizes) == {(55, 55)}
    assert len(estimate_cameras(replace(splats, recipe=Recipe()), report=listener)) >= 12
    assert [note.rsplit("(")[1][:5] for note in listener.notes] == ["remem", "given", "estim"]
    with pytest.raises(GaussianVAEError, match="at least 1"):
        estimate_cameras(splats, 0)
    with pytest.raises(GaussianVAEError, match="no Gaussians"):
        estimate_cameras(replace(splats, recipe=Recipe()).select(torch.arange(0)))
