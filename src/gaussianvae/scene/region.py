"""A box of the scene: which Gaussians lie in it, and splats that change within it alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.splats import Splats

Box = tuple[float, float, float, float, float, float]
"""x0, y0, z0, x1, y1, z1."""


def inside(splats: Splats, box: Box | None) -> Bool[Tensor, " N"]:
    """Rows whose centers lie in a box (x0, y0, z0, x1, y1, z1); all without one.

    Raises:
        GaussianVAEError: the box is empty or holds no Gaussian.
    """
    if box is None:
        return torch.ones(len(splats), dtype=torch.bool, device=splats.means.device)
    low, high = splats.means.new_tensor(box[:3]), splats.means.new_tensor(box[3:])
    if not bool((low < high).all()):
        raise GaussianVAEError(f"the region {box} is empty; give x0,y0,z0,x1,y1,z1 with x0 < x1, y0 < y1, z0 < z1")
    mask = ((splats.means >= low) & (splats.means <= high)).all(1)
    if not mask.any():
        lo, hi = splats.means.amin(0).tolist(), splats.means.amax(0).tolist()
        raise GaussianVAEError(f"the region {box} holds no Gaussian; the splat spans {_corner(lo)} to {_corner(hi)}")
    return mask


def _corner(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"


def changed_within(before: Splats, after: Splats, rows: Bool[Tensor, " N"]) -> Splats:
    """Rows of `after` where `rows`, else those of `before`, number by number (higher bands that it lacks are zero)."""

    def merge(old: Tensor, new: Tensor) -> Tensor:
        if old.shape[1:] != new.shape[1:]:
            old = torch.cat([old, old.new_zeros(len(old), new.shape[1] - old.shape[1], 3)], 1)
        return torch.where(rows.view(-1, *[1] * (old.ndim - 1)), new, old)

    return replace(
        after,
        means=merge(before.means, after.means),
        quats=merge(before.quats, after.quats),
        scales=merge(before.scales, after.scales),
        opacities=merge(before.opacities, after.opacities),
        sh0=merge(before.sh0, after.sh0),
        shN=merge(before.shN, after.shN),
    )
