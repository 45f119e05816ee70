"""Cameras on a circle around a splat, to look at it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats

FIELD_OF_VIEW = math.radians(40)


def robust_extent(points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "3"], float]:
    """Median of some points, and its distance to the farthest corner of the box between their 5 % and 95 % quantiles.

    The distance is at least 1e-6.
    """
    ordered = points.sort(dim=0).values
    last = len(points) - 1
    low, middle, high = (ordered[round(share * last)] for share in (0.05, 0.5, 0.95))
    return middle, max(float(torch.maximum(high - middle, middle - low).norm()), 1e-6)


def look_at(
    positions: Float[Tensor, "V 3"], target: Float[Tensor, "3"], up: Float[Tensor, "3"]
) -> Float[Tensor, "V 4 4"]:
    """World-to-camera matrices (OpenCV axes) of cameras that look at a point, with `up` upwards in the picture."""
    forward = torch.nn.functional.normalize(target - positions, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], 1)
    viewmats = torch.eye(4, dtype=positions.dtype).repeat(len(positions), 1, 1)
    viewmats[:, :3, :3] = rotation
    viewmats[:, :3, 3] = -(rotation @ positions[:, :, None])[:, :, 0]
    return viewmats


def orbit(
    splats: Splats,
    count: int,
    size: int,
    elevation: float = 20.0,
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> Cameras:
    """`count` square views evenly around a splat, 40 degrees wide, far enough to show its robust extent.

    Args:
        splats: N Gaussians; the circle's center is the median of their centers.
        count: views, at least 1.
        size: image width and height in pixels, at least 1.
        elevation: degrees above the horizon, between -90 and 90.
        up: the world's upward direction.

    Raises:
        GaussianVAEError: nothing to look at, or a number out of range.
    """
    if len(splats) == 0:
        raise GaussianVAEError("the splat holds no Gaussians; there is nothing to look at")
    if count < 1 or size < 1:
        raise GaussianVAEError(f"an orbit of {count} views of {size} px; both must be at least 1")
    if not abs(elevation) < 90:
        raise GaussianVAEError(f"the elevation is {elevation:g} degrees; allowed is between -90 and 90")
    upward = torch.tensor(up, dtype=torch.float32)
    if not bool(upward.isfinite().all()) or float(upward.norm()) == 0:
        raise GaussianVAEError(f"the upward direction {up} has no length; give for instance 0 0 1")
    upward = upward / upward.norm()
    center, radius = robust_extent(splats.means.detach().float())
    # two directions that span the horizon
    first = torch.linalg.cross(upward, torch.eye(3)[int(upward.abs().argmin())])
    first = first / first.norm()
    second = torch.linalg.cross(upward, first)
    angle = torch.arange(count)[:, None] * (2 * math.pi / count)
    tilt = math.radians(elevation)
    horizontal = angle.cos() * first + angle.sin() * second
    distance = 1.1 * radius / math.sin(FIELD_OF_VIEW / 2)
    positions = center + distance * (math.cos(tilt) * horizontal + math.sin(tilt) * upward)
    focal = 0.5 * size / math.tan(FIELD_OF_VIEW / 2)
    K = torch.tensor([[focal, 0.0, 0.5 * size], [0.0, focal, 0.5 * size], [0.0, 0.0, 1.0]])
    digits = max(3, len(str(count - 1)))
    return Cameras(
        viewmats=look_at(positions, center, upward),
        Ks=K.repeat(count, 1, 1),
        sizes=((size, size),) * count,
        names=tuple(f"orbit_{index:0{digits}d}" for index in range(count)),
    )
