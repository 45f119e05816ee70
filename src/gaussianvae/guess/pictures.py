"""Small pictures of a splat, and how much each tells: a photographer stood where pictures are full of distinct things.

A fit makes Gaussians about as small as its photos could resolve, where they looked. Seen from where no photo was taken,
from outside a room, say, or from behind a wall, a few huge ones hide the rest. So the number of Gaussians that a
picture effectively consists of, exp(entropy of their shares of it), is high near the true cameras and low elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussianvae.guess.sample import thinned
from gaussianvae.rasterize import Filter, rasterize
from gaussianvae.scene.cameras import NEAR, Cameras, project
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.splats import Splats

SIDE = 64
"""Width and height of the pictures in pixels."""
MOST = 12_000
"""Gaussians to draw."""
HIDDEN = 1.05
"""What lies deeper than that many times what the picture shows there is hidden."""
FILTER = Filter("classic", 0.3)


@dataclass(frozen=True)
class Look:
    """What one small picture tells."""

    richness: float
    """Number of Gaussians that it effectively consists of: what covers it, over the geometric mean of their areas."""
    cover: float
    """Mean alpha, 0-1."""
    framed: Bool[Tensor, " M"]
    """The Gaussians within the frame."""
    shown: Bool[Tensor, " M"]
    """Those of them that nothing hides."""
    open: float
    """The share that is shown of those within the frame, 0-1."""

    @property
    def fineness(self) -> float:
        """The same over the share of the picture that is covered: high where what is shown is small, however little."""
        return self.richness / max(self.cover, 1e-3)

    @property
    def merit(self) -> float:
        """How likely a photo was taken there: rich, filled, and with little hidden behind what it shows."""
        return self.richness * self.cover**2 * self.open


@dataclass(frozen=True)
class Model:
    """A splat made ready for many small pictures."""

    splats: Splats
    """M Gaussians; base color and few enough."""
    stands_for: Float[Tensor, " M"]
    """How many Gaussians of the whole each of them is."""
    areas: Float[Tensor, " M"]
    """2 pi s1 s2 of the two larger axes, before any enlargement, square world units."""
    middle: Float[Tensor, " M"]
    """Their middle sizes, world units."""

    def look(self, cameras: Cameras, view: int) -> Look:
        """Take one picture."""
        few = self.splats
        pixels, depths = project(cameras, view, few.means)
        size = cameras.sizes[view]
        # the color of a Gaussian is the logarithm of its area in pixels, at least one: no picture tells more
        area = (1 + self.areas * (cameras.focals[view] / depths.clamp_min(NEAR)).square()).log()
        sh = ((area - 0.5) / C0)[:, None, None].expand(-1, 1, 3).contiguous()
        with torch.no_grad():
            seen = rasterize(
                few.means, few.quats, few.scales, few.opacities, sh, cameras.viewmats[view], cameras.Ks[view], size,
                filter=FILTER,
            )  # fmt: skip
        column, row = pixels.nan_to_num(-1.0).clamp(-1, max(size)).floor().long().unbind(1)
        framed = (depths > NEAR) & (column >= 0) & (column < size[0]) & (row >= 0) & (row < size[1])
        rows = torch.nonzero(framed)[:, 0]
        at = row[rows], column[rows]
        bound = HIDDEN * seen.depth[at] + self.middle[rows]
        shown = torch.zeros(len(few), dtype=torch.bool)
        shown[rows] = (depths[rows] <= bound) | (seen.alpha[at] < 0.5)
        covered = float(seen.alpha.sum())
        mean_log = float(seen.rgb[..., 0].sum()) / max(covered, 1e-6)
        return Look(
            richness=covered / math.exp(mean_log),
            cover=covered / seen.alpha.numel(),
            framed=framed,
            shown=shown,
            open=float(self.stands_for[shown].sum() / self.stands_for[rows].sum().clamp_min(1e-6)),
        )


def make_model(splats: Splats) -> Model:
    """Thin a splat out for small pictures."""
    few, stands_for = thinned(replace(splats, extras={}, stored=None), MOST)
    few = replace(few, shN=few.shN[:, :0])
    ordered = few.scales.sort(dim=1).values
    return Model(few, stands_for, 2 * math.pi * ordered[:, 1:].prod(1) / stands_for, ordered[:, 1])
