"""The state of a refinement: parameters, the best splat so far, what the held-out photos said; and its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting.holdout import Figure
from gaussianvae.fitting.parameters import Parameters, Rates, raw_parameters
from gaussianvae.scene.edits import RowEdit
from gaussianvae.scene.imaging import OPERATORS, Operator
from gaussianvae.scene.splats import Splats, splats_from_state, state_tensors
from gaussianvae.tensorfiles import read_tensors, write_tensors

CHECKPOINT = "gaussianvae.refine/4"
RATES = Rates(means=0.24, log_scales=2e-2, quats=8e-3, logits=6e-2, sh0=1e-2, shN=1e-3, final=0.02, floor=0.2)
"""Step sizes; the means' in fine pixels at the median Gaussian, so that they fit any scene and any scale."""
MEANS_FLOOR = 0.05
THINNEST = 0.03
"""The smallest standard deviation to start from, in fine pixels: thinner ones the filter would hide for good."""
AVERAGED = 64
"""Steps that the mean of the parameters looks back, where there were many; else a quarter of them."""


def fine_parameters(splats: Splats, phi: Float[Tensor, " N"], sh_degree: int | None = None) -> dict[str, Tensor]:
    """Raw parameters of a splat to be optimized at a finer resolution, none too thin to be seen there.

    Args:
        splats: N Gaussians.
        phi: world size of a fine pixel at each.
        sh_degree: as in `raw_parameters`.
    """
    raw = raw_parameters(splats, sh_degree)
    return {**raw, "log_scales": torch.maximum(raw["log_scales"], (THINNEST * phi).log()[:, None])}


@dataclass(frozen=True)
class Check:
    """One look at the held-out photos."""

    step: int
    figure: Figure
    growing: bool
    """Whether rows were still to be split after it."""
    favor: float = 0.0
    """dB by which photos that the splat's own fit had seen flatter it; only the start has any."""

    @property
    def decibels(self) -> float:
        """The figure as one number, without favor."""
        return self.figure.decibels - self.favor


@dataclass(frozen=True)
class State:
    """A splat on the way, and which rows of the start its own descend from."""

    splats: Splats
    edit: RowEdit


class SteppedParameters(Parameters):
    """Parameters whose means' step size stops falling as the others' do."""

    def step(self, progress: float) -> None:
        """One Adam step with the rates of `progress` (0-1 of the run), then cleared gradients."""
        decay = self.rates.final**progress
        for group in self.adam.param_groups:
            means = group["name"] == "means"
            unit, floor = (self.extent, MEANS_FLOOR) if means else (1.0, self.rates.floor)
            group["lr"] = getattr(self.rates, group["name"]) * unit * max(decay, floor)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)


@dataclass
class Run:
    """The changing state of a refinement."""

    parameters: Parameters
    edit: RowEdit
    """From the start's rows to the present ones."""
    phi: Float[Tensor, " N"]
    """World size of a fine pixel at each row."""
    score: Float[Tensor, " N"]
    """Sum of the position gradients' lengths since the last growth."""
    active: Bool[Tensor, " N"]
    """The rows that may change."""
    start: Splats
    best: State
    operator: Operator
    mean: dict[str, Tensor] = field(default_factory=dict)
    """Of the raw parameters over the last steps; empty before the first, and after rows changed."""
    averaged: int = 0
    """Steps that the mean has seen."""
    checks: list[Check] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0


def average(run: Run) -> None:
    """Take the present parameters into their mean.

    A step follows one photo, so that the parameters keep swinging about the optimum; their mean lies nearer to it
    (Polyak and Juditsky 1992), and is what is judged and kept. Early steps, still on their way there, count little: the
    i-th as i (i + 1) (i + 2) (polynomial decay with eta = 3, Shamir and Zhang 2013), until the weights fall
    exponentially.
    """
    run.averaged += 1
    weight = max(4 / (run.averaged + 3), 1 / AVERAGED)
    for name, value in run.parameters.raw.items():
        if run.averaged == 1:
            run.mean[name] = value.detach().clone()
        else:
            run.mean[name].lerp_(value.detach(), weight)


def forget_mean(run: Run) -> None:
    """Begin the mean anew: its rows are no longer the parameters'."""
    run.mean, run.averaged = {}, 0


def best_check(run: Run) -> Check:
    """The look at the state that is kept: the first of the best."""
    return max(run.checks, key=lambda check: check.decibels)


def save_checkpoint(run: Run, path: Path, identity: str) -> None:
    """Everything that the rest of the run depends on."""
    tensors = {f"parameters.{name}": value for name, value in run.parameters.tensors().items()}
    tensors |= {f"mean.{name}": value for name, value in run.mean.items()}
    tensors |= {
        "phi": run.phi,
        "score": run.score,
        "active": run.active,
        "parents": run.edit.parents,
        "born": run.edit.born,
    }
    looks = [[check.step, check.figure.psnr, check.figure.ssim, check.growing, check.favor] for check in run.checks]
    tensors["checks"] = torch.tensor(looks, dtype=torch.float64)
    tensors |= {"best.parents": run.best.edit.parents, "best.born": run.best.edit.born}
    tensors |= state_tensors(run.best.splats, "best")
    metadata = {
        "schema": CHECKPOINT,
        "run": identity,
        "step": str(run.step),
        "seconds": str(run.seconds),
        "averaged": str(run.averaged),
        "operator": run.operator,
    }
    write_tensors(path, tensors, metadata)


def load_checkpoint(run: Run, path: Path, identity: str, filter_3d: bool) -> None:
    """Put a fresh run where its checkpoint was.

    Raises:
        GaussianVAEError: the file is unreadable, or of a run with other inputs or another config.
    """
    tensors, metadata = read_tensors(path, "checkpoint", CHECKPOINT)
    if metadata.get("run") != identity:
        raise GaussianVAEError(f"{path}: belongs to another run; remove it, or give the run's own inputs and options")
    count = run.edit.num_before
    run.parameters.load(_within(tensors, "parameters."))
    run.mean, run.averaged = _within(tensors, "mean."), int(metadata["averaged"])
    run.phi, run.score, run.active = tensors["phi"], tensors["score"], tensors["active"]
    run.edit = RowEdit(tensors["parents"], count, tensors["born"])
    run.step, run.seconds = int(metadata["step"]), float(metadata["seconds"])
    run.operator = next(known for known in OPERATORS if known == metadata["operator"])
    run.checks = [
        Check(int(s), Figure(psnr, ssim), bool(g), favor) for s, psnr, ssim, g, favor in tensors["checks"].tolist()
    ]
    if best_check(run).step > 0:
        recipe = replace(run.best.splats.recipe, filter_3d=filter_3d)
        edit = RowEdit(tensors["best.parents"], count, tensors["best.born"])
        run.best = State(splats_from_state(tensors, "best", recipe), edit)


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
