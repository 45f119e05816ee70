"""instant-ngp and nerfstudio captures: poses, lenses, lists, seed points, what is missing and what can be wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfsynthetic import ramp, save

from gaussianvae.captures import Capture, load_views, read_capture
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.frames import viewmats_to_camera_to_world
from scenes import Told, ring_cameras
from tiny_capture import refused


def heard(folder: Path) -> tuple[Capture, list[str]]:
    """A capture and what was said while it was read."""
    told = Told()
    return read_capture(folder, told), told.messages


def write_ngp(folder: Path, views: int = 9, gone: bool = True, **top: Any) -> Cameras:
    """Photos of 48 px whose file has figures for 96 px; the last frame may have no photo."""
    cameras = ring_cameras(views)
    poses = viewmats_to_camera_to_world(cameras.viewmats.double(), "opengl")
    (folder / "images").mkdir(exist_ok=True)
    frames: list[dict[str, Any]] = []
    for view in range(views):
        save(folder / "images" / f"{view:04d}.png", ramp(48)[..., :3])
        frames.append(
            {"file_path": f"images/{view:04d}.png", "sharpness": 3.0, "transform_matrix": poses[view].tolist()}
        )
    if gone:
        frames.append({"file_path": "images/gone.png", "transform_matrix": np.eye(4).tolist()})
    focal = 2 * float(cameras.Ks[0, 0, 0])
    content = {"fl_x": focal, "fl_y": focal, "cx": 48.0, "cy": 48.0, "w": 96.0, "h": 96.0, "frames": frames, **top}
    (folder / "transforms.json").write_text(json.dumps(content))
    return cameras


def rewrite(folder: Path, top: dict[str, Any], frames: dict[int, dict[str, Any]] | None = None) -> None:
    """Add fields to the file; None takes one away."""
    content = json.loads((folder / "transforms.json").read_text())
    for fields, place in [(top, content), *((new, content["frames"][view]) for view, new in (frames or {}).items())]:
        place |= fields
        for name in [name for name, value in place.items() if value is None]:
            del place[name]
    (folder / "transforms.json").write_text(json.dumps(content))


def test_poses_intrinsics_and_a_photo_that_is_missing(tmp_path: Path) -> None:
    expected = write_ngp(tmp_path)
    capture, said = heard(tmp_path)
    assert said == [
        f"1 of 10 photos that {tmp_path / 'transforms.json'} lists aren't there (the first: images/gone.png); "
        "they are left out"
    ]
    torch.testing.assert_close(capture.cameras.viewmats, expected.viewmats, atol=1e-5, rtol=0)
    torch.testing.assert_close(capture.cameras.Ks, expected.Ks, atol=1e-3, rtol=0)
    assert capture.test == (0, 8) and capture.lenses == () and not capture.has_alpha and capture.missing == 1


def test_lenses_of_the_file_and_of_frames(tmp_path: Path) -> None:
    write_ngp(tmp_path, k1=0.05, k2=-0.02, p1=0.001, p2=-0.002)
    rewrite(tmp_path, {"camera_model": "OPENCV"}, {1: {"fl_x": 110.0, "k1": 0.1}})
    capture, said = heard(tmp_path)
    lenses = [lens for lens in capture.lenses if lens is not None]
    assert [lens.coefficients for lens in lenses[:3]] == [
        (0.05, -0.02, 0.001, -0.002), (0.1, -0.02, 0.001, -0.002), (0.05, -0.02, 0.001, -0.002),
    ]  # fmt: skip
    assert float(lenses[1].K[0, 0]) == 55.0 and lenses[0] is lenses[2]
    assert len(said) == 2 and said[1].startswith("lens distortion removed: up to ") and "(9 photos)" in said[1]


def test_intrinsics_in_every_frame(tmp_path: Path) -> None:
    write_ngp(tmp_path, gone=False)
    names = ("fl_x", "fl_y", "cx", "cy", "w", "h")
    frames = {
        view: dict(zip(names, (90.0 + view, 91.0, 47.0, 49.0, 96, 96), strict=True)) | {"k1": 0.01 * view}
        for view in range(9)
    }
    rewrite(tmp_path, dict.fromkeys(names), frames)
    capture = read_capture(tmp_path)
    assert capture.lenses[0] is None and torch.equal(
        capture.cameras.Ks[0], torch.tensor([[45.0, 0, 23.5], [0, 45.5, 24.5], [0, 0, 1]])
    )
    lens = capture.lenses[5]
    assert lens is not None and float(lens.K[0, 0]) == 47.5 and lens.coefficients == (0.05, 0, 0, 0)


# nerfstudio's order: k1, k2, k3, k4, p1, p2
LISTED: list[tuple[dict[str, Any], dict[str, Any], tuple[float, ...] | None]] = [
    ({"distortion_params": [0.1, -0.2, 0, 0, 0.01, -0.02]}, {}, (0.1, -0.2, 0.01, -0.02)),
    ({"k1": 0.3}, {"distortion_params": [0.1, -0.2, 0, 0, 0.01, -0.02]}, (0.1, -0.2, 0.01, -0.02)),
    ({"distortion_params": [0.1, -0.2, 0, 0, 0.01, -0.02]}, {"k1": 0.05}, (0.05, 0, 0, 0)),
    ({"k3": 0.02}, {"k1": 0.05}, (0.05, 0, 0, 0, 0.02, 0)),
    ({"k3": 0.02, "k4": -0.01}, {}, (0, 0, 0, 0, 0.02, -0.01)),
    ({"k3": 0, "k4": 0.0}, {}, None),
    ({"distortion_params": [0.0] * 6}, {}, None),
]


@pytest.mark.parametrize(("top", "frame", "coefficients"), LISTED, ids=range(len(LISTED)))
def test_distortion_as_a_list(
    tmp_path: Path, top: dict[str, Any], frame: dict[str, Any], coefficients: tuple[float, ...] | None
) -> None:
    write_ngp(tmp_path, gone=False, **top)
    rewrite(tmp_path, {}, {2: frame})
    capture = read_capture(tmp_path)
    lens = capture.lenses[2] if capture.lenses else None
    assert (lens and lens.coefficients) == coefficients


@pytest.mark.parametrize("top", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True, "camera_model": "OPENCV"}])
def test_fisheyes_become_pinholes(tmp_path: Path, top: dict[str, Any]) -> None:
    write_ngp(tmp_path, gone=False, k1=0.02, k2=-0.01, k3=0.003, k4=-0.001, **top)
    capture = read_capture(tmp_path)
    lens = capture.lenses[0]
    assert lens is not None and lens.fisheye and lens.coefficients == (0.02, -0.01, 0.003, -0.001)
    assert load_views(capture, [0], 2).images.shape == (1, 24, 24, 3)


def test_train_val_and_test_lists(tmp_path: Path) -> None:
    write_ngp(tmp_path, views=12, gone=False)
    names = [f"./images/{view:04d}.png" for view in range(12)]
    lists = {"train": names[:4] + names[8:10], "val": ["images//0004.png"], "test": names[5:7]}
    rewrite(tmp_path, {f"{split}_filenames": some for split, some in lists.items()})
    capture, said = heard(tmp_path)
    assert said == [
        f"3 photos are in none of the lists of {tmp_path / 'transforms.json'} (train_filenames, ...); they are left out"
    ]
    shown = capture.cameras.names

    def named(views: Sequence[int]) -> list[int]:
        return [int(shown[view]) for view in views]

    assert named(capture.train) == [0, 1, 2, 3, 8, 9] and named(capture.test) == [5, 6] and len(shown) == 9
    rewrite(tmp_path, {"test_filenames": []})  # no test list: val is
    capture = read_capture(tmp_path)
    shown = capture.cameras.names
    assert named(capture.test) == [4] and named(capture.train) == [0, 1, 2, 3, 8, 9]
    rewrite(tmp_path, {"test_filenames": None, "val_filenames": None})  # every 8th of those to train on
    capture = read_capture(tmp_path)
    shown = capture.cameras.names
    assert named(capture.test) == [0] and named(capture.train) == [1, 2, 3, 8, 9]
    rewrite(tmp_path, {"train_filenames": None, "val_filenames": names[:2], "test_filenames": names[2:3]})
    capture, said = heard(tmp_path)
    assert capture.test == (2,) and capture.train == tuple(range(3, 12)) and not said


def test_names_in_lists_that_no_frame_has_are_said(tmp_path: Path) -> None:
    write_ngp(tmp_path)
    names = [f"images/{view:04d}.png" for view in range(9)]
    rewrite(tmp_path, {"train_filenames": [*names[:7], "images/gone.png", "elsewhere.png"], "val_filenames": names[7:]})
    capture, said = heard(tmp_path)
    assert len(said) == 2 and "1 of the names in its lists (the first: elsewhere.png)" in said[1]
    assert capture.train == tuple(range(7)) and capture.test == (7, 8) and capture.missing == 1
    rewrite(tmp_path, {"val_filenames": names[6:]})
    refused(tmp_path, "1 photos are in both .*0006.png")


def test_masks_are_said_to_be_unused_once(tmp_path: Path) -> None:
    write_ngp(tmp_path, gone=False)
    rewrite(tmp_path, {}, {view: {"mask_path": f"masks/{view}.png"} for view in range(3)})
    _, said = heard(tmp_path)
    assert said == [f"3 photos of {tmp_path / 'transforms.json'} have a mask (mask_path); masks aren't used"]


CLOUD = [(0.5, -1.25, 2.0, 255, 0, 51), (3.0, 4.0, 5.0, 0, 102, 255)]


def cloud(encoding: str) -> bytes:
    """Two points; the ascii kind as nerfstudio writes it."""
    header = f"ply\nformat {encoding} 1.0\ncomment made by hand\nelement vertex 2\n"
    kinds = ("float", "uint8") if encoding == "ascii" else ("double", "uchar")
    header += "".join(f"property {kinds[0]} {name}\n" for name in "xyz")
    header += "".join(f"property {kinds[1]} {name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    if encoding == "ascii":
        return (header + "".join(" ".join(map(str, row)) + "\n" for row in CLOUD)).encode()
    order = "<" if "little" in encoding else ">"
    return header.encode() + b"".join(struct.pack(order + "3d3B", *row) for row in CLOUD)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_seed_points(tmp_path: Path, encoding: str) -> None:
    write_ngp(tmp_path, gone=False, ply_file_path="sparse_pc.ply", applied_transform=np.eye(4)[:3].tolist())
    capture, said = heard(tmp_path)
    assert capture.points is None and len(said) == 1 and "sparse_pc.ply" in said[0]
    (tmp_path / "sparse_pc.ply").write_bytes(cloud(encoding))
    capture, said = heard(tmp_path)
    assert not said and capture.points is not None
    # the stored frame is the cameras': nothing is turned
    assert capture.points.means.tolist() == [list(row[:3]) for row in CLOUD]
    torch.testing.assert_close(capture.points.colors, torch.tensor([[1.0, 0.0, 0.2], [0.0, 0.4, 1.0]]))
    assert set(capture.points.errors.tolist()) == {-1.0} and set(capture.points.track_lengths.tolist()) == {0}


def test_points_without_colors_are_gray(tmp_path: Path) -> None:
    write_ngp(tmp_path, gone=False, ply_file_path="p.ply")
    head = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    (tmp_path / "p.ply").write_text(head + "1 2 3\n")
    points = read_capture(tmp_path).points
    assert points is not None and points.colors.tolist() == [[0.5, 0.5, 0.5]]


BROKEN_CLOUDS = [
    (b"", "empty"),
    (b"garbage", "no PLY"),
    (cloud("binary_little_endian")[:-3], "cut off"),
    (cloud("ascii").replace(b"property float x\n", b"property float u\n"), "x, y, z"),
    (cloud("ascii").replace(b"-1.25", b"nan"), "isn't finite"),
    (cloud("ascii").replace(b"-1.25", b"1e300"), "isn't finite"),
    (cloud("ascii").replace(b"element vertex 2", b"element vertex 999999999999"), "cut off"),
    (cloud("ascii").replace(b"uint8 red", b"float red"), "out of range"),
]


@pytest.mark.parametrize(("content", "says"), BROKEN_CLOUDS, ids=range(len(BROKEN_CLOUDS)))
def test_broken_seed_points_are_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    write_ngp(tmp_path, gone=False, ply_file_path="p.ply")
    (tmp_path / "p.ply").write_bytes(content)
    refused(tmp_path, says)


NGP: list[tuple[dict[str, Any], str]] = [
    ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
    ({"camera_model": "FISHEYE624"}, "FISHEYE624"),
    ({"camera_model": 3}, "camera model 3"),
    ({"camera_model": ["OPENCV"]}, "camera model"),
    ({"k1": "bent"}, "no number"),
    ({"k1": None}, "no number"),
    ({"k1": {}}, "no number"),
    ({"k1": 10**400}, "no number"),
    ({"k1": float("nan")}, "can't be undone"),
    ({"k4": float("inf")}, "can't be undone"),
    ({"k1": 30.0}, "transforms.json: the camera of 0000.png: a distortion"),
    ({"is_fisheye": True, "k1": -9.0}, "transforms.json: the camera of 0000.png: a fisheye distortion"),
    ({"is_fisheye": True, "k2": float("nan")}, "can't be undone"),
    ({"distortion_params": [0.1, 0.2]}, "these six"),
    ({"distortion_params": 0.1}, "these six"),
    ({"distortion_params": "abcdef"}, "these six"),
    ({"distortion_params": [0.1] * 7}, "these six"),
    ({"fl_x": 0.0}, "positive"),
    ({"fl_x": float("inf")}, "finite"),
    ({"w": 0}, "no sensible number"),
    ({"h": [1]}, "no sensible number"),
    ({"cx": 1e300}, "finite"),
    ({"frames": []}, "frames"),
    ({"frames": {"0": 1}}, "frames"),
    ({"frames": [{"file_path": "gone.png"}]}, "'gone.png' isn't there"),
    ({"frames": [{"file_path": "images/0000.png"}]}, "pose"),
    ({"frames": [{"file_path": "images/0000.png", "transform_matrix": [[1, 2], [3]]}]}, "pose"),
    ({"frames": [3]}, "file_path"),
    ({"frames": [{"file_path": "x" * 5000}]}, "photo"),
    ({"train_filenames": "images/0000.png"}, "train_filenames is no list"),
    ({"val_filenames": [1, 2]}, "val_filenames is no list"),
    ({"test_filenames": {"a": 1}}, "test_filenames is no list"),
    ({"train_filenames": ["images/0003.png"], "test_filenames": ["images/0001.png"]}, "1 training photo"),
    ({"train_filenames": ["nothing"]}, "0 posed photo"),
    ({"ply_file_path": 7}, "ply_file_path"),
    ({"ply_file_path": "x" * 5000}, "points"),
]


@pytest.mark.parametrize(("top", "says"), NGP, ids=range(len(NGP)))
def test_broken_transforms_are_one_clear_line(tmp_path: Path, top: dict[str, Any], says: str) -> None:
    write_ngp(tmp_path, **top)
    refused(tmp_path, says)
