"""LLFF captures: poses, lenses, and what can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colmapfiles import Model, write_binary
from PIL import Image

from gaussianvae.captures import read_capture
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.frames import viewmats_to_camera_to_world
from scenes import ring_cameras
from tiny_capture import refused


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
