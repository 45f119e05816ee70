"""PlayCanvas SOG: meta.json and lossless WebP images, in a folder or in a zip (`.sog`); versions 1 and 2.

Layout: the format's page (developer.playcanvas.com, "The SOG Format") and the reader and writer of splat-transform
(MIT; src/lib/readers/read-sog.ts, read-sog-v1.ts, src/lib/writers/write-sog.ts). One pixel is one Gaussian, row by row.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.beside import check_name, read_beside
from gaussianvae.formats.columns import refuse_unless_finite
from gaussianvae.formats.comments import read_comments
from gaussianvae.formats.registry import Bytes, FileOptions, Format
from gaussianvae.formats.sog_write import COEFFICIENTS, META, PALETTE, ROW, sog_losses, write_sog
from gaussianvae.formats.webp import decode_webp
from gaussianvae.progress import Reporter
from gaussianvae.scene.splats import Splats

PARTS = ["means", "scales", "quats", "sh0"]
INDEX = "lod-meta.json"
"""Of SuperSplat's streamed scenes."""
META_BYTES = 1 << 20
"""An honest meta.json has 20 kB."""
MOST = 1 << 26
"""Gaussians of a file; 16 times what viewers bear."""
FREE = 1 << 18
"""Gaussians that need no bytes to be believed: lossless WebP packs equal pixels as densely as it likes."""
FREE_BYTES = 1 << 22
"""Of an image, beyond 24 for each Gaussian."""
LARGEST = float(np.finfo(np.float32).max)

Load = Callable[[str, int], bytes]
"""The contents of a file beside meta.json, of at most so many bytes."""
Meta = Mapping[str, Any]


def read_sog(path: Path, data: Bytes, options: FileOptions, report: Reporter) -> Splats:
    """Read a `.sog` bundle (a `Reader`).

    Raises:
        GaussianVAEError: no zip, no meta.json in it, or broken content.
    """
    with _zip_errors(path):
        archive = zipfile.ZipFile(io.BytesIO(data))
    infos = {info.filename: info for info in archive.infolist()}
    metas = [name for name in infos if PurePosixPath(name).name == META]
    if len(metas) != 1:
        index = f" (its {INDEX} lists several splats)" if any(INDEX in name for name in infos) else ""
        raise GaussianVAEError(f"{path}: is a zip with {len(metas)} files named {META}; a SOG bundle has one{index}")
    folder = metas[0][: -len(META)]

    def load(name: str, most: int) -> bytes:
        return _unzip(path, archive, infos.get(folder + name), name, most)

    return _decode(path, load(META, META_BYTES), load)


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    """What zipfile and zlib raise for hostile bytes becomes our error."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError, OSError,
    ) as error:  # fmt: skip
        raise GaussianVAEError(f"{path}: is a damaged zip ({type(error).__name__}: {str(error)[:80]})") from error


def _unzip(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, name: str, most: int) -> bytes:
    if info is None:
        raise GaussianVAEError(f"{path}: lacks {name}, which its {META} names")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise GaussianVAEError(f"{path}: {name} is encrypted, or packed in a way that isn't read; repack it")
    # what is inside is packed already: a second packing gains little, unless it is a bomb
    if info.file_size > min(most, (1 << 20) + 4 * info.compress_size):
        raise GaussianVAEError(f"{path}: {name} claims {info.file_size} bytes, more than such a file can have")
    with _zip_errors(path):
        return archive.read(info)


def read_sog_folder(path: Path, data: Bytes, options: FileOptions, report: Reporter) -> Splats:
    """Read a SOG folder by its meta.json (a `Reader`).

    Raises:
        GaussianVAEError: broken content, or files missing beside it.
    """
    if path.name.lower().endswith(INDEX):
        raise GaussianVAEError(f"{path}: is the index of several splats; name the folder of one of them")
    if len(data) > META_BYTES:
        raise GaussianVAEError(f"{path}: has {len(data)} bytes; the {META} of a SOG has some 20 kB")
    return _decode(path, data[:], partial(read_beside, path))


def _decode(path: Path, meta_json: bytes, load: Load) -> Splats:
    try:
        meta = json.loads(meta_json)
    except (ValueError, RecursionError) as error:
        raise GaussianVAEError(f"{path}: {META} is no JSON") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("means"), dict):
        raise GaussianVAEError(f"{path}: {META} is not that of a SOG: it has no means")
    version = meta.get("version", 1)
    if version not in (1, 2) or isinstance(version, bool):
        raise GaussianVAEError(f"{path}: is a SOG of version {str(version)[:20]}; versions 1 and 2 can be read")
    if meta.get("model") == "2dgs":
        raise GaussianVAEError(f"{path}: holds 2D Gaussians (surfels); only 3D Gaussians are read")
    count = _count(path, meta, version)
    parts = [*PARTS, "shN"] if meta.get("shN") is not None else PARTS
    blobs = {part: [load(name, FREE_BYTES + 24 * count) for name in _files(path, meta, part)] for part in parts}
    there = sum(len(blob) for of_part in blobs.values() for blob in of_part)
    if count > FREE + there:
        raise GaussianVAEError(f"{path}: claims {count} Gaussians in {there} bytes, more than fit")
    return _Sog(path, meta, version, count, blobs).splats()


def _count(path: Path, meta: Meta, version: int) -> int:
    shape = meta["means"].get("shape")
    count = meta.get("count") if version == 2 else shape[0] if isinstance(shape, list) and shape else None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST:
        raise GaussianVAEError(f"{path}: has a count of {str(count)[:20]} Gaussians; expected 1 to {MOST}")
    return count


def _files(path: Path, meta: Meta, part: str) -> list[str]:
    """The names of a part's images; none of them leads out of the folder of meta.json."""
    expected = 2 if part in ("means", "shN") else 1
    content = meta.get(part)
    names = content.get("files") if isinstance(content, dict) else None
    if not isinstance(names, list) or len(names) < expected:
        raise GaussianVAEError(f"{path}: {META} names too few files of {part}; expected {expected}")
    return [check_name(path, name) for name in names[:expected]]


@dataclass(frozen=True)
class _Sog:
    """One file being decoded."""

    path: Path
    meta: Meta
    version: int
    count: int
    blobs: dict[str, list[bytes]]
    """The image files of each part."""

    def _numbers(self, part: str, key: str, least: int, most: int) -> NDArray[np.float64]:
        values = self.meta[part].get(key)
        values = values if isinstance(values, list) else [values]
        good = least <= len(values) <= most and all(type(value) in (int, float) for value in values)
        if not good or not all(abs(value) < LARGEST for value in values):
            raise GaussianVAEError(f"{self.path}: {META} has no usable numbers as {part}.{key}")
        return np.array(values, np.float64)

    def _pixels(self, part: str, index: int = 0) -> NDArray[np.uint8]:
        """The bytes (N, 4) of an image that has one pixel a Gaussian."""
        what = f"{self.path}: {part} image {index + 1}"
        image = decode_webp(what, self.blobs[part][index], self.count, 4 * self.count + (1 << 16))
        return image.reshape(-1, 4)[: self.count]

    def _look_up(self, part: str, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
        codebook = self._numbers(part, "codebook", 1, 256)
        if labels.size and labels.max() >= len(codebook):
            raise GaussianVAEError(f"{self.path}: {part} points beyond its codebook of {len(codebook)} entries")
        return codebook.astype(np.float32)[labels]

    def _lerp(self, part: str, unit: NDArray[Any], channels: int) -> NDArray[np.float64]:
        """Values (N, C) between the bounds of their channels: of means, in version 1 of all else, too."""
        low, high = (self._numbers(part, key, channels, 4)[:channels] for key in ("mins", "maxs"))
        return low + unit * (high - low)

    def means(self) -> NDArray[np.float64]:
        words = self._pixels("means", 1)[:, :3].astype(np.uint16) << 8 | self._pixels("means")[:, :3]
        logs = self._lerp("means", words / 65535, 3)
        return np.sign(logs) * np.expm1(np.abs(logs))

    def quats(self) -> NDArray[np.float64]:
        pixels = self._pixels("quats")
        others = (pixels[:, :3] / 255 * 2 - 1) / np.sqrt(2)
        largest = np.sqrt(np.maximum(0, 1 - np.square(others).sum(1)))
        quats = np.zeros((self.count, 4))
        # any other mark turns nothing, as in splat-transform
        quats[:, 0] = 1
        for which in range(4):
            rows = pixels[:, 3] == 252 + which
            quats[rows] = np.insert(others[rows], which, largest[rows], axis=1)
        return quats

    def harmonics(self) -> NDArray[np.float32]:
        """Higher coefficients (N, K, 3), looked up in the palette."""
        if "shN" not in self.blobs or (self.version == 2 and self.meta["shN"].get("bands") == 0):
            return np.zeros((self.count, 0, 3), np.float32)
        pixels = decode_webp(f"{self.path}: palette", self.blobs["shN"][0], 1, PALETTE * COEFFICIENTS[3])
        k = pixels.shape[1] // ROW
        bands = self.meta["shN"].get("bands") if self.version == 2 else {3: 1, 8: 2, 15: 3}.get(k)
        if pixels.shape[1] != ROW * k or not isinstance(bands, int) or COEFFICIENTS.get(bands) != k:
            raise GaussianVAEError(
                f"{self.path}: palette is {pixels.shape[1]} pixels wide for {bands} bands; "
                "expected 192, 512 or 960 for SH degree 1, 2 or 3"
            )
        bytes_ = pixels[..., :3].reshape(-1, k, 3)
        two = self.version == 2
        palette = self._look_up("shN", bytes_) if two else self._lerp("shN", bytes_ / 255, 1).astype(np.float32)
        labels = self._pixels("shN", 1)[:, :2].astype(np.int64) @ np.array([1, 256])
        if labels.max() >= len(palette):
            raise GaussianVAEError(f"{self.path}: harmonics point beyond their palette of {len(palette)} entries")
        return palette[labels]

    def splats(self) -> Splats:
        scales, sh0 = self._pixels("scales")[:, :3], self._pixels("sh0")
        # a damaged bound decodes to what is refused below
        with np.errstate(over="ignore", invalid="ignore"):
            colors: NDArray[Any]
            log_scales: NDArray[Any]
            if self.version == 2:
                colors, opacities = self._look_up("sh0", sh0[:, :3]), sh0[:, 3] / 255
                log_scales = self._look_up("scales", scales)
            else:
                lerped = self._lerp("sh0", sh0 / 255, 4)
                colors, opacities = lerped[:, :3], 1 / (1 + np.exp(-lerped[:, 3]))
                log_scales = self._lerp("scales", scales / 255, 3)
            parts = {
                "means": _tensor(self.means()),
                "scales": _tensor(np.exp(log_scales.astype(np.float64))),
                "quaternions": _tensor(self.quats()),
                "colors": _tensor(colors),
                "harmonics": _tensor(self.harmonics()),
            }
        refuse_unless_finite(self.path, **parts)
        recipe, comments = read_comments(self._comments())
        if self.meta.get("model") == "antialiased":
            recipe = replace(recipe, mode="mip")
        return Splats(
            means=parts["means"],
            quats=torch.nn.functional.normalize(parts["quaternions"], dim=1),
            scales=parts["scales"],
            opacities=_tensor(opacities),
            sh0=parts["colors"][:, None],
            shN=parts["harmonics"],
            recipe=recipe,
            comments=comments,
        )

    def _comments(self) -> list[str]:
        """Comments where `write_sog` leaves them; other writers have none."""
        asset = self.meta.get("asset")
        comments = asset.get("comments") if isinstance(asset, dict) else None
        return [c for c in comments if isinstance(c, str)] if isinstance(comments, list) else []


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))


SOG = Format("SOG", (".sog",), lambda start: start.startswith(b"PK\x03\x04"), read_sog, write_sog, sog_losses)
SOG_FOLDER = Format("SOG folder", (META,), lambda start: False, read_sog_folder)
