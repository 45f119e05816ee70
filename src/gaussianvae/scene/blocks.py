"""Cutting a large scene into blocks of neighbors, so that work on it needs little memory at a time."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def cut_into_blocks(points: Float[Tensor, "N 3"], most: int) -> list[Int[Tensor, " _"]]:
    """Rows of at most `most` points each, together all, halved along the longest side again and again.

    Args:
        points: N points; none give no block.
        most: points in a block, at least 1.

    Returns:
        one ascending list of rows a block; halves of a side follow each other. The same points give the same blocks.
    """
    places = points.detach().cpu().numpy()

    def halves(rows: np.ndarray) -> list[np.ndarray]:
        if len(rows) <= most:
            return [rows]
        some = places[rows]
        axis = int((some.max(0) - some.min(0)).argmax())
        order = np.argpartition(some[:, axis], len(rows) // 2)
        middle = len(rows) // 2
        return [*halves(np.sort(rows[order[:middle]])), *halves(np.sort(rows[order[middle:]]))]

    return [torch.from_numpy(rows).to(points.device) for rows in halves(np.arange(len(places))) if len(rows)]
