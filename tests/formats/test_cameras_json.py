"""Cameras beside a splat: round trips, INRIA's own files, and broken ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import cameras_beside, find_cameras, read_cameras, write_cameras
from gaussianvae.scene.cameras import project
from scenes import ring_cameras

ROW: dict[str, Any] = {
    "id": 0, "img_name": "00001", "width": 979, "height": 546, "position": [1.0, 2.0, -3.0],
    "rotation": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "fy": 581.7, "fx": 582.5,
}  # fmt: skip


def write_rows(path: Path, rows: object) -> Path:
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return path


def test_cameras_round_trip(tmp_path: Path) -> None:
    cameras = ring_cameras(4)
    Ks = cameras.Ks.clone()
    Ks[1] = torch.tensor([[50.0, 0, 20.5], [0, 51.0, 23.25], [0, 0, 1]])
    cameras = replace(cameras, Ks=Ks, names=("a", "b", "ü", "d"), sizes=((48, 48), (48, 30), (48, 48), (48, 48)))
    splat = tmp_path / "LR.ply"
    assert find_cameras(splat) is None
    write_cameras(cameras_beside(splat), cameras)
    back = find_cameras(splat)
    assert back is not None and back.sizes == cameras.sizes and back.names == cameras.names
    torch.testing.assert_close(back.viewmats, cameras.viewmats, rtol=0, atol=1e-6)
    assert torch.equal(back.Ks, cameras.Ks)


@pytest.mark.parametrize("name", ["LR.ply", "LR.PLY", "LR.compressed.ply"])
def test_the_cameras_lie_beside_the_splat(name: str) -> None:
    assert cameras_beside(Path("somewhere") / name) == Path("somewhere") / "LR.cameras.json"


def test_inrias_files_have_their_center_in_the_middle(tmp_path: Path) -> None:
    cameras = read_cameras(write_rows(tmp_path / "c.json", [ROW]))
    # a point straight ahead of the camera, and one to its right and below
    points = torch.tensor([[1.0, 2.0, 7.0], [2.0, 3.0, 7.0]])
    pixels, depths = project(cameras, 0, points)
    torch.testing.assert_close(pixels[0], torch.tensor([979 / 2, 546 / 2]))
    torch.testing.assert_close(pixels[1], torch.tensor([979 / 2 + 58.25, 546 / 2 + 58.17]))
    torch.testing.assert_close(depths, torch.tensor([10.0, 10.0]))


BAD: list[Any] = [
    "", "[]", "{}", "[1]", "[null]", '["a"]', "[" * 100000, '[{"width": 3}]', "nonsense",
    *([{**ROW, **change}] for change in (
        {"fx": 0}, {"fx": -5}, {"fx": "wide"}, {"fy": None}, {"fx": float("nan")}, {"cx": float("inf")},
        {"width": 0}, {"width": float("inf")}, {"height": float("nan")}, {"width": 10**9}, {"height": []},
        {"position": [0, 0]}, {"position": "here"}, {"position": [0, 0, 10**400]}, {"position": [0, 0, float("nan")]},
        {"position": {}}, {"position": [0, 0, 1e300]}, {"fx": 1e300},
        {"rotation": [[1, 0], [0, 1]]}, {"rotation": [[1, 0, 0], [0, 1]]}, {"rotation": 3},
        {"rotation": [[0] * 3] * 3}, {"rotation": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]},
        {"rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, {"rotation": [[float("nan")] * 3] * 3},
    )),
]  # fmt: skip


@pytest.mark.parametrize("rows", BAD, ids=range(len(BAD)))
def test_broken_cameras_are_one_clear_line(tmp_path: Path, rows: object) -> None:
    path = write_rows(tmp_path / "c.json", rows)
    with pytest.raises(GaussianVAEError) as caught:
        read_cameras(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_absent_and_undecodable_files(tmp_path: Path) -> None:
    for path, content in ((tmp_path / "absent.json", None), (tmp_path, None), (tmp_path / "b.json", b"\xff\xfe[")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(GaussianVAEError):
            read_cameras(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*ROW, "cx", "cy"]), JSON, min_size=1, max_size=3))
def test_whatever_stands_in_a_field_only_our_error_is_raised(changes: dict[str, Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write_rows(Path(folder) / "c.json", [{**ROW, **changes}])
        try:
            cameras = read_cameras(path)
        except GaussianVAEError as error:
            assert "\n" not in str(error)
        else:
            assert np.isfinite(cameras.viewmats.numpy()).all() and np.isfinite(cameras.Ks.numpy()).all()
