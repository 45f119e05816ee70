"""What is compared with what: factors, background, views. Two figures are comparable when their hashes agree."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from gaussianvae.captures import Capture
from gaussianvae.errors import GaussianVAEError

DEFAULT_SCALE = 4.0
_NAMED = {(4.0, 4.0): "object-x4", (8.0, 4.0): "object-x4-half", (16.0, 4.0): "photo-x4"}


@dataclass(frozen=True)
class Protocol:
    """One way of judging."""

    name: str
    """`object-x4` (LR factor 4, judged at native size), `object-x4-half` (8, judged at 2), `photo-x4` (16, judged at
    4), else `lr<factor>-x<scale>`."""
    factor: float
    """Reduction of the LR photos against the capture's native size."""
    scale: float
    """How much finer than LR the judged images are."""
    background: tuple[float, float, float]
    """RGB, 0-1, under the photos' transparent parts."""
    views: tuple[str, ...]
    """Names of the judged views."""

    @property
    def judged_factor(self) -> float:
        """Reduction of the judged images against the capture's native size, >= 1."""
        return self.factor / self.scale

    @property
    def hash(self) -> str:
        """Twelve hex digits of everything above."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def as_json(self) -> dict[str, object]:
        """The `protocol` entry of the evaluation's JSON."""
        fields = {"name": self.name, "hash": self.hash, "factor": self.factor, "scale": self.scale}
        return {**fields, "background": list(self.background), "views": list(self.views)}


def choose_protocol(
    capture: Capture,
    factor: float,
    scale: float | None = None,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Protocol:
    """The protocol for a splat trained at `factor`: its test views, `scale` times finer.

    Args:
        capture: the photos; only its test views are judged.
        factor: LR factor, >= 1.
        scale: by default 4, or `factor` where the photos are not that large.
        background: RGB, 0-1.

    Raises:
        GaussianVAEError: a factor or scale that the photos can't serve, or no test views.
    """
    if not factor >= 1:
        raise GaussianVAEError(f"the factor is {factor:g}; it counts down from the photos' own size and is at least 1")
    scale = min(DEFAULT_SCALE, factor) if scale is None else scale
    if not 1 <= scale <= factor:
        raise GaussianVAEError(
            f"the scale is {scale:g}; photos reduced by {factor:g} can judge scales from 1 to {factor:g}"
        )
    if not capture.test:
        raise GaussianVAEError(f"{capture.folder}: has no test views to judge by; at least one is needed")
    name = _NAMED.get((float(factor), float(scale)), "")
    if not name or name.startswith("object") != capture.has_alpha:
        name = f"lr{factor:g}-x{scale:g}"
    names = capture.cameras.names or tuple(str(view) for view in range(len(capture.cameras)))
    return Protocol(name, float(factor), float(scale), background, tuple(names[view] for view in capture.test))
