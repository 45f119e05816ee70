"""COLMAP captures: photos in `images/`, and a sparse model that poses them."""

from __future__ import annotations

from pathlib import Path

import torch

from gaussianvae.captures.capture import Capture
from gaussianvae.captures.colmap_model import (
    PLACES,
    ModelCamera,
    find_model,
    model_file,
    read_model_cameras,
    read_model_images,
    read_model_points,
)
from gaussianvae.captures.photos import look
from gaussianvae.captures.posed import Posed, capture_of
from gaussianvae.errors import GaussianVAEError

MAX_RATIO = 16
"""How many times smaller than the model's photos may be."""


def is_colmap(folder: Path) -> bool:
    """Whether a folder has a COLMAP model: cameras and images, binary or text."""
    return find_model(folder, PLACES) is not None


def read_colmap(folder: Path) -> Capture:
    """Read cameras, poses and points, and find the photos; no pixel is decoded yet.

    Views are in the order of their names, every 8th is a test view. Photos may be a whole number of times smaller than
    those that were posed (data sets are published so); points are read where the model has them.

    Raises:
        GaussianVAEError: a broken model, a camera model that can't be brought to a pinhole, a missing or undecodable
            photo, a photo of another size than its camera's, fewer than two training photos.
    """
    model = find_model(folder, PLACES)
    if model is None:
        raise GaussianVAEError(f"{folder}: has no COLMAP model (cameras and images) in {', '.join(PLACES)}")
    cameras_file, images_file, points_file = (model_file(model, name) for name in ("cameras", "images", "points3D"))
    cameras = read_model_cameras(cameras_file)
    photos = []
    for image in read_model_images(images_file):
        camera = cameras.get(image.camera)
        if camera is None:
            raise GaussianVAEError(
                f"{images_file}: {image.name} has camera {image.camera}, which {cameras_file} hasn't"
            )
        path = _photo(images_file, folder / "images", image.name)
        size, has_alpha = look(path)
        photos.append(
            Posed(
                path=path,
                viewmat=image.viewmat,
                K=camera.K * _shrinkage(path, size, camera),
                coefficients=camera.coefficients,
                fisheye=camera.fisheye,
                size=size,
                has_alpha=has_alpha,
                origin=f"{cameras_file}: camera {image.camera}",
            )
        )
    return capture_of(folder, photos, read_model_points(points_file) if points_file.is_file() else None)


def _photo(file: Path, folder: Path, name: str) -> Path:
    path = folder / name
    try:
        if path.is_file():
            return path
    except OSError as error:  # a name that no file system takes
        raise GaussianVAEError(f"{file}: the photo {name[:60]!r} can't be read ({error.strerror or error})") from error
    raise GaussianVAEError(f"{file}: the photo {name!r} isn't in {folder}")


def _shrinkage(path: Path, size: tuple[int, int], camera: ModelCamera) -> torch.Tensor:
    """Factors of the rows of the intrinsics, for a photo that is as large as its camera's or a whole number smaller."""
    ratio = max(1, round(camera.size[0] / size[0]))
    if ratio > MAX_RATIO or any(abs(full / ratio - side) >= 1 for full, side in zip(camera.size, size, strict=True)):
        raise GaussianVAEError(
            f"{path}: is {size[0]}x{size[1]}, its camera is for {camera.size[0]}x{camera.size[1]}; "
            f"photos must have that size or be 2, 3, ... {MAX_RATIO} times smaller along both axes"
        )
    return torch.tensor([[size[0] / camera.size[0]], [size[1] / camera.size[1]], [1.0]], dtype=torch.float64)
