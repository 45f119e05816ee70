"""Cameras beside a splat, in INRIA's cameras.json layout (position and camera-to-world rotation, OpenCV axes).

We add cx and cy, which INRIA's files lack; without them the principal point is the image's center.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.rotations import is_rotation

MAX_SIDE = 1 << 20


def write_cameras(path: Path | str, cameras: Cameras, inputs: Iterable[Path | str] = ()) -> None:
    """Write cameras atomically."""
    rows = []
    poses = torch.linalg.inv(cameras.viewmats.double())
    for view, (width, height) in enumerate(cameras.sizes):
        K = cameras.Ks[view].double()
        rows.append(
            {
                "id": view,
                "img_name": cameras.names[view] if cameras.names else f"{view:05d}",
                "width": width,
                "height": height,
                "position": poses[view, :3, 3].tolist(),
                "rotation": poses[view, :3, :3].tolist(),
                "fx": float(K[0, 0]),
                "fy": float(K[1, 1]),
                "cx": float(K[0, 2]),
                "cy": float(K[1, 2]),
            }
        )
    with replacing(path, inputs) as beside:
        beside.write_text(json.dumps(rows), encoding="utf-8")


def read_cameras(path: Path | str) -> Cameras:
    """Read cameras.

    Raises:
        GaussianVAEError: no such file, or no list of cameras.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise GaussianVAEError(f"{path}: can't be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise GaussianVAEError(f"{path}: is no readable JSON ({error})") from error
    if not isinstance(rows, list) or not rows:
        raise GaussianVAEError(f"{path}: expected a list of cameras as in INRIA's cameras.json")
    viewmats, Ks, sizes, names = [], [], [], []
    for index, row in enumerate(rows):
        try:
            viewmat, K, size = _parse(row)
        except KeyError as error:
            raise GaussianVAEError(f"{path}: camera {index} lacks {error}") from error
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise GaussianVAEError(f"{path}: camera {index} makes no sense ({error})") from error
        viewmats.append(viewmat)
        Ks.append(K)
        sizes.append(size)
        names.append(str(row.get("img_name", index)))
    return Cameras(torch.stack(viewmats).float(), torch.stack(Ks).float(), tuple(sizes), tuple(names))


def _parse(row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    width, height = int(row["width"]), int(row["height"])
    rotation = torch.tensor(row["rotation"], dtype=torch.float64)
    position = torch.tensor(row["position"], dtype=torch.float64)
    if rotation.shape != (3, 3) or position.shape != (3,):
        raise ValueError("rotation must be 3x3 and position 3 numbers")
    if not is_rotation(rotation):
        raise ValueError("its rotation is no rotation matrix")
    numbers = [float(row["fx"]), float(row["fy"]), float(row.get("cx", width / 2)), float(row.get("cy", height / 2))]
    if not (0 < width < MAX_SIDE and 0 < height < MAX_SIDE):
        raise ValueError(f"its image size is {width}x{height}")
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3], viewmat[:3, 3] = rotation.T, -rotation.T @ position
    fx, fy, cx, cy = numbers
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    if not bool(viewmat.float().isfinite().all() and K.float().isfinite().all()):
        raise ValueError("its position or intrinsics are no finite numbers")
    if min(fx, fy) <= 0:
        raise ValueError(f"its focal lengths are {fx:g} and {fy:g}; they must be positive")
    return viewmat, K, (width, height)
