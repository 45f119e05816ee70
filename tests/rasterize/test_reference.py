"""The definition of a render against finite differences, closed forms, and laws of moving the world."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gaussianvae.rasterize import Filter, Rendering
from gaussianvae.rasterize import reference as module
from gaussianvae.rasterize.reference import ALPHA_MAX, ALPHA_MIN, T_MIN, rasterize_reference, undecided_pixels
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.rotations import quats_to_rotmats, random_quats
from gaussianvae.scene.splats import Splats, transform
from scenes import random_splats, ring_cameras

FILTERS = [Filter("classic", 0.3), Filter("mip", 0.1)]
both_filters = pytest.mark.parametrize("filter", FILTERS, ids=lambda f: f.mode)
BACKGROUND = (0.2, 0.5, 0.9)


def tensors(splats: Splats) -> list[Tensor]:
    return [t.double() for t in (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh)]


def camera(size: int, view: int = 0, distance: float = 3.0) -> tuple[Tensor, Tensor, tuple[int, int]]:
    cameras = ring_cameras(3, size, distance).to(dtype=torch.float64)
    viewmat = cameras.viewmats[view]
    left, _, right = torch.linalg.svd(viewmat[:3, :3])  # a rotation to all digits
    viewmat[:3, :3] = left @ right
    return viewmat, cameras.Ks[view], cameras.sizes[view]


def straight(width: int, height: int, focal: float) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """A camera at the origin that looks along +z, its axis through the middle of the image."""
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return torch.eye(4, dtype=torch.float64), K, (width, height)


def balls(depths: list[float], scale: float, opacities: list[float], colors: Tensor) -> list[Tensor]:
    """Isotropic Gaussians on the axis of `straight`."""
    n = len(depths)
    means = torch.zeros(n, 3, dtype=torch.float64)
    means[:, 2] = torch.tensor(depths, dtype=torch.float64)
    quats = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).repeat(n, 1)
    return [
        means, quats, torch.full((n, 3), scale, dtype=torch.float64), torch.tensor(opacities, dtype=torch.float64),
        ((colors.double() - 0.5) / C0)[:, None],
    ]  # fmt: skip


def smooth(count: int, degree: int, seed: int) -> list[Tensor]:
    """Gaussians so wide and thin that every one counts at every pixel: no decision is near."""
    inputs = tensors(random_splats(count, degree, seed))
    inputs[1] = inputs[1] * 1.7  # quaternions of any length
    inputs[0] = inputs[0] * 0.6
    inputs[2] = inputs[2] * 12 + 0.25
    inputs[3] = inputs[3] * 0.5 + 0.1
    return inputs


@both_filters
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_finite_differences(filter: Filter, seed: int) -> None:
    inputs, view = smooth(3, 2, seed), camera(4, seed)
    seen = module.project(*inputs[:4], *view, filter)
    part = module.blend(seen, module.pixel_centers(view[2], range(4), inputs[0]))
    assert len(seen.rows) == 3 and float(part.raw.min()) > 1.5 * ALPHA_MIN
    assert float(part.raw.max()) < 0.95 and float(part.after.min()) > 2 * T_MIN

    def images(*values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rendering = rasterize_reference(*values, *view, filter=filter, background=BACKGROUND)
        return rendering.rgb, rendering.alpha, rendering.depth

    assert torch.autograd.gradcheck(images, [t.requires_grad_() for t in inputs], eps=1e-6, atol=1e-6, rtol=1e-5)


@both_filters
def test_gradients_where_the_jacobian_is_clamped(filter: Filter) -> None:
    inputs, view = smooth(2, 0, 3), straight(4, 4, 4.0)
    # x / z = 0.9 and y / z = -1.1, the clamp is at 0.5 + 0.15
    inputs[0] = torch.tensor([[1.8, 0.1, 2.0], [-0.2, -2.6, 2.3]], dtype=torch.float64)
    inputs[2] = torch.tensor([[1.3, 1.0, 0.8], [0.9, 1.2, 1.5]], dtype=torch.float64)

    def image(*values: Tensor) -> Tensor:
        return rasterize_reference(*values, *view, filter=filter).rgb

    part = module.blend(module.project(*inputs[:4], *view, filter), module.pixel_centers((4, 4), range(4), inputs[0]))
    assert ((part.raw / ALPHA_MIN - 1).abs() > 1e-3).all() and (part.alpha > 0).any(1).all()
    assert torch.autograd.gradcheck(image, [t.requires_grad_() for t in inputs], eps=1e-6, atol=1e-6, rtol=1e-5)


@both_filters
def test_one_ball_is_a_gaussian_with_its_mass(filter: Filter) -> None:
    focal, depth, scale, opacity, size = 50.0, 2.0, 0.16, 0.8, 61
    view, color = straight(size, size, focal), torch.tensor([[0.7, 0.1, 0.4]])
    rendering = rasterize_reference(*balls([depth], scale, [opacity], color), *view, filter=filter)
    bare = (focal * scale / depth) ** 2
    variance = bare + filter.eps2d
    peak = opacity * (bare / variance if filter.mode == "mip" else 1.0)
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) + 0.5 - size / 2] * 2, indexing="ij")
    expected = peak * torch.exp(-0.5 * (x * x + y * y) / variance)
    expected[expected < ALPHA_MIN] = 0
    torch.testing.assert_close(rendering.alpha, expected)
    torch.testing.assert_close(rendering.rgb, expected[..., None] * color[0].double())
    torch.testing.assert_close(rendering.depth[expected > 0], torch.full_like(expected[expected > 0], depth))
    # the plane's integral of a Gaussian cut off where it falls under 1/255
    mass = 2 * math.pi * variance * (peak - ALPHA_MIN)
    assert float(rendering.alpha.sum()) == pytest.approx(mass, rel=2e-3)


def test_layers_cover_one_another_front_to_back() -> None:
    view, colors = straight(3, 3, 1.0), torch.tensor([[0.1, 0.3, 0.9], [1.0, 0.6, 0.2]])
    walls = balls([4.0, 2.0], 1e4, [0.6, 0.5], colors)  # the far one comes first in the list
    rendering = rasterize_reference(*walls, *view, filter=FILTERS[0], background=BACKGROUND)
    rgb = 0.5 * colors[1] + 0.5 * 0.6 * colors[0] + 0.2 * torch.tensor(BACKGROUND)
    torch.testing.assert_close(rendering.rgb, rgb.double().expand(3, 3, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(rendering.alpha, torch.full((3, 3), 0.8).double(), rtol=0, atol=1e-6)
    expected_depth = (0.5 * 2 + 0.3 * 4) / 0.8
    torch.testing.assert_close(rendering.depth, torch.full((3, 3), expected_depth).double(), rtol=0, atol=1e-5)


def test_an_opaque_layer_stops_at_0_999_and_ends_the_pixel() -> None:
    view, colors = straight(3, 3, 1.0), torch.tensor([[0.1, 0.3, 0.9], [1.0, 0.6, 0.2]])
    walls = balls([2.0, 4.0], 1e4, [1.0, 1.0], colors)
    rendering = rasterize_reference(*walls, *view, filter=FILTERS[0], background=BACKGROUND)
    # the second would bring the transmittance from 1e-3 to 1e-6: it is left out whole
    rgb = ALPHA_MAX * colors[0] + (1 - ALPHA_MAX) * torch.tensor(BACKGROUND)
    torch.testing.assert_close(rendering.rgb, rgb.double().expand(3, 3, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(rendering.alpha, torch.full((3, 3), ALPHA_MAX).double())


def test_what_ends_a_pixel_ends_it_for_all_behind() -> None:
    """After an opaque Gaussian that would pass the stop, even a faint one that would not is left out."""
    view, colors = straight(1, 1, 1.0), torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    walls = balls([1.0, 2.0, 3.0], 1e4, [1.0, 1.0, 0.05], colors)
    rgb = rasterize_reference(*walls, *view, filter=FILTERS[0]).rgb[0, 0]
    torch.testing.assert_close(rgb, torch.tensor([ALPHA_MAX, 0, 0], dtype=torch.float64), rtol=0, atol=1e-6)


def test_nothing_shows_the_background_and_takes_gradients() -> None:
    inputs = [t.requires_grad_() for t in tensors(random_splats(0))]
    grad2d = torch.zeros(0, 4, dtype=torch.float64)
    rendering = rasterize_reference(
        *inputs, *camera(5), filter=FILTERS[1], background=torch.tensor(BACKGROUND), means2d_grad=grad2d
    )
    torch.testing.assert_close(rendering.rgb, torch.tensor(BACKGROUND).double().expand(5, 5, 3))
    assert not rendering.alpha.any() and not rendering.depth.any()
    rendering.rgb.sum().backward()


def test_what_lies_behind_or_too_near_is_not_seen() -> None:
    view, colors = straight(3, 3, 1.0), torch.ones(3, 3)
    rendering = rasterize_reference(*balls([-2.0, 0.0, 0.0099], 1.0, [0.9] * 3, colors), *view, filter=FILTERS[0])
    assert not rendering.alpha.any()


def same(a: Rendering, b: Rendering, scale: float = 1.0) -> None:
    torch.testing.assert_close(a.rgb, b.rgb, rtol=0, atol=1e-9)
    torch.testing.assert_close(a.alpha, b.alpha, rtol=0, atol=1e-9)
    torch.testing.assert_close(a.depth, b.depth * scale, rtol=1e-7, atol=1e-9)


@both_filters
@given(seed=st.integers(0, 999), scale=st.floats(0.2, 5.0), degree=st.integers(0, 3))
@settings(max_examples=15)
def test_moving_turning_and_scaling_the_world_with_its_camera_changes_nothing(
    filter: Filter, seed: int, scale: float, degree: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    splats = random_splats(25, degree, seed).to(dtype=torch.float64)
    turn, shift = quats_to_rotmats(random_quats(1, g).double())[0], torch.randn(3, generator=g).double() * 2
    viewmat, K, size = camera(12, seed % 3)
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, :3] = viewmat[:3, :3] @ turn.T
    moved[:3, 3] = scale * viewmat[:3, 3] - moved[:3, :3] @ shift
    here = rasterize_reference(*tensors(splats), viewmat, K, size, filter=filter)
    there = rasterize_reference(*tensors(transform(splats, turn, shift, scale)), moved, K, size, filter=filter)
    # 1e-12 apart, a pixel may still be decided otherwise
    if not undecided_pixels(*tensors(splats)[:4], viewmat, K, size, filter).any():
        same(there, here, scale)


@given(seed=st.integers(0, 999))
@settings(max_examples=10)
def test_order_of_rows_and_length_and_sign_of_quaternions_change_nothing(seed: int) -> None:
    inputs, rows = (
        tensors(random_splats(30, 1, seed)),
        torch.randperm(30, generator=torch.Generator().manual_seed(seed)),
    )
    one = rasterize_reference(*inputs, *camera(10), filter=FILTERS[1])
    inputs[1] = inputs[1] * torch.linspace(-2, 3, 30).double().add(0.01)[:, None]
    same(rasterize_reference(*[t[rows] for t in inputs], *camera(10), filter=FILTERS[1]), one)


def test_shifting_the_image_shifts_the_picture() -> None:
    inputs, (viewmat, K, (width, height)) = tensors(random_splats(40, 1, 2)), camera(16)
    shifted = K.clone()
    shifted[:2, 2] += torch.tensor([3.0, -2.0])
    one = rasterize_reference(*inputs, viewmat, K, (width, height), filter=FILTERS[1]).rgb
    two = rasterize_reference(*inputs, viewmat, shifted, (width, height), filter=FILTERS[1]).rgb
    torch.testing.assert_close(two[: height - 2, 3:], one[2:, : width - 3], rtol=0, atol=1e-12)


def gradients(inputs: list[Tensor], view: tuple[Tensor, Tensor, tuple[int, int]], weights: Tensor) -> list[Tensor]:
    """Of the five tensors, then what `means2d_grad` received."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    grad2d = torch.full((len(inputs[0]), 4), torch.nan, dtype=torch.float64)
    rgb = rasterize_reference(*leaves, *view, filter=FILTERS[1], means2d_grad=grad2d).rgb
    (rgb * weights).sum().backward()
    return [t.grad for t in leaves if t.grad is not None] + [grad2d]


def test_bands_are_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, view, weights = tensors(random_splats(40, 1, 5)), camera(13), torch.randn(13, 13, 3).double()
    whole = rasterize_reference(*inputs, *view, filter=FILTERS[1], background=BACKGROUND)
    whole_gradients = gradients(inputs, view, weights)
    monkeypatch.setattr(module, "_PAIRS_A_BAND", 13 * 40 * 3)
    assert len(module.bands((13, 13), 40)) == 5
    same(rasterize_reference(*inputs, *view, filter=FILTERS[1], background=BACKGROUND), whole)
    for a, b in zip(gradients(inputs, view, weights), whole_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_center_gradients_follow_from_the_principal_point() -> None:
    """Moving the principal point moves every center alike, so its gradient is the sum of theirs."""
    inputs, (viewmat, K, size), weights = tensors(random_splats(20, 0, 7)), camera(9), torch.randn(9, 9, 3).double()
    K = K.clone().requires_grad_()
    (rasterize_reference(*inputs, viewmat, K, size, filter=FILTERS[1]).rgb * weights).sum().backward()
    assert K.grad is not None
    grad2d = gradients(inputs, (viewmat, K.detach(), size), weights)[-1]
    torch.testing.assert_close(grad2d[:, :2].sum(0), K.grad[:2, 2])


def test_absolute_center_gradients_are_sums_over_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, view, weights = tensors(random_splats(20, 0, 7)), camera(6), torch.randn(6, 6, 3).double()
    total = torch.zeros(20, 4, dtype=torch.float64)
    for pixel in range(36):
        mask = (torch.arange(36) == pixel).double().view(6, 6, 1)
        alone = gradients(inputs, view, weights * mask)[-1]
        torch.testing.assert_close(alone[:, 2:], alone[:, :2].abs())
        total += alone
    whole = gradients(inputs, view, weights)[-1]
    assert float(whole[:, 2].sum()) > 1.01 * float(whole[:, 0].abs().sum()) > 0
    torch.testing.assert_close(whole, total)
    monkeypatch.setattr(module, "_PAIRS_A_BAND", 1)
    torch.testing.assert_close(gradients(inputs, view, weights)[-1], total)


def test_center_gradients_without_gradients_of_centers_and_twice() -> None:
    inputs, view = tensors(random_splats(20, 0, 7)), camera(6)
    expected = gradients(inputs, view, torch.ones(6, 6, 3).double())[-1]
    inputs[3].requires_grad_()
    grad2d = torch.zeros(20, 4, dtype=torch.float64)
    total = rasterize_reference(*inputs, *view, filter=FILTERS[1], means2d_grad=grad2d).rgb.sum()
    for _ in range(2):  # filled, not added to
        total.backward(retain_graph=True)
        torch.testing.assert_close(grad2d, expected)


@both_filters
@pytest.mark.parametrize("axes", [slice(0, 1), slice(0, 2), slice(0, 3)], ids=["disc", "needle", "point"])
def test_flat_gaussians_have_finite_gradients(filter: Filter, axes: slice) -> None:
    inputs = tensors(random_splats(12, 0, 1))
    inputs[2][:, axes] = 0
    for value in gradients(inputs, camera(8), torch.ones(8, 8, 3).double()):
        assert value.isfinite().all()
    assert rasterize_reference(*inputs, *camera(8), filter=filter).rgb.isfinite().all()


def test_single_precision_agrees_where_nothing_is_undecided() -> None:
    splats, (viewmat, K, size) = random_splats(60, 2, 9), camera(24)
    needles = replace(splats, scales=splats.scales * torch.tensor([8.0, 0.02, 0.02]))
    for one in (splats, needles):
        narrow = [one.means, one.quats, one.scales, one.opacities, one.sh]
        decided = ~undecided_pixels(*tensors(one)[:4], viewmat, K, size, FILTERS[0])
        truth = rasterize_reference(*tensors(one), viewmat, K, size, filter=FILTERS[0]).rgb
        rough = rasterize_reference(*narrow, viewmat, K, size, filter=FILTERS[0]).rgb
        assert rough.dtype == torch.float32
        assert float(((rough - truth).abs().amax(-1) * decided).max()) < 2e-5


@pytest.mark.parametrize(("opacities", "what"), [([1.0], "clamp"), ([0.999, 0.9], "stop")])
def test_undecided_pixels_are_those_at_a_threshold(opacities: list[float], what: str) -> None:
    view, depths = straight(9, 9, 10.0), [2.0, 2.5][: len(opacities)]
    at = module.blend(
        module.project(*balls(depths, 0.4, opacities, torch.ones(len(depths), 3))[:4], *view, FILTERS[0]),
        module.pixel_centers(view[2], range(9), torch.zeros((), dtype=torch.float64)),
    )
    # 1/255 for the first Gaussian at the pixel (2, 6), by turning its opacity down
    first = opacities[0] * ALPHA_MIN / float(at.raw[0, 6 * 9 + 2])
    inputs = balls(depths, 0.4, [first, *opacities[1:]], torch.ones(len(depths), 3))
    mask = undecided_pixels(*inputs[:4], *view, FILTERS[0])
    assert mask[6, 2] and mask.sum() <= 8  # with the pixels that mirror it
    again = balls(depths, 0.4, [first * 1.1, *opacities[1:]], torch.ones(len(depths), 3))
    assert not undecided_pixels(*again[:4], *view, FILTERS[0])[6, 2]
    # and the clamp (0.999) or the stop (1e-4) at the middle
    peaks = [ALPHA_MAX] if what == "clamp" else [0.99, 0.99]
    mask = undecided_pixels(*balls(depths, 0.4, peaks, torch.ones(len(depths), 3))[:4], *view, FILTERS[0])
    assert mask[4, 4] and mask.sum() == 1
