"""A finer splat made to agree with the splat that it was made from: no photo is needed.

Shown at the low resolution through its own training filter, a splat is as good as the photos that it was fitted to; so
whatever is finer must look the same there. A few optimizer steps see to it: the finer splat is rendered at its own
resolution, brought down by exact area average, and compared with the given splat's render from the same camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER, training_filter
from gaussianvae.fitting.refinement import fine_parameters
from gaussianvae.fitting.run import SSIM_WEIGHT, view_of_step
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import rasterize, render
from gaussianvae.rasterize.losses import l1_ssim
from gaussianvae.scene.cameras import Cameras, footprints, project, resize, spread_views
from gaussianvae.scene.imaging import reduce_image
from gaussianvae.scene.rotations import normalize_quats
from gaussianvae.scene.splats import Splats

RATES = {"means": 0.16, "log_scales": 8e-3, "quats": 5.6e-3, "logits": 2.4e-2, "sh0": 1.6e-2, "shN": 2e-3}
"""Peak step sizes, for rows far above `FLOOR`; the means' in fine pixels at the median Gaussian."""
WARM_UP, FINAL = 5, 0.1
"""The first steps rise linearly; from there the sizes fall exponentially to this share."""
FLOOR = 3.0
"""Added to each row's root mean square gradient, in units of the mean over rows."""
VECTORS = {"means": (1,), "quats": (1,), "shN": (1, 2)}
"""The axes of each parameter along which a turn of the scene mixes its numbers."""
SMOOTH = 1 / 255
"""Differences well under this count by their square."""
LARGEST_WINDOW = 1024
"""Side in fine pixels above which a step looks at a window of the image."""
CHECKED, ENOUGH = 4, 12
"""Views that judge; they are kept out of the steps where there are `ENOUGH`."""
BLACK_AND_WHITE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class VectorAdam:
    """Adam whose second moment is shared along vectors, so that its steps turn with the scene (2205.13599).

    Rows whose gradients lie below the mean move in proportion to them, not by whole steps: what no view shows stays
    where it is, instead of following rounding errors.
    """

    def __init__(self, raw: dict[str, Tensor], rates: dict[str, float]) -> None:
        self.raw, self.rates, self.count = raw, rates, 0
        self.first = {name: torch.zeros_like(value) for name, value in raw.items()}
        self.second = {
            name: torch.zeros_like(value.mean(VECTORS[name], keepdim=True) if name in VECTORS else value)
            for name, value in raw.items()
        }

    def step(self, share: float) -> None:
        """One step with all sizes times `share`, then cleared gradients."""
        self.count += 1
        for name, value in self.raw.items():
            gradient, value.grad = value.grad, None
            if gradient is None:
                continue
            square = gradient.square()
            if name in VECTORS:
                square = square.mean(VECTORS[name], keepdim=True)
            first = self.first[name].lerp_(gradient, 0.1) / (1 - 0.9**self.count)
            scale = (self.second[name].lerp_(square, 1e-3) / (1 - 0.999**self.count)).sqrt_()
            floor = FLOOR * scale.mean() + 1e-20
            with torch.no_grad():
                value -= self.rates[name] * share * first / (scale + floor)


@dataclass(frozen=True)
class Agreement:
    """What a splat has to agree with: the given one, from its cameras."""

    given: Splats
    cameras: Cameras
    """At the low resolution."""
    scale: float
    seed: int = 0

    def backgrounds(self) -> Float[Tensor, "B 3"]:
        """The photos' background; black and white in turn where it is unknown."""
        known = self.given.recipe.background
        return self.given.means.new_tensor(BLACK_AND_WHITE if known is None else (known,))

    def window(self, view: int, turn: int, limit: int = LARGEST_WINDOW) -> Cameras:
        """One camera at the low resolution, cut to a window around some Gaussian where its fine image is too large."""
        camera = self.cameras.select([view])
        (width, height), side = camera.sizes[0], max(1, int(limit / self.scale))
        if max(width, height) <= side:
            return camera
        generator = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + turn)
        row = torch.randint(len(self.given), (1,), generator=generator)
        center = project(camera, 0, self.given.means[row])[0][0].nan_to_num().tolist()
        w, h = min(width, side), min(height, side)
        left, top = (
            round(min(max(at - part / 2, 0), whole - part))
            for at, part, whole in zip(center, (w, h), (width, height), strict=True)
        )
        K = camera.Ks.clone()
        K[0, 0, 2] -= left
        K[0, 1, 2] -= top
        return replace(camera, Ks=K, sizes=((w, h),))

    def pair(self, fine: Splats, view: int, turn: int) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]]:
        """The finer splat's render, brought down, and the given one's; `turn` picks background and window."""
        low = self.window(view, turn)
        camera = resize(low, 1 / self.scale)
        colors = self.backgrounds()
        background = colors[turn % len(colors)]
        with torch.no_grad():
            target = render(self.given, low, 0, filter=training_filter(self.given.recipe), background=background).rgb
        image = rasterize(
            fine.means, fine.quats, fine.scales, fine.opacities, fine.sh, camera.viewmats[0], camera.Ks[0],
            camera.sizes[0], filter=PIXEL_FILTER, background=background,
        ).rgb  # fmt: skip
        return reduce_image(image, low.sizes[0]), target

    def loss(self, fine: Splats, view: int, turn: int) -> Float[Tensor, ""]:
        """0.8 L1 + 0.2 (1 - SSIM) of a pair, the L1 smooth about zero: where it bends, rounding would decide."""
        image, target = self.pair(fine, view, turn)
        smooth = ((image - target).square() + SMOOTH**2).sqrt().mean()
        return (1 - SSIM_WEIGHT) * smooth + SSIM_WEIGHT * l1_ssim(image, target, 1.0)

    def decibels(self, fine: Splats, views: Sequence[int]) -> float:
        """PSNR between a finer splat's renders, brought down, and the given one's, over views."""
        with torch.no_grad():
            errors = [
                (low - target).square().mean() for low, target in (self.pair(fine, v, t) for t, v in enumerate(views))
            ]
        return -10 * math.log10(max(float(torch.stack(errors).mean()), 1e-10))

    def measure(self, fine: Splats, views: Sequence[int]) -> float:
        """Mean loss over views."""
        with torch.no_grad():
            return sum(float(self.loss(fine, view, turn)) for turn, view in enumerate(views)) / len(views)


def polish(
    fine: Splats,
    rule: Agreement,
    steps: int,
    *,
    report: Reporter = SILENT,
) -> Splats:
    """Take optimizer steps that bring a finer splat's renders, area-averaged, to those of the splat it was made from.

    Args:
        fine: M Gaussians for `PIXEL_FILTER` at the fine resolution.
        rule: what they have to agree with; its seed is that of the order of views and of windows.
        steps: renders, each with its gradient; 0 does nothing.
        report: receives progress.

    Returns:
        `fine` with better values in the same rows; `fine` itself where the views that judge (4, kept out of the steps
        where there are 12) don't agree better with the result.
    """
    cameras = rule.cameras
    if steps < 1 or len(fine) == 0 or len(cameras) == 0:
        return fine
    judges = spread_views(len(cameras), CHECKED)
    learned = [view for view in range(len(cameras)) if len(cameras) < ENOUGH or view not in judges]
    phi = footprints(resize(cameras, 1 / rule.scale), fine.means)
    values = fine_parameters(fine, phi)
    raw = {name: value.detach().clone().requires_grad_() for name, value in values.items() if value.numel()}
    adam = VectorAdam(raw, {**RATES, "means": RATES["means"] * float(phi.median())})
    with report.bar("polish", steps) as bar:
        for step in range(steps):
            loss = rule.loss(_splats(raw, fine), learned[view_of_step(step, len(learned), rule.seed)], step)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step(FINAL ** (step / steps) * min(1.0, (step + 1) / WARM_UP))
            bar.advance(1, loss=f"{float(loss.detach()):.4f}")
    with torch.no_grad():
        raw = {name: value.detach() for name, value in raw.items()}
        result = _splats({**raw, "quats": normalize_quats(raw["quats"])}, fine)
    # "not better" holds for a loss that isn't a number, too
    better = rule.measure(result, judges) < rule.measure(fine, judges)
    return result if better and all(math.isfinite(float(value.sum())) for value in raw.values()) else fine


def _splats(raw: dict[str, Tensor], fine: Splats) -> Splats:
    return replace(
        fine,
        means=raw["means"],
        quats=raw["quats"],
        scales=raw["log_scales"].exp(),
        opacities=raw["logits"].sigmoid(),
        sh0=raw["sh0"],
        shN=raw.get("shN", fine.shN),
        stored=None,
    )
