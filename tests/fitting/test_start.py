"""Where a fit begins: in the hull, at the sparse cloud, or in the shared volume, with a background where one may be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaussianvae.captures import Views
from gaussianvae.captures.capture import SparsePoints
from gaussianvae.captures.views import digest
from gaussianvae.fitting.start import BEYOND, starting_points
from gaussianvae.scene.cameras import project
from gaussianvae.scene.harmonics import C0
from scenes import ring_cameras


def plain_views(count: int = 8, size: int = 32) -> Views:
    """Photos without alpha: left half red, right half green."""
    images = torch.zeros(count, size, size, 3)
    images[:, :, : size // 2, 0] = 1
    images[:, :, size // 2 :, 1] = 1
    return Views(ring_cameras(count, size), images, None, torch.zeros(3))


def cloud(count: int, errors: float = 1.0) -> SparsePoints:
    g = torch.Generator().manual_seed(4)
    return SparsePoints(
        torch.rand(count, 3, generator=g) - 0.5,
        torch.rand(count, 3, generator=g),
        torch.full((count,), errors),
        torch.full((count,), 5),
    )


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a[:, None] - b).norm(dim=2)


def begin(views: Views, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return starting_points(views, count, 1, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [100, 400, 1000])
def test_rows_begin_at_the_cloud_and_others_around_it(count: int) -> None:
    points = cloud(300)
    raw = begin(replace(plain_views(), points=points), count)
    near = count - int(BEYOND * count)
    distance = distances(raw["means"][:near], points.means).amin(1)
    exact = min(near, 300)
    assert len(raw["means"]) == count and bool((distance[:exact] == 0).all())
    assert len(torch.unique(raw["means"][:exact], dim=0)) == exact
    assert float(distance.max()) < 0.5  # points lie a tenth apart
    row = distances(raw["means"][:exact], points.means).argmin(1)
    torch.testing.assert_close(raw["sh0"][:exact, 0] * C0 + 0.5, points.colors[row])


def test_doubtful_points_are_left_out() -> None:
    points = cloud(300)
    points.errors[:100] = 9.0
    points.track_lengths[100:150] = 2
    raw = begin(replace(plain_views(), points=points), 250)
    near = raw["means"][: 250 - int(BEYOND * 250)]
    used = distances(near, points.means).amin(0) == 0
    assert not used[:150].any() and used[150:].all()


def test_a_cloud_of_a_few_points_is_not_used() -> None:
    few = begin(replace(plain_views(), points=cloud(20)), 200)
    none = begin(plain_views(), 200)
    assert torch.equal(few["means"], none["means"])


def test_a_background_lies_on_rays_beyond_the_rest_and_has_their_colors() -> None:
    views = plain_views()
    raw = begin(replace(views, points=cloud(300)), 500)
    far = raw["means"][-int(BEYOND * 500) :]
    colors = raw["sh0"][-len(far) :, 0] * C0 + 0.5
    matches = torch.zeros(len(far), dtype=torch.bool)
    for view in range(len(views.cameras)):
        pixels, depths = project(views.cameras, view, far)
        inside = (pixels >= 0).all(1) & (pixels < 32).all(1) & (depths > 3)
        at = pixels.clamp(0, 31).long()
        matches |= inside & ((views.images[view][at[:, 1], at[:, 0]] - colors).abs().amax(1) < 1e-4)
    assert bool(matches.all())


def test_transparent_photos_get_no_background() -> None:
    views = plain_views()
    raw = begin(replace(views, alphas=torch.ones(views.images.shape[:3])), 300)
    assert float(raw["means"].norm(dim=1).max()) < 3.0


def test_the_same_seed_begins_alike_and_values_are_finite() -> None:
    views = replace(plain_views(), points=cloud(300))
    once, again, other = begin(views, 400), begin(views, 400), begin(views, 400, seed=1)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["means"], other["means"])
    assert all(bool(value.isfinite().all()) for value in once.values())


def test_the_cloud_is_part_of_the_photos_key() -> None:
    views = plain_views()
    seen_more = replace(cloud(60), track_lengths=torch.full((60,), 6))
    variants = (None, cloud(60), cloud(60, 2.0), seen_more)
    keys = {digest(replace(views, points=points)) for points in variants}
    assert len(keys) == 4
