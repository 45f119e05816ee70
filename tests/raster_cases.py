"""Scenes that strain a rasterizer, and the comparison of a back end with the definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gaussianvae.rasterize import Filter, Rendering, rasterize
from gaussianvae.rasterize.reference import undecided_pixels
from gaussianvae.scene.rotations import quats_to_rotmats

Scene = list[Tensor]
Camera = tuple[Tensor, Tensor, tuple[int, int]]
NAMES = ("means", "quats", "scales", "opacities", "sh")


def scene(
    n: int,
    spread: float = 1.0,
    log_scale: float = -2.5,
    sigma: float = 0.5,
    opacity: tuple[float, float] = (0.05, 0.99),
    k1: int = 16,
    seed: int = 0,
) -> Scene:
    g = torch.Generator().manual_seed(1000 * n + seed)
    means = (torch.rand(n, 3, generator=g) * 2 - 1) * spread
    scales = torch.exp(torch.randn(n, 3, generator=g) * sigma + log_scale)
    opacities = torch.rand(n, generator=g) * (opacity[1] - opacity[0]) + opacity[0]
    return [means, torch.randn(n, 4, generator=g), scales, opacities, torch.randn(n, k1, 3, generator=g) * 0.3]


def camera(width: int, height: int, distance: float = 3.0, fov: float = 50.0) -> Camera:
    """Looks along +z from `distance`, slightly turned and off center, with two different focal lengths."""
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = quats_to_rotmats(torch.nn.functional.normalize(torch.tensor([[1.0, 0.15, -0.2, 0.1]]).double()))[
        0
    ]
    viewmat[:3, 3] = torch.tensor([0.05, -0.1, distance])
    f = width / 2 / math.tan(math.radians(fov / 2))
    K = torch.tensor([[f, 0, width / 2 + 1.3], [0, 1.1 * f, height / 2 - 0.7], [0, 0, 1]], dtype=torch.float64)
    return viewmat, K, (width, height)


def changed(tensors: Scene, which: int, change: Callable[[Tensor], object]) -> Scene:
    change(tensors[which])
    return tensors


CLASSIC, MIP = Filter(), Filter("mip")
CASES: dict[str, tuple[Scene, Camera, Filter]] = {
    "plain": (scene(300), camera(64, 48), CLASSIC),
    "mip, eps 0.1": (scene(300, log_scale=-4), camera(64, 48), Filter("mip", 0.1)),
    "odd size": (scene(200), camera(37, 29), MIP),
    "5x3": (scene(50), camera(5, 3), CLASSIC),
    "1x1": (scene(50), camera(1, 1), CLASSIC),
    "1 wide": (scene(50), camera(1, 70), MIP),
    "none": (scene(0), camera(16, 16), CLASSIC),
    "one": (scene(1, spread=0.2, log_scale=-1), camera(32, 32), CLASSIC),
    "17, degree 0": (scene(17, k1=1), camera(40, 24), CLASSIC),
    "degree 0, many": (scene(200, k1=1, seed=3), camera(40, 24), CLASSIC),
    "degree 1": (scene(40, k1=4), camera(40, 24), CLASSIC),
    "degree 2": (scene(40, k1=9), camera(40, 24), MIP),
    "all behind": (scene(20), camera(32, 32, distance=-3), CLASSIC),
    "camera inside": (scene(200, spread=1.5), camera(48, 48, distance=0.3, fov=80), CLASSIC),
    "giant": (scene(20, log_scale=1.0, opacity=(0.02, 0.3)), camera(48, 40), CLASSIC),
    "needles": (changed(scene(100, log_scale=-5), 2, lambda s: s[:, 0].fill_(0.8)), camera(64, 64), CLASSIC),
    "discs, mip": (changed(scene(60, log_scale=-2), 2, lambda s: s[:, 2].fill_(1e-5)), camera(64, 64), MIP),
    "opacity 0 and 1": (changed(scene(80), 3, lambda o: o.copy_((o > 0.5).float())), camera(40, 40), CLASSIC),
    "opaque, early stop": (scene(800, opacity=(0.9, 1.0), log_scale=-1.5), camera(40, 40), CLASSIC),
    "tiny, hardly filtered": (scene(500, log_scale=-5), camera(40, 40), Filter("classic", 1e-4)),
    "many": (scene(1500, log_scale=-3), camera(33, 70), MIP),
}


def render(
    tensors: Sequence[Tensor],
    camera: Camera,
    filter: Filter,
    weights: tuple[Tensor, Tensor, Tensor] | None = None,
    **options: object,
) -> tuple[Rendering, list[Tensor], Tensor]:
    """The image, gradients of the five tensors for the given weights of rgb, alpha, depth, and means2d_grad."""
    inputs = [t.clone().requires_grad_() for t in tensors]
    means2d = torch.zeros(len(inputs[0]), 4, dtype=inputs[0].dtype, device=inputs[0].device)
    rendering = rasterize(*inputs, *camera, filter=filter, means2d_grad=means2d, **options)  # type: ignore[arg-type]
    if weights is not None:
        images = rendering.rgb, rendering.alpha, rendering.depth
        total = sum(((i * w.to(i)).sum() for i, w in zip(images, weights, strict=True)), torch.zeros(()))
        if total.requires_grad:
            total.backward()
    gradients = [torch.zeros_like(t) if t.grad is None else t.grad for t in inputs]
    return rendering, gradients, means2d


def differs(a: Tensor, b: Tensor) -> float:
    """Relative difference in norm (absolute where there is nothing)."""
    a, b = a.double().cpu(), b.double().cpu()
    return ((a - b).norm() / (b.norm() if b.norm() > 1e-9 else 1.0)).item()


PARTS = {"signed": slice(0, 2), "absolute": slice(2, 4)}


def compare(name: str, variants: Sequence[dict[str, object]], device: str = "cpu") -> None:
    """A case in float32, rendered with each of some options on a device, against the float64 definition."""
    tensors, camera, filter = CASES[name]
    width, height = camera[2]
    background = (0.3, 0.8, 0.1)
    doubles = [t.double() for t in tensors]
    skipped = undecided_pixels(*doubles[:4], *camera, filter)  # float32 may decide differently there
    assert skipped.double().mean() < 0.05
    keep = ~skipped
    weights = (
        torch.randn(height, width, 3) * keep[..., None],
        torch.randn(height, width) * keep,
        torch.randn(height, width),
    )
    with torch.no_grad():
        faint = rasterize(*doubles, *camera, filter=filter, backend="reference").alpha < 1e-3  # depth is 0 / 0 there
    weights = weights[0], weights[1], weights[2] * keep * ~faint
    truth, true_gradients, true_means2d = render(
        doubles, camera, filter, weights, background=background, backend="reference"
    )
    for options in variants:
        own, gradients, means2d = render(
            [t.to(device) for t in tensors], camera, filter, weights, background=background, **options
        )
        assert own.rgb.dtype == torch.float32 and own.rgb.device.type == device
        assert ((own.rgb.cpu() - truth.rgb).abs().amax(-1) * keep).max() < 1e-4
        assert ((own.alpha.cpu() - truth.alpha).abs() * keep).max() < 1e-4
        assert ((own.depth.cpu() - truth.depth).abs() * keep * ~faint).max() < 1e-4
        errors = {n: differs(a, b) for n, a, b in zip(NAMES, gradients, true_gradients, strict=True)}
        errors |= {f"means2d {part}": differs(means2d[:, c], true_means2d[:, c]) for part, c in PARTS.items()}
        assert max(errors.values()) < 1e-3, errors
