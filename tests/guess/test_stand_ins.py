"""Where a splat's photos seem to have been taken: rooms, streets and objects whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gaussianvae.errors import GaussianVAEError
from gaussianvae.guess import Estimate, estimate_cameras, guess_angle, stand_ins
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.cameras import Cameras, footprints, resize
from gaussianvae.scene.orbits import robust_extent
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import rotvecs_to_quats
from gaussianvae.scene.splats import Splats, concatenate, transform
from rooms import FURNITURE, ROOM, STREET, room, street
from scenes import random_splats


def covers(splats: Splats, cameras: Cameras) -> torch.Tensor:
    """Mean alpha of each view at 48 px."""
    small = resize(cameras, cameras.sizes[0][0] / 48)
    filter = Filter("classic", 0.3)
    return torch.stack([render(splats, small, view, filter=filter).alpha.mean() for view in range(len(small))])


def ball(count: int = 2000) -> Splats:
    """A solid object: opaque Gaussians throughout the unit ball."""
    splats = random_splats(count, degree=0)
    return replace(
        splats,
        scales=0.04 * torch.ones(count, 3),
        opacities=torch.full((count,), 0.9),
        recipe=Recipe(),
    )


@pytest.fixture(scope="module")
def within() -> tuple[Splats, Estimate]:
    splats = room()
    return splats, stand_ins(splats)


def test_a_room_is_seen_from_free_space_within(within: tuple[Splats, Estimate]) -> None:
    splats, found = within
    assert found.kind == "scene"
    places = found.cameras.positions
    assert ((places > 0) & (places < ROOM)).all()
    for low, high in FURNITURE:
        assert not ((places > low) & (places < high)).all(1).any()
    assert covers(splats, found.cameras).min() > 0.9
    # together they have all of it in front of them
    assert footprints(found.cameras, splats.means).max() < 2 * ROOM.norm() / found.cameras.focals[0]


def test_a_pixel_within_a_room_grows_with_distance_as_its_gaussians_do(within: tuple[Splats, Estimate]) -> None:
    splats, found = within
    phi = footprints(found.cameras, splats.means, average=True)
    size = splats.scales.amax(1)
    assert torch.corrcoef(torch.stack([phi.log(), size.log()]))[0, 1] > 0.2
    # one angle for all, by its definition a share of the large Gaussians' own
    distances = phi * found.cameras.focals[0]
    assert 1 / float(found.cameras.focals[0]) == pytest.approx(guess_angle(splats, distances), rel=0.1)


def test_the_estimate_turns_and_scales_with_the_room(within: tuple[Splats, Estimate]) -> None:
    splats, found = within
    quarter = rotvecs_to_quats(torch.tensor([math.pi / 2, 0.0, 0.0]))
    assert quarter.shape == (4,)
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    moved = transform(splats, turn, torch.tensor([100.0, -50.0, 30.0]), 10.0)
    other = stand_ins(moved)
    back = ((other.cameras.positions - torch.tensor([100.0, -50.0, 30.0])) / 10) @ turn
    assert other.kind == "scene" and ((back > 0) & (back < ROOM)).all()
    assert other.cameras.sizes[0][0] == pytest.approx(found.cameras.sizes[0][0], rel=0.15)


def test_a_street_is_seen_from_within() -> None:
    splats = street()
    found = stand_ins(splats)
    places = found.cameras.positions
    assert found.kind == "scene"
    # above the ground, under the sky, and most of them between the facades
    assert (places[:, 2] > 0).all() and (places[:, 2] < 60).all()
    between = (places[:, 1] > 0) & (places[:, 1] < STREET[1]) & (places[:, 0] > -10) & (places[:, 0] < STREET[0] + 10)
    assert between.float().mean() > 0.6
    assert covers(splats, found.cameras).median() > 0.9


def test_an_object_is_seen_from_around_it_whatever_floats_far_away() -> None:
    splats = ball()
    far = replace(splats.select(torch.arange(20)), means=1000 * splats.means[:20] + 500)
    hazy = replace(splats, means=30 * splats.means, opacities=torch.full((len(splats),), 0.01))
    for one in (splats, concatenate([splats, far]), concatenate([splats, hazy])):
        found = stand_ins(one, width=64)
        center, radius = robust_extent(splats.means)
        away = (found.cameras.positions - center).norm(dim=1)
        assert found.kind == "object" and len(found.cameras) == 72
        assert (away > 1.5 * radius).all() and (away < 8 * radius).all()


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_gaussians_have_cameras_too(count: int) -> None:
    found = stand_ins(ball().select(torch.arange(count)))
    assert found.cameras.viewmats.isfinite().all() and found.cameras.Ks.isfinite().all()
    assert 16 <= found.cameras.sizes[0][0] <= 4096


def test_a_lone_wall_faces_its_cameras() -> None:
    splats = ball(1500)
    wall = replace(splats, means=splats.means * torch.tensor([1.0, 1.0, 0.0]))
    found = stand_ins(wall)
    assert found.cameras.viewmats.isfinite().all()
    assert covers(wall, found.cameras).max() > 0.05


def test_coincident_and_faint_gaussians_do_no_harm() -> None:
    splats = ball(500)
    for one in (
        replace(splats, means=torch.zeros(500, 3)),
        replace(splats, opacities=torch.zeros(500)),
        replace(splats, scales=torch.zeros(500, 3)),
        replace(splats, means=splats.means * 1e6, scales=splats.scales * 1e6),
    ):
        assert stand_ins(one).cameras.viewmats.isfinite().all()


def test_the_same_splat_has_the_same_cameras(within: tuple[Splats, Estimate]) -> None:
    splats, found = within
    again = stand_ins(splats).cameras
    assert torch.equal(again.viewmats, found.cameras.viewmats) and again.sizes == found.cameras.sizes


def test_what_is_said_of_a_room(within: tuple[Splats, Estimate]) -> None:
    splats, found = within
    said = str(found)
    assert "from within; 48 views around (" in said and "--cameras FILE overrides" in said
    assert f"image width {found.cameras.sizes[0][0]} px (estimated; --trained-width sets it" in said
    known = replace(splats, recipe=Recipe(width=90, focal_px=90.0))
    cameras = estimate_cameras(known)
    assert set(cameras.sizes) == {(90, 90)} and float(cameras.focals[0]) == pytest.approx(90.0, rel=1e-3)
    upside_down = stand_ins(splats, 32, (0.0, 0.0, -1.0)).cameras
    assert (upside_down.viewmats[:, 1, 2] > 0).all() and (cameras.viewmats[:, 1, 2] < 0).all()


def test_nothing_and_no_width_are_refused() -> None:
    with pytest.raises(GaussianVAEError, match="no Gaussians"):
        stand_ins(ball().select(torch.arange(0)))
    with pytest.raises(GaussianVAEError, match="at least 1"):
        stand_ins(ball(), width=0)
    with pytest.raises(GaussianVAEError, match="no length"):
        stand_ins(ball(), up=(0.0, 0.0, 0.0))
