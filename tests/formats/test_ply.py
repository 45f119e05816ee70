"""PLY files: round trips, variants, and everything that can be wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import cameras_beside, find_cameras, read_cameras, read_splats, write_cameras, write_splats
from gaussianvae.formats.ply_header import make_header
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import covariances
from scenes import random_splats

NAMES = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
NAMES += ["rot_0", "rot_1", "rot_2", "rot_3"]
ROW = {"rot_0": 1.0, "scale_0": -3.0, "scale_1": -3.0, "scale_2": -3.0}


def write_raw(path: Path, rows: np.ndarray, comments: list[str] | None = None) -> None:
    header = make_header(len(rows), [(n, rows.dtype[n].str[1:]) for n in rows.dtype.names or ()], comments or [])
    path.write_bytes(header + rows.tobytes())


def rows_of(count: int, names: list[str], kind: str = "<f4", seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = np.zeros(count, [(name, kind) for name in names])
    for name in names:
        rows[name] = random.normal(size=count)
    return rows


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0, 1, 2, 3]))
def test_written_splats_read_back(seed: int, degree: int) -> None:
    import tempfile

    splats = random_splats(17, degree, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ply"
        write_splats(path, splats)
        back = read_splats(path)
    for name in ("means", "sh0", "shN"):
        assert torch.equal(getattr(back, name), getattr(splats, name)), name
    torch.testing.assert_close(back.scales, splats.scales, rtol=1e-5, atol=0)
    torch.testing.assert_close(back.opacities, splats.opacities, rtol=1e-5, atol=1e-6)
    assert back.recipe == splats.recipe


def test_untouched_rows_are_written_bit_for_bit(tmp_path: Path) -> None:
    rows = rows_of(50, [*NAMES, "filter_like", "f_rest_0"][:-1])
    rows["opacity"][:4] = [np.inf, -np.inf, 40, -120]
    rows["scale_1"][4] = -np.inf
    rows["rot_2"] *= 17
    write_raw(tmp_path / "a.ply", rows)
    splats = read_splats(tmp_path / "a.ply")
    changed = splats.opacities.clone()
    changed[10] = 0.5
    write_splats(tmp_path / "b.ply", replace(splats, opacities=changed))
    data = (tmp_path / "b.ply").read_bytes()
    body = np.frombuffer(data[data.index(b"end_header\n") + 11 :], rows.dtype[list(rows.dtype.names or ())])
    names = [
        line.split()[-1].decode() for line in data.split(b"end_header")[0].splitlines() if line.startswith(b"property")
    ]
    written = np.frombuffer(body.tobytes(), [(name, "<f4") for name in names])
    for name in rows.dtype.names or ():
        same = written[name].view("u4") == rows[name].view("u4")
        assert same.all() or (name == "opacity" and list(np.flatnonzero(~same)) == [10]), name
    assert written["opacity"][10] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4"])
def test_types_orders_and_shuffled_properties(tmp_path: Path, kind: str) -> None:
    names = [*NAMES, *(f"f_rest_{k}" for k in range(9)), "nx", "ny", "nz"]
    random = np.random.default_rng(1)
    random.shuffle(names)
    rows = rows_of(8, names, kind)
    path = tmp_path / "a.ply"
    write_raw(path, rows)
    if kind[0] == ">":
        path.write_bytes(path.read_bytes().replace(b"binary_little_endian", b"binary_big_endian", 1))
    splats = read_splats(path)
    np.testing.assert_allclose(splats.means.numpy(), np.stack([rows[n] for n in "xyz"], 1), rtol=1e-6)
    # INRIA's f_rest is channel-major: all of red, then green, then blue
    np.testing.assert_allclose(splats.shN[:, 1, 2].numpy(), rows["f_rest_7"], rtol=1e-6)
    assert splats.extras == {}


def test_ascii_and_crlf(tmp_path: Path) -> None:
    lines = ["ply", "format ascii 1.0", "comment antialiased 1", "element vertex 1"]
    lines += [f"property float32 {name}" for name in NAMES]
    lines += ["end_header", " ".join(str(ROW.get(name, 0.25)) for name in NAMES), ""]
    path = tmp_path / "a.ply"
    path.write_bytes("\r\n".join(lines).encode())
    splats = read_splats(path)
    assert len(splats) == 1 and splats.recipe.mode == "mip"
    torch.testing.assert_close(splats.scales, torch.full((1, 3), float(np.exp(-3.0))))


def test_comments_and_extras_survive_and_ours_are_not_doubled(tmp_path: Path) -> None:
    rows = rows_of(5, [*NAMES, "confidence"])
    write_raw(tmp_path / "a.ply", rows, ["made by hand", "SplatRenderMode: MIP"])
    splats = read_splats(tmp_path / "a.ply")
    assert splats.recipe.mode == "mip" and splats.comments == ("made by hand",)
    known = replace(splats, recipe=Recipe("mip", 0.1, False, 138.5, 100, 8.0, 2000))
    write_splats(tmp_path / "b.ply", known)
    write_splats(tmp_path / "c.ply", read_splats(tmp_path / "b.ply"))
    assert (tmp_path / "b.ply").read_bytes() == (tmp_path / "c.ply").read_bytes()
    back = read_splats(tmp_path / "c.ply")
    assert back.recipe == known.recipe and back.comments == ("made by hand",)
    np.testing.assert_array_equal(back.extras["confidence"].numpy(), rows["confidence"])


def test_unfused_3d_filter_becomes_part_of_the_covariance(tmp_path: Path) -> None:
    rows = rows_of(6, [*NAMES, "filter_3D"])
    rows["filter_3D"] = 0.1
    write_raw(tmp_path / "a.ply", rows)
    write_raw(tmp_path / "b.ply", rows[NAMES].copy() if False else rows_of(6, NAMES))
    fused = read_splats(tmp_path / "a.ply")
    plain = replace(fused, scales=torch.from_numpy(np.exp(np.stack([rows[f"scale_{k}"] for k in range(3)], 1))))
    expected = covariances(plain.quats, plain.scales) + 0.01 * torch.eye(3)
    torch.testing.assert_close(covariances(fused.quats, fused.scales), expected)
    assert fused.recipe.filter_3d and "filter_3D" not in fused.extras


def good_file(tmp_path: Path) -> bytes:
    write_splats(tmp_path / "good.ply", random_splats(20))
    return (tmp_path / "good.ply").read_bytes()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: b"", "empty"),
        (lambda d: d[:40], "end_header"),
        (lambda d: d[:-1], "cut off"),
        (lambda d: d.replace(b"vertex 20", b"vertex -2"), "negative"),
        (lambda d: d.replace(b"vertex 20", b"vertex 99999999999999999999"), "cut off"),
        (lambda d: d.replace(b"float opacity", b"float opazity"), "lacks opacity"),
        (lambda d: d.replace(b"float scale_2", b"float scale_x"), "2DGS"),
        (lambda d: d.replace(b"float x", b"quad x"), "line"),
        (lambda d: d.replace(b"float x", b"list uchar int x"), "mesh"),
        (lambda d: d.replace(b"float f_rest_8", b"float f_pest_8"), "f_rest"),
        (lambda d: d.replace(b"float y", b"float x"), "twice"),
        (lambda d: b"solid" + d, "no PLY"),
        (lambda d: d.replace(b"element vertex", b"element face"), "vertex"),
        (lambda d: d[:-4] + np.float32(np.nan).tobytes(), "no finite"),
    ],
)
def test_broken_files_are_one_clear_line(tmp_path: Path, edit: object, says: str) -> None:
    data = good_file(tmp_path)
    path = tmp_path / "bad.ply"
    path.write_bytes(edit(data))  # type: ignore[operator]
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_splats(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_mutated_files_raise_nothing_but_our_error(tmp_path: Path) -> None:
    data = bytearray(good_file(tmp_path))
    random = np.random.default_rng(0)
    path = tmp_path / "mutant.ply"
    for _ in range(400):
        mutant = bytearray(data)
        for _ in range(int(random.integers(1, 6))):
            mutant[int(random.integers(len(mutant) if random.random() < 0.5 else 700))] = int(random.integers(256))
        path.write_bytes(mutant[: int(random.integers(1, len(mutant) + 1))] if random.random() < 0.3 else mutant)
        try:
            read_splats(path)
        except GaussianVAEError:
            continue


def test_outputs_never_overwrite_inputs_or_folders(tmp_path: Path) -> None:
    splats = random_splats(3)
    path = tmp_path / "a.ply"
    write_splats(path, splats)
    before = path.read_bytes()
    with pytest.raises(GaussianVAEError, match="input"):
        write_splats(path, splats, [path])
    with pytest.raises(GaussianVAEError, match="writable"):
        write_splats(tmp_path / "a.xyz", splats)
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(GaussianVAEError, match="folder"):
        write_splats(tmp_path / "folder.ply", splats)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_cameras_round_trip(tmp_path: Path) -> None:
    from scenes import ring_cameras

    cameras = ring_cameras(4)
    splat = tmp_path / "LR.ply"
    assert cameras_beside(splat).name == "LR.cameras.json" and find_cameras(splat) is None
    write_cameras(cameras_beside(splat), cameras)
    back = find_cameras(splat)
    assert back is not None and back.sizes == cameras.sizes
    torch.testing.assert_close(back.viewmats, cameras.viewmats)
    torch.testing.assert_close(back.Ks, cameras.Ks)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '[{"width": 3}]',
        "[1]",
        '[{"width":1,"height":1,"fx":0,"fy":1,"position":[0,0,0],"rotation":[[1,0,0],[0,1,0],[0,0,1]]}]',
    ],
)
def test_broken_cameras_are_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(GaussianVAEError):
        read_cameras(tmp_path / "c.json")


@pytest.mark.real
def test_compressed_ply_shows_a_scene(data: Path) -> None:
    splats = read_splats(data / "splats" / "biker.compressed.ply")
    assert len(splats) == 152_746 and splats.sh_degree == 0
    torch.testing.assert_close(splats.quats.norm(dim=1), torch.ones(len(splats)))
    extent = splats.means.amax(0) - splats.means.amin(0)
    assert 0.1 < float(extent.max()) < 1000


@pytest.mark.real
def test_inria_fragment(data: Path) -> None:
    splats = read_splats(data / "splats" / "train-1000.ply")
    assert len(splats) == 1000 and splats.sh_degree == 3
