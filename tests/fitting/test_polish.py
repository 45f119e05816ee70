"""Polish: the result agrees better with the given splat, keeps what it must, and turns with the scene."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.antialias import PIXEL_FILTER, anchor, training_filter
from gaussianvae.fitting.polish import FLOOR, RATES, Agreement, VectorAdam, polish
from gaussianvae.rasterize import render
from gaussianvae.scene.cameras import resize
from gaussianvae.scene.imaging import psnr, reduce_image
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import quats_to_rotmats, random_quats
from gaussianvae.scene.splats import Splats
from scenes import random_splats, ring_cameras

CLASSIC = Recipe("classic", 0.3, background=(0.0, 0.0, 0.0))


def consistency(fine: Splats, given: Splats, size: int, views: int) -> float:
    """PSNR of fine renders, area-averaged, against the given splat's own: written anew, with its own loop."""
    cameras = ring_cameras(views, size)
    values = []
    for view in range(views):
        target = render(given, cameras, view, filter=training_filter(given.recipe)).rgb
        image = render(fine, resize(cameras, 1 / 4), view, filter=PIXEL_FILTER).rgb
        values.append(psnr(reduce_image(image, (size, size)), target))
    return sum(values) / views


@pytest.mark.parametrize("recipe", [CLASSIC, Recipe("mip", 0.1)])
def test_the_result_agrees_better_also_where_no_step_looked(recipe: Recipe) -> None:
    splats = random_splats(150, recipe=recipe)
    start = anchor(splats, ring_cameras(14, 40), 4.0)
    result = polish(start, Agreement(splats, ring_cameras(14, 40), 4.0), 40)
    # 9 views on the same ring: all but one lie between those learned from
    assert consistency(result, splats, 40, 9) > consistency(start, splats, 40, 9) + 0.5
    assert result.recipe == start.recipe and len(result) == len(start)


def test_a_splat_that_agrees_already_is_returned_itself() -> None:
    """At scale 1 through the same filter every render is the target itself: nothing can be better."""
    splats = random_splats(40, recipe=Recipe("mip", PIXEL_FILTER.eps2d))
    assert polish(splats, Agreement(splats, ring_cameras(5), 1.0), 5) is splats


def test_nothing_to_do_returns_the_splat_itself() -> None:
    splats = random_splats(6, recipe=CLASSIC)
    assert polish(splats, Agreement(splats, ring_cameras(3), 4.0), 0) is splats
    assert polish(splats, Agreement(splats, ring_cameras(3).select([]), 4.0), 5) is splats
    empty = random_splats(0, recipe=CLASSIC)
    assert polish(empty, Agreement(empty, ring_cameras(3), 4.0), 5) is empty


def test_the_same_seed_gives_the_same_result() -> None:
    splats, cameras = random_splats(60, recipe=CLASSIC), ring_cameras(6)
    once, again, other = (polish(splats, Agreement(splats, cameras, 2.5, seed), 6).means for seed in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_a_step_turns_with_the_scene(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    gradients = [torch.randn(7, 3, generator=g, dtype=torch.float64) for _ in range(4)]
    turn = quats_to_rotmats(random_quats(1, g))[0].double()
    ends = []
    for rotation in (torch.eye(3, dtype=torch.float64), turn):
        raw = {"means": torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)}
        adam = VectorAdam(raw, RATES)
        for gradient in gradients:
            raw["means"].grad = gradient @ rotation.T
            adam.step(1.0)
        ends.append(raw["means"].detach())
    torch.testing.assert_close(ends[1], ends[0] @ turn.T)


def test_of_single_numbers_it_is_adam() -> None:
    """One row, so that the floor is a multiple of its own scale and every step the same part of Adam's."""
    g = torch.Generator().manual_seed(3)
    ours, theirs = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mine = VectorAdam({"logits": ours}, {"logits": 0.1 * (1 + FLOOR)})
    adam = torch.optim.Adam([theirs], lr=0.1, eps=0.0)
    for _ in range(20):
        gradient = torch.randn(1, generator=g, dtype=torch.float64)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step(1.0)
        adam.step()
    torch.testing.assert_close(ours.detach(), theirs.detach())


@pytest.mark.parametrize("scale", [2.0, 4.0])
def test_a_window_is_a_part_of_the_whole_image(scale: float) -> None:
    splats, cameras = random_splats(50, recipe=CLASSIC), ring_cameras(3, 48)
    rule = Agreement(splats, cameras, scale, seed=4)
    for turn in range(6):
        part = rule.window(1, turn, limit=int(16 * scale))
        assert part.sizes == ((16, 16),)
        left, top = (cameras.Ks[1, :2, 2] - part.Ks[0, :2, 2]).round().int().tolist()
        assert 0 <= left <= 32 and 0 <= top <= 32
        whole = render(splats, cameras, 1, filter=PIXEL_FILTER).rgb[top : top + 16, left : left + 16]
        # not to the bit: the projection's slopes are clamped a little beyond the image, wherever that ends
        torch.testing.assert_close(render(splats, part, 0, filter=PIXEL_FILTER).rgb, whole, atol=2e-2, rtol=0)
        fine = resize(part, 1 / scale)
        assert fine.sizes[0] == (16 * scale, 16 * scale)
    assert rule.window(1, 0).sizes == ((48, 48),)


def test_an_unknown_background_is_both_and_a_known_one_itself() -> None:
    splats, cameras = random_splats(5), ring_cameras(2)
    assert Agreement(splats, cameras, 2.0).backgrounds().tolist() == [[0, 0, 0], [1, 1, 1]]
    known = replace(splats, recipe=Recipe(background=(0.25, 0.5, 1.0)))
    assert Agreement(known, cameras, 2.0).backgrounds().tolist() == [[0.25, 0.5, 1.0]]
