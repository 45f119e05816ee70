"""What the fuzzer damages: one honest example of every kind of file that is read."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from colmapfiles import random_model, write_binary, write_photos, write_text
from PIL import Image
from plyfiles import file_of, names_of, rows_of
from sogfiles import sog_files
from spzfiles import file_of as spz_of
from spzfiles import random_parts
from test_nerfstudio import write_ngp
from test_other_layouts import write_llff

from fuzzing import Target, in_glb, in_gzip, in_zip, in_zstd
from gaussianvae.captures import load_views, read_capture
from gaussianvae.captures.arrays import read_floats
from gaussianvae.formats import read_cameras, read_splats, write_cameras, write_splats
from gaussianvae.growth.lineage import Level, Lineage, read_lineage, write_lineage
from scenes import random_splats, ring_cameras
from tiny_capture import write_capture

ROWS = 600


def _splat(name: str, ending: str, data: bytes, repack: Any = None) -> Target:
    def read(folder: Path) -> object:
        return read_splats(folder / f"a{ending}")

    return Target(name, {f"a{ending}": data}, read, repack=repack)


def _files(make: Callable[[Path], object]) -> dict[str, bytes]:
    """What `make` writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }


def _written(ending: str) -> bytes:
    """A splat in a format that we write."""
    splats = replace(random_splats(ROWS, degree=1), comments=("made by hand", "SplatRenderMode: mip"))
    return next(iter(_files(lambda folder: write_splats(folder / f"a{ending}", splats)).values()))


def ply_targets() -> list[Target]:
    rows = rows_of(ROWS, [*names_of(1), "filter_3D", "nx"], seed=1)
    data = file_of(rows, ["SplatRenderMode: mip", 'gaussianvae-recipe: {"mode": "mip", "width": 100}'])
    head, _ = data.split(b"end_header\n", 1)
    lines = "\n".join(" ".join(map(str, row)) for row in rows.tolist()).encode()
    text = head.replace(b"binary_little_endian", b"ascii") + b"end_header\n" + lines + b"\n"
    double = rows.astype([(name, ">f8") for name in rows.dtype.names or ()])
    big = file_of(double).replace(b"little", b"big", 1)
    return [
        _splat("ply", ".ply", data),
        _splat("ply_ascii", ".ply", text),
        _splat("ply_big_endian", ".ply", big),
        _splat("compressed_ply", ".compressed.ply", _written(".compressed.ply")),
    ]


def glb() -> bytes:
    """A glTF splat of a few Gaussians, without harmonics beyond the first band."""
    random = np.random.default_rng(0)
    quats = random.normal(size=(8, 4))
    values = {
        "POSITION": random.normal(size=(8, 3)),
        "KHR_gaussian_splatting:ROTATION": quats / np.linalg.norm(quats, axis=1, keepdims=True),
        "KHR_gaussian_splatting:SCALE": random.uniform(0.01, 0.1, (8, 3)),
        "KHR_gaussian_splatting:OPACITY": random.uniform(0.1, 1, (8, 1)),
        "KHR_gaussian_splatting:SH_DEGREE_0_COEF_0": random.normal(size=(8, 3)),
        **{f"KHR_gaussian_splatting:SH_DEGREE_1_COEF_{k}": random.normal(size=(8, 3)) for k in range(3)},
    }
    blob, views, accessors = b"", [], []
    for array in values.values():
        part = array.astype("<f4").tobytes()
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(part)})
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[array.shape[1]]
        accessors.append({"bufferView": len(views) - 1, "componentType": 5126, "count": 8, "type": kind})
        blob += part
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitive = {
        "mode": 0,
        "attributes": {name: index for index, name in enumerate(values)},
        "extensions": {"KHR_gaussian_splatting": extension},
    }
    content = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [1, 2, 3], "children": [1]}, {"mesh": 0, "scale": [2, 2, 2]}],
        "meshes": [{"primitives": [primitive]}], "buffers": [{"byteLength": len(blob)}],
        "bufferViews": views, "accessors": accessors, "extensionsUsed": ["KHR_gaussian_splatting"],
    }  # fmt: skip
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(blob))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob


def bundle(files: dict[str, bytes]) -> bytes:
    """Files in a zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def other_splats() -> list[Target]:
    spz = {version: spz_of(version, ROWS, 1, random_parts(version, ROWS, 1)) for version in (1, 2, 3, 4)}
    folder = sog_files(ROWS, 1)[0]
    return [
        *(_splat(f"spz_v{version}", ".spz", spz[version], in_gzip) for version in (1, 2, 3)),
        _splat("spz_v4", ".spz", spz[4], in_zstd),
        _splat("splat", ".splat", _written(".splat")),
        _splat("sog", ".sog", bundle(folder), in_zip),
        Target("sog_v1_folder", sog_files(ROWS, 1, version=1)[0], lambda place: read_splats(place)),
        _splat("gltf", ".glb", glb(), in_glb),
    ]


def capture_targets() -> list[Target]:
    def read(folder: Path) -> object:
        capture = read_capture(folder)
        return load_views(capture, capture.train[:2], 2.0)

    def colmap(folder: Path, text: bool) -> None:
        model = random_model(4)
        (write_text if text else write_binary)(folder / "sparse" / "0", model)
        write_photos(folder, model)

    def synthetic(folder: Path) -> None:
        write_capture(folder, 16, 3, 1)

    def ngp(folder: Path) -> None:
        write_ngp(folder, 4, k1=0.05, k2=-0.02, p1=0.001, p2=-0.002)

    def llff(folder: Path) -> None:
        write_llff(folder, 4)

    return [
        Target("nerf_synthetic", _files(synthetic), read),
        Target("colmap_binary", _files(lambda folder: colmap(folder, False)), read),
        Target("colmap_text", _files(lambda folder: colmap(folder, True)), read),
        Target("nerfstudio", _files(ngp), read, ["transforms.json"]),
        Target("llff", _files(llff), read, ["poses_bounds.npy"]),
    ]


def own_targets() -> list[Target]:
    splats = random_splats(20)
    lineage = Lineage((Level(2.0, random_splats(8), torch.arange(20) % 8), Level(1.0, splats, torch.arange(20))))
    return [
        Target(
            "cameras",
            _files(lambda folder: write_cameras(folder / "a.cameras.json", ring_cameras(3))),
            lambda folder: read_cameras(folder / "a.cameras.json"),
        ),
        Target(
            "lineage",
            _files(lambda folder: write_lineage(folder / "a.safetensors", lineage)),
            lambda folder: read_lineage(folder / "a.safetensors"),
        ),
        Target("depth", {"a.npy": _depth()}, lambda folder: read_floats(folder / "a.npy", "a depth map")),
        Target("photo", {"a.png": _png()}, _look_at_photo),
    ]


def _depth() -> bytes:
    out = io.BytesIO()
    np.save(out, np.ones((6, 5), np.float32))
    return out.getvalue()


def _png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)).save(out, "PNG")
    return out.getvalue()


def _look_at_photo(folder: Path) -> object:
    from gaussianvae.captures.photos import decode, look

    size, has_alpha = look(folder / "a.png")
    pixels = decode(folder / "a.png", has_alpha)
    return size, pixels


def targets() -> list[Target]:
    """All of them."""
    return [*ply_targets(), *other_splats(), *capture_targets(), *own_targets()]
