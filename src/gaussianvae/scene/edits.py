"""Row edits: which rows of a table descend from which, so that moments, lineages and provenance follow by one law.

Whatever duplicates, splits, prunes, sorts or crops Gaussians returns a `RowEdit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class RowEdit:
    """A new table of M rows out of an old one of `num_before` rows."""

    parents: Int[Tensor, " M"]
    """The old row that each new row comes from."""
    num_before: int
    born: Bool[Tensor, " M"]
    """Rows that this edit made (a twin, a half of a split)."""

    def __post_init__(self) -> None:
        if len(self.parents) and not 0 <= int(self.parents.min()) <= int(self.parents.max()) < self.num_before:
            raise ValueError(f"parents must lie in 0..{self.num_before - 1}")
        if self.parents.shape != self.born.shape:
            raise ValueError("parents and born must have one entry a row")

    def __len__(self) -> int:
        return len(self.parents)

    def apply(self, table: Tensor) -> Tensor:
        """The rows of any per-row table after the edit: each new row has its parent's values."""
        if len(table) != self.num_before:
            raise ValueError(f"the table has {len(table)} rows, the edit was made for {self.num_before}")
        return table[self.parents]

    def then(self, later: RowEdit) -> RowEdit:
        """This edit followed by `later`, as one edit."""
        if later.num_before != len(self):
            raise ValueError(f"the later edit starts from {later.num_before} rows, this one ends with {len(self)}")
        return RowEdit(self.parents[later.parents], self.num_before, self.born[later.parents] | later.born)


def unchanged(count: int, device: torch.device | None = None) -> RowEdit:
    """The edit that does nothing to `count` rows."""
    rows = torch.arange(count, device=device)
    return RowEdit(rows, count, torch.zeros(count, dtype=torch.bool, device=device))


def reorder(rows: Int[Tensor, " M"], num_before: int) -> RowEdit:
    """Keep `rows` in the order given: prune, sort, crop."""
    return RowEdit(rows, num_before, torch.zeros_like(rows, dtype=torch.bool))


def keep(mask: Bool[Tensor, " N"]) -> RowEdit:
    """Keep the rows where `mask` is true, in order."""
    return reorder(torch.nonzero(mask)[:, 0], len(mask))


def append_children(rows: Int[Tensor, " M"], num_before: int) -> RowEdit:
    """Keep every row and append one child of each of `rows` at the end: duplicate, or the second half of a split."""
    old = torch.arange(num_before, device=rows.device)
    born = torch.cat([torch.zeros_like(old, dtype=torch.bool), torch.ones_like(rows, dtype=torch.bool)])
    return RowEdit(torch.cat([old, rows]), num_before, born)
