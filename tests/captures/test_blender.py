"""NeRF-synthetic captures: poses, sizes, half pixels, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussianvae.captures import load_views, read_capture
from gaussianvae.captures.blender import write_blender_split
from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.cameras import project, resize
from scenes import ring_cameras


def write_capture(folder: Path, views: int = 9, size: int = 48) -> None:
    """Photos in which the red channel is the column of the pixel's center and green the row, in units of the size."""
    cameras = ring_cameras(views, size)
    (folder / "train").mkdir(parents=True)
    names = [f"train/r_{view}" for view in range(views)]
    ramp = (np.arange(size) + 0.5) / size
    image = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)), np.zeros((size, size))], -1)
    rgba = np.concatenate([image, np.ones((size, size, 1))], -1)
    for name in names:
        Image.fromarray((rgba * 255).round().astype(np.uint8)).save(folder / f"{name}.png")
    angle = 2 * np.arctan(0.5 * size / float(cameras.Ks[0, 0, 0]))
    write_blender_split(folder, "train", names, cameras.viewmats, angle)


def test_poses_and_split(tmp_path: Path) -> None:
    write_capture(tmp_path)
    capture = read_capture(tmp_path)
    expected = ring_cameras(9)
    torch.testing.assert_close(capture.cameras.viewmats, expected.viewmats, atol=1e-5, rtol=0)
    torch.testing.assert_close(capture.cameras.Ks, expected.Ks, atol=1e-3, rtol=0)
    assert capture.test == (0, 8) and capture.train == (1, 2, 3, 4, 5, 6, 7)
    center, depth = project(capture.cameras, 3, torch.zeros(1, 3))
    torch.testing.assert_close(center, torch.tensor([[24.0, 24.0]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, torch.tensor([3.0]), atol=1e-2, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 3, 3.7, 4])
def test_no_half_pixel_slips(tmp_path: Path, factor: float) -> None:
    """A ramp's value at a reduced pixel's center is where that center lies in the native image."""
    write_capture(tmp_path)
    views = load_views(read_capture(tmp_path), [1], factor)
    width, height = views.cameras.sizes[0]
    assert (width, height) == (round(48 / factor), round(48 / factor))
    centers = (torch.arange(width) + 0.5) / width
    torch.testing.assert_close(views.images[0, 0, :, 0], centers, atol=1.5 / 255, rtol=0)
    torch.testing.assert_close(views.images[0, :, 0, 1], centers, atol=1.5 / 255, rtol=0)
    assert views.cameras.sizes == resize(read_capture(tmp_path).cameras, factor).sizes[:1]


def test_transparent_photos_are_composited_before_they_are_reduced(tmp_path: Path) -> None:
    write_capture(tmp_path, size=4)
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:, :2] = [255, 0, 0, 255]  # left half red and opaque, right half green and transparent
    rgba[:, 2:] = [0, 255, 0, 0]
    Image.fromarray(rgba).save(tmp_path / "train" / "r_1.png")
    views = load_views(read_capture(tmp_path), [1], 4, background=(0.0, 0.0, 1.0))
    torch.testing.assert_close(views.images[0, 0, 0], torch.tensor([0.5, 0.0, 0.5]), atol=1 / 255, rtol=0)
    assert views.alphas is not None and float(views.alphas) == 0.5


def broken(tmp_path: Path, what: str) -> None:
    file = tmp_path / "transforms_train.json"
    content = json.loads(file.read_text())
    if what == "json":
        file.write_text("{")
    elif what == "missing photo":
        (tmp_path / "train" / "r_2.png").unlink()
    elif what == "undecodable photo":
        (tmp_path / "train" / "r_2.png").write_bytes(b"not a photo")
    elif what == "one photo":
        file.write_text(json.dumps({**content, "frames": content["frames"][:1]}))
    elif what == "no frames":
        file.write_text(json.dumps({"camera_angle_x": 1.0}))
    elif what == "no angle":
        file.write_text(json.dumps({"frames": content["frames"]}))
    elif what == "singular pose":
        content["frames"][0]["transform_matrix"] = [[0.0] * 4] * 4
        file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "what",
    ["json", "missing photo", "undecodable photo", "one photo", "no frames", "no angle", "singular pose"],
)
def test_broken_captures_are_one_clear_line(tmp_path: Path, what: str) -> None:
    write_capture(tmp_path)
    broken(tmp_path, what)
    with pytest.raises(GaussianVAEError) as caught:
        read_capture(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_truncated_photos_are_one_clear_line(tmp_path: Path) -> None:
    write_capture(tmp_path)
    photo = tmp_path / "train" / "r_1.png"
    photo.write_bytes(photo.read_bytes()[:-40])
    with pytest.raises(GaussianVAEError, match="decoded"):
        load_views(read_capture(tmp_path), [1], 2)


def test_factors_below_one_are_refused(tmp_path: Path) -> None:
    write_capture(tmp_path)
    with pytest.raises(GaussianVAEError, match="factor"):
        load_views(read_capture(tmp_path), [1], 0.5)


@pytest.mark.real
def test_lego(data: Path) -> None:
    capture = read_capture(data / "captures" / "lego")
    assert (len(capture.train), len(capture.test)) == (100, 25) and capture.has_alpha
    views = load_views(capture, capture.test[:2], 8)
    assert views.images.shape == (2, 100, 100, 3)
    assert float(views.images[0, 0, 0].max()) == 0  # black corner: the background
