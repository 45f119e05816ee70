"""Small NeRF-synthetic captures whose every pixel is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gaussianvae.captures.blender import write_blender_split
from scenes import ring_cameras


def ramp(size: int) -> NDArray[np.float64]:
    """RGBA in which red is the column of the pixel's center and green the row, in units of the size."""
    values = (np.arange(size) + 0.5) / size
    red, green = np.tile(values, (size, 1)), np.tile(values[:, None], (1, size))
    return np.stack([red, green, np.zeros((size, size)), np.ones((size, size))], -1)


def save(path: Path, image: NDArray[np.float64]) -> None:
    """Write an image (H, W, C) in 0-1."""
    Image.fromarray((image * 255).round().astype(np.uint8)).save(path)


def split(folder: Path, name: str, views: int, size: int = 48) -> None:
    """Write one split, its photos ramps."""
    cameras = ring_cameras(views, size)
    (folder / name).mkdir(parents=True)
    names = [f"{name}/r_{view}" for view in range(views)]
    for photo in names:
        save(folder / f"{photo}.png", ramp(size))
    write_blender_split(folder, name, names, cameras.viewmats, 2 * np.arctan(0.5 * size / float(cameras.Ks[0, 0, 0])))


def write_capture(folder: Path, views: int = 9, size: int = 48) -> None:
    """Write a capture with a train split only."""
    split(folder, "train", views, size)
