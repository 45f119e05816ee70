"""The CUDA back end: against the definition where there is a GPU with gsplat, else its calls, by way of a stand-in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.rasterize import Filter, Rendering, choose_backend, rasterize
from gaussianvae.rasterize.cuda import has_gsplat, rasterize_cuda
from gaussianvae.rasterize.losses import l1_ssim
from gaussianvae.rasterize.reference import Projected, blend, pixel_centers, project, view_colors
from gaussianvae.rasterize.sensitivity import sensitivity
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats
from raster_cases import CASES, Camera, Scene, camera, compare, differs, render, scene

NO_GPU = "no CUDA device here" if not torch.cuda.is_available() else None if has_gsplat() else "gsplat isn't installed"
needs_gpu = pytest.mark.skipif(NO_GPU is not None, reason=str(NO_GPU))
THIN = {"needles", "discs, mip"}
"""What gsplat's determinants a c - b^2 lose digits on."""


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("name", [name for name in CASES if name not in THIN])
def test_matches_the_reference_on_a_gpu(name: str) -> None:
    compare(name, [{"backend": "cuda"}], device="cuda")


@pytest.mark.cuda
@needs_gpu
def test_auto_takes_the_gpu_and_the_rest_runs_there() -> None:
    tensors, (viewmat, K, size), filter = CASES["plain"]
    device = [t.cuda() for t in tensors]
    assert choose_backend("auto", *device) == "cuda"
    image = rasterize(*device, viewmat, K, size, filter=filter).rgb
    assert image.device.type == "cuda"
    target = torch.rand(*image.shape)
    assert l1_ssim(image, target.cuda()).item() == pytest.approx(l1_ssim(image.cpu(), target).item(), rel=1e-4)
    splats = Splats(tensors[0], tensors[1], tensors[2], tensors[3], tensors[4][:, :1], tensors[4][:, 1:])
    cameras = Cameras(viewmat[None], K[None], (size,))
    here, there = (
        sensitivity(splats, cameras, 0, filter=filter),
        sensitivity(splats.to("cuda"), cameras, 0, filter=filter),
    )
    assert differs(there.block, here.block) < 1e-2


# the stand-in: gsplat's interface and bookkeeping as its sources have them, over our definition of the image


class _EveryPixel(torch.autograd.Function):
    """Rows of the centers (1, N, 2), one copy a pixel; `backward` leaves `.absgrad` on them, as gsplat 1.5 does."""

    @staticmethod
    def forward(ctx: Any, means2d: Tensor, rows: Tensor, pixels: int) -> Tensor:
        ctx.save_for_backward(means2d, rows)
        return means2d[0, rows, None].expand(-1, pixels, 2).clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        means2d, rows = ctx.saved_tensors
        signed, absolute = torch.zeros_like(means2d), torch.zeros_like(means2d)
        signed[0, rows], absolute[0, rows] = gradient.sum(1), gradient.abs().sum(1)
        means2d.absgrad = absolute
        return signed, None, None


@dataclass
class StandIn:
    calls: list[dict[str, Any]] = field(default_factory=list)

    def rasterization(self, **call: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.calls.append(call)
        means, size, sh = call["means"], (call["width"], call["height"]), call["colors"]
        assert sh.shape[1] == (call["sh_degree"] + 1) ** 2 and call["packed"] is False
        assert call["viewmats"].shape == (1, 4, 4) and call["Ks"].shape == (1, 3, 3)
        assert {call[k].dtype for k in ("viewmats", "Ks", "backgrounds")} == {means.dtype}
        filter = Filter("mip" if call["rasterize_mode"] == "antialiased" else "classic", call["eps2d"])
        gaussians = means, call["quats"], call["scales"], call["opacities"]
        view = project(*gaussians, call["viewmats"][0], call["Ks"][0], size, filter)
        means2d = torch.zeros(1, len(means), 2, dtype=means.dtype).index_put(
            (torch.zeros_like(view.rows), view.rows), view.means2d
        )
        pixels = pixel_centers(size, range(size[1]), means)
        if call["absgrad"]:
            spread = _EveryPixel.apply(means2d, view.rows, len(pixels))  # type: ignore[no-untyped-call]
        else:
            spread = means2d[0, view.rows, None].expand(-1, len(pixels), 2)
        centers = means2d[0, view.rows]
        part = blend(Projected(view.rows, centers, view.sigma, view.det, view.opacities, view.depths), pixels, spread)
        colors = view_colors(means, sh, call["viewmats"][0], view.rows)
        values = torch.cat([colors, view.depths[:, None]], 1)
        image = torch.einsum("mp,mc->pc", part.alpha * part.before, values)
        behind = torch.cat([call["backgrounds"], torch.zeros(1, 1)], 1)
        alpha = 1 - part.left[:, None]
        image = image + part.left[:, None] * behind
        image = torch.cat([image[:, :3], image[:, 3:] / alpha.clamp_min(1e-10)], 1)
        shape = 1, size[1], size[0]
        return image.reshape(*shape, 4), alpha.reshape(*shape, 1), {"means2d": means2d}


@pytest.fixture
def gsplat(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in, module = StandIn(), ModuleType("gsplat")
    module.rasterization = stand_in.rasterization  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", module)
    yield stand_in


def both(
    tensors: Scene, cam: Camera, filter: Filter, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[tuple[Rendering, list[Tensor], Tensor], tuple[Rendering, list[Tensor], Tensor]]:
    """The same in float64 by `cuda` and by `reference`."""
    width, height = cam[2]
    doubles = [t.double() for t in tensors]
    weights = torch.randn(height, width, 3), torch.randn(height, width), torch.randn(height, width)
    expected = render(doubles, cam, filter, weights, backend="reference", **options)
    monkeypatch.setattr("raster_cases.rasterize", rasterize_cuda)
    return render(doubles, cam, filter, weights, **options), expected


@pytest.mark.parametrize("name", ["plain", "mip, eps 0.1", "odd size", "degree 0, many", "degree 2", "camera inside"])
def test_calls_give_what_the_reference_gives(name: str, gsplat: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, cam, filter = CASES[name]
    (own, gradients, means2d), (truth, true_gradients, true_means2d) = both(
        tensors, cam, filter, monkeypatch, background=(0.3, 0.8, 0.1)
    )
    for part in ("rgb", "alpha", "depth"):
        assert torch.allclose(getattr(own, part), getattr(truth, part), atol=1e-9)
        assert getattr(own, part).is_contiguous()
    assert max(differs(a, b) for a, b in zip(gradients, true_gradients, strict=True)) < 1e-9
    assert differs(means2d, true_means2d) < 1e-9 and means2d[:, 2:].abs().sum() > 0


def test_what_gsplat_is_asked_for(gsplat: StandIn) -> None:
    tensors, (viewmat, K, size) = scene(12, k1=9), camera(20, 10)
    rasterize_cuda(*tensors, viewmat, K, size, filter=Filter("mip", 0.1), background=torch.tensor([0.1, 0.2, 0.3]))
    rasterize_cuda(*tensors, viewmat, K, size, filter=Filter("classic", 0.3), means2d_grad=torch.zeros(12, 4))
    mip, classic = gsplat.calls
    assert {k: mip[k] for k in ("near_plane", "far_plane", "radius_clip", "render_mode", "sh_degree")} == {
        "near_plane": 0.01,
        "far_plane": 1e10,
        "radius_clip": 0.0,
        "render_mode": "RGB+ED",
        "sh_degree": 2,
    }
    assert (mip["width"], mip["height"]) == (20, 10)
    assert torch.equal(mip["viewmats"][0], viewmat.float()) and torch.equal(mip["Ks"][0], K.float())
    assert mip["backgrounds"].tolist() == [pytest.approx([0.1, 0.2, 0.3])]
    assert (mip["rasterize_mode"], mip["eps2d"]) == ("antialiased", 0.1)
    assert (classic["rasterize_mode"], classic["eps2d"]) == ("classic", 0.3)
    assert classic["absgrad"] is False  # no backward pass can come


def test_part_of_the_gradients_and_centers_of_any(gsplat: StandIn) -> None:
    tensors, cam = scene(12, k1=4), camera(20, 10)
    sh, grad = tensors[4].clone().requires_grad_(), torch.full((12, 4), -1.0)
    rendering = rasterize_cuda(*tensors[:4], sh, *cam, filter=Filter(), means2d_grad=grad)
    rendering.alpha.sum().backward(retain_graph=True)
    alone = grad.clone()
    rendering.rgb.sum().backward()
    assert sh.grad is not None and sh.grad.abs().sum() > 0
    assert alone.abs().sum() > 0 and (alone[:, 2:] >= alone[:, :2].abs() - 1e-6).all()
    assert all(t.grad is None for t in tensors)


def test_backward_again_and_changes_in_place(gsplat: StandIn) -> None:
    inputs, cam = [t.requires_grad_() for t in scene(12, k1=4)], camera(20, 10)
    rgb = rasterize_cuda(*inputs, *cam, filter=Filter()).rgb
    rgb.sum().backward(retain_graph=True)
    once = [t.grad.clone() for t in inputs if t.grad is not None]
    rgb.sum().backward()
    assert all(torch.equal(2 * a, t.grad) for a, t in zip(once, inputs, strict=True) if t.grad is not None)
    with pytest.raises(RuntimeError, match="second time"):
        rgb.sum().backward()
    rendering = rasterize_cuda(*inputs, *cam, filter=Filter())
    rendering.rgb.mul_(2)
    rendering.alpha.add_(1)
    rendering.depth.add_(1)  # each by itself
    with torch.no_grad():
        inputs[0] += 1
    with pytest.raises(RuntimeError, match="inplace"):
        rendering.rgb.sum().backward()


def tensor_on(device: str, dtype: torch.dtype = torch.float32) -> Any:
    """All that the choice looks at, for devices that this machine lacks."""
    return SimpleNamespace(device=torch.device(device), dtype=dtype)


def test_choice(gsplat: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tensor_on("cuda:0"), torch.zeros(1)
    assert choose_backend("auto", there, there) == choose_backend("cuda", there) == "cuda"
    assert choose_backend("auto", here) == "cpu"
    assert (
        choose_backend("auto", there, here) == choose_backend("auto", tensor_on("cuda", torch.float64)) == "reference"
    )
    assert choose_backend("reference", there) == "reference"
    with pytest.raises(GaussianVAEError, match="cuda takes float32 on a CUDA device, got float32 on cpu"):
        choose_backend("cuda", here)
    with pytest.raises(GaussianVAEError, match="got float64 on cuda:0"):
        choose_backend("cuda", tensor_on("cuda:0", torch.float64))
    with pytest.raises(GaussianVAEError, match="cpu takes float32 on the CPU, got float32 on cuda:0"):
        choose_backend("cpu", there)
    monkeypatch.setitem(sys.modules, "gsplat", None)  # as if it weren't installed
    assert choose_backend("auto", there) == "reference"
    with pytest.raises(GaussianVAEError, match=r"pip install 'gaussianvae\[cuda\]'") as error:
        choose_backend("cuda", there)
    assert "\n" not in str(error.value)


def test_gsplat_without_kernels_or_broken_is_one_line(gsplat: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, cam = scene(3, k1=1), camera(4, 4)

    def disabled(**call: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'projection_ewa_3dgs_fused_fwd'")

    monkeypatch.setattr(sys.modules["gsplat"], "rasterization", disabled)
    with pytest.raises(GaussianVAEError, match="no compiled CUDA kernels"):
        rasterize_cuda(*tensors, *cam, filter=Filter())
    monkeypatch.delattr(sys.modules["gsplat"], "rasterization")
    with pytest.raises(GaussianVAEError, match="can't import gsplat") as error:
        rasterize_cuda(*tensors, *cam, filter=Filter())
    assert "\n" not in str(error.value)


def test_gsplat_is_imported_only_where_it_renders() -> None:
    assert "gsplat" not in sys.modules
