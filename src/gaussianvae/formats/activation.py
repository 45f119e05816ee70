"""What splat files store before activation (log scales, logits, quaternions of any length), and the way back.

Computed in float64 and rounded to float32 once: torch's float32 sigmoid gives other last bits for a row alone than for
the same row among others, and rows that nobody changed must be recognized by their bits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.scene.splats import Splats, Stored

BLOCK = 1 << 15
"""Rows at a time: new memory for a whole column costs more than its values."""
SMALLEST = 1e-7
"""Opacities that we computed are kept this far from 0 and 1, so that their logits are finite."""


def activate(stored: Stored) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"], Float[Tensor, "N 4"]]:
    """Scales, opacities and unit quaternions (float32, on the CPU) of raw values; a zero quaternion turns nothing."""
    scales, opacities, quats = (torch.empty_like(t) for t in (stored.log_scales, stored.logits, stored.quats))
    for start in range(0, len(opacities), BLOCK):
        rows = slice(start, start + BLOCK)
        scales[rows] = stored.log_scales[rows].double().exp()
        opacities[rows] = stored.logits[rows].double().sigmoid()
        quats[rows] = _unit(stored.quats[rows].double())
    return scales, opacities, quats


def _unit(quats: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    w, x, y, z = quats.unbind(1)
    norm = (w * w + x * x + y * y + z * z).sqrt()[:, None]
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return torch.where(norm > 0, quats / norm, identity)


def deactivate(splats: Splats) -> Stored:
    """Raw values (float32, on the CPU): those that the splat was read with where they still give what it has."""
    scales, opacities, quats = (t.detach().cpu().float() for t in (splats.scales, splats.opacities, splats.quats))
    log_scales = scales.double().log().float()
    logits = torch.logit(opacities.double().clamp(SMALLEST, 1 - SMALLEST)).float()
    if splats.stored is None:
        return Stored(log_scales, logits, quats)
    kept = splats.stored
    kept = Stored(*(t.detach().cpu().float() for t in (kept.log_scales, kept.logits, kept.quats)))
    as_read = activate(kept)
    return Stored(
        log_scales=torch.where(as_read[0] == scales, kept.log_scales, log_scales),
        logits=torch.where(as_read[1] == opacities, kept.logits, logits),
        quats=torch.where((as_read[2] == quats).all(1, keepdim=True), kept.quats, quats),
    )
