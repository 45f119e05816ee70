"""Moves between frames: laws, and the same picture through moved cameras."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.rotations import quats_to_rotmats
from gaussianvae.scene.similarity import Similarity, axes_text, axis_rotations, turn_between
from gaussianvae.scene.splats import transform
from scenes import random_splats, ring_cameras


def random_move(seed: int) -> Similarity:
    g = torch.Generator().manual_seed(seed)
    turn = quats_to_rotmats(torch.randn(4, generator=g, dtype=torch.float64))
    scale = math.exp(float(torch.randn((), generator=g)))
    return Similarity(turn, scale, torch.randn(3, generator=g, dtype=torch.float64))


@given(st.integers(0, 1000), st.integers(1001, 2000))
def test_moves_are_a_group(one: int, two: int) -> None:
    a, b = random_move(one), random_move(two)
    points = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(a.after(b).apply(points), a.apply(b.apply(points)))
    torch.testing.assert_close(a.inverse().apply(a.apply(points)), points)


def test_moved_cameras_see_of_a_splat_what_the_others_see_of_the_moved_one() -> None:
    splats, cameras, move = random_splats(60), ring_cameras(3), random_move(4)
    move = Similarity(move.rotation.float(), move.scale, move.translation.float())
    moved = transform(splats, move.rotation, move.translation, move.scale)
    back = move.inverse().cameras(cameras)  # cameras that stand around the moved splat as the others around the first
    for view in range(3):
        shown = render(moved, back, view, filter=Filter("mip", 0.1))
        still = render(splats, cameras, view, filter=Filter("mip", 0.1))
        torch.testing.assert_close(shown.rgb, still.rgb, atol=2e-3, rtol=0)


def test_there_are_24_turns_of_the_axes() -> None:
    turns = axis_rotations()
    assert len(turns) == 24 == len({tuple(turn.flatten().tolist()) for turn in turns})
    assert torch.equal(turns[0], torch.eye(3))
    for turn in turns:
        assert torch.equal(turn @ turn.T, torch.eye(3)) and float(torch.linalg.det(turn)) == 1
        # the words say what happens to coordinates
        words = axes_text(turn).split(" -> ")[1].strip("()").split(", ")
        place = {"x": 1.0, "y": 2.0, "z": 3.0}
        said = [-place[word[1:]] if word.startswith("-") else place[word] for word in words]
        assert (turn @ torch.tensor([1.0, 2.0, 3.0])).tolist() == said


@pytest.mark.parametrize("seed", range(8))
def test_the_least_turn_between_directions(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b = torch.nn.functional.normalize(torch.randn(2, 3, generator=g, dtype=torch.float64), dim=1)
    for end in (b, a, -a):
        turn = turn_between(a, end)
        torch.testing.assert_close(turn @ a, end)
        torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
        assert float(torch.linalg.det(turn)) == pytest.approx(1)
        # its angle is that between them
        cosine = (float(turn.trace()) - 1) / 2
        assert cosine == pytest.approx(float(a @ end))
