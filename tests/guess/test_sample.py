"""Fewer Gaussians that tell as much: what must be kept of a splat."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaussianvae.guess.sample import every_kth, thinned
from scenes import random_splats


@pytest.mark.parametrize("count", [300, 3000, 450_000])
def test_thinned_gaussians_stand_for_all_and_cover_as_much(count: int) -> None:
    splats = random_splats(min(count, 3000), degree=0)
    splats = replace(splats, opacities=splats.opacities.clamp_min(0.1))
    splats = splats if len(splats) == count else splats.select(torch.arange(count) % len(splats))
    few, stands_for = thinned(splats, 1000)
    assert len(few) <= 1001 and (len(few) > 900 or len(few) == count)
    assert float(stands_for.sum()) == pytest.approx(count, rel=0.1)
    assert float(few.scales.square().sum()) == pytest.approx(float(splats.scales.square().sum()), rel=0.1)


def test_the_largest_stay_as_they_are() -> None:
    splats = random_splats(5000, degree=0)
    scales = splats.scales.clone()
    scales[7] = 50.0
    few, stands_for = thinned(replace(splats, scales=scales, opacities=torch.ones(5000)), 500)
    largest = few.scales[:, 0].argmax()
    assert float(few.scales[largest, 0]) == 50.0 and float(stands_for[largest]) == 1.0


def test_every_kth_is_the_splat_itself_where_it_is_small() -> None:
    splats = random_splats(10)
    assert every_kth(splats) is splats
    assert len(every_kth(splats, 3)) == 3
