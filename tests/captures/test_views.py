"""Photos in memory: half pixels, compositing, rounding, depth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfsynthetic import ramp, save, split, write_capture
from numpy.typing import NDArray
from PIL import Image

from gaussianvae.captures import digest, load_depths, load_views, read_capture
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import Bar, Reporter
from gaussianvae.scene.cameras import resize


@pytest.mark.parametrize("factor", [1, 2, 3, 3.7, 4])
def test_a_reduced_ramp_shows_where_its_pixels_lie(tmp_path: Path, factor: float) -> None:
    write_capture(tmp_path)
    views = load_views(read_capture(tmp_path), [1], factor)
    width, height = views.cameras.sizes[0]
    assert (width, height) == (round(48 / factor), round(48 / factor))
    centers = (torch.arange(width) + 0.5) / width
    torch.testing.assert_close(views.images[0, 0, :, 0], centers, atol=1.5 / 255, rtol=0)
    torch.testing.assert_close(views.images[0, :, 0, 1], centers, atol=1.5 / 255, rtol=0)
    assert views.cameras.sizes == resize(read_capture(tmp_path).cameras, factor).sizes[:1]


def wall_photo(K: NDArray[np.float64], width: int, height: int, distance: float) -> NDArray[np.float64]:
    """What a camera sees of a wall with waves straight ahead of it: the exact integral over each pixel's square.

    The wall's red is 0.5 + 0.4 cos(9 X), its green 0.5 + 0.4 sin(7 Y), X to the right and Y down in world units.
    """
    left = (np.arange(width + 1) - K[0, 2]) * distance / K[0, 0]
    top = (np.arange(height + 1) - K[1, 2]) * distance / K[1, 1]
    red = 0.5 + 0.4 * np.diff(np.sin(9 * left) / 9) / np.diff(left)
    green = 0.5 - 0.4 * np.diff(np.cos(7 * top) / 7) / np.diff(top)
    return np.stack(np.broadcast_arrays(red[None, :], green[:, None], 0.25), -1)


@pytest.mark.parametrize("factor", [1, 2, 3, 2.5, 4, 5.3])
def test_the_reduced_photo_is_the_reduced_cameras_photo(tmp_path: Path, factor: float) -> None:
    """No half pixel slips between image and intrinsics, at any ratio and with the center anywhere."""
    width, height, distance = 60, 44, 2.0
    write_capture(tmp_path, views=3, size=8)
    file = tmp_path / "transforms_train.json"
    content = json.loads(file.read_text())
    content |= {"fl_x": 70.0, "fl_y": 64.0, "cx": 26.3, "cy": 25.1}
    file.write_text(json.dumps(content))
    K = np.array([[70.0, 0, 26.3], [0, 64.0, 25.1], [0, 0, 1]])
    for photo in (tmp_path / "train").iterdir():
        save(photo, wall_photo(K, width, height, distance))
    views = load_views(read_capture(tmp_path), [0, 1], factor)
    expected = wall_photo(views.cameras.Ks[0].double().numpy(), *views.cameras.sizes[0], distance)
    error = (views.images[0].double().numpy() - expected)[..., :2]
    assert np.abs(error).max() < 2.2 / 255
    # waves whose phase is off show as a mean product with their slope: a tenth of a pixel would be seen
    for axis, channel in ((1, 0), (0, 1)):
        slope = np.gradient(expected[..., channel], axis=axis)
        assert abs((error[..., channel] * slope).sum() / np.square(slope).sum()) < 0.05


def test_transparent_photos_are_composited_before_they_are_reduced(tmp_path: Path) -> None:
    write_capture(tmp_path, size=4)
    rgba = np.zeros((4, 4, 4))
    rgba[:, :2] = [1, 0, 0, 1]  # left half red and opaque, right half green and transparent
    rgba[:, 2:] = [0, 1, 0, 0]
    save(tmp_path / "train" / "r_1.png", rgba)
    views = load_views(read_capture(tmp_path), [1], 4, background=(0.0, 0.0, 1.0))
    torch.testing.assert_close(views.images[0, 0, 0], torch.tensor([0.5, 0.0, 0.5]), atol=1 / 255, rtol=0)
    assert views.alphas is not None and float(views.alphas) == 0.5
    assert torch.equal(views.background, torch.tensor([0.0, 0.0, 1.0]))


def test_photos_without_alpha_know_no_background(tmp_path: Path) -> None:
    write_capture(tmp_path, views=3, size=16)
    for photo in (tmp_path / "train").iterdir():
        save(photo, ramp(16)[..., :3])
    capture = read_capture(tmp_path)
    views = load_views(capture, [0, 2], 2, background=(1.0, 0.0, 0.0))
    assert not capture.has_alpha and views.alphas is None
    assert torch.equal(views.images, load_views(capture, [0, 2], 2).images)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_photos_of_other_modes_are_rgb_in_the_end(tmp_path: Path, mode: str) -> None:
    write_capture(tmp_path, views=2, size=16)
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    for frame in content["frames"]:
        photo = tmp_path / (frame["file_path"] + ".png")
        photo.unlink()
        frame["file_path"] += ".tif"
        Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode).save(photo.with_suffix(".tif"))
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    split(tmp_path, "test", 1, 16)
    save(tmp_path / "test" / "r_0.png", ramp(16)[..., :3])
    views = load_views(read_capture(tmp_path), [0], 1)
    assert views.images.shape == (1, 16, 16, 3) and float(views.images.min()) > 0.98


def test_values_are_what_an_8_bit_file_can_hold(tmp_path: Path) -> None:
    write_capture(tmp_path)
    for operator in ("area", "bicubic"):
        images = load_views(read_capture(tmp_path), [0], 2.3, operator=operator).images  # type: ignore[arg-type]
        torch.testing.assert_close((images * 255).round() / 255, images, rtol=0, atol=0)
        assert 0 <= float(images.min()) and float(images.max()) <= 1


def test_views_come_in_the_order_asked_for_and_are_counted(tmp_path: Path) -> None:
    write_capture(tmp_path, views=4, size=8)
    save(tmp_path / "train" / "r_3.png", np.ones((8, 8, 4)))
    counted: list[int] = []

    class Counting(Reporter):
        def message(self, text: str) -> None: ...

        @contextmanager
        def bar(self, label: str, total: int, start: int = 0) -> Iterator[Bar]:
            class Count(Bar):
                def advance(self, count: int = 1, **figures: str) -> None:
                    counted.append(count)

            assert total == 2
            yield Count()

    views = load_views(read_capture(tmp_path), [3, 0], 1, report=Counting())
    assert sum(counted) == 2 and views.cameras.names == ("r_3", "r_0")
    assert float(views.images[0].min()) == 1 and float(views.images[1].min()) == 0


def test_photos_of_several_sizes_are_one_tensor_each(tmp_path: Path) -> None:
    write_capture(tmp_path, views=4)
    (tmp_path / "depth").mkdir()
    for view, size in enumerate((48, 40, 48, 33)):
        save(tmp_path / "train" / f"r_{view}.png", ramp(size))
        np.save(tmp_path / "depth" / f"r_{view}.npy", np.full((size, size), 2.0, np.float32))
    capture = read_capture(tmp_path)
    views = load_views(capture, range(4), 2)
    assert isinstance(views.images, tuple) and isinstance(views.alphas, tuple)
    assert [tuple(image.shape) for image in views.images] == [(n, n, 3) for n in (24, 20, 24, 16)]
    assert [tuple(alpha.shape) for alpha in views.alphas] == [(n, n) for n in (24, 20, 24, 16)]
    for image in views.images:  # each with intrinsics of its own
        centers = (torch.arange(len(image)) + 0.5) / len(image)
        torch.testing.assert_close(image[0, :, 0], centers, atol=1.5 / 255, rtol=0)
    torch.testing.assert_close(views.cameras.Ks[:, 0, 2], torch.tensor([12.0, 10, 12, 8]))
    depths = load_depths(capture, range(4), 2)
    assert isinstance(depths, tuple) and [len(depth) for depth in depths] == [24, 20, 24, 16]
    same = views.select([0, 2])
    assert torch.equal(same.images, load_views(capture, [0, 2], 2).images)  # type: ignore[arg-type]
    assert same.cameras.names == ("r_0", "r_2")


def test_the_digest_is_of_the_bytes_however_they_are_kept(tmp_path: Path) -> None:
    write_capture(tmp_path, views=3, size=16)
    views = load_views(read_capture(tmp_path), range(3), 2)
    assert views.alphas is not None
    apart = replace(views, images=tuple(views.images), alphas=tuple(views.alphas))
    assert digest(apart) == digest(views)
    other = replace(apart, images=(apart.images[1], apart.images[0], apart.images[2] * 0))
    assert digest(other) != digest(views)
    # what earlier releases hashed: fits in their caches are found again
    sha = hashlib.sha256(repr(views.cameras.sizes).encode())
    for part in (views.images, views.alphas, views.background, views.cameras.viewmats, views.cameras.Ks):
        sha.update(part.numpy().tobytes())  # type: ignore[union-attr]
    assert digest(views) == sha.hexdigest()[:24]


def refused_views(folder: Path, views: list[int], factor: float, says: str) -> None:
    with pytest.raises(GaussianVAEError, match=says) as caught:
        load_views(read_capture(folder), views, factor)
    assert "\n" not in str(caught.value)


def test_what_can_not_be_loaded_is_one_clear_line(tmp_path: Path) -> None:
    write_capture(tmp_path)
    for factor in (0.5, 0, -1, float("nan"), float("inf")):
        refused_views(tmp_path, [1], factor, "factor")
    refused_views(tmp_path, [], 2, "no views")
    photo = tmp_path / "train" / "r_1.png"
    whole = photo.read_bytes()
    for damaged in (whole[:-40], whole[:60], whole[:50] + bytes(40) + whole[90:]):
        photo.write_bytes(damaged)
        refused_views(tmp_path, [1], 2, "decoded")
    save(photo, ramp(40))
    capture = read_capture(tmp_path)
    photo.write_bytes(whole)
    with pytest.raises(GaussianVAEError, match="changed"):
        load_views(capture, [1], 2)


@pytest.mark.parametrize("factor", [1, 2, 3, 2.7, 4])
def test_depth_is_the_sample_at_the_pixels_center(tmp_path: Path, factor: float) -> None:
    write_capture(tmp_path, views=2)
    (tmp_path / "depth").mkdir()
    depth = np.add.outer(100 * np.arange(48.0), np.arange(48.0)).astype(np.float32)
    depth[:, 40:] = np.inf
    for view in range(2):
        np.save(tmp_path / "depth" / f"r_{view}.npy", depth + view)
    split(tmp_path, "test", 1)
    capture = read_capture(tmp_path)
    # r_0 is a photo of both splits: its depth map would be anyone's
    assert [path is not None for path in capture.depth_paths] == [False, True, False]
    assert load_depths(capture, [0, 1], 1) is None
    depths = load_depths(capture, [1], factor)
    assert depths is not None and depths.dtype == torch.float32
    size = round(48 / factor)
    assert depths.shape == (1, size, size) and depths[0].tolist() == [
        [
            depth[int((row + 0.5) * 48 / size), int((column + 0.5) * 48 / size)] + 1
            for column in range(size)
        ]
        for row in range(size)
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["text", "shape", "ints", "nan", "archive", "empty", "objects"])
def test_broken_depth_is_one_clear_line(tmp_path: Path, what: str) -> None:
    write_capture(tmp_path, views=2, size=8)
    split(tmp_path, "test", 1, 8)
    (tmp_path / "depth").mkdir()
    path = tmp_path / "depth" / "r_1.npy"
    if what in ("text", "empty"):
        path.write_bytes(b"no depth" if what == "text" else b"")
    elif what == "archive":
        np.savez(path.with_suffix(".npz"), a=np.ones((8, 8)))
        path.with_suffix(".npz").rename(path)
    else:
        arrays = {"shape": np.ones((8, 7)), "ints": np.ones((8, 8), int), "nan": np.full((8, 8), np.nan)}
        np.save(path, arrays.get(what, np.array([[None] * 8] * 8)), allow_pickle=True)
    with pytest.raises(GaussianVAEError, match="r_1") as caught:
        load_depths(read_capture(tmp_path), [1], 1)
    assert "\n" not in str(caught.value)
