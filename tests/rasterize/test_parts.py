"""How work is shared among threads: depth order, regions of tiles, aligned memory, and when threads are worth it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaussianvae.rasterize.cpu import frame
from gaussianvae.rasterize.cpu.layout import DEPTH, RY, kernel, scratch
from gaussianvae.rasterize.cpu.order import merge_stretch, sort_records
from gaussianvae.rasterize.cpu.simd_memory import fetch_add
from gaussianvae.rasterize.cpu.tiles import split_tiles

DEPTHS = st.lists(
    st.tuples(st.sampled_from([0.02, 1.0, 1.5, 2.0, 2.0000002, 1e9]) | st.floats(0.01, 100), st.booleans())
)


@given(DEPTHS, st.integers(1, 5), st.data())
def test_merged_stretches_are_the_stable_order(
    records: list[tuple[float, bool]], parts: int, data: st.DataObject
) -> None:
    n = len(records)
    geometry = np.zeros((n, 16), np.float32)
    geometry[:, DEPTH] = [depth for depth, _ in records]
    geometry[:, RY] = [float(seen) for _, seen in records]
    expected = [i for i in np.argsort(geometry[:, DEPTH], kind="stable") if records[i][1]]
    edges = np.array([0, *sorted(data.draw(st.lists(st.integers(0, n), min_size=parts - 1, max_size=parts - 1))), n])
    keys, order = np.empty(2 * n, np.uint32), np.empty(2 * n, np.int32)
    counts = [sort_records(geometry.reshape(-1), edges[p], edges[p + 1], n, keys, order) for p in range(parts)]
    heads = edges[:-1].copy()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(expected)), max_size=3)))
    found = [
        merge_stretch(keys, order, heads, heads + np.array(counts), lo, hi)
        for lo, hi in zip([0, *cuts], [*cuts, len(expected)], strict=True)
    ]
    assert np.concatenate(found).tolist() == expected


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 6))
def test_parts_get_equal_work_up_to_one_tile(weights: list[int], parts: int) -> None:
    bounds = np.empty(parts + 1, np.int64)
    split_tiles(np.array(weights), bounds)
    assert bounds[0] == 0 and bounds[-1] == len(weights) and (np.diff(bounds) >= 0).all()
    ideal = sum(weights) / parts
    for part in range(parts + 1):
        assert abs(sum(weights[: bounds[part]]) - part * ideal) <= max(weights) / 2 + 1e-9


@kernel
def _count_up(array, index, times):
    for _ in range(times):
        fetch_add(array, index)


def test_atomic_counting() -> None:
    array = np.zeros(3, np.int64)
    frame.run(2, lambda _: _count_up(array, 1, 200_000))
    assert array.tolist() == [0, 400_000, 0]


@kernel
def _scratch_address(size):
    return scratch(size).ctypes.data


def test_memory_begins_at_cache_lines() -> None:
    for size in (1, 3, 16, 1000, 3_000_000):
        assert frame.empty(size).ctypes.data % 64 == 0
        assert frame.empty(size, np.int32).size == size
        assert _scratch_address(size) % 64 == 0
    workspace = frame.Workspace()
    workspace.get("a", 5)[:5] = range(5)
    grown = workspace.get("a", 1_000_000, keep=5)
    assert grown.ctypes.data % 64 == 0 and grown[:5].tolist() == [0, 1, 2, 3, 4]


def test_small_frames_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert frame.default_threads(100, (256, 256)) == 1
    assert frame.default_threads(10_000, (256, 256)) == 4
    assert frame.default_threads(100, (800, 800)) == 4
