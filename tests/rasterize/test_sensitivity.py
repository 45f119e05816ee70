"""Sensitivities against automatic differentiation of every pixel, the kernel against the definition, and laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.rasterize import Filter, rasterize
from gaussianvae.rasterize.cpu import frame
from gaussianvae.rasterize.reference import ALPHA_MAX, ALPHA_MIN, T_MIN, blend, pixel_centers, project, view_colors
from gaussianvae.rasterize.sensitivity import ViewSensitivity, sensitivity
from gaussianvae.rasterize.slopes import POWERS, log_alpha_slopes
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.rotations import quats_to_rotmats, random_quats
from gaussianvae.scene.splats import Splats, transform
from scenes import random_splats, ring_cameras

FILTERS = [Filter("classic", 0.3), Filter("mip", 0.1)]
both_filters = pytest.mark.parametrize("filter", FILTERS, ids=lambda f: f.mode)
BACKGROUND = (0.2, 0.5, 0.9)


def close_up(size: int = 7, distance: float = 1.6) -> Cameras:
    """Views that cut through the scene: some Gaussians lie at and beyond the borders."""
    return ring_cameras(3, size, distance).to(dtype=torch.float64)


def few(count: int = 6, degree: int = 0, seed: int = 4) -> Splats:
    splats = random_splats(count, degree, seed).to(dtype=torch.float64)
    return replace(splats, scales=splats.scales * 4)


def autograd_block(splats: Splats, cameras: Cameras, view: int, filter: Filter) -> Tensor:
    """J^T J by differentiating every channel of every pixel, colors fixed."""
    viewmat, K, size = cameras.viewmats[view], cameras.Ks[view], cameras.sizes[view]
    colors = view_colors(splats.means, splats.sh, viewmat, torch.arange(len(splats)))
    sh0 = (colors - 0.5)[:, None] / 0.28209479177387814

    def image(means: Tensor, log_scales: Tensor) -> Tensor:
        return rasterize(
            means, splats.quats, log_scales.exp(), splats.opacities, sh0, viewmat, K, size, filter=filter,
            background=BACKGROUND, backend="reference",
        ).rgb.reshape(-1)  # fmt: skip

    jacobian = torch.cat(torch.autograd.functional.jacobian(image, (splats.means, splats.scales.log())), 2)
    return torch.einsum("pni,pnj->nij", jacobian, jacobian)


@both_filters
@pytest.mark.parametrize("view", [0, 1, 2])
@pytest.mark.parametrize("distance", [2.5, 1.6, 0.8])
def test_block_is_the_gauss_newton_matrix_of_every_pixel(filter: Filter, view: int, distance: float) -> None:
    splats, cameras = few(8, degree=2, seed=view), close_up(distance=distance)
    expected = autograd_block(splats, cameras, view, filter)
    got = sensitivity(splats, cameras, view, filter=filter, background=BACKGROUND, backend="reference").block
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-10 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0


@both_filters
def test_block_where_the_jacobian_is_clamped(filter: Filter) -> None:
    """Centers outside of the image by more than 15 % of it, on either side and axis, and one beyond both borders."""
    K = torch.tensor([[[6.0, 0, 3.5], [0, 7.0, 3.2], [0, 0, 1]]], dtype=torch.float64)
    cameras = Cameras(torch.eye(4, dtype=torch.float64)[None], K, ((7, 7),))
    splats = few(5)
    means = [[1.8, 0.1, 2.0], [-1.9, -0.2, 2.1], [0.3, 1.7, 2.2], [0.1, -1.8, 2.3], [2.0, 2.0, 2.4]]
    splats = replace(splats, means=torch.tensor(means).double(), scales=splats.scales + 0.7)
    expected = autograd_block(splats, cameras, 0, filter)
    assert (expected.flatten(1).norm(dim=1) > 0).all()
    got = sensitivity(splats, cameras, 0, filter=filter, background=BACKGROUND, backend="reference").block
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-10 * float(expected.abs().max()))


@both_filters
def test_clamped_and_hidden_pixels_count_for_nothing(filter: Filter) -> None:
    """Opaque Gaussians: alpha stands at 0.999 around their centers, and others lie behind the stop."""
    splats, cameras = few(12, seed=2), close_up(9)
    # opacities over 1, which no splat has, make the clamped area large
    splats = replace(splats, opacities=torch.full((12,), 1.5).double(), scales=splats.scales * 3)
    seen = project(
        splats.means, splats.quats, splats.scales, splats.opacities, cameras.viewmats[0], cameras.Ks[0], (9, 9), filter
    )
    part = blend(seen, pixel_centers((9, 9), range(9), splats.means))
    assert (part.raw > ALPHA_MAX).any() and (part.after < T_MIN).any()
    expected = autograd_block(splats, cameras, 0, filter)
    got = sensitivity(splats, cameras, 0, filter=filter, background=BACKGROUND, backend="reference").block
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-10 * float(expected.abs().max()))


@both_filters
def test_slopes_are_those_of_the_logarithm_of_alpha(filter: Filter) -> None:
    splats, cameras = few(10, seed=1), close_up(distance=3.0)
    flat = replace(splats, scales=splats.scales * torch.tensor([3.0, 1.0, 1e-4]).double())  # discs
    for one in (splats, flat):
        columns = log_alpha_slopes(one.means, one.quats, one.scales, cameras.viewmats[0], cameras.Ks[0], (7, 7), filter)
        P = torch.stack(
            [torch.stack([torch.zeros(10).double() if e is None else e for e in column], 1) for column in columns], 2
        )
        pixel = torch.tensor([[2.3, 4.1]], dtype=torch.float64)

        def log_alpha(means: Tensor, log_scales: Tensor, one: Splats = one, pixel: Tensor = pixel) -> Tensor:
            seen = project(
                means, one.quats, log_scales.exp(), one.opacities, cameras.viewmats[0], cameras.Ks[0], (7, 7), filter
            )
            dx, dy = (pixel - seen.means2d).unbind(1)
            a, b, c = seen.sigma[:, 0, 0], seen.sigma[:, 0, 1], seen.sigma[:, 1, 1]
            value = seen.opacities.log() - 0.5 * (c * dx * dx - 2 * b * dx * dy + a * dy * dy) / seen.det
            return torch.zeros_like(value).index_copy(0, seen.rows, value)

        jacobian = torch.cat(torch.autograd.functional.jacobian(log_alpha, (one.means, one.scales.log())), 2)
        own = torch.stack([jacobian[i, i] for i in range(10)])
        seen = project(
            one.means, one.quats, one.scales, one.opacities, cameras.viewmats[0], cameras.Ks[0], (7, 7), filter
        )
        offset = torch.zeros(10, 2, dtype=torch.float64).index_copy(0, seen.rows, pixel - seen.means2d)
        sigma = torch.zeros(10, 2, 2, dtype=torch.float64).index_copy(0, seen.rows, seen.sigma)
        u = offset[:, 0] / sigma[:, 0, 0].sqrt()
        slope = sigma[:, 0, 1] / sigma[:, 0, 0]
        v = (offset[:, 1] - slope * offset[:, 0]) / (sigma[:, 1, 1] - slope * sigma[:, 0, 1]).sqrt()
        b = torch.stack([u**i * v**j for i, j in POWERS], 1)
        torch.testing.assert_close(torch.einsum("nk,nkj->nj", b, P), own, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("opacity", [1.0, 3.0])
def test_speedy_is_the_squared_slope_by_projected_density(opacity: float) -> None:
    splats, cameras, filter = few(), close_up(), FILTERS[1]
    splats = replace(splats, opacities=splats.opacities * opacity)
    seen = project(
        splats.means, splats.quats, splats.scales, splats.opacities, cameras.viewmats[0], cameras.Ks[0],
        cameras.sizes[0], filter,
    )  # fmt: skip
    pixels = pixel_centers(cameras.sizes[0], range(7), splats.means)
    start = blend(seen, pixels)
    colors = (splats.sh[seen.rows, 0] * 0.28209479177387814 + 0.5).clamp_min(0)

    def image(density: Tensor) -> Tensor:
        alpha = torch.where(start.alpha > 0, density.clamp_max(ALPHA_MAX), torch.zeros_like(density))
        through = torch.cumprod(1 - alpha, 0)
        before = torch.cat([torch.ones_like(through[:1]), through[:-1]])
        return torch.einsum("mp,mc->pc", alpha * before, colors)

    slopes = torch.autograd.functional.jacobian(image, start.raw)
    expected = torch.zeros(len(splats), dtype=torch.float64)
    expected[seen.rows] = torch.einsum("pcmp->pcm", slopes).square().sum((0, 1))
    got = sensitivity(splats, cameras, 0, filter=filter, backend="reference").speedy
    torch.testing.assert_close(got, expected)


def decided(splats: Splats, cameras: Cameras, filter: Filter) -> Tensor:
    """Gaussians that count at no pixel where float32 may decide otherwise."""
    size, truth = cameras.sizes[0], splats.to(dtype=torch.float64)
    seen = project(
        truth.means, truth.quats, truth.scales, truth.opacities, cameras.viewmats[0], cameras.Ks[0], size, filter
    )
    part = blend(seen, pixel_centers(size, range(size[1]), truth.means))
    near = ((part.raw / ALPHA_MIN - 1).abs() < 2e-4) | ((part.raw / ALPHA_MAX - 1).abs() < 1e-5)
    near = (near | ((part.after / T_MIN - 1).abs() < 1e-3)).any(0)
    out = torch.ones(len(splats), dtype=torch.bool)
    out[seen.rows] = ~((part.raw > 0.99 * ALPHA_MIN) & near).any(1)
    return out


def shaped(count: int, factors: tuple[float, float, float], opacity: float | None = None) -> Splats:
    splats = random_splats(count, degree=2, seed=count)
    splats = replace(splats, scales=splats.scales * torch.tensor(factors))
    return splats if opacity is None else replace(splats, opacities=torch.full((count,), opacity))


SCENES = {
    "none": (shaped(0, (1, 1, 1)), 2.0),
    "one": (shaped(1, (1, 1, 1)), 2.0),
    "30": (shaped(30, (1, 1, 1)), 2.0),
    "300": (shaped(300, (1, 1, 1)), 2.0),
    "tiny": (shaped(300, (0.05, 0.05, 0.05)), 2.0),
    "giant": (shaped(20, (20, 20, 20), 0.2), 2.0),
    "needles": (shaped(100, (10, 0.01, 0.01)), 2.0),
    "discs": (shaped(100, (2, 2, 1e-4)), 2.0),
    "opaque": (shaped(200, (2, 2, 2), 0.995), 2.0),
    "clamped": (shaped(6, (3, 3, 3), 2.0), 2.0),  # opacities over 1, which no splat has, make the clamped area large
    "from inside": (shaped(200, (1, 1, 1)), 0.3),
}


@both_filters
@pytest.mark.parametrize("name", SCENES)
def test_the_kernel_agrees_with_the_definition(filter: Filter, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "SLAB", 70)
    splats, distance = SCENES[name]
    cameras = ring_cameras(2, 40, distance)
    truth = sensitivity(
        splats.to(dtype=torch.float64), cameras, 0, filter=filter, background=BACKGROUND, backend="reference"
    )
    norm, clear = truth.block.flatten(1).norm(dim=1), decided(splats, cameras, filter)
    assert int(clear.sum()) >= 0.3 * len(splats)
    for threads in (1, 2):
        own = sensitivity(splats, cameras, 0, filter=filter, background=BACKGROUND, threads=threads)
        error = (own.block.double() - truth.block).flatten(1).norm(dim=1)
        assert bool((error <= 1e-3 * norm + 1e-6 * norm.sum())[clear].all())
        assert float(error.sum()) <= 0.02 * float(norm.sum())  # where rounding decides, too
        torch.testing.assert_close(
            own.speedy.double()[clear], truth.speedy[clear], rtol=1e-3, atol=1e-6 * float(truth.speedy.sum())
        )
        assert torch.equal(own.speedy > 0, own.block.flatten(1).any(1))


@given(seed=st.integers(0, 99), scale=st.floats(0.3, 3.0))
@settings(max_examples=10)
def test_blocks_turn_and_scale_with_the_world(seed: int, scale: float) -> None:
    """J^T J by a mean in other units and axes: G^T block G, G = (turn / scale for the mean, 1 for log-scales)."""
    splats, cameras, g = few(10, 1, seed), close_up(distance=2.5), torch.Generator().manual_seed(seed)
    turn = quats_to_rotmats(random_quats(1, g).double())[0]
    shift = torch.randn(3, generator=g).double()
    viewmats = cameras.viewmats.clone()
    viewmats[:, :3, :3] = cameras.viewmats[:, :3, :3] @ turn.T
    viewmats[:, :3, 3] = scale * cameras.viewmats[:, :3, 3] - viewmats[:, :3, :3] @ shift
    # float32 rotations of the cameras: colors would turn by 1e-8
    flat = replace(splats, shN=torch.zeros_like(splats.shN))
    there = sensitivity(transform(flat, turn, shift, scale), replace(cameras, viewmats=viewmats), 0, filter=FILTERS[1])
    here = sensitivity(flat, cameras, 0, filter=FILTERS[1])
    change = torch.eye(6, dtype=torch.float64)
    change[:3, :3] = turn.T / scale
    torch.testing.assert_close(there.speedy, here.speedy, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(there.block, change.T @ here.block @ change, rtol=1e-6, atol=1e-8)


@both_filters
def test_blocks_are_positive_and_nothing_unseen_has_one(filter: Filter) -> None:
    splats, cameras = random_splats(200, 1, 3), ring_cameras(2, 32)
    hidden = replace(splats, means=splats.means + torch.tensor([40.0, 0, 0]))
    away: ViewSensitivity = sensitivity(hidden, cameras, 0, filter=filter)
    assert not away.speedy.any() and not away.block.any()
    seen = sensitivity(splats, cameras, 0, filter=filter)
    assert torch.equal(seen.block, seen.block.transpose(1, 2))
    smallest, largest = torch.linalg.eigvalsh(seen.block.double())[:, [0, 5]].unbind(1)
    assert bool((smallest >= -1e-5 * largest).all()) and bool((seen.speedy >= 0).all()) and bool(largest.any())


@both_filters
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("axes", [slice(0, 1), slice(0, 2), slice(0, 3)], ids=["disc", "needle", "point"])
def test_scales_and_opacities_of_zero_stay_finite(filter: Filter, backend: str, axes: slice) -> None:
    splats = random_splats(20, 0, 1)
    splats.scales[:, axes] = 0
    splats.opacities[::3] = 0
    got = sensitivity(splats, ring_cameras(1, 24), 0, filter=filter, backend=backend)  # type: ignore[arg-type]
    assert got.block.isfinite().all() and got.speedy.isfinite().all()
    assert not got.speedy[::3].any()


def test_unknown_back_ends_are_refused() -> None:
    with pytest.raises(GaussianVAEError, match="unknown back end"):
        sensitivity(few(), close_up(), 0, filter=FILTERS[0], backend="gpu")  # type: ignore[arg-type]
