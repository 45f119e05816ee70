"""instant-ngp and nerfstudio captures: one transforms.json, OpenGL camera axes, the lens in the file.

Poses and points are in the frame that the file stores; what was applied to reach it (`applied_transform`,
`applied_scale`, instant-ngp's `scale` and `offset`) is nothing that has to be undone.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gaussianvae.captures.capture import Capture, SparsePoints, Split, every_eighth
from gaussianvae.captures.photos import look
from gaussianvae.captures.point_cloud import read_point_cloud
from gaussianvae.captures.posed import Posed, capture_of
from gaussianvae.captures.transforms import find_photo, intrinsics_of, photo_of, pose_of, read_frames
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.frames import camera_to_world_to_viewmats

MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE")
SPLITS = ("train", "val", "test")
_POLYNOMIAL = ("k1", "k2", "k3", "k4", "p1", "p2")
"""The order that nerfstudio has them in, in `distortion_params`."""


def is_nerfstudio(folder: Path) -> bool:
    """Whether a folder looks like an instant-ngp or nerfstudio capture."""
    return (folder / "transforms.json").is_file()


def read_nerfstudio(folder: Path, report: Reporter = SILENT) -> Capture:
    """Read poses, lenses and seed points, and find the photos; no pixel is decoded yet.

    Views are in the order of the file. Training views are those of `train_filenames`, test views those of
    `test_filenames`, else of `val_filenames`, else every 8th training view in name order. Frames whose photo isn't
    there are left out with a message, since captures are published so, and so are frames that no list names. Figures
    of a frame stand before those at the top of the file.

    Raises:
        GaussianVAEError: broken JSON, no photo, an undecodable one, a pose that is none, a camera model that can't be
            brought to a pinhole, broken seed points, fewer than two training photos.
    """
    file = folder / "transforms.json"
    content, frames = read_frames(file)
    looked_for = [(frame, find_photo(file, frame)) for frame in frames]
    found = [(frame, path) for frame, path in looked_for if path is not None]
    if not found:
        photo_of(file, frames[0])  # says which isn't there
    missing = [frame["file_path"] for frame, path in looked_for if path is None]
    if missing:
        report.message(
            f"{len(missing)} of {len(frames)} photos that {file} lists aren't there (the first: {missing[0]}); "
            "they are left out"
        )
    lists = _split_lists(file, content, [frame["file_path"] for frame in frames], report)
    named = set().union(*lists.values())
    if "train" in lists:
        listed = [(frame, path) for frame, path in found if _plain(frame["file_path"]) in named]
        if len(listed) < len(found):
            report.message(
                f"{len(found) - len(listed)} photos are in none of the lists of {file} (train_filenames, ...); "
                "they are left out"
            )
        found = listed
    masks = sum(bool(frame.get("mask_path")) for frame, _ in found)
    if masks:
        report.message(f"{masks} photos of {file} have a mask (mask_path); masks aren't used")
    photos = [_posed(file, content, frame, path) for frame, path in found]
    split = _split(lists, [_plain(frame["file_path"]) for frame, _ in found], [str(path) for _, path in found])
    return capture_of(folder, photos, _points(file, content, report), split, len(missing))


def _posed(file: Path, content: Mapping[str, Any], frame: Mapping[str, Any], path: Path) -> Posed:
    size, has_alpha = look(path)
    coefficients, fisheye = _lens(file, content, frame)
    return Posed(
        path=path,
        viewmat=camera_to_world_to_viewmats(pose_of(file, path.stem, frame)[None], "opengl")[0],
        K=intrinsics_of(file, {**content, **frame}, size),
        coefficients=coefficients,
        size=size,
        has_alpha=has_alpha,
        origin=f"{file}: the camera of {path.name}",
        fisheye=fisheye,
    )


def _lens(file: Path, content: Mapping[str, Any], frame: Mapping[str, Any]) -> tuple[tuple[float, ...], bool]:
    """Coefficients as `undistort.Lens` has them, and whether they are a fisheye's."""
    figures = {**content, **frame}
    model = "OPENCV_FISHEYE" if figures.get("is_fisheye") else figures.get("camera_model", "OPENCV")
    if model not in MODELS:
        raise GaussianVAEError(f"{file}: has the camera model {model}; known are {', '.join(MODELS)}")
    params = frame.get("distortion_params")
    if params is None and not any(name in frame for name in _POLYNOMIAL):
        params = content.get("distortion_params")
    try:
        if params is None:
            params = [figures.get(name, 0) for name in _POLYNOMIAL]
        k1, k2, k3, k4, p1, p2 = (float(value) for value in params)
    except (TypeError, ValueError, OverflowError) as error:
        raise GaussianVAEError(
            f"{file}: k1, k2, k3, k4, p1 or p2 is no number, or distortion_params aren't these six"
        ) from error
    if model == "OPENCV_FISHEYE":
        return (k1, k2, k3, k4), True
    return (k1, k2, p1, p2, k3, k4) if k3 or k4 else (k1, k2, p1, p2), False


def _plain(name: str) -> str:
    """A photo's name, however its path is written: ./images/a.png is images/a.png."""
    return posixpath.normpath(name.replace("\\", "/"))


def _split_lists(
    file: Path, content: Mapping[str, Any], frames: Sequence[str], report: Reporter
) -> dict[str, set[str]]:
    """The names in those of `train_filenames`, `val_filenames`, `test_filenames` that name any."""
    lists: dict[str, set[str]] = {}
    for split in SPLITS:
        names = content.get(f"{split}_filenames") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise GaussianVAEError(f"{file}: {split}_filenames is no list of names of photos")
        if names:
            lists[split] = {_plain(name) for name in names}
    unknown = sorted(set().union(*lists.values()) - {_plain(name) for name in frames})
    if unknown:
        report.message(f"{file}: no frame has {len(unknown)} of the names in its lists (the first: {unknown[0]})")
    return lists


def _split(lists: Mapping[str, set[str]], names: Sequence[str], paths: Sequence[str]) -> Split | None:
    """Train and test views of frames by their names; None where the file has no lists."""
    if not lists:
        return None
    judged = lists.get("test") or lists.get("val") or set()
    kept = lists.get("train")
    others = set().union(*(lists.get(split, set()) for split in ("val", "test")))
    train = [view for view, name in enumerate(names) if (name in kept if kept is not None else name not in others)]
    if judged:
        return tuple(train), tuple(view for view, name in enumerate(names) if name in judged)
    rest, test = every_eighth([paths[view] for view in train])
    return tuple(train[view] for view in rest), tuple(train[view] for view in test)


def _points(file: Path, content: Mapping[str, Any], report: Reporter) -> SparsePoints | None:
    name = content.get("ply_file_path")
    if name is None:
        return None
    if not isinstance(name, str):
        raise GaussianVAEError(f"{file}: ply_file_path is no name of a file")
    path = file.parent / name
    try:
        if path.is_file():
            return read_point_cloud(path)
    except OSError as error:  # a name that no file system takes
        raise GaussianVAEError(f"{file}: the points {name[:60]!r} can't be read ({error.strerror or error})") from error
    report.message(f"the points that {file} names (ply_file_path: {name}) aren't there; a fit begins without")
    return None
