"""Moves between frames: a turn, one scale, a shift."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.scene.cameras import Cameras


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    rotation: Float[Tensor, "3 3"]
    scale: float
    translation: Float[Tensor, "3"]

    def apply(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Points in the other frame."""
        return self.scale * points @ self.rotation.T + self.translation

    def inverse(self) -> Similarity:
        """The way back."""
        return Similarity(self.rotation.T, 1 / self.scale, -self.rotation.T @ self.translation / self.scale)

    def after(self, first: Similarity) -> Similarity:
        """One move for two: `first`, then this."""
        moved = self.apply(first.translation[None])[0]
        return Similarity(self.rotation @ first.rotation, self.scale * first.scale, moved)

    def cameras(self, cameras: Cameras) -> Cameras:
        """Cameras that see of unmoved points what the given ones see of the moved points (near plane aside)."""
        turn, shift = cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3]
        viewmats = cameras.viewmats.clone()
        viewmats[:, :3, :3] = turn @ self.rotation.to(turn)
        viewmats[:, :3, 3] = (turn @ self.translation.to(turn) + shift) / self.scale
        return replace(cameras, viewmats=viewmats)


def axis_rotations() -> list[Float[Tensor, "3 3"]]:
    """The 24 turns that bring axes onto axes; the first leaves all as it is."""
    turns = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = torch.diag(torch.tensor(signs)) @ torch.eye(3)[list(order)]
            if torch.linalg.det(turn) > 0:
                turns.append(turn)
    return turns


def axes_text(turn: Float[Tensor, "3 3"]) -> str:
    """One of `axis_rotations` in words: (x, y, z) -> (x, z, -y)."""
    names = ["xyz"[int(row.abs().argmax())] for row in turn]
    signs = ["-" if float(row.sum()) < 0 else "" for row in turn]
    return f"(x, y, z) -> ({', '.join(sign + name for sign, name in zip(signs, names, strict=True))})"


def turn_between(start: Float[Tensor, "3"], end: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The least turn that brings one unit vector onto another (half a turn about some axis where they are opposite)."""
    cosine = float(start @ end)
    if cosine < -1 + 1e-6:
        across = torch.linalg.cross(start, torch.eye(3, dtype=start.dtype)[int(start.abs().argmin())])
        across = across / across.norm()
        return 2 * across[:, None] * across - torch.eye(3, dtype=start.dtype)
    x, y, z = torch.linalg.cross(start, end).unbind()
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return torch.eye(3, dtype=start.dtype) + skew + skew @ skew / (1 + cosine)
