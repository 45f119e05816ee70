"""Images and depth against geometry that is computed another way: formulas, float64 ray casts, projections."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")

from gaussianvae.scene.cameras import Cameras, project  # noqa: E402
from gaussianvae.scene.imaging import reduce_image  # noqa: E402
from gaussianvae.synthesize import SynthesisConfig, TracedScene, build_scene, place_cameras, trace  # noqa: E402
from gaussianvae.synthesize.capture import look_at  # noqa: E402
from gaussianvae.synthesize.lighting import LARGE_MAP, Lights  # noqa: E402
from gaussianvae.synthesize.raytrace import DECODE, linear_to_srgb, srgb_to_linear, texture_atlas  # noqa: E402
from gaussianvae.synthesize.surfaces import Material, Surface, crease_normals, join  # noqa: E402

WHITE = np.full((1, 1, 3), 255, np.uint8)


def ambient(level: float = 1.0) -> Lights:
    light = np.full(3, level, np.float32)
    none = np.zeros((0, 3), np.float32)
    return Lights(light, light, none, none, np.zeros(0, np.int64), np.zeros(0, np.int64))


def surface_of(vertices, faces, tint=(1.0, 1.0, 1.0), row: int = 0, uvs=None) -> Surface:
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    corners = vertices[faces].astype(np.float32)
    return Surface(
        corners,
        crease_normals(vertices, faces),
        np.zeros((len(faces), 3, 2), np.float32) if uvs is None else np.asarray(uvs, np.float32)[faces],
        np.broadcast_to(np.asarray(tint, np.float32), corners.shape).copy(),
        np.full(len(faces), row, np.int64),
    )


def scene_of(surface: Surface, lights: Lights | None = None, texture=WHITE) -> TracedScene:
    return TracedScene(surface, (Material(texture),), lights or ambient(), (0.0, 0.0, 0.0))


def camera(eye, size=(64, 64), focal=80.0, target=(0, 0, 0), roll=0.0) -> Cameras:
    K = torch.tensor([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]], dtype=torch.float32)
    viewmat = torch.from_numpy(look_at(np.asarray(eye, float), np.asarray(target, float), roll)).float()
    return Cameras(viewmat[None], K[None], (size,))


def float64_rays(cameras: Cameras, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions through pixel centers, of unit length along the optical axis."""
    width, height = cameras.sizes[view]
    viewmat, K = cameras.viewmats[view].double().numpy(), cameras.Ks[view].double().numpy()
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    local = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], -1)
    rotation = viewmat[:3, :3]
    return -rotation.T @ viewmat[:3, 3], local @ rotation


def cast(origin: np.ndarray, directions: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Closest hits of triangles by Moller and Trumbore, one triangle at a time."""
    nearest = np.full(directions.shape[:-1], np.inf)
    for a, b, c in corners.astype(np.float64):
        e1, e2, s = b - a, c - a, origin - a
        p = np.cross(directions, e2)
        determinant = p @ e1
        with np.errstate(divide="ignore", invalid="ignore"):
            u = (p @ s) / determinant
            q = np.cross(s, e1)
            v = (directions @ q) / determinant
            t = (q @ e2) / determinant
            inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        nearest = np.where(inside & (t < nearest), t, nearest)
    return nearest


def test_depth_of_a_box_is_that_of_the_slab_formula():
    half = np.array([0.5, 0.3, 0.4])
    mesh = trimesh.creation.box(2 * half)
    cameras = camera((1.7, -1.1, 1.3), size=(61, 47), roll=0.3)
    _, depth = trace(scene_of(surface_of(mesh.vertices, mesh.faces)), cameras)
    origin, directions = float64_rays(cameras, 0)
    first, second = (-half - origin) / directions, (half - origin) / directions
    enter, leave = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
    truth = np.where(enter < leave, enter, np.inf)
    hit = np.isfinite(truth)
    assert hit.mean() > 0.1
    assert (np.isfinite(depth[0].numpy()) == hit).mean() > 0.999
    both = hit & np.isfinite(depth[0].numpy())
    assert np.abs(depth[0].numpy()[both] - truth[both]).max() < 1e-5


@pytest.mark.parametrize("seed", [2, 18, 20])
def test_depth_agrees_with_a_float64_cast_of_all_triangles(seed):
    scene = build_scene(SynthesisConfig(seed=seed))
    assert len(scene.surface) < 20_000
    cameras = place_cameras(scene, SynthesisConfig(seed=seed, views=2, size=20))
    _, depth = trace(scene, cameras)
    assert depth is not None
    for view in range(2):
        truth = cast(*float64_rays(cameras, view), scene.surface.corners)
        seen = depth[view].numpy()
        # a ray along an edge may pass it on either side
        both = np.isfinite(truth) & np.isfinite(seen)
        assert (np.isfinite(truth) == np.isfinite(seen)).mean() >= 0.995
        error = np.abs(truth[both] - seen[both])
        assert (error < 1e-4).mean() >= 0.995 and np.median(error) < 1e-6


@pytest.mark.parametrize("supersample", [2, 3])
def test_alpha_of_a_sphere_covers_its_analytic_area(supersample):
    radius, distance, focal = 0.8, 3.0, 150.0
    mesh = trimesh.creation.icosphere(5, radius)
    cameras = camera((distance, 0, 0), size=(128, 128), focal=focal)
    rgba, _ = trace(scene_of(surface_of(mesh.vertices, mesh.faces)), cameras, supersample, depth=False)
    disk = math.pi * (focal * math.tan(math.asin(radius / distance))) ** 2
    assert float(rgba[..., 3].double().sum()) / 255 == pytest.approx(disk, rel=0.01)
    edge = (rgba[..., 3] > 0) & (rgba[..., 3] < 255)
    assert 100 < int(edge.sum()) < 400


def test_a_point_is_seen_where_the_cameras_project_it_in_its_color_and_at_its_depth():
    colors = [(0.8, 0.1, 0.1), (0.1, 0.7, 0.2), (0.1, 0.2, 0.9), (0.7, 0.7, 0.1), (0.6, 0.1, 0.6)]
    centers = np.array([[0.5, 0.3, 0.2], [-0.5, 0.2, 0.3], [0.2, -0.6, -0.1], [-0.3, -0.4, -0.5], [0.0, 0.1, 0.7]])
    cube = trimesh.creation.box([0.16] * 3)
    surface = join([surface_of(cube.vertices + c, cube.faces, t) for c, t in zip(centers, colors, strict=True)])
    scene = scene_of(surface)
    # off-center and anisotropic: a swapped axis or a flipped sign would show
    viewmat = torch.from_numpy(look_at(np.array([1.5, -2.0, 1.1]), np.array([0.1, 0, 0]), 0.2)).float()
    K = torch.tensor([[95.0, 0, 50], [0, 80, 35], [0, 0, 1]])
    cameras = Cameras(viewmat[None], K[None], ((96, 72),))
    rgba, depth = trace(scene, cameras)
    assert depth is not None
    pixels, depths = project(cameras, 0, torch.from_numpy(centers).float())
    for (x, y), z, tint in zip(pixels.tolist(), depths.tolist(), colors, strict=True):
        column, row = int(x), int(y)
        expected = linear_to_srgb(np.clip(np.array(tint) * scene.exposure, 0, 1)) * 255
        assert np.abs(rgba[0, row, column, :3].numpy() - expected).max() <= 1
        assert rgba[0, row, column, 3] == 255
        # the near faces of a cube of side 0.16 lie 0.08 to 0.14 before its center
        assert 0.07 < z - float(depth[0, row, column]) < 0.15


def test_textures_stand_upright():
    texture = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    quad = [[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]]
    uvs = [[0, 0], [1, 0], [1, 1], [0, 1]]
    surface = surface_of(quad, [[0, 1, 2], [0, 2, 3]], uvs=uvs)
    rgba, _ = trace(scene_of(surface, texture=texture), camera((2, 0, 0), focal=100), depth=False)
    # seen from +x, +y is to the right; row 0 of a texture is v = 1
    left, right, top, bottom = 20, 43, 20, 43
    seen = rgba[0, :, :, :3].numpy().astype(int)
    for (row, column), channels in {(top, left): [0], (top, right): [1], (bottom, left): [2]}.items():
        others = [c for c in range(3) if c not in channels]
        assert seen[row, column, channels].min() > 1.5 * seen[row, column, others].max()
    assert np.ptp(seen[bottom, right]) < 60 and seen[bottom, right].min() > 100


def test_both_sides_of_a_triangle_are_lit_the_same():
    quad = [[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]]
    both = Lights(
        np.zeros(3, np.float32), np.zeros(3, np.float32),
        np.array([[1, 0, 0], [-1, 0, 0]], np.float32), np.full((2, 3), 0.5, np.float32),
        np.zeros(2, np.int64), np.zeros(2, np.int64),
    )  # fmt: skip
    views = [trace(scene_of(surface_of(quad, [[0, 1, 2], [0, 2, 3]]), both), camera((x, 0, 0)), 1)[0] for x in (2, -2)]
    assert int(views[0][0, 32, 32, 0]) > 50
    assert torch.equal(views[0][0, 32, 32], views[1][0, 32, 32])


def test_a_plate_casts_its_shadow_on_the_floor():
    floor = [[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]
    plate = [[-0.3, -0.3, 0.4], [0.3, -0.3, 0.4], [0.3, 0.3, 0.4], [-0.3, 0.3, 0.4]]
    faces = [[0, 1, 2], [0, 2, 3]]
    sun = Lights(
        np.full(3, 0.1, np.float32), np.full(3, 0.1, np.float32),
        np.array([[0, 0, 1]], np.float32), np.ones((1, 3), np.float32),
        np.array([LARGE_MAP]), np.zeros(1, np.int64),
    )  # fmt: skip
    scene = scene_of(join([surface_of(floor, faces), surface_of(plate, faces)]), sun)
    cameras = camera((2.2, 0, 0.8), size=(96, 96), focal=130)
    rgba, _ = trace(scene, cameras)
    points = torch.tensor([[0.0, 0, 0], [0.25, 0.25, 0], [0.36, 0, 0], [0, 0.7, 0]])
    pixels, _ = project(cameras, 0, points)
    values = [DECODE[int(rgba[0, int(y), int(x), 0])] for x, y in pixels.tolist()]
    assert values[0] == pytest.approx(values[1], abs=0.02)
    assert values[2] == pytest.approx(values[3], abs=0.02)
    assert values[0] < 0.25 * values[2]


def test_texture_levels_keep_the_mean_light():
    texture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    texels, levels, counts = texture_atlas([Material(texture), Material(WHITE), Material(texture)])
    assert counts.tolist() == [7, 1, 7]
    assert (levels[0] == levels[2]).all() and len(texels) == 64 * 64 * 4 // 3 + 1 + 1 - 1
    for start, height, width in levels[0]:
        mean = DECODE[texels[start : start + height * width]].mean(0)
        assert np.abs(mean - DECODE[texture].reshape(-1, 3).mean(0)).max() < 0.01


def test_far_textures_are_averaged_not_sampled():
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    quad = [[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]]
    surface = surface_of(quad, [[0, 1, 2], [0, 2, 3]], uvs=[[0, 0], [4, 0], [4, 4], [0, 4]])
    rgba, _ = trace(scene_of(surface, texture=board), camera((2, 0.1, 0.1), focal=60), depth=False)
    inside = rgba[0, 24:40, 24:40, :3].float()
    assert float(inside.std()) < 4


def test_display_values_and_linear_light_invert_each_other():
    values = np.linspace(0, 1, 1001)
    assert np.abs(linear_to_srgb(srgb_to_linear(values)) - values).max() < 1e-4


def test_nothing_is_transparent_black_at_infinite_depth():
    scene = build_scene(SynthesisConfig(seed=5))
    cameras = place_cameras(scene, SynthesisConfig(seed=5, views=2, size=48))
    rgba, depth = trace(scene, cameras)
    assert depth is not None and rgba.dtype == torch.uint8
    assert (rgba[rgba[..., 3] == 0] == 0).all()
    solid = rgba[..., 3] == 255
    assert float(depth.isinf()[solid].float().mean()) < 1e-3
    assert reduce_image(rgba[..., 3:].float(), (1, 1)).min() > 0
