"""Codebooks against Lloyd's two conditions; palettes against exact cases and against one-level k-means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gaussianvae.formats import quantize
from gaussianvae.formats.quantize import make_codebook, make_palette, nearest_entries


@given(arrays.arrays(np.float32, st.integers(1, 600), elements=st.floats(-100, 100, width=32)))
def test_every_value_gets_the_nearest_entry(values: np.ndarray) -> None:
    codebook = make_codebook(values)
    assert len(codebook) == 256 and (np.diff(codebook) >= 0).all()
    off = np.abs(values - codebook[nearest_entries(values, codebook)])
    best = np.abs(values[:, None].astype(np.float64) - codebook).min(1)
    np.testing.assert_allclose(off, best, atol=1e-5)
    if len(np.unique(values)) <= 256:
        assert not off.any()


@pytest.mark.parametrize("shape", ["normal", "laplace", "uniform"])
def test_a_codebook_is_nearly_as_good_as_can_be(shape: str) -> None:
    """High-resolution theory: the best of S entries leaves a mean square of (integral of f^(1/3))^3 / (12 S^2)."""
    random = np.random.default_rng(0)
    values = getattr(random, shape)(size=100_000).astype(np.float32)
    best = {"normal": 6 * np.sqrt(3) * np.pi, "laplace": 108, "uniform": 1}[shape] / 12 / 256**2
    codebook = make_codebook(values)
    error = np.square(values - codebook[nearest_entries(values, codebook)]).mean()
    assert error < 1.15 * best


def test_a_value_that_is_there_often_is_met() -> None:
    values = np.concatenate([np.zeros(50_000), np.random.default_rng(0).normal(size=50_000)]).astype(np.float32)
    assert np.abs(make_codebook(values)).min() < 1e-3


def test_a_far_value_has_its_own_entry() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=10_000), [1000.0]]).astype(np.float32)
    codebook = make_codebook(values)
    assert codebook[-1] == 1000
    assert np.abs(values - codebook[nearest_entries(values, codebook)]).max() < 0.2


def test_repeated_vectors_are_met_exactly() -> None:
    few = torch.randn(50, 9)
    few[3] = -0.0
    few[4] = 0.0
    vectors = few[torch.randint(50, (3000,))]
    palette, labels = make_palette(vectors, 64)
    assert len(palette) == 49 and torch.equal(palette[labels], vectors)
    # in the order of their first appearance
    assert int(labels[0]) == 0 and bool((labels.cummax(0).values.diff() <= 1).all())


def test_two_levels_are_nearly_as_good_as_one() -> None:
    vectors = torch.randn(6000, 24) * torch.linspace(1, 0.1, 24)
    palette, labels = make_palette(vectors, 500)
    assert 450 <= len(palette) <= 500 and int(labels.max()) < len(palette)
    error = (vectors - palette[labels]).square().sum(1).mean()
    centers, own = quantize._kmeans(vectors, 500, torch.Generator().manual_seed(0))
    assert float(error) < 1.15 * float((vectors - centers[own]).square().sum(1).mean())
    again, labels_again = make_palette(vectors, 500)
    assert torch.equal(again, palette) and torch.equal(labels_again, labels)


def test_a_dense_crowd_of_equal_vectors_leaves_the_palette_to_the_others() -> None:
    vectors = torch.cat([torch.zeros(20_000, 9), torch.randn(300, 9)])
    palette, labels = make_palette(vectors, 256)
    error = (vectors - palette[labels]).square().sum(1)
    assert not error[:20_000].any() and float(error[20_000:].mean()) < 2
    assert 200 < len(palette) <= 256
