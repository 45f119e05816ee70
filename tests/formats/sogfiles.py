"""SOG files made by hand, of random bytes, and a decoder that takes them apart one number at a time."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

C0 = 0.28209479177387814
K = {0: 0, 1: 3, 2: 8, 3: 15}

Files = dict[str, bytes]


def webp(pixels: NDArray[np.uint8]) -> bytes:
    """A lossless image of (H, W, 4) bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    """The pixels (H, W, 4) of an image."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def sog_files(count: int, bands: int = 0, version: int = 2, palette: int = 70, seed: int = 0) -> tuple[Files, Any]:
    """The files of a SOG by name, and its meta; a row more of pixels than the Gaussians need."""
    random = np.random.default_rng(seed)
    width = math.ceil(math.sqrt(count))
    shape = (math.ceil(count / width) + 1, width, 4)

    def noise(*size: int) -> NDArray[np.uint8]:
        return random.integers(0, 256, size).astype(np.uint8)

    quats = noise(*shape)
    quats[..., 3] = random.integers(252, 256, shape[:2])
    images = {
        "means_l.webp": noise(*shape), "means_u.webp": noise(*shape), "scales.webp": noise(*shape),
        "quats.webp": quats, "sh0.webp": noise(*shape),
    }  # fmt: skip
    meta: dict[str, Any] = {
        "means": {"mins": [-1.5, -0.5, 0.25], "maxs": [2.0, 3.0, 0.75], "files": ["means_l.webp", "means_u.webp"]},
        "quats": {"files": ["quats.webp"]},
    }
    if version == 2:
        meta |= {"version": 2, "count": count}
        meta["scales"] = {"codebook": np.sort(random.normal(-4, 1, 256)).tolist(), "files": ["scales.webp"]}
        meta["sh0"] = {"codebook": np.sort(random.normal(0, 1, 256)).tolist(), "files": ["sh0.webp"]}
    else:
        meta["means"]["shape"] = [count, 3]
        meta["scales"] = {"mins": [-7, -8, -9], "maxs": [-2, -3, -4], "files": ["scales.webp"]}
        meta["sh0"] = {"mins": [-1, -2, -3, -4], "maxs": [1, 2, 3, 4], "files": ["sh0.webp"]}
    if bands:
        labels = random.integers(0, palette, shape[:2])
        images["shN_labels.webp"] = np.stack([labels & 255, labels >> 8, 0 * labels, 255 + 0 * labels], -1).astype("u1")
        images["shN_centroids.webp"] = noise(math.ceil(palette / 64), 64 * K[bands], 4)
        names = ["shN_centroids.webp", "shN_labels.webp"]
        if version == 2:
            codebook = np.sort(random.normal(0, 0.1, 256)).tolist()
            meta["shN"] = {"count": palette, "bands": bands, "codebook": codebook, "files": names}
        else:
            meta["shN"] = {"mins": -0.5, "maxs": 0.75, "quantization": 8, "files": names}
    files = {name: webp(image) for name, image in images.items()}
    return {**files, "meta.json": json.dumps(meta).encode()}, meta


def decode_row(files: Files, row: int) -> dict[str, list[float]]:
    """One Gaussian of a SOG, by the words of the format's description."""
    meta = json.loads(files["meta.json"])
    version = meta.get("version", 1)

    def pixel(name: str) -> list[int]:
        image = pixels_of(files[name])
        return [int(v) for v in image[row // image.shape[1], row % image.shape[1]]]

    def lerp(part: str, k: int, unit: float) -> float:
        low, high = meta[part]["mins"], meta[part]["maxs"]
        low, high = (low[k], high[k]) if isinstance(low, list) else (low, high)
        return float(low + unit * (high - low))

    low, high = (pixel(name) for name in meta["means"]["files"])
    logs = [lerp("means", k, (high[k] * 256 + low[k]) / 65535) for k in range(3)]
    scales, color, quat = (pixel(meta[part]["files"][0]) for part in ("scales", "sh0", "quats"))
    others = [(b / 255 * 2 - 1) / math.sqrt(2) for b in quat[:3]]
    others.insert(quat[3] - 252, math.sqrt(max(0.0, 1 - sum(v * v for v in others))))
    length = math.sqrt(sum(v * v for v in others))
    if version == 2:
        log_scales = [meta["scales"]["codebook"][b] for b in scales[:3]]
        sh0, opacity = [meta["sh0"]["codebook"][b] for b in color[:3]], color[3] / 255
    else:
        log_scales = [lerp("scales", k, scales[k] / 255) for k in range(3)]
        sh0 = [lerp("sh0", k, color[k] / 255) for k in range(3)]
        opacity = 1 / (1 + math.exp(-lerp("sh0", 3, color[3] / 255)))
    shN: list[float] = []
    if "shN" in meta:
        image, label = pixels_of(files["shN_centroids.webp"]), pixel("shN_labels.webp")
        entry, k = label[0] + 256 * label[1], image.shape[1] // 64
        for j in range(k):
            for b in image[entry // 64, entry % 64 * k + j][:3]:
                shN.append(meta["shN"]["codebook"][b] if version == 2 else lerp("shN", 0, int(b) / 255))
    return {
        "means": [math.copysign(math.exp(abs(v)) - 1, v) for v in logs],
        "scales": [math.exp(v) for v in log_scales],
        "quats": [v / length for v in others],
        "opacities": [opacity],
        "sh0": sh0,
        "shN": shN,
    }


def write_folder(folder: Path, files: Files) -> Path:
    """The files in a folder; returns its meta.json."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "meta.json"


def write_bundle(path: Path, files: Files, method: int = zipfile.ZIP_STORED) -> Path:
    """The files in a zip."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
