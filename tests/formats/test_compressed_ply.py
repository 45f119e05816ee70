"""PlayCanvas compressed PLY against a scalar decoder written from the format's description."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plyfiles import rows_of

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import read_splats, write_splats
from gaussianvae.formats.morton import morton_order
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import quats_to_rotmats
from gaussianvae.scene.splats import STATE, Splats
from scenes import Told, random_splats

SPACE = [f"{end}_{axis}" for end in ("min", "max") for axis in "xyz"]
SCALE = [f"{end}_scale_{axis}" for end in ("min", "max") for axis in "xyz"]
COLOR = [f"{end}_{channel}" for end in ("min", "max") for channel in "rgb"]
PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]


def compressed(count: int, rest: int = 0, colors: bool = True) -> tuple[bytes, NDArray[Any], NDArray[Any]]:
    """A file of random bits, its chunks and its vertices."""
    random = np.random.default_rng(0)
    chunks = rows_of(-(-count // 256), [*SPACE, *SCALE, *(COLOR if colors else [])])
    vertices = np.zeros(count, [(name, "<u4") for name in PACKED])
    for name in PACKED:
        vertices[name] = random.integers(0, 2**32, count)
    header = ["ply", "format binary_little_endian 1.0", "comment SplatRenderMode: mip"]
    header += [f"element chunk {len(chunks)}", *(f"property float {name}" for name in chunks.dtype.names or ())]
    header += [f"element vertex {count}", *(f"property uint {name}" for name in PACKED)]
    header += [f"element sh {count}", *(f"property uchar f_rest_{k}" for k in range(rest))] if rest else []
    harmonics = np.arange(count * rest, dtype=np.int64).astype(np.uint8).tobytes()
    data = "\n".join([*header, "end_header", ""]).encode() + chunks.tobytes() + vertices.tobytes() + harmonics
    return data, chunks, vertices


def decode_row(chunk: Any, vertex: Any, colors: bool) -> list[float]:
    """Mean, scales, quaternion, RGB and opacity of one Gaussian."""

    def lerp(name: str, unit: float) -> float:
        return float(chunk[f"min_{name}"]) + unit * (float(chunk[f"max_{name}"]) - float(chunk[f"min_{name}"]))

    def bits(word: int, high: int, count: int) -> float:
        return float(f"{word:032b}"[31 - high : 31 - high + count] and int(f"{word:032b}"[31 - high :][:count], 2))

    position, rotation, scale, color = (int(vertex[name]) for name in PACKED)
    mean = [lerp(n, bits(position, h, c) / (2**c - 1)) for n, h, c in (("x", 31, 11), ("y", 20, 10), ("z", 10, 11))]
    scales = [
        math.exp(lerp(f"scale_{n}", bits(scale, h, c) / (2**c - 1)))
        for n, h, c in (("x", 31, 11), ("y", 20, 10), ("z", 10, 11))
    ]
    others = [(bits(rotation, high, 10) / 1023 - 0.5) * math.sqrt(2) for high in (29, 19, 9)]
    largest = math.sqrt(max(0.0, 1 - sum(v * v for v in others)))
    quat = list(others)
    quat.insert(rotation >> 30, largest)
    length = math.sqrt(sum(v * v for v in quat))
    red, green, blue, alpha = struct.pack(">I", color)
    rgb = [v / 255 for v in (red, green, blue)]
    rgb = [lerp(name, v) for name, v in zip("rgb", rgb, strict=True)] if colors else rgb
    return [*mean, *scales, *(v / length for v in quat), *rgb, alpha / 255]


@pytest.mark.parametrize("colors", [True, False])
def test_every_bit_is_understood(tmp_path: Path, colors: bool) -> None:
    data, chunks, vertices = compressed(300, colors=colors)
    (tmp_path / "a.compressed.ply").write_bytes(data)
    splats = read_splats(tmp_path / "a.compressed.ply")
    truth = np.array([decode_row(chunks[i // 256], vertices[i], colors) for i in range(300)])
    rgb = 0.5 + 0.28209479177387814 * splats.sh0[:, 0]
    read = torch.cat([splats.means, splats.scales, splats.quats, rgb, splats.opacities[:, None]], 1)
    np.testing.assert_allclose(read.numpy(), truth, rtol=1e-5, atol=1e-6)
    assert splats.recipe.mode == "mip" and splats.stored is None


@pytest.mark.parametrize(("rest", "degree"), [(9, 1), (24, 2), (45, 3)])
def test_harmonics_are_channel_major_bytes(tmp_path: Path, rest: int, degree: int) -> None:
    (tmp_path / "a.ply").write_bytes(compressed(40, rest)[0])
    splats = read_splats(tmp_path / "a.ply")
    assert splats.sh_degree == degree
    k = rest // 3
    for row, channel, j in ((0, 0, 0), (3, 1, 2), (17, 2, k - 1), (39, 0, 1)):
        byte = (row * rest + channel * k + j) % 256
        unit = {0: 0.0, 255: 1.0}.get(byte, (byte + 0.5) / 256)
        assert float(splats.shN[row, j, channel]) == pytest.approx((unit - 0.5) * 8)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"element chunk 2", b"element chunk 1", "need 2 chunks"),
        (b"float min_x", b"float mim_x", "lacks min_x"),
        (b"float max_scale_z", b"double max_scale_z", "max_scale_z"),
        (b"uint packed_color", b"float packed_color", "packed_color"),
        (b"uint packed_rotation", b"uint packed_rotatio", "packed_rotation"),
        (b"uchar f_rest_3", b"uchar f_rest_x", "harmonics"),
        (b"uchar f_rest_8", b"uchar f_rest_8\nproperty uchar f_rest_9", "10 harmonics"),
        (b"element sh 300", b"element sh 299", "299 of 300"),
        (b"element vertex 300", b"element vertex 400", "need 2 chunks|cut off|300 of 400"),
        (b"element vertex", b"element vortex", "compressed"),
    ],
)
def test_broken_files_are_one_clear_line(tmp_path: Path, old: bytes, new: bytes, says: str) -> None:
    data = compressed(300, 9)[0]
    assert old in data
    (tmp_path / "a.ply").write_bytes(data.replace(old, new))
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_splats(tmp_path / "a.ply")
    assert "\n" not in str(caught.value)


def test_damaged_chunks_and_mutants_raise_nothing_but_our_error(tmp_path: Path) -> None:
    data, chunks, _ = compressed(300, 9)
    path = tmp_path / "a.ply"
    for value, says in ((np.nan, "scales"), (np.inf, "scales"), (3e38, "scales")):
        broken = chunks.copy()
        broken["max_scale_y"] = value
        path.write_bytes(data.replace(chunks.tobytes(), broken.tobytes()))
        with pytest.raises(GaussianVAEError, match=says):
            read_splats(path)
    random = np.random.default_rng(0)
    for _ in range(100):
        mutant = bytearray(data[: int(random.integers(1, len(data)))] if random.random() < 0.3 else data)
        for _ in range(int(random.integers(1, 6))):
            mutant[int(random.integers(min(1100, len(mutant))))] = int(random.integers(256))
        path.write_bytes(mutant)
        try:
            read_splats(path)
        except GaussianVAEError:
            continue


def sorted_like_the_file(splats: Splats) -> Splats:
    return splats.select(torch.from_numpy(morton_order(splats.means.numpy())))


def extents(values: torch.Tensor) -> torch.Tensor:
    """Of each row's chunk, by column."""
    chunks = [(part.max(0).values - part.min(0).values).expand(len(part), -1) for part in values.split(256)]
    return torch.cat(chunks)


@settings(max_examples=25)
@given(count=st.integers(1, 600), degree=st.integers(0, 3), seed=st.integers(0, 1000))
def test_a_round_trip_is_off_by_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, count: int, degree: int, seed: int
) -> None:
    splats = random_splats(count, degree, seed)
    path = tmp_path_factory.mktemp("ply") / "a.compressed.ply"
    write_splats(path, splats)
    read, splats = read_splats(path), sorted_like_the_file(splats)
    assert read.sh_degree == degree and read.recipe == splats.recipe and read.stored is None
    half = 0.5 / torch.tensor([2047.0, 1023.0, 2047.0])
    for mine, theirs in ((splats.means, read.means), (splats.scales.log(), read.scales.log())):
        assert bool(((mine - theirs).abs() <= extents(mine) * half * 1.001 + 1e-5).all())
    assert float((splats.opacities - read.opacities).abs().max()) <= 0.5 / 255 + 1e-6
    rgb = 0.28209479177387814 * splats.sh0[:, 0]
    assert bool(((rgb - 0.28209479177387814 * read.sh0[:, 0]).abs() <= extents(rgb) * 0.5 / 255 + 1e-6).all())
    if degree:
        # steps of 1/32; the outermost bytes stand for the ends
        assert float((splats.shN - read.shN).abs().max()) <= 1 / 64 + 1e-6
    turns = quats_to_rotmats(splats.quats.double()).transpose(1, 2) @ quats_to_rotmats(read.quats.double())
    cosines = ((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    assert float(torch.rad2deg(torch.acos(cosines)).max()) < 0.3


def test_written_files_are_what_the_description_decodes(tmp_path: Path) -> None:
    splats = random_splats(300, 1)
    write_splats(tmp_path / "a.compressed.ply", splats)
    head, body = (tmp_path / "a.compressed.ply").read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    assert [line for line in lines if line.startswith("element")] == [
        "element chunk 2",
        "element vertex 300",
        "element sh 300",
    ]
    names = [line.split()[-1] for line in lines if line.startswith("property")]
    assert names == [*SPACE, *SCALE, *COLOR, *PACKED, *(f"f_rest_{k}" for k in range(9))]
    assert "comment SplatRenderMode: mip" in lines and len(body) == 2 * 72 + 300 * (16 + 9)
    chunks = np.frombuffer(body, [(name, "<f4") for name in [*SPACE, *SCALE, *COLOR]], 2)
    vertices = np.frombuffer(body, [(name, "<u4") for name in PACKED], 300, chunks.nbytes)
    rest = np.frombuffer(body, np.uint8, offset=chunks.nbytes + vertices.nbytes).reshape(300, 9)
    splats = sorted_like_the_file(splats)
    for row in range(300):
        decoded = np.array(decode_row(chunks[row // 256], vertices[row], True))
        quat = splats.quats[row] * torch.sign(splats.quats[row][splats.quats[row].abs().argmax()])
        rgb = 0.5 + 0.28209479177387814 * splats.sh0[row, 0]
        np.testing.assert_allclose(decoded[:3], splats.means[row], atol=2e-3)
        np.testing.assert_allclose(np.log(decoded[3:6]), splats.scales[row].log(), atol=2e-3)
        np.testing.assert_allclose(decoded[6:10], quat, atol=2e-3)
        np.testing.assert_allclose(decoded[10:13], rgb, atol=5e-3)
        assert decoded[13] == pytest.approx(float(splats.opacities[row]), abs=2e-3)
        for channel in range(3):
            for j in range(3):
                value = float(splats.shN[row, j, channel])
                assert rest[row, channel * 3 + j] == max(0, min(255, math.trunc((value / 8 + 0.5) * 256)))


def test_edges_of_what_is_written(tmp_path: Path) -> None:
    """Chunks without extent, scales of 0, harmonics beyond the range, opacities of 0 and 1, no rows at all."""
    path = tmp_path / "a.compressed.ply"
    splats = random_splats(300, 1)
    same = splats.select(torch.full((300,), 7))
    write_splats(path, same)
    read = read_splats(path)
    for name in STATE:
        atol = {"quats": 1e-3, "shN": 1 / 64 + 1e-6, "opacities": 2e-3}.get(name, 1e-5)
        theirs = getattr(read, name)
        theirs = theirs * torch.sign((read.quats * same.quats).sum(1))[:, None] if name == "quats" else theirs
        torch.testing.assert_close(theirs, getattr(same, name), atol=atol, rtol=0)
    rows = torch.arange(300)
    edge = replace(
        splats,
        scales=torch.where(rows[:, None] == 3, 0.0, splats.scales),
        opacities=(rows % 2).float(),
        shN=splats.shN.index_fill(0, torch.tensor([5]), 9.0),
        extras={"provenance": rows},
    )
    told = Told()
    write_splats(path, edge, report=told)
    assert told.messages == [
        "a.compressed.ply: compressed PLY can't hold extra properties (provenance), sizes outside exp(-20) to exp(20) "
        "(1 of 300 Gaussians), spherical harmonics beyond 4 (1 of 300 Gaussians)"
    ]
    read, edge = read_splats(path), sorted_like_the_file(edge)
    assert torch.equal(read.opacities, edge.opacities)
    assert float(read.shN.max()) == 4 and float(read.scales.min()) == pytest.approx(math.exp(-20), rel=1e-3)
    write_splats(path, splats.select(torch.arange(0)))
    assert len(read_splats(path)) == 0


def test_comments_and_recipe_stay(tmp_path: Path) -> None:
    recipe = Recipe(mode="classic", eps2d=0.3, width=100)
    splats = replace(random_splats(9, 0, recipe=recipe), comments=("Exported from X",))
    write_splats(tmp_path / "a.compressed.ply", splats)
    read = read_splats(tmp_path / "a.compressed.ply")
    assert read.recipe == recipe and read.comments == ("Exported from X",)
    with pytest.raises(GaussianVAEError, match="no finite"):
        write_splats(tmp_path / "b.compressed.ply", replace(splats, means=splats.means * math.inf))
    assert not (tmp_path / "b.compressed.ply").exists()


@pytest.mark.real
def test_a_real_scene_decodes_as_its_description_says(data: Path) -> None:
    path = data / "splats" / "biker.compressed.ply"
    splats = read_splats(path)
    assert len(splats) == 152_746 and splats.sh_degree == 0
    body = path.read_bytes().split(b"end_header\n", 1)[1]
    chunks = np.frombuffer(body, [(name, "<f4") for name in [*SPACE, *SCALE, *COLOR]], 597)
    vertices = np.frombuffer(body, [(name, "<u4") for name in PACKED], len(splats), chunks.nbytes)
    for row in range(0, len(splats), 997):
        truth = decode_row(chunks[row // 256], vertices[row], True)
        read = [*splats.means[row], *splats.scales[row], *splats.quats[row]]
        read += [*(0.5 + 0.28209479177387814 * splats.sh0[row, 0]), splats.opacities[row]]
        np.testing.assert_allclose([float(v) for v in read], truth, rtol=2e-5, atol=2e-6)
