"""Whether numba's cache holds the kernels, and a tiny frame that fills it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gaussianvae.rasterize.cpu import (
    binning,
    blend,
    blend_backward,
    harmonics,
    loss,
    order,
    project,
    project_backward,
    sensitivity,
    tiles,
)
from gaussianvae.rasterize.cpu.autograd import rasterize_cpu
from gaussianvae.rasterize.cpu.frame import Frame, camera_vector, flatten
from gaussianvae.rasterize.types import Filter

KERNELS: tuple[Any, ...] = (
    project.project,
    order.sort_records,
    order.merge_stretch,
    binning.alive_sums,
    binning.find_spans,
    binning.tile_offsets,
    tiles.split_tiles,
    binning.fill_pairs,
    harmonics.shade,
    blend.raster_forward,
    blend_backward.raster_backward,
    project_backward.project_backward,
    sensitivity.raster_sensitivity,
    loss.pad_rows,
    loss.pad_pixels,
    loss.ssim_maps,
    loss.ssim_gradient,
)


def is_compiled() -> bool:
    """Whether every kernel is in memory or in a fresh cache file (some signature of it: all have one)."""
    return all(k.signatures or _cached(k) for k in KERNELS)


def _cached(kernel: Any) -> bool:
    # numba has no public question for this. The index of a stale source file is empty; its keys name the CPU
    try:
        target = kernel.targetctx.codegen().magic_tuple()
        return any(key[1] == target for key in kernel._cache._cache_file._load_index())
    except (AttributeError, IndexError, OSError, TypeError):
        return False


def compile_kernels() -> None:
    """Run every kernel once, with the argument types of every later call."""
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.rand(16, *shape, generator=generator, requires_grad=True) for shape in ((3,), (4,), (3,), (), (1, 3))
    ]
    viewmat = torch.eye(4)
    viewmat[2, 3] = 3.0
    K = torch.tensor([[20.0, 0.0, 16.0], [0.0, 20.0, 16.0], [0.0, 0.0, 1.0]])
    means, quats, scales, opacities, sh = tensors
    rendering = rasterize_cpu(means, quats, scales, opacities, sh, viewmat, K, (32, 32), filter=Filter(), threads=1)
    value = loss.l1_ssim_gradient(rendering.rgb, torch.zeros(32, 32, 3), 0.2, True, threads=1)[1]
    rendering.rgb.backward(value)
    frame = Frame(flatten(means, quats, scales, opacities, sh), camera_vector(viewmat, K, (32, 32)), (32, 32))
    frame.forward()
    list(sensitivity.frame_moments(frame, [(0, 0)], 1))
    frame.release()
    if not binning.alive_sums.signatures:  # frames of one slab don't need it
        binning.alive_sums(np.zeros(1, np.uint8), 1, 1, np.zeros(4, np.int64))
