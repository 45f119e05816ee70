"""Where a fit begins: points in the visual hull of the photos' alpha, else in the volume that the cameras share."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures import Views
from gaussianvae.scene.cameras import NEAR, Cameras, project
from gaussianvae.scene.harmonics import C0, num_coefficients
from gaussianvae.scene.rotations import random_quats

GRID = 72
COVERED = 0.15
"""An LR pixel of at least this alpha may belong to the object."""


def scene_center(cameras: Cameras) -> Float[Tensor, "3"]:
    """The point closest to all optical axes, in the least-squares sense."""
    axes = cameras.viewmats[:, 2, :3].double()
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    positions = cameras.positions.double()
    normal = across.sum(0) + 1e-6 * torch.eye(3, dtype=torch.float64)
    right = (across @ positions[:, :, None]).sum(0) + 1e-6 * positions.mean(0)[:, None]
    return torch.linalg.solve(normal, right)[:, 0].to(cameras.viewmats.dtype)


def scene_extent(cameras: Cameras) -> float:
    """Radius of the shared content: a third of the median distance from the cameras to the center."""
    return float((cameras.positions - scene_center(cameras)).norm(dim=1).median() / 3)


def _samples(image: Tensor, pixels: Tensor) -> Tensor:
    height, width = image.shape[:2]
    columns = pixels[:, 0].long().clamp(0, width - 1)
    rows = pixels[:, 1].long().clamp(0, height - 1)
    return image[rows, columns]


def hull_weights(views: Views, grid: Float[Tensor, "N 3"], cells: int) -> Float[Tensor, " N"]:
    """Weight of each grid point as a start: mostly the surface of the visual hull, a little of its inside."""
    if views.alphas is None:
        return torch.ones(len(grid))
    outside = torch.zeros(len(grid))
    for view in range(len(views.cameras)):
        pixels, depths = project(views.cameras, view, grid)
        width, height = views.cameras.sizes[view]
        inside = (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height) & (depths > NEAR)
        outside += (inside & (_samples(views.alphas[view], pixels) < COVERED)).float()
    full = (outside == 0).float().reshape(1, 1, cells, cells, cells)
    neighbors = torch.nn.functional.avg_pool3d(torch.nn.functional.pad(full, [1] * 6), 3, 1)
    weights = (full * (neighbors < 0.99) + 0.02 * full).reshape(-1)
    return weights if weights.sum() > 0 else torch.ones(len(grid))


def starting_points(views: Views, count: int, sh_degree: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Raw parameters of `count` round, half-transparent Gaussians colored by the photos that see them.

    Args:
        views: the training photos.
        count: Gaussians to place.
        sh_degree: 0 to 3; higher bands begin at zero.
        generator: the source of every random choice.
    """
    from scipy.spatial import cKDTree

    center, extent = scene_center(views.cameras), scene_extent(views.cameras)
    half = 1.45 * extent
    axis = ((torch.arange(GRID) + 0.5) / GRID * 2 - 1) * half
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3) + center
    chosen = torch.multinomial(hull_weights(views, grid, GRID), count, replacement=True, generator=generator)
    means = grid[chosen] + (torch.rand(count, 3, generator=generator) - 0.5) * (2 * half / GRID)
    colors = torch.zeros(count, 3)
    step = max(1, len(views.cameras) // 12)
    used = range(0, len(views.cameras), step)
    for view in used:
        colors += _samples(views.images[view], project(views.cameras, view, means)[0])
    tree = cKDTree(means.numpy())
    spacing = torch.from_numpy(tree.query(means.numpy(), k=min(4, count))[0].reshape(count, -1)[:, 1:].mean(1)).float()
    spacing = spacing.nan_to_num(0.1 * extent).clamp(1e-3 * extent, 0.2 * extent)
    return {
        "means": means,
        "log_scales": (0.6 * spacing).log()[:, None].repeat(1, 3),
        "quats": random_quats(count, generator),
        "logits": torch.full((count,), -0.5),
        "sh0": ((colors / len(used) - 0.5) / C0)[:, None],
        "shN": torch.zeros(count, num_coefficients(sh_degree) - 1, 3),
    }
