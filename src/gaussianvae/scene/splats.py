"""A splat: N Gaussians as plain tensors, with what is known of their origin.

Values are activated (world units, 0-1, unit quaternions), never logs or logits; world frame, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussianvae.scene import harmonics
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import multiply_quats, quats_to_rotmats, rotmats_to_quats


@dataclass(frozen=True)
class Stored:
    """The values of a file before activation, kept so that untouched rows are written back bit for bit."""

    log_scales: Float[Tensor, "N 3"]
    logits: Float[Tensor, " N"]
    quats: Float[Tensor, "N 4"]

    def select(self, rows: Int[Tensor, " M"] | Bool[Tensor, " N"]) -> Stored:
        """The same for some rows, in the order given."""
        return Stored(self.log_scales[rows], self.logits[rows], self.quats[rows])


@dataclass(frozen=True)
class Splats:
    """N Gaussians.

    Raises ValueError when the shapes don't agree.
    """

    means: Float[Tensor, "N 3"]
    """Centers, world units."""
    quats: Float[Tensor, "N 4"]
    """Rotations of the principal axes, wxyz, unit length."""
    scales: Float[Tensor, "N 3"]
    """Standard deviations along the principal axes, world units, >= 0."""
    opacities: Float[Tensor, " N"]
    """Peak opacities, 0-1."""
    sh0: Float[Tensor, "N 1 3"]
    """Base color coefficients: RGB = 0.5 + 0.282 sh0."""
    shN: Float[Tensor, "N K 3"]
    """Higher spherical harmonics, K = (degree + 1)^2 - 1."""
    recipe: Recipe = field(default_factory=Recipe)
    comments: tuple[str, ...] = ()
    """Header comments of the file it came from that aren't ours, kept for writing."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Further per-row properties by name (provenance, other tools' columns); any dtype, shape (N,)."""
    stored: Stored | None = None

    def __post_init__(self) -> None:
        n, coefficients = len(self.means), self.shN.shape[1] + 1
        harmonics.degree_of(coefficients)
        shapes = {
            "means": (n, 3),
            "quats": (n, 4),
            "scales": (n, 3),
            "opacities": (n,),
            "sh0": (n, 1, 3),
            "shN": (n, coefficients - 1, 3),
        }
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has shape {tuple(getattr(self, name).shape)}, expected {shape}")
        for name, column in self.extras.items():
            if tuple(column.shape) != (n,):
                raise ValueError(f"extra property {name} has shape {tuple(column.shape)}, expected {(n,)}")

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        return f"Splats({len(self)} Gaussians, SH {self.sh_degree}, {self.recipe})"

    @property
    def sh_degree(self) -> int:
        """Degree of the color expansion, 0-3."""
        return harmonics.degree_of(self.shN.shape[1] + 1)

    @property
    def sh(self) -> Float[Tensor, "N K1 3"]:
        """All color coefficients, the base color first; no copy where a file's reader laid them side by side."""
        both, (n, bands, _) = self.sh0._base, self.shN.shape
        if both is not None and both is self.shN._base and both.shape == (n, bands + 1, 3) and not both.requires_grad:
            apart = self.shN.storage_offset() - self.sh0.storage_offset()
            if apart == 3 and self.sh0.storage_offset() == both.storage_offset() and self.shN.stride() == both.stride():
                return both
        return torch.cat([self.sh0, self.shN], 1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Splats:
        """The same splat on another device or with another floating-point type."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        stored = self.stored and Stored(
            *(move(t) for t in (self.stored.log_scales, self.stored.logits, self.stored.quats))
        )
        return replace(
            self,
            means=move(self.means),
            quats=move(self.quats),
            scales=move(self.scales),
            opacities=move(self.opacities),
            sh0=move(self.sh0),
            shN=move(self.shN),
            extras={name: move(column) for name, column in self.extras.items()},
            stored=stored,
        )

    def select(self, rows: Int[Tensor, " M"] | Bool[Tensor, " N"]) -> Splats:
        """Some rows, in the order given (indices) or kept (a mask); everything per row follows."""
        return replace(
            self,
            means=self.means[rows],
            quats=self.quats[rows],
            scales=self.scales[rows],
            opacities=self.opacities[rows],
            sh0=self.sh0[rows],
            shN=self.shN[rows],
            extras={name: column[rows] for name, column in self.extras.items()},
            stored=self.stored and self.stored.select(rows),
        )


def concatenate(parts: Sequence[Splats]) -> Splats:
    """All rows of several splats of one SH degree; recipe and comments are the first one's.

    Extra properties and stored file values are kept where every part has them.
    """
    first = parts[0]
    names = [name for name in first.extras if all(name in part.extras for part in parts)]
    stored = [part.stored for part in parts if part.stored is not None]
    return replace(
        first,
        means=torch.cat([part.means for part in parts]),
        quats=torch.cat([part.quats for part in parts]),
        scales=torch.cat([part.scales for part in parts]),
        opacities=torch.cat([part.opacities for part in parts]),
        sh0=torch.cat([part.sh0 for part in parts]),
        shN=torch.cat([part.shN for part in parts]),
        extras={name: torch.cat([part.extras[name] for part in parts]) for name in names},
        stored=Stored(
            torch.cat([s.log_scales for s in stored]),
            torch.cat([s.logits for s in stored]),
            torch.cat([s.quats for s in stored]),
        )
        if len(stored) == len(parts)
        else None,
    )


STATE = ("means", "quats", "scales", "opacities", "sh0", "shN")
"""The tensors that make up a splat, by name."""


def state_tensors(splats: Splats, prefix: str) -> dict[str, Tensor]:
    """A splat's tensors as `prefix.means` and so on, for a file."""
    return {f"{prefix}.{name}": getattr(splats, name) for name in STATE}


def splats_from_state(tensors: Mapping[str, Tensor], prefix: str, recipe: Recipe | None = None) -> Splats:
    """The splat that `state_tensors` took apart.

    Raises:
        KeyError: a tensor is missing.
    """
    means, quats, scales, opacities, sh0, shN = (tensors[f"{prefix}.{name}"] for name in STATE)
    return Splats(means, quats, scales, opacities, sh0, shN, recipe or Recipe())


def covariances(quats: Float[Tensor, "N 4"], scales: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3 3"]:
    """Sigma = R S S^T R^T, world frame."""
    half = quats_to_rotmats(quats) * scales[:, None, :]
    return half @ half.transpose(1, 2)


def transform(
    splats: Splats, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"], scale: float = 1.0
) -> Splats:
    """The splat moved by x -> scale * rotation @ x + translation, colors turned along."""
    turn = rotmats_to_quats(rotation)
    return replace(
        splats,
        means=scale * splats.means @ rotation.T + translation,
        quats=multiply_quats(turn.expand(len(splats), 4), splats.quats),
        scales=scale * splats.scales,
        shN=harmonics.rotate_sh(splats.shN, rotation),
        stored=None,
    )
