"""Residuals -> Gaussians: every row is refined, a chosen row becomes two.

A row that isn't chosen starts from the anchor; a chosen one from its moment- and peak-preserving split. A zero residual
leaves either exactly there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussianvae.scene.edits import RowEdit, append_children
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.rotations import multiply_quats, normalize_quats, rotvecs_to_quats
from gaussianvae.scene.splats import Splats
from gaussianvae.scene.split import halve

GEOMETRY, APPEARANCE = 10, 4
"""Numbers a child: mean 3, log-scale 3, rotation 3, log-odds 1; base color 3, log-gain of the higher bands 1."""
SLOTS = 3
"""Of each row: first half, second half, and the undivided Gaussian."""
BOUNDS_GEOMETRY = (1.5,) * 3 + (1.6,) * 3 + (0.5,) * 3 + (3.0,)
"""Standard deviations, log, radians, log-odds."""
BOUNDS_APPEARANCE = (0.3,) * 3 + (0.5,)
"""RGB, log."""


@dataclass(frozen=True)
class Residuals:
    """Bounded corrections of N rows, in each row's own frame (axes longest first)."""

    geometry: Float[Tensor, "N 3 10"]
    appearance: Float[Tensor, "N 3 4"]

    def scaled(self, step: float | Float[Tensor, " N"]) -> Residuals:
        """All corrections times one factor, or each row's times its own."""
        by = step if isinstance(step, float | int) else step[:, None, None]
        return Residuals(self.geometry * by, self.appearance * by)

    def to_float32(self) -> Residuals:
        """The same in single precision."""
        return Residuals(self.geometry.float(), self.appearance.float())


def shifted_odds(opacities: Tensor, shift: Tensor) -> Tensor:
    """sigmoid(logit(o) + shift), written so that a zero shift returns o itself."""
    return opacities * shift.exp() / (1 + opacities * shift.expm1())


def _apply(base: Splats, frames: Tensor, order: Tensor, spread: Tensor, geometry: Tensor, appearance: Tensor) -> Splats:
    """Refine each row of `base`; lengths are in `spread`, the row's standard deviations along `frames`."""
    shift = ((geometry[:, 0:3] * spread)[:, None] @ frames.transpose(1, 2))[:, 0]
    grow = torch.zeros_like(geometry[:, 3:6]).scatter(1, order, geometry[:, 3:6])
    turn = rotvecs_to_quats((geometry[:, None, 6:9] @ frames.transpose(1, 2))[:, 0])
    return replace(
        base,
        means=base.means + shift,
        quats=normalize_quats(multiply_quats(turn, base.quats)),
        scales=base.scales * grow.exp(),
        opacities=shifted_odds(base.opacities, geometry[:, 9]),
        sh0=base.sh0 + appearance[:, None, 0:3] / C0,
        shN=base.shN * appearance[:, None, 3:4].exp(),
        stored=None,
    )


def insert(
    anchor: Splats,
    residuals: Residuals,
    frames: Float[Tensor, "N 3 3"],
    order: Int[Tensor, "N 3"],
    chosen: Bool[Tensor, " N"],
) -> tuple[Splats, RowEdit]:
    """Refined Gaussians: one for each row in its place, then the second child of each chosen row.

    Args:
        anchor: N rows to start from.
        residuals: theirs.
        frames: columns are the axes, longest first; order: which of the splat's axes each is.
        chosen: the rows that become two.

    Returns:
        N + sum(chosen) Gaussians, differentiable in the residuals, and the edit that made them.
    """
    n = len(anchor)
    rows = torch.nonzero(chosen)[:, 0]
    edit = append_children(rows, n)
    parents = edit.parents
    halves = halve(anchor.quats[rows], anchor.scales[rows], anchor.opacities[rows])
    # the longest axis in the own frame fixes which half is the first: the one towards rising luminance
    first = frames[rows, :, 0]
    toward = torch.where((halves.offsets * first).sum(1, keepdim=True) < 0, -1.0, 1.0).to(first)
    offsets = halves.offsets * toward
    base = anchor.select(parents)
    slot = torch.where(chosen, 0, 2)[parents]
    slot[n:] = 1
    means = base.means.clone()
    scales, opacities = base.scales.clone(), base.opacities.clone()
    means[rows], means[n:] = means[rows] + offsets, means[n:] - offsets
    for part in (rows, slice(n, None)):
        scales[part], opacities[part] = halves.scales, halves.opacities
    base = replace(base, means=means, scales=scales, opacities=opacities)
    spread = anchor.scales.gather(1, order)[parents]
    refined = _apply(
        base, frames[parents], order[parents], spread,
        residuals.geometry[parents, slot], residuals.appearance[parents, slot],
    )  # fmt: skip
    return refined, edit
