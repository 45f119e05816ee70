"""What a refinement will take, said before it starts: time from the first renders, memory from the sizes of things."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

STEP_RENDERS = 3.0
"""A step (render, gradient, loss, Adam) takes so many times the time of a render that is only looked at."""
BYTES_PER_ROW, BYTES_PER_PIXEL = 3500, 210
"""Peak bytes a Gaussian (values, gradients, two moments, the mean, the best state, the rasterizer) and a fine pixel."""


@dataclass(frozen=True)
class Cost:
    """An estimate."""

    seconds: float
    bytes: float

    def __str__(self) -> str:
        minutes = self.seconds / 60
        time = f"{minutes:.0f} minutes" if minutes >= 2 else f"{self.seconds:.0f} seconds"
        return f"about {time} and {self.bytes / 1e9:.1f} GB of memory"


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def estimate(seconds_a_render: float, steps: int, start: int, rows: int, pixels: int) -> Cost:
    """Cost of a run.

    Args:
        seconds_a_render: measured, of the start at the fine resolution.
        steps: still to be taken.
        start: Gaussians at the start.
        rows: Gaussians that it may grow to.
        pixels: of a fine image.
    """
    # the number grows through most of the run; a render's time follows it by about its square root
    growth = 0.5 + 0.5 * (rows / start) ** 0.5
    memory = peak_bytes() + rows * BYTES_PER_ROW + pixels * BYTES_PER_PIXEL
    return Cost(STEP_RENDERS * growth * seconds_a_render * steps, memory)
