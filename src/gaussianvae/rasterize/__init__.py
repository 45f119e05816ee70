"""Gaussian splatting, forward and backward: one semantics (gsplat's), two back ends.

`reference` is plain torch for any dtype and device, and the definition; `cpu` are numba kernels for float32 on the CPU.

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
from gaussianvae.rasterize.types import Filter, Rendering
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.harmonics import degree_of
from gaussianvae.scene.splats import Splats

__all__ = ["Backend", "Filter", "Rendering", "choose_backend", "rasterize", "render"]

Backend = Literal["auto", "reference", "cpu"]


def choose_backend(backend: Backend, *tensors: Tensor) -> Literal["reference", "cpu"]:
    """What `auto` means for these tensors: `cpu` where all are float32 on the CPU, else `reference`.

    Raises:
        GaussianVAEError: `cpu` was asked for tensors that it can't take, or the name is unknown.
    """
    able = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    if backend == "auto":
        return "cpu" if able else "reference"
    if backend not in ("reference", "cpu"):
        raise GaussianVAEError(f"unknown back end {backend!r}: use auto, reference or cpu")
    if backend == "cpu" and not able:
        seen = sorted({f"{str(t.dtype).removeprefix('torch.')} on {t.device}" for t in tensors})
        raise GaussianVAEError(
            f"back end cpu takes float32 on the CPU, got {', '.join(seen)}: use auto or convert first"
        )
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
        threads: of the back end `cpu`; torch's number when not given. Images don't depend on it, gradients in the
            last bits.
        means2d_grad: filled during backward with dL/dx, dL/dy and the sums over pixels of |dL/dx|, |dL/dy| of the
            projected centers, in pixels.

    Raises:
        ValueError: shapes that don't agree.
        GaussianVAEError: see `choose_backend`; an image too large for `cpu`.
    """
    n = len(means)
    shapes = (means, (n, 3)), (quats, (n, 4)), (scales, (n, 3)), (opacities, (n,)), (sh, (n, sh.shape[1], 3))
    for tensor, shape in shapes:
        if tensor.shape != shape:
            raise ValueError(f"{n} Gaussians: got a tensor of shape {tuple(tensor.shape)}, expected {shape}")
    degree_of(sh.shape[1])
    if choose_backend(backend, means, quats, scales, opacities, sh) == "cpu":
        from gaussianvae.rasterize.cpu.autograd import rasterize_cpu

        return rasterize_cpu(
            means, quats, scales, opacities, sh, viewmat, K, size,
            filter=filter, background=background, threads=threads, means2d_grad=means2d_grad,
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
