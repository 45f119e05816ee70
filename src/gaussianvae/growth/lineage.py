"""Lineages: for every Gaussian, its ancestors' states at the end of each coarser resolution.

A recorder rides along with a fit: every row edit passes through it, so each current row knows its ancestor at each
level that was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.edits import RowEdit, unchanged
from gaussianvae.scene.splats import Splats, splats_from_state, state_tensors
from gaussianvae.tensorfiles import read_tensors, write_tensors

SCHEMA = "gaussianvae.lineage/1"


@dataclass(frozen=True)
class Level:
    """The splat as it stood at the end of one resolution, and which of its rows each present row descends from."""

    factor: float
    """Reduction of the training images at that level relative to the last one: 4, 2, 1."""
    state: Splats
    ancestors: Int[Tensor, " N"]

    def inherited(self) -> Splats:
        """The ancestor of every present row, row by row."""
        return self.state.select(self.ancestors)


@dataclass(frozen=True)
class Lineage:
    """Levels from coarse to fine, all for the same N present rows; a bare splat has none."""

    levels: tuple[Level, ...] = ()

    @property
    def num_rows(self) -> int | None:
        """N, or None without levels."""
        return len(self.levels[0].ancestors) if self.levels else None

    def after(self, edit: RowEdit) -> Lineage:
        """The lineage of the rows after an edit."""
        return Lineage(tuple(replace(level, ancestors=edit.apply(level.ancestors)) for level in self.levels))

    def last(self, count: int) -> Lineage:
        """Only the `count` finest levels: what a splat with a shorter memory would have."""
        return Lineage(self.levels[-count:] if count else ())


@dataclass
class Recorder:
    """Follows a changing table of rows; `edit` at every row edit, `record` at the end of a level."""

    num_rows: int
    lineage: Lineage = field(default_factory=Lineage)

    def edit(self, edit: RowEdit) -> None:
        """Every ancestor index follows."""
        if edit.num_before != self.num_rows:
            raise ValueError(f"the edit starts from {edit.num_before} rows, the recorder follows {self.num_rows}")
        self.lineage = self.lineage.after(edit)
        self.num_rows = len(edit)

    def record(self, factor: float, state: Splats) -> None:
        """Remember the present rows as the end of a level."""
        if len(state) != self.num_rows:
            raise ValueError(f"the state has {len(state)} rows, the recorder follows {self.num_rows}")
        self.lineage = Lineage((*self.lineage.levels, Level(factor, state, unchanged(len(state)).parents)))


def write_lineage(path: Path | str, lineage: Lineage, inputs: Iterable[Path | str] = ()) -> None:
    """Write a lineage as one safetensors file (schema `gaussianvae.lineage/1`)."""
    tensors: dict[str, Tensor] = {}
    for index, level in enumerate(lineage.levels):
        tensors[f"{index}.ancestors"] = level.ancestors.int()
        tensors |= state_tensors(level.state, str(index))
    factors = json.dumps([level.factor for level in lineage.levels])
    write_tensors(path, tensors, {"schema": SCHEMA, "factors": factors}, inputs)


def read_lineage(path: Path | str) -> Lineage:
    """Read what `write_lineage` wrote.

    Raises:
        GaussianVAEError: the file is missing, no lineage, or inconsistent.
    """
    tensors, metadata = read_tensors(path, "lineage", SCHEMA)
    levels = []
    try:
        for index, factor in enumerate(json.loads(metadata["factors"])):
            state = splats_from_state(tensors, str(index))
            ancestors = tensors[f"{index}.ancestors"].long()
            if len(ancestors) and not 0 <= int(ancestors.min()) <= int(ancestors.max()) < len(state):
                raise GaussianVAEError(f"{path}: level {index} names ancestors that it doesn't hold")
            levels.append(Level(float(factor), state, ancestors))
    except (ValueError, KeyError) as error:
        raise GaussianVAEError(f"{path}: no readable lineage ({error})") from error
    if len({len(level.ancestors) for level in levels}) > 1:
        raise GaussianVAEError(f"{path}: its levels speak of different numbers of rows")
    return Lineage(tuple(levels))


def check_lineage(lineage: Lineage, splats: Splats, origin: str) -> None:
    """Raise GaussianVAEError unless `lineage` speaks of as many rows as `splats` has."""
    if lineage.num_rows not in (None, len(splats)):
        raise GaussianVAEError(f"{origin}: speaks of {lineage.num_rows} Gaussians, the splat has {len(splats)}")
