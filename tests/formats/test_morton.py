"""Z-order against interleaving the bits one at a time."""

from __future__ import annotations

import numpy as np

from gaussianvae.formats.morton import BITS, morton_order


def code_of(point: list[float], low: list[float], high: list[float]) -> int:
    """x in the lowest bit, then y, then z, and so on."""
    cells = [int((p - a) / (b - a) * (2**BITS - 1)) if b > a else 0 for p, a, b in zip(point, low, high, strict=True)]
    return sum((cell >> bit & 1) << (3 * bit + axis) for axis, cell in enumerate(cells) for bit in range(BITS))


def test_the_order_is_that_of_the_codes() -> None:
    points = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    points[:, 1] *= 1e-3
    points[7] = 1e4
    low, high = points.astype(np.float64).min(0).tolist(), points.astype(np.float64).max(0).tolist()
    order = morton_order(points)
    codes = [code_of(points[row].astype(np.float64).tolist(), low, high) for row in order]
    assert codes == sorted(codes) and sorted(order.tolist()) == list(range(500))


def test_neighbors_in_the_order_are_neighbors_in_space() -> None:
    points = np.random.default_rng(0).uniform(size=(4096, 3)).astype(np.float32)
    steps = np.linalg.norm(np.diff(points[morton_order(points)], axis=0), axis=1)
    # 4096 points of the unit cube are 1/16 apart; random ones would be 0.66
    assert steps.mean() < 0.15


def test_points_without_extent_keep_their_order() -> None:
    assert morton_order(np.ones((5, 3), np.float32)).tolist() == [0, 1, 2, 3, 4]
    assert morton_order(np.zeros((0, 3), np.float32)).tolist() == []
