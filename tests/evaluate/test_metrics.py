from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.evaluate.metrics import depth_error, lr_consistency, psnr, ssim, truth_diagonal, visible_points
from gaussianvae.scene.cameras import project
from gaussianvae.scene.imaging import reduce_image
from gaussianvae.scene.orbits import orbit
from scenes import random_splats


def images(seed: int, height: int = 13, width: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(height, width, 3, generator=generator)
    return a, (a + 0.2 * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)


def direct_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Every window summed by hand in float64; outside the image is zero, weights aren't renormalized."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    height, width, channels = a.shape
    total = 0.0
    for channel in range(channels):
        x = np.pad(a[..., channel], 5)
        y = np.pad(b[..., channel], 5)
        for row in range(height):
            for column in range(width):
                u = x[row : row + 11, column : column + 11]
                v = y[row : row + 11, column : column + 11]
                mu, mv = (weights * u).sum(), (weights * v).sum()
                su, sv = (weights * u * u).sum() - mu**2, (weights * v * v).sum() - mv**2
                suv = (weights * u * v).sum() - mu * mv
                top = (2 * mu * mv + 0.0001) * (2 * suv + 0.0009)
                total += top / ((mu**2 + mv**2 + 0.0001) * (su + sv + 0.0009))
    return total / (height * width * channels)


@pytest.mark.parametrize("size", [(13, 17), (1, 1), (3, 30)])
def test_ssim_agrees_with_a_direct_sum(size: tuple[int, int]) -> None:
    a, b = images(1, *size)
    assert ssim(a, b) == pytest.approx(direct_ssim(a.double().numpy(), b.double().numpy()), abs=2e-6)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_ssim_is_symmetric_bounded_and_one_only_for_equals(seed: int) -> None:
    a, b = images(seed)
    assert ssim(a, a) == pytest.approx(1, abs=1e-5)
    assert ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-6)
    assert -1 <= ssim(a, b) < 0.9999
    assert ssim(a.flip(1), b.flip(1)) == pytest.approx(ssim(a, b), abs=1e-5)


def test_renders_are_clamped_before_they_are_compared() -> None:
    a, b = images(2)
    outside = torch.where(b == 1, b + 3, torch.where(b == 0, b - 3, b))
    assert ssim(outside, a) == pytest.approx(ssim(b, a), abs=1e-6)
    assert psnr(outside, a) == psnr(b, a)


def test_lr_consistency_of_the_truth_is_infinite_and_falls_with_an_offset() -> None:
    fine = torch.rand(16, 24, 3, generator=torch.Generator().manual_seed(3)) * 0.8
    coarse = reduce_image(fine, (6, 4))
    assert lr_consistency(fine, coarse) == math.inf
    assert lr_consistency(fine + 0.1, coarse) == pytest.approx(20, abs=1e-3)
    # detail that averages out is free
    checker = 0.05 * (-1.0) ** (torch.arange(16)[:, None] + torch.arange(24)[None])
    assert lr_consistency(fine + 0.1 + checker[..., None], coarse) == pytest.approx(20, abs=1e-2)


def test_depth_error_counts_only_covered_pixels_of_finite_truth() -> None:
    truth = torch.tensor([[2.0, 2.0, math.inf, 2.0]])
    depth = torch.tensor([[2.5, 9.0, 1.0, 1.5]])
    alpha = torch.tensor([[0.9, 0.4, 1.0, 0.51]])
    assert depth_error(depth, alpha, truth, 4.0) == pytest.approx(0.125)
    assert depth_error(depth, torch.zeros(1, 4), truth, 4.0) is None


def test_visible_points_project_back_to_pixel_centers() -> None:
    cameras = orbit(random_splats(120), 3, 8, elevation=33.0)
    depth = 1 + torch.rand(8, 8, generator=torch.Generator().manual_seed(4))
    depth[2, 3] = math.inf
    points, hit = visible_points(cameras, 1, depth)
    pixels, depths = project(cameras, 1, points)
    rows, columns = torch.nonzero(hit).unbind(1)
    torch.testing.assert_close(pixels, torch.stack([columns + 0.5, rows + 0.5], 1), atol=1e-3, rtol=0)
    torch.testing.assert_close(depths, depth[hit])
    assert not hit[2, 3] and len(points) == 63


def test_truth_diagonal_is_that_of_the_seen_points_and_zero_of_nothing() -> None:
    cameras = orbit(random_splats(120), 2, 8)
    depths = torch.full((2, 8, 8), math.inf)
    assert truth_diagonal(cameras, depths) == 0
    depths[0, 0, 0], depths[1, 7, 7] = 2.0, 3.0
    ends = [visible_points(cameras, view, depths[view])[0][0] for view in (0, 1)]
    assert truth_diagonal(cameras, depths) == pytest.approx(float((ends[0] - ends[1]).norm()), rel=1e-5)
