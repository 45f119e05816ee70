"""The CPU kernels against the float64 definition, and laws that need no other implementation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import Silent
from gaussianvae.rasterize import Filter, Rendering, rasterize
from gaussianvae.rasterize.cpu import compile as kernels
from gaussianvae.rasterize.cpu import frame, warm_up
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


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "SLAB", 150)


def render(
    tensors: Sequence[Tensor],
    camera: Camera,
    filter: Filter,
    weights: tuple[Tensor, Tensor, Tensor] | None = None,
    **options: object,
) -> tuple[Rendering, list[Tensor], Tensor]:
    """The image, gradients of the five tensors for the given weights of rgb, alpha, depth, and means2d_grad."""
    inputs = [t.clone().requires_grad_() for t in tensors]
    means2d = torch.zeros(len(inputs[0]), 4, dtype=inputs[0].dtype)
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
    return ((a.double() - b.double()).norm() / (b.double().norm() if b.double().norm() > 1e-9 else 1.0)).item()


@pytest.mark.parametrize("name", CASES)
def test_matches_the_reference(name: str, small_slabs: None) -> None:
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
    for threads in (1, 2):
        own, gradients, means2d = render(tensors, camera, filter, weights, background=background, threads=threads)
        assert own.rgb.dtype == torch.float32
        assert ((own.rgb - truth.rgb).abs().amax(-1) * keep).max() < 1e-4
        assert ((own.alpha - truth.alpha).abs() * keep).max() < 1e-4
        assert ((own.depth - truth.depth).abs() * keep * ~faint).max() < 1e-4
        errors = {n: differs(a, b) for n, a, b in zip(NAMES, gradients, true_gradients, strict=True)}
        errors |= {f"means2d {part}": differs(means2d[:, c], true_means2d[:, c]) for part, c in PARTS.items()}
        assert max(errors.values()) < 1e-3, errors


PARTS = {"signed": slice(0, 2), "absolute": slice(2, 4)}


def test_absolute_center_gradients_are_sums_over_pixels() -> None:
    tensors, cam = scene(30, k1=4, log_scale=-1.5), camera(11, 9)
    weights = torch.randn(9, 11, 3), torch.randn(9, 11), torch.zeros(9, 11)
    _, _, whole = render(tensors, cam, MIP, weights)
    sums = torch.zeros(30, 4)
    for pixel in range(9 * 11):
        only = torch.zeros(9 * 11)
        only[pixel] = 1
        alone = weights[0] * only.view(9, 11, 1), weights[1] * only.view(9, 11), weights[2]
        _, _, means2d = render(tensors, cam, MIP, alone)
        sums += torch.cat([means2d[:, :2], means2d[:, :2].abs()], 1)
    assert differs(whole, sums) < 1e-4
    assert differs(whole[:, 2:], sums[:, 2:]) < 1e-4


def test_image_does_not_depend_on_threads_or_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, camera, filter = CASES["opaque, early stop"]
    whole, _, _ = render(tensors, camera, filter, threads=1)
    monkeypatch.setattr(frame, "SLAB", 50)
    for threads in (1, 2, 3):
        own, _, _ = render(tensors, camera, filter, threads=threads)
        assert torch.equal(own.rgb, whole.rgb) and torch.equal(own.alpha, whole.alpha)


def test_gradients_repeat_bit_for_bit() -> None:
    tensors, camera, filter = CASES["plain"]
    weights = torch.randn(48, 64, 3), torch.randn(48, 64), torch.randn(48, 64)
    _, once, _ = render(tensors, camera, filter, weights, threads=2)
    _, again, _ = render(tensors, camera, filter, weights, threads=2)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@given(n=st.integers(0, 40), k1=st.sampled_from([1, 4, 9, 16]), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_order_of_rows_does_not_matter(n: int, k1: int, seed: int) -> None:
    tensors, cam = scene(n, k1=k1, seed=seed), camera(24, 33)
    weights = torch.ones(33, 24, 3), torch.ones(33, 24), torch.zeros(33, 24)
    rows = torch.randperm(n)
    one, gradients, _ = render(tensors, cam, MIP, weights)
    two, shuffled, _ = render([t[rows] for t in tensors], cam, MIP, weights)
    assert torch.equal(one.rgb, two.rgb)
    assert all(differs(g[rows], s) < 1e-5 for g, s in zip(gradients, shuffled, strict=True))


@given(extra=st.integers(1, 40), k1=st.sampled_from([1, 4, 9, 16]), first=st.booleans())
@settings(max_examples=20, deadline=None)
def test_unseen_gaussians_change_nothing_and_get_zeros(extra: int, k1: int, first: bool) -> None:
    seen, cam = scene(23, k1=k1), camera(24, 33)
    unseen = changed(scene(extra, k1=k1, seed=1), 0, lambda m: m[:, 2].sub_(50))
    weights = torch.ones(33, 24, 3), torch.ones(33, 24), torch.zeros(33, 24)
    alone, gradients, _ = render(seen, cam, CLASSIC, weights)
    parts = (unseen, seen) if first else (seen, unseen)
    both, all_gradients, means2d = render([torch.cat(p) for p in zip(*parts, strict=True)], cam, CLASSIC, weights)
    rows = slice(extra, None) if first else slice(None, 23)
    rest = slice(None, extra) if first else slice(23, None)
    assert torch.equal(alone.rgb, both.rgb)
    for a, b in zip(gradients, all_gradients, strict=True):
        assert differs(b[rows], a) < 1e-5 and (b[rest] == 0).all()
    assert (means2d[rest] == 0).all()


@given(st.lists(st.floats(width=32), min_size=14, max_size=14), st.sampled_from(["classic", "mip"]))
@settings(max_examples=200, deadline=None)
def test_hostile_values_do_no_harm(values: list[float], mode: str) -> None:
    """Whatever the numbers of one Gaussian (nan, inf, 1e38): no kernel leaves its arrays."""
    tensors, row = scene(20, k1=1), torch.tensor(values)
    for tensor, part in zip(tensors, row.split([3, 4, 3, 1, 3]), strict=True):
        tensor[7] = part.view(tensor[7].shape)
    weights = torch.ones(24, 24, 3), torch.ones(24, 24), torch.ones(24, 24)
    render(tensors, camera(24, 24), Filter(mode), weights)  # type: ignore[arg-type]


def test_backward_again_and_after_other_frames() -> None:
    tensors, camera, filter = CASES["plain"]
    inputs = [t.clone().requires_grad_() for t in tensors]
    rgb = rasterize(*inputs, *camera, filter=filter).rgb
    rgb.sum().backward(retain_graph=True)
    once = [t.grad.clone() for t in inputs if t.grad is not None]
    for _ in range(3):
        render(*CASES["many"])
    rgb.sum().backward()
    assert all(torch.equal(2 * a, t.grad) for a, t in zip(once, inputs, strict=True) if t.grad is not None)


def test_changes_in_place_are_noticed() -> None:
    tensors, camera, filter = CASES["plain"]
    inputs = [t.clone().requires_grad_() for t in tensors]
    loss = rasterize(*inputs, *camera, filter=filter).rgb.sum()
    with torch.no_grad():
        inputs[0] += 1
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_part_of_the_gradients() -> None:
    tensors, camera, filter = CASES["plain"]
    _, full, _ = render(tensors, camera, filter, (torch.zeros(48, 64, 3), torch.ones(48, 64), torch.zeros(48, 64)))
    opacities = tensors[3].clone().requires_grad_()
    rasterize(*tensors[:3], opacities, tensors[4], *camera, filter=filter).alpha.sum().backward()
    assert opacities.grad is not None and torch.equal(opacities.grad, full[3])


def test_strided_inputs() -> None:
    tensors, camera, filter = CASES["plain"]
    strided = [torch.stack([t, t], -1)[..., 0] for t in tensors]
    assert torch.equal(render(tensors, camera, filter)[0].rgb, render(strided, camera, filter)[0].rgb)


def test_refusals() -> None:
    tensors, camera, filter = CASES["one"]
    with pytest.raises(GaussianVAEError, match="float64 on cpu"):
        rasterize(*[t.double() for t in tensors], *camera, filter=filter, backend="cpu")
    with pytest.raises(GaussianVAEError, match="unknown back end"):
        rasterize(*tensors, *camera, filter=filter, backend="gpu")  # type: ignore[arg-type]
    with pytest.raises(GaussianVAEError, match="40000x8"):
        rasterize(*tensors, *camera[:2], (40000, 8), filter=filter, backend="cpu")
    with pytest.raises(ValueError, match="expected"):
        rasterize(tensors[0], tensors[1][:, :3], *tensors[2:], *camera, filter=filter)
    with pytest.raises(ValueError, match="bands"):
        rasterize(*tensors[:4], tensors[4][:, :5], *camera, filter=filter)


def test_kernels_compile_once_and_warm_up_is_silent_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel has one signature: another would cost users seconds in the middle of their work."""
    kernels.compile_kernels()
    assert {k.py_func.__name__: len(k.signatures) for k in kernels.KERNELS if len(k.signatures) != 1} == {}

    messages: list[str] = []

    class Recorder(Silent):
        def message(self, text: str) -> None:
            messages.append(text)

    warm_up(Recorder())
    assert messages == []
    monkeypatch.setattr(kernels, "is_compiled", lambda: False)
    warm_up(Recorder())
    assert len(messages) == 1 and "compiling" in messages[0]
