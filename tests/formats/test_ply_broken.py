"""Everything that can be wrong with a splat file is one clear line, and outputs never harm what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfiles import NAMES, file_of, names_of, rows_of

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import read_splats, write_splats
from scenes import random_splats


def refused(path: Path, says: str = "") -> str:
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_splats(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


HUGE = b"9" * 20


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: b"", "empty"),
        (lambda d: d[:40], "end_header"),
        (lambda d: d[:-1], "cut off"),
        (lambda d: d.replace(b"end_header\n", b"end_headr\n"), "end_header"),
        (lambda d: d.replace(b"vertex 20", b"vertex -2"), "negative"),
        (lambda d: d.replace(b"vertex 20", b"vertex " + HUGE), "cut off"),
        (lambda d: d.replace(b"vertex 20", b"vertex " + 300 * HUGE), "line"),
        (lambda d: d.replace(b"vertex 20", b"vertex --2"), "line"),
        (lambda d: d.replace(b"vertex 20", "vertex ²".encode()), "line"),
        (lambda d: d.replace(b"vertex 20", b"vertex"), "line"),
        (lambda d: d.replace(b"element vertex", b"element vertex 20\nelement vertex"), "twice"),
        (lambda d: d.replace(b"float opacity", b"float opazity"), "lacks opacity"),
        (lambda d: d.replace(b"float scale_2", b"float scale_x"), "2DGS"),
        (lambda d: d.replace(b"float x", b"quad x"), "line"),
        (lambda d: d.replace(b"float x", b"list uchar int x"), "mesh"),
        (lambda d: d.replace(b"float f_rest_8", b"float f_pest_8"), "f_rest"),
        (lambda d: d.replace(b"float y", b"float x"), "twice"),
        (lambda d: d.replace(b"little_endian", b"middle_endian"), "line"),
        (lambda d: d.replace(b"format binary_little_endian 1.0\n", b""), "format"),
        (lambda d: b"solid" + d, "no PLY"),
        (lambda d: b"plywood" + d[3:], "no PLY"),
        (lambda d: d.replace(b"element vertex", b"element face"), "vertex"),
        (lambda d: d.replace(b"binary_little_endian", b"ascii"), "cut off"),
        (lambda d: d.replace(b"binary_little_endian", b"ascii").split(b"end_header")[0] + b"end_header\n", "cut off"),
        (lambda d: d.replace(b"element vertex", b"element chunk 1\nelement vertex"), "compressed"),
    ],
)
def test_broken_files_are_one_clear_line(tmp_path: Path, edit: Callable[[bytes], bytes], says: str) -> None:
    write_splats(tmp_path / "bad.ply", random_splats(20))
    data = (tmp_path / "bad.ply").read_bytes()
    (tmp_path / "bad.ply").write_bytes(edit(data))
    refused(tmp_path / "bad.ply", says)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("x", np.nan, "3 of 9 rows have means"),
        ("z", np.inf, "3 of 9 rows have means"),
        ("rot_1", np.nan, "3 of 9 rows have quaternions"),
        ("rot_1", -np.inf, "3 of 9 rows have quaternions"),
        ("opacity", np.nan, "3 of 9 rows have opacities"),
        ("scale_0", np.nan, "3 of 9 rows have scales"),
        ("scale_0", np.inf, "3 of 9 rows have scales"),
        ("scale_0", 95.0, "3 of 9 rows have scales"),  # its exp overflows
        ("f_dc_1", np.nan, "3 of 9 rows have colors"),
        ("f_rest_4", np.inf, "3 of 9 rows have colors"),
        ("filter_3D", np.nan, "3 of 9 rows have scales"),
    ],
)
def test_rows_that_are_no_numbers_are_counted(tmp_path: Path, name: str, value: float, says: str) -> None:
    rows = rows_of(9, [*names_of(1), *([name] if name == "filter_3D" else [])])
    rows[name][[4, 5, 8]] = value
    (tmp_path / "a.ply").write_bytes(file_of(rows))
    assert "row 4" in refused(tmp_path / "a.ply", says)


def test_what_is_no_splat_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(file_of(rows_of(2, names_of(4))))
    refused(path, "SH degree 4")
    cloud = np.zeros(2, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])
    path.write_bytes(file_of(cloud))
    refused(path, "plain point cloud")
    colored = [name for name in NAMES if not name.startswith("f_dc")] + ["red", "green", "blue"]
    path.write_bytes(file_of(rows_of(2, colored)))
    refused(path, "red, green, blue.*f_dc")
    path.write_bytes(file_of(rows_of(2, [name for name in NAMES if name != "scale_2"])))
    refused(path, "2DGS")
    mesh = file_of(cloud).replace(b"end_header", b"element face 1\nproperty list uchar int i\nend_header")
    path.write_bytes(mesh)
    refused(path, "mesh")


def test_places_that_are_no_splat_files(tmp_path: Path) -> None:
    refused(tmp_path / "absent.ply", "No such file")
    refused(tmp_path, "folder")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    refused(tmp_path / "photo.png", "no known splat format")
    # the content counts, not the name
    write_splats(tmp_path / "a.ply", random_splats(3))
    (tmp_path / "a.ply").rename(tmp_path / "a.bin")
    assert len(read_splats(tmp_path / "a.bin")) == 3


@pytest.mark.parametrize("encoding", ["binary_little_endian", "ascii"])
def test_mutated_files_raise_nothing_but_our_error(tmp_path: Path, encoding: str) -> None:
    rows = rows_of(20, [*NAMES, "filter_3D"])
    data = file_of(rows, ["SplatRenderMode: mip", 'gaussianvae-recipe: {"mode": "mip", "width": 100}'])
    if encoding == "ascii":
        head = data.split(b"end_header\n")[0].replace(b"binary_little_endian", b"ascii")
        data = head + b"end_header\n" + "\n".join(" ".join(map(str, row)) for row in rows.tolist()).encode()
    header = data.index(b"end_header") + 11
    random = np.random.default_rng(0)
    path = tmp_path / "mutant.ply"
    for _ in range(150):
        mutant = bytearray(data)
        for _ in range(int(random.integers(1, 6))):
            mutant[int(random.integers(len(mutant) if random.random() < 0.5 else header))] = int(random.integers(256))
        path.write_bytes(mutant[: int(random.integers(1, len(mutant) + 1))] if random.random() < 0.3 else mutant)
        try:
            read_splats(path)
        except GaussianVAEError as error:
            assert "\n" not in str(error)


def test_outputs_never_overwrite_inputs_or_folders(tmp_path: Path) -> None:
    splats = random_splats(3)
    path = tmp_path / "a.ply"
    write_splats(path, splats)
    before = path.read_bytes()
    with pytest.raises(GaussianVAEError, match="input"):
        write_splats(path, splats, [path])
    with pytest.raises(GaussianVAEError, match="writable"):
        write_splats(tmp_path / "a.xyz", splats)
    with pytest.raises(GaussianVAEError, match="writable"):
        write_splats(tmp_path / "a.glb", splats)
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(GaussianVAEError, match="folder"):
        write_splats(tmp_path / "folder.ply", splats)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "sh0", "shN"])
def test_what_could_not_be_read_is_not_written(tmp_path: Path, name: str) -> None:
    splats = random_splats(3)
    values = getattr(splats, name).clone()
    values[1] = torch.nan
    with pytest.raises(GaussianVAEError, match="1 of 3 rows"):
        write_splats(tmp_path / "a.ply", replace(splats, **{name: values}))
    assert not list(tmp_path.iterdir())


def test_negative_scales_are_not_written(tmp_path: Path) -> None:
    splats = random_splats(3)
    with pytest.raises(GaussianVAEError, match=r"3 of 3 rows have negative scales \(the first is row 0\)"):
        write_splats(tmp_path / "a.ply", replace(splats, scales=-splats.scales))
