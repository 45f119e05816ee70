"""NeRF-synthetic captures: transforms_train.json and transforms_test.json, RGBA photos, OpenGL camera axes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures.capture import Capture, check_capture, every_eighth
from gaussianvae.captures.photos import look
from gaussianvae.captures.posed import have_alpha
from gaussianvae.captures.transforms import intrinsics_of, photo_of, pose_of, read_frames
from gaussianvae.files import replacing
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.frames import camera_to_world_to_viewmats, viewmats_to_camera_to_world

SPLITS = ("train", "val", "test")


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
    alpha: list[bool] = []
    for split in SPLITS:
        file = folder / f"transforms_{split}.json"
        if not file.is_file():
            continue
        content, frames = read_frames(file)
        for frame in frames:
            path = photo_of(file, frame)
            size, has_alpha = look(path)
            splits.setdefault(split, []).append(len(paths))
            paths.append(path)
            poses.append(pose_of(file, path.stem, frame))
            Ks.append(intrinsics_of(file, content, size))
            sizes.append(size)
            alpha.append(has_alpha)
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
            has_alpha=have_alpha(folder, alpha),
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
