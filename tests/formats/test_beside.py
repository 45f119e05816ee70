"""Names in files lead nowhere but into their own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.beside import check_name, read_beside


@pytest.mark.parametrize("name", ["a.bin", "my data.bin", "sub/a.bin", ".hidden", "ä..b"])
def test_names_inside(name: str) -> None:
    assert check_name(Path("x"), name) == name


@pytest.mark.parametrize(
    "name",
    ["", "/a", "../a", "a/../b", "..", "a/..", "C:a", "a\\b", "a\0b", "a\nb", "http://a/b", "~\t", 3, None, ["a"]],
)
def test_names_outside(name: object) -> None:
    with pytest.raises(GaussianVAEError, match="isn't in its folder") as caught:
        check_name(Path("x"), name)
    assert "\n" not in str(caught.value)


def test_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "folder").mkdir()
    assert read_beside(tmp_path / "x.json", "a.bin", 5) == b"12345"
    for name, most, says in (("a.bin", 4, "at most 4"), ("b.bin", 9, "isn't there"), ("folder", 9, "isn't there")):
        with pytest.raises(GaussianVAEError, match=says):
            read_beside(tmp_path / "x.json", name, most)
    with pytest.raises(GaussianVAEError, match=r"isn't there|can't be read"):
        read_beside(tmp_path / "x.json", "n" * 400, 9)
