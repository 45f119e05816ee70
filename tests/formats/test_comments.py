"""A file remembers its recipe, and keeps what others wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plyfiles import NAMES, file_of, rows_of

from gaussianvae.formats import read_splats, write_splats
from gaussianvae.formats.comments import read_comments, recipe_comments
from gaussianvae.scene.recipe import Recipe

RECIPES = st.builds(
    Recipe,
    mode=st.sampled_from([None, "mip", "classic"]),
    eps2d=st.none() | st.floats(0, 10),
    filter_3d=st.none() | st.booleans(),
    focal_px=st.none() | st.floats(0, 1e5),
    width=st.none() | st.integers(0, 10**5),
    factor=st.none() | st.floats(1, 100),
    steps=st.none() | st.integers(0, 10**6),
)


@given(RECIPES, st.lists(st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=20)))
def test_recipes_round_trip_and_foreign_comments_stay(recipe: Recipe, foreign: list[str]) -> None:
    _, foreign_kept = read_comments(foreign)
    back, kept = read_comments([*foreign_kept, *recipe_comments(recipe)])
    assert back == recipe and kept == foreign_kept


@pytest.mark.parametrize(
    ("comments", "mode", "kept"),
    [
        (["SplatRenderMode: mip"], "mip", 0),
        (["splatrendermode: MIP"], "mip", 0),
        (["SplatRenderMode: default"], "classic", 0),
        (["SplatRenderMode: mip", "SplatRenderMode: default"], "classic", 0),
        (["SplatRenderMode: default", "SplatRenderMode:   Mip "], "mip", 0),
        (["SplatRenderMode: 2dgs"], None, 1),
        (["SplatRenderMode:"], None, 1),
        (["antialiased 1"], "mip", 1),
        (["antialiased yes"], None, 1),
        (["Exported from Brush", "Vertical axis: y"], None, 2),
    ],
)
def test_render_modes_of_other_tools(comments: list[str], mode: str | None, kept: int) -> None:
    recipe, others = read_comments(comments)
    assert recipe == Recipe(mode=mode) and len(others) == kept  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", '{"mode": "other"}', '{"width": true}', '{"width": 1.5}', '{"steps": -1}', '{"eps2d": NaN}',
        '{"factor": 1e999}', '{"factor": 1' + 400 * "0" + "}", '{"filter_3d": 1}', '{"focal_px": "100"}', 100000 * "[",
    ],
)  # fmt: skip
def test_malformed_recipes_are_ignored_and_kept(text: str) -> None:
    comment = f"gaussianvae-recipe: {text}"
    assert read_comments([comment]) == (Recipe(), (comment,))


def test_recipes_of_later_versions_tell_what_we_know() -> None:
    recipe, others = read_comments(['gaussianvae-recipe: {"mode": "mip", "color_space": "linear"}'])
    assert recipe == Recipe("mip") and others == ()


def test_files_keep_comments_and_ours_are_not_doubled(tmp_path: Path) -> None:
    foreign = ["made  by hand", "Zoë", "the end_header is below"]
    (tmp_path / "a.ply").write_bytes(file_of(rows_of(5, NAMES), [*foreign, "SplatRenderMode: MIP"]))
    splats = read_splats(tmp_path / "a.ply")
    assert splats.recipe.mode == "mip" and splats.comments == tuple(foreign)
    known = replace(splats, recipe=Recipe("mip", 0.1, False, 138.5, 100, 8.0, 2000))
    write_splats(tmp_path / "b.ply", known)
    write_splats(tmp_path / "c.ply", read_splats(tmp_path / "b.ply"))
    assert (tmp_path / "b.ply").read_bytes() == (tmp_path / "c.ply").read_bytes()
    assert b"comment SplatRenderMode: mip\n" in (tmp_path / "c.ply").read_bytes()
    back = read_splats(tmp_path / "c.ply")
    assert back.recipe == known.recipe and back.comments == tuple(foreign)


def test_comments_can_not_break_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(file_of(rows_of(2, NAMES), ["Latin caf\xe9"]).replace("é".encode(), b"\xe9"))
    splats = read_splats(tmp_path / "a.ply")
    assert splats.comments == ("Latin café",)
    write_splats(tmp_path / "b.ply", replace(splats, comments=("one\nend_header\nelement vertex 7", "\ud800")))
    back = read_splats(tmp_path / "b.ply")
    assert len(back) == 2 and back.comments[0] == "one end_header element vertex 7"
