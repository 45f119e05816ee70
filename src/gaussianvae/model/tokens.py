"""What the network sees of each Gaussian: itself, its ancestors and its neighbors, in its own frame.

The frame is the anchor Gaussian's principal axes, longest first, each turned so that luminance rises along it; lengths
are in LR pixels (phi) at the Gaussian. Nothing depends on where the scene lies, how it is turned, or its unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussianvae.antialias import training_filter
from gaussianvae.growth.lineage import Level, Lineage
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.rotations import quats_to_rotmats
from gaussianvae.scene.splats import Splats, covariances

NEIGHBORS = 8
OWN = 46
NEIGHBOR = 12
ANCESTOR = 14
CURVATURE = slice(39, 46)
"""The columns of `own` that hold the Hessian's determinacy."""
LOG_SCALE, HAS_LINEAGE, HAS_CURVATURE = 35, 36, 37
"""The columns that hold log(scale), and whether ancestors and the determinacy are known."""
SUMMARY = 16
MAX_ANCESTORS = 3


@dataclass(frozen=True)
class Tokens:
    """Inputs of the network for N Gaussians."""

    own: Float[Tensor, "N 46"]
    ancestors: Float[Tensor, "N L 14"]
    """L ancestors, the coarsest first; L may be 0."""
    neighbors: Float[Tensor, "N 8 12"]
    frames: Float[Tensor, "N 3 3"]
    """Columns: the axes of each Gaussian, longest first."""
    order: Int[Tensor, "N 3"]
    """Which of the splat's axes each column is."""

    def __len__(self) -> int:
        return len(self.own)

    def select(self, rows: Tensor) -> Tokens:
        """Some rows."""
        return Tokens(*(getattr(self, f.name)[rows] for f in fields(self)))

    def to(self, device: torch.device | str) -> Tokens:
        """The same on another device."""
        return Tokens(*(getattr(self, f.name).to(device) for f in fields(self)))


def truncated(tokens: Tokens, ancestors: int, keep_curvature: bool = True) -> Tokens:
    """The same tokens with only the `ancestors` finest ancestors, and with or without the determinacy."""
    own = tokens.own.clone()
    count = min(ancestors, tokens.ancestors.shape[1])
    own[:, HAS_LINEAGE] = float(count > 0)
    if not keep_curvature:
        own[:, CURVATURE] = 0
        own[:, HAS_CURVATURE] = 0
    return replace(tokens, own=own, ancestors=tokens.ancestors[:, tokens.ancestors.shape[1] - count :])


def logit(opacities: Tensor) -> Tensor:
    """Log-odds, of opacities clamped to [1e-4, 1 - 1e-4]."""
    p = opacities.clamp(1e-4, 1 - 1e-4)
    return (p / (1 - p)).log()


def squash(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): keeps far values in reach."""
    return x.sign() * x.abs().log1p()


class Neighborhood:
    """The centers of a splat, to be asked for the nearest ones, and how its Gaussians are turned."""

    def __init__(self, splats: Splats) -> None:
        from scipy.spatial import cKDTree

        self.means, self.rotations = splats.means, quats_to_rotmats(splats.quats)
        self.points = self.means.detach().cpu().numpy()
        self.tree = cKDTree(self.points)

    def nearest(
        self, count: int, rows: Int[Tensor, " M"] | None = None
    ) -> tuple[Float[Tensor, "M K"], Int[Tensor, "M K"]]:
        """Distances and rows of the `count` nearest other Gaussians (fewer are repeated) of some rows, of all by
        default."""
        n = len(self.points)
        asked = torch.arange(n, device="cpu") if rows is None else rows.cpu()
        points = self.points if rows is None else self.points[asked.numpy()]
        k = min(count + 1, n)
        found = self.tree.query(points, k=max(k, 2) if n > 1 else 1, workers=-1)
        distance, index = torch.from_numpy(found[0]), torch.from_numpy(found[1]).long()
        if distance.ndim == 1:
            distance, index = distance[:, None], index[:, None]
        if distance.shape[1] > 1:
            # of coincident centers any may come first: the row itself goes, or else the farthest
            own = index == asked[:, None]
            own[~own.any(1), -1] = True
            distance, index = (part[~own].reshape(len(index), -1) for part in (distance, index))
        missing = count - distance.shape[1]
        if missing > 0:
            distance = torch.cat([distance, distance[:, -1:].expand(-1, missing)], 1)
            index = torch.cat([index, index[:, -1:].expand(-1, missing)], 1)
        return distance.to(self.means), index.to(self.means.device)


def _first_band(sh: Tensor, frames: Tensor) -> Tensor:
    """The degree-1 luminance as a vector in the own frame."""
    if sh.shape[1] < 4:
        return frames.new_zeros(len(frames), 3)
    gray = sh[:, 1:4].mean(2)
    vector = torch.stack([-gray[:, 2], -gray[:, 0], gray[:, 1]], 1)
    return (vector[:, None] @ frames)[:, 0]


def curvature_features(known: Float[Tensor, "N 7"] | None, order: Tensor, count: int) -> Tensor:
    """Seven numbers: log of the block's diagonal in the own frame, and of the projected density's energy."""
    if known is None:
        return torch.zeros(count, 7, device=order.device)
    parts = torch.cat([known[:, 0:3].gather(1, order), known[:, 3:6].gather(1, order), known[:, 6:]], 1)
    return (parts.clamp_min(0) + 1e-4).log()


def ancestor_token(
    level: Level, rows: Int[Tensor, " M"], anchor: Splats, frames: Tensor, spread: Tensor, phi: Tensor
) -> Tensor:
    """One ancestor of some rows as its descendants see it."""
    ancestor = level.state.select(level.ancestors[rows])
    size = phi[:, None]
    shift = ((ancestor.means - anchor.means)[:, None] @ frames)[:, 0] / size
    sigma = covariances(ancestor.quats, ancestor.scales)
    along = torch.einsum("nxa,nxy,nya->na", frames, sigma, frames).clamp_min(1e-20).sqrt()
    family = torch.bincount(level.ancestors, minlength=len(level.state))[level.ancestors[rows]].to(phi)
    return torch.cat(
        [
            squash(shift),
            (along / size).log().clamp(-5, 5),
            (along / spread).log().clamp(-5, 5),
            logit(ancestor.opacities)[:, None],
            (ancestor.sh0 - anchor.sh0)[:, 0] * C0,
            torch.stack([family.log()], 1),
        ],
        1,
    )


def make_tokens(
    splats: Splats,
    anchor: Splats,
    phi: Float[Tensor, " N"],
    scale: float,
    *,
    lineage: Lineage | None = None,
    known: Float[Tensor, "N 7"] | None = None,
    neighborhood: Neighborhood | None = None,
    rows: Int[Tensor, " M"] | None = None,
) -> Tokens:
    """Tokens of an LR splat that is to be shown `scale` times finer.

    Args:
        splats: the LR fit.
        anchor: its best closed form, row by row.
        phi: world size of an LR pixel at each Gaussian.
        scale: 1 to 8.
        lineage: its coarser levels (factor > 1 are ancestors); none for a bare splat.
        known: the determinacy at the LR views (`Curvature.determinacy`); zeros where it is not known.
        neighborhood: of the anchor, where it was made before.
        rows: those whose tokens are wanted, all by default; a token depends on its row and on the rows nearby alone.
    """
    coarser = [level for level in (lineage.levels if lineage else ()) if level.factor > 1][-MAX_ANCESTORS:]
    neighborhood = neighborhood or Neighborhood(anchor)
    distance, index = neighborhood.nearest(NEIGHBORS, rows)
    rows = torch.arange(len(anchor), device=anchor.means.device) if rows is None else rows
    mine, n = anchor.select(rows), len(rows)
    size = phi[rows, None]
    order = mine.scales.argsort(dim=1, descending=True, stable=True)
    frames = neighborhood.rotations[rows].gather(2, order[:, None, :].expand(n, 3, 3))
    spread, raw = mine.scales.gather(1, order), splats.scales[rows].gather(1, order)
    color = mine.sh0[:, 0] * C0
    offset = anchor.means[index] - mine.means[:, None]
    contrast = anchor.sh0[index, 0] * C0 - color[:, None]
    weight = anchor.opacities[index] * torch.exp(-0.5 * (distance / (2 * size)).square())
    weight = weight / (weight.sum(1, keepdim=True) + 1e-3)
    slope = torch.einsum("nkc,nkx->ncx", contrast * weight[..., None], offset) / size[..., None] @ frames
    sign = torch.where(slope.sum(1) < 0, -1.0, 1.0).to(slope)
    frames, slope = frames * sign[:, None, :], slope * sign[:, None, :]
    odds, odds_nearby = logit(mine.opacities), logit(anchor.opacities[index])
    bands = mine.shN[:, 3:].square().mean((1, 2)).sqrt() if mine.shN.shape[1] > 3 else torch.zeros_like(odds)
    own_filter = training_filter(splats.recipe)
    same = torch.ones_like(odds)
    own = torch.cat(
        [
            (spread / size).clamp_min(1e-6).log().clamp_min(-5),
            (raw / size).clamp_min(1e-6).log().clamp_min(-5),
            odds[:, None],
            (mine.opacities / splats.opacities[rows].clamp_min(1e-3)).clamp(0, 1)[:, None],
            color,
            _first_band(mine.sh, frames),
            bands[:, None],
            squash(distance[:, [0, 3, 5, 7]] / size),
            slope.reshape(n, 9),
            contrast.abs().mean(1),
            (weight * odds_nearby).sum(1, keepdim=True),
            torch.stack(
                [
                    same * float(own_filter.mode == "classic"),
                    same * own_filter.eps2d,
                    same * float(bool(splats.recipe.filter_3d)),
                    same * math.log(scale),
                    same * float(bool(coarser)),
                    same * float(known is not None),
                    same * (mine.shN.shape[1] > 0),
                ],
                1,
            ),
            curvature_features(None if known is None else known[rows], order, n).to(phi),
        ],
        1,
    )
    # how far each neighbor reaches along the own axes
    align = torch.einsum("nxa,nkxb->nkab", frames, neighborhood.rotations[index]).square()
    variance = (align * anchor.scales[index].square()[:, :, None]).sum(3)
    neighbors = torch.cat(
        [
            squash(torch.einsum("nkx,nxa->nka", offset, frames) / size[..., None]),
            0.5 * (variance / size[..., None].square()).clamp_min(1e-10).log(),
            contrast,
            odds_nearby[..., None],
            squash(distance / size)[..., None],
            weight[..., None] * NEIGHBORS,
        ],
        2,
    )
    ancestors = [ancestor_token(level, rows, mine, frames, spread, phi[rows]) for level in coarser]
    stacked = torch.stack(ancestors, 1) if ancestors else own.new_zeros(n, 0, ANCESTOR)
    return Tokens(own, stacked, neighbors, frames, order)


def descendant_summary(
    anchor: Splats, tokens: Tokens, finer: Splats, parents: Int[Tensor, " M"]
) -> Float[Tensor, "N 16"]:
    """What became of each Gaussian at HR, for the posterior: moments of its descendants in its own frame.

    Args:
        anchor: N LR Gaussians; tokens: theirs.
        finer: M HR Gaussians; parents: the LR row that each descends from.
    """
    n = len(anchor)
    weight = finer.opacities.clamp_min(1e-3) * finer.scales.clamp_min(1e-6).log().sum(1).mul(2 / 3).exp()

    def gather(values: Tensor) -> Tensor:
        total = values.new_zeros(n, values.shape[1]).index_add_(0, parents, values * weight[:, None])
        return total / mass.clamp_min(1e-30)[:, None]

    mass = weight.new_zeros(n).index_add_(0, parents, weight)
    count = torch.bincount(parents, minlength=n).float()
    before = anchor.opacities * anchor.scales.clamp_min(1e-6).log().sum(1).mul(2 / 3).exp()
    spread = anchor.scales.gather(1, tokens.order)
    frames = tokens.frames[parents]
    shift = ((finer.means - anchor.means[parents])[:, None] @ frames)[:, 0] / spread[parents]
    sigma = covariances(finer.quats, finer.scales)
    variance = torch.einsum("nxa,nxy,nya->na", frames, sigma, frames) / spread[parents].square()
    center = gather(shift)
    within = gather(variance)
    between = (gather(shift.square()) - center.square()).clamp_min(0)
    alive = (count > 0).float()[:, None]
    summary = torch.cat(
        [
            squash(center),
            0.5 * (within + 1e-4).log().clamp(-5, 5),
            squash(between.sqrt()),
            gather(logit(finer.opacities)[:, None]) - logit(anchor.opacities)[:, None],
            gather((finer.sh0 - anchor.sh0[parents])[:, 0] * C0) * 4,
            count.log1p()[:, None],
            (mass / before.clamp_min(1e-30) + 1e-3).log()[:, None],
        ],
        1,
    )
    return torch.cat([summary.clamp(-6, 6) * alive, 1 - alive], 1)
