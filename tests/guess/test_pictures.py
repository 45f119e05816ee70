"""How much a picture tells: closed forms of few Gaussians."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaussianvae.guess.outside import pinholes
from gaussianvae.guess.pictures import SIDE, make_model
from gaussianvae.scene.splats import Splats, concatenate
from scenes import random_splats


def tiles(side: int, size: float, depth: float) -> Splats:
    """side x side equal opaque Gaussians over a square of +-1, at a depth in front of a camera that looks along z."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    splats = random_splats(side * side, degree=0)
    return replace(
        splats,
        means=torch.stack([x.flatten(), y.flatten(), torch.full((side * side,), depth)], 1),
        scales=torch.full((side * side, 3), size),
        opacities=torch.full((side * side,), 0.99),
    )


CAMERA = pinholes(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]), SIDE / 2, SIDE)
"""90 degrees wide: at depth 1 a unit is half a picture."""


def test_a_picture_is_as_rich_as_it_has_gaussians() -> None:
    rich = [make_model(tiles(side, 0.7 / side, 1.0)).look(CAMERA, 0).richness for side in (2, 4, 8)]
    assert rich[1] / rich[0] == pytest.approx(4, rel=0.25)
    assert rich[2] / rich[1] == pytest.approx(4, rel=0.25)


def test_a_blob_in_front_hides_and_spoils_it() -> None:
    wall = tiles(8, 0.08, 1.0)
    blob = tiles(1, 0.4, 0.5)
    open_view = make_model(wall).look(CAMERA, 0)
    hidden = make_model(concatenate([wall, blob])).look(CAMERA, 0)
    assert open_view.shown.all() and open_view.open == 1 and open_view.cover > 0.6
    assert hidden.framed.all() and hidden.open < 0.7
    assert hidden.richness < 0.5 * open_view.richness and hidden.merit < 0.5 * open_view.merit


def test_nothing_in_the_frame_tells_nothing() -> None:
    look = make_model(tiles(4, 0.1, -1.0)).look(CAMERA, 0)
    assert look.cover == 0 and look.merit == 0 and not look.framed.any()
