"""Posed pinhole cameras: OpenCV axes, pixels with centers at +0.5 and the origin at the top-left corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEAR = 0.01
"""Depth under which nothing is seen, world units (gsplat's near plane)."""


@dataclass(frozen=True)
class Cameras:
    """V views."""

    viewmats: Float[Tensor, "V 4 4"]
    """World-to-camera transforms, OpenCV axes (x right, y down, z forward)."""
    Ks: Float[Tensor, "V 3 3"]
    """Intrinsics in pixels."""
    sizes: tuple[tuple[int, int], ...]
    """(width, height) of each view in pixels."""
    names: tuple[str, ...] = ()
    """One name a view (the image's stem), or none."""

    def __post_init__(self) -> None:
        v = len(self.sizes)
        if tuple(self.viewmats.shape) != (v, 4, 4) or tuple(self.Ks.shape) != (v, 3, 3):
            raise ValueError(
                f"{v} image sizes need viewmats ({v}, 4, 4) and Ks ({v}, 3, 3), "
                f"got {tuple(self.viewmats.shape)} and {tuple(self.Ks.shape)}"
            )
        if self.names and len(self.names) != v:
            raise ValueError(f"{len(self.names)} names for {v} views")

    def __len__(self) -> int:
        return len(self.sizes)

    def __repr__(self) -> str:
        return f"Cameras({len(self)} views, {sorted(set(self.sizes))} px)"

    def select(self, views: Sequence[int] | Int[Tensor, " M"]) -> Cameras:
        """Some views, in the order given."""
        index = [int(v) for v in views]
        return replace(
            self,
            viewmats=self.viewmats[index],
            Ks=self.Ks[index],
            sizes=tuple(self.sizes[v] for v in index),
            names=tuple(self.names[v] for v in index) if self.names else (),
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cameras:
        """The same cameras on another device or with another floating-point type."""
        return replace(self, viewmats=self.viewmats.to(device, dtype), Ks=self.Ks.to(device, dtype))

    @property
    def positions(self) -> Float[Tensor, "V 3"]:
        """Camera centers, world frame."""
        rotation, translation = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation[:, :, None])[:, :, 0]

    @property
    def focals(self) -> Float[Tensor, " V"]:
        """Focal lengths in pixels, the mean of both axes."""
        return 0.5 * (self.Ks[:, 0, 0] + self.Ks[:, 1, 1])


def spread_views(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` views, evenly spaced."""
    return torch.linspace(0, count - 1, min(wanted, count), device="cpu").round().long().tolist()


def scaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(width, height) brought down by `factor` (over 1: smaller) and rounded, at least one pixel."""
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def resize(cameras: Cameras, factor: float) -> Cameras:
    """Cameras of images brought down by `factor`; sizes are rounded, then each axis uses its real ratio."""
    sizes = tuple(scaled_size(size, factor) for size in cameras.sizes)
    ratios = torch.tensor(
        [[new[0] / old[0], new[1] / old[1], 1.0] for new, old in zip(sizes, cameras.sizes, strict=True)],
        dtype=torch.float64,
        device="cpu",
    )
    Ks = (cameras.Ks.double() * ratios[:, :, None].to(cameras.Ks.device)).to(cameras.Ks.dtype)
    return replace(cameras, Ks=Ks, sizes=sizes)


def to_camera(cameras: Cameras, view: int, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Points in the frame of one camera."""
    viewmat = cameras.viewmats[view].to(points)
    return points @ viewmat[:3, :3].T + viewmat[:3, 3]


def project(
    cameras: Cameras, view: int, points: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, " N"]]:
    """Pixel coordinates and depths of points in one view (meaningless where the depth is under `NEAR`)."""
    x, y, z = to_camera(cameras, view, points).unbind(-1)
    K = cameras.Ks[view].to(points)
    safe = z.clamp_min(NEAR)
    return torch.stack([K[0, 0] * x / safe + K[0, 2], K[1, 1] * y / safe + K[1, 2]], -1), z


def footprints(
    cameras: Cameras, means: Float[Tensor, "N 3"], margin: float = 0.15, average: bool = False
) -> Float[Tensor, " N"]:
    """The size in world units of a pixel at each Gaussian: min over the views that see it of depth / focal.

    Mip-Splatting (2311.16493), 1 / nu of eq. 7. A view sees what is in front of it and within `margin` (a share of
    the image's size) of its borders; a Gaussian that none sees takes the min over the views it is in front of,
    else the scene's largest footprint. With `average` the mean over the views that see it.
    """
    zero = torch.zeros(len(means), dtype=means.dtype, device=means.device)
    seen, before = torch.full_like(zero, torch.inf), torch.full_like(zero, torch.inf)
    total, count = zero.clone(), zero.clone()
    for view in range(len(cameras)):
        pixels, depths = project(cameras, view, means)
        width, height = cameras.sizes[view]
        size = depths / cameras.focals[view].to(means)
        in_front = depths > NEAR
        near_x = (pixels[:, 0] > -margin * width) & (pixels[:, 0] < (1 + margin) * width)
        near_y = (pixels[:, 1] > -margin * height) & (pixels[:, 1] < (1 + margin) * height)
        sees = in_front & near_x & near_y
        seen = torch.where(sees, torch.minimum(seen, size), seen)
        before = torch.where(in_front, torch.minimum(before, size), before)
        total, count = total + torch.where(sees, size, zero), count + sees.to(count)
    result = torch.where(seen.isfinite(), seen, before)
    known = result.isfinite()
    largest = result[known].max() if known.any() else torch.ones((), dtype=means.dtype, device=means.device)
    result = torch.where(known, result, largest)
    return torch.where(count > 0, total / count.clamp_min(1), result) if average else result
