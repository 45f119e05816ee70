"""NeRF-synthetic captures: transforms_train.json and transforms_test.json, RGBA photos, OpenGL camera axes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures.capture import Capture, check_capture, every_eighth
from gaussianvae.captures.photos import look
from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.frames import camera_to_world_to_viewmats, viewmats_to_camera_to_world
from gaussianvae.scene.rotations import is_rotation

SPLITS = ("train", "val", "test")
_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".webp")


def is_blender(folder: Path) -> bool:
    """Whether a folder looks like a NeRF-synthetic capture."""
    return (folder / "transforms_train.json").is_file()


def read_blender(folder: Path) -> Capture:
    """Read poses and find the photos; no pixel is decoded yet.

    Training views are those of the train split; test views those of the test split, else every 8th training view.

    Raises:
        GaussianVAEError: broken JSON, a missing or undecodable photo, a pose that is none, fewer than two photos.
    """
    paths: list[Path] = []
    poses: list[Tensor] = []
    Ks: list[Tensor] = []
    sizes: list[tuple[int, int]] = []
    splits: dict[str, list[int]] = {}
    alpha: set[bool] = set()
    for split in SPLITS:
        file = folder / f"transforms_{split}.json"
        if not file.is_file():
            continue
        content = _read_json(file)
        frames = content.get("frames")
        if not isinstance(frames, list) or not frames:
            raise GaussianVAEError(f'{file}: lists no photos (expected a list "frames")')
        for frame in frames:
            path = _photo(file, frame)
            size, has_alpha = look(path)
            splits.setdefault(split, []).append(len(paths))
            paths.append(path)
            poses.append(_pose(file, path.stem, frame))
            Ks.append(_intrinsics(file, content, size))
            sizes.append(size)
            alpha.add(has_alpha)
    if len(alpha) > 1:
        raise GaussianVAEError(f"{folder}: some photos have an alpha channel and some have none; make them alike")
    cameras = Cameras(
        viewmats=camera_to_world_to_viewmats(torch.stack(poses), "opengl").float(),
        Ks=torch.stack(Ks).float(),
        sizes=tuple(sizes),
        names=tuple(path.stem for path in paths),
    )
    train, test = tuple(splits["train"]), tuple(splits.get("test", ()))
    if not test:
        train, test = every_eighth([paths[view].name for view in train])
    # NeRF-synthetic calls photos of every split r_0, r_1, ...: a name that isn't unique names no depth map
    times = Counter(path.stem for path in paths)
    depths = [folder / "depth" / f"{path.stem}.npy" for path in paths]
    return check_capture(
        Capture(
            folder=folder,
            cameras=cameras,
            image_paths=tuple(paths),
            train=train,
            test=test,
            has_alpha=alpha.pop(),
            depth_paths=tuple(depth if times[depth.stem] == 1 and depth.is_file() else None for depth in depths),
        )
    )


def write_blender_split(
    folder: Path, split: str, names: Sequence[str], viewmats: Float[Tensor, "V 4 4"], camera_angle_x: float
) -> None:
    """Write `transforms_<split>.json`; `names` are the photos' paths in the folder, without extension."""
    poses = viewmats_to_camera_to_world(viewmats.double(), "opengl")
    frames = [
        {"file_path": f"./{name}", "transform_matrix": pose.tolist()} for name, pose in zip(names, poses, strict=True)
    ]
    content = {"camera_angle_x": camera_angle_x, "frames": frames}
    with replacing(folder / f"transforms_{split}.json") as beside:
        beside.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise GaussianVAEError(f"{file}: can't be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise GaussianVAEError(f"{file}: is no readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise GaussianVAEError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return content


def _photo(file: Path, frame: object) -> Path:
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str):
        raise GaussianVAEError(f'{file}: a frame has no "file_path"')
    try:
        for suffix in _SUFFIXES:
            path = file.parent / (name + suffix)
            if path.is_file():
                return path
    except OSError as error:  # a name that no file system takes
        raise GaussianVAEError(f"{file}: the photo {name[:60]!r} can't be read ({error.strerror or error})") from error
    raise GaussianVAEError(f"{file}: the photo {name!r} isn't there (also tried {', '.join(_SUFFIXES[1:])})")


def _pose(file: Path, name: str, frame: Mapping[str, Any]) -> Tensor:
    try:
        pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise GaussianVAEError(f"{file}: the pose of {name} (transform_matrix) is no 4x4 matrix") from error
    if pose.shape != (4, 4) or not bool(pose.float().isfinite().all()):
        raise GaussianVAEError(f"{file}: the pose of {name} (transform_matrix) is no finite 4x4 matrix")
    if not is_rotation(pose[:3, :3]) or float((pose[3] - pose.new_tensor([0, 0, 0, 1])).abs().max()) > 1e-6:
        raise GaussianVAEError(
            f"{file}: the pose of {name} (transform_matrix) must be a rotation and a translation; this one is "
            "singular, stretches or mirrors"
        )
    return pose


def _intrinsics(file: Path, content: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
    width, height = size
    try:
        stored_width, stored_height = float(content.get("w", width)), float(content.get("h", height))
        if "fl_x" in content:
            fx = float(content["fl_x"]) * width / stored_width
            fy = float(content.get("fl_y", content["fl_x"])) * height / stored_height
        else:
            fx = fy = 0.5 * width / math.tan(0.5 * float(content["camera_angle_x"]))
        cx = float(content.get("cx", stored_width / 2)) * width / stored_width
        cy = float(content.get("cy", stored_height / 2)) * height / stored_height
    except KeyError as error:
        raise GaussianVAEError(f"{file}: has neither camera_angle_x nor fl_x") from error
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise GaussianVAEError(f"{file}: camera_angle_x, fl_x, fl_y, cx, cy, w or h is no sensible number") from error
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    if not bool(K.float().isfinite().all()) or min(fx, fy) <= 0:
        raise GaussianVAEError(
            f"{file}: the focal lengths are {fx:g} and {fy:g} px and the center {cx:g}, {cy:g}; "
            "all must be finite, focal lengths positive"
        )
    return K
