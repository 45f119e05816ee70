"""Guesses about a splat that doesn't say how it was trained: laws, and sizes drawn as the kinds of fits have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.guess import (
    SPACING_FINE,
    estimate_cameras,
    guess_background,
    guess_pixel,
    guess_recipe,
    spacing,
)
from gaussianvae.guess.outside import pinholes
from gaussianvae.rasterize import Filter
from gaussianvae.scene.cameras import footprints
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import concatenate
from rooms import room
from scenes import Told, random_splats, ring_cameras


@given(st.floats(0.1, 1e3), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_guesses_do_not_depend_on_the_unit(unit: float, seed: int) -> None:
    splats = replace(random_splats(300, seed=seed), recipe=Recipe())
    grown = replace(splats, means=unit * splats.means, scales=unit * splats.scales)
    assert guess_recipe(grown) == guess_recipe(splats)
    assert guess_pixel(grown) == pytest.approx(unit * guess_pixel(splats), rel=1e-3)


def test_the_estimated_width_does_not_depend_on_the_unit() -> None:
    splats = replace(random_splats(300), recipe=Recipe())
    grown = replace(splats, means=30 * splats.means, scales=30 * splats.scales)
    assert abs(estimate_cameras(grown).sizes[0][0] - estimate_cameras(splats).sizes[0][0]) <= 1


def test_the_smallest_of_a_mip_fit_are_the_most_opaque() -> None:
    """What is too small to be seen is dimmed by a mip filter, and widened by a classic one."""
    splats = replace(random_splats(3000), recipe=Recipe())
    sizes = torch.exp(0.75 * torch.randn(3000, 1, generator=torch.Generator().manual_seed(1)) - 4)
    splats = replace(splats, scales=sizes.expand(-1, 3), opacities=torch.full((3000,), 0.6))
    small = sizes[:, 0] <= sizes.quantile(0.1)
    opaque = replace(splats, opacities=torch.where(small, torch.tensor(0.8), splats.opacities))
    faint = replace(splats, opacities=torch.where(small, torch.tensor(0.4), splats.opacities))
    assert (guess_recipe(opaque).mode, guess_recipe(faint).mode) == ("mip", "classic")


def test_sizes_that_grow_with_distance_are_even_in_pixels() -> None:
    splats = room()
    means = torch.cat([splats.means, 8 * splats.means])  # a second room, eight times as far and as large
    doubled = replace(concatenate([splats, splats]), means=means, recipe=Recipe())
    eye = pinholes(torch.tensor([[-1.0, 2.5, 1.5]]), torch.tensor([[3.0, 2.5, 1.5]]), 10.0, 100)
    scales = (
        doubled.scales[:, :1].median() * torch.exp(0.3 * torch.randn(len(means), 3)) * footprints(eye, means)[:, None]
    )
    even = replace(doubled, scales=scales)
    assert guess_recipe(even).mode == "classic"
    assert guess_recipe(even, eye).mode == "mip"


@pytest.mark.parametrize(
    ("deviation", "mode", "filter_3d"), [(0.15, "mip", True), (0.5, "mip", False), (1.5, "classic", False)]
)
def test_the_more_uneven_the_sizes_the_less_they_were_filtered(deviation: float, mode: str, filter_3d: bool) -> None:
    splats = random_splats(2000)
    sizes = torch.exp(deviation * torch.randn(2000, 1, generator=torch.Generator().manual_seed(1)) - 4)
    guessed = guess_recipe(replace(splats, scales=sizes.expand(-1, 3), recipe=Recipe()))
    assert (guessed.mode, guessed.filter_3d) == (mode, filter_3d)


def test_estimated_cameras_have_the_guessed_pixel() -> None:
    splats = replace(random_splats(500), recipe=Recipe())
    phi = footprints(estimate_cameras(splats), splats.means, average=True).median()
    assert float(phi) == pytest.approx(guess_pixel(splats), rel=0.05)


def test_what_is_known_of_the_width_is_not_estimated() -> None:
    listener = Told()
    splats = replace(random_splats(50), recipe=Recipe(width=77))
    assert set(estimate_cameras(splats, report=listener).sizes) == {(77, 77)}
    assert set(estimate_cameras(splats, 55, listener).sizes) == {(55, 55)}
    assert len(estimate_cameras(replace(splats, recipe=Recipe()), report=listener)) >= 12
    assert [note.rsplit("(")[1][:5] for note in listener.messages] == ["remem", "given", "estim"]
    with pytest.raises(GaussianVAEError, match="at least 1"):
        estimate_cameras(splats, 0)
    with pytest.raises(GaussianVAEError, match="no Gaussians"):
        estimate_cameras(replace(splats, recipe=Recipe()).select(torch.arange(0)))


def test_a_pixel_far_larger_than_the_spacing_is_not_believed() -> None:
    # many faint Gaussians of very uneven sizes, as the field's own splats have: their sizes alone would say "blurred"
    splats = replace(random_splats(4000), recipe=Recipe())
    wide = replace(splats, scales=5 * splats.scales)
    assert guess_pixel(wide) < guess_pixel(splats) < spacing(splats)
    assert guess_pixel(wide) == pytest.approx(SPACING_FINE * spacing(splats))


def test_spacing_is_that_of_a_grid() -> None:
    steps = torch.arange(12.0)
    grid = torch.cartesian_prod(steps, steps, steps)
    splats = random_splats(len(grid))
    splats = replace(splats, means=grid, opacities=torch.full((len(grid),), 0.9))
    # inside a grid six neighbors are one step away, the next twelve the square root of two
    assert spacing(splats) == pytest.approx(2**0.5)
    assert spacing(splats.select(torch.arange(8))) == 0


@pytest.mark.parametrize(("rim", "color"), [(0.0, (0.0, 0.0, 0.0)), (1.0, (1.0, 1.0, 1.0)), (0.5, None)])
def test_a_rim_of_the_backgrounds_color_betrays_it(rim: float, color: tuple[float, float, float] | None) -> None:
    """A gray ball of opaque Gaussians in a faint shell, as a fit mixes the background into what it shows in part."""
    ball, shell = random_splats(1500, degree=0), random_splats(1500, degree=0, seed=1)
    directions = torch.nn.functional.normalize(shell.means, dim=1)
    gray = (torch.tensor([0.5, rim]) - 0.5) / 0.28209479177387814
    inside = replace(
        ball,
        means=0.8 * ball.means,
        scales=torch.full((1500, 3), 0.08),
        opacities=torch.full((1500,), 0.95),
        sh0=gray[0].expand(1500, 1, 3).clone(),
    )
    outside = replace(
        shell,
        means=1.05 * directions,
        scales=torch.full((1500, 3), 0.05),
        opacities=torch.full((1500,), 0.04),
        sh0=gray[1].expand(1500, 1, 3).clone(),
    )
    splats = replace(concatenate([inside, outside]), recipe=Recipe())
    assert guess_background(splats, ring_cameras(4, 64), Filter("classic", 0.3)) == color


def test_where_no_rim_is_seen_no_background_is_guessed() -> None:
    far = replace(random_splats(40), means=random_splats(40).means + 100)
    assert guess_background(far, ring_cameras(3), Filter("classic", 0.3)) is None
    assert guess_background(random_splats(40), ring_cameras(3).select([]), Filter("classic", 0.3)) is None
