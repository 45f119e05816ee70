from __future__ import annotations

from pathlib import Path

import pytest

from gaussianvae.cli.options import check_folder, check_writable, parse_background, parse_named_files
from gaussianvae.errors import GaussianVAEError


def test_backgrounds() -> None:
    assert parse_background("black") == (0, 0, 0)
    assert parse_background("white") == (1, 1, 1)
    assert parse_background("0.25,0,1") == (0.25, 0, 1)
    for text in ["grey", "1,2,3", "0.1,0.2", "nan,0,0", ""]:
        with pytest.raises(GaussianVAEError, match="allowed are black, white"):
            parse_background(text)


def test_named_files() -> None:
    assert parse_named_files(("a=x.ply", "b=y=z.ply")) == {"a": Path("x.ply"), "b": Path("y=z.ply")}
    for entries in [("x.ply",), ("=x.ply",), ("a=",), ("a=x", "a=y")]:
        with pytest.raises(GaussianVAEError, match="--with"):
            parse_named_files(entries)


def test_outputs_are_checked_before_the_work_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "there.ply"
    file.write_text("kept")
    check_writable(file)
    check_writable(tmp_path / "new" / "file.ply")
    assert file.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["there.ply"]
    with pytest.raises(GaussianVAEError, match="never overwritten"):
        check_writable(file, (file,))
    for output in (tmp_path, file / "below.ply"):
        with pytest.raises(GaussianVAEError, match=r"folder|can't be written"):
            check_writable(output)
    with pytest.raises(GaussianVAEError, match="can't be made"):
        check_folder(file / "below")
