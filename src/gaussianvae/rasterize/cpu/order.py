"""The depth order: every part sorts its own Gaussians; whoever needs a stretch of the whole order merges it.

So the order needs no step at which all parts wait for one another, and no part that works while the others watch.
Parts are ranges of indices, so ties between parts go to the lower part, as a stable sort of all would have it.
"""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import DEPTH, RY, ZERO, inline, kernel


@kernel
def sort_records(geom, lo, hi, n, keys, order):
    """Sort the visible records lo..hi, nearest first: indices to order[lo:], the bits of their depths to keys[lo:].

    Stable LSD radix sort, 3 x 11 bits; keys and order have 2 n values, the second n are scratch. Returns how many."""
    bits = geom.view(np.uint32)
    histogram = np.zeros((3, 2048), np.int32)
    here, there = n + lo, np.int64(lo)
    m = 0
    for i in range(lo, hi):
        k = bits[16 * i + DEPTH]  # positive floats sort as unsigned integers
        keys[here + m] = k
        order[here + m] = i
        if geom[16 * i + RY] > ZERO:
            m += 1
            histogram[0, k & np.uint32(2047)] += 1
            histogram[1, (k >> np.uint32(11)) & np.uint32(2047)] += 1
            histogram[2, k >> np.uint32(22)] += 1
    for digit in range(3):
        total = 0
        constant = False
        for k in range(2048):
            count = histogram[digit, k]
            constant |= count == m
            histogram[digit, k] = total
            total += count
        if constant:
            continue
        shift = np.uint32(11 * digit)
        for j in range(here, here + m):
            k = (keys[j] >> shift) & np.uint32(2047)
            at = histogram[digit, k]
            histogram[digit, k] = at + 1
            keys[there + at] = keys[j]
            order[there + at] = order[j]
        here, there = there, here
    if here != lo:
        for j in range(m):
            keys[lo + j] = keys[here + j]
            order[lo + j] = order[here + j]
    return m


@inline
def first_above(keys, lo, hi, key):
    """Index of the first of the sorted keys[lo:hi] that is greater than `key`."""
    while lo < hi:
        middle = (lo + hi) >> 1
        if np.int64(keys[middle]) > key:
            hi = middle
        else:
            lo = middle + 1
    return lo


@inline
def find_rank(keys, heads, stops, rank, at):
    """at[part] = where each sorted run goes on once `rank` values of the merged order are gone."""
    lo, hi = np.int64(-1), np.int64(0xFFFFFFFF)  # at most `rank` keys are <= lo, more are <= hi
    while hi - lo > 1:
        middle = (lo + hi) >> 1
        count = np.int64(0)
        for part in range(heads.size):
            count += first_above(keys, heads[part], stops[part], middle) - heads[part]
        if count > rank:
            hi = middle
        else:
            lo = middle
    rest = rank
    for part in range(heads.size):
        at[part] = first_above(keys, heads[part], stops[part], lo)
        rest -= at[part] - heads[part]
    for part in range(heads.size):
        ties = min(first_above(keys, at[part], stops[part], hi) - at[part], rest)
        at[part] += ties
        rest -= ties


@kernel
def merge_stretch(keys, order, heads, stops, lo, hi):
    """Ranks lo..hi of the whole depth order, from the runs keys[heads[part]:stops[part]] that the parts sorted."""
    out = np.empty(hi - lo, np.int32)
    if lo == hi:
        return out
    parts = heads.size
    at = np.empty(parts, np.int64)
    find_rank(keys, heads, stops, lo, at)
    none = np.int64(1 << 32)
    if parts == 2:
        a, b = at[0], at[1]
        for j in range(hi - lo):  # which run is next can't be predicted: arithmetic instead of a branch
            first = np.int64(keys[a]) if a < stops[0] else none
            second = np.int64(keys[b]) if b < stops[1] else none
            other = np.int64(second < first)
            out[j] = order[a + other * (b - a)]
            a += 1 - other
            b += other
        return out
    for j in range(hi - lo):
        best, smallest = 0, none
        for part in range(parts):
            if at[part] < stops[part] and np.int64(keys[at[part]]) < smallest:
                best, smallest = part, np.int64(keys[at[part]])
        out[j] = order[at[best]]
        at[best] += 1
    return out
