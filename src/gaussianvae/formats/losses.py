"""What formats can't hold, as phrases: notes and properties, and values out of range with how many there are."""

from __future__ import annotations

from torch import Tensor

from gaussianvae.scene.splats import Splats


def lost_notes(splats: Splats, keeps_mip: bool) -> list[str]:
    """The phrases for a format without comments and extra properties; some have a mark for mip splats at least."""
    lost = []
    known = splats.recipe.known()
    if keeps_mip and known.get("mode") == "mip":
        del known["mode"]
    if known:
        lost.append("the recipe of its training" + (" but for the antialias mark" if keeps_mip else ""))
    if splats.comments:
        lost.append("comments")
    if splats.extras:
        lost.append(f"extra properties ({', '.join(splats.extras)})")
    return lost


def lost_values(what: str, rows: Tensor) -> list[str]:
    """The phrase for values that are clipped in some rows (a mask over N); none when no row is."""
    count = int(rows.sum())
    return [f"{what} ({count} of {len(rows)} Gaussians)"] if count else []
