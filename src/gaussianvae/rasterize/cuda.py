"""The CUDA back end: gsplat (https://github.com/nerfstudio-project/gsplat) behind our interface.

Written from the sources of gsplat 1.5.0 to 1.5.3 and of its main branch (1.6.0, August 2026); **not yet run on a GPU**.
The tests that compare it with `reference` are marked `cuda` and wait for one; a stand-in for gsplat checks the calls.

Where gsplat differs from `reference`, beyond float32:

    largest alpha       0.999 up to 1.5.3, as here; 0.99 on main (`gsplat/cuda/_constants.py`)
    mode "mip"          main keeps the compensation at 0.005 or more; here and up to 1.5.3 it may reach 0
    thin Gaussians      determinants are a c - b^2: needles lose digits, and those whose determinant is 0 are dropped
    alpha under 1/255   beyond the opacity's own extent or 3.33 standard deviations nothing is drawn; at opacity 1 that
                        is where alpha = 1/255, so that nothing is lost
    sums                atomic additions: gradients aren't repeatable bit for bit

gsplat's gradients of projected centers are per pixel (`gsplat/strategy/default.py` scales them by half the image to
normalized coordinates), as `means2d_grad` wants them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gaussianvae.errors import GaussianVAEError
from gaussianvae.rasterize.types import Filter, Rendering
from gaussianvae.scene.cameras import NEAR
from gaussianvae.scene.harmonics import degree_of

FAR = 1e10

Call = Callable[..., tuple[tuple[Tensor, Tensor, Tensor], Tensor]]
"""The five tensors of Gaussians -> (rgb, alpha, depth), projected centers (1, N, 2)."""


def has_gsplat() -> bool:
    """Whether gsplat is installed; it is not imported."""
    if "gsplat" in sys.modules:
        return sys.modules["gsplat"] is not None
    return find_spec("gsplat") is not None


def _caller(
    viewmat: Tensor, K: Tensor, size: tuple[int, int], filter: Filter, background: Tensor, absolute: bool
) -> Call:
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise GaussianVAEError(f"back end cuda can't import gsplat: {' '.join(str(error).split())}") from error

    def call(
        means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        try:
            image, alpha, details = rasterization(
                means=means,
                quats=quats,
                scales=scales,
                opacities=opacities,
                colors=sh,
                viewmats=viewmat[None],
                Ks=K[None],
                width=size[0],
                height=size[1],
                near_plane=NEAR,
                far_plane=FAR,
                radius_clip=0.0,
                eps2d=filter.eps2d,
                sh_degree=degree_of(sh.shape[1]),
                packed=False,  # centers of all Gaussians, in their order
                backgrounds=background[None],
                render_mode="RGB+ED",
                absgrad=absolute,
                rasterize_mode="antialiased" if filter.mode == "mip" else "classic",
            )
        except AttributeError as error:  # what gsplat raises where its extension could neither be loaded nor built
            raise GaussianVAEError(
                "this gsplat has no compiled CUDA kernels: install the CUDA toolkit (nvcc), with which it builds them "
                "at its first use, or a wheel that holds them"
            ) from error
        planes = image[0, :, :, :3], alpha[0, :, :, 0], image[0, :, :, 3]
        # own memory each, as each may be changed in place
        rgb, coverage, depth = (plane.clone(memory_format=torch.contiguous_format) for plane in planes)
        return (rgb, coverage, depth), details["means2d"]

    return call


class _Rasterize(torch.autograd.Function):
    """gsplat's own graph, kept inside: only so is there a place in `backward` to read the centers' gradients from."""

    @staticmethod
    def forward(ctx: Any, call: Call, means2d_grad: Tensor | None, *inputs: Tensor) -> tuple[Tensor, ...]:
        leaves = [t.detach().requires_grad_(w) for t, w in zip(inputs, ctx.needs_input_grad[2:], strict=True)]
        if means2d_grad is not None:
            leaves[0].requires_grad_()  # else nothing might lead to the centers
        with torch.enable_grad():
            outputs, centers = call(*leaves)
        ctx.leaves, ctx.outputs, ctx.centers, ctx.means2d_grad = leaves, outputs, centers, means2d_grad
        ctx.save_for_backward(*inputs)  # only so that torch notices changes in place and a graph used up
        ctx.set_materialize_grads(False)
        return tuple(output.detach() for output in outputs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *v: Tensor | None) -> tuple[Any, ...]:
        _ = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        targets = [leaf for leaf, w in zip(ctx.leaves, wanted, strict=True) if w]
        if ctx.means2d_grad is not None:
            targets.append(ctx.centers)
        known = [(o, g) for o, g in zip(ctx.outputs, v, strict=True) if g is not None and o.requires_grad]
        if not known:
            return (None,) * (2 + len(wanted))
        outputs, upstream = zip(*known, strict=True)
        found = torch.autograd.grad(outputs, targets, upstream, retain_graph=True, allow_unused=True)
        if ctx.means2d_grad is not None:
            ctx.means2d_grad.copy_(torch.cat([found[-1][0], ctx.centers.absgrad[0]], 1))
        gradients = iter(found)  # the centers' own come last
        return None, None, *(next(gradients) if w else None for w in wanted)


def rasterize_cuda(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    viewmat: Tensor,
    K: Tensor,
    size: tuple[int, int],
    *,
    filter: Filter,
    background: Tensor | tuple[float, float, float] = (0.0, 0.0, 0.0),
    means2d_grad: Tensor | None = None,
) -> Rendering:
    """One view of at least one Gaussian by gsplat; arguments as in `gaussianvae.rasterize.rasterize`.

    Raises:
        GaussianVAEError: gsplat can't be imported or has no compiled kernels.
    """
    inputs = means, quats, scales, opacities, sh
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    absolute = tracked and means2d_grad is not None
    call = _caller(viewmat.to(means), K.to(means), size, filter, torch.as_tensor(background).to(means), absolute)
    if tracked:
        return Rendering(*_Rasterize.apply(call, means2d_grad, *inputs))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return Rendering(*call(*inputs)[0])
