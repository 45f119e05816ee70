"""Splats in frames of their own, as trainers and converters leave them, against photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from gaussianvae.captures import Capture, SparsePoints, read_capture
from gaussianvae.frames_check import Match, check_frames
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.similarity import axis_rotations
from gaussianvae.scene.splats import Splats, transform
from scenes import Told, random_splats
from tiny_capture import write_capture

Scene = tuple[Capture, Splats]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A capture of 96 px, and the splat that it shows."""
    folder = tmp_path_factory.mktemp("frames")
    splats = write_capture(folder / "toy", size=96, train=8, test=2)
    return read_capture(folder / "toy"), splats


def checked(splats: Splats, capture: Capture) -> tuple[Match, list[str]]:
    listening = Told()
    match = check_frames({"LR.ply": splats}, capture, listening)["LR.ply"]
    assert all("\n" not in text and text.startswith("LR.ply doesn't look like") for text in listening.messages)
    return match, listening.messages


def test_a_splat_in_its_captures_frame_is_not_spoken_of(scene: Scene) -> None:
    capture, splats = scene
    for one in (splats, replace(splats, recipe=Recipe()), replace(splats, recipe=Recipe("classic", 0.3))):
        match, said = checked(one, capture)
        assert match.fits and match.views == 3 and match.psnr > 20 and not said


@pytest.mark.parametrize("index", [1, 5, 9, 14, 18, 23])
def test_swapped_axes_are_recognized(scene: Scene, index: int) -> None:
    capture, splats = scene
    turn = axis_rotations()[index]
    match, said = checked(transform(splats, turn, torch.zeros(3)), capture)
    assert not match.fits and match.better is not None and match.better_psnr > 35 > 20 > match.psnr
    assert torch.equal(match.better.move.rotation, turn.T) and match.better.move.scale == 1
    assert len(said) == 1 and f"{match.psnr:.1f} dB over 3 views; turned by (x, y, z) -> (" in said[0]


def test_the_words_say_how_to_turn_back(scene: Scene) -> None:
    capture, splats = scene
    x, y, z = splats.means.unbind(1)
    # what nerfstudio does to COLMAP's world: (x, y, z) -> (x, z, -y); the way back is (x, y, z) -> (x, -z, y)
    turned = transform(splats, torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), torch.zeros(3))
    torch.testing.assert_close(turned.means, torch.stack([x, z, -y], 1))
    assert "turned by (x, y, z) -> (x, -z, y) it would reach" in checked(turned, capture)[1][0]


@pytest.mark.parametrize(("index", "scale"), [(0, 100.0), (0, 0.05), (9, 0.33), (16, 3.0)])
def test_scale_and_shift_are_found(scene: Scene, index: int, scale: float) -> None:
    capture, splats = scene
    turn, shift = axis_rotations()[index], torch.tensor([0.5, -0.5, 0.25])
    match, said = checked(transform(splats, turn, shift, scale), capture)
    assert match.better is not None and match.better_psnr > max(15, match.psnr + 3)
    assert match.better.move.scale == pytest.approx(1 / scale, rel=0.1)
    torch.testing.assert_close(match.better.move.rotation, turn.T)
    torch.testing.assert_close(match.better.move.translation, -turn.T @ shift / scale, atol=0.1, rtol=0.02)
    assert "scaled by about" in said[0]


def nerfstudio_world(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """`auto_orient_and_center_poses("up", "poses")` and `auto_scale_poses`, from their description: the least turn that
    brings the mean of the cameras' up to z; positions centered on their mean; scaled to fit -1 to 1."""
    up = poses[:, :3, 1].mean(0)
    up /= np.linalg.norm(up)
    axis = np.cross(up, [0, 0, 1.0])
    turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(up[2])).as_matrix()
    center = poses[:, :3, 3].mean(0)
    scale = 1 / np.abs((poses[:, :3, 3] - center) @ turn.T).max()
    return turn, -scale * turn @ center, scale


def gsplat_world(poses: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """gsplat's `similarity_from_cameras` and `align_principal_axes`, from their description (poses: OpenCV axes)."""
    up = -poses[:, :3, 1].mean(0)
    up /= np.linalg.norm(up)
    axis = np.cross(up, [0, -1.0, 0])
    first = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(-up[1])).as_matrix()
    at, forward = poses[:, :3, 3] @ first.T, poses[:, :3, 2] @ first.T
    focus = np.median(at - (at * forward).sum(1, keepdims=True) * forward, 0)
    scale = 1 / np.median(np.linalg.norm(at - focus, axis=1))
    moved = scale * (points @ first.T - focus)
    values, vectors = np.linalg.eigh(np.cov(moved, rowvar=False))
    second = vectors[:, np.argsort(-values)].T
    second *= np.sign(np.linalg.det(second))
    return second @ first, second @ (-scale * focus - np.median(moved, 0)), scale


@pytest.mark.parametrize("index", [0, 13])
def test_nerfstudios_normalization_is_recognized(scene: Scene, index: int) -> None:
    """Also where the data had been turned before, as its own COLMAP import turns them."""
    capture, splats = scene
    before = axis_rotations()[index]
    poses = torch.linalg.inv(capture.cameras.viewmats).double().numpy() @ np.diag([1.0, -1, -1, 1])
    poses[:, :3] = before.double().numpy() @ poses[:, :3]
    turn, shift, scale = nerfstudio_world(poses)
    moved = transform(splats, before, torch.zeros(3))
    moved = transform(moved, torch.tensor(turn).float(), torch.tensor(shift).float(), scale)
    match, said = checked(moved, capture)
    assert match.better_psnr > 35 and "nerfstudio's orientation, centering and scale undone" in said[0]


def test_gsplats_normalization_is_recognized(scene: Scene) -> None:
    capture, splats = scene
    points = splats.means * torch.tensor([1.0, 0.7, 0.4])  # longer one way than another, as real scenes are
    count = len(points)
    cloud = SparsePoints(points, torch.ones(count, 3), torch.ones(count), torch.full((count,), 3))
    capture = replace(capture, points=cloud)
    poses = torch.linalg.inv(capture.cameras.viewmats).double().numpy()
    turn, shift, scale = gsplat_world(poses, points.double().numpy())
    moved = transform(splats, torch.tensor(turn).float(), torch.tensor(shift).float(), scale)
    match, said = checked(moved, capture)
    assert match.better_psnr > 35 and "gsplat's normalization undone" in said[0]


def test_another_scene_is_said_to_be_one(scene: Scene) -> None:
    other = random_splats(300, seed=5, recipe=scene[1].recipe)
    other = replace(other, sh0=2 + other.sh0.abs(), scales=2 * other.scales)
    match, said = checked(other, scene[0])
    assert not match.fits and match.better is None
    assert said == [
        f"LR.ply doesn't look like this capture's photos: {match.psnr:.1f} dB over 3 views; it may be in another "
        "frame, or of another scene"
    ]


def test_photos_are_shown_over_what_the_splat_remembers(scene: Scene) -> None:
    capture, splats = scene
    white = replace(splats, recipe=replace(splats.recipe, background=(1.0, 1.0, 1.0)))
    assert checked(white, capture)[0].psnr > 40
    found = check_frames({"a": splats, "b": white, "c": splats.select(torch.arange(0))}, capture)
    assert set(found) == {"a", "b"} and found["a"].fits and found["b"].fits


def test_what_can_not_be_checked_is_left_to_others(scene: Scene, tmp_path: Path) -> None:
    write_capture(tmp_path / "toy", size=16, train=3, test=1)
    capture = read_capture(tmp_path / "toy")
    for photo in (tmp_path / "toy" / "train").iterdir():
        photo.write_bytes(b"nothing")
    assert check_frames({"LR.ply": scene[1]}, capture) == {}


def test_photos_of_one_color_say_little(scene: Scene, tmp_path: Path) -> None:
    """No splat can be better than a photo's only color: one that comes near is not complained about."""
    write_capture(tmp_path / "toy", size=16, train=3, test=1)
    for photo in (tmp_path / "toy" / "train").iterdir():
        Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(photo)
    capture = read_capture(tmp_path / "toy")
    faint = replace(scene[1], opacities=torch.full_like(scene[1].opacities, 1e-3))
    assert checked(faint, capture) == (Match(100.0, 3, True), [])


@pytest.mark.parametrize("value", [1e30, -1e30, 0.0])
def test_wild_places_are_no_accident(scene: Scene, value: float) -> None:
    capture, splats = scene
    wild = replace(splats, means=torch.full_like(splats.means, value))
    assert not checked(wild, capture)[0].fits
