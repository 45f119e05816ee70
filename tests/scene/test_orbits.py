from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.cameras import project
from gaussianvae.scene.orbits import orbit, robust_extent
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
