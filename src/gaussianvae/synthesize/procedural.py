"""Scenes made of nothing but a seed: parts, their arrangement, materials, lights."""

from __future__ import annotations

from collections.abc import Callable
from colorsys import hsv_to_rgb
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from gaussianvae.synthesize.config import SynthesisConfig
from gaussianvae.synthesize.factors import PART_RANGES, Factors, factors_of
from gaussianvae.synthesize.lighting import draw_lights
from gaussianvae.synthesize.raytrace import TracedScene
from gaussianvae.synthesize.shapes import SHAPES, brick, make_shape
from gaussianvae.synthesize.solids import Mesh, rotation
from gaussianvae.synthesize.surfaces import (
    Material,
    Surface,
    box_uvs,
    crease_normals,
    into_unit_ball,
    join,
    transformed,
    without_slivers,
)
from gaussianvae.synthesize.textures import FAMILIES, make_texture

BRICK_SHARE = 0.2
"""How often the demanded shapes of another kind stand in a build of bricks: many small parts on a lattice."""

Matrix = Float[np.ndarray, "4 4"]


@dataclass(frozen=True)
class Part:
    """One placed mesh."""

    mesh: Mesh
    matrix: Matrix


def build_scene(config: SynthesisConfig) -> TracedScene:
    """The scene of `config.seed`: the same seed makes the same scene, whatever the views."""
    seed = config.seed
    factors = factors_of(seed)
    random = np.random.default_rng([seed, 1])
    low, high = PART_RANGES[factors.parts]
    count = int(random.integers(low, high + 1))
    if factors.geometry == "bricks" or (count > 3 and random.random() < BRICK_SHARE):
        parts, layout = brick_build(random, count, factors.geometry), "bricks"
    else:
        parts, layout = assembly(random, factors, count)
    random = np.random.default_rng([seed, 2])
    materials, families = draw_materials(random, factors, layout == "bricks")
    surface, used = cover(random, parts, materials)
    light = draw_lights(np.random.default_rng([seed, 3]), factors.light)
    shade = 0.0 if factors.background == "black" else 1.0
    record = {
        **asdict(factors),
        "layout": layout,
        "part_count": len(parts),
        "shapes": sorted({str(part.mesh.metadata["kind"]) for part in parts}),
        "families": sorted({families[index] for index in used}),
    }
    return TracedScene(
        surface=into_unit_ball(without_slivers(surface)),
        materials=tuple(materials),
        lights=light,
        background=(shade, shade, shade),
        hemisphere=layout in ("bricks", "ground", "array") and random.random() < 0.7,
        brightness=float(np.random.default_rng([seed, 5]).uniform(0.38, 0.6)),
        seed=seed,
        factors=record,
    )


def assembly(random: np.random.Generator, factors: Factors, count: int) -> tuple[list[Part], str]:
    """`count` parts of a few shapes, the demanded one among them, and the name of their arrangement."""
    fine = 1.0 if count <= 6 else 0.0
    kinds = min(count, int(random.integers(1, 7)))
    names = list(SHAPES)
    stock = [make_shape(factors.geometry, random, fine)]
    stock += [make_shape(names[random.integers(len(names))], random, fine) for _ in range(kinds - 1)]
    # the demanded shape comes first and often
    chosen = [0] + [int(random.integers(kinds)) if random.random() < 0.75 else 0 for _ in range(count - 1)]
    # none so large that it swallows the others
    sizes = np.clip(np.exp(random.normal(0, random.choice([0.15, 0.5]), count)), 0.3, 1.3)
    sizes[0] = max(sizes[0], 1.0)
    if count == 1:
        return [Part(stock[0], np.eye(4) if random.random() < 0.5 else rotation(random))], "single"
    layout = str(random.choice(list(LAYOUTS)))
    return LAYOUTS[layout](random, [stock[index] for index in chosen], sizes), layout


def pile(random: np.random.Generator, meshes: list[Mesh], sizes: np.ndarray) -> list[Part]:
    """Anywhere in a ball, turned at will, into each other too."""
    reach = 0.42 * len(meshes) ** (1 / 3)
    parts = []
    for mesh, size in zip(meshes, sizes, strict=True):
        matrix = rotation(random)
        matrix[:3, :3] *= size
        direction = random.standard_normal(3)
        matrix[:3, 3] = direction / np.linalg.norm(direction) * reach * random.random() ** (1 / 3)
        parts.append(Part(mesh, matrix))
    return parts


def ground(random: np.random.Generator, meshes: list[Mesh], sizes: np.ndarray) -> list[Part]:
    """Standing on a floor or on what is already there, turned about the vertical."""
    reach = 0.28 * np.sqrt(len(meshes))
    tops: list[tuple[float, float, float, float]] = []
    parts = []
    for mesh, size in zip(meshes, sizes, strict=True):
        matrix = _yaw(random.uniform(0, 2 * np.pi) if random.random() < 0.6 else random.integers(4) * np.pi / 2)
        matrix[:3, :3] *= size
        points = mesh.vertices @ matrix[:3, :3].T
        x, y = random.uniform(-reach, reach, 2)
        radius = 0.35 * float(np.ptp(points[:, :2], axis=0).mean())
        below = [top for tx, ty, tr, top in tops if np.hypot(x - tx, y - ty) < 0.7 * (radius + tr)]
        z = max(below, default=0.0)
        matrix[:3, 3] = [x, y, z - float(points[:, 2].min())]
        tops.append((x, y, radius, z + float(np.ptp(points[:, 2]))))
        parts.append(Part(mesh, matrix))
    return parts


def radial(random: np.random.Generator, meshes: list[Mesh], sizes: np.ndarray) -> list[Part]:
    """Around a vertical axis, each shape repeated at equal angles."""
    parts: list[Part] = []
    while len(parts) < len(meshes):
        index = len(parts)
        copies = min(int(random.integers(2, 9)), len(meshes) - index)
        radius, height = random.uniform(0.1, 0.35 + 0.15 * np.sqrt(len(meshes))), random.uniform(-0.6, 0.6)
        own = rotation(random) if random.random() < 0.5 else np.eye(4)
        own[:3, :3] *= sizes[index] * 0.8
        own[:3, 3] = [radius, 0, height]
        parts += [Part(meshes[index], _yaw(2 * np.pi * turn / copies) @ own) for turn in range(copies)]
    return parts


def mirror(random: np.random.Generator, meshes: list[Mesh], sizes: np.ndarray) -> list[Part]:
    """Symmetric about a plane, as vehicles and furniture are."""
    reach = 0.32 * len(meshes) ** (1 / 3)
    parts: list[Part] = []
    flip = np.diag([-1.0, 1, 1, 1])
    for mesh, size in zip(meshes, sizes, strict=True):
        if len(parts) >= len(meshes):
            break
        matrix = rotation(random) if random.random() < 0.4 else _yaw(random.integers(4) * np.pi / 2)
        matrix[:3, :3] *= size
        matrix[:3, 3] = random.uniform(-reach, reach, 3) * [1, 1.3, 0.8]
        parts.append(Part(mesh, matrix))
        if len(parts) < len(meshes):
            parts.append(Part(mesh, flip @ matrix))
    return parts


def array(random: np.random.Generator, meshes: list[Mesh], sizes: np.ndarray) -> list[Part]:
    """In rows and columns, close together, as goods and tiles are."""
    columns = int(np.ceil(np.sqrt(len(meshes)) * random.uniform(0.6, 1.4)))
    pitch = random.uniform(0.6, 0.95) * max(float(np.ptp(mesh.vertices[:, :2], axis=0).max()) for mesh in meshes)
    parts = []
    for index, (mesh, size) in enumerate(zip(meshes, sizes, strict=True)):
        matrix = _yaw(random.integers(4) * np.pi / 2 + random.normal(0, 0.05))
        matrix[:3, :3] *= 0.8 * size**0.3
        low = float((mesh.vertices @ matrix[:3, :3].T)[:, 2].min())
        matrix[:3, 3] = [index % columns * pitch, index // columns * pitch, -low]
        parts.append(Part(mesh, matrix))
    return parts


LAYOUTS: dict[str, Callable[[np.random.Generator, list[Mesh], np.ndarray], list[Part]]] = {
    "pile": pile,
    "ground": ground,
    "radial": radial,
    "mirror": mirror,
    "array": array,
}
"""Arrangements by name."""


def brick_build(random: np.random.Generator, count: int, geometry: str) -> list[Part]:
    """Toy bricks laid on each other on their common lattice, shapes of the demanded kind and wheels among them."""
    others = [geometry, "wheel", "gear", "cylinder", "studded", "repeated"]
    side = int(np.clip(np.ceil(np.sqrt(3 * count)), 4, 12))
    tops = np.zeros((side, side))
    # a base plate, so that the pieces hold together
    parts = [Part(brick(random, 0.5, side, side, True), np.eye(4))] if count > 6 else []
    tops += 0.1 if parts else 0.0
    while len(parts) < count:
        demanded = len(parts) == 3
        if demanded or (random.random() < 0.12 and len(parts) > 3):
            kind = others[0 if demanded else random.integers(len(others))]
            matrix = _yaw(random.integers(4) * np.pi / 2)
            matrix[:3, :3] *= random.uniform(0.3, 0.8)
            row, column = random.integers(side, size=2)
            matrix[:3, 3] = [(column - side / 2) * 0.25, (row - side / 2) * 0.25, tops[row, column] + 0.2]
            parts.append(Part(make_shape(kind, random, 0.0), matrix))
            continue
        along, across = int(random.choice([1, 2, 2, 3, 4, 6])), int(random.choice([1, 1, 2, 2]))
        if random.random() < 0.5:
            along, across = across, along
        along, across = min(along, side), min(across, side)
        plate = bool(random.random() < 0.3)
        # of a few places the highest: towers and overhangs rather than an even layer
        places = [(random.integers(side - across + 1), random.integers(side - along + 1)) for _ in range(3)]
        row, column = max(places, key=lambda p: float(tops[p[0] : p[0] + across, p[1] : p[1] + along].max()))
        under = tops[row : row + across, column : column + along]
        matrix = np.eye(4)
        matrix[:3, 3] = [(column + along / 2 - side / 2) * 0.25, (row + across / 2 - side / 2) * 0.25, under.max()]
        under[:] = under.max() + (0.1 if plate else 0.3)
        parts.append(Part(brick(random, 0.5 if count < 20 else 0.0, along, across, plate), matrix))
    return parts


def draw_materials(random: np.random.Generator, factors: Factors, plastic: bool) -> tuple[list[Material], list[str]]:
    """A handful of materials and their families; the demanded families are the first two."""
    families = list(factors.textures)
    names = list(FAMILIES)
    more = int(random.integers(1, 7))
    families += [
        ("flat" if plastic and random.random() < 0.7 else names[random.integers(len(names))]) for _ in range(more)
    ]
    glossy = 1.0 if factors.light == "specular" else 0.25
    materials = []
    for family in families:
        gloss = float(random.uniform(0.2, 0.9)) if random.random() < glossy else 0.0
        gloss = max(gloss, 0.25) if plastic and family == "flat" else gloss
        texture = make_texture(random, family)
        if plastic and family == "flat":
            texture = np.broadcast_to(plastic_color(random), (1, 1, 3))
        materials.append(Material(texture, gloss, float(np.exp(random.uniform(2.3, 5.3)))))
    return materials, families


def plastic_color(random: np.random.Generator) -> np.ndarray:
    """A saturated color, at times a gray, as toys are dyed; 8-bit display values."""
    red, green, blue = hsv_to_rgb(random.random(), random.uniform(0.55, 1), random.uniform(0.35, 0.95))
    gray = random.uniform(0.1, 0.9)
    color = (gray, gray, gray) if random.random() < 0.3 else (red, green, blue)
    return (np.array(color) * 255).round().astype(np.uint8)


def cover(random: np.random.Generator, parts: list[Part], materials: list[Material]) -> tuple[Surface, set[int]]:
    """Give each part a material (the two largest the demanded ones), at times a second one on some of its sides."""
    extents = [
        float(np.linalg.norm(np.ptp(p.mesh.vertices, axis=0))) * np.cbrt(abs(np.linalg.det(p.matrix[:3, :3])))
        for p in parts
    ]
    rank = np.argsort(np.argsort(extents, kind="stable")[::-1], kind="stable")
    pieces, used = [], set()
    known: dict[int, np.ndarray] = {}
    for part, place in zip(parts, rank, strict=True):
        main = int(place) if place < 2 else int(random.integers(len(materials)))
        second = 1 - main if len(parts) == 1 else int(random.integers(len(materials)))
        corners = np.asarray(part.mesh.vertices)[part.mesh.faces].astype(np.float32)
        if id(part.mesh) not in known:
            known[id(part.mesh)] = crease_normals(part.mesh.vertices, part.mesh.faces)
        normals = known[id(part.mesh)]
        rows = np.full(len(corners), main, np.int64)
        if len(parts) == 1 or random.random() < 0.2:
            towards = rotation(random)[:3, 0] if random.random() < 0.5 else np.eye(3)[random.integers(3)]
            facing = normals.mean(1) @ towards
            border = np.median(facing) if len(parts) == 1 else 0.5
            rows[facing > border] = second
        size = max(float(np.cbrt(abs(np.linalg.det(part.matrix[:3, :3])))), 1e-6)
        density = size * np.exp(random.uniform(np.log(0.4), np.log(1.6)))
        tint = random.uniform(0.6, 1.0) * np.ones(3) if random.random() < 0.5 else np.ones(3)
        surface = Surface(
            corners,
            normals,
            box_uvs(corners, density, random.uniform(0, 1, 2)),
            np.broadcast_to(tint.astype(np.float32), corners.shape).copy(),
            rows,
        )
        used |= set(np.unique(rows).tolist())
        pieces.append(transformed(surface, part.matrix))
    return join(pieces), used


def _yaw(angle: float) -> Matrix:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix
