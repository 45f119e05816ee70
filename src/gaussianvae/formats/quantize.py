"""Codebooks and palettes: the few values, or the few vectors, that stand for many with little error."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from gaussianvae.progress import SILENT, Reporter

GROUPS = 4096
"""Of equal counts of values, in which the density is taken to be constant."""
LEVELING = 0.75
SWEEPS = 60
CELLS = 256
SAMPLE = 20_000
ROUNDS = 8
BLOCK = 8192
"""Vectors at a time in a table of distances."""


def make_codebook(values: NDArray[np.float32], size: int = 256) -> NDArray[np.float32]:
    """Sorted values (`size`) that stand for all of `values` with a small mean squared error.

    Lloyd's iteration, from centers spread as they lie in the limit of many (by the cube root of the density; Panter and
    Dite, 1951). Values count a little less where many are (by their density to the power -1/4; splat-transform's
    quantize1d takes -1/2): of normal values the mean square grows by 5 %, the error of the farthest shrinks by a third.
    Values of which there are at most `size` are met exactly.
    """
    distinct = np.unique(values)
    if len(distinct) <= size:
        return np.concatenate([distinct, np.full(size - len(distinct), distinct[-1], np.float32)])
    ordered = np.sort(values, axis=None).astype(np.float64)
    count, extent = len(ordered), ordered[-1] - ordered[0]
    at = np.linspace(0, count, min(GROUPS, count // 8) + 1).astype(np.int64)
    edges = ordered[np.minimum(at, count - 1)]
    # a value that is there often has no width of its own
    bulk = ordered[count * 99 // 100] - ordered[count // 100]
    held, width = np.diff(at), np.maximum(np.diff(edges), max(1e-4 * bulk, 1e-9 * extent))
    mass = np.concatenate([[0.0], np.cumsum((held / width) ** (LEVELING / 3) * width)])
    centers = np.interp(np.linspace(0, mass[-1], size), mass, edges)
    weights = np.repeat((held / width / (held / width).max()) ** (LEVELING - 1), held)
    sums = [np.concatenate([[0.0], np.cumsum(weights * ordered**power)]) for power in range(3)]
    for _ in range(SWEEPS):
        bounds = np.concatenate([[0], np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2), [count]])
        used = np.diff(bounds) > 0
        weight, first, second = (np.diff(part[bounds])[used] for part in sums)
        moved = first / weight
        spread = np.sqrt(np.maximum(second / weight - moved**2, 0))
        # centers that nobody is near help where the error is largest
        worst = np.argsort(-weight * spread**2, kind="stable")[: size - len(moved)]
        moved = np.sort(np.concatenate([moved, moved[worst] + spread[worst]]))
        moved = np.concatenate([moved, np.full(size - len(moved), ordered[-1])])
        settled = np.abs(moved - centers).max() <= 1e-6 * extent
        centers = moved
        if settled:
            break
    return centers.astype(np.float32)


def nearest_entries(values: NDArray[np.float32], codebook: NDArray[np.float32]) -> NDArray[np.uint8]:
    """For each value the index of the nearest entry of a sorted codebook of at most 256."""
    codebook = codebook.astype(np.float64)
    return np.searchsorted((codebook[1:] + codebook[:-1]) / 2, values).astype(np.uint8)


def make_palette(
    vectors: Float[Tensor, "N D"], size: int, report: Reporter = SILENT
) -> tuple[Float[Tensor, "P D"], Int[Tensor, " N"]]:
    """At most `size` vectors that stand for all, and which of them stands for each; deterministic, with progress.

    Where there are no more distinct vectors than `size`, they are the palette. Else k-means on two levels, since one
    level of tens of thousands of centers takes hours on a CPU: k-means on a sample parts the vectors into a few
    hundred cells, and each cell has k-means of its own, with a share of `size` in proportion to its squared error.
    """
    palette, labels = _distinct(vectors)
    if len(palette) <= size:
        return palette, labels
    generator = torch.Generator().manual_seed(0)
    sample = vectors[torch.randperm(len(vectors), generator=generator)[:SAMPLE]]
    coarse, _ = _kmeans(sample, max(1, min(CELLS, size // 8)), generator)
    cells = _nearest(vectors, coarse)
    errors = torch.zeros(len(coarse)).index_add_(0, cells, (vectors - coarse[cells]).square().sum(1))
    held = torch.bincount(cells, minlength=len(coarse))
    parts: list[Tensor] = []
    used = 0
    groups = torch.argsort(cells, stable=True).split(held.tolist())
    with report.bar("palette", len(groups)) as bar:
        for rows, share in zip(groups, _shares(errors, held, size).tolist(), strict=True):
            if len(rows):
                centers, own = _kmeans(vectors[rows], share, generator)
                labels[rows] = own + used
                parts.append(centers)
                used += len(centers)
            bar.advance()
    return torch.cat(parts), labels


def _distinct(vectors: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "P D"], Int[Tensor, " N"]]:
    """The distinct vectors in the order of their first appearance, and which of them each is."""
    # adding 0 makes -0 and 0 the same bytes
    rows = np.ascontiguousarray(vectors.numpy() + np.float32(0))
    as_bytes = rows.view(np.dtype((np.void, rows.shape[1] * 4)))[:, 0]
    _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return vectors[torch.from_numpy(first[order])], torch.from_numpy(rank[inverse])


def _shares(errors: Float[Tensor, " C"], held: Int[Tensor, " C"], size: int) -> Int[Tensor, " C"]:
    """How many entries each cell gets: in proportion to its error, at least 1, at most as many as it holds."""
    shares = torch.ones_like(held)
    weights = errors.double()
    for _ in range(32):
        left = size - int(shares.sum())
        weights = torch.where(shares < held, weights, torch.zeros_like(weights))
        if left < len(held) or not float(weights.sum()) > 0:
            break
        shares = torch.minimum(shares + (left * weights / weights.sum()).long(), held.clamp_min(1))
    return shares


def _kmeans(
    vectors: Float[Tensor, "N D"], size: int, generator: torch.Generator
) -> tuple[Float[Tensor, "S D"], Int[Tensor, " N"]]:
    """Lloyd's iteration from random vectors; centers, and the nearest of each vector."""
    if size >= len(vectors):
        return vectors, torch.arange(len(vectors))
    centers = vectors[torch.randperm(len(vectors), generator=generator)[:size]]
    labels = _nearest(vectors, centers)
    for _ in range(ROUNDS):
        counts = torch.bincount(labels, minlength=size)[:, None]
        sums = torch.zeros_like(centers).index_add_(0, labels, vectors)
        centers = torch.where(counts > 0, sums / counts.clamp_min(1), centers)
        moved = _nearest(vectors, centers)
        if torch.equal(moved, labels):
            break
        labels = moved
    return centers, labels


def _nearest(vectors: Float[Tensor, "N D"], centers: Float[Tensor, "S D"]) -> Int[Tensor, " N"]:
    half = centers.square().sum(1) / 2
    return torch.cat([torch.addmm(half, block, centers.T, alpha=-1).argmin(1) for block in vectors.split(BLOCK)])
