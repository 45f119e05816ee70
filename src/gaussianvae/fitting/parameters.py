"""The optimizer's view of a splat: raw (unbounded) parameters, and Adam whose moments follow row edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussianvae.antialias import FILTER_3D
from gaussianvae.scene.edits import RowEdit, append_children
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import normalize_quats
from gaussianvae.scene.splats import Splats
from gaussianvae.scene.split import Halves

NAMES = ("means", "log_scales", "quats", "logits", "sh0", "shN")


@dataclass(frozen=True)
class Rates:
    """Adam step sizes; the means' is in units of the scene's extent and decays to `final` of itself."""

    means: float = 2e-3
    log_scales: float = 1e-2
    quats: float = 4e-3
    logits: float = 4e-2
    sh0: float = 1e-2
    shN: float = 1e-3
    final: float = 0.05
    floor: float = 0.3
    """The other rates decay alike, but not below this share."""


@dataclass(frozen=True)
class Activated:
    """What the rasterizer takes, differentiable in the raw parameters."""

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    scales: Float[Tensor, "N 3"]
    opacities: Float[Tensor, " N"]
    sh: Float[Tensor, "N K1 3"]


class Parameters:
    """Raw parameters with one Adam over them; `edit` changes rows and lets the moments follow."""

    def __init__(self, raw: dict[str, Tensor], rates: Rates, extent: float) -> None:
        self.rates, self.extent = rates, extent
        self.raw = {name: raw[name].detach().clone().requires_grad_() for name in NAMES}
        groups = [{"params": [self.raw[name]], "name": name, "lr": getattr(rates, name)} for name in NAMES]
        self.adam = torch.optim.Adam(groups, eps=1e-15, fused=True)

    def __len__(self) -> int:
        return len(self.raw["means"])

    def step(self, progress: float) -> None:
        """One Adam step with the rates of `progress` (0-1 of the run), then cleared gradients."""
        decay = self.rates.final**progress
        for group in self.adam.param_groups:
            rate = getattr(self.rates, group["name"])
            group["lr"] = (
                rate * self.extent * decay if group["name"] == "means" else rate * max(decay, self.rates.floor)
            )
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def edit(self, edit: RowEdit, changed: dict[str, Tensor] | None = None) -> None:
        """Apply a row edit: values and moments follow their parents; `changed` replaces whole raw tensors after it."""
        for group in self.adam.param_groups:
            name, old = group["name"], group["params"][0]
            state = self.adam.state.pop(old, {})
            value = changed[name] if changed and name in changed else edit.apply(old.detach())
            new = value.detach().clone().requires_grad_()
            if state:
                self.adam.state[new] = {
                    "step": state["step"],
                    "exp_avg": edit.apply(state["exp_avg"]).clone(),
                    "exp_avg_sq": edit.apply(state["exp_avg_sq"]).clone(),
                }
            group["params"][0] = self.raw[name] = new

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs: raw values and moments by name."""
        out = {name: value.detach() for name, value in self.raw.items()}
        for group in self.adam.param_groups:
            state = self.adam.state.get(group["params"][0], {})
            out |= {f"{group['name']}.{key}": value for key, value in state.items()}
        return out

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        for group in self.adam.param_groups:
            name = group["name"]
            self.adam.state.pop(group["params"][0], None)
            group["params"][0] = self.raw[name] = tensors[name].clone().requires_grad_()
            state = {
                key: tensors[f"{name}.{key}"].clone()
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}.{key}" in tensors
            }
            if state:
                self.adam.state[self.raw[name]] = state

    def prune_and_split(
        self, kept: RowEdit, rows: Int[Tensor, " M"], into: Callable[[Tensor, Tensor, Tensor], Halves]
    ) -> RowEdit:
        """Keep some rows and split some of those kept: one half stays in its place, the others are appended.

        Args:
            kept: which rows stay.
            rows: of those, by their place after `kept`, the ones to split.
            into: makes halves of (quats, scales, opacities), as `scene.split.halve` and `sharpen` do.

        Returns:
            the whole edit.
        """
        count = len(kept)
        edit = kept.then(append_children(rows, count))
        with torch.no_grad():
            values = {name: edit.apply(self.raw[name]) for name in ("means", "log_scales", "logits")}
            quats = edit.apply(self.raw["quats"])[rows]
            halves = into(quats, values["log_scales"][rows].exp(), values["logits"][rows].sigmoid())
            values["means"][rows] += halves.offsets
            values["means"][count:] -= halves.offsets
            logits = torch.logit(halves.opacities.clamp(1e-3, 0.99))
            for part in (rows, slice(count, None)):
                values["log_scales"][part], values["logits"][part] = halves.scales.log(), logits
        self.edit(edit, values)
        return edit


def activate(raw: dict[str, Tensor], variance_3d: Float[Tensor, " N"] | None = None) -> Activated:
    """Scales, opacities and colors; with `variance_3d` (square world units) through Mip-Splatting's 3D filter."""
    if variance_3d is None:
        scales, opacities = raw["log_scales"].exp(), raw["logits"].sigmoid()
    else:
        squares = (2 * raw["log_scales"]).exp()
        wider = squares + variance_3d[:, None]
        scales = wider.sqrt()
        opacities = raw["logits"].sigmoid() * (squares / wider).prod(1).sqrt()
    sh = torch.cat([raw["sh0"], raw["shN"]], 1) if raw["shN"].shape[1] else raw["sh0"]
    return Activated(raw["means"], raw["quats"], scales, opacities, sh)


def to_splats(raw: dict[str, Tensor], recipe: Recipe, variance_3d: Float[Tensor, " N"] | None = None) -> Splats:
    """The splat that raw parameters stand for, detached; the 3D filter, if any, is made part of it."""
    with torch.no_grad():
        out = activate(raw, variance_3d)
        return Splats(
            means=out.means.detach().clone(),
            quats=normalize_quats(out.quats.detach()),
            scales=out.scales.detach().clone(),
            opacities=out.opacities.detach().clone(),
            sh0=raw["sh0"].detach().clone(),
            shN=raw["shN"].detach().clone(),
            recipe=recipe,
        )


def raw_parameters(splats: Splats, sh_degree: int | None = None) -> dict[str, Tensor]:
    """Raw parameters of a splat; with `sh_degree`, higher bands are cut or begin at zero."""
    shN = splats.shN
    if sh_degree is not None:
        wanted = (sh_degree + 1) ** 2 - 1
        shN = torch.cat([shN, shN.new_zeros(len(shN), max(0, wanted - shN.shape[1]), 3)], 1)[:, :wanted]
    return {
        "means": splats.means,
        "log_scales": splats.scales.clamp_min(1e-8).log(),
        "quats": splats.quats,
        "logits": torch.logit(splats.opacities.clamp(1e-4, 0.999)),
        "sh0": splats.sh0,
        "shN": shN,
    }


def filter_variance(phi: Float[Tensor, " N"], level: float = 1.0) -> Float[Tensor, " N"]:
    """Variance of Mip-Splatting's 3D filter for pixels `level` times larger than phi's."""
    return FILTER_3D * (level * phi).square()
