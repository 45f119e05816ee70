"""L1 + SSIM: the fused kernels against plain torch, and that against the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.rasterize import Filter, losses, rasterize
from gaussianvae.rasterize.cpu import loss as fused
from gaussianvae.rasterize.losses import l1_ssim, ssim_map


@given(h=st.integers(1, 70), w=st.integers(1, 70), weight=st.floats(0, 1), planar=st.booleans())
@settings(max_examples=40, deadline=None)
def test_fused_matches_plain(h: int, w: int, weight: float, planar: bool) -> None:
    image = torch.rand(h, w, 3, dtype=torch.float64)
    target = (image + 0.2 * torch.randn(h, w, 3)).clamp(0, 1)
    layout = (lambda t: t.permute(2, 0, 1).contiguous().permute(1, 2, 0)) if planar else (lambda t: t)
    truth, own = image.requires_grad_(), layout(image.detach().float()).requires_grad_()
    plain = l1_ssim(truth, target, weight)
    value = l1_ssim(own, layout(target.float()), weight)
    plain.backward()
    (3 * value).backward()
    assert truth.grad is not None and own.grad is not None
    assert abs(value.item() - plain.item()) < 1e-5
    assert (own.grad / 3 - truth.grad).norm() < 2e-5 * truth.grad.norm()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads: int) -> None:
    image, target = torch.rand(50, 41, 3), torch.rand(50, 41, 3)
    value, gradient = fused.l1_ssim_gradient(image, target, 0.3, True, threads)
    other, expected = fused.l1_ssim_gradient(image, target, 0.3, True, 1)
    assert gradient is not None and expected is not None
    assert abs(value - other) < 1e-6 and torch.equal(gradient, expected)


def test_ssim_is_its_definition() -> None:
    """At one pixel, from windowed moments in plain Python."""
    image, target = torch.rand(13, 17, 3, dtype=torch.float64), torch.rand(13, 17, 3, dtype=torch.float64)
    y, x, c = 2, 15, 1  # near a corner: the window reaches over two borders, where everything is zero
    weights = losses.window()
    assert abs(sum(weights) - 1) < 1e-12 and len(weights) == 11
    mx = mt = xx = tt = xt = 0.0
    for i, wi in enumerate(weights):
        for j, wj in enumerate(weights):
            row, column = y + i - 5, x + j - 5
            if 0 <= row < 13 and 0 <= column < 17:
                a, b = image[row, column, c].item(), target[row, column, c].item()
                mx, mt = mx + wi * wj * a, mt + wi * wj * b
                xx, tt, xt = xx + wi * wj * a * a, tt + wi * wj * b * b, xt + wi * wj * a * b
    numerator = (2 * mx * mt + 1e-4) * (2 * (xt - mx * mt) + 9e-4)
    expected = numerator / ((mx**2 + mt**2 + 1e-4) * (xx - mx**2 + tt - mt**2 + 9e-4))
    assert abs(ssim_map(image, target)[y, x, c].item() - expected) < 1e-12


def test_gradient_by_differences() -> None:
    image = torch.rand(6, 7, 3, dtype=torch.float64, requires_grad=True)
    target = torch.rand(6, 7, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: l1_ssim(x, target, 0.4), image, eps=1e-7, atol=1e-5)


def test_equal_images_cost_nothing() -> None:
    image = torch.rand(20, 30, 3)
    for backend in ("cpu", "reference"):
        assert abs(l1_ssim(image, image.clone(), 0.5, backend=backend).item()) < 1e-6  # type: ignore[arg-type]


def test_planar_gradient_flows_into_the_rasterizer() -> None:
    n = 30
    tensors = [torch.rand(n, 3), torch.randn(n, 4), torch.rand(n, 3) * 0.1, torch.rand(n), torch.randn(n, 4, 3)]
    inputs = [t.requires_grad_() for t in tensors]
    viewmat = torch.eye(4)
    viewmat[2, 3] = 3
    K = torch.tensor([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]])
    target = torch.rand(30, 40, 3)
    results = []
    for copy in (False, True):
        rgb = rasterize(*inputs, viewmat, K, (40, 30), filter=Filter()).rgb
        l1_ssim(rgb.contiguous() if copy else rgb, target).backward()
        results.append([t.grad for t in inputs])
        for t in inputs:
            t.grad = None
    for a, b in zip(*results, strict=True):
        assert a is not None and b is not None
        assert torch.equal(a, b)


def test_shapes() -> None:
    with pytest.raises(ValueError, match="two images"):
        l1_ssim(torch.rand(4, 5, 3), torch.rand(5, 4, 3))
