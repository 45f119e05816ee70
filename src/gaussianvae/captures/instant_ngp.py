"""instant-ngp and nerfstudio captures: one transforms.json, OpenGL camera axes, the lens in the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaussianvae.captures.capture import Capture
from gaussianvae.captures.photos import look
from gaussianvae.captures.posed import Posed, capture_of
from gaussianvae.captures.transforms import find_photo, intrinsics_of, photo_of, pose_of, read_frames
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.frames import camera_to_world_to_viewmats

MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")


def is_instant_ngp(folder: Path) -> bool:
    """Whether a folder looks like an instant-ngp or nerfstudio capture."""
    return (folder / "transforms.json").is_file()


def read_instant_ngp(folder: Path, report: Reporter = SILENT) -> Capture:
    """Read poses and lenses, and find the photos; no pixel is decoded yet.

    Every 8th photo in name order is a test view. Frames whose photo isn't there are left out with a message, since
    captures are published so; figures of a frame stand before those at the top of the file.

    Raises:
        GaussianVAEError: broken JSON, no photo, an undecodable one, a pose that is none, a lens that is a fisheye or
            has more than k1, k2, p1 and p2, fewer than two training photos.
    """
    file = folder / "transforms.json"
    content, frames = read_frames(file)
    found = [(frame, path) for frame in frames if (path := find_photo(file, frame)) is not None]
    if not found:
        photo_of(file, frames[0])  # says which isn't there
    if len(found) < len(frames):
        report.message(f"{file}: {len(frames) - len(found)} of {len(frames)} photos aren't there and are left out")
    photos = []
    for frame, path in found:
        size, has_alpha = look(path)
        figures = {**content, **frame}
        K, coefficients = intrinsics_of(file, figures, size), _coefficients(file, figures)
        pose = pose_of(file, path.stem, frame)
        photos.append(
            Posed(
                path=path,
                viewmat=camera_to_world_to_viewmats(pose[None], "opengl")[0],
                K=K,
                coefficients=coefficients,
                size=size,
                has_alpha=has_alpha,
                origin=f"{file}: the camera of {path.name}",
            )
        )
    return capture_of(folder, photos)


def _coefficients(file: Path, figures: Mapping[str, Any]) -> tuple[float, float, float, float]:
    model = figures.get("camera_model", "OPENCV")
    if figures.get("is_fisheye"):
        model = "OPENCV_FISHEYE"
    if model not in MODELS:
        raise GaussianVAEError(f"{file}: has the camera model {model}; known are {', '.join(MODELS)}")
    try:
        k1, k2, p1, p2, *more = (float(figures.get(name, 0)) for name in ("k1", "k2", "p1", "p2", "k3", "k4"))
    except (TypeError, ValueError, OverflowError) as error:
        raise GaussianVAEError(f"{file}: k1, k2, p1, p2, k3 or k4 is no number") from error
    if any(more):
        raise GaussianVAEError(f"{file}: has distortion k3 or k4; lenses of k1, k2, p1 and p2 can be undistorted")
    return k1, k2, p1, p2
