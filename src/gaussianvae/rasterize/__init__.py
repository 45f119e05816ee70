"""Gaussian splatting, forward and backward: one semantics (gsplat's), three back ends.

`reference` is plain torch for any dtype and device, and the definition; `cpu` are numba kernels for float32 on the CPU;
`cuda` is gsplat itself, for float32 on an NVIDIA GPU (the differences that remain are listed in cuda.py).

    Sigma2' = Sigma2 + eps2d I                         pixel filter; mode "mip" scales o by sqrt(|Sigma2| / |Sigma2'|)
    alpha   = min(0.999, o exp(-q / 2))                skipped under 1/255; q the squared Mahalanobis distance
    rgb     = sum alpha T color + T_end background     front to back, a pixel ends before T would fall under 1e-4
    depth   = sum(alpha T z) / sum(alpha T)            z along the optical axis; near plane 0.01
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.rasterize.cuda import has_gsplat, rasterize_cuda
from gaussianvae.rasterize.types import Filter, Rendering
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.harmonics import degree_of
from gaussianvae.scene.splats import Splats

__all__ = ["Backend", "Filter", "Rendering", "choose_backend", "rasterize", "render"]

Backend = Literal["auto", "reference", "cpu", "cuda"]


def choose_backend(backend: Backend, *tensors: Tensor) -> Literal["reference", "cpu", "cuda"]:
    """What `auto` means for these tensors.

    `cpu` where all are float32 on the CPU, `cuda` where all are float32 on a CUDA device and gsplat is installed, else
    `reference`. What has no kernels of its own for `cuda` (losses, sensitivities) runs in plain torch there.

    Raises:
        GaussianVAEError: `cpu` or `cuda` was asked for tensors that it can't take, or `cuda` without gsplat; the name
            is unknown.
    """
    if backend not in ("auto", "reference", "cpu", "cuda"):
        raise GaussianVAEError(f"unknown back end {backend!r}: use auto, reference, cpu or cuda")
    if backend == "reference":
        return backend
    single = all(t.dtype == torch.float32 for t in tensors)
    able = {kind: single and all(t.device.type == kind for t in tensors) for kind in ("cpu", "cuda")}
    if backend == "auto":
        if able["cpu"]:
            return "cpu"
        return "cuda" if able["cuda"] and has_gsplat() else "reference"
    if not able[backend]:
        seen = sorted({f"{str(t.dtype).removeprefix('torch.')} on {t.device}" for t in tensors})
        place = "the CPU" if backend == "cpu" else "a CUDA device"
        raise GaussianVAEError(
            f"back end {backend} takes float32 on {place}, got {', '.join(seen)}: use auto or convert first"
        )
    if backend == "cuda" and not has_gsplat():
        raise GaussianVAEError("back end cuda needs the package gsplat; pip install 'gaussianvae[cuda]'")
    return backend


def rasterize(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    sh: Float[Tensor, "N K1 3"],
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    *,
    filter: Filter,
    background: Float[Tensor, "3"] | tuple[float, float, float] = (0.0, 0.0, 0.0),
    backend: Backend = "auto",
    threads: int | None = None,
    means2d_grad: Float[Tensor, "N 4"] | None = None,
) -> Rendering:
    """Render one view; differentiable with respect to the five tensors of Gaussians (not the camera or background).

    Args:
        means: centers, world units.
        quats: wxyz, any length but zero.
        scales: standard deviations, world units, >= 0.
        opacities: 0-1.
        sh: color coefficients, 1, 4, 9 or 16 a channel, the base color first.
        viewmat: world to camera, OpenCV axes.
        K: intrinsics in pixels, no skew.
        size: (width, height) in pixels; pixel centers lie at +0.5.
        filter: the pixel filter.
        background: RGB behind everything.
        threads: of the back end `cpu`; torch's number, or 1 for small frames, when not given. Images don't depend on
            it, gradients in the last bits.
        means2d_grad: filled during backward with dL/dx, dL/dy and the sums over pixels of |dL/dx|, |dL/dy| of the
            projected centers, in pixels.

    Raises:
        ValueError: shapes that don't agree.
        GaussianVAEError: see `choose_backend`; an image too large for `cpu`; a gsplat without compiled kernels.
    """
    n = len(means)
    shapes = (means, (n, 3)), (quats, (n, 4)), (scales, (n, 3)), (opacities, (n,)), (sh, (n, sh.shape[1], 3))
    for tensor, shape in shapes:
        if tensor.shape != shape:
            raise ValueError(f"{n} Gaussians: got a tensor of shape {tuple(tensor.shape)}, expected {shape}")
    degree_of(sh.shape[1])
    chosen = choose_backend(backend, means, quats, scales, opacities, sh)
    if chosen == "cpu":
        from gaussianvae.rasterize.cpu.autograd import rasterize_cpu

        return rasterize_cpu(
            means, quats, scales, opacities, sh, viewmat, K, size,
            filter=filter, background=background, threads=threads, means2d_grad=means2d_grad,
        )  # fmt: skip
    if chosen == "cuda" and n:  # gsplat's kernels want at least one
        return rasterize_cuda(
            means, quats, scales, opacities, sh, viewmat, K, size,
            filter=filter, background=background, means2d_grad=means2d_grad,
        )  # fmt: skip
    from gaussianvae.rasterize.reference import rasterize_reference

    return rasterize_reference(
        means, quats, scales, opacities, sh, viewmat, K, size,
        filter=filter, background=background, means2d_grad=means2d_grad,
    )  # fmt: skip


def render(
    splats: Splats,
    cameras: Cameras,
    view: int,
    *,
    filter: Filter,
    background: Float[Tensor, "3"] | tuple[float, float, float] = (0.0, 0.0, 0.0),
    backend: Backend = "auto",
    threads: int | None = None,
) -> Rendering:
    """One view of a splat (see `rasterize`)."""
    return rasterize(
        splats.means, splats.quats, splats.scales, splats.opacities, splats.sh,
        cameras.viewmats[view], cameras.Ks[view], cameras.sizes[view],
        filter=filter, background=background, backend=backend, threads=threads,
    )  # fmt: skip
