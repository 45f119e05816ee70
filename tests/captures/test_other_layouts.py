"""instant-ngp, nerfstudio and LLFF captures: poses, lenses, photos that are missing, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colmapfiles import Model, write_binary
from nerfsynthetic import ramp, save
from PIL import Image

from gaussianvae.captures import read_capture
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import Silent
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.frames import viewmats_to_camera_to_world
from scenes import ring_cameras


def refused(folder: Path, says: str) -> None:
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_capture(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def write_ngp(folder: Path, views: int = 9, **top: Any) -> Cameras:
    """Photos of 48 px whose file has figures for 96 px; the last frame has no photo."""
    cameras = ring_cameras(views)
    poses = viewmats_to_camera_to_world(cameras.viewmats.double(), "opengl")
    (folder / "images").mkdir(exist_ok=True)
    frames: list[dict[str, Any]] = []
    for view in range(views):
        save(folder / "images" / f"{view:04d}.png", ramp(48)[..., :3])
        frames.append(
            {"file_path": f"images/{view:04d}.png", "sharpness": 3.0, "transform_matrix": poses[view].tolist()}
        )
    frames.append({"file_path": "images/gone.png", "transform_matrix": np.eye(4).tolist()})
    focal = 2 * float(cameras.Ks[0, 0, 0])
    content = {"fl_x": focal, "fl_y": focal, "cx": 48.0, "cy": 48.0, "w": 96.0, "h": 96.0, "frames": frames, **top}
    (folder / "transforms.json").write_text(json.dumps(content))
    return cameras


def test_poses_intrinsics_and_a_photo_that_is_missing(tmp_path: Path) -> None:
    expected = write_ngp(tmp_path)
    said: list[str] = []

    class Listening(Silent):
        def message(self, text: str) -> None:
            said.append(text)

    capture = read_capture(tmp_path, Listening())
    assert said == [f"{tmp_path / 'transforms.json'}: 1 of 10 photos aren't there and are left out"]
    torch.testing.assert_close(capture.cameras.viewmats, expected.viewmats, atol=1e-5, rtol=0)
    torch.testing.assert_close(capture.cameras.Ks, expected.Ks, atol=1e-3, rtol=0)
    assert capture.test == (0, 8) and capture.lenses == () and not capture.has_alpha


def test_lenses_of_the_file_and_of_frames(tmp_path: Path) -> None:
    write_ngp(tmp_path, k1=0.05, k2=-0.02, p1=0.001, p2=-0.002)
    content = json.loads((tmp_path / "transforms.json").read_text())
    content["frames"][1] |= {"fl_x": 110.0, "k1": 0.1}
    content["camera_model"] = "OPENCV"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    capture = read_capture(tmp_path)
    lenses = [lens for lens in capture.lenses if lens is not None]
    assert [lens.coefficients for lens in lenses[:3]] == [
        (0.05, -0.02, 0.001, -0.002), (0.1, -0.02, 0.001, -0.002), (0.05, -0.02, 0.001, -0.002),
    ]  # fmt: skip
    assert float(lenses[1].K[0, 0]) == 55.0 and lenses[0] is lenses[2]


NGP: list[tuple[dict[str, Any], str]] = [
    ({"camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE"),
    ({"is_fisheye": True}, "FISHEYE"),
    ({"camera_model": 3}, "camera model 3"),
    ({"k3": 0.1}, "k3"),
    ({"k1": "bent"}, "no number"),
    ({"k1": None}, "no number"),
    ({"k1": float("nan")}, "can't be undone"),
    ({"k1": 30.0}, "transforms.json: the camera of 0000.png: a distortion"),
    ({"fl_x": 0.0}, "positive"),
    ({"frames": []}, "frames"),
    ({"frames": [{"file_path": "gone.png"}]}, "'gone.png' isn't there"),
    ({"frames": [{"file_path": "images/0000.png"}]}, "pose"),
    ({"frames": [3]}, "file_path"),
]


@pytest.mark.parametrize(("top", "says"), NGP, ids=range(len(NGP)))
def test_broken_transforms_are_one_clear_line(tmp_path: Path, top: dict[str, Any], says: str) -> None:
    write_ngp(tmp_path, **top)
    refused(tmp_path, says)


def write_llff(folder: Path, views: int = 9) -> Cameras:
    """Photos of a half of 96x80 px in images_2 and, to be passed over, of a quarter in images_4."""
    cameras = ring_cameras(views)
    poses = viewmats_to_camera_to_world(cameras.viewmats.double(), "opencv")[:, :3]
    right, down, forward, eye = poses.unbind(-1)
    sizes = torch.tensor([80.0, 96.0, 70.0], dtype=torch.float64).expand(views, 3)
    table = torch.stack([down, right, -forward, eye, sizes], -1).reshape(views, 15)
    np.save(folder / "poses_bounds.npy", np.concatenate([table.numpy(), np.ones((views, 2))], 1))
    for ratio in (2, 4):
        (folder / f"images_{ratio}").mkdir()
        for view in range(views):
            Image.new("RGB", (96 // ratio, 80 // ratio)).save(folder / f"images_{ratio}" / f"image{view:03d}.png")
    return cameras


def test_llff(tmp_path: Path) -> None:
    expected = write_llff(tmp_path)
    capture = read_capture(tmp_path)
    torch.testing.assert_close(capture.cameras.viewmats, expected.viewmats, atol=1e-5, rtol=0)
    assert set(capture.cameras.sizes) == {(48, 40)} and capture.lenses == () and capture.points is None
    assert torch.equal(capture.cameras.Ks[3], torch.tensor([[35.0, 0, 24], [0, 35, 20], [0, 0, 1]]))
    # the points and the lens of COLMAP's files, if one camera took all photos
    for number, cameras in enumerate(([96], [96, 96], [48])):
        rows = {key: ("SIMPLE_RADIAL", width, 80, [71.0, 47.0, 41.0, 0.03]) for key, width in enumerate(cameras)}
        write_binary(tmp_path / "sparse_points", Model(rows, {}, {5: ([1.0, 2, 3], [0, 51, 255], 0.5, [(1, 1)])}))
        (tmp_path / "sparse_points" / "images.bin").unlink()
        capture = read_capture(tmp_path)
        assert capture.points is not None and capture.points.means.tolist() == [[1.0, 2.0, 3.0]]
        lens = capture.lenses[0] if capture.lenses else None
        assert (lens is not None) == (number == 0)
        if lens is not None:
            assert lens.K[:2].tolist() == [[35.5, 0, 23.5], [0, 35.5, 20.5]] and lens.coefficients[0] == 0.03


LLFF: list[tuple[Any, str]] = [
    (lambda f: (f / "poses_bounds.npy").write_text("garbage"), "no readable array"),
    (lambda f: np.save(f / "poses_bounds.npy", np.ones((9, 14))), "17 floats"),
    (lambda f: np.save(f / "poses_bounds.npy", np.full((9, 17), np.nan)), "finite"),
    (lambda f: np.save(f / "poses_bounds.npy", np.zeros((9, 17))), "no rotation"),
    (
        lambda f: np.save(f / "poses_bounds.npy", np.load(f / "poses_bounds.npy")[:8]),
        "poses 8 photos, but .*images_2 has 9",
    ),
    (lambda f: (f / "images").mkdir(), "has 0"),
    (lambda f: (f / "images_2" / "image003.png").write_text("garbage"), "decoded"),
]


@pytest.mark.parametrize(("damage", "says"), LLFF, ids=range(len(LLFF)))
def test_broken_llff_is_one_clear_line(tmp_path: Path, damage: Any, says: str) -> None:
    write_llff(tmp_path)
    damage(tmp_path)
    refused(tmp_path, says)
