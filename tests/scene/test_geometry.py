"""Laws of rotations, harmonics, cameras, images and row edits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gaussianvae.scene.cameras import footprints, project, resize
from gaussianvae.scene.edits import RowEdit, append_children, keep, reorder, unchanged
from gaussianvae.scene.frames import FRAMES, camera_to_world_to_viewmats, viewmats_to_camera_to_world
from gaussianvae.scene.harmonics import rotate_sh, sh_basis
from gaussianvae.scene.imaging import area_weights, reduce_image, round_to_8_bits
from gaussianvae.scene.rotations import (
    multiply_quats,
    quats_to_rotmats,
    quats_to_rotvecs,
    random_quats,
    rotmats_to_quats,
    rotvecs_to_quats,
)
from gaussianvae.scene.splats import covariances, transform
from scenes import random_splats, ring_cameras

seeds = st.integers(0, 10_000)


def quats_of(seed: int, count: int = 8) -> torch.Tensor:
    return random_quats(count, torch.Generator().manual_seed(seed)).double()


@given(seeds)
def test_rotations_round_trip_and_compose(seed: int) -> None:
    a, b = quats_of(seed), quats_of(seed + 1)
    same_sign = torch.where(a[:, :1] < 0, -a, a)
    torch.testing.assert_close(rotmats_to_quats(quats_to_rotmats(a)), same_sign)
    torch.testing.assert_close(rotvecs_to_quats(quats_to_rotvecs(a)), same_sign)
    product = quats_to_rotmats(multiply_quats(a, b))
    torch.testing.assert_close(product, quats_to_rotmats(a) @ quats_to_rotmats(b))
    eye = torch.eye(3, dtype=torch.float64).expand(8, 3, 3)
    torch.testing.assert_close(product @ product.transpose(1, 2), eye)


def test_half_turns_keep_their_axis() -> None:
    half = torch.diag_embed(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]]))
    torch.testing.assert_close(quats_to_rotmats(rotmats_to_quats(half)), half)


@given(seeds, st.integers(0, 3))
def test_turned_colors_are_seen_from_turned_directions(seed: int, degree: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation = quats_to_rotmats(quats_of(seed, 1))[0]
    shN = torch.randn(5, (degree + 1) ** 2 - 1, 3, generator=generator, dtype=torch.float64)
    direction = torch.nn.functional.normalize(torch.randn(5, 3, generator=generator, dtype=torch.float64), dim=1)
    before = torch.einsum("nk,nkc->nc", sh_basis(direction, degree)[:, 1:], shN)
    turned = rotate_sh(shN, rotation)
    after = torch.einsum("nk,nkc->nc", sh_basis(direction @ rotation.T, degree)[:, 1:], turned)
    torch.testing.assert_close(after, before, atol=1e-9, rtol=0)


def test_harmonics_are_orthonormal() -> None:
    # Gauss-Legendre in z, uniform in azimuth: exact for the products of degree 6
    nodes, weights = np.polynomial.legendre.leggauss(8)
    angle = torch.arange(16, dtype=torch.float64) * (2 * torch.pi / 16)
    z = torch.tensor(nodes)[:, None].expand(8, 16)
    r = (1 - z * z).sqrt()
    points = torch.stack([r * angle.cos(), r * angle.sin(), z], -1).reshape(-1, 3)
    measure = (torch.tensor(weights)[:, None] * (2 * torch.pi / 16)).expand(8, 16).reshape(-1)
    basis = sh_basis(points, 3)
    gram = torch.einsum("nj,nk,n->jk", basis, basis, measure)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-9, rtol=0)


def test_transform_moves_covariances_along() -> None:
    splats = random_splats(20).to(dtype=torch.float64)
    rotation = quats_to_rotmats(quats_of(3, 1))[0]
    moved = transform(splats, rotation, torch.tensor([1.0, 2, 3], dtype=torch.float64), 2.5)
    expected = 2.5**2 * rotation @ covariances(splats.quats, splats.scales) @ rotation.T
    torch.testing.assert_close(covariances(moved.quats, moved.scales), expected)


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_round_trip(frame: str) -> None:
    viewmats = ring_cameras(5).viewmats
    there = viewmats_to_camera_to_world(viewmats, frame)
    torch.testing.assert_close(camera_to_world_to_viewmats(there, frame), viewmats)


def test_opengl_camera_looks_down_minus_z() -> None:
    camera_to_world = torch.eye(4)[None]
    viewmat = camera_to_world_to_viewmats(camera_to_world, "opengl")[0]
    ahead, up = torch.tensor([0.0, 0, -1, 1]), torch.tensor([0.0, 1, 0, 1])
    assert (viewmat @ ahead)[2] == 1 and (viewmat @ up)[1] == -1


@given(st.floats(1, 8), st.integers(17, 90))
def test_resized_cameras_project_to_scaled_pixels(factor: float, size: int) -> None:
    cameras = ring_cameras(3, size)
    small = resize(cameras, factor)
    points = torch.rand(10, 3) - 0.5
    here, there = project(cameras, 1, points)[0], project(small, 1, points)[0]
    ratio = torch.tensor(small.sizes[1]) / torch.tensor(cameras.sizes[1])
    torch.testing.assert_close(there, here * ratio, atol=1e-4, rtol=1e-4)


def test_footprint_is_depth_over_focal_of_the_nearest_view() -> None:
    cameras = ring_cameras(4)
    center = torch.zeros(1, 3)
    expected = cameras.positions.norm(dim=1).min() / cameras.focals[0]
    torch.testing.assert_close(footprints(cameras, center)[0], expected)


@given(st.integers(1, 40), st.integers(1, 40))
def test_area_weights_keep_the_mean_and_constants(a: int, b: int) -> None:
    size, target = max(a, b), min(a, b)
    weights = area_weights(size, target)
    torch.testing.assert_close(weights.sum(1), torch.ones(target, dtype=torch.float64))
    torch.testing.assert_close(weights.mean(0), torch.full((size,), 1 / size, dtype=torch.float64))


def test_area_average_agrees_with_pillow_box() -> None:
    image = round_to_8_bits(torch.rand(30, 42, 3))
    pillow = Image.fromarray((image * 255).byte().numpy()).resize((14, 10), Image.Resampling.BOX)
    ours = reduce_image(image, (14, 10))
    # Pillow rounds after each axis
    assert (ours * 255 - torch.from_numpy(np.array(pillow)).float()).abs().max() <= 1.0


def test_bicubic_agrees_with_pillow() -> None:
    image = round_to_8_bits(torch.rand(40, 60, 3)) * 0.6 + 0.2
    channel = Image.fromarray(image[..., 0].numpy())
    pillow = torch.from_numpy(np.array(channel.resize((15, 10), Image.Resampling.BICUBIC)))
    torch.testing.assert_close(reduce_image(image, (15, 10), "bicubic")[..., 0], pillow, atol=2e-3, rtol=0)


def test_whole_factors_equal_the_general_matrix() -> None:
    image = torch.rand(12, 20, 3, dtype=torch.float64)
    rows, columns = area_weights(12, 4), area_weights(20, 5)
    general = torch.einsum("yh,xw,hwc->yxc", rows, columns, image)
    torch.testing.assert_close(reduce_image(image, (5, 4)), general)


@settings(max_examples=60)
@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from(["keep", "append", "permute"]), seeds), max_size=6))
def test_edits_compose_like_gathers(count: int, steps: list[tuple[str, int]]) -> None:
    table = torch.arange(count)
    total, rows = unchanged(count), table.clone()
    for kind, seed in steps:
        generator = torch.Generator().manual_seed(seed)
        n = len(rows)
        edit: RowEdit
        if kind == "keep":
            edit = keep(torch.rand(n, generator=generator) < 0.7)
        elif kind == "append":
            edit = append_children(torch.nonzero(torch.rand(n, generator=generator) < 0.5)[:, 0], n)
        else:
            edit = reorder(torch.randperm(n, generator=generator), n)
        rows, total = edit.apply(rows), total.then(edit)
    assert torch.equal(total.apply(table), rows)


def test_edits_refuse_rows_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="parents"):
        reorder(torch.tensor([3]), 3)
