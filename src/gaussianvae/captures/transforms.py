"""What the transforms.json files of NeRF-synthetic, instant-ngp and nerfstudio have in common."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures.posed import pinhole
from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.rotations import is_rotation

_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".webp")


def read_frames(file: Path) -> tuple[Mapping[str, Any], list[Any]]:
    """The fields at the top of a transforms file, and its frames (at least one).

    Raises:
        GaussianVAEError: no readable JSON object with a list of frames.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise GaussianVAEError(f"{file}: can't be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise GaussianVAEError(f"{file}: is no readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise GaussianVAEError(f"{file}: expected a JSON object, found {type(content).__name__}")
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise GaussianVAEError(f'{file}: lists no photos (expected a list "frames")')
    return content, frames


def find_photo(file: Path, frame: object) -> Path | None:
    """The photo of a frame, named with or without its extension; None where it isn't there.

    Raises:
        GaussianVAEError: the frame names none, or by a name that no file system takes.
    """
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str):
        raise GaussianVAEError(f'{file}: a frame has no "file_path"')
    try:
        return next((path for suffix in _SUFFIXES if (path := file.parent / (name + suffix)).is_file()), None)
    except OSError as error:
        raise GaussianVAEError(f"{file}: the photo {name[:60]!r} can't be read ({error.strerror or error})") from error


def photo_of(file: Path, frame: Any) -> Path:
    """The photo of a frame, which must be there.

    Raises:
        GaussianVAEError: the frame names none, or it isn't there.
    """
    path = find_photo(file, frame)
    if path is None:
        raise GaussianVAEError(
            f"{file}: the photo {frame['file_path']!r} isn't there (also tried {', '.join(_SUFFIXES[1:])})"
        )
    return path


def pose_of(file: Path, name: str, frame: Mapping[str, Any]) -> Float[Tensor, "4 4"]:
    """A frame's camera-to-world pose, OpenGL axes, float64.

    Raises:
        GaussianVAEError: it is no rotation and translation.
    """
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


def intrinsics_of(file: Path, content: Mapping[str, Any], size: tuple[int, int]) -> Float[Tensor, "3 3"]:
    """Intrinsics for a photo of `size` = (width, height), whatever size the file's figures are for; float64.

    Raises:
        GaussianVAEError: figures that are missing, no numbers or no camera's.
    """
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
    return pinhole(str(file), fx, fy, cx, cy)
