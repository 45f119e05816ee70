"""Lights: an ambient gradient, directional lights with or without cast shadows, a dome that gives soft occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

LightStyle = Literal["hard", "soft", "shadow", "specular"]
LIGHT_STYLES: tuple[LightStyle, ...] = ("hard", "soft", "shadow", "specular")

SMALL_MAP, LARGE_MAP = 256, 1536
"""Texels across the shadow maps of dome lights and of key lights (the unit ball spans them)."""


@dataclass(frozen=True)
class Lights:
    """What illuminates a scene, linear light; a white diffuse surface facing a light of color 1 shows white."""

    sky: Float[np.ndarray, "3"]
    """Ambient light on surfaces that face up."""
    ground: Float[np.ndarray, "3"]
    """Ambient light on surfaces that face down."""
    directions: Float[np.ndarray, "L 3"]
    """Unit vectors towards the lights."""
    colors: Float[np.ndarray, "L 3"]
    """Strengths."""
    maps: Int[np.ndarray, " L"]
    """Texels across each light's shadow map; 0 where it casts no shadows, else `SMALL_MAP` or `LARGE_MAP`."""
    softness: Int[np.ndarray, " L"]
    """Half-width of each shadow's blur in texels of its map."""


def draw_lights(random: np.random.Generator, style: LightStyle) -> Lights:
    """Lights of one style.

    `hard`: one strong light, little else, no or sharp shadows. `soft`: a dome of weak lights, occluded in creases.
    `shadow`: a sun that casts shadows over a dome or an ambient fill. `specular`: two or three lights that make
    highlights wander as the camera moves.
    """
    if style == "hard":
        ambient, dome = random.uniform(0.06, 0.2), 0.0
        keys = random.dirichlet([6.0, 1.0]) * random.uniform(0.9, 1.4)
        shadows = random.random() < 0.5
    elif style == "soft":
        ambient, dome = random.uniform(0.05, 0.3), random.uniform(0.7, 1.1)
        keys, shadows = random.uniform(0, 0.3, 1), False
    elif style == "shadow":
        dome = random.uniform(0.3, 0.6) if random.random() < 0.6 else 0.0
        ambient = random.uniform(0.05, 0.12) if dome else random.uniform(0.2, 0.4)
        keys, shadows = random.uniform(0.6, 1.1, 1), True
    else:
        ambient, dome = random.uniform(0.15, 0.35), random.choice([0.0, 0.4])
        keys = random.dirichlet(np.full(random.integers(2, 4), 2.0)) * random.uniform(0.7, 1.1)
        shadows = random.random() < 0.5
    directions, colors, maps, softness = [], [], [], []
    for rank, strength in enumerate(keys):
        directions.append(_upper(random, 0.25))
        colors.append(strength * _tone(random, 0.2))
        # a small sun casts sharp shadows, a window or an overcast sky wide ones
        sharp = random.random() < 0.6
        maps.append((LARGE_MAP if sharp else SMALL_MAP) if shadows and rank == 0 else 0)
        softness.append(0 if sharp else 2)
    if dome:
        count = 14
        turn = random.uniform(0, 2 * np.pi)
        warm, cold = _tone(random, 0.15), _tone(random, 0.25)
        side = _upper(random, 0.0)
        for index in range(count):
            # a little below the horizon too: light that the ground sends back
            z = 1 - 1.25 * (index + 0.5) / count
            angle = turn + 2.39996323 * index
            direction = np.array([np.cos(angle), np.sin(angle), 0]) * np.sqrt(1 - z * z) + np.array([0, 0, z])
            weight = 0.5 + 0.5 * float(direction @ side)
            directions.append(direction)
            colors.append(2.6 * dome / count * (0.4 + 1.2 * weight) * (warm * weight + cold * (1 - weight)))
            maps.append(SMALL_MAP)
            softness.append(0)
    tone = _tone(random, 0.15)
    return Lights(
        sky=np.asarray(ambient * tone, np.float32),
        ground=np.asarray(ambient * random.uniform(0.3, 0.9) * _tone(random, 0.2), np.float32),
        directions=np.asarray(directions, np.float32).reshape(-1, 3),
        colors=np.asarray(colors, np.float32).reshape(-1, 3),
        maps=np.asarray(maps, np.int64),
        softness=np.asarray(softness, np.int64),
    )


def light_frame(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Orthonormal rows: the two axes of a light's map, then the direction towards the light."""
    towards = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    helper = np.eye(3)[np.abs(towards).argmin()]
    first = np.cross(helper, towards)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(towards, first), towards])


def _upper(random: np.random.Generator, lowest: float) -> Float[np.ndarray, "3"]:
    vector = random.standard_normal(3)
    vector[2] = abs(vector[2])
    vector /= np.linalg.norm(vector)
    vector[2] = max(vector[2], lowest)
    return np.asarray(vector / np.linalg.norm(vector))


def _tone(random: np.random.Generator, spread: float) -> Float[np.ndarray, "3"]:
    """A tint of mean 1: daylight to lamp light."""
    warmth = random.uniform(-spread, spread)
    tone = np.array([1 + warmth, 1 + 0.2 * random.uniform(-spread, spread), 1 - warmth])
    return np.asarray(tone / tone.mean())
