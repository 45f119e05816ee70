"""Training shards: one scene's LR fit with its ancestors, its finer descendants, and the HR images it is judged by."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from torch import Tensor

from gaussianvae.antialias import anchor
from gaussianvae.errors import GaussianVAEError
from gaussianvae.growth.lineage import Level, Lineage
from gaussianvae.growth.sensitivity import Curvature, curvature
from gaussianvae.model.tokens import Tokens, descendant_summary, make_tokens
from gaussianvae.scene.cameras import Cameras, footprints
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats, splats_from_state, state_tensors
from gaussianvae.tensorfiles import read_tensors, write_tensors

SCHEMA = "gaussianvae.shard/1"


@dataclass(frozen=True)
class Shard:
    """One training scene; images stay on disk until a view is asked for."""

    path: Path
    name: str
    splats: Splats
    lineage: Lineage
    finer: Splats
    """The same run continued at HR."""
    parents: Int[Tensor, " M"]
    """The LR row that each finer row descends from."""
    cameras: Cameras
    """Training cameras at LR."""
    fine_cameras: Cameras
    """Cameras of the HR images."""
    seen: Bool[Tensor, " V"]
    """HR views that the LR fit saw (reduced); the others it never did."""
    scale: float
    """HR over LR resolution."""
    background: Float[Tensor, "3"]

    def image(self, view: int) -> Float[Tensor, "H W 3"]:
        """One HR image, 0-1."""
        with safe_open(self.path, "pt") as file:
            row: Tensor = file.get_slice("images")[view : view + 1]
        return row[0].float() / 255

    @cached_property
    def phi(self) -> Float[Tensor, " N"]:
        """World size of an LR pixel at each Gaussian."""
        return footprints(self.cameras, self.splats.means)

    def anchor_at(self, scale: float) -> Splats:
        """The best closed form for a scale."""
        return anchor(self.splats, self.cameras, scale)

    @cached_property
    def anchor(self) -> Splats:
        """The best closed form for the scale of the HR images."""
        return self.anchor_at(self.scale)

    @cached_property
    def curvature(self) -> Curvature:
        """The Gauss-Newton sums over the LR views: a second a scene, so it is not stored."""
        return curvature(self.splats, self.cameras)

    def tokens(self, scale: float | None = None, with_lineage: bool = True, with_curvature: bool = True) -> Tokens:
        """Tokens for a scale (that of the HR images by default), with or without ancestors and determinacy."""
        scale = scale or self.scale
        start = self.anchor if scale == self.scale else self.anchor_at(scale)
        return make_tokens(
            self.splats,
            start,
            self.phi,
            scale,
            lineage=self.lineage if with_lineage else None,
            known=self.curvature.determinacy() if with_curvature else None,
        )

    @cached_property
    def summary(self) -> Float[Tensor, "N 16"]:
        """What became of each row at HR."""
        bare = self.tokens(with_lineage=False, with_curvature=False)
        return descendant_summary(self.anchor, bare, self.finer, self.parents)


def write_shard(
    path: Path,
    *,
    name: str,
    splats: Splats,
    lineage: Lineage,
    finer: Splats,
    parents: Int[Tensor, " M"],
    cameras: Cameras,
    fine_cameras: Cameras,
    images: Tensor,
    seen: Sequence[bool],
    scale: float,
    background: Float[Tensor, "3"],
    notes: dict[str, object],
) -> None:
    """Write one shard atomically (schema `gaussianvae.shard/1`); `images` is (V, H, W, 3) uint8."""
    tensors = state_tensors(splats, "splats") | state_tensors(finer, "finer")
    for index, level in enumerate(lineage.levels):
        tensors |= state_tensors(level.state, f"level{index}")
        tensors[f"level{index}.ancestors"] = level.ancestors.int()
    tensors |= {
        "parents": parents.int(),
        "cameras.viewmats": cameras.viewmats,
        "cameras.Ks": cameras.Ks,
        "fine.viewmats": fine_cameras.viewmats,
        "fine.Ks": fine_cameras.Ks,
        "images": images,
        "seen": torch.tensor(list(seen)),
        "background": background,
    }
    metadata = {
        "schema": SCHEMA,
        "name": name,
        "recipe": json.dumps(asdict(splats.recipe)),
        "factors": json.dumps([level.factor for level in lineage.levels]),
        "size": json.dumps(cameras.sizes[0]),
        "fine_size": json.dumps(fine_cameras.sizes[0]),
        "scale": repr(scale),
        "notes": json.dumps(notes),
    }
    write_tensors(path, tensors, metadata)


def read_shard(path: Path) -> Shard:
    """Open one shard; everything but the images is read.

    Raises:
        GaussianVAEError: no readable shard.
    """
    tensors, metadata = read_tensors(path, "shard", SCHEMA, skip={"images"})
    recipe = Recipe(**{**json.loads(metadata["recipe"]), "background": tuple(tensors["background"].tolist())})

    def unpack(prefix: str) -> Splats:
        return splats_from_state(tensors, prefix, recipe)

    def unpack_cameras(prefix: str, size: str) -> Cameras:
        width, height = json.loads(metadata[size])
        viewmats = tensors[f"{prefix}.viewmats"]
        return Cameras(viewmats, tensors[f"{prefix}.Ks"], ((width, height),) * len(viewmats))

    levels = tuple(
        Level(factor, unpack(f"level{index}"), tensors[f"level{index}.ancestors"].long())
        for index, factor in enumerate(json.loads(metadata["factors"]))
    )
    return Shard(
        path=path,
        name=metadata["name"],
        splats=unpack("splats"),
        lineage=Lineage(levels),
        finer=unpack("finer"),
        parents=tensors["parents"].long(),
        cameras=unpack_cameras("cameras", "size"),
        fine_cameras=unpack_cameras("fine", "fine_size"),
        seen=tensors["seen"],
        scale=float(metadata["scale"]),
        background=tensors["background"],
    )


def shard_paths(folder: Path) -> list[Path]:
    """All shards of a folder, by name; those of the manifest where the factory has written one.

    Raises:
        GaussianVAEError: there are none.
    """
    found = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    manifest = folder / "manifest.json"
    if manifest.exists():
        # an earlier draft's shards may lie beside the present one's
        named = {line["name"] for line in json.loads(manifest.read_text())}
        found = [path for path in found if path.stem in named]
    if not found:
        raise GaussianVAEError(f"{folder}: holds no shards (*.safetensors); make some with `gaussianvae factory`")
    return found


def set_aside(paths: Sequence[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Shards to train on, and those of a share (0 up to, not including, 1) of their subjects to be judged on.

    All drafts of one mesh are one subject, a procedural scene is one of its own: what is judged was never seen. The
    subjects set aside are evenly spread.
    """
    subjects = list(dict.fromkeys(map(_subject, paths)))
    aside = {
        subject
        for index, subject in enumerate(subjects)
        if math.floor((index + 1) * share + 0.5) > math.floor(index * share + 0.5)
    }
    return [path for path in paths if _subject(path) not in aside], [path for path in paths if _subject(path) in aside]


def _subject(path: Path) -> str:
    stem = path.stem.rsplit("_", 1)[0]
    return path.stem if stem in ("", "scene") else stem
