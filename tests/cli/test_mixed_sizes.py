"""Every command on a capture whose photos have different sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussianvae.captures import read_capture
from gaussianvae.cli import main
from gaussianvae.formats import find_cameras, read_splats
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.orbits import orbit
from gaussianvae.scene.splats import Splats
from scenes import random_splats
from tiny_capture import RECIPE, write_split


def mixed(splats: Splats, count: int, elevation: float) -> Cameras:
    """An orbit whose photos are squares of 48 px, lying ones of 48x32 and squares of 40 px, in turn."""
    large, small = orbit(splats, count, 48, elevation), orbit(splats, count, 40, elevation)
    Ks, sizes = large.Ks.clone(), list(large.sizes)
    for view in range(count):
        if view % 3 == 1:
            Ks[view, 1, 2], sizes[view] = 16.0, (48, 32)
        elif view % 3 == 2:
            Ks[view], sizes[view] = small.Ks[view], (40, 40)
    return replace(large, Ks=Ks, sizes=tuple(sizes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """toy/ (a capture) and LR.ply, a fit of 300 steps."""
    folder = tmp_path_factory.mktemp("mixed")
    splats = random_splats(200, recipe=RECIPE)
    splats = replace(splats, sh0=splats.sh0.clamp(-1.2, 1.2), shN=0.3 * splats.shN)
    write_split(folder / "toy", "train", splats, mixed(splats, 9, 20.0))
    write_split(folder / "toy", "test", splats, mixed(splats, 3, -10.0))
    argv = ["reconstruct", str(folder / "toy"), "-o", str(folder / "LR.ply"), "--factor", "2", "--steps", "300"]
    assert main([*argv, "--max-gaussians", "200"]) == 0
    return folder


def test_the_fit_knows_every_cameras_size(folder: Path) -> None:
    cameras = find_cameras(folder / "LR.ply")
    assert cameras is not None and cameras.sizes == ((24, 24), (24, 16), (20, 20)) * 3
    expected = read_capture(folder / "toy").cameras.Ks[:9, :2] / 2
    torch.testing.assert_close(cameras.Ks[:, :2], expected)


def test_enhance_and_evaluate(folder: Path, tmp_path: Path) -> None:
    lr, out, toy = str(folder / "LR.ply"), str(tmp_path / "OUT.ply"), str(folder / "toy")
    assert main(["enhance", lr, "-o", out, "--scale", "2", "--capture", toy, "--polish", "3"]) == 0
    assert len(read_splats(out)) == int(1.5 * len(read_splats(lr)))
    argv = ["evaluate", lr, toy, "--scale", "2", "--with", f"enhanced={out}", "--json", str(tmp_path / "m.json")]
    argv += ["--pictures", str(tmp_path / "pictures"), "--cache", str(tmp_path / "cache")]
    assert main([*argv, "--baselines", "bicubic", "bicubic_images", "hr_reference", "mip_matched"]) == 0
    rows = {row["method"]: row for row in json.loads((tmp_path / "m.json").read_text())["rows"]}
    # the fits show something: a photo's mean color alone is worse
    photos = [Image.open(folder / "toy" / "test" / f"r_{view}.png").convert("RGBA") for view in range(3)]
    rgba = [np.asarray(photo).astype(float) / 255 for photo in photos]
    black = [image[..., :3] * image[..., 3:] for image in rgba]
    flat = np.mean([-10 * np.log10(image.var()) for image in black])
    assert min(rows[name]["psnr"] for name in ("enhanced", "hr_reference", "bicubic_images", "bicubic")) > flat


def test_refine_and_render(folder: Path, tmp_path: Path) -> None:
    lr, toy = str(folder / "LR.ply"), str(folder / "toy")
    out = tmp_path / "R.ply"
    assert main(["refine", lr, toy, "-o", str(out), "--scale", "2", "--start", "as-is", "--steps", "20"]) == 0
    assert len(read_splats(out)) > 0
    assert main(["render", lr, "-o", str(tmp_path / "r"), "--capture", toy, "--factor", "2", "--views", "train"]) == 0
    sizes = set()
    for path in (tmp_path / "r").iterdir():
        with Image.open(path) as picture:
            sizes.add(picture.size)
    assert sizes == {(24, 24), (24, 16), (20, 20)}
