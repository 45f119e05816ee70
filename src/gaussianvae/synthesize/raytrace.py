"""Images and depth by ray casts: closest hits by Embree, shading compiled, one scene for all views.

Light is computed in linear values, averaged over the samples of a pixel, clipped, and stored in display values (sRGB),
as a camera does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.imaging import reduce_image
from gaussianvae.synthesize import kernels
from gaussianvae.synthesize.lighting import LARGE_MAP, SMALL_MAP, Lights, light_frame
from gaussianvae.synthesize.surfaces import Material, Surface

RAYS_AT_ONCE = 1 << 19
EXPOSURE_TRIED = 0.25
"""Exposure of the first look at a scene: dark enough to clip little."""


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """Linear light of display values, both 0-1 (IEC 61966-2-1)."""
    return np.asarray(np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4))


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """Display values of linear light: the inverse of `srgb_to_linear`."""
    return np.asarray(
        np.where(values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 1e-9) ** (1 / 2.4) - 0.055)
    )


DECODE = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
ENCODE = (linear_to_srgb(np.arange(1 << 14) / ((1 << 14) - 1)) * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class TracedScene:
    """A scene within the unit ball, z up, ready for rays."""

    surface: Surface
    materials: tuple[Material, ...]
    lights: Lights
    background: tuple[float, float, float]
    """What the scene is to be shown over; images keep their alpha all the same."""
    hemisphere: bool = False
    """Whether it should only be seen from above."""
    brightness: float = 0.5
    """Mean display value, 0-1, that the surface is exposed for, as far as 19 of 20 values stay unclipped."""
    seed: int = 0
    factors: dict[str, Any] = field(default_factory=dict)
    """What the scene contains, for its record."""

    @cached_property
    def rays(self) -> Any:
        """The Embree scene."""
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise GaussianVAEError("making scenes needs embreex; pip install 'gaussianvae[synthesize]'") from error
        scene = EmbreeScene()
        TriangleMesh(scene, np.ascontiguousarray(self.surface.corners))
        return scene

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """What the shading kernel needs beside hits, in its order."""
        surface, lights = self.surface, self.lights
        atlas, levels, counts = texture_atlas(self.materials)
        bases = np.stack([light_frame(d) for d in lights.directions]) if len(lights.maps) else np.zeros((0, 3, 3))
        which = np.full(len(lights.maps), -1, np.int64)
        stacks: dict[int, list[np.ndarray]] = {SMALL_MAP: [], LARGE_MAP: []}
        for light, size in enumerate(lights.maps):
            if size:
                rank = len(stacks[int(size)])
                which[light] = rank if size == SMALL_MAP else -rank - 2
                stacks[int(size)].append(_height_map(self.rays, bases[light], int(size)))
        small, large = (
            np.stack(stacks[size]) if stacks[size] else np.zeros((0, 1, 1), np.float32)
            for size in (SMALL_MAP, LARGE_MAP)
        )
        bias = np.where(lights.maps > 0, (1.2 + lights.softness) * 2.1 / np.maximum(lights.maps, 1), 0)
        glosses = np.array([m.gloss for m in self.materials], np.float32)
        shininesses = np.array([m.shininess for m in self.materials], np.float32)
        return (
            surface.corners, surface.normals, surface.uvs, surface.tints, surface.materials.astype(np.int64),
            texel_densities(surface, self.materials),
            atlas, DECODE, levels, counts, glosses, shininesses,
            lights.sky, lights.ground, lights.directions, lights.colors, which, lights.softness,
            bias.astype(np.float32), bases.astype(np.float32), small, large, ENCODE,
        )  # fmt: skip

    @cached_property
    def exposure(self) -> float:
        """The factor on all light, found as a camera's automatic finds it: from a few small views."""
        directions = np.array([[1, 0.3, 0.4], [-0.4, 1, 0.6], [-0.9, -0.5, 0.2], [0.3, -1, 1.2]])
        eyes = 3.2 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        K = np.array([[72.0, 0, 24], [0, 72, 24], [0, 0, 1]])
        seen: list[np.ndarray] = []
        for eye in eyes:
            right, down = light_frame(-eye)[:2]
            rotation = np.stack([right, down, -eye / np.linalg.norm(eye)])
            rgba = _shade_view(self, rotation, np.linalg.inv(K), eye.astype(np.float32), (48, 48), 1, EXPOSURE_TRIED)
            seen.append(rgba[rgba[..., 3] > 0, :3])
        values = np.concatenate(seen).astype(np.float64) / 255
        if not values.size:
            return 1.0
        mean, bright = max(float(values.mean()), 1e-3), max(float(np.quantile(values, 0.95)), 1e-3)
        return float(np.clip(EXPOSURE_TRIED * (min(self.brightness / mean, 0.97 / bright)) ** 2.2, 0.3, 4))


def trace(
    scene: TracedScene, cameras: Cameras, supersample: int = 2, depth: bool = True
) -> tuple[UInt8[Tensor, "V H W 4"], Float[Tensor, "V H W"] | None]:
    """Images and depths of all views, which must be of one size.

    Args:
        scene: what to see.
        cameras: from where.
        supersample: its square is the number of samples in a pixel, at the same places in each.
        depth: whether to cast the rays through pixel centers too.

    Returns:
        straight-alpha RGBA in display values, 8 bits (color 0 where nothing is hit), and z-depths in world units at
        pixel centers, infinite where nothing is hit.

    Raises:
        GaussianVAEError: the views differ in size.
    """
    if len(set(cameras.sizes)) > 1:
        raise GaussianVAEError(
            f"views of {len(set(cameras.sizes))} sizes can't be traced together; trace each size alone"
        )
    width, height = cameras.sizes[0] if cameras.sizes else (0, 0)
    rgba = np.zeros((len(cameras), height, width, 4), np.uint8)
    depths = np.full((len(cameras), height, width), kernels.NOTHING, np.float32) if depth else None
    positions = cameras.positions.double().numpy()
    for view in range(len(cameras)):
        rotation = cameras.viewmats[view, :3, :3].double().numpy()
        inverse_k = np.linalg.inv(cameras.Ks[view].double().numpy())
        eye = positions[view].astype(np.float32)
        rgba[view] = _shade_view(scene, rotation, inverse_k, eye, (width, height), supersample, scene.exposure)
        if depths is not None:
            for first, rows in _bands(height, width):
                hit = _closest(scene, eye, kernels.pixel_rays(rotation, inverse_k, width, first, rows, 1))
                found = np.where(hit["primID"] >= 0, hit["tfar"], kernels.NOTHING)
                depths[view, first : first + rows] = found.reshape(rows, width)
    return torch.from_numpy(rgba), None if depths is None else torch.from_numpy(depths)


def texture_atlas(materials: Sequence[Material]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All textures and their mip levels in one list of texels.

    Returns:
        texels (T, 3), 8-bit display values; (first texel, height, width) of each level of each material; the number of
        levels of each material. Levels are averaged in linear light.
    """
    pieces: list[np.ndarray] = []
    known: dict[int, list[tuple[int, int, int]]] = {}
    total = 0
    for material in materials:
        if id(material.texture) in known:
            continue
        table = known[id(material.texture)] = []
        image = material.texture
        while True:
            table.append((total, *image.shape[:2]))
            pieces.append(image.reshape(-1, 3))
            total += len(pieces[-1])
            if max(image.shape[:2]) == 1:
                break
            size = (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2))
            linear = reduce_image(torch.from_numpy(DECODE[image]), size)
            image = (linear_to_srgb(linear.numpy()) * 255).round().astype(np.uint8)
    counts = np.array([len(known[id(m.texture)]) for m in materials], np.int64)
    levels = np.zeros((len(materials), int(counts.max()), 3), np.int64)
    for row, material in enumerate(materials):
        levels[row, : counts[row]] = known[id(material.texture)]
    return np.concatenate(pieces), levels, counts


def texel_densities(surface: Surface, materials: Sequence[Material]) -> Float[np.ndarray, " F"]:
    """Texels per unit of length on each triangle."""
    corners, uvs = surface.corners.astype(np.float64), surface.uvs.astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    p, q = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    texels = np.array([m.texture.shape[0] * m.texture.shape[1] for m in materials])[surface.materials]
    return np.asarray(
        np.sqrt(np.abs(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]) * texels / np.maximum(area, 1e-20)), np.float32
    )


def _shade_view(
    scene: TracedScene,
    rotation: np.ndarray,
    inverse_k: np.ndarray,
    eye: np.ndarray,
    size: tuple[int, int],
    supersample: int,
    exposure: float,
) -> UInt8[np.ndarray, "H W 4"]:
    width, height = size
    image = np.empty((height, width, 4), np.uint8)
    spread = float(inverse_k[0, 0] / supersample)
    for first, rows in _bands(height, width * supersample**2):
        directions = kernels.pixel_rays(rotation, inverse_k, width, first, rows, supersample)
        hit = _closest(scene, eye, directions)
        kernels.shade(
            hit["primID"], hit["u"], hit["v"], hit["tfar"], directions, eye, spread, supersample, exposure,
            *scene.arrays, image[first : first + rows].reshape(-1, 4),
        )  # fmt: skip
    return image


def _bands(height: int, rays_a_row: int) -> list[tuple[int, int]]:
    rows = max(1, RAYS_AT_ONCE // max(rays_a_row, 1))
    return [(first, min(rows, height - first)) for first in range(0, height, rows)]


def _closest(scene: TracedScene, eye: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
    hits: dict[str, np.ndarray] = scene.rays.run(np.broadcast_to(eye, directions.shape).copy(), directions, output=1)
    return hits


def _height_map(rays: Any, basis: np.ndarray, size: int) -> Float[np.ndarray, "S S"]:
    """The largest height towards a light over its plane, -inf where nothing is; texel centers at +0.5."""
    axis = (((np.arange(size) + 0.5) / size * 2 - 1) * 1.05).astype(np.float32)
    first, second, towards = basis.astype(np.float32)
    result = np.empty((size, size), np.float32)
    for top, rows in _bands(size, size):
        plane = axis[top : top + rows, None, None] * second + axis[None, :, None] * first
        origins = (plane + 2 * towards).reshape(-1, 3)
        hit = rays.run(origins, np.broadcast_to(-towards, origins.shape).copy(), output=1)
        height = np.where(hit["primID"] >= 0, 2 - hit["tfar"], -np.inf)
        result[top : top + rows] = height.reshape(rows, size)
    return result
