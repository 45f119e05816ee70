"""NeRF-synthetic captures: poses, intrinsics, splits, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfsynthetic import split, write_capture
from PIL import Image

from gaussianvae.captures import Capture, load_views, read_capture
from gaussianvae.captures.capture import every_eighth
from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.cameras import project
from scenes import ring_cameras
from tiny_capture import refused


def change(folder: Path, **top: Any) -> None:
    """Change fields at the top of transforms_train.json; None removes one."""
    file = folder / "transforms_train.json"
    content = {**json.loads(file.read_text()), **top}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def test_poses_round_trip_and_look_at_the_origin(tmp_path: Path) -> None:
    write_capture(tmp_path)
    capture = read_capture(tmp_path)
    expected = ring_cameras(9)
    torch.testing.assert_close(capture.cameras.viewmats, expected.viewmats, atol=1e-5, rtol=0)
    torch.testing.assert_close(capture.cameras.Ks, expected.Ks, atol=1e-3, rtol=0)
    for view in range(9):
        center, depth = project(capture.cameras, view, torch.zeros(1, 3))
        torch.testing.assert_close(center, torch.tensor([[24.0, 24.0]]), atol=1e-3, rtol=0)
        torch.testing.assert_close(depth, torch.tensor([3.0]), atol=1e-2, rtol=0)


def test_blenders_axes(tmp_path: Path) -> None:
    """A camera without rotation looks down -z, with +x to the right and +y up, as in Blender."""
    write_capture(tmp_path)
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    content["frames"][0]["transform_matrix"] = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]
    change(tmp_path, frames=content["frames"], camera_angle_x=np.pi / 2)
    cameras = read_capture(tmp_path).cameras
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 5.0]])
    pixels, depths = project(cameras, 0, points)
    torch.testing.assert_close(depths, torch.tensor([4.0, 4.0, 4.0, -1.0]))  # the last is behind it
    torch.testing.assert_close(pixels[:3], torch.tensor([[24.0, 24.0], [30.0, 24.0], [24.0, 18.0]]))


def test_intrinsics_at_the_top(tmp_path: Path) -> None:
    write_capture(tmp_path)
    change(tmp_path, fl_x=80.0, fl_y=84.0, cx=40.0, cy=44.0, w=96, h=96, camera_angle_x=None)
    K = read_capture(tmp_path).cameras.Ks[0]
    # stored for photos of 96 px, the photos have 48
    torch.testing.assert_close(K, torch.tensor([[40.0, 0, 20.0], [0, 42.0, 22.0], [0, 0, 1]]))
    change(tmp_path, fl_y=None, cx=None, cy=None, w=None, h=None)
    K = read_capture(tmp_path).cameras.Ks[0]
    torch.testing.assert_close(K, torch.tensor([[80.0, 0, 24.0], [0, 80.0, 24.0], [0, 0, 1]]))


def test_splits(tmp_path: Path) -> None:
    write_capture(tmp_path, views=9)
    capture = read_capture(tmp_path)
    assert capture.test == (0, 8) and capture.train == (1, 2, 3, 4, 5, 6, 7)
    split(tmp_path, "val", 2)
    split(tmp_path, "test", 3)
    capture = read_capture(tmp_path)
    assert capture.train == tuple(range(9)) and capture.test == (11, 12, 13) and len(capture.cameras) == 14
    assert [path.parent.name for path in capture.image_paths] == ["train"] * 9 + ["val"] * 2 + ["test"] * 3


@given(st.lists(st.text(max_size=4), min_size=1, max_size=40, unique=True))
def test_every_eighth_in_name_order_is_held_out(names: list[str]) -> None:
    train, test = every_eighth(names)
    assert sorted([*train, *test]) == list(range(len(names)))
    assert sorted(names[view] for view in test) == sorted(names)[::8]


def test_file_paths_with_and_without_extension(tmp_path: Path) -> None:
    write_capture(tmp_path)
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    for frame in content["frames"][::2]:
        frame["file_path"] += ".png"
    # decoys that NeRF-synthetic test folders have
    Image.new("RGBA", (5, 5)).save(tmp_path / "train" / "r_0_depth_0001.png")
    change(tmp_path, frames=content["frames"])
    capture = read_capture(tmp_path)
    assert [path.name for path in capture.image_paths] == [f"r_{view}.png" for view in range(9)]
    assert set(capture.cameras.sizes) == {(48, 48)}


def spoil_frame(**fields: Any) -> Any:
    def spoil(folder: Path) -> None:
        frames = json.loads((folder / "transforms_train.json").read_text())["frames"]
        frames[0] = {name: value for name, value in {**frames[0], **fields}.items() if value is not None}
        change(folder, frames=frames)

    return spoil


def spoil_top(**fields: Any) -> Any:
    return lambda folder: change(folder, **fields)


IDENTITY = np.eye(4).tolist()
SPOILS: list[tuple[Any, str]] = [
    (lambda f: (f / "transforms_train.json").write_text("{"), "JSON"),
    (lambda f: (f / "transforms_train.json").write_text("[" * 100000), "JSON"),
    (lambda f: (f / "transforms_train.json").write_text("[1]"), "object"),
    (lambda f: (f / "transforms_train.json").write_bytes(b"\xff\xfe"), "JSON"),
    (lambda f: (f / "transforms_train.json").unlink(), "known layout"),
    (lambda f: (f / "transforms_test.json").write_text("{}"), "frames"),
    (lambda f: (f / "train" / "r_2.png").unlink(), "r_2' isn't there"),
    (lambda f: (f / "train" / "r_2.png").write_bytes(b"not a photo"), "decoded"),
    (lambda f: (f / "train" / "r_2.png").write_bytes(b""), "decoded"),
    (lambda f: Image.new("RGB", (48, 48)).save(f / "train" / "r_2.png"), "alpha"),
    (lambda f: Image.new("I;16", (48, 48)).save(f / "train" / "r_2.png"), "8 bits"),
    (lambda f: change(f, frames=json.loads((f / "transforms_train.json").read_text())["frames"][:1]), "at least 2"),
    (lambda f: (f / "transforms_test.json").write_text((f / "transforms_train.json").read_text()), "both"),
    (spoil_top(frames=None), "frames"),
    (spoil_top(frames=[]), "frames"),
    (spoil_top(frames=[1, 2]), "file_path"),
    (spoil_top(camera_angle_x=None), "camera_angle_x"),
    (spoil_top(camera_angle_x="wide"), "number"),
    (spoil_top(camera_angle_x=0.0), "number"),
    (spoil_top(camera_angle_x=-1.0), "positive"),
    (spoil_top(camera_angle_x=float("nan")), "finite"),
    (spoil_top(fl_x=10**400), "number"),
    (spoil_top(fl_x=50.0, w=0), "number"),
    (spoil_top(cx=float("inf")), "finite"),
    (spoil_frame(file_path=None), "file_path"),
    (spoil_frame(file_path=3), "file_path"),
    (spoil_frame(file_path=""), "isn't there"),
    (spoil_frame(file_path="x" * 5000), "read"),
    (spoil_frame(file_path="a\0b"), "there"),
    (spoil_frame(transform_matrix=None), "pose"),
    (spoil_frame(transform_matrix="here"), "pose"),
    (spoil_frame(transform_matrix=IDENTITY[:3]), "pose"),
    (spoil_frame(transform_matrix=[[1, 2], [3]]), "pose"),
    (spoil_frame(transform_matrix=[[10**400] * 4] * 4), "pose"),
    (spoil_frame(transform_matrix=[[float("nan")] * 4] * 4), "pose"),
    (spoil_frame(transform_matrix=[[0.0] * 4] * 4), "singular"),
    (spoil_frame(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()), "stretches"),
    (spoil_frame(transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist()), "mirrors"),
    (spoil_frame(transform_matrix=[*IDENTITY[:3], [0, 0, 1, 1]]), "rotation"),
]


@pytest.mark.parametrize(("spoil", "says"), SPOILS, ids=range(len(SPOILS)))
def test_broken_captures_are_one_clear_line(tmp_path: Path, spoil: Any, says: str) -> None:
    write_capture(tmp_path)
    spoil(tmp_path)
    refused(tmp_path, says)


def test_places_that_are_no_captures(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "no such folder")
    refused(tmp_path, "transforms_train.json")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "no such folder")


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


def test_mutated_json_raises_nothing_but_our_error(tmp_path: Path) -> None:
    write_capture(tmp_path, views=3, size=8)
    file = tmp_path / "transforms_train.json"
    change(tmp_path, fl_x=9.0, cx=4.0, w=8)
    original = file.read_text()
    random = np.random.default_rng(0)
    weird = [
        None,
        True,
        -1,
        0,
        1e308,
        10**400,
        float("nan"),
        float("inf"),
        "",
        "x",
        "../..",
        [],
        {},
        [[]],
        [[1.0] * 4] * 4,
    ]
    places = [place for place in _places(json.loads(original)) if place]
    for _ in range(250):
        content = json.loads(original)
        *way, last = places[int(random.integers(len(places)))]
        node = content
        for key in way:
            node = node[key]
        node[last] = weird[int(random.integers(len(weird)))]
        file.write_text(json.dumps(content))
        try:
            capture = read_capture(tmp_path)
        except GaussianVAEError as error:
            assert "\n" not in str(error)
        else:
            assert isinstance(capture, Capture) and bool(capture.cameras.viewmats.isfinite().all())


@pytest.mark.real
def test_lego(data: Path) -> None:
    capture = read_capture(data / "captures" / "lego")
    assert (len(capture.train), len(capture.test)) == (100, 25) and capture.has_alpha
    assert set(capture.cameras.sizes) == {(800, 800)} and capture.depth_paths == (None,) * 125
    assert float(capture.cameras.Ks[0, 0, 0]) == pytest.approx(1111.111, abs=1e-2)
    # every camera of the data set stands at a distance of about 4 and looks at the digger
    centers = torch.cat([project(capture.cameras, view, torch.zeros(1, 3))[0] for view in range(125)])
    torch.testing.assert_close(centers, torch.full((125, 2), 400.0), atol=1.0, rtol=0)
    torch.testing.assert_close(capture.cameras.positions.norm(dim=1), torch.full((125,), 4.031), atol=1e-2, rtol=0)
    views = load_views(capture, capture.test[:2], 8)
    assert views.images.shape == (2, 100, 100, 3) and views.cameras.sizes == ((100, 100),) * 2
    assert float(views.images[0, 0, 0].max()) == 0  # black corner: the background
    white = load_views(capture, capture.test[:1], 8, background=(1.0, 1.0, 1.0))
    assert float(white.images[0, 0, 0].min()) == 1 and white.alphas is not None
    # what black and white backgrounds leave between them is what isn't covered
    between = (white.images[0] - views.images[0]).mean(-1)
    torch.testing.assert_close(between, 1 - white.alphas[0], atol=1.01 / 255, rtol=0)
