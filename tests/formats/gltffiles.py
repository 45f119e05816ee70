"""glTF files made by hand: attributes in, bytes out."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLATTING = "KHR_gaussian_splatting"
CODES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


@dataclass
class Builder:
    """Collects buffer views and accessors; `json` may be changed before it is written."""

    binary: bytearray = field(default_factory=bytearray)
    json: dict[str, Any] = field(
        default_factory=lambda: {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
            "meshes": [],
            "nodes": [],
            "scenes": [{"nodes": []}],
            "scene": 0,
        }
    )

    def view(self, data: bytes, **more: Any) -> int:
        """A buffer view of some bytes."""
        self.binary += bytes(-len(self.binary) % 4)
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **more})
        self.binary += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: NDArray[Any], **more: Any) -> int:
        """An accessor of values (N,) or (N, C)."""
        width = 1 if values.ndim == 1 else values.shape[1]
        self.json["accessors"].append(
            {
                "bufferView": self.view(np.ascontiguousarray(values).tobytes()),
                "componentType": CODES[values.dtype.str[1:]],
                "count": len(values),
                "type": TYPES[width],
                **more,
            }
        )
        return len(self.json["accessors"]) - 1

    def splat(
        self, columns: dict[str, NDArray[Any] | int], node: dict[str, Any] | None = None, **extension: Any
    ) -> None:
        """A node with one splat of these attributes (POSITION, ROTATION, ...)."""
        attributes = {}
        for name, values in columns.items():
            index = values if isinstance(values, int) else self.accessor(values)
            attributes[name if name in ("POSITION", "COLOR_0") or name[0] == "_" else f"{SPLATTING}:{name}"] = index
        known = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", **extension}
        self.json["meshes"].append({"primitives": [{"attributes": attributes, "extensions": {SPLATTING: known}}]})
        self.add_node({"mesh": len(self.json["meshes"]) - 1, **(node or {})})

    def add_node(self, node: dict[str, Any], root: bool = True) -> int:
        """A node, at the top of the scene or for another to take as a child."""
        self.json["nodes"].append(node)
        if root:
            self.json["scenes"][0]["nodes"].append(len(self.json["nodes"]) - 1)
        return len(self.json["nodes"]) - 1

    def glb(self) -> bytes:
        """The file as GLB."""
        content = {**self.json, "buffers": self.json.get("buffers", [{"byteLength": len(self.binary)}])}
        text = json.dumps(content).encode()
        return glb_of(text, bytes(self.binary))

    def gltf(self, uri: str | None = None) -> bytes:
        """The file as JSON, its buffer embedded or in a file of that name."""
        uri = uri or "data:application/octet-stream;base64," + base64.b64encode(self.binary).decode()
        return json.dumps({**self.json, "buffers": [{"byteLength": len(self.binary), "uri": uri}]}).encode()


def glb_of(text: bytes, binary: bytes) -> bytes:
    """A GLB of a JSON text and a binary chunk."""
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def columns_of(count: int, degree: int = 0, seed: int = 0) -> dict[str, NDArray[Any] | int]:
    """Random attributes of a splat."""
    random = np.random.default_rng(seed)
    quats = random.normal(size=(count, 4))
    columns = {
        "POSITION": random.normal(size=(count, 3)),
        "ROTATION": quats / np.linalg.norm(quats, axis=1, keepdims=True),
        "SCALE": np.exp(random.normal(-3, 0.5, size=(count, 3))),
        "OPACITY": random.uniform(size=count),
        **{
            f"SH_DEGREE_{band}_COEF_{n}": random.normal(size=(count, 3)) * 0.3**band
            for band in range(degree + 1)
            for n in range(2 * band + 1)
        },
    }
    return {name: values.astype(np.float32) for name, values in columns.items()}


def write(path: Path, data: bytes) -> Path:
    """Write and return the path."""
    path.write_bytes(data)
    return path
