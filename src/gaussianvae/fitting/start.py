"""Where a fit begins: points in the visual hull of the photos' alpha, else the capture's sparse cloud, else the volume
that the cameras share; photos without alpha get a background of points beyond it."""

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
BEYOND, FARTHEST = 0.2, 20.0
"""Share of the rows that begin as background in photos without alpha, and how many times farther the last ones lie."""
FEWEST_POINTS = 50
"""A sparse cloud of fewer is no place to begin."""


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
    center, extent = scene_center(views.cameras), scene_extent(views.cameras)
    if views.alphas is not None:
        means = _in_hull(views, center, extent, count, generator)
        colors, largest = _seen_colors(views, means), torch.full((count,), 0.2 * extent)
    else:
        near, colors = _near(views, center, extent, count - int(BEYOND * count), generator)
        far, shown = _beyond(views, near, int(BEYOND * count), generator)
        means, colors = torch.cat([near, far]), torch.cat([colors, shown])
        largest = 0.2 * (means - center).norm(dim=1).clamp_min(extent)
    spacing = _spacing(means).nan_to_num(0.1 * extent).clamp_min(1e-3 * extent).minimum(largest)
    return {
        "means": means,
        "log_scales": (0.6 * spacing).log()[:, None].repeat(1, 3),
        "quats": random_quats(count, generator),
        "logits": torch.full((count,), -0.5),
        "sh0": ((colors - 0.5) / C0)[:, None],
        "shN": torch.zeros(count, num_coefficients(sh_degree) - 1, 3),
    }


def _spacing(means: Tensor) -> Tensor:
    """Mean distance to the three nearest others."""
    from scipy.spatial import cKDTree

    distances = cKDTree(means.numpy()).query(means.numpy(), k=min(4, len(means)))[0]
    return torch.from_numpy(distances.reshape(len(means), -1)[:, 1:].mean(1)).float()


def _seen_colors(views: Views, means: Tensor) -> Tensor:
    """Mean color of a dozen photos where they show each point."""
    used = range(0, len(views.cameras), max(1, len(views.cameras) // 12))
    colors = torch.zeros(len(means), 3)
    for view in used:
        colors += _samples(views.images[view], project(views.cameras, view, means)[0])
    return colors / len(used)


def _in_hull(views: Views, center: Tensor, extent: float, count: int, generator: torch.Generator) -> Tensor:
    half = 1.45 * extent
    axis = ((torch.arange(GRID) + 0.5) / GRID * 2 - 1) * half
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3) + center
    chosen = torch.multinomial(hull_weights(views, grid, GRID), count, replacement=True, generator=generator)
    return grid[chosen] + (torch.rand(count, 3, generator=generator) - 0.5) * (2 * half / GRID)


def _near(
    views: Views, center: Tensor, extent: float, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Points and colors of what the cameras look at: the sparse cloud's, or points in the volume that they share."""
    cloud = views.points
    if cloud is None or len(cloud.means) < FEWEST_POINTS:
        means = _in_hull(views, center, extent, count, generator)
        return means, _seen_colors(views, means)
    # some points are mistakes of matching: those of large error or in few photos
    doubtful = (cloud.errors > 3 * cloud.errors.median()) | (cloud.track_lengths < 3)
    sound = torch.nonzero(~doubtful)[:, 0] if int((~doubtful).sum()) >= FEWEST_POINTS else torch.arange(len(doubtful))
    rounds = -(-count // len(sound))
    order = torch.cat([torch.randperm(len(sound), generator=generator) for _ in range(rounds)])[:count]
    means = cloud.means[sound][order].clone()
    again = torch.arange(count) >= len(sound)
    if again.any():  # more rows than points: the others begin around them
        spread = _spacing(cloud.means[sound])[order[again]].clamp_max(extent)[:, None]
        means[again] += 0.5 * spread * torch.randn(int(again.sum()), 3, generator=generator)
    return means, cloud.colors[sound][order]


def _beyond(
    views: Views, near: Tensor, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Points and colors of a background: on random pixels' rays, beyond nearly all of `near`, evenly in 1 / depth."""
    positions, cameras = views.cameras.positions, views.cameras
    some = near[:: max(1, len(near) // 1000)]
    depth = torch.cat([project(cameras, v, some)[1] for v in range(len(cameras))])
    edge = float(depth[depth > NEAR].quantile(0.9)) if bool((depth > NEAR).any()) else 1.0
    view = torch.randint(len(cameras), (count,), generator=generator)
    size = torch.tensor(cameras.sizes, dtype=torch.float32)[view]
    pixels = torch.rand(count, 2, generator=generator) * size
    depths = edge / (1 / FARTHEST + (1 - 1 / FARTHEST) * torch.rand(count, generator=generator))
    K, turn = cameras.Ks[view], cameras.viewmats[view, :3, :3]
    rays = torch.stack(
        [(pixels[:, 0] - K[:, 0, 2]) / K[:, 0, 0], (pixels[:, 1] - K[:, 1, 2]) / K[:, 1, 1], torch.ones(count)], 1
    )
    means = positions[view] + (depths[:, None] * rays)[:, None, :].matmul(turn)[:, 0]
    colors = torch.stack([_samples(views.images[v], at[None])[0] for v, at in zip(view.tolist(), pixels, strict=True)])
    return means, colors
