"""Where the photographer seems to have stood: around an object, or within a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.guess.outside import joined, pinholes, sphere
from gaussianvae.guess.pictures import SIDE, Look, Model, make_model
from gaussianvae.guess.sample import VISIBLE, every_kth
from gaussianvae.progress import SILENT, Bar, Reporter
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats

FIELD_OF_VIEW = math.radians(60)
"""Of photos from within a scene, where nothing is known."""
VIEWS = 48
"""At most so many views stand in."""
OUTSIDE = 24
"""Pictures from outside, to tell an object from a scene."""
ROUNDS = ((1.5, 144), (0.4, 96), (0.2, 96))
"""Reach of each round of the search in typical radii, and its pictures."""
TURNS = 72
"""Pictures from the best places towards what no good picture had in its frame."""
PARENTS = 12
"""The best pictures: around their places the next round looks."""
WORTHY, USEFUL = 0.6, 0.2
"""Share of the best pictures' merit that a view needs, and that one needs which has in its frame what no other has."""
FINER = 1.85
"""A scene's pictures from within are more than that many times finer than those from outside, which show the backs of
large Gaussians. Of 99 fits of objects one lies above (2.7; the others below 1.75), of seven fits of four real scenes
none below (2.0 to 6.2)."""
ENCLOSED, AS_RICH = 0.6, 0.8
"""So is a splat that fills more than that share of the view behind the photographer's back, as a room or a street does:
unless its pictures from within are less rich than those from outside by that factor, as of a hollow object's inside."""


@dataclass(frozen=True)
class Stand:
    """Where the photographer seems to have stood, if within a scene."""

    cameras: Cameras
    """The best views from within, at a width of `SIDE` pixels."""
    finer: float
    """Fineness of the best views over that of views from outside, medians."""
    richer: float
    """Their richness, likewise."""
    behind: float
    """Share that is filled of the best views turned around, 0-1, median."""

    @property
    def within(self) -> bool:
        """Whether that is likelier than around it."""
        return self.finer > FINER or (self.behind > ENCLOSED and self.richer > AS_RICH)


def find_stand(splats: Splats, field_of_view: float = FIELD_OF_VIEW, report: Reporter = SILENT) -> Stand:
    """Search for the places that see a splat best.

    Args:
        splats: N >= 1 Gaussians.
        field_of_view: of the photos, radians.
        report: receives progress.
    """
    model = make_model(splats)
    with report.bar("look for its cameras", OUTSIDE + TURNS + sum(count for _, count in ROUNDS)) as bar:
        outside = _looks(model, sphere(every_kth(splats), OUTSIDE, SIDE), bar)
        cameras, looks = _search(model, splats, 0.5 * SIDE / math.tan(0.5 * field_of_view), bar)
    best = _best(looks)
    finer = _median([looks[view].fineness for view in best]) / max(_median([o.fineness for o in outside]), 1e-6)
    richer = _median([looks[view].richness for view in best]) / max(_median([o.richness for o in outside]), 1e-6)
    behind = _median([model.look(_turned(cameras, view), 0).cover for view in best])
    return Stand(cameras.select(_spread(model, looks)), finer, richer, behind)


def _median(values: list[float]) -> float:
    return float(torch.tensor(values).median())


def _best(looks: list[Look]) -> list[int]:
    return sorted(range(len(looks)), key=lambda view: -looks[view].merit)[:PARENTS]


def _turned(cameras: Cameras, view: int) -> Cameras:
    """What lies behind the back of a camera, 90 degrees wide."""
    one = cameras.select([view])
    one.viewmats[0, [0, 2]] *= -1
    one.Ks[0, 0, 0] = one.Ks[0, 1, 1] = 0.5 * SIDE
    return one


def _looks(model: Model, cameras: Cameras, bar: Bar) -> list[Look]:
    looks = []
    for view in range(len(cameras)):
        looks.append(model.look(cameras, view))
        bar.advance()
    return looks


def _search(model: Model, splats: Splats, focal: float, bar: Bar) -> tuple[Cameras, list[Look]]:
    """Pictures from many places towards random Gaussians: everywhere first, then around the best places."""
    points = splats.means[splats.opacities > VISIBLE]
    points = points if len(points) else splats.means
    center = points.median(0).values
    radius = float((points - center).norm(dim=1).median().clamp_min(1e-6))
    generator = torch.Generator().manual_seed(0)

    def some(points: Float[Tensor, "N 3"], count: int) -> Float[Tensor, "V 3"]:
        return points[torch.randint(len(points), (count,), generator=generator)]

    parts: list[Cameras] = []
    looks: list[Look] = []
    places, aims = points[:0], points[:0]

    def take(new_places: Float[Tensor, "V 3"], new_aims: Float[Tensor, "V 3"]) -> None:
        nonlocal places, aims
        places, aims = torch.cat([places, new_places]), torch.cat([aims, new_aims])
        parts.append(pinholes(new_places, new_aims, focal, SIDE))
        looks.extend(_looks(model, parts[-1], bar))

    for number, (reach, count) in enumerate(ROUNDS):
        steps = reach * radius * torch.randn(count, 3, generator=generator)
        if number == 0:
            # half of them anywhere, half nearer to some Gaussian: a street is long and narrow
            nearer = some(points, count) + torch.rand(count, 1, generator=generator).square() * steps
            take(torch.where(torch.arange(count)[:, None] % 2 == 0, center + steps, nearer), some(points, count))
        else:
            parents = torch.tensor(_best(looks)).repeat(count)[:count]
            kept = torch.rand(count, 1, generator=generator) < 0.5
            take(places[parents] + steps, torch.where(kept, aims[parents], some(points, count)))
    missed = model.splats.means[~torch.stack([looks[view].framed for view in _worthy(looks, WORTHY)]).any(0)]
    parents = torch.tensor(_best(looks)).repeat(TURNS)[:TURNS]
    take(places[parents], some(missed if len(missed) else points, TURNS))
    return joined(parts), looks


def _worthy(looks: list[Look], share: float) -> list[int]:
    """Views of at least a share of the best ones' merit."""
    merits = torch.tensor([look.merit for look in looks])
    return torch.nonzero(merits >= share * float(merits[_best(looks)].median()))[:, 0].tolist()


def _spread(model: Model, looks: list[Look]) -> list[int]:
    """Views of merit that together show as much as they can, each Gaussian the less counted the more views have it;
    then such as have in their frame what none of these has."""
    chosen = _greedy(model, looks, _worthy(looks, WORTHY), torch.zeros(len(model.splats)), VIEWS * 3 // 4)
    framed = torch.stack([looks[view].framed for view in chosen]).any(0)
    others = [view for view in _worthy(looks, USEFUL) if view not in chosen]
    return chosen + _greedy(model, looks, others, 1e6 * framed.float(), VIEWS - len(chosen))


def _greedy(model: Model, looks: list[Look], views: list[int], seen: Tensor, count: int) -> list[int]:
    if not views:
        return []
    merits = torch.tensor([looks[view].merit for view in views])
    shown = torch.stack([looks[view].shown for view in views]).float()
    chosen: list[int] = []
    for _ in range(min(count, len(views))):
        gains = merits * (shown @ (model.stands_for / (1 + seen)))
        gains[chosen] = -1.0
        chosen.append(int(gains.argmax()))
        seen = seen + shown[chosen[-1]]
    return [views[row] for row in chosen]
