"""One view through the kernels: threads, slabs, and the scratch memory that outlives a frame.

State that a `Frame` keeps after `forward()`, until `release()`; further raster passes (gradients, sensitivities) walk
it again, front to back, with the decisions of the forward pass bit for bit:

    workspace["records"]    16 float32 a record (fields in layout.py), the `active` Gaussians in depth order
    workspace["slots"]      int32 (n,): the record of a Gaussian, or -1 where it touches no pixel
    workspace["pairs"]      int64 (num_pairs,): record | first vector row << 32 | last vector row << 40
    starts, stops           int64 (slabs, tiles [+ 1]): tile t of slab s blended pairs[starts[s, t]:stops[s, t]]
    work                    int64 (tiles,): what a walk over the pairs of a tile costs, in vectors
    image                   float32 (5 H W,): planes red, green, blue (background included), alpha, expected depth

Gaussians are numbered as the caller gave them, padded to at least 16 invisible ones (see `flatten`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussianvae.rasterize.cpu.binning import alive_sums, fill_pairs, find_spans, tile_offsets
from gaussianvae.rasterize.cpu.blend import raster_forward
from gaussianvae.rasterize.cpu.blend_backward import raster_backward
from gaussianvae.rasterize.cpu.harmonics import shade
from gaussianvae.rasterize.cpu.layout import PLANE, TILE_H, TILE_W
from gaussianvae.rasterize.cpu.order import merge_stretch, sort_records
from gaussianvae.rasterize.cpu.project import project
from gaussianvae.rasterize.cpu.project_backward import project_backward
from gaussianvae.rasterize.cpu.simd_types import LANES
from gaussianvae.rasterize.cpu.tiles import split_tiles

Floats = NDArray[np.float32]

SLAB = 20000
"""Gaussians binned and blended at a time: what lies behind opaque tiles is never shaded (16k to 32k are all good)."""
TILE_COST = 30
"""What every tile costs beside its pairs, in vectors."""


def empty(size: int, dtype: type = np.float32) -> NDArray[Any]:
    """np.empty that begins a cache line: numpy's large arrays begin 16 bytes past one, so that every vector of 64 bytes
    and every record would straddle two."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(size * itemsize + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] & 63
    return raw[start : start + size * itemsize].view(dtype)


_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # threads don't survive a fork


def run(parts: int, task: Callable[[int], Any]) -> list[Any]:
    """task(part) for every part, on `parts` threads (the calling one included)."""
    if parts == 1:
        return [task(0)]
    if parts not in _pools:
        _pools[parts] = ThreadPoolExecutor(parts - 1)
    futures = [_pools[parts].submit(task, part) for part in range(1, parts)]
    return [task(0)] + [future.result() for future in futures]


def default_threads(count: int, size: tuple[int, int]) -> int:
    """torch's number of threads, or one where starting them costs more than they save (about 0.1 ms for every of the
    six or more times that a frame does it): measured, below 8000 Gaussians or as much work in pixels (about 3 ms)."""
    return torch.get_num_threads() if count + size[0] * size[1] / 50 >= 8000 else 1


class Workspace:
    """Named scratch arrays that survive between frames: fresh memory costs page faults, about 1 ms per 10 MB."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def get(self, name: str, size: int, dtype: type = np.float32, keep: int = 0) -> NDArray[Any]:
        """A flat array of at least `size`; the first `keep` values survive growth."""
        array = self.arrays.get(name)
        if array is None or array.size < size:
            grown = empty(size + min(size // 4, 1 << 22) + LANES, dtype)
            if keep and array is not None:
                grown[:keep] = array[:keep]
            self.arrays[name] = array = grown
        return array

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


_free: list[Workspace] = []
_MOST_FREE, _MOST_BYTES = 4, 256 << 20
"""Workspaces that outlive their frames: so many, none larger (beside a frame of millions, page faults cost little)."""
_MOST_BUFFERS = 400 << 20
"""Bytes of the buffers that threads sum into; where they would need more, one thread works alone."""


def threads_within(parts: int, buffer_bytes: int) -> int:
    """How many threads may have a buffer of that size each."""
    return parts if parts * buffer_bytes <= _MOST_BUFFERS else 1


def flatten(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh: Tensor) -> tuple[Floats, ...]:
    """The five tensors (N, ...) as flat arrays, padded by invisible Gaussians to one vector (16) of them."""
    flat = tuple(
        np.ascontiguousarray(t.detach().numpy(), np.float32).reshape(-1) for t in (means, quats, scales, opacities, sh)
    )
    missing = LANES - len(means)
    if missing > 0:
        widths = 3, 4, 3, 1, 3 * sh.shape[1]
        flat = tuple(np.pad(a, (0, missing * width)) for a, width in zip(flat, widths, strict=True))
    return flat


def camera_vector(viewmat: Tensor, K: Tensor, size: tuple[int, int]) -> Floats:
    """A world-to-camera transform (4, 4), OpenCV axes, and intrinsics (3, 3), packed for the kernels.

    0-8 rotation, row by row; 9-11 translation; 12-15 fx, fy, cx, cy; 16-18 position; 19-22 the limits of x / z and of
    y / z between which the Jacobian is taken (the view and 15 % of its size on every side).
    """
    (width, height), pose = size, viewmat.detach().double().numpy()
    (fx, _, cx), (_, fy, cy), _ = K.detach().double().tolist()
    rotation, translation = pose[:3, :3], pose[:3, 3]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    packed = np.empty(23, np.float32)
    packed[:9] = rotation.reshape(-1)
    packed[9:12] = translation
    packed[12:16] = fx, fy, cx, cy
    packed[16:19] = -rotation.T @ translation
    packed[19:] = (
        -cx / fx - margin_x,
        (width - cx) / fx + margin_x,
        -cy / fy - margin_y,
        (height - cy) / fy + margin_y,
    )
    return packed


class Frame:
    """One view of Gaussians: `forward()`, any passes over what it leaves behind, `release()`."""

    workspace: Workspace | None = None
    image: Floats | None = None

    def __init__(
        self,
        parameters: Sequence[Floats],
        camera: Floats,
        size: tuple[int, int],
        *,
        eps2d: float = 0.3,
        compensated: bool = False,
        background: Sequence[float] = (0.0, 0.0, 0.0),
        threads: int = 1,
    ) -> None:
        """
        Args:
            parameters: means, quats, scales, opacities, sh, from `flatten`.
            camera: from `camera_vector`.
            size: (width, height) in pixels.
            eps2d: variance of the pixel filter, square pixels.
            compensated: whether opacities make up for the filter (mode "mip").
            background: RGB behind everything.
            threads: how many to run on.
        """
        self.parameters, self.camera, self.size = tuple(parameters), camera, size
        self.background = np.array(background, np.float32)
        self.eps2d, self.compensated, self.threads = np.float32(eps2d), bool(compensated), threads
        self.tiles = -(-size[0] // TILE_W), -(-size[1] // TILE_H)

    def forward(self, image: Floats | None = None) -> Floats:
        """Render into `image` (5 H W,), made when not given."""
        if self.workspace is None:
            self.workspace = _free.pop() if _free else Workspace()
        (width, height), (tiles_x, tiles_y) = self.size, self.tiles
        n, parts, get, tiles = self.parameters[3].size, self.threads, self.workspace.get, tiles_x * tiles_y
        self.image = empty(5 * width * height) if image is None else image
        geometry = get("geometry", 16 * n)
        keys, order, slots = get("keys", 2 * n, np.uint32), get("order", 2 * n, np.int32), get("slots", n, np.int32)
        options = self.camera, width, height, self.eps2d, self.compensated, geometry
        chunks = (n + LANES - 1) // LANES
        edges = np.array([min(chunks * part // parts * LANES, n) for part in range(parts + 1)])

        def prepare(p: int) -> int:
            lo, hi = edges[p], edges[p + 1]
            project(p, parts, *self.parameters[:4], *options)
            slots[lo:hi] = -1
            return sort_records(geometry, lo, hi, n, keys, order)  # type: ignore[no-any-return]

        heads, counts = edges[:-1], run(parts, prepare)
        runs, visible = (keys, order, heads, heads + counts), sum(counts)
        get("states", tiles * 5 * PLANE)
        get("pairs", 1, np.int64)
        alive, sums = get("alive", tiles, np.uint8), get("sums", (tiles_x + 1) * (tiles_y + 1), np.int64)
        alive[:] = 1
        sums[:] = 0
        slabs = max(1, round(visible / SLAB))
        self.work = np.full(tiles, TILE_COST)
        self.starts, self.stops = np.zeros((slabs, tiles + 1), np.int64), np.zeros((slabs, tiles), np.int64)
        self.active = self.num_pairs = 0
        for slab in range(slabs):
            lo, hi = visible * slab // slabs, visible * (slab + 1) // slabs
            last = slab == slabs - 1
            if slab and alive_sums(alive, tiles_x, tiles_y, sums) == 0:
                hi, last = lo, True  # everything is opaque: only the output is left to do
            self._blend(runs, lo, hi, slab, last)
            if last:
                self.starts, self.stops = self.starts[: slab + 1], self.stops[: slab + 1]
                break
        return self.image

    def _blend(self, runs: tuple[NDArray[Any], ...], lo: int, hi: int, slab: int, last: bool) -> None:
        """Bin, shade and blend the Gaussians lo..hi of the depth order, which is sorted in `runs`, one a part."""
        assert self.workspace is not None
        (width, height), (tiles_x, tiles_y), n = self.size, self.tiles, self.parameters[3].size
        parts, scratch, count, base = self.threads, self.workspace, hi - lo, self.active
        geometry, slots = scratch["geometry"], scratch["slots"][:n]
        alive, sums = scratch["alive"], scratch["sums"]
        counts = np.zeros((parts, tiles_x * tiles_y), np.int64)

        def find(p: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
            mine = merge_stretch(*runs, lo + count * p // parts, lo + count * (p + 1) // parts)
            return find_spans(mine, width, height, tiles_x, geometry, slab > 0, alive, sums, counts[p])  # type: ignore

        found = run(parts, find)
        end = tile_offsets(counts, self.num_pairs, self.starts[slab])
        pairs = scratch.get("pairs", end, np.int64, keep=self.num_pairs)
        bases = [base + sum(ids.size for ids, _ in found[:p]) for p in range(parts + 1)]
        records = scratch.get("records", 16 * bases[-1] + 16, keep=16 * base)

        def prepare(p: int) -> None:
            ids, spans = found[p]
            shade(ids, bases[p], self.parameters[0], self.parameters[4], self.camera, geometry, records, slots)
            fill_pairs(spans, bases[p], tiles_x, alive, counts[p], pairs)

        run(parts, prepare)
        self.active, self.num_pairs = bases[-1], end
        bounds = self.shares(np.diff(self.starts[slab]) + TILE_COST)
        cursors = np.repeat(bounds[:-1], 8)  # a cache line each
        lists = records, pairs[:end], self.starts[slab], self.stops[slab], alive, bounds, cursors, self.work
        image = tiles_x, width, height, self.background, scratch["states"], self.image
        run(parts, lambda p: raster_forward(p, slab == 0, last, *lists, *image))

    def shares(self, weights: NDArray[np.int64], parts: int | None = None) -> NDArray[np.int64]:
        """Tiles bounds[p]..bounds[p + 1] for part p, about the same sum of `weights` for each; a part a thread."""
        bounds = np.empty((parts or self.threads) + 1, np.int64)
        split_tiles(weights, bounds)
        return bounds

    def backward(
        self, v_rgb: Floats, v_alpha: Floats | None = None, v_depth: Floats | None = None, with_sh: bool = True
    ) -> list[Floats]:
        """Gradients of means, quats, scales, opacities, sh and means2d (x, y, |x|, |y|), flat.

        Args:
            v_rgb: dL/d(red, green, blue) as planes (3 H W,); v_alpha, v_depth: planes (H W,), none is zero.
            with_sh: without it those of sh, by far the most numbers, are left out (an empty array).
        """
        if self.workspace is None:  # released since: the state is made again, the image written over by the same
            self.forward(self.image)
        assert self.workspace is not None
        n, parts, get, active = self.parameters[3].size, self.threads, self.workspace.get, self.active
        if v_alpha is None or v_depth is None:
            zeros = get("zeros", self.size[0] * self.size[1])
            zeros[:] = 0.0
            v_alpha, v_depth = zeros if v_alpha is None else v_alpha, zeros if v_depth is None else v_depth
        # fresh memory, as the caller keeps it
        gradients = [*(empty(p.size) for p in self.parameters), empty(4 * n)]
        if not with_sh:
            gradients[4] = empty(0)
        records, slots, pairs = self.workspace["records"], self.workspace["slots"][:n], self.pairs
        length = 16 * active + 16
        walkers = threads_within(parts, 4 * length)
        moments = get("moments", walkers * length)[: walkers * length].reshape(walkers, -1)
        options = self.camera, self.eps2d, self.compensated, records, slots, moments

        bounds = self.shares(self.work, walkers)

        def raster(p: int) -> None:
            moments[p] = 0.0
            lists = records, pairs, self.starts, self.stops, self.tiles[0], *self.size
            raster_backward(bounds[p], bounds[p + 1], *lists, self.image, v_rgb, v_alpha, v_depth, moments[p])

        def project(p: int) -> None:
            project_backward(n * p // parts, n * (p + 1) // parts, *self.parameters, *options, *gradients)

        run(walkers, raster)
        run(parts, project)
        return gradients

    @property
    def pairs(self) -> NDArray[np.int64]:
        """The pairs of the forward pass (one meaningless one when there are none)."""
        assert self.workspace is not None
        return self.workspace["pairs"][: max(self.num_pairs, 1)]

    def release(self) -> None:
        """Give the scratch memory back; a later `backward` renders again first."""
        if self.workspace is not None and len(_free) < _MOST_FREE and self.workspace.nbytes < _MOST_BYTES:
            _free.append(self.workspace)
        self.workspace = None

    def __del__(self) -> None:
        self.release()
