"""The CPU back end for PyTorch: tensors in, differentiable tensors out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gaussianvae.errors import GaussianVAEError
from gaussianvae.rasterize.cpu.frame import Floats, Frame, camera_vector, default_threads, flatten
from gaussianvae.rasterize.types import Filter, Rendering

MOST_COLUMNS, MOST_ROWS = 32768, 16384
"""Largest image: a span packs its band and rows into 12 and 14 bits."""


def planes(gradient: Tensor | None, count: int) -> Floats | None:
    """A gradient (H, W, count) or (H, W) as flat planes; no copy where its memory is planar already."""
    if gradient is None:
        return None
    if count > 1:
        gradient = gradient.permute(2, 0, 1)
    return gradient.detach().float().contiguous().numpy().reshape(-1)


def _outputs(image: Floats, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    width, height = size
    stack = image.reshape(5, height, width)
    # three arrays, no views for torch: each may be changed in place by itself
    rgb, alpha, depth = torch.from_numpy(stack[:3].transpose(1, 2, 0)), stack[3], stack[4]
    return rgb, torch.from_numpy(alpha), torch.from_numpy(depth)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frame: Frame, means2d_grad: Tensor | None, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = _outputs(frame.forward(), frame.size)
        ctx.frame, ctx.means2d_grad = frame, means2d_grad
        ctx.save_for_backward(*inputs, *outputs)  # only so that torch notices changes in place
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *v: Tensor | None) -> tuple[Any, ...]:
        inputs, frame = ctx.saved_tensors[:5], ctx.frame
        v_rgb, v_alpha, v_depth = planes(v[0], 3), planes(v[1], 1), planes(v[2], 1)
        if v_rgb is None:
            v_rgb = np.zeros(3 * frame.size[0] * frame.size[1], np.float32)
        gradients = [torch.from_numpy(g) for g in frame.backward(v_rgb, v_alpha, v_depth, ctx.needs_input_grad[-1])]
        frame.release()
        if ctx.means2d_grad is not None:
            ctx.means2d_grad.copy_(gradients[5].view(-1, 4)[: len(inputs[0])])
        shaped = [g[: t.numel()].view(t.shape) if len(g) else None for g, t in zip(gradients, inputs, strict=False)]
        return None, None, *shaped


def rasterize_cpu(
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
    threads: int | None = None,
    means2d_grad: Tensor | None = None,
) -> Rendering:
    """One view by the numba kernels, float32; arguments as in `gaussianvae.rasterize.rasterize`.

    Raises:
        GaussianVAEError: the image is larger than 32768 x 16384.
    """
    width, height = size
    if not (0 < width <= MOST_COLUMNS and 0 < height <= MOST_ROWS):
        raise GaussianVAEError(
            f"can't render {width}x{height} on the CPU: 1x1 to {MOST_COLUMNS}x{MOST_ROWS} is possible; render parts"
        )
    inputs = means, quats, scales, opacities, sh
    frame = Frame(
        flatten(*inputs),
        camera_vector(viewmat, K, size),
        size,
        eps2d=filter.eps2d,
        compensated=filter.mode == "mip",
        background=background.tolist() if isinstance(background, Tensor) else background,
        threads=threads or default_threads(len(means), size),
    )
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return Rendering(*_Rasterize.apply(frame, means2d_grad, *inputs))  # type: ignore[no-untyped-call]
    rendering = Rendering(*_outputs(frame.forward(), size))
    frame.release()
    return rendering
