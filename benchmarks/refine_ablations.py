"""What each part of `refine` is worth at equal time: PSNR of the test views after so many seconds of one core.

    python benchmarks/refine_ablations.py [--scenes NAME ...] [--variants NAME ...] [--json FILE]

Two test meshes and lego as in refine.py, one real capture (desk) as in captures.py. Growth and step sizes are spread
over the time. Run it on an idle machine. What isn't an option of `refine` is tried by replacing a part of it here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gain import capture_of, data_folder, fit_of_scene, scenes
from torch import Tensor

import captures as real
from gaussianvae.captures import Capture, Views, load_views, read_capture
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import EnhanceConfig, enhance
from gaussianvae.evaluate import evaluate
from gaussianvae.evaluate.baselines import cached_fit
from gaussianvae.fitting import refinement, sub_pixel
from gaussianvae.fitting.holdout import hold_out, select_views
from gaussianvae.fitting.parameters import Rates
from gaussianvae.fitting.reconstruct import ReconstructConfig
from gaussianvae.fitting.refine import refine
from gaussianvae.fitting.refinement import RATES, SteppedParameters
from gaussianvae.fitting.sub_pixel import RefineConfig
from gaussianvae.growth.choice import choose
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.edits import RowEdit
from gaussianvae.scene.rotations import multiply_quats, quats_to_rotmats, rotvecs_to_quats
from gaussianvae.scene.splats import Splats
from gaussianvae.scene.split import Halves, halve, sharpen

MINUTES = {"bab_cannon": 0.2, "pyr_fuze": 0.2, "lego": 0.3, "desk": 0.4}
SCALE = 4.0
MOST_STEPS = 1_000_000
"""So that the clock ends every run."""
Patch = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A scene as it is to be refined."""

    splats: Splats
    photos: Capture
    views: Views
    factor: float
    held: list[int]


@dataclass(frozen=True)
class Variant:
    """One way to refine."""

    start: str = "vae"
    polished: bool = True
    config: dict[str, Any] = field(default_factory=dict)
    rates: Rates = RATES
    patch: Patch | None = None
    quarters: bool = False
    stages: tuple[float, ...] = (SCALE,)


def times(rates: Rates, by: float) -> Rates:
    """All step sizes times one factor."""
    names = ("means", "log_scales", "quats", "logits", "sh0", "shN")
    return replace(rates, **{name: by * getattr(rates, name) for name in names})


def replaced(name: str, by: object) -> Patch:
    """One part of the steps replaced while a variant runs."""
    return lambda: mock.patch.object(sub_pixel, name, by)


def hardly_apart(quats: Tensor, scales: Tensor, opacities: Tensor) -> Halves:
    """Nearly the same twice."""
    return halve(quats, scales, opacities, distance=0.05)


class Twins(SteppedParameters):
    """A second child begins all but invisible, beside its parent as it was, and grows in."""

    def prune_and_split(self, kept: RowEdit, rows: Tensor, into: Callable[[Tensor, Tensor, Tensor], Halves]) -> RowEdit:
        parents = kept.apply(self.raw["logits"].detach())[rows]
        edit = super().prune_and_split(kept, rows, hardly_apart)
        with torch.no_grad():
            self.raw["logits"][rows] = parents
            self.raw["logits"][len(kept) :] = -4.0
        return edit


def at_random(scores: Tensor, count: int) -> Tensor:
    """Any rows that may be split at all."""
    generator = torch.Generator().manual_seed(len(scores))
    return choose(torch.rand(len(scores), generator=generator).where(scores >= 0, -1.0), count)


class OwnAxes(SteppedParameters):
    """Means take their Adam steps along the Gaussians' own axes, in units of their sizes."""

    def step(self, progress: float) -> None:
        means = self.raw["means"]
        frame = quats_to_rotmats(self.raw["quats"].detach()) * self.raw["log_scales"].detach().exp()[:, None, :]
        assert means.grad is not None
        means.grad = (means.grad[:, None] @ frame)[:, 0]
        before, unit = means.detach().clone(), self.extent
        self.extent = 0.5  # the pixel is about half a median Gaussian's size
        super().step(progress)
        self.extent = unit
        with torch.no_grad():
            means.copy_(before + (frame @ (means - before)[:, :, None])[:, :, 0])


class Whitened(SteppedParameters):
    """Means take their Adam steps in axes and units that make each row's mean outer product of gradients, its empirical
    Fisher block, the identity; averaged over about 50 steps."""

    fisher: Tensor | None = None

    def step(self, progress: float) -> None:
        means = self.raw["means"]
        assert means.grad is not None
        outer = means.grad[:, :, None] * means.grad[:, None, :]
        if self.fisher is None or len(self.fisher) != len(outer):
            self.fisher = outer.clone()
        self.fisher.lerp_(outer, 0.02)
        values, vectors = torch.linalg.eigh(self.fisher)
        size = (values.mean(1, keepdim=True) / values.clamp_min(1e-3 * values[:, 2:] + 1e-20)).sqrt().clamp_max(3.0)
        frame = vectors * size[:, None, :]
        means.grad = (means.grad[:, None] @ vectors)[:, 0]
        before = means.detach().clone()
        super().step(progress)
        with torch.no_grad():
            means.copy_(before + (frame @ (means - before)[:, :, None])[:, :, 0])


PLAIN_LOSS = sub_pixel.sub_pixel_loss


def costly(out: Any, *rest: Any) -> Tensor:
    """The loss and a fit's costs of opacity and size, against floaters and needles."""
    longest, shortest = out.scales.amax(1), out.scales.amin(1)
    return PLAIN_LOSS(out, *rest) + 1e-4 * out.opacities.mean() + 1e-5 * (longest / shortest).log().mean()


@contextmanager
def corrected(exposure: bool, poses: bool) -> Iterator[None]:
    """Each photo gets its own gain of colors, or its camera its own small motion, learned along."""
    gains, motions = torch.zeros(1000, 3), torch.zeros(1000, 6)
    unit = torch.tensor(0.0)

    def loss(out: Any, fine: Cameras, view: int, photo: Tensor, background: Tensor, operator: Any) -> Tensor:
        if exposure:
            photo = photo * gains[view].exp()
            with torch.no_grad():
                shown = sub_pixel.rasterize(
                    out.means.detach(), out.quats.detach(), out.scales.detach(), out.opacities.detach(),
                    out.sh.detach(), fine.viewmats[view], fine.Ks[view], fine.sizes[view],
                    filter=sub_pixel.PIXEL_FILTER, background=background,
                ).rgb.mean((0, 1))  # fmt: skip
                gains[view] += 0.05 * ((shown + 0.02).log() - (photo.mean((0, 1)) + 0.02).log())
                gains[: len(fine)] -= gains[: len(fine)].mean(0)
        if poses:
            if unit == 0:
                unit.fill_(0.02 * float(fine.positions.std(0).mean()))
            motion = motions[view].clone().requires_grad_()
            turn = rotvecs_to_quats(0.02 * motion[None, :3])
            center = fine.positions[view]
            rotation = quats_to_rotmats(turn)[0]
            means = (out.means - center) @ rotation.T + center + unit * motion[3:]
            out = replace(out, means=means, quats=multiply_quats(turn.expand(len(means), 4), out.quats))
            value = PLAIN_LOSS(out, fine, view, photo, background, operator)
            motion.register_hook(lambda gradient: motions[view].sub_(0.02 * gradient.sign()))
            return value
        return PLAIN_LOSS(out, fine, view, photo, background, operator)

    with mock.patch.object(sub_pixel, "sub_pixel_loss", loss):
        yield


VARIANTS = {
    "as it is": Variant(),
    "from the anchor": Variant(start="anchor"),
    "from the splat as it is": Variant(start="as-is"),
    "from the model's pass, not polished": Variant(polished=False),
    "step sizes x 1/2": Variant(rates=times(RATES, 0.5)),
    "step sizes x 2": Variant(rates=times(RATES, 2.0)),
    "3D filter": Variant(config={"filter_3d": True}),
    "SH not raised": Variant(config={"sh_degree": 0}),
    "no growth": Variant(config={"budget": 1.5}),
    "budget 2": Variant(config={"budget": 2.0}),
    "splits that sharpen": Variant(patch=replaced("halve", sharpen)),
    "splits that hardly part": Variant(patch=replaced("halve", hardly_apart)),
    "twins that grow in": Variant(patch=replaced("SteppedParameters", Twins)),
    "parents at random": Variant(patch=replaced("choose", at_random)),
    "x2, then x4": Variant(stages=(2.0, SCALE)),
    "quarters of the photos": Variant(quarters=True),
    "the last step, no mean": Variant(patch=lambda: mock.patch.object(refinement, "AVERAGED", 1)),
    "steps in own axes": Variant(patch=replaced("SteppedParameters", OwnAxes)),
    "steps whitened by Fisher blocks": Variant(patch=replaced("SteppedParameters", Whitened)),
    "costs of opacity and needles": Variant(patch=replaced("sub_pixel_loss", costly)),
    "exposure of each photo": Variant(patch=lambda: corrected(True, False)),
    "motion of each camera": Variant(patch=lambda: corrected(False, True)),
}


def make_case(name: str, data: Path, report: TerminalReporter) -> Case:
    """The scene's LR fit, which leaves out the photos that judge, and its photos."""
    if name in real.FACTORS and name != "lego":
        photos, factor = read_capture(data / "captures" / name, report), real.FACTORS[name]
        fit = ReconstructConfig(steps=3000, max_gaussians=20_000)
    else:
        photos = read_capture(capture_of(name, scenes(data, [name])[name], report))
        factor, fit = fit_of_scene(name, "mip", SCALE, 0)
    views = load_views(photos, photos.train, factor, report=report)
    learned, held = hold_out(len(views.cameras), real.HELD_OUT)
    fitted = select_views(views, learned)
    splats = cached_fit(f"{name}-mip", fitted, fit, fit.pixel, factor, real.WORK, report).splats
    return Case(replace(splats, recipe=replace(splats.recipe, factor=factor)), photos, views, factor, held)


def quartered(views: Views, held: list[int]) -> tuple[Views, list[int]]:
    """Every photo that is learned from as four of half its size; those held out stay whole: they are cut alike."""
    width, height = views.cameras.sizes[0]
    w, h = width // 2, height // 2
    cuts = [(x, y) for y in (0, height - h) for x in (0, width - w)]
    many = torch.arange(len(views.cameras)).repeat_interleave(4)
    Ks = views.cameras.Ks[many].clone()
    images = []
    for place, view in enumerate(many.tolist()):
        x, y = cuts[place % 4]
        Ks[place, 0, 2] -= x
        Ks[place, 1, 2] -= y
        images.append(views.images[view][y : y + h, x : x + w])
    cameras = replace(views.cameras.select(many.tolist()), Ks=Ks, sizes=((w, h),) * len(many), names=())
    return replace(views, cameras=cameras, images=torch.stack(images), alphas=None), [
        4 * view + part for view in held for part in range(4)
    ]


def refined(case: Case, variant: Variant, minutes: float, report: TerminalReporter) -> tuple[Splats, int]:
    """What a variant makes of a scene in so many minutes, and its steps."""
    splats, steps = case.splats, 0
    views, held = quartered(case.views, case.held) if variant.quarters else (case.views, case.held)
    config = replace(RefineConfig(steps=MOST_STEPS, minutes=minutes / len(variant.stages)), **variant.config)
    for index, scale in enumerate(variant.stages):
        start = splats
        if index == 0 and variant.start != "as-is":
            chosen = EnhanceConfig(
                method="vae" if variant.start == "vae" else "anchor",
                polish=None if variant.polished else 0,
            )
            start = enhance(case.splats, scale, chosen, cameras=case.views.cameras, report=report).splats
        budget = config.budget * len(case.splats) / len(splats) if index else config.budget
        if len(variant.stages) > 1 and index == 0:
            budget = config.budget / 2
        with (variant.patch or nullcontext)():
            result = refine(
                splats, views, scale, replace(config, budget=max(1.0, budget)), start=start, rates=variant.rates,
                factor=case.factor, held=held, report=report,
            )  # fmt: skip
        splats, steps = result.splats, steps + result.steps
    return splats, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*", default=list(MINUTES))
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = data_folder()
    report, rows = TerminalReporter(), []
    for name in args.scenes:
        case = make_case(name, data, report)
        made = {key: refined(case, VARIANTS[key], MINUTES[name], report) for key in args.variants}
        judged = evaluate(
            case.splats, case.photos, case.factor, {key: splats for key, (splats, _) in made.items()},
            report=report, scale=SCALE, cache=real.WORK,
        )  # fmt: skip
        for key, (splats, steps) in made.items():
            row = judged.row(key)
            rows.append({
                "scene": name, "variant": key, "psnr": round(row.psnr, 3), "ssim": round(row.ssim, 4),
                "gain": round(row.psnr - judged.best_closed.psnr, 3), "steps": steps, "num_gaussians": len(splats),
            })  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
        if args.json:
            args.json.write_text(json.dumps({"minutes": MINUTES, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
