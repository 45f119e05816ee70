"""Large splats are refined block by block: the same as all at once, but for what is shown alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaussianvae.antialias import anchor
from gaussianvae.enhance import EnhanceConfig, block, enhance, plan, prepare
from gaussianvae.model.tokens import make_tokens
from gaussianvae.scene.blocks import cut_into_blocks
from gaussianvae.scene.cameras import footprints
from gaussianvae.scene.splats import STATE
from scenes import random_splats, ring_cameras, some_weights


@pytest.fixture(autouse=True)
def _believing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained weights predict nonsense; most laws are about what is made of it."""
    monkeypatch.setattr(block, "SHORTFALL", math.inf)


@given(st.integers(0, 200), st.integers(1, 60), st.integers(0, 5))
def test_blocks_hold_every_row_once_and_no_more_than_they_may(count: int, most: int, seed: int) -> None:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    blocks = cut_into_blocks(points, most)
    assert all(0 < len(rows) <= most and bool((rows.diff() > 0).all()) for rows in blocks)
    together = torch.cat(blocks) if blocks else torch.arange(0)
    assert torch.equal(together.sort().values, torch.arange(count))


def test_coincident_points_are_cut_too() -> None:
    assert [len(rows) for rows in cut_into_blocks(torch.zeros(8, 3), 3)] == [2, 2, 2, 2]


def test_tokens_of_some_rows_are_those_of_the_whole() -> None:
    splats, cameras = random_splats(70, degree=2), ring_cameras(3)
    start, phi = anchor(splats, cameras, 4.0), footprints(cameras, splats.means)
    whole = make_tokens(splats, start, phi, 4.0)
    rows = torch.tensor([5, 69, 0, 33])
    some = make_tokens(splats, start, phi, 4.0, rows=rows)
    for name in ("own", "neighbors", "frames", "order"):
        torch.testing.assert_close(getattr(some, name), getattr(whole, name)[rows])


@pytest.mark.parametrize("method", ["vae", "split"])
def test_one_pass_in_blocks_is_one_pass_over_the_whole(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    splats, cameras, weights = random_splats(90), ring_cameras(3), some_weights()
    config = EnhanceConfig(method=method, polish=0)  # type: ignore[arg-type]
    whole = enhance(splats, 4.0, config, cameras=cameras, weights=weights)
    monkeypatch.setattr(plan, "BLOCK", 25)
    ready = prepare(splats, 4.0, config, cameras=cameras, weights=weights)
    assert len(list(ready.parts())) == 4 and len(ready) == 135
    cut = enhance(splats, 4.0, config, cameras=cameras, weights=weights)

    def key(edit: object) -> torch.Tensor:
        return (2 * edit.parents + edit.born.long()).argsort()  # type: ignore[attr-defined]

    for name in STATE:
        there, here = (getattr(r.splats, name)[key(r.edit)] for r in (whole, cut))
        torch.testing.assert_close(here, there, msg=name)


def test_blocks_are_polished_and_the_budget_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    splats, cameras, weights = random_splats(90), ring_cameras(12), some_weights()
    monkeypatch.setattr(plan, "BLOCK", 40)
    config = EnhanceConfig(score="size", polish=6, budget=1.3)
    plain = enhance(splats, 4.0, replace(config, polish=0), cameras=cameras, weights=weights)
    once, again = (enhance(splats, 4.0, config, cameras=cameras, weights=weights) for _ in range(2))
    assert len(once.splats) == 117 and torch.equal(once.splats.means, again.splats.means)
    assert torch.equal(once.edit.parents, plain.edit.parents)
    assert float((once.splats.means != plain.splats.means).any(1).float().mean()) > 0.5


def test_a_block_is_polished_from_where_it_is_seen() -> None:
    cameras = ring_cameras(6)
    assert len(plan.views_of(cameras, torch.zeros(50, 3))) == 6
    # beyond the origin for the camera opposite to the first, which has it behind itself
    behind = -2 * cameras.positions[3].repeat(50, 1)
    seen = plan.views_of(cameras, behind).positions
    distance = torch.cdist(cameras.positions, seen).amin(1)
    assert float(distance[0]) > 0.1 and float(distance[3]) < 1e-5
