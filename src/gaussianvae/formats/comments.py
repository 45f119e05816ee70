"""What our files say about themselves in comments, and how other tools' comments are understood."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from gaussianvae import __version__
from gaussianvae.scene.recipe import Recipe

RENDER_MODE = "SplatRenderMode:"
"""The spelling that Brush introduced and others read: `mip` or `default`."""
RECIPE = "gaussianvae-recipe:"
VERSION = "gaussianvae-version:"
_COUNTS = ("width", "steps")
_NUMBERS = ("eps2d", "focal_px", "factor")
_LARGEST = 1e12


def recipe_comments(recipe: Recipe) -> list[str]:
    """Comments that make a file remember its recipe."""
    lines = [f"{VERSION} {__version__}"]
    if recipe.mode is not None:
        lines.append(f"{RENDER_MODE} {'mip' if recipe.mode == 'mip' else 'default'}")
    known = recipe.known()
    if known:
        lines.append(f"{RECIPE} {json.dumps(known)}")
    return lines


def read_comments(comments: Iterable[str]) -> tuple[Recipe, tuple[str, ...]]:
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
    """The fields that we know (a later version may have more); None when one of them makes no sense."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    known = {name: value for name, value in content.items() if name in Recipe.__dataclass_fields__}
    if not all(_makes_sense(name, value) for name, value in known.items()):
        return None
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}


def _makes_sense(name: str, value: object) -> bool:
    if name == "mode":
        return value in ("mip", "classic")
    if name == "filter_3d":
        return isinstance(value, bool)
    if name == "background":
        return isinstance(value, list) and len(value) == 3 and all(_is_number(part, 1) for part in value)
    if not _is_number(value, _LARGEST):
        return False
    return name in _NUMBERS or (name in _COUNTS and isinstance(value, int))


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
