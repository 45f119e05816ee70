"""COLMAP's sparse models: cameras, images and points3D, as binary and as text files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures.capture import SparsePoints
from gaussianvae.captures.posed import pinhole
from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.rotations import quats_to_rotmats

PLACES = ("sparse/0", "sparse", "colmap/sparse/0", ".")
"""Where a capture's folder may have its model, first come, first served."""

# by the number that the binary files have for a model
_NAMES = (
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV",
    "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE",
    "SIMPLE_DIVISION", "DIVISION", "SIMPLE_FISHEYE", "FISHEYE", "EUCM", "EQUIRECTANGULAR",
)  # fmt: skip
_COUNTS = {
    "SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8,
    "OPENCV_FISHEYE": 8, "SIMPLE_RADIAL_FISHEYE": 4, "RADIAL_FISHEYE": 5,
}  # fmt: skip
"""Parameters of the models that can be brought to a pinhole."""

_HEAD = struct.Struct("<iiQQ")  # camera id, model, width, height
_POSE = struct.Struct("<i7di")  # image id, quaternion, translation, camera id
_POINT = struct.Struct("<Q3d3BdQ")  # id, position, color, error, length of the track
_COUNT = struct.Struct("<Q")
_OBSERVATION, _TRACK = 24, 8
"""Bytes of a 2D point of an image, and of an element of a point's track."""


@dataclass(frozen=True)
class ModelCamera:
    """A camera that photos share, or that one photo has."""

    K: Float[Tensor, "3 3"]
    """Intrinsics in pixels, float64."""
    coefficients: tuple[float, ...]
    """Of its lens, as `undistort.Lens` has them; zeros: a pinhole, unless it is a fisheye."""
    fisheye: bool
    size: tuple[int, int]
    """(width, height) in pixels."""


@dataclass(frozen=True)
class ModelImage:
    """A posed photo."""

    name: str
    """Its path within the folder of photos."""
    camera: int
    viewmat: Float[Tensor, "4 4"]
    """World-to-camera, OpenCV axes, float64."""


def find_model(
    folder: Path, places: Sequence[str] = PLACES, names: Sequence[str] = ("cameras", "images")
) -> Path | None:
    """The place within a folder that has all files of a model that are asked for, of one kind; None without."""
    return next(
        (
            folder / place
            for place in places
            if any(all((folder / place / (name + kind)).is_file() for name in names) for kind in (".bin", ".txt"))
        ),
        None,
    )


def model_file(model: Path, name: str) -> Path:
    """The binary file where there is one, else the text file (which may be absent)."""
    binary = model / f"{name}.bin"
    return binary if binary.is_file() else model / f"{name}.txt"


def read_model_cameras(file: Path) -> Mapping[int, ModelCamera]:
    """Read cameras.bin or cameras.txt: cameras by their ids.

    Raises:
        GaussianVAEError: a broken file, or a camera model that can't be brought to a pinhole.
    """
    return dict(_cameras_of_text(file) if file.suffix == ".txt" else _cameras_of_binary(file))


def read_model_images(file: Path) -> list[ModelImage]:
    """Read images.bin or images.txt, in the order of the names.

    Raises:
        GaussianVAEError: a broken file, or a pose that is none.
    """
    images = list(_images_of_text(file) if file.suffix == ".txt" else _images_of_binary(file))
    return sorted(images, key=lambda image: image.name)


def read_model_points(file: Path) -> SparsePoints:
    """Read points3D.bin or points3D.txt, in the order of the file.

    Raises:
        GaussianVAEError: a broken file, or a point that isn't finite.
    """
    rows = list(_points_of_text(file) if file.suffix == ".txt" else _points_of_binary(file))
    # a row: position, color 0-255, error, length of the track
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 8)
    points = SparsePoints(table[:, :3].float(), (table[:, 3:6] / 255).float(), table[:, 6].float(), table[:, 7].long())
    if not bool(points.means.isfinite().all() & ((points.colors >= 0) & (points.colors <= 1)).all()):
        raise GaussianVAEError(f"{file}: has a point that isn't finite or whose color isn't 0-255")
    return points


def _cameras_of_binary(file: Path) -> Iterator[tuple[int, ModelCamera]]:
    data = _Binary(file)
    for _ in range(data.count(_HEAD.size)):
        camera, model, width, height = data.take(_HEAD)
        name = _NAMES[model] if 0 <= model < len(_NAMES) else f"number {model}"
        _check_model(file, camera, name)
        yield camera, _camera(file, camera, name, (width, height), data.take(struct.Struct(f"<{_COUNTS[name]}d")))
    data.end()


def _cameras_of_text(file: Path) -> Iterator[tuple[int, ModelCamera]]:
    for number, line in _lines(file):
        with _line(file, number):
            camera, name, width, height, *words = line.split()
            _check_model(file, camera, name)
            parameters = [float(word) for word in words]
            if len(parameters) != _COUNTS[name]:
                raise ValueError
            one = int(camera), _camera(file, camera, name, (int(width), int(height)), parameters)
        yield one


def _check_model(file: Path, camera: int | str, name: str) -> None:
    if name not in _COUNTS:
        raise GaussianVAEError(
            f"{file}: camera {camera} has the model {name}; known are {', '.join(_COUNTS)}: "
            "undistort the photos with COLMAP's image_undistorter"
        )


def _camera(file: Path, camera: int | str, name: str, size: tuple[int, int], values: Sequence[float]) -> ModelCamera:
    where = f"{file}: camera {camera}"
    focals = 2 if name in ("PINHOLE", "OPENCV", "OPENCV_FISHEYE") else 1
    K = pinhole(where, values[0], values[focals - 1], values[focals], values[focals + 1])
    coefficients = (*values[focals + 2 :], 0.0, 0.0, 0.0, 0.0)[:4]
    if min(size) < 1 or not bool(torch.tensor(coefficients).isfinite().all()):
        shown = ", ".join(f"{value:g}" for value in coefficients)
        raise GaussianVAEError(f"{where}: is {size[0]}x{size[1]} px with distortion {shown}")
    return ModelCamera(K, coefficients, name.endswith("FISHEYE"), size)


def _images_of_binary(file: Path) -> Iterator[ModelImage]:
    data = _Binary(file)
    for _ in range(data.count(_POSE.size)):
        _, *pose, camera = data.take(_POSE)
        name = data.text()
        data.skip(data.take(_COUNT)[0] * _OBSERVATION)
        yield ModelImage(name, camera, _viewmat(file, name, pose))
    data.end()


def _images_of_text(file: Path) -> Iterator[ModelImage]:
    lines = _lines(file, keep_empty=True)
    for number, line in lines:
        if not line:
            continue
        with _line(file, number):
            _, *pose, camera, name = line.split(maxsplit=9)  # a name may have blanks
            if len(pose) != 7:
                raise ValueError
            image = ModelImage(name, int(camera), _viewmat(file, name, [float(word) for word in pose]))
        yield image
        next(lines, None)  # its 2D points, in a line that may be empty


def _viewmat(file: Path, name: str, pose: Sequence[float]) -> Tensor:
    values = torch.tensor(pose, dtype=torch.float64)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3], viewmat[:3, 3] = quats_to_rotmats(values[:4]), values[4:]
    length = float(values[:4].norm())
    if not bool(viewmat.float().isfinite().all()) or not 0.9 < length < 1.1:
        raise GaussianVAEError(f"{file}: the pose of {name} is no unit quaternion and finite translation")
    return viewmat


def _points_of_binary(file: Path) -> Iterator[tuple[float, ...]]:
    data = _Binary(file)
    for _ in range(data.count(_POINT.size)):
        _, *row = data.take(_POINT)
        data.skip(row[-1] * _TRACK)
        yield tuple(row)
    data.end()


def _points_of_text(file: Path) -> Iterator[tuple[float, ...]]:
    for number, line in _lines(file):
        with _line(file, number):
            _, *row = [float(word) for word in line.split()[:8]]
            track = len(line.split()) - 8
            if len(row) != 7 or track % 2:
                raise ValueError
        yield (*row, track // 2)


class _Binary:
    """A file's bytes, taken one after the other."""

    def __init__(self, file: Path) -> None:
        self.file, self.data, self.at = file, _read(file), 0

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        try:
            values = form.unpack_from(self.data, self.at)
        except struct.error as error:
            raise self._short() from error
        self.at += form.size
        return values

    def count(self, least: int) -> int:
        """How many records follow, each of at least so many bytes."""
        (count,) = self.take(_COUNT)
        if count * least > len(self.data) - self.at:
            raise self._short()
        return int(count)

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise self._short()
        self.at += size

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise self._short()
        name, self.at = self.data[self.at : end], end + 1
        return _decoded(self.file, name)

    def end(self) -> None:
        if self.at != len(self.data):
            raise GaussianVAEError(f"{self.file}: has {len(self.data) - self.at} bytes more than its records take")

    def _short(self) -> GaussianVAEError:
        return GaussianVAEError(f"{self.file}: ends within a record ({len(self.data)} bytes); is it whole?")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise GaussianVAEError(f"{file}: can't be read ({error.strerror or error})") from error


def _decoded(file: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GaussianVAEError(f"{file}: holds text that isn't UTF-8 ({error.reason})") from error


def _lines(file: Path, keep_empty: bool = False) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments; without empty ones, unless they count."""
    for number, line in enumerate(_decoded(file, _read(file)).split("\n"), 1):
        line = line.strip()
        if (line or keep_empty) and not line.startswith("#"):
            yield number, line


@contextmanager
def _line(file: Path, number: int) -> Iterator[None]:
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise GaussianVAEError(f"{file}: line {number} isn't what COLMAP writes there") from error
