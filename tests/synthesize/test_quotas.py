"""Quotas of content, and shapes and textures one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")
pytest.importorskip("manifold3d")

from gaussianvae.synthesize import SynthesisConfig, build_scene  # noqa: E402
from gaussianvae.synthesize.factors import (  # noqa: E402
    BACKGROUNDS,
    GEOMETRIES,
    PART_RANGES,
    factors_of,
)
from gaussianvae.synthesize.lighting import LIGHT_STYLES, light_frame  # noqa: E402
from gaussianvae.synthesize.shapes import SHAPES  # noqa: E402
from gaussianvae.synthesize.surfaces import crease_normals, into_unit_ball, transformed  # noqa: E402
from gaussianvae.synthesize.textures import FAMILIES, make_texture, power_noise  # noqa: E402

MAKERS = {f"{kind} {i}": maker for kind, row in SHAPES.items() for i, maker in enumerate(row)}


def lacking(seeds) -> set[str]:
    """The options that no scene of these seeds must contain."""
    demands = [factors_of(seed) for seed in seeds]
    seen = {d.parts for d in demands} | {d.geometry for d in demands} | {d.light for d in demands}
    seen |= {d.background for d in demands} | {name for d in demands for name in d.textures}
    return {*PART_RANGES, *GEOMETRIES, *LIGHT_STYLES, *BACKGROUNDS, *FAMILIES} - seen


@given(st.integers(0, 10**7))
def test_no_dozen_of_consecutive_seeds_lacks_a_factor(seed):
    assert lacking(range(seed, seed + 12)) == set()


def test_factors_do_not_go_together():
    demands = [factors_of(seed) for seed in range(240)]
    pairs = {(d.geometry, d.background) for d in demands} | {(d.geometry, d.light) for d in demands}
    assert len(pairs) == len(GEOMETRIES) * (len(BACKGROUNDS) + len(LIGHT_STYLES))


@pytest.mark.parametrize("first", [0, 12])
def test_scenes_contain_what_their_seeds_demand(first):
    scenes = [build_scene(SynthesisConfig(seed=seed)) for seed in range(first, first + 12)]
    for seed, scene in enumerate(scenes, first):
        demand, has = factors_of(seed), scene.factors
        low, high = PART_RANGES[demand.parts]
        assert low <= has["part_count"] <= high
        assert set(demand.textures) <= set(has["families"])
        assert demand.geometry in has["shapes"]
        assert scene.background == ((0, 0, 0) if demand.background == "black" else (1, 1, 1))
        radii = np.linalg.norm(scene.surface.corners.reshape(-1, 3), axis=1)
        assert radii.max() == pytest.approx(1, abs=1e-5)
        assert np.isfinite(scene.surface.normals).all() and np.isfinite(scene.surface.uvs).all()
        assert 12 <= len(scene.surface) < 1_000_000
        assert scene.surface.materials.max() < len(scene.materials)
        if demand.light == "specular":
            assert any(material.gloss > 0.2 for material in scene.materials)
        if demand.light == "shadow":
            assert (scene.lights.maps > 0).any()


@pytest.mark.parametrize("name", MAKERS)
def test_shapes_are_clean_and_about_one_unit_across(name):
    for seed in range(4):
        mesh = MAKERS[name](np.random.default_rng(seed), seed % 2)
        assert len(mesh.faces) >= 4 and len(mesh.faces) < 60_000
        assert np.isfinite(mesh.vertices).all()
        assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
        assert 0.1 < np.linalg.norm(np.ptp(mesh.vertices, axis=0)) < 2.5


def test_normals_are_flat_on_a_box_and_radial_on_a_ball():
    box, ball = trimesh.creation.box(), trimesh.creation.icosphere(3)
    flat = crease_normals(box.vertices, box.faces)
    assert np.allclose(flat, np.repeat(box.face_normals[:, None], 3, 1), atol=1e-6)
    radial = crease_normals(ball.vertices, ball.faces)
    assert np.abs(radial - ball.vertices[ball.faces]).max() < 0.02


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_normals_stay_perpendicular_under_affine_maps(seed):
    random = np.random.default_rng(seed)
    scene_matrix = np.eye(4)
    scene_matrix[:3, :3] = np.eye(3) + 0.5 * random.uniform(-1, 1, (3, 3))
    from gaussianvae.synthesize.surfaces import Surface

    corners = random.standard_normal((5, 3, 3)).astype(np.float32)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    zeros = np.zeros((5, 3, 2), np.float32)
    plain = Surface(corners, np.repeat(normal[:, None], 3, 1), zeros, np.ones_like(corners), np.zeros(5, np.int64))
    mapped = into_unit_ball(transformed(plain, scene_matrix))
    for a, b in ((0, 1), (1, 2)):
        edge = mapped.corners[:, a] - mapped.corners[:, b]
        assert np.abs((edge * mapped.normals[:, 0]).sum(-1)).max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_textures_are_drawn_from_their_seed_and_show_something(family):
    images = [make_texture(np.random.default_rng(seed), family, 128) for seed in range(3)]
    for seed, image in enumerate(images):
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8
        assert np.array_equal(image, make_texture(np.random.default_rng(seed), family, 128))
        assert (float(image.std((0, 1)).max()) > 1) == (family != "flat")
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.6])
def test_noise_has_the_spectrum_asked_for(exponent):
    plane = power_noise(np.random.default_rng(0), 256, exponent)
    assert plane.min() >= 0 and plane.max() <= 1
    spectrum = np.abs(np.fft.fft2(plane - plane.mean()))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    bands = np.geomspace(4 / 256, 0.4, 8)
    means = [spectrum[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(bands)]
    slope = np.polyfit(np.log(np.sqrt(bands[1:] * bands[:-1])), np.log(means), 1)[0]
    # clipping adds a little white noise
    assert slope == pytest.approx(-exponent, abs=0.2)


@given(st.integers(0, 10**6))
def test_light_frames_are_orthonormal(seed):
    direction = np.random.default_rng(seed).standard_normal(3)
    frame = light_frame(direction)
    assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.allclose(frame[2], direction / np.linalg.norm(direction))
