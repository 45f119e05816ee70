"""Small COLMAP captures, written from COLMAP's description of its files, and a reader of its own for real ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
NUMBERS = {
    "SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "OPENCV_FISHEYE": 5, "FOV": 7,
    "SIMPLE_RADIAL_FISHEYE": 8, "RADIAL_FISHEYE": 9,
}  # fmt: skip


@dataclass
class Shot:
    """A row of images: quaternion wxyz, translation, camera id, name, 2D points, ids of their 3D points (-1: none)."""

    quat: list[float]
    translation: list[float]
    camera: int
    name: str
    points: Array = field(default_factory=lambda: np.zeros((0, 2)))
    ids: list[int] = field(default_factory=list)


@dataclass
class Model:
    """All of a sparse model."""

    cameras: dict[int, tuple[str, int, int, list[float]]]
    """By id: model, width, height, parameters."""
    shots: dict[int, Shot]
    points: dict[int, tuple[list[float], list[int], float, list[tuple[int, int]]]]
    """By id: position, color, error, track (image id, index of its 2D point)."""


def random_model(views: int = 5, size: tuple[int, int] = (20, 14), points: int = 6, seed: int = 0) -> Model:
    """One camera of every known model, shared by several photos or not; unsorted names with folders and blanks."""
    random = np.random.default_rng(seed)
    w, h = size
    lenses = {"SIMPLE_PINHOLE": [21.5], "PINHOLE": [20.25, 22.0], "SIMPLE_RADIAL": [19.0], "RADIAL": [18.5]}
    ends = {"SIMPLE_RADIAL": [0.05], "RADIAL": [0.04, -0.02], "OPENCV": [0.03, -0.05, 0.002, -0.003]}
    cameras = {
        3 + 2 * i: (name, w, h, [*lenses.get(name, [18.0, 18.75]), w / 2 + 0.25, h / 2 - 0.5, *ends.get(name, [])])
        for i, name in enumerate(("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"))
    }
    shots = {}
    for view in range(views):
        quat = random.normal(size=4)
        quat /= np.linalg.norm(quat)
        seen = int(random.integers(0, 4)) if view else 0  # the first sees nothing: an empty line in the text
        name = f"left/b {(7 * view) % views:02d}.png" if view % 2 else f"a{(7 * view) % views:02d}.png"
        ids = random.integers(-1, points, seen).tolist()
        camera = sorted(cameras)[view % len(cameras)]
        shots[10 + view] = Shot(
            quat.tolist(), random.normal(size=3).tolist(), camera, name, random.random((seen, 2)) * w, ids
        )
    cloud = {
        100 + p: (
            random.normal(size=3).tolist(),
            random.integers(0, 256, 3).tolist(),
            float(random.random()),
            [(10, int(index)) for index in random.integers(0, 9, random.integers(0, 4))],
        )
        for p in range(points)
    }
    return Model(cameras, shots, cloud)


def write_binary(folder: Path, model: Model) -> None:
    """Write cameras.bin, images.bin and points3D.bin."""
    folder.mkdir(parents=True, exist_ok=True)
    data = struct.pack("<Q", len(model.cameras))
    for key, (name, width, height, parameters) in model.cameras.items():
        data += struct.pack("<iiQQ", key, NUMBERS[name], width, height)
        data += struct.pack(f"<{len(parameters)}d", *parameters)
    (folder / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", len(model.shots))
    for key, shot in model.shots.items():
        data += struct.pack("<i4d3di", key, *shot.quat, *shot.translation, shot.camera) + shot.name.encode() + b"\0"
        data += struct.pack("<Q", len(shot.ids))
        for (x, y), point in zip(shot.points, shot.ids, strict=True):
            data += struct.pack("<ddq", x, y, point)
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(model.points))
    for key, (position, color, error, track) in model.points.items():
        data += struct.pack("<Q3d3BdQ", key, *position, *color, error, len(track))
        for element in track:
            data += struct.pack("<ii", *element)
    (folder / "points3D.bin").write_bytes(data)


def write_text(folder: Path, model: Model) -> None:
    """Write cameras.txt, images.txt and points3D.txt."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, lines: list[list[object]]) -> None:
        text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
        (folder / f"{name}.txt").write_text(f"# {name}, made by hand\n# ID ...\n{text}")

    write("cameras", [[key, name, w, h, *rest] for key, (name, w, h, rest) in model.cameras.items()])
    lines: list[list[object]] = []
    for key, shot in model.shots.items():
        lines.append([key, *shot.quat, *shot.translation, shot.camera, shot.name])
        lines.append(
            [word for (x, y), p in zip(shot.points, shot.ids, strict=True) for word in (float(x), float(y), p)]
        )
    write("images", lines)
    write(
        "points3D",
        [
            [key, *position, *color, error, *(word for element in track for word in element)]
            for key, (position, color, error, track) in model.points.items()
        ],
    )


def write_photos(folder: Path, model: Model, mode: str = "RGB", shrink: int = 1) -> None:
    """Write gray photos of the cameras' sizes, or smaller ones."""
    for shot in model.shots.values():
        _, width, height, _ = model.cameras[shot.camera]
        path = folder / "images" / shot.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (width // shrink, height // shrink), (90,) * len(mode)).save(path)


def write_colmap(folder: Path, model: Model | None = None, place: str = "sparse/0") -> Model:
    """Write a whole capture with a binary model."""
    model = model or random_model()
    write_binary(folder / place, model)
    write_photos(folder, model)
    return model


def distorted(x: Array, y: Array, k1: float, k2: float, p1: float, p2: float) -> tuple[Array, Array]:
    """OpenCV's documentation, written down: x'' = x' (1 + k1 r^2 + k2 r^4) + 2 p1 x' y' + p2 (r^2 + 2 x'^2), ..."""
    r2 = x**2 + y**2
    factor = 1 + k1 * r2 + k2 * r2**2
    return (
        x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * factor + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


def straight(x: Array, y: Array, lens: tuple[float, float, float, float]) -> tuple[Array, Array]:
    """The inverse of `distorted`, by Newton's method with numeric derivatives."""
    u, v, e = x.copy(), y.copy(), 1e-6
    for _ in range(12):
        a, b = distorted(u, v, *lens)
        ax, bx = (
            (p - m) / (2 * e) for p, m in zip(distorted(u + e, v, *lens), distorted(u - e, v, *lens), strict=True)
        )
        ay, by = (
            (p - m) / (2 * e) for p, m in zip(distorted(u, v + e, *lens), distorted(u, v - e, *lens), strict=True)
        )
        det = ax * by - ay * bx
        u, v = u - (by * (a - x) - ay * (b - y)) / det, v - (ax * (b - y) - bx * (a - x)) / det
    return u, v


def bent_photo(size: tuple[int, int], focals: Array, center: Array, lens: tuple[float, ...], see: Callable) -> Array:
    """A photo (H, W, C) of `see(x, y)` through a lens, sampled at the pixels' centers."""
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    x, y = straight((u - center[0]) / focals[0], (v - center[1]) / focals[1], lens)  # type: ignore[arg-type]
    return see(x, y)


Cameras = dict[int, tuple[int, list[float]]]
Points = dict[int, tuple[Array, float, set[int]]]


def read_real(folder: Path) -> tuple[Cameras, dict[int, Shot], Points]:
    """By id: cameras (model's number, parameters), images with 2D points, points (position, error, images)."""
    counts = {0: 3, 1: 4, 2: 4, 3: 5, 4: 8}
    data, at, cameras = (folder / "cameras.bin").read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", data)[0]):
        key, model = struct.unpack_from("<ii", data, at)
        cameras[key] = (model, list(struct.unpack_from(f"<{counts[model]}d", data, at + 24)))
        at += 24 + 8 * counts[model]
    shots: dict[int, Shot] = {}
    if (folder / "images.bin").is_file():
        data, at = (folder / "images.bin").read_bytes(), 8
        for _ in range(struct.unpack_from("<Q", data)[0]):
            key, *pose, camera = struct.unpack_from("<i7di", data, at)
            end = data.index(b"\0", at + 64)
            (count,) = struct.unpack_from("<Q", data, end + 1)
            rows = np.frombuffer(data, np.dtype([("xy", "<f8", 2), ("id", "<i8")]), count, end + 9)
            name = data[at + 64 : end].decode()
            shots[key] = Shot(pose[:4], pose[4:], camera, name, rows["xy"], rows["id"].tolist())
            at = end + 9 + 24 * count
    data, at, points = (folder / "points3D.bin").read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", data)[0]):
        key, x, y, z, _, _, _, error, track = struct.unpack_from("<Q3d3BdQ", data, at)
        images = set(struct.unpack_from(f"<{2 * track}i", data, at + 51)[::2])
        points[key] = (np.array([x, y, z]), error, images)
        at += 51 + 8 * track
    return cameras, shots, points
