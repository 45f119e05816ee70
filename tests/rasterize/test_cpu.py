"""The CPU kernels against the float64 definition, and laws that need no other implementation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import Silent
from gaussianvae.rasterize import Filter, rasterize
from gaussianvae.rasterize.cpu import compile as kernels
from gaussianvae.rasterize.cpu import frame, warm_up
from raster_cases import CASES, CLASSIC, MIP, camera, changed, compare, differs, render, scene
from scenes import random_splats, ring_cameras


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "SLAB", 150)


@pytest.mark.parametrize("name", CASES)
def test_matches_the_reference(name: str, small_slabs: None) -> None:
    compare(name, [{"threads": 1}, {"threads": 2}])


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
    """Of slabs the last bit may: rows found finished sooner or later are left out of the steps that add up to a row."""
    tensors, camera, filter = CASES["opaque, early stop"]
    whole, _, _ = render(tensors, camera, filter, threads=1)
    monkeypatch.setattr(frame, "SLAB", 50)
    one, _, _ = render(tensors, camera, filter, threads=1)
    assert differs(one.rgb, whole.rgb) < 1e-6 and differs(one.alpha, whole.alpha) < 1e-6
    for threads in (2, 3):
        own, _, _ = render(tensors, camera, filter, threads=threads)
        assert torch.equal(own.rgb, one.rgb) and torch.equal(own.alpha, one.alpha)


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


def test_gradients_without_those_of_the_harmonics_are_the_same_to_the_bit() -> None:
    splats, cameras = random_splats(300, degree=3), ring_cameras(1, 64)

    def gradients(with_sh: bool) -> list[torch.Tensor | None]:
        parts = splats.means, splats.quats, splats.scales, splats.opacities, splats.sh
        inputs = [part.clone().requires_grad_(with_sh or index < 4) for index, part in enumerate(parts)]
        view = cameras.viewmats[0], cameras.Ks[0], cameras.sizes[0]
        seen = rasterize(*inputs, *view, filter=Filter("mip", 0.1), backend="cpu")
        (seen.rgb.square().sum() + seen.depth.sum()).backward()
        return [part.grad for part in inputs]

    without, all_of_them = gradients(False), gradients(True)
    assert without[4] is None and all_of_them[4] is not None
    for one, other in zip(without[:4], all_of_them[:4], strict=True):
        assert one is not None and other is not None and torch.equal(one, other)
