"""Textured meshes from files as scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from gaussianvae.errors import GaussianVAEError
from gaussianvae.synthesize.config import SynthesisConfig
from gaussianvae.synthesize.factors import factors_of
from gaussianvae.synthesize.lighting import draw_lights
from gaussianvae.synthesize.raytrace import TracedScene, srgb_to_linear
from gaussianvae.synthesize.surfaces import Material, Surface, into_unit_ball, join, without_slivers

MAX_TEXTURE = 1024
"""Larger textures are brought down to this many texels a side."""
WHITE = np.full((1, 1, 3), 255, np.uint8)


def build_mesh_scene(path: Path | str, config: SynthesisConfig) -> TracedScene:
    """A mesh file as a scene; the seed draws lights and background.

    Args:
        path: glTF, GLB, OBJ, PLY, STL and whatever else trimesh reads. Files of the first two have y up and are
            turned to z up.
        config: `seed` counts.

    Raises:
        GaussianVAEError: the file can't be read, or holds no triangles.
    """
    surface, materials = load_surface(Path(path))
    factors = factors_of(config.seed)
    shade = 0.0 if factors.background == "black" else 1.0
    random = np.random.default_rng([config.seed, 2])
    record = {"mesh": Path(path).name, "light": factors.light, "background": factors.background}
    return TracedScene(
        surface=into_unit_ball(without_slivers(surface)),
        materials=tuple(materials),
        lights=draw_lights(np.random.default_rng([config.seed, 3]), factors.light),
        background=(shade, shade, shade),
        hemisphere=bool(random.random() < 0.4),
        brightness=float(random.uniform(0.38, 0.6)),
        seed=config.seed,
        factors=record,
    )


def load_surface(path: Path) -> tuple[Surface, list[Material]]:
    """Triangles and materials of a mesh file, in its own units, z up."""
    if not path.is_file():
        raise GaussianVAEError(f"{path}: no such file; name a mesh (.glb, .gltf, .obj, .ply, .stl)")
    try:
        parts = trimesh.load_scene(path).dump()
    except Exception as error:  # trimesh's readers raise whatever their format's library does
        raise GaussianVAEError(f"{path}: can't be read as a mesh ({error})") from error
    surfaces: list[Surface] = []
    materials: list[Material] = []
    for part in parts if isinstance(parts, list) else [parts]:
        if isinstance(part, trimesh.Trimesh) and len(part.faces):
            surface, material = _convert(part, len(materials))
            surfaces.append(surface)
            materials.append(material)
    if not surfaces:
        raise GaussianVAEError(f"{path}: holds no triangles; name a mesh with faces")
    whole = join(surfaces)
    if path.suffix.lower() in (".glb", ".gltf"):
        upright = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
        whole = Surface(whole.corners @ upright.T, whole.normals @ upright.T, whole.uvs, whole.tints, whole.materials)
    return whole, materials


def _convert(part: Any, row: int) -> tuple[Surface, Material]:
    faces = np.asarray(part.faces)
    corners = np.asarray(part.vertices, np.float32)[faces]
    normals = np.asarray(part.vertex_normals, np.float32)[faces]
    visual = part.visual
    uvs = np.zeros((len(faces), 3, 2), np.float32)
    tints = np.ones((len(faces), 3, 3), np.float32)
    texture, gloss, shininess = WHITE, 0.0, 30.0
    material = getattr(visual, "material", None)
    coordinates = getattr(visual, "uv", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is not None and coordinates is not None:
        texture = _texels(image)
        uvs = np.asarray(coordinates, np.float32)[faces]
    if visual.kind == "vertex":
        tints = srgb_to_linear(np.asarray(visual.vertex_colors, np.float32)[:, :3] / 255).astype(np.float32)[faces]
    elif visual.kind == "face":
        per_face = srgb_to_linear(np.asarray(visual.face_colors, np.float32)[:, :3] / 255).astype(np.float32)
        tints = np.repeat(per_face[:, None], 3, 1)
    tints = tints * _factor(material)
    if hasattr(material, "roughnessFactor"):
        factor = getattr(material, "roughnessFactor", None)
        roughness = 1.0 if factor is None else float(factor)
        gloss = 0.6 * max(0.0, 0.9 - roughness)
        shininess = float(np.clip(2 / max(roughness, 0.1) ** 4, 4, 200))
    surface = Surface(corners, normals, uvs, tints.astype(np.float32), np.full(len(faces), row, np.int64))
    return surface, Material(texture, gloss, shininess)


def _texels(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    shrink = MAX_TEXTURE / max(image.size)
    if shrink < 1:
        size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
        image = image.resize(size, Image.Resampling.BOX)
    return np.asarray(image)


def _factor(material: Any) -> np.ndarray:
    """A material's base color factor, linear."""
    factor = getattr(material, "baseColorFactor", None)
    if factor is None:
        diffuse = getattr(material, "diffuse", None) if not hasattr(material, "baseColorFactor") else None
        if diffuse is None or getattr(material, "image", None) is not None:
            return np.ones(3, np.float32)
        return srgb_to_linear(np.asarray(diffuse, np.float32)[:3] / 255).astype(np.float32)
    values = np.asarray(factor, np.float32)[:3]
    # trimesh stores factors as 8-bit values
    return values / 255 if np.asarray(factor).dtype.kind in "ui" or values.max() > 1.01 else values
