"""PLY files: round trips bit for bit, and the variants that other tools write."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plyfiles import NAMES, file_of, names_of, rows_of, written_rows

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import read_splats, write_parts, write_splats
from gaussianvae.scene.splats import STATE, Splats, concatenate, covariances
from scenes import Told, random_splats

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
LOGITS = st.one_of(st.sampled_from([np.inf, -np.inf, 0.0, -0.0, 120.0, -120.0]), st.floats(-40, 40, width=32))
LOG_SCALES = st.one_of(st.sampled_from([-np.inf, -200.0, 88.0]), st.floats(-30, 10, width=32))
KINDS = {"opacity": LOGITS, "scale_0": LOG_SCALES, "scale_1": LOG_SCALES, "scale_2": LOG_SCALES}


@st.composite
def raw_rows(draw: st.DrawFn) -> NDArray[Any]:
    """Rows of anything that a splat file may hold: infinite logits, zero scales, quaternions of any length."""
    names = names_of(draw(st.sampled_from([0, 1])))
    rows = np.zeros(draw(st.integers(0, 9)), [(name, "<f4") for name in names])
    for name in names:
        rows[name] = draw(st.lists(KINDS.get(name, FINITE), min_size=len(rows), max_size=len(rows)))
    return rows


def read_raw(rows: NDArray[Any], comments: list[str] | None = None) -> Splats:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.ply"
        path.write_bytes(file_of(rows, comments))
        return read_splats(path)


def write_and_look(splats: Splats) -> NDArray[Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_splats(Path(folder) / "a.ply", splats)
        return written_rows(Path(folder) / "a.ply")


def read_back(splats: Splats) -> Splats:
    with tempfile.TemporaryDirectory() as folder:
        write_splats(Path(folder) / "a.ply", splats)
        return read_splats(Path(folder) / "a.ply")


@settings(max_examples=60)
@given(raw_rows())
def test_what_was_read_is_written_bit_for_bit(rows: NDArray[Any]) -> None:
    splats = read_raw(rows)
    assert write_and_look(splats).tobytes() == rows.tobytes()
    again = read_back(splats)
    for name in STATE:
        assert torch.equal(getattr(again, name), getattr(splats, name)), name
    torch.testing.assert_close(splats.quats.norm(dim=1), torch.ones(len(rows)))


@settings(max_examples=40)
@given(raw_rows(), st.data())
def test_unchanged_rows_stay_whatever_happens_to_the_others(rows: NDArray[Any], data: st.DataObject) -> None:
    """Rows are reordered, dropped, doubled, moved to another type and back, and one of them is changed."""
    if not len(rows):
        return
    picks = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12))
    splats = read_raw(rows).select(torch.tensor(picks)).to(dtype=torch.float64).to(dtype=torch.float32)
    scales, opacities = splats.scales.clone(), splats.opacities.clone()
    changed = data.draw(st.integers(0, len(picks) - 1))
    scales[changed], opacities[changed] = 0.25, 0.75
    written = write_and_look(replace(splats, scales=scales, opacities=opacities))
    for place, pick in enumerate(picks):
        if place != changed:
            assert written[place].tobytes() == rows[pick].tobytes()
    assert written["scale_1"][changed] == pytest.approx(np.log(0.25))
    assert written["opacity"][changed] == pytest.approx(np.log(3.0), rel=1e-6)
    assert written["rot_2"][changed] == rows["rot_2"][picks[changed]]


def test_single_rows_of_a_large_splat_are_recognized() -> None:
    """A vectorized sigmoid gave other last bits for a row alone than for the same row among others."""
    rows = rows_of(1003, NAMES)
    splats = read_raw(rows)
    for start in (0, 1, 500, 1001):
        part = splats.select(torch.arange(start, min(start + 2, 1003)))
        assert write_and_look(part).tobytes() == rows[start : start + 2].tobytes()


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0, 1, 2, 3]))
def test_computed_splats_read_back(seed: int, degree: int) -> None:
    splats = random_splats(17, degree, seed)
    back = read_back(splats)
    for name in ("means", "sh0", "shN"):
        assert torch.equal(getattr(back, name), getattr(splats, name)), name
    torch.testing.assert_close(back.scales, splats.scales, rtol=1e-6, atol=0)
    torch.testing.assert_close(back.opacities, splats.opacities, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(back.quats, splats.quats, rtol=0, atol=2e-7)
    assert back.recipe == splats.recipe


def test_computed_opacities_of_0_and_1_get_finite_logits() -> None:
    splats = random_splats(4)
    opacities = torch.tensor([0.0, 1.0, 1e-12, 0.5])
    written = write_and_look(replace(splats, opacities=opacities))["opacity"]
    assert np.isfinite(written).all()
    torch.testing.assert_close(torch.sigmoid(torch.tensor(written)), opacities, rtol=0, atol=2e-7)


def test_concatenated_files_keep_their_bits() -> None:
    first, second = rows_of(5, NAMES, seed=1), rows_of(3, NAMES, seed=2)
    both = concatenate([read_raw(first), read_raw(second)])
    assert write_and_look(both).tobytes() == first.tobytes() + second.tobytes()


def test_the_empty_splat_is_one(tmp_path: Path) -> None:
    splats = random_splats(3).select(torch.zeros(0, dtype=torch.long))
    assert len(read_back(splats)) == 0 and read_back(splats).sh_degree == 1


def test_activation_is_what_inria_does() -> None:
    rows = rows_of(50, names_of(2))
    splats = read_raw(rows)
    exact = {name: rows[name].astype(np.float64) for name in rows.dtype.names or ()}
    np.testing.assert_allclose(splats.opacities.numpy(), 1 / (1 + np.exp(-exact["opacity"])), rtol=1e-7)
    np.testing.assert_allclose(splats.scales[:, 1].numpy(), np.exp(exact["scale_1"]), rtol=1e-7)
    norm = np.sqrt(sum(exact[f"rot_{k}"] ** 2 for k in range(4)))
    np.testing.assert_allclose(splats.quats[:, 0].numpy(), exact["rot_0"] / norm, rtol=1e-7)
    # f_rest is channel-major: all 8 coefficients of red, then of green, then of blue
    for channel in range(3):
        for k in range(8):
            np.testing.assert_array_equal(splats.shN[:, k, channel].numpy(), rows[f"f_rest_{8 * channel + k}"])


@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4", ">f8", "<i4"])
def test_types_byte_orders_shuffled_properties_and_normals(tmp_path: Path, kind: str) -> None:
    names = [*names_of(1), "nx", "ny", "nz"]
    np.random.default_rng(1).shuffle(names)
    rows = rows_of(8, names)
    for name in names:
        rows[name] *= 3
    rows = rows.astype([(name, kind) for name in names])
    path = tmp_path / "a.ply"
    data = file_of(rows)
    path.write_bytes(data.replace(b"little", b"big", 1) if kind[0] == ">" else data)
    splats = read_splats(path)
    np.testing.assert_allclose(splats.means.numpy(), np.stack([rows[n] for n in "xyz"], 1), rtol=1e-6)
    np.testing.assert_allclose(splats.shN[:, 1, 2].numpy(), rows["f_rest_7"], rtol=1e-6)
    assert splats.extras == {}
    written = write_and_look(splats)
    assert list(written.dtype.names or ()) == names_of(1)
    for name in names_of(1):
        np.testing.assert_array_equal(written[name], rows[name].astype(np.float32))


def test_fourth_band_of_harmonics_is_left_out_and_said(tmp_path: Path) -> None:
    rows, told = rows_of(3, names_of(4)), Told()
    (tmp_path / "a.ply").write_bytes(file_of(rows))
    splats = read_splats(tmp_path / "a.ply", report=told)
    assert splats.sh_degree == 3 and not splats.extras
    assert len(told.messages) == 1 and "fourth band" in told.messages[0]
    for k in range(15):  # 24 coefficients a channel are stored, the first 15 kept
        for channel in range(3):
            np.testing.assert_array_equal(splats.shN[:, k, channel].numpy(), rows[f"f_rest_{24 * channel + k}"])


def test_colors_as_bytes_in_place_of_harmonics() -> None:
    names = [name for name in NAMES if not name.startswith("f_dc")]
    rows = np.zeros(3, [(name, "<f4") for name in names] + [(name, "u1") for name in ("red", "green", "blue")])
    rows["rot_0"], rows["red"], rows["green"], rows["blue"] = 1, [0, 128, 255], [255, 0, 1], 7
    splats = read_raw(rows)
    rgb = np.stack([rows["red"], rows["green"], rows["blue"]], 1) / 255.0
    np.testing.assert_allclose((0.5 + 0.28209479177387814 * splats.sh0[:, 0]).numpy(), rgb, atol=1e-6)
    assert not splats.extras


def test_ascii_with_crlf_padding_and_other_elements(tmp_path: Path) -> None:
    lines = ["ply", "format ascii 1.0  ", "comment antialiased 1", "obj_info made by hand", "element other 2"]
    lines += ["property int a", "element vertex 1", *(f"property float32 {name}" for name in NAMES)]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header "]
    lines += ["1", "2", " ".join("1" if name == "rot_0" else "0.25" for name in NAMES), "3 0 0 0", ""]
    path = tmp_path / "a.ply"
    path.write_bytes("\r\n".join(lines).encode())
    splats = read_splats(path)
    assert len(splats) == 1 and splats.recipe.mode == "mip" and "made by hand" in splats.comments
    torch.testing.assert_close(splats.scales, torch.full((1, 3), float(np.exp(0.25))))


def test_elements_around_the_vertices_are_passed_over(tmp_path: Path) -> None:
    data = file_of(rows_of(3, NAMES))
    head, body = data.split(b"element vertex", 1)
    head += b"element camera 2\nproperty double f\nelement vertex"
    body = body.replace(b"end_header\n", b"element face 7\nproperty list uchar int i\nend_header\n" + bytes(16))
    (tmp_path / "a.ply").write_bytes(head + body)
    np.testing.assert_array_equal(read_splats(tmp_path / "a.ply").means[:, 1].numpy(), rows_of(3, NAMES)["y"])


def test_extra_properties_keep_their_types_and_values(tmp_path: Path) -> None:
    kinds = {"label": "<u4", "small": "u1", "short": "<u2", "exact": "<f8", "count": "<i4", "confidence": "<f4"}
    rows = np.zeros(4, [(name, "<f4") for name in NAMES] + list(kinds.items()))
    rows["rot_0"] = 1
    rows["label"] = [0, 1, 2**31, 2**32 - 1]
    rows["short"], rows["small"], rows["count"] = 65535, 255, -7
    rows["exact"] = 1 / 3
    splats = read_raw(rows)
    assert list(splats.extras) == list(kinds)
    assert write_and_look(splats).tobytes() == rows.tobytes()
    picked = write_and_look(splats.select(torch.tensor([3, 0])))
    assert list(picked["label"]) == [2**32 - 1, 0]


def test_extra_properties_of_types_that_ply_lacks() -> None:
    splats = random_splats(3)
    extras = {
        "flag": torch.tensor([True, False, True]),
        "half": torch.tensor([0.5, 1.5, -2.0], dtype=torch.bfloat16),
        "row": torch.tensor([0, 7, -9]),
        "far": torch.tensor([0, 1, 2**40]),
    }
    back = read_back(replace(splats, extras=extras)).extras
    for name, values in extras.items():
        assert back[name].double().tolist() == values.double().tolist(), name
    with pytest.raises(ValueError, match="named"):
        write_and_look(replace(splats, extras={"two words": torch.zeros(3)}))


def test_unfused_3d_filter_becomes_part_of_the_gaussians() -> None:
    rows = rows_of(6, [*NAMES, "filter_3D"])
    rows["filter_3D"] = [0.1, -0.1, 0, 1, 2, 0.3]
    rows["scale_1"][2] = -np.inf
    plain, fused = read_raw(rows[NAMES]), read_raw(rows)
    widths = torch.from_numpy(rows["filter_3D"].copy())
    before, after = covariances(plain.quats, plain.scales), covariances(fused.quats, fused.scales)
    torch.testing.assert_close(after, before + widths.square()[:, None, None] * torch.eye(3))
    # opacity falls as the root of the determinant grows; where nothing was added it stays, even for a zero scale
    squares = np.exp(2 * np.stack([rows[f"scale_{k}"].astype(np.float64) for k in range(3)], 1))
    wider = squares + np.square(rows["filter_3D"].astype(np.float64))[:, None]
    ratio = np.sqrt(np.prod(np.divide(squares, wider, where=wider > 0, out=np.ones_like(wider)), 1))
    np.testing.assert_allclose(fused.opacities.numpy(), plain.opacities.numpy() * ratio, rtol=1e-6)
    assert fused.recipe.filter_3d and "filter_3D" not in fused.extras


@pytest.mark.real
def test_inria_fragment_is_written_bit_for_bit(data: Path) -> None:
    path = data / "splats" / "train-1000.ply"
    splats = read_splats(path)
    assert len(splats) == 1000 and splats.sh_degree == 3
    truth, written = written_rows(path), write_and_look(splats)
    assert set(truth.dtype.names or ()) - set(written.dtype.names or ()) == {"nx", "ny", "nz"}
    for name in written.dtype.names or ():
        np.testing.assert_array_equal(written[name].view("u4"), truth[name].view("u4"))


@pytest.mark.parametrize("sizes", [[7], [3, 0, 4], [1] * 7])
def test_parts_make_the_same_file_as_the_whole(tmp_path: Path, sizes: list[int]) -> None:
    splats = replace(random_splats(7, degree=2), extras={"label": torch.arange(7)}, comments=("by hand",))
    ends = torch.tensor(sizes).cumsum(0).tolist()
    parts = [splats.select(torch.arange(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    write_splats(tmp_path / "whole.ply", splats)
    write_parts(tmp_path / "parts.ply", 7, iter(parts))
    assert (tmp_path / "parts.ply").read_bytes() == (tmp_path / "whole.ply").read_bytes()


def test_parts_that_fail_leave_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[Splats]:
        yield random_splats(3)
        raise GaussianVAEError("no more")

    with pytest.raises(GaussianVAEError, match="no more"):
        write_parts(tmp_path / "parts.ply", 6, broken())
    with pytest.raises(ValueError, match="6 Gaussians were announced, 3 came"):
        write_parts(tmp_path / "parts.ply", 6, [random_splats(3)])
    assert not list(tmp_path.iterdir())
