"""glTF with KHR_gaussian_splatting (release candidate of July 2026), read only: `.glb` and `.gltf`.

Attributes and their types: the extension's README in KhronosGroup/glTF. Earlier drafts' names (`_ROTATION`, `_SCALE`)
and their colors in COLOR_0 are understood, and SPZ inside (KHR_gaussian_splatting_compression_spz_2).

glTF states that +y is up; splats in every other format are taken to have +y down (that is how SuperSplat and
PlayCanvas show them). So what is read here is turned by 180 degrees about z, which undoes what splat-transform does
when it writes a GLB (src/lib/writers/write-glb.ts; it reads none): a PLY that went through it comes back in its own
frame, and a PLY written from a glTF stands upright in viewers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.columns import refuse_rows, refuse_unless_finite
from gaussianvae.formats.gltf_file import MAGIC, Document, count_of, parse_gltf, read_accessor, view_bytes
from gaussianvae.formats.registry import Bytes, FileOptions, Format
from gaussianvae.formats.spz import read_spz
from gaussianvae.progress import Reporter
from gaussianvae.scene.harmonics import C0
from gaussianvae.scene.splats import Splats, concatenate, transform

SPLATTING = "KHR_gaussian_splatting"
SPZ = f"{SPLATTING}_compression_spz_2"
UPRIGHT = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From glTF's frame to ours."""
FREE = 1 << 18
ROW_BYTES = 32
"""Of a Gaussian in the densest file that the extension allows."""
SLACK = 1e-3
"""How far from a similarity the matrix of a node may be, relative."""

Matrix = NDArray[np.float64]


def read_gltf(path: Path, data: Bytes, options: FileOptions, report: Reporter) -> Splats:
    """Read all splats of a glTF's scene as one, in the world frame, turned to +y down (a `Reader`).

    Raises:
        GaussianVAEError: no splat in it, damaged, a node that stretches, or a kernel that isn't known.
    """
    document = parse_gltf(path, data)
    found, others = _splat_primitives(document)
    if not found:
        what = f"is a mesh ({others} primitives), no splat" if others else "has no splat in its scene"
        raise GaussianVAEError(f"{path}: {what}: nothing in it has {SPLATTING}")
    if others:
        report.message(f"{path.name}: {others} meshes beside the splat are left out")
    if any(p.extension.get("colorSpace") == "lin_rec709_display" for p in found):
        report.message(f"{path.name}: its colors are of linear light; they are kept as they are and will look dark")
    parts, rows = [], 0
    for primitive in found:
        splats = _read_primitive(document, primitive, report)
        rows += len(splats)
        if rows > FREE + sum(len(b) for b in document.buffers.values()) // ROW_BYTES:
            raise GaussianVAEError(f"{path}: places its Gaussians more often than its size explains ({rows} so far)")
        parts.append(_place(path, splats, primitive.matrix))
    return _join(parts)


@dataclass(frozen=True)
class _Primitive:
    attributes: dict[str, Any]
    extension: dict[str, Any]
    matrix: Matrix
    """From its own frame to the scene's."""


def _splat_primitives(document: Document) -> tuple[list[_Primitive], int]:
    """The primitives of the scene that are splats, and the number of the others."""
    found, others = [], 0
    for node, matrix in _nodes(document):
        if "mesh" not in node:
            continue
        primitives = document.entry("meshes", node["mesh"]).get("primitives")
        for primitive in primitives if isinstance(primitives, list) else []:
            extensions = primitive.get("extensions") if isinstance(primitive, dict) else None
            extension = extensions.get(SPLATTING) if isinstance(extensions, dict) else None
            if not isinstance(extension, dict):
                others += 1
                continue
            attributes = primitive.get("attributes")
            if extension.get("kernel", "ellipse") != "ellipse" or not isinstance(attributes, dict):
                kernel = str(extension.get("kernel"))[:40]
                raise GaussianVAEError(f"{document.path}: has Gaussians of the kernel {kernel!r}; ellipse can be read")
            found.append(_Primitive(attributes, extension, matrix))
    return found, others


def _nodes(document: Document) -> Iterator[tuple[dict[str, Any], Matrix]]:
    """The nodes of the scene with their matrices to the world."""
    content = document.json
    if isinstance(content.get("scenes"), list) and content["scenes"]:
        roots = document.entry("scenes", content.get("scene", 0)).get("nodes", [])
    else:
        nodes = content.get("nodes", [])
        nodes = nodes if isinstance(nodes, list) else []
        below = {child for node in nodes if isinstance(node, dict) for child in _children(node)}
        roots = [index for index in range(len(nodes)) if index not in below]
    waiting = [(root, np.eye(4)) for root in roots] if isinstance(roots, list) else []
    waiting.reverse()
    seen: set[int] = set()
    while waiting:
        index, parent = waiting.pop()
        node = document.entry("nodes", index)
        if index in seen:
            raise GaussianVAEError(f"{document.path}: node {index} hangs in its scene twice")
        seen.add(index)
        with np.errstate(over="ignore", invalid="ignore"):
            matrix = parent @ _matrix(document, node)
        waiting.extend((child, matrix) for child in reversed(_children(node)))
        yield node, matrix


def _children(node: dict[str, Any]) -> list[int]:
    children = node.get("children")
    return [child for child in children if type(child) is int] if isinstance(children, list) else []


def _matrix(document: Document, node: dict[str, Any]) -> Matrix:
    """A node's own matrix, given as such (column by column) or as translation, rotation (xyzw) and scale."""
    if "matrix" in node:
        return _numbers(document, node, "matrix", [0.0] * 16).reshape(4, 4).T
    x, y, z, w = _numbers(document, node, "rotation", [0.0, 0.0, 0.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= _numbers(document, node, "scale", [1.0, 1.0, 1.0])
    matrix[:3, 3] = _numbers(document, node, "translation", [0.0, 0.0, 0.0])
    return matrix


def _numbers(document: Document, node: dict[str, Any], key: str, missing: list[float]) -> NDArray[np.float64]:
    values = node.get(key, missing)
    good = isinstance(values, list) and len(values) == len(missing) and all(type(v) in (int, float) for v in values)
    if not good or not all(abs(value) < 1e30 for value in values):
        raise GaussianVAEError(f"{document.path}: the {key} of a node is no list of {len(missing)} numbers")
    return np.array(values, np.float64)


def _read_primitive(document: Document, primitive: _Primitive, report: Reporter) -> Splats:
    """The Gaussians of one primitive in its own frame."""
    inner = primitive.extension.get("extensions")
    inner = inner if isinstance(inner, dict) else {}
    if isinstance(inner.get(SPZ), dict):
        return _read_spz(document, primitive, inner[SPZ], report)
    packed = [name for name in inner if "compression" in name]
    if packed:
        raise GaussianVAEError(f"{document.path}: its splat is packed with {packed[0][:60]}, which isn't known")
    path, attributes = document.path, primitive.attributes
    count = count_of(document, attributes.get("POSITION"))
    if "bufferView" not in document.entry("accessors", attributes["POSITION"]):
        raise GaussianVAEError(f"{path}: its POSITION has no data")

    def column(name: str, *widths: int) -> NDArray[np.float32] | None:
        index = attributes.get(f"{SPLATTING}:{name}", attributes.get(f"_{name}"))
        return None if index is None else read_accessor(document, index, name, count, widths)

    means = read_accessor(document, attributes["POSITION"], "POSITION", count, (3,))
    rotations, scales, opacities = column("ROTATION", 4), column("SCALE", 3), column("OPACITY", 1)
    color = attributes.get("COLOR_0")
    needs_color = opacities is None or f"{SPLATTING}:SH_DEGREE_0_COEF_0" not in attributes
    colors = read_accessor(document, color, "COLOR_0", count, (3, 4)) if color is not None and needs_color else None
    if opacities is None and colors is not None and colors.shape[1] == 4:
        opacities = colors[:, 3:]
    sh0 = column("SH_DEGREE_0_COEF_0", 3)
    if sh0 is None and colors is not None:
        sh0 = (colors[:, :3] - np.float32(0.5)) / np.float32(C0)
    if rotations is None or scales is None or opacities is None or sh0 is None:
        lacking = [("ROTATION", rotations), ("SCALE", scales), ("OPACITY", opacities), ("SH_DEGREE_0_COEF_0", sh0)]
        raise GaussianVAEError(f"{path}: its splat lacks {', '.join(name for name, found in lacking if found is None)}")
    higher = [column(f"SH_DEGREE_{degree}_COEF_{n}", 3) for degree in (1, 2, 3) for n in range(2 * degree + 1)]
    known = [coefficient for coefficient in higher if coefficient is not None]
    if len(known) not in (0, 3, 8, 15) or any(coefficient is None for coefficient in higher[: len(known)]):
        raise GaussianVAEError(f"{path}: has {len(known)} coefficients above the base color; expected 0, 3, 8 or 15")
    shN = np.stack(known, 1) if known else np.zeros((count, 0, 3), np.float32)
    parts = {
        "means": torch.from_numpy(means), "quaternions": torch.from_numpy(rotations[:, [3, 0, 1, 2]]),
        # a negative scale, which the text forbids and files have, is the same Gaussian
        "scales": torch.from_numpy(np.abs(scales)), "opacities": torch.from_numpy(opacities[:, 0].copy()),
        "colors": torch.from_numpy(sh0), "harmonics": torch.from_numpy(shN),
    }  # fmt: skip
    refuse_unless_finite(path, **parts)
    refuse_rows(path, "opacities outside 0-1", (parts["opacities"] < -SLACK) | (parts["opacities"] > 1 + SLACK))
    quats = parts["quaternions"]
    length = quats.norm(dim=1, keepdim=True)
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
    return Splats(
        means=parts["means"],
        quats=torch.where(length > 0, quats / length.clamp_min(1e-30), identity),
        scales=parts["scales"],
        opacities=parts["opacities"].clamp(0, 1),
        sh0=parts["colors"][:, None],
        shN=parts["harmonics"],
    )


def _read_spz(document: Document, primitive: _Primitive, packed: dict[str, Any], report: Reporter) -> Splats:
    """SPZ inside a buffer view.

    The draft wants its axes converted (stored right-up-back, decoded left-up-front: half a turn about y), but files are
    about in which they were left alone. The bounds that POSITION must state tell which; in doubt nothing is turned.
    """
    content, _ = view_bytes(document, packed.get("bufferView"))
    splats = read_spz(document.path, bytes(content), FileOptions(), report)
    position = primitive.attributes.get("POSITION")
    bounds = document.entry("accessors", position) if position is not None else {}
    try:
        stated = np.array([bounds["min"], bounds["max"]], np.float64).reshape(2, 3)
    except (KeyError, ValueError, TypeError, OverflowError):
        return splats
    turned = transform(splats, torch.diag(torch.tensor([-1.0, 1.0, -1.0])), torch.zeros(3))

    def off(of: Splats) -> float:
        there = torch.stack([of.means.min(0).values, of.means.max(0).values]).double().numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.abs(there - stated).sum())

    return turned if len(splats) and off(turned) < off(splats) else splats


def _place(path: Path, splats: Splats, matrix: Matrix) -> Splats:
    """The splat where its node puts it, upright."""
    with np.errstate(over="ignore", invalid="ignore"):
        placed = UPRIGHT @ matrix
        lengths = np.sqrt(np.square(placed[:3, :3]).sum(0))
        scale = float(lengths.mean())
        rotation = placed[:3, :3] / scale if scale > 0 else np.zeros((3, 3))
        away = np.abs(rotation.T @ rotation - np.eye(3)).max()
        good = away <= SLACK and np.linalg.det(rotation) > 0 and np.abs(matrix[3] - [0, 0, 0, 1]).max() <= SLACK
    if not good:
        raise GaussianVAEError(
            f"{path}: a node stretches, shears or mirrors its splat; only turns, shifts and equal scales can be read"
        )
    # the nearest rotation: files with few digits have one only nearly
    u, _, vt = np.linalg.svd(rotation)
    as_float = torch.from_numpy((u @ vt).astype(np.float32)), torch.from_numpy(placed[:3, 3].astype(np.float32))
    moved = transform(splats, *as_float, scale)
    refuse_unless_finite(path, means=moved.means, scales=moved.scales)
    return moved


def _join(parts: list[Splats]) -> Splats:
    """All parts as one splat of the highest degree among them."""
    most = max(part.shN.shape[1] for part in parts)
    padded = [
        replace(part, shN=torch.nn.functional.pad(part.shN, (0, 0, 0, most - part.shN.shape[1]))) for part in parts
    ]
    return concatenate(padded)


GLTF = Format("glTF", (".glb", ".gltf"), lambda start: start.startswith(MAGIC), read_gltf)
