"""Writing of SOG bundles (version 2): a zip of meta.json and lossless WebP images.

Layout as `sog` reads it; sizes of images and their order of rows as splat-transform's (src/lib/writers/write-sog.ts).
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaussianvae import __version__
from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.formats.activation import deactivate
from gaussianvae.formats.columns import check_rows
from gaussianvae.formats.comments import recipe_comments
from gaussianvae.formats.morton import morton_order
from gaussianvae.formats.quantize import make_codebook, make_palette, nearest_entries
from gaussianvae.formats.registry import FileOptions
from gaussianvae.formats.webp import LARGEST_SIDE, encode_webp
from gaussianvae.progress import Reporter
from gaussianvae.scene.splats import Splats

META = "meta.json"
COEFFICIENTS = {1: 3, 2: 8, 3: 15}
"""Harmonics above the base color by the number of bands."""
ROW = 64
"""Entries of the palette in a row of its image."""
PALETTE = 1 << 16
"""Entries that a label of 16 bits can tell apart."""
SMALLEST_LOG_SCALE = -30.0
"""Stands for the logarithm of 0."""


def write_sog(path: Path, splats: Splats, inputs: Iterable[Path | str], options: FileOptions, report: Reporter) -> None:
    """Write a splat atomically as a `.sog` bundle (a `Writer`). Rows are put into Z-order.

    Positions have 16 bits an axis of their logarithm; rotations 8 bits a component (off by less than 1 degree); log
    scales and base colors 256 values each that all axes and channels share; opacities 8 bits. Harmonics come from a
    palette, always of as many vectors as a label can tell apart (65536), so that as many Gaussians keep their own. For
    20000 of degree 3 that costs 11 % more bytes than the 16384 that splat-transform takes, and leaves an error of 1.1 %
    instead of 1.5 % of the harmonics' RMS (the rest is the codebook's); of 100000 it is 5 %, of a million 41 % (random
    harmonics; trained ones repeat themselves more).

    Raises:
        GaussianVAEError: no Gaussians, values that are no finite numbers, or a place that can't be written.
    """
    check_rows(path, splats)
    count = len(splats)
    width = math.ceil(math.sqrt(count) / 4) * 4
    height = math.ceil(count / max(width, 1) / 4) * 4
    if not count or max(width, height) > LARGEST_SIDE:
        raise GaussianVAEError(f"{path}: a SOG holds 1 to {LARGEST_SIDE**2} Gaussians, not {count}")
    order = morton_order(splats.means.detach().cpu().float().numpy())
    splats = splats.select(torch.from_numpy(order).to(splats.means.device))
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {
            "generator": f"gaussianvae {__version__}",
            "comments": [*splats.comments, *recipe_comments(splats.recipe)],
        },
        "count": count,
    }
    if splats.recipe.mode == "mip":
        meta["model"] = "antialiased"
    images: dict[str, NDArray[np.uint8]] = {}

    def add(part: str, names: list[str], *pixels: NDArray[np.uint8], **values: Any) -> None:
        """One pixel a Gaussian, in rows of `width`; unused pixels are opaque black."""
        for name, rows in zip(names, pixels, strict=True):
            image = np.zeros((height * width, 4), np.uint8)
            image[:, 3] = 255
            image[:count, : rows.shape[1]] = rows
            images[name] = image.reshape(height, width, 4)
        meta[part] = {**values, "files": names}

    low, high, words = _pack_means(splats.means.detach().cpu().double().numpy())
    add("means", ["means_l.webp", "means_u.webp"], _byte(words & 255), _byte(words >> 8), mins=low, maxs=high)
    raw = deactivate(splats)
    log_scales = raw.log_scales.clamp_min(SMALLEST_LOG_SCALE).numpy()
    codebook = make_codebook(log_scales)
    add("scales", ["scales.webp"], nearest_entries(log_scales, codebook), codebook=codebook.tolist())
    add("quats", ["quats.webp"], _pack_quats(splats.quats.detach().cpu().double().numpy()))
    colors = splats.sh0[:, 0].detach().cpu().float().numpy()
    codebook = make_codebook(colors)
    opacities = _byte(np.rint(splats.opacities.detach().cpu().double().numpy().clip(0, 1)[:, None] * 255))
    labels = nearest_entries(colors, codebook)
    add("sh0", ["sh0.webp"], np.concatenate([labels, opacities], 1), codebook=codebook.tolist())
    if splats.sh_degree:
        palette, rows = make_palette(splats.shN.detach().cpu().float().flatten(1), PALETTE, report)
        palette, rows = _by_appearance(palette, rows)
        entries = palette.numpy().reshape(len(palette), -1, 3)
        codebook = make_codebook(entries)
        names = ["shN_centroids.webp", "shN_labels.webp"]
        which = rows.numpy()[:, None]
        images[names[0]] = _palette_image(nearest_entries(entries, codebook))
        add("shN", names[1:], _byte(np.concatenate([which & 255, which >> 8], 1)))
        meta["shN"] = {"count": len(palette), "bands": splats.sh_degree, "codebook": codebook.tolist(), "files": names}
    with replacing(path, inputs) as beside, zipfile.ZipFile(beside, "w") as archive:
        # entries without a date: the same splat gives the same bytes
        archive.writestr(zipfile.ZipInfo(META), json.dumps(meta))
        for name, image in images.items():
            archive.writestr(zipfile.ZipInfo(name), encode_webp(image))


def sog_losses(splats: Splats) -> list[str]:
    """What of a splat a SOG can't hold; comments and the recipe lie in its meta.json."""
    lost = [f"extra properties ({', '.join(splats.extras)})"] if splats.extras else []
    if splats.sh_degree and len(splats) > PALETTE:
        lost.append(f"more than {PALETTE} different harmonics ({len(splats)} Gaussians share them)")
    return lost


def _pack_means(means: NDArray[np.float64]) -> tuple[list[float], list[float], NDArray[np.int64]]:
    """Least and greatest sign(x) log(1 + |x|) of each axis, and 16 bits between them (N, 3)."""
    logs = np.sign(means) * np.log1p(np.abs(means))
    low, high = logs.min(0), logs.max(0)
    words = np.rint((logs - low) / np.where(high > low, high - low, 1) * 65535).astype(np.int64)
    return low.tolist(), high.tolist(), words


def _pack_quats(quats: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The three smaller components in a byte each, 252 plus the index of the largest of (w, x, y, z) in the fourth."""
    quats = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    signed = quats * np.where(quats[rows, largest] < 0, -1, 1)[:, None]
    others = signed[np.arange(4) != largest[:, None]].reshape(-1, 3)
    packed = np.concatenate([np.rint((others * math.sqrt(2) + 1) / 2 * 255), largest[:, None] + 252], 1)
    return _byte(packed.clip(0, 255))


def _by_appearance(palette: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The palette in the order in which the rows use it, without unused entries: labels then pack far better."""
    used, first, inverse = np.unique(labels.numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return palette[torch.from_numpy(used[order])], torch.from_numpy(rank[inverse])


def _palette_image(entries: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Entries (P, K, 3) as pixels: 64 entries of K pixels a row."""
    count, k, _ = entries.shape
    image = np.zeros((math.ceil(count / ROW) * ROW, k, 4), np.uint8)
    image[..., 3] = 255
    image[:count, :, :3] = entries
    return image.reshape(-1, ROW * k, 4)


def _byte(values: NDArray[Any]) -> NDArray[np.uint8]:
    return values.astype(np.uint8)
