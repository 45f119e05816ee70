"""A NeRF-synthetic capture small enough for any test: a cloud of Gaussians seen from two circles."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from gaussianvae.captures import read_capture
from gaussianvae.errors import GaussianVAEError
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.frames import viewmats_to_camera_to_world
from gaussianvae.scene.orbits import orbit
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats
from scenes import random_splats

RECIPE = Recipe("mip", 0.1, False, None, None, 4.0, 100)
"""As if the splat had been fitted to a quarter of the photos' size in 100 steps."""


def refused(folder: Path, says: str = "") -> None:
    """A folder that no capture can be read from: one clear line says why, and where."""
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_capture(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def write_split(folder: Path, split: str, splats: Splats, cameras: Cameras) -> None:
    """Photos and poses of one split."""
    (folder / split).mkdir(parents=True)
    poses = viewmats_to_camera_to_world(cameras.viewmats, "opengl")
    frames = []
    for view in range(len(cameras)):
        with torch.no_grad():
            seen = render(splats, cameras, view, filter=Filter("mip", 0.1))
        straight = seen.rgb / seen.alpha[..., None].clamp_min(1e-6)
        rgba = torch.cat([straight, seen.alpha[..., None]], -1).clamp(0, 1)
        Image.fromarray((rgba * 255).round().to(torch.uint8).numpy()).save(folder / split / f"r_{view}.png")
        frames.append({"file_path": f"./{split}/r_{view}", "transform_matrix": poses[view].tolist()})
    angle = 2 * math.atan(0.5 * cameras.sizes[0][0] / float(cameras.Ks[0, 0, 0]))
    (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))


def write_capture(folder: Path, size: int = 48, train: int = 6, test: int = 3) -> Splats:
    """Write the capture; returns the splat that its photos show."""
    splats = random_splats(200, recipe=RECIPE)
    # colors that a photo can hold: straight colors over 1 would be clipped
    splats = replace(splats, sh0=splats.sh0.clamp(-1.2, 1.2), shN=0.3 * splats.shN)
    write_split(folder, "train", splats, orbit(splats, train, size))
    write_split(folder, "test", splats, orbit(splats, test, size, elevation=-10.0))
    return splats
