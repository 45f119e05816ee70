"""What our files say about themselves in comments, and how other tools' comments are understood."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gaussianvae import __version__
from gaussianvae.scene.recipe import Recipe

RENDER_MODE = "SplatRenderMode:"
"""The spelling that Brush introduced and others read: `mip` or `default`."""
RECIPE = "gaussianvae-recipe:"
VERSION = "gaussianvae-version:"
_KINDS: dict[str, type | tuple[type, ...]] = {
    "mode": str, "eps2d": (int, float), "filter_3d": bool, "focal_px": (int, float), "width": int,
    "factor": (int, float), "steps": int,
}  # fmt: skip


def recipe_comments(recipe: Recipe) -> list[str]:
    """Comments that make a file remember its recipe."""
    lines = [f"{VERSION} {__version__}"]
    if recipe.mode is not None:
        lines.append(f"{RENDER_MODE} {'mip' if recipe.mode == 'mip' else 'default'}")
    known = recipe.known()
    if known:
        lines.append(f"{RECIPE} {json.dumps(known)}")
    return lines


def read_comments(comments: Sequence[str]) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe that comments tell, and the comments that aren't ours; the last word counts, nonsense is kept."""
    recipe, others = Recipe(), []
    for comment in comments:
        name, _, value = comment.partition(" ")
        if name == VERSION:
            continue
        if name == RECIPE:
            known = _parse_recipe(value)
            if known is not None:
                recipe = replace(recipe, **known)
                continue
        elif name.lower() == RENDER_MODE.lower():
            mode = value.strip().lower()
            if mode in ("mip", "default"):
                recipe = replace(recipe, mode="mip" if mode == "mip" else "classic")
                continue
        elif name.lower() == "antialiased" and value.strip() in ("0", "1"):
            recipe = replace(recipe, mode="mip" if value.strip() == "1" else "classic")
        others.append(comment)
    return recipe, tuple(others)


def _parse_recipe(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    for name, value in content.items():
        if name not in _KINDS or not isinstance(value, _KINDS[name]):
            return None
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            return None
        if name == "mode" and value not in ("mip", "classic"):
            return None
    return content
