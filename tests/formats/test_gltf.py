"""glTF splats: hand-made files of every type, transforms against matrices, hostile files, Khronos's test matrix."""

from __future__ import annotations

import gzip
import json
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gltffiles import SPLATTING, Builder, columns_of, glb_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import read_splats
from gaussianvae.scene.harmonics import sh_basis
from gaussianvae.scene.splats import STATE, Splats, covariances
from scenes import Told

UP = np.diag([-1.0, -1.0, 1.0])
SPZ = f"{SPLATTING}_compression_spz_2"


def colors_seen(splats: Splats, direction: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    basis = sh_basis(torch.from_numpy(direction).expand(len(splats), 3), splats.sh_degree)
    return (splats.sh.double() * basis[..., None]).sum(1).numpy()


def seen(columns: dict[str, Any], direction: np.ndarray[Any, Any], degree: int) -> np.ndarray[Any, Any]:
    """The same of a file's columns, in the file's frame."""
    coefficients = [columns[f"SH_DEGREE_{b}_COEF_{n}"] for b in range(degree + 1) for n in range(2 * b + 1)]
    basis = sh_basis(torch.from_numpy(direction), degree).numpy()
    return sum(c.astype(np.float64) * y for c, y in zip(coefficients, basis, strict=True))


def covariance(columns: dict[str, Any]) -> np.ndarray[Any, Any]:
    """By the formula of the extension's text."""
    x, y, z, w = columns["ROTATION"].astype(np.float64).T
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    half = rotation * columns["SCALE"][:, None, :]
    return half @ half.transpose(0, 2, 1)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_values_and_frame(tmp_path: Path, degree: int) -> None:
    """Turned by half a turn about z, with the shape and the colors of each Gaussian."""
    columns = columns_of(20, degree)
    file = Builder()
    file.splat(columns)
    splats = read_splats(write(tmp_path / "a.glb", file.glb()))
    assert splats.sh_degree == degree
    np.testing.assert_allclose(splats.means.numpy(), columns["POSITION"] * [-1, -1, 1], rtol=1e-6)
    np.testing.assert_allclose(covariances(splats.quats, splats.scales), UP @ covariance(columns) @ UP, atol=1e-7)
    np.testing.assert_allclose(splats.opacities.numpy(), columns["OPACITY"])
    for direction in np.array([[0.6, 0.0, 0.8], [-0.36, 0.48, 0.8], [0.0, -1.0, 0.0]]):
        np.testing.assert_allclose(colors_seen(splats, UP @ direction), seen(columns, direction, degree), atol=1e-5)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), as_matrix=st.booleans(), scale=st.sampled_from([0.01, 1.0, 3.5]))
def test_nodes_place_their_splats(
    tmp_path_factory: pytest.TempPathFactory, seed: int, as_matrix: bool, scale: float
) -> None:
    """A chain of two nodes is the product of their matrices; covariances follow the extension's M C C^T M^T."""
    random = np.random.default_rng(seed)
    columns, file, world = columns_of(5, 3, seed), Builder(), np.eye(4)
    file.splat(columns)
    inner = file.json["nodes"].pop()
    file.json["scenes"][0]["nodes"].clear()
    for level in range(2):
        quat = random.normal(size=4)
        quat /= np.linalg.norm(quat)
        shift = random.normal(size=3)
        x, y, z, w = quat
        axis = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrix = np.eye(4)
        # Rodrigues, from the half angle
        matrix[:3, :3] = scale * (np.eye(3) + 2 * w * axis + 2 * axis @ axis)
        matrix[:3, 3] = shift
        world = world @ matrix
        node: dict[str, Any] = {"matrix": matrix.T.ravel().tolist()}
        if not as_matrix:
            node = {"rotation": quat.tolist(), "translation": shift.tolist(), "scale": [scale] * 3}
        if level == 0:
            file.add_node({**node, "children": [1]})
        else:
            file.add_node({**node, **inner}, root=False)
    splats = read_splats(write(tmp_path_factory.mktemp("gltf") / "a.glb", file.glb()))
    m = UP @ world[:3, :3]
    np.testing.assert_allclose(
        splats.means.numpy(), columns["POSITION"] @ m.T + UP @ world[:3, 3], rtol=1e-5, atol=1e-5 * scale
    )
    size = float(np.abs(covariance(columns)).max()) * scale**4
    np.testing.assert_allclose(
        covariances(splats.quats, splats.scales), m @ covariance(columns) @ m.T, atol=1e-5 * size
    )
    direction = random.normal(size=3)
    direction /= np.linalg.norm(direction)
    turned = m @ direction / scale**2
    np.testing.assert_allclose(colors_seen(splats, turned), seen(columns, direction, 3), atol=1e-4)


def test_component_types_strides_and_sparse(tmp_path: Path) -> None:
    """The types that the text allows, and rows that lie interleaved."""
    plain, packed = Builder(), Builder()
    columns = columns_of(4)
    quats = np.array([[127, 0, 0, 0], [0, -127, 0, 0], [0, 0, 0, 127], [64, 64, 64, 64]], np.int8)
    columns["ROTATION"] = (quats / 127).astype(np.float32)
    columns["SCALE"] = np.arange(12, dtype=np.float32).reshape(4, 3) / 255
    columns["OPACITY"] = np.array([0, 1, 2, 65535], np.float32) / 65535
    columns["POSITION"][2] = [7, 8, 9]
    plain.splat(columns)
    rows = np.zeros(4, [("scale", "u1", 3), ("gap", "u1", 5), ("rotation", "i1", 4)])
    rows["scale"], rows["rotation"], rows["gap"] = np.arange(12).reshape(4, 3), quats, 99
    view = packed.view(rows.tobytes(), byteStride=12)

    def interleaved(offset: int, code: int, kind: str) -> int:
        packed.json["accessors"].append(
            {
                "bufferView": view,
                "byteOffset": offset,
                "componentType": code,
                "count": 4,
                "type": kind,
                "normalized": True,
            }
        )
        return len(packed.json["accessors"]) - 1

    position = columns["POSITION"].copy()
    position[2] = 0
    sparse = {
        "count": 1,
        "indices": {"bufferView": packed.view(np.array([2], "<u2").tobytes()), "componentType": 5123},
        "values": {"bufferView": packed.view(np.array([7, 8, 9], "<f4").tobytes())},
    }
    packed.splat(
        {
            "POSITION": packed.accessor(position, sparse=sparse),
            "ROTATION": interleaved(8, 5120, "VEC4"),
            "SCALE": interleaved(0, 5121, "VEC3"),
            "OPACITY": packed.accessor(np.array([0, 1, 2, 65535], "<u2"), normalized=True),
            "SH_DEGREE_0_COEF_0": columns["SH_DEGREE_0_COEF_0"],
        }
    )
    a, b = (read_splats(write(tmp_path / f"{n}.glb", f.glb())) for n, f in (("a", plain), ("b", packed)))
    for name in STATE:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-7)


def test_json_files_with_their_buffer_inside_or_beside(tmp_path: Path) -> None:
    file = Builder()
    file.splat(columns_of(6, 1))
    splats = read_splats(write(tmp_path / "a.glb", file.glb()))
    (tmp_path / "my data.bin").write_bytes(file.binary)
    for data in (file.gltf(), file.gltf("my%20data.bin")):
        other = read_splats(write(tmp_path / "a.gltf", data))
        assert all(torch.equal(getattr(splats, name), getattr(other, name)) for name in STATE)
    for uri in ("../a.bin", "%2e%2e/a.bin", "/etc/passwd", "http://x/a.bin", "file:///etc/passwd", "missing.bin"):
        with pytest.raises(GaussianVAEError, match=r"isn't in its folder|isn't there"):
            read_splats(write(tmp_path / "b.gltf", file.gltf(uri)))
    with pytest.raises(GaussianVAEError, match="base64"):
        read_splats(write(tmp_path / "b.gltf", file.gltf("data:application/octet-stream;base64,?!")))


def test_several_splats_become_one_of_the_highest_degree(tmp_path: Path) -> None:
    file = Builder()
    file.splat(columns_of(3, 0))
    file.splat(columns_of(4, 2, seed=1))
    # a mesh, a camera, and a splat that isn't in the scene
    position = file.accessor(np.zeros((3, 3), np.float32))
    file.json["meshes"].append({"primitives": [{"attributes": {"POSITION": position}}]})
    file.add_node({"mesh": 2})
    file.add_node({"camera": 0})
    file.splat(columns_of(9))
    file.json["scenes"][0]["nodes"].pop()
    listener = Told()
    splats = read_splats(write(tmp_path / "a.glb", file.glb()), report=listener)  # type: ignore[arg-type]
    assert len(splats) == 7 and splats.sh_degree == 2
    assert not splats.shN[:3].any() and splats.shN[3:].any()
    assert listener.messages == ["a.glb: 1 meshes beside the splat are left out"]
    # without scenes, nodes that are nobody's children are at the top
    del file.json["scenes"], file.json["scene"]
    assert len(read_splats(write(tmp_path / "a.glb", file.glb()))) == 16


def test_drafts_with_colors_in_COLOR_0(tmp_path: Path) -> None:
    columns = columns_of(5)
    color = np.random.default_rng(0).integers(0, 256, (5, 4)).astype(np.uint8)
    file = Builder()
    file.splat(
        {
            "POSITION": columns["POSITION"], "_ROTATION": columns["ROTATION"], "_SCALE": columns["SCALE"],
            "COLOR_0": file.accessor(color, normalized=True),
        }
    )  # fmt: skip
    splats = read_splats(write(tmp_path / "a.glb", file.glb()))
    np.testing.assert_allclose(splats.opacities.numpy(), color[:, 3] / 255, atol=1e-6)
    rgb = 0.5 + 0.28209479177387814 * splats.sh0[:, 0].numpy()
    np.testing.assert_allclose(rgb, color[:, :3] / 255, atol=1e-6)


def spz_of(position: tuple[float, float, float]) -> bytes:
    """One Gaussian of SPZ version 2."""
    words = b"".join(int(v * 4096).to_bytes(3, "little", signed=True) for v in position)
    return gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 2, 1, 0, 12, 0, 0) + words + bytes([200] * 10))


@pytest.mark.parametrize(
    ("stated", "expected"),
    [([1, 2, 3], [-1, -2, 3]), ([-1, 2, -3], [1, -2, -3]), (None, [-1, -2, 3]), ("x", [-1, -2, 3])],
)
def test_spz_inside_is_turned_as_the_stated_bounds_say(tmp_path: Path, stated: Any, expected: list[float]) -> None:
    file = Builder()
    file.json["accessors"].append({"componentType": 5126, "count": 1, "type": "VEC3"})
    if stated is not None:
        file.json["accessors"][0] |= {"min": stated, "max": stated}
    file.splat({"POSITION": 0}, extensions={SPZ: {"bufferView": file.view(spz_of((1, 2, 3)))}})
    splats = read_splats(write(tmp_path / "a.glb", file.glb()))
    np.testing.assert_allclose(splats.means.numpy(), [expected], atol=1e-6)


def test_meshes_say_that_they_are_none(tmp_path: Path) -> None:
    file = Builder()
    position = file.accessor(np.zeros((3, 3), np.float32))
    file.json["meshes"].append({"primitives": [{"attributes": {"POSITION": position}}]})
    file.add_node({"mesh": 0})
    with pytest.raises(GaussianVAEError, match=r"is a mesh \(1 primitives\), no splat"):
        read_splats(write(tmp_path / "a.glb", file.glb()))
    with pytest.raises(GaussianVAEError, match="no splat in its scene"):
        read_splats(write(tmp_path / "a.glb", Builder().glb()))


def test_linear_colors_are_said(tmp_path: Path) -> None:
    file, listener = Builder(), Told()
    file.splat(columns_of(2), colorSpace="lin_rec709_display")
    read_splats(write(tmp_path / "a.glb", file.glb()), report=listener)  # type: ignore[arg-type]
    assert "linear light" in listener.messages[0]


def broken(where: str, value: object, degree: int = 1) -> bytes:
    """A good file but for one value of its JSON; `del` takes it out."""
    file = Builder()
    file.splat(columns_of(8, degree))
    at: Any = file.json
    *parts, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    for part in parts:
        at = at[part]
    if value == "del":
        del at[last]
    else:
        at[last] = value
    return file.glb()


ATTRIBUTES = "meshes.0.primitives.0.attributes"
EXTENSION = f"meshes.0.primitives.0.extensions.{SPLATTING}"


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("accessors.0.count", 9, "needs 9 elements"),
        ("accessors.0.count", 10**12, "needs 1000000000000 elements"),
        ("accessors.0.count", 0, "no elements"),
        ("accessors.0.count", 7, "has 8 elements of 7"),
        ("accessors.0.count", -1, "whole number"),
        ("accessors.0.count", "8", "whole number"),
        ("accessors.0.count", True, "whole number"),
        ("accessors.0.type", "VEC4", "wrong width"),
        ("accessors.0.type", ["VEC3"], "wrong width"),
        ("accessors.0.componentType", 5130, "component type 5130"),
        ("accessors.0.componentType", "del", "component type None"),
        ("accessors.0.byteOffset", 4, "needs 8 elements"),
        ("accessors.0.bufferView", 99, r"bufferViews\[99\]"),
        ("accessors.0.bufferView", "del", "POSITION has no data"),
        ("accessors.0.bufferView", -1, r"bufferViews\[-1\]"),
        ("accessors.0.sparse", {"count": 3}, "sparse without"),
        ("accessors.0.sparse", {"count": 1e9, "indices": {}, "values": {}}, "whole number"),
        ("bufferViews.0.byteLength", 10**9, "ends at byte"),
        ("bufferViews.0.byteOffset", 10**9, "ends at byte"),
        ("bufferViews.0.byteStride", 0, "0 apart"),
        ("bufferViews.0.byteStride", 16, "16 apart"),
        ("bufferViews.0.buffer", 1, r"buffers\[1\]"),
        ("bufferViews.0.extensions", {"EXT_meshopt_compression": {}}, "EXT_meshopt_compression"),
        ("buffers", [{"byteLength": 10**9}], "is cut off"),
        ("buffers", [], r"buffers\[0\]"),
        ("buffers", [{}], "ends at byte"),
        ("nodes.0.mesh", 4, r"meshes\[4\]"),
        ("nodes.0.children", [0], "twice"),
        ("nodes.0.matrix", [1] * 15, "16 numbers"),
        ("nodes.0.matrix", [1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], "stretches"),
        ("nodes.0.matrix", [1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], "shears"),
        ("nodes.0.matrix", [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], "mirrors"),
        ("nodes.0.matrix", [0] * 16, "stretches"),
        ("nodes.0.scale", [1, 1, 1.1], "stretches"),
        ("nodes.0.scale", [1e31, 1e31, 1e31], "3 numbers"),
        ("nodes.0.translation", [0, "x", 0], "3 numbers"),
        ("nodes.0.rotation", [10**400, 0, 0, 1], "4 numbers"),
        ("scenes.0.nodes", [7], r"nodes\[7\]"),
        ("scenes.0.nodes", [0, 0], "twice"),
        ("scene", 5, r"scenes\[5\]"),
        ("asset", "del", "no asset"),
        (f"{ATTRIBUTES}.POSITION", "del", "accessors"),
        (f"{ATTRIBUTES}.{SPLATTING}:SCALE", "del", "lacks SCALE"),
        (f"{ATTRIBUTES}.{SPLATTING}:OPACITY", "del", "lacks OPACITY"),
        (f"{ATTRIBUTES}.{SPLATTING}:SH_DEGREE_0_COEF_0", "del", "lacks SH_DEGREE_0"),
        (f"{ATTRIBUTES}.{SPLATTING}:SH_DEGREE_1_COEF_1", "del", "2 coefficients"),
        (f"{EXTENSION}.kernel", "cube", "kernel 'cube'"),
        (f"{EXTENSION}.extensions", {"X_compression_y": {}}, "X_compression_y"),
    ],
)
def test_broken_files_are_one_clear_line(tmp_path: Path, where: str, value: object, says: str) -> None:
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_splats(write(tmp_path / "a.glb", broken(where, value)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [("OPACITY", 1.5, "opacities outside"), ("SCALE", np.nan, "scales"), ("POSITION", np.inf, "means")],
)
def test_values_that_no_one_can_show(tmp_path: Path, name: str, row: float, says: str) -> None:
    columns, file = columns_of(4), Builder()
    columns[name][1] = row  # type: ignore[index]
    file.splat(columns)
    with pytest.raises(GaussianVAEError, match=says):
        read_splats(write(tmp_path / "a.glb", file.glb()))


def test_signs_that_say_nothing(tmp_path: Path) -> None:
    """A negative scale is the same Gaussian, a rotation of length 0 turns nothing."""
    columns, file = columns_of(4), Builder()
    columns["SCALE"] *= -1  # type: ignore[operator]
    columns["ROTATION"][:] = 0  # type: ignore[index]
    file.splat(columns)
    splats = read_splats(write(tmp_path / "a.glb", file.glb()))
    np.testing.assert_allclose(splats.scales.numpy(), -columns["SCALE"])  # type: ignore[operator]
    assert bool((splats.quats.abs() == torch.tensor([0.0, 0, 0, 1])).all())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "can't be parsed"),
        (b"[" * 100_000, "can't be parsed"),
        (b"[]", "no asset"),
        (b'{"asset": {}, "nodes": [' + b"{}," * (1 << 20) + b"{}]}", "values"),
        (b"\xff", "can't be parsed"),
    ],
)
def test_what_is_no_gltf(tmp_path: Path, text: bytes, says: str) -> None:
    for path in (write(tmp_path / "a.gltf", text), write(tmp_path / "a.glb", glb_of(text, b""))):
        with pytest.raises(GaussianVAEError, match=says):
            read_splats(path)


@pytest.mark.parametrize("size", [4, 11, 15, 19, 100, 1500])
def test_cut_off_files(tmp_path: Path, size: int) -> None:
    file = Builder()
    file.splat(columns_of(8))
    with pytest.raises(GaussianVAEError):
        read_splats(write(tmp_path / "a.glb", file.glb()[:size]))
    with pytest.raises(GaussianVAEError, match="version 1"):
        read_splats(write(tmp_path / "b.glb", b"glTF\1\0\0\0" + file.glb()[8:]))


def test_one_splat_placed_a_thousand_times_is_refused(tmp_path: Path) -> None:
    file = Builder()
    file.splat(columns_of(20_000))
    for _ in range(1000):
        file.add_node({"mesh": 0})
    path, begun = write(tmp_path / "a.glb", file.glb()), time.perf_counter()
    with pytest.raises(GaussianVAEError, match="more often than its size explains"):
        read_splats(path)
    assert time.perf_counter() - begun < 2


def test_a_long_chain_of_nodes_is_no_recursion(tmp_path: Path) -> None:
    file = Builder()
    file.splat(columns_of(2))
    file.json["scenes"][0]["nodes"] = [5000]
    for index in range(5000):
        file.add_node({"children": [index]}, root=False)
    assert len(read_splats(write(tmp_path / "a.glb", file.glb()))) == 2


def test_mutants_raise_nothing_but_our_error(tmp_path: Path) -> None:
    file = Builder()
    file.splat(columns_of(5, 1), node={"rotation": [0, 0, 0, 1], "scale": [2, 2, 2]})
    data, random, path = file.glb(), np.random.default_rng(0), tmp_path / "a.glb"
    for _ in range(400):
        mutant = bytearray(data[: int(random.integers(4, len(data)))] if random.random() < 0.2 else data)
        for _ in range(int(random.integers(1, 5))):
            mutant[int(random.integers(len(mutant)))] = int(random.integers(32, 127))
        try:
            read_splats(write(path, bytes(mutant)))
        except GaussianVAEError as error:
            assert "\n" not in str(error)


@pytest.mark.real
def test_the_conformance_matrix(data: Path) -> None:
    """Fifteen Gaussians in as many nodes, each with another type of accessor: decoded here by hand."""
    path = data / "splats" / "khr_conformance_matrix.glb"
    splats = read_splats(path)
    assert len(splats) == 15 and splats.sh_degree == 3
    raw = path.read_bytes()
    size = struct.unpack("<I", raw[12:16])[0]
    content, binary = json.loads(raw[20 : 20 + size]), raw[28 + size :]
    kinds = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
    for row, mesh in enumerate(content["meshes"]):
        values = {}
        for name, index in mesh["primitives"][0]["attributes"].items():
            accessor = content["accessors"][index]
            kind = np.dtype(kinds[accessor["componentType"]])
            count = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
            numbers = np.frombuffer(binary, kind, count, content["bufferViews"][accessor["bufferView"]]["byteOffset"])
            scale = np.iinfo(kind).max if accessor.get("normalized") else 1
            values[name.split(":")[-1]] = np.maximum(numbers / scale, -1) if scale > 1 else numbers.astype(np.float64)
        np.testing.assert_allclose(splats.means[row].numpy(), UP @ values["POSITION"], rtol=1e-6)
        np.testing.assert_allclose(splats.opacities[row].item(), values["OPACITY"][0], rtol=1e-6)
        np.testing.assert_allclose(splats.scales[row].numpy(), np.abs(values["SCALE"]), rtol=1e-6)
        np.testing.assert_allclose(splats.sh0[row, 0].numpy(), values["SH_DEGREE_0_COEF_0"], rtol=1e-6)
        columns = {name: value[None] for name, value in values.items()}
        columns["ROTATION"] = columns["ROTATION"] / np.linalg.norm(columns["ROTATION"])
        shape = covariances(splats.quats, splats.scales)[row]
        np.testing.assert_allclose(shape, UP @ covariance(columns)[0] @ UP, atol=1e-5)
        for band, names in enumerate((3, 5, 7), 1):
            signs = [-1 if m % 2 else 1 for m in range(-band, band + 1)]
            zero = np.zeros(3)
            mine = splats.shN[row, band * band - 1 : (band + 1) ** 2 - 1].numpy()
            theirs = np.array(
                [s * values.get(f"SH_DEGREE_{band}_COEF_{n}", zero) for n, s in zip(range(names), signs, strict=True)]
            )
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.real
def test_real_spz_inside_and_real_meshes(data: Path) -> None:
    splats = read_splats(data / "splats" / "khr_spz_basic.glb")
    # (1, 2, 3) by the accessor's bounds; its node takes (x, y, z) to (x, z, -y)
    np.testing.assert_allclose(splats.means.numpy(), [[-1, -3, -2]], atol=1e-6)
    for mesh in ("kh_Duck", "kh_CesiumMan", "ph_wooden_table_02"):
        with pytest.raises(GaussianVAEError, match="is a mesh"):
            read_splats(data / "assets" / f"{mesh}.glb")
