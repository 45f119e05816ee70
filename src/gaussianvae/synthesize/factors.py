"""What a seed's scene must contain: quotas, so that no dozen of scenes lacks a kind of content.

A factor with k options walks through a fresh permutation of them in every k consecutive seeds; each factor has its own
permutations, so that factors don't go together. k is at most 6: any 12 (even 11) consecutive seeds hold a whole block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from gaussianvae.synthesize.lighting import LIGHT_STYLES, LightStyle
from gaussianvae.synthesize.textures import FAMILIES

Option = TypeVar("Option", bound=str)

PART_RANGES = {"few": (1, 3), "some": (4, 12), "many": (13, 40)}
"""Fewest and most parts."""
PARTS_CYCLE = ("few", "some", "many", "many")
"""Many small parts hold the most detail, and occur twice as often."""
GEOMETRIES = ("thin", "height field", "cut", "bricks", "displaced", "plates")
BACKGROUNDS = ("black", "white")


@dataclass(frozen=True)
class Factors:
    """The demands on one scene; what else it contains is free."""

    parts: str
    """A key of `PART_RANGES`."""
    geometry: str
    """One of `GEOMETRIES`."""
    textures: tuple[str, str]
    """Two families of textures."""
    light: LightStyle
    background: str
    """One of `BACKGROUNDS`."""


def factors_of(seed: int) -> Factors:
    """The demands on the scene of one seed."""
    families = list(FAMILIES)
    block = np.random.default_rng([seed // 6, 50]).permutation(len(families))
    pair = block[2 * (seed % 6) : 2 * (seed % 6) + 2]
    return Factors(
        parts=_turn(PARTS_CYCLE, seed, 10),
        geometry=_turn(GEOMETRIES, seed, 20),
        textures=(families[pair[0]], families[pair[1]]),
        light=_turn(LIGHT_STYLES, seed, 30),
        background=_turn(BACKGROUNDS, seed, 40),
    )


def _turn(options: Sequence[Option], seed: int, stream: int) -> Option:
    block, place = divmod(seed, len(options))
    order: list[int] = np.random.default_rng([block, stream]).permutation(len(options)).tolist()
    return options[order[place]]
