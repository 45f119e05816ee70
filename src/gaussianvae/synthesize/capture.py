"""Cameras around a scene, and the capture on disk that is made with them."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.frames import viewmats_to_camera_to_world
from gaussianvae.synthesize.config import TEST_EVERY, SynthesisConfig
from gaussianvae.synthesize.meshes import build_mesh_scene
from gaussianvae.synthesize.procedural import build_scene
from gaussianvae.synthesize.raytrace import TracedScene, trace

SCENE_VERSION = 1
"""Raised when the same seed would make another scene."""
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def is_test(view: int) -> bool:
    """Whether a view, counted from 0, is a test view."""
    return view % TEST_EVERY == 0


def view_names(views: int) -> tuple[str, ...]:
    """r_000, r_001, ... for training views, t_000, ... for test views, in the order of the views."""
    counts = {"r": 0, "t": 0}
    names = []
    for view in range(views):
        letter = "t" if is_test(view) else "r"
        names.append(f"{letter}_{counts[letter]:03d}")
        counts[letter] += 1
    return tuple(names)


def place_cameras(scene: TracedScene, config: SynthesisConfig) -> Cameras:
    """Cameras on a sphere around the scene, or on its upper half, well spread and a little irregular.

    The field of view (20 to 55 degrees) is the scene's; the distance is such that the scene about fills the frame.
    """
    random = np.random.default_rng([config.seed, 4])
    fov = random.uniform(0.35, 0.95)
    fill = random.uniform(0.95, 1.15)
    turn = random.uniform(0, 2 * math.pi)
    towards = np.empty((config.views, 3))
    for view in range(config.views):
        share = (view + random.uniform(0.1, 0.9)) / config.views
        z = 0.97 - 0.95 * share if scene.hemisphere else 0.97 - 1.94 * share
        angle = turn + GOLDEN_ANGLE * view + random.uniform(-0.15, 0.15)
        towards[view] = [math.sqrt(1 - z * z) * math.cos(angle), math.sqrt(1 - z * z) * math.sin(angle), z]
    distance = max(fill * _distance(scene, towards, fov), 1.3)
    viewmats = np.empty((config.views, 4, 4))
    for view in range(config.views):
        eye = distance * random.uniform(0.93, 1.07) * towards[view]
        viewmats[view] = look_at(eye, random.uniform(-0.05, 0.05, 3), random.normal(0, 0.04))
    focal = 0.5 * config.size / math.tan(0.5 * fov)
    K = np.array([[focal, 0, config.size / 2], [0, focal, config.size / 2], [0, 0, 1]])
    return Cameras(
        viewmats=torch.from_numpy(viewmats).float(),
        Ks=torch.from_numpy(K).float().expand(config.views, 3, 3).clone(),
        sizes=((config.size, config.size),) * config.views,
        names=view_names(config.views),
    )


def _distance(scene: TracedScene, towards: Float[np.ndarray, "V 3"], fov: float) -> float:
    """The distance at which the scene just fits into three of four frames."""
    points = scene.surface.corners.reshape(-1, 3)
    points = points[:: max(1, len(points) // 3000)].astype(np.float64)
    needed = []
    for direction in towards[:: max(1, len(towards) // 24)]:
        seen = points @ look_at(direction, np.zeros(3))[:3, :3].T
        needed.append(float((np.abs(seen[:, :2]).max(1) / math.tan(fov / 2) - seen[:, 2]).max()))
    return float(np.quantile(needed, 0.75))


def look_at(eye: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], roll: float = 0.0) -> Float[np.ndarray, "4 4"]:
    """World-to-camera matrix (OpenCV axes) of a camera at `eye` that looks at `target`, z up but for the roll."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    helper = np.array([0.0, 0, 1]) if abs(forward[2]) < 0.999 else np.array([0.0, 1, 0])
    right = np.cross(forward, helper)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = (
        math.cos(roll) * right + math.sin(roll) * down,
        math.cos(roll) * down - math.sin(roll) * right,
    )
    matrix = np.eye(4)
    matrix[:3, :3] = [right, down, forward]
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


def synthesize_procedural(folder: Path | str, config: SynthesisConfig, report: Reporter = SILENT) -> Path:
    """Write the capture of the scene of `config.seed`.

    Args:
        folder: the capture's folder; it must not exist, or be empty.
        config: which scene, and how many views of what size.
        report: receives progress.

    Returns:
        the folder.

    Raises:
        GaussianVAEError: the folder holds something, or can't be written.
    """
    return write_capture(folder, build_scene(config), config, report)


def synthesize_mesh(
    folder: Path | str, mesh_path: Path | str, config: SynthesisConfig, report: Reporter = SILENT
) -> Path:
    """Write the capture of a mesh file; the seed draws lights, background and cameras.

    Arguments, result and errors as of `synthesize_procedural`; also raised for a mesh that can't be read.
    """
    return write_capture(folder, build_mesh_scene(mesh_path, config), config, report)


def synthesize_many(
    folder: Path | str, count: int, seed: int, config: SynthesisConfig, report: Reporter = SILENT
) -> list[Path]:
    """Write the captures of `count` consecutive seeds to `folder`/scene_00000 and so on, named by their seeds.

    Captures that are already there are kept, so that an interrupted call goes on where it was.
    """
    results = []
    with report.bar("scenes", count) as bar:
        for number in range(seed, seed + count):
            target = Path(folder) / f"scene_{number:05d}"
            if not (target / "scene.json").is_file():
                synthesize_procedural(target, replace(config, seed=number))
            results.append(target)
            bar.advance()
    return results


def write_capture(folder: Path | str, scene: TracedScene, config: SynthesisConfig, report: Reporter = SILENT) -> Path:
    """Trace a scene and write a NeRF-synthetic capture with depth; the folder appears whole or not at all."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GaussianVAEError(f"{folder}: is not an empty folder; name one that doesn't exist yet")
    cameras = place_cameras(scene, config)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise GaussianVAEError(f"{folder}: can't be written ({error.strerror or error})") from error
    try:
        _write(beside, scene, cameras, config, report)
        beside.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        beside.replace(folder)
    except OSError as error:
        raise GaussianVAEError(f"{folder}: can't be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _write(folder: Path, scene: TracedScene, cameras: Cameras, config: SynthesisConfig, report: Reporter) -> None:
    for name in ("train", "test", "depth"):
        (folder / name).mkdir()
    poses = viewmats_to_camera_to_world(cameras.viewmats.double(), "opengl")
    width = cameras.sizes[0][0]
    angle = 2 * math.atan(0.5 * width / float(cameras.Ks[0, 0, 0])) if len(cameras) else 0.0
    frames: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    with report.bar("views", len(cameras)) as bar:
        for view, name in enumerate(cameras.names):
            split = "test" if is_test(view) else "train"
            with_depth = split == "test" or config.train_depth
            rgba, depth = trace(scene, cameras.select([view]), config.supersample, with_depth)
            Image.fromarray(rgba[0].numpy()).save(folder / split / f"{name}.png", compress_level=4)
            if depth is not None:
                np.save(folder / "depth" / f"{name}.npy", depth[0].numpy())
            frames[split].append({"file_path": f"./{split}/{name}", "transform_matrix": poses[view].tolist()})
            bar.advance()
    for split, entries in frames.items():
        text = json.dumps({"camera_angle_x": angle, "frames": entries}, indent=1)
        (folder / f"transforms_{split}.json").write_text(text)
    record = {
        "schema": f"gaussianvae.scene/{SCENE_VERSION}",
        "seed": scene.seed,
        "factors": scene.factors,
        "background": list(scene.background),
        "views": config.views,
        "size": config.size,
        "supersample": config.supersample,
    }
    (folder / "scene.json").write_text(json.dumps(record, indent=1))
