"""What splat files store before activation (log scales, logits, quaternions of any length), and the way back.

Computed in float64 and rounded to float32 once: torch's float32 sigmoid gives other last bits for a row alone than for the
same row among others, and rows that nobody changed must be recognized by their bits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.scene.splats import Splats, Stored

SMALLEST = 1e-7
"""Opacities that we computed are kept this far from 0 and 1, so that their logits are finite."""


def activate(stored: Stored) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"], Float[Tensor, "N 4"]]:
    """Scales, opacities and unit quaternions (float32, on the CPU) of raw values; a zero quaternion turns nothing."""
    scales = stored.log_scales.double().exp().float()
    opacities = stored.logits.double().sigmoid().float()
    return scales, opacities, _unit(stored.quats)


def _unit(quats: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    w, x, y, z = quats.double().unbind(1)
    norm = (w * w + x * x + y * y + z * z).sqrt()[:, None]
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return torch.where(norm > 0, quats.double() / norm.clamp_min(1e-300), identity).float()


def deactivate(splats: Splats) -> Stored:
    """Raw values (float32, on the CPU) of a splat; those that it was read with wherever activation gives what it has."""
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
