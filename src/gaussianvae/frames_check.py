"""Whether a splat and a capture share one frame, told by a few photos; and if not, which frame the splat may be in.

Trainers write splats in frames of their own: nerfstudio and gsplat turn, center and scale the world, converters swap
axes. Nothing in a file tells, but renders do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.antialias import CLASSIC_VIEW, PIXEL_FILTER
from gaussianvae.captures import Capture, Views, load_views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.cameras import Cameras, resize, spread_views
from gaussianvae.scene.imaging import psnr, reduce_image
from gaussianvae.scene.similarity import Similarity, axes_text, axis_rotations, turn_between
from gaussianvae.scene.splats import Splats

VIEWS = 3
"""Training photos looked at."""
SIDE, SMALL = 128, 40
"""Pixels of the longer side of the photos that judge, and of those that a search looks at."""
LOW, HIGH = 15.0, 25.0
"""Mean PSNR (dB) under which a splat is taken not to show the photos. Fits of real captures reach 20.7 to 34.1, the
same turned by axes at most 14.7, and those of other scenes at most 9.4. In photos that hardly differ from one color a
splat must be better than that color. From the second figure on there is no doubt."""
CLEARLY, DOUBTFULLY = 3.0, 6.0
"""A frame is named where it gives so many dB more, and enough; where the splat itself is between the figures, the
second: small things over black look somewhat alike however they are turned."""
FEW = 10_000
"""Gaussians that a search renders."""
SPREAD = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Scales tried, in units of what the sizes of splat and capture suggest: the one may have more background."""
KEPT, ROUNDS = 2, 8
"""Guesses that are improved, and rounds of steps around each."""


@dataclass(frozen=True)
class Frame:
    """A frame that a splat may be in."""

    text: str
    """What was done to bring it there, as an instruction for the way back."""
    move: Similarity
    """From the splat's frame to the capture's."""


@dataclass(frozen=True)
class Match:
    """How well a splat shows a capture's photos."""

    psnr: float
    """dB, the mean over the views."""
    views: int
    fits: bool
    better: Frame | None = None
    """Where it doesn't fit: a frame in which it would."""
    better_psnr: float = 0.0

    def __str__(self) -> str:
        seen = f"{self.psnr:.1f} dB over {self.views} views"
        if self.fits:
            return seen
        if self.better is None:
            return f"{seen}; it may be in another frame, or of another scene"
        return f"{seen}; {self.better.text} it would reach {self.better_psnr:.1f} dB: bring it into the capture's frame"


def check_frames(named: Mapping[str, Splats], capture: Capture, report: Reporter = SILENT) -> dict[str, Match]:
    """Say in one line when a splat doesn't look like a capture's photos, and which frame it seems to be in.

    Args:
        named: splats by their names, for the messages; over what their photos had beyond the scene, else over black.
        capture: what they are to be shown with; up to 3 training photos are decoded.
        report: receives the messages, if there are any.

    Returns:
        What was found for each; nothing for those without Gaussians, or where the photos can't be read.
    """
    chosen = [capture.train[place] for place in spread_views(len(capture.train), VIEWS)]
    factor = max(1.0, max(max(capture.cameras.sizes[view]) for view in chosen) / SIDE)
    loaded: dict[tuple[float, float, float], Views] = {}
    found: dict[str, Match] = {}
    for name, splats in named.items():
        background = splats.recipe.background or (0.0, 0.0, 0.0)
        try:
            views = loaded.get(background) or load_views(capture, chosen, factor, background)
        except GaussianVAEError:
            break  # whoever needs the photos will say so
        loaded[background] = views
        if len(splats):
            match = found[name] = match_frames(splats, views, capture)
            if not match.fits:
                report.message(f"{name} doesn't look like this capture's photos: {match}")
    return found


def match_frames(splats: Splats, views: Views, capture: Capture) -> Match:
    """Compare a splat with a few photos as it is and, where that fails, in other frames.

    Args:
        splats: N >= 1 Gaussians.
        views: photos, small ones.
        capture: where they are from: all its cameras and points say how trainers would have moved it.
    """
    same = Similarity(torch.eye(3), 1.0, torch.zeros(3))
    count = len(views.cameras)
    reached = _agreement(splats, views, same, PIXEL_FILTER)
    bound = max(LOW, min(HIGH, _plain(views)))
    if reached < bound and splats.recipe.mode != "mip":  # a classic fit's own dilation may suit it better
        reached = max(reached, _agreement(splats, views, same, CLASSIC_VIEW))
    fits = reached >= bound
    if reached >= HIGH:
        return Match(reached, count, True)
    few, small = _fewer(splats), _smaller(views)
    best, better = _best(splats, views, few, small, _known_frames(capture))
    if not fits and better <= max(bound, reached + CLEARLY):
        best, better = _best(splats, views, few, small, _sized_frames(few, small, capture))
    if better <= max(bound, reached + (DOUBTFULLY if fits else CLEARLY)):
        return Match(reached, count, fits)
    return Match(reached, count, False, best, better)


def _agreement(splats: Splats, views: Views, move: Similarity, pixel: Filter, most: int = VIEWS) -> float:
    """Mean PSNR over the first views."""
    cameras = move.cameras(views.cameras)
    with torch.no_grad():
        shown = [
            psnr(render(splats, cameras, v, filter=pixel, background=views.background).rgb, views.images[v])
            for v in range(min(most, len(cameras)))
        ]
    figure = sum(min(one, 100.0) for one in shown) / len(shown)
    return figure if math.isfinite(figure) else 0.0


def _plain(views: Views) -> float:
    """Mean PSNR of pictures of nothing but the photos' own mean colors."""
    shown = [psnr(photo.mean((0, 1)).expand_as(photo), photo) for photo in views.images]
    return sum(min(one, 100.0) for one in shown) / len(shown)


def _fewer(splats: Splats) -> Splats:
    """Some Gaussians, grown to cover what all of them do."""
    step = len(splats) / FEW
    if step <= 1:
        return splats
    rows = (torch.arange(FEW) * step).long()
    some = splats.select(rows)
    return replace(some, scales=some.scales * step**0.5)


def _smaller(views: Views) -> Views:
    longest = max(max(size) for size in views.cameras.sizes)
    cameras = resize(views.cameras, max(1.0, longest / SMALL))
    images = tuple(reduce_image(image, cameras.sizes[v]) for v, image in enumerate(views.images))
    return replace(views, cameras=cameras, images=images, alphas=None)


def _best(splats: Splats, views: Views, few: Splats, small: Views, frames: Sequence[Frame]) -> tuple[Frame, float]:
    """The frame of highest PSNR by few Gaussians and pixels, and its PSNR by all."""
    best = _first(few, small, [frame.move for frame in frames], 1)[0]
    frame = next(frame for frame in frames if frame.move is best)
    return frame, _agreement(splats, views, frame.move, PIXEL_FILTER)


def _first(few: Splats, small: Views, moves: Sequence[Similarity], count: int) -> list[Similarity]:
    """The best of many moves, told by one view, and of the better ones by all."""
    ranked = sorted(moves, key=lambda move: -_agreement(few, small, move, PIXEL_FILTER, most=1))[:12]
    return sorted(ranked, key=lambda move: -_agreement(few, small, move, PIXEL_FILTER))[:count]


def _known_frames(capture: Capture) -> list[Frame]:
    """Axes swapped; and what nerfstudio and gsplat make of such worlds, where they aren't told to leave them alone."""
    cameras, still = capture.cameras, [Similarity(turn, 1.0, torch.zeros(3)) for turn in axis_rotations()]
    frames = [Frame(f"turned by {axes_text(move.rotation)}", move) for move in still[1:]]
    for move in still:  # the world may have been turned before
        made = _nerfstudio_move(move.apply(cameras.positions), _ups(cameras) @ move.rotation.T).after(move)
        frames.append(Frame("with nerfstudio's orientation, centering and scale undone", made.inverse()))
    if capture.points is not None and len(capture.points.means) > 3:
        frames += [
            Frame("with gsplat's normalization undone", move.inverse())
            for move in _gsplat_moves(cameras, capture.points.means)
        ]
    return frames


def _ups(cameras: Cameras) -> Float[Tensor, "V 3"]:
    return -cameras.viewmats[:, 1, :3]


def _nerfstudio_move(positions: Float[Tensor, "V 3"], ups: Float[Tensor, "V 3"]) -> Similarity:
    """What nerfstudio's data parser does by default: mean up becomes z, positions fill -1 to 1 around their mean."""
    turn, center = turn_between(_mean_direction(ups), torch.tensor([0.0, 0.0, 1.0])), positions.mean(0)
    scale = 1 / max(float(((positions - center) @ turn.T).abs().max()), 1e-9)
    return Similarity(turn, scale, -scale * turn @ center)


def _gsplat_moves(cameras: Cameras, points: Float[Tensor, "P 3"]) -> list[Similarity]:
    """What gsplat's trainer does by default: up becomes -y, what is looked at the origin, the median distance to it 1;
    then the points' principal axes become x, y, z around their median. The axes' signs are free."""
    turn = turn_between(_mean_direction(_ups(cameras)), torch.tensor([0.0, -1.0, 0.0]))
    positions, forward = cameras.positions @ turn.T, cameras.viewmats[:, 2, :3] @ turn.T
    nearest = positions - (forward * positions).sum(1, keepdim=True) * forward
    center = _median(nearest)
    scale = 1 / max(float(_median((positions - center).norm(dim=1))), 1e-9)
    first = Similarity(turn, scale, -scale * center)
    moved = first.apply(points)
    axes = torch.linalg.eigh(torch.cov(moved.T.double()))[1].flip(1).T.float()
    axes = axes * torch.linalg.det(axes).sign()
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    turns = [sign[:, None] * axes for sign in signs]
    return [Similarity(turn, 1.0, -turn @ _median(moved)).after(first) for turn in turns]


def _mean_direction(vectors: Float[Tensor, "V 3"]) -> Float[Tensor, "3"]:
    return torch.nn.functional.normalize(vectors.mean(0), dim=0)


def _median(values: Tensor) -> Tensor:
    """Along the first axis, as numpy has it: the mean of the middle two of an even number."""
    return torch.from_numpy(np.median(values.numpy(), 0)) if values.ndim > 1 else values.quantile(0.5)


def _sized_frames(few: Splats, small: Views, capture: Capture) -> list[Frame]:
    """Axes swapped, with a scale and a shift that are guessed from sizes and then improved."""
    visible = few.means[few.opacities > 0.3]
    center, radius = _extent(visible if len(visible) > 3 else few.means)
    target, size = _looked_at(capture)
    guesses = []
    for turn in axis_rotations():
        for factor in SPREAD:
            scale = factor * size / radius
            guesses.append(Similarity(turn, scale, target - scale * turn @ center))
    improved = [_improve(few, small, guess, center, radius) for guess in _first(few, small, guesses, KEPT)]
    return [Frame(_text(move, size), move) for move in improved]


def _improve(few: Splats, small: Views, start: Similarity, center: Tensor, radius: float) -> Similarity:
    """Search for a better scale and shift, one number after the other, in steps that shrink when none helps."""
    move, reached, step = start, _agreement(few, small, start, PIXEL_FILTER), 0.25
    for _ in range(ROUNDS):
        before = reached
        for number in range(4):
            for sign in (1, -1):
                scale = move.scale * ((1 + step) ** sign if number == 3 else 1)
                place = move.apply(center[None])[0]
                if number < 3:
                    place[number] += sign * step * radius * scale
                tried = Similarity(move.rotation, scale, place - scale * move.rotation @ center)
                figure = _agreement(few, small, tried, PIXEL_FILTER)
                if figure > reached:
                    move, reached = tried, figure
                    break
        if reached == before:
            step /= 2
    return move


def _text(move: Similarity, size: float) -> str:
    """A turn, scale and shift in words; `size` is the capture's."""
    known = not torch.equal(move.rotation, torch.eye(3))
    turned = f"turned by {axes_text(move.rotation)}, " if known else ""
    text = f"{turned}scaled by about {move.scale:.2g}"
    if float(move.translation.norm()) < 0.05 * size:
        return text
    shift = [0.0 if abs(value) < 0.02 * size else value for value in move.translation.tolist()]
    return f"{text} and moved by about ({', '.join(f'{value:.2g}' for value in shift)})"


def _extent(points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "3"], float]:
    """The median of some points and the median distance from it."""
    center = points.median(0).values
    return center, max(float((points - center).norm(dim=1).median()), 1e-9)


def _looked_at(capture: Capture) -> tuple[Float[Tensor, "3"], float]:
    """Center and size of what a capture shows: its points', else the point nearest to all optical axes."""
    if capture.points is not None and len(capture.points.means) > 3:
        return _extent(capture.points.means)
    positions, axes = capture.cameras.positions.double(), capture.cameras.viewmats[:, 2, :3].double()
    across = torch.eye(3).double() - axes[:, :, None] * axes[:, None, :]
    normal = across.sum(0) + 1e-6 * torch.eye(3).double()
    center = torch.linalg.solve(normal, (across @ positions[:, :, None]).sum(0))[:, 0].float()
    return center, max(float((capture.cameras.positions - center).norm(dim=1).median() / 4), 1e-9)
