"""Sensitivities against automatic differentiation of every pixel, and the kernel against the definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaussianvae.rasterize import Filter, rasterize
from gaussianvae.rasterize.reference import blend, pixel_centers, project, undecided_pixels
from gaussianvae.rasterize.sensitivity import sensitivity
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats
from scenes import random_splats, ring_cameras

FILTERS = [Filter("classic", 0.3), Filter("mip", 0.1)]


def close_up(size: int = 7, distance: float = 1.6) -> Cameras:
    """Views that cut through the scene: some Gaussians lie at and beyond the borders."""
    return ring_cameras(3, size, distance)


def few(count: int = 6, degree: int = 0) -> Splats:
    splats = random_splats(count, degree, seed=4).to(dtype=torch.float64)
    return replace(splats, scales=splats.scales * 4)


@pytest.mark.parametrize("filter", FILTERS, ids=lambda f: f.mode)
def test_block_is_the_gauss_newton_matrix_of_every_pixel(filter: Filter) -> None:
    splats, cameras = few(), close_up().to(dtype=torch.float64)

    def image(means: torch.Tensor, log_scales: torch.Tensor) -> torch.Tensor:
        return rasterize(
            means, splats.quats, log_scales.exp(), splats.opacities, splats.sh, cameras.viewmats[1], cameras.Ks[1],
            cameras.sizes[1], filter=filter, backend="reference",
        ).rgb.reshape(-1)  # fmt: skip

    by_mean, by_scale = torch.autograd.functional.jacobian(image, (splats.means, splats.scales.log()))
    jacobian = torch.cat([by_mean, by_scale], 2)
    expected = torch.einsum("pni,pnj->nij", jacobian, jacobian)
    got = sensitivity(splats, cameras, 1, filter=filter, backend="reference").block
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0


def test_speedy_is_the_squared_slope_by_projected_density() -> None:
    splats, cameras, filter = few(), close_up().to(dtype=torch.float64), FILTERS[1]
    seen = project(
        splats.means, splats.quats, splats.scales, splats.opacities, cameras.viewmats[0], cameras.Ks[0],
        cameras.sizes[0], filter,
    )  # fmt: skip
    pixels = pixel_centers(cameras.sizes[0], range(7), splats.means)
    start = blend(seen, pixels)
    colors = (splats.sh[seen.rows, 0] * 0.28209479177387814 + 0.5).clamp_min(0)

    def image(density: torch.Tensor) -> torch.Tensor:
        alpha = torch.where(start.alpha > 0, density, torch.zeros_like(density))
        through = torch.cumprod(1 - alpha, 0)
        before = torch.cat([torch.ones_like(through[:1]), through[:-1]])
        return torch.einsum("mp,mc->pc", alpha * before, colors)

    slopes = torch.autograd.functional.jacobian(image, start.raw)
    expected = torch.zeros(len(splats), dtype=torch.float64)
    expected[seen.rows] = torch.einsum("pcmp->pcm", slopes).square().sum((0, 1))
    got = sensitivity(splats, cameras, 0, filter=filter, backend="reference").speedy
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("filter", FILTERS, ids=lambda f: f.mode)
@pytest.mark.parametrize("count", [0, 1, 30, 300])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_kernel_agrees_with_the_definition(filter: Filter, count: int, threads: int) -> None:
    splats, cameras = random_splats(count, degree=2, seed=count), ring_cameras(2, 40, 2.0)
    args = splats.means, splats.quats, splats.scales, splats.opacities
    undecided = undecided_pixels(*args, cameras.viewmats[0], cameras.Ks[0], cameras.sizes[0], filter)
    own = sensitivity(splats, cameras, 0, filter=filter, threads=threads)
    truth = sensitivity(splats.to(dtype=torch.float64), cameras, 0, filter=filter, backend="reference")
    # a pixel that rounding decides moves its Gaussians' sums by about a pixel's share
    room = 1e-3 + 0.02 * float(undecided.float().sum() > 0)
    norm = truth.block.flatten(1).norm(dim=1)
    error = (own.block.double() - truth.block).flatten(1).norm(dim=1)
    assert bool((error <= room * norm + 1e-6 * norm.sum()).all())
    torch.testing.assert_close(own.speedy.double(), truth.speedy, rtol=room, atol=1e-4 * float(truth.speedy.sum()))
