"""Meshes of single parts, about one unit across, centered at the origin.

Every shape is a function of a random generator and `fine` (0-1, how many triangles it may spend).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh
from scipy.interpolate import PchipInterpolator
from trimesh import creation

from gaussianvae.synthesize.solids import Mesh, carve, lattice_faces, moved, rotation, tagged, together, tube, turned
from gaussianvae.synthesize.textures import power_noise


def box(random: np.random.Generator, fine: float) -> Mesh:
    """A cuboid, its edges chamfered at times."""
    size = random.uniform(0.15, 1, 3)
    if random.random() < 0.5:
        return creation.box(size)
    bevel = size.min() * random.uniform(0.05, 0.2)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size / 2
    inset = [corners - np.sign(corners) * (bevel * (1 - np.eye(3)[axis])) for axis in range(3)]
    return trimesh.convex.convex_hull(np.concatenate(inset))


def sphere(random: np.random.Generator, fine: float) -> Mesh:
    """A ball or an ellipsoid."""
    mesh = creation.icosphere(3 + round(fine), 0.5)
    mesh.apply_scale(random.uniform(0.4, 1, 3) if random.random() < 0.5 else random.uniform(0.4, 1))
    return mesh


def displaced(random: np.random.Generator, fine: float) -> Mesh:
    """A ball displaced by waves of several lengths: stones, fruit, corals."""
    mesh = creation.icosphere(4 + round(fine), 1.0)
    height = np.zeros(len(mesh.vertices))
    for _ in range(16):
        wave = random.standard_normal(3) * np.exp(random.uniform(0, 2.6))
        height += np.sin(mesh.vertices @ wave + random.uniform(0, 6.3)) / (1 + np.linalg.norm(wave))
    if random.random() < 0.3:
        height = -np.abs(height)
    radius = 0.45 * np.maximum(1 + random.uniform(0.15, 0.6) * height, 0.2)
    return Mesh(mesh.vertices * radius[:, None] * random.uniform(0.5, 1, 3), mesh.faces, process=False)


def cylinder(random: np.random.Generator, fine: float) -> Mesh:
    """A cylinder, a disk or a rod."""
    return creation.cylinder(np.exp(random.uniform(np.log(0.04), np.log(0.45))), random.uniform(0.1, 1), sections=36)


def cone(random: np.random.Generator, fine: float) -> Mesh:
    """A cone."""
    return moved(
        creation.cone(random.uniform(0.15, 0.45), height := random.uniform(0.3, 1), sections=36), z=-height / 2
    )


def torus(random: np.random.Generator, fine: float) -> Mesh:
    """A ring."""
    return creation.torus(random.uniform(0.3, 0.45), random.uniform(0.03, 0.15), major_sections=48, minor_sections=16)


def gear(random: np.random.Generator, fine: float) -> Mesh:
    """An extruded star or toothed wheel."""
    teeth = int(random.integers(3, 20))
    steps = 2 if random.random() < 0.5 else 4
    count = teeth * steps
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = 0.5 * np.where(np.arange(count) % steps < steps // 2, 1, random.uniform(0.45, 0.9))
    height = random.uniform(0.06, 0.6) / 2
    outline = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    low, high = np.full((count, 1), -height), np.full((count, 1), height)
    vertices = np.concatenate(
        [np.hstack([outline, low]), np.hstack([outline, high]), [[0, 0, -height], [0, 0, height]]]
    )
    i = np.arange(count)
    j = (i + 1) % count
    bottom, top = np.full(count, 2 * count), np.full(count, 2 * count + 1)
    faces = [(i, j, j + count), (i, j + count, i + count), (j, i, bottom), (i + count, j + count, top)]
    return Mesh(vertices, np.concatenate([np.stack(f, 1) for f in faces]), process=False)


def lathe(random: np.random.Generator, fine: float) -> Mesh:
    """A turned profile: bottles, vases, bowls, lamp feet (open at the top)."""
    knots = int(random.integers(4, 9))
    position = np.linspace(0, 1, knots)
    radius = random.uniform(0.08, 0.45, knots)
    steps = np.linspace(0, 1, 48)
    profile = np.interp(steps, position, radius) if random.random() < 0.4 else _smooth(steps, position, radius)
    profile = np.concatenate([[1e-3], profile])
    steps = np.concatenate([[0.0], steps]) - 0.5
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    ring = np.stack([np.outer(profile, np.cos(angle)), np.outer(profile, np.sin(angle))], -1)
    height = np.broadcast_to(steps[:, None, None] * random.uniform(0.5, 1), (*ring.shape[:2], 1))
    vertices = np.concatenate([ring, height], -1).reshape(-1, 3)
    return Mesh(vertices, lattice_faces(len(profile), 48, False, True), process=False)


def height_field(random: np.random.Generator, fine: float) -> Mesh:
    """A landscape with a skirt: hills, dunes, terraces, a relief."""
    side = int(64 + 64 * fine)
    relief = power_noise(random, 128, random.uniform(1.4, 2.4))[:side, :side]
    if random.random() < 0.3:
        levels = random.integers(4, 10)
        relief = np.round(relief * levels) / levels
    relief = relief * random.uniform(0.15, 0.5)
    axis = np.linspace(-0.5, 0.5, side)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    floor = -random.uniform(0.03, 0.2)
    # the skirt is the border once more, straight below itself
    x, y, relief = (np.pad(plane, 1, mode="edge") for plane in (x, y, relief))
    border = np.pad(np.zeros((side, side), bool), 1, constant_values=True)
    z = np.where(border, floor, relief)
    top = Mesh(np.stack([x, y, z], -1).reshape(-1, 3), lattice_faces(side + 2, side + 2, False, False), process=False)
    base = Mesh(
        [[a, b, floor] for a, b in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))], [[0, 2, 1], [0, 3, 2]]
    )
    return together([top, base])


def knot(random: np.random.Generator, fine: float) -> Mesh:
    """A torus knot of thin rope or wire."""
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    p, q = random.integers(1, 5), random.integers(1, 6)
    radius = 0.35 * (1 + 0.45 * np.cos(q * t))
    curve = np.stack([radius * np.cos(p * t), radius * np.sin(p * t), 0.2 * np.sin(q * t)], 1)
    return tube(curve, np.exp(random.uniform(np.log(0.007), np.log(0.06))), 8)


def wires(random: np.random.Generator, fine: float) -> Mesh:
    """A bundle of curved wires, stems or hairs."""
    t = np.linspace(0, 1, 40)
    strands = []
    for _ in range(int(random.integers(4, 30))):
        foot, tip = random.uniform(-0.25, 0.25, 3), random.uniform(-0.5, 0.5, 3)
        foot[2], tip[2] = -0.5, random.uniform(0, 0.5)
        middle = (foot + tip) / 2 + random.uniform(-0.25, 0.25, 3)
        curve = np.outer((1 - t) ** 2, foot) + np.outer(2 * t * (1 - t), middle) + np.outer(t**2, tip)
        strands.append(tube(curve, random.uniform(0.004, 0.02), 6, closed=False))
    return together(strands)


def fence(random: np.random.Generator, fine: float) -> Mesh:
    """A grid of thin bars: fences, ladders, cages, scaffolds."""
    along, across = int(random.integers(2, 12)), int(random.integers(2, 12))
    thickness = 2 * random.uniform(0.004, 0.025)
    bars = [moved(creation.box([1, thickness, thickness]), y=y) for y in np.linspace(-0.5, 0.5, along)]
    bars += [moved(creation.box([thickness, 1, thickness]), x=x) for x in np.linspace(-0.5, 0.5, across)]
    if random.random() < 0.4:
        layer = together(bars)
        bars += [moved(layer.copy(), z=z) for z in random.uniform(0.15, 0.5, random.integers(1, 4))]
        corners = [(x, y) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
        bars += [moved(creation.box([thickness, thickness, 0.5]), x, y, 0.25) for x, y in corners]
    mesh = together(bars)
    mesh.apply_scale([1, random.uniform(0.4, 1), 1])
    return mesh


def spring(random: np.random.Generator, fine: float) -> Mesh:
    """A coil."""
    turns = random.uniform(3, 14)
    t = np.linspace(0, 1, int(24 * turns))
    radius = random.uniform(0.12, 0.4)
    curve = np.stack([radius * np.cos(2 * np.pi * turns * t), radius * np.sin(2 * np.pi * turns * t), t - 0.5], 1)
    return tube(curve, random.uniform(0.006, 0.03), 7, closed=False)


def plates(random: np.random.Generator, fine: float) -> Mesh:
    """Thin sheets: shelves, fins, a pile of cards, leaves."""
    thickness = random.uniform(0.006, 0.04)
    count = int(random.integers(3, 14))
    kind = random.integers(3)
    sheets = []
    for index in range(count):
        sheet = creation.box([random.uniform(0.4, 1), random.uniform(0.2, 0.8), thickness])
        if kind == 0:
            turned(sheet, random.uniform(-0.3, 0.3), 2)
            moved(sheet, z=(index - count / 2) * thickness * random.uniform(1.5, 6))
        elif kind == 1:
            turned(turned(sheet, np.pi / 2, 0), index * np.pi / count, 2)
        else:
            sheet.apply_transform(rotation(random))
            moved(sheet, *random.uniform(-0.25, 0.25, 3))
        sheets.append(sheet)
    return together(sheets)


def cut(random: np.random.Generator, fine: float) -> Mesh:
    """A solid with holes, notches or hollows cut out of it."""
    body = [
        creation.box(random.uniform(0.4, 1, 3)),
        creation.icosphere(4, 0.5),
        creation.cylinder(0.4, 0.8, sections=48),
    ][random.integers(3)]
    tools = []
    for _ in range(int(random.integers(1, 7))):
        kind = random.integers(4)
        if kind == 0:
            tool = creation.cylinder(random.uniform(0.05, 0.25), 2, sections=32)
        elif kind == 1:
            tool = creation.box([random.uniform(0.05, 0.5), random.uniform(0.05, 0.5), 2])
        elif kind == 2:
            tool = creation.icosphere(3, random.uniform(0.1, 0.35))
        else:
            tool = creation.box(random.uniform(0.2, 0.6, 3))
        tool.apply_transform(rotation(random) if random.random() < 0.3 else _quarter(random))
        tools.append(moved(tool, *random.uniform(-0.35, 0.35, 3)))
    return carve(body, tools)


def brick(random: np.random.Generator, fine: float, along: int = 0, across: int = 0, plate: bool | None = None) -> Mesh:
    """A toy brick with studs; one stud is 1/4 unit apart from the next, the underside is at z = 0.

    Args:
        random: draws what isn't given.
        fine: how round the studs are.
        along: studs in x.
        across: studs in y.
        plate: whether it has a third of a brick's height.
    """
    along = along or int(random.choice([1, 2, 2, 3, 4, 6]))
    across = across or int(random.choice([1, 1, 2, 2]))
    plate = bool(random.random() < 0.3) if plate is None else plate
    pitch, gap = 0.25, 0.006
    height = 0.1 if plate else 0.3
    parts = [moved(creation.box([along * pitch - gap, across * pitch - gap, height - gap / 2]), z=height / 2)]
    for x in range(along):
        for y in range(across):
            stud = creation.cylinder(0.075, 0.055, sections=10 + round(8 * fine))
            parts.append(moved(stud, (x - (along - 1) / 2) * pitch, (y - (across - 1) / 2) * pitch, height + 0.02))
    return tagged(together(parts), "bricks")


def beam(random: np.random.Generator, fine: float) -> Mesh:
    """A perforated beam, as in construction kits."""
    holes = int(random.integers(3, 10))
    pitch = 1 / holes
    body = creation.box([1, 0.8 * pitch, random.uniform(0.3, 0.9) * pitch])
    tools = [moved(creation.cylinder(0.26 * pitch, 1, sections=18), (i + 0.5) * pitch - 0.5) for i in range(holes)]
    return carve(body, tools)


def wheel(random: np.random.Generator, fine: float) -> Mesh:
    """A tire with ribs, a rim, and an axle."""
    width = random.uniform(0.1, 0.35)
    parts = [creation.annulus(0.32, 0.46, width, sections=40), creation.cylinder(0.1, 1.2 * width, sections=20)]
    ribs = int(random.integers(12, 30))
    for index in range(ribs):
        rib = moved(creation.box([0.06, 0.04, width]), x=0.47)
        parts.append(turned(rib, 2 * np.pi * index / ribs, 2))
    for index in range(spokes := int(random.integers(3, 8))):
        parts.append(turned(moved(creation.box([0.3, 0.05, 0.4 * width]), x=0.2), 2 * np.pi * index / spokes, 2))
    return turned(together(parts), np.pi / 2, 0)


def studded(random: np.random.Generator, fine: float) -> Mesh:
    """A body with many small things on its surface: rivets, buttons, windows, warts."""
    body = (box, cylinder, sphere, lathe)[random.integers(4)](random, 0.0)
    count, size = int(random.integers(15, 90)), np.exp(random.uniform(np.log(0.015), np.log(0.07)))
    stud = (creation.box([size] * 3), creation.cylinder(size / 2, size, sections=10), creation.icosphere(1, size / 2))[
        random.integers(3)
    ]
    face = random.choice(len(body.faces), count, p=body.area_faces / body.area_faces.sum())
    weights = random.dirichlet(np.ones(3), count)
    centers = np.einsum("nc,ncx->nx", weights, body.vertices[body.faces[face]])
    studs = []
    for center, normal in zip(centers, body.face_normals[face], strict=True):
        copy = stud.copy()
        copy.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], normal))
        studs.append(moved(copy, *center))
    return together([body, *studs])


def stairs(random: np.random.Generator, fine: float) -> Mesh:
    """Repeated elements along a line or a helix: steps, teeth, ribs, keys."""
    count = int(random.integers(6, 28))
    step = creation.box([random.uniform(0.2, 0.5), 1.2 / count, random.uniform(0.3, 0.9) / count])
    rise, turn = random.choice([0.0, 1.0]) / count, random.choice([0.0, random.uniform(0.1, 0.5)])
    parts = []
    for index in range(count):
        copy = step.copy()
        if turn:
            moved(copy, x=0.3)
            turned(copy, turn * index, 2)
        else:
            moved(copy, y=index / count - 0.5)
        parts.append(moved(copy, z=rise * (index - count / 2)))
    if turn:
        parts.append(creation.cylinder(0.04, max(rise * count, 0.1), sections=16))
    return together(parts)


def chain(random: np.random.Generator, fine: float) -> Mesh:
    """Links in each other along a hanging arc."""
    count = int(random.integers(6, 16))
    link = creation.torus(0.6 / count, 0.14 / count, major_sections=18, minor_sections=8)
    link.apply_scale([1.5, 1, 1])
    sag = random.uniform(-0.6, 0.6)
    parts = []
    for index in range(count):
        x = (index + 0.5) / count - 0.5
        copy = turned(link.copy(), index % 2 * np.pi / 2, 0)
        turned(copy, -np.arctan(8 * sag * x / 4), 1)
        parts.append(moved(copy, x=x, z=sag * x * x))
    return together(parts)


SHAPES: dict[str, tuple[Callable[[np.random.Generator, float], Mesh], ...]] = {
    "box": (box,),
    "sphere": (sphere,),
    "cylinder": (cylinder,),
    "cone": (cone,),
    "torus": (torus,),
    "gear": (gear,),
    "lathe": (lathe,),
    "wheel": (wheel,),
    "studded": (studded,),
    "repeated": (stairs, chain),
    "thin": (knot, wires, fence, spring),
    "height field": (height_field,),
    "cut": (cut, beam),
    "bricks": (brick,),
    "displaced": (displaced,),
    "plates": (plates,),
}
"""What makes each kind of shape; the kinds of `factors.GEOMETRIES` are among them."""


def make_shape(kind: str, random: np.random.Generator, fine: float) -> Mesh:
    """A shape of a kind; `metadata["kind"]` says which."""
    makers = SHAPES[kind]
    return tagged(makers[random.integers(len(makers))](random, fine), kind)


def _smooth(at: np.ndarray, position: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.asarray(PchipInterpolator(position, value)(at))


def _quarter(random: np.random.Generator) -> np.ndarray:
    axis = np.eye(3)[random.integers(3)]
    return np.asarray(trimesh.transformations.rotation_matrix(random.integers(2) * np.pi / 2, axis))
