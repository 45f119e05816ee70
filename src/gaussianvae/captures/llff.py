"""LLFF captures: poses_bounds.npy and photos in the order of their names, often reduced ones only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures.arrays import read_floats
from gaussianvae.captures.capture import Capture
from gaussianvae.captures.colmap_model import find_model, model_file, read_model_cameras, read_model_points
from gaussianvae.captures.photos import look
from gaussianvae.captures.posed import Posed, capture_of, pinhole
from gaussianvae.captures.undistort import STRAIGHT
from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.frames import camera_to_world_to_viewmats
from gaussianvae.scene.rotations import is_rotation

_PHOTOS = (".jpg", ".jpeg", ".png", ".webp")


def is_llff(folder: Path) -> bool:
    """Whether a folder looks like an LLFF capture."""
    return (folder / "poses_bounds.npy").is_file()


def read_llff(folder: Path) -> Capture:
    """Read poses and find the photos; no pixel is decoded yet.

    Photos are those of `images/`, else of the least reduced `images_N/`. Every 8th in name order is a test view. Poses
    were made by COLMAP: its points and the lens that poses_bounds.npy leaves out are read where its files are there.

    Raises:
        GaussianVAEError: no readable poses, another number of photos, an undecodable one, a pose that is none, fewer
            than two training photos.
    """
    file = folder / "poses_bounds.npy"
    table = _read_table(file)
    paths = _photos(folder)
    if len(paths) != len(table):
        where = paths[0].parent if paths else folder / "images"
        raise GaussianVAEError(f"{file}: poses {len(table)} photos, but {where} has {len(paths)}")
    model = find_model(folder, ("sparse/0", "sparse", "sparse_points"), ("cameras", "points3D"))
    cameras = list(read_model_cameras(model_file(model, "cameras")).values()) if model else []
    photos = []
    for path, row in zip(paths, table[:, :15].reshape(-1, 3, 5), strict=True):
        size, has_alpha = look(path)
        pose = torch.cat([row[:, :4], row.new_tensor([[0, 0, 0, 1]])])
        if not is_rotation(pose[:3, :3]):
            raise GaussianVAEError(f"{file}: the pose of {path.name} is no rotation and translation")
        height, width, focal = row[:, 4].tolist()
        K = pinhole(str(file), focal, focal, width / 2, height / 2)
        # one lens for all photos is all that a table without cameras' ids can say
        alone = cameras[0] if len(cameras) == 1 and cameras[0].size == (width, height) else None
        photos.append(
            Posed(
                path=path,
                viewmat=camera_to_world_to_viewmats(pose[None], "llff")[0],
                K=(K if alone is None else alone.K) * _ratios(file, size, (width, height)),
                coefficients=STRAIGHT if alone is None else alone.coefficients,
                fisheye=alone is not None and alone.fisheye,
                size=size,
                has_alpha=has_alpha,
                origin=f"{file}: the camera of {path.name}",
            )
        )
    return capture_of(folder, photos, read_model_points(model_file(model, "points3D")) if model else None)


def _read_table(file: Path) -> Float[Tensor, "V 17"]:
    expected = "a row of 17 floats for every photo"
    table = read_floats(file, expected)
    if table.ndim != 2 or table.shape[1] != 17:
        raise GaussianVAEError(f"{file}: holds {table.dtype} {table.shape}; expected {expected}")
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(table.astype(np.float32)).all()
    if not finite:
        raise GaussianVAEError(f"{file}: holds figures that aren't finite")
    return torch.from_numpy(table.astype(np.float64))


def _photos(folder: Path) -> list[Path]:
    reduced = [one for one in folder.glob("images_*") if one.name[7:].isdecimal()]
    for photos in [folder / "images", *sorted(reduced, key=lambda one: int(one.name[7:]))]:
        if photos.is_dir():
            return sorted(path for path in photos.iterdir() if path.suffix.lower() in _PHOTOS)
    return []


def _ratios(file: Path, size: tuple[int, int], full: tuple[float, float]) -> Float[Tensor, "3 1"]:
    if min(full) < 1:
        raise GaussianVAEError(f"{file}: has photos of {full[0]:g}x{full[1]:g} px")
    return torch.tensor([[size[0] / full[0]], [size[1] / full[1]], [1.0]], dtype=torch.float64)
