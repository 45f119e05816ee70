"""The CPU back end: numba kernels with explicit SIMD, one module a stage.

    project             means, quats, scales, opacities -> one 64-byte record a Gaussian
    order               front to back
    binning             exact row spans of every ellipse; lists of records a tile
    harmonics           colors of the Gaussians that touch a pixel
    blend               the image, tile by tile, front to back
    blend_backward      the same walk again: sums over pixels for every Gaussian
    project_backward    sums -> gradients of the five parameter groups
    sensitivity         the same walk once more: squared derivatives for every Gaussian
    frame, autograd     threads, scratch memory, PyTorch
    loss                L1 + SSIM

Every kernel releases the GIL and does part number `part` of `parts`; numba compiles them once a machine and keeps the
result in its cache (`__pycache__`, or the user's cache folder where that can't be written). The cache looks at the
file of a jitted function only: after editing what others inline (simd_types, simd, simd_memory, layout, tiles, geometry
in project, harmonics), delete `__pycache__`.
"""

from __future__ import annotations

from gaussianvae.progress import SILENT, Reporter

__all__ = ["warm_up"]

_SECONDS = 15


def warm_up(report: Reporter = SILENT) -> None:
    """Compile the kernels, unless numba's cache has them; tell the user first, as it takes a while."""
    from gaussianvae.rasterize.cpu.compile import compile_kernels, is_compiled

    if not is_compiled():
        report.message(f"compiling the CPU rasterizer, about {_SECONDS} s, once")
        compile_kernels()
