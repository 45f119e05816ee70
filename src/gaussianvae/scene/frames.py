"""Axis conventions in one table: where x, y and z of a camera (or world) frame point, in OpenCV's terms."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# columns: the frame's x, y, z axes written in OpenCV axes (x right, y down, z forward)
FRAMES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "opencv": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),  # COLMAP, INRIA, gsplat, ours
    "opengl": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),  # Blender, NeRF-synthetic, instant-ngp, nerfstudio; RUB
    "llff": ((0, 1, 0), (1, 0, 0), (0, 0, -1)),  # down, right, back
}


def camera_to_world_to_viewmats(camera_to_world: Float[Tensor, "V 4 4"], frame: str) -> Float[Tensor, "V 4 4"]:
    """World-to-camera matrices with OpenCV axes of camera-to-world poses given in another camera frame."""
    axes = torch.eye(4, dtype=camera_to_world.dtype)
    axes[:3, :3] = torch.tensor(FRAMES[frame], dtype=camera_to_world.dtype)
    return torch.linalg.inv(camera_to_world @ axes)


def viewmats_to_camera_to_world(viewmats: Float[Tensor, "V 4 4"], frame: str) -> Float[Tensor, "V 4 4"]:
    """Camera-to-world poses in another camera frame: the inverse of `camera_to_world_to_viewmats`."""
    axes = torch.eye(4, dtype=viewmats.dtype)
    axes[:3, :3] = torch.tensor(FRAMES[frame], dtype=viewmats.dtype)
    return torch.linalg.inv(viewmats) @ torch.linalg.inv(axes)
