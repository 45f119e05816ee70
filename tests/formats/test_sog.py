"""SOG against a decoder that takes the format's words one number at a time; broken and hostile files; real ones."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sogfiles import decode_row, sog_files, webp, write_bundle, write_folder

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import cameras_beside, check_format, read_splats
from gaussianvae.scene.splats import STATE, Splats


def same(a: Splats, b: Splats) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in STATE)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("bands", [0, 1, 2, 3])
def test_every_byte_is_understood(tmp_path: Path, version: int, bands: int) -> None:
    files, _ = sog_files(53, bands, version)
    splats = read_splats(write_folder(tmp_path / "scene", files))
    assert len(splats) == 53 and splats.sh_degree == bands and splats.recipe.mode is None
    for row in (0, 1, 7, 30, 52):
        for name, truth in decode_row(files, row).items():
            read = getattr(splats, name)[row].numpy().ravel()
            np.testing.assert_allclose(read, truth, rtol=2e-6, atol=2e-7, err_msg=name)


def test_a_bundle_is_its_folder(tmp_path: Path) -> None:
    files, _ = sog_files(40, 2)
    folder = read_splats(write_folder(tmp_path / "scene", files).parent)
    assert same(folder, read_splats(write_bundle(tmp_path / "a.sog", files)))
    assert same(folder, read_splats(write_bundle(tmp_path / "b.sog", files, zipfile.ZIP_DEFLATED)))
    nested = {f"scene/{name}": data for name, data in files.items()}
    assert same(folder, read_splats(write_bundle(tmp_path / "no ending", nested)))


def test_the_model_and_comments_of_meta_json(tmp_path: Path) -> None:
    files, meta = sog_files(9)
    write_folder(tmp_path, files)
    for model, mode in (("antialiased", "mip"), ("default", None), (None, None), (["?"], None)):
        (tmp_path / "meta.json").write_text(json.dumps(meta | {"model": model}))
        assert read_splats(tmp_path).recipe.mode == mode
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"asset": {"comments": ["Exported from X", 3, None]}}))
    assert read_splats(tmp_path).comments == ("Exported from X",)
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"asset": "none", "model": "2dgs"}))
    with pytest.raises(GaussianVAEError, match="surfels"):
        read_splats(tmp_path)


def test_a_mark_that_is_no_component_turns_nothing(tmp_path: Path) -> None:
    files, _ = sog_files(4)
    files["quats.webp"] = webp(np.full((2, 2, 4), 251, np.uint8))
    assert read_splats(write_folder(tmp_path, files)).quats.tolist() == [[1, 0, 0, 0]] * 4


def test_names_of_folders() -> None:
    assert cameras_beside("scene/meta.json") == Path("scene/cameras.json")
    assert cameras_beside("scene/a.sog") == Path("scene/a.cameras.json")
    with pytest.raises(GaussianVAEError, match="can't be written"):
        check_format("scene/meta.json")


def changed(meta: Any, where: str, value: object) -> bytes:
    """meta.json with one value replaced."""
    meta = json.loads(json.dumps(meta))
    *parts, last = where.split(".")
    at = meta
    for part in parts:
        at = at[part]
    at[last] = value
    return json.dumps(meta).encode()


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("version", 3, "version 3"),
        ("version", True, "version True"),
        ("version", "2", "version 2"),
        ("count", 0, "count of 0"),
        ("count", -4, "count of -4"),
        ("count", 2.5, "count of 2.5"),
        ("count", True, "count of True"),
        ("count", 10**30, "count of 1000"),
        ("count", 60_000_000, "more than fit|pixels"),
        ("count", 200, "at least 200"),
        ("means", [], "no means"),
        ("means.files", ["means_l.webp"], "too few files"),
        ("means.mins", [0, 0], "means.mins"),
        ("means.maxs", [0, None, 1], "means.maxs"),
        ("means.maxs", [1e4, 0, 1], "no finite numbers"),
        ("means.maxs", [10**400, 0, 1], "means.maxs"),
        ("scales", None, "too few files of scales"),
        ("scales.codebook", [0.0] * 3, "beyond its codebook of 3"),
        ("scales.codebook", [], "scales.codebook"),
        ("scales.codebook", "x", "scales.codebook"),
        ("scales.codebook", [89.0] * 256, "scales"),
        ("sh0.codebook", [float("nan")] * 256, "sh0.codebook"),
        ("shN.bands", 2, "192 pixels wide for 2 bands"),
        ("shN.bands", 1.0, "wide"),
        ("shN.files", ["shN_centroids.webp", "quats.webp"], "beyond their palette"),
        ("shN.files", ["quats.webp", "shN_labels.webp"], "wide"),
        ("quats.files", ["../quats.webp"], "isn't in its folder"),
        ("quats.files", ["a/../../quats.webp"], "isn't in its folder"),
        ("quats.files", ["/etc/passwd"], "isn't in its folder"),
        ("quats.files", ["C:\\quats.webp"], "isn't in its folder"),
        ("quats.files", [""], "isn't in its folder"),
        ("quats.files", ["a\nb"], "isn't in its folder"),
        ("quats.files", [3], "isn't in its folder"),
        ("quats.files", ["missing.webp"], "missing.webp"),
        ("quats.files", ["meta.json"], "no WebP"),
    ],
)
def test_broken_metas_are_one_clear_line(tmp_path: Path, where: str, value: object, says: str) -> None:
    files, meta = sog_files(50, 1)
    files["meta.json"] = changed(meta, where, value)
    for path in (write_folder(tmp_path / "a", files), write_bundle(tmp_path / "a.sog", files)):
        with pytest.raises(GaussianVAEError, match=says) as caught:
            read_splats(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe{}", "no JSON|no means"),
        (b"[]", "no means"),
        (b"{}", "no means"),
        (b" " * (1 << 21), "20 kB|claims"),
    ],
)
def test_what_is_no_meta_json(tmp_path: Path, text: bytes, says: str) -> None:
    files, _ = sog_files(9)
    files["meta.json"] = text
    for path in (write_folder(tmp_path / "a", files), write_bundle(tmp_path / "a.sog", files)):
        with pytest.raises(GaussianVAEError, match=says):
            read_splats(path)
    (tmp_path / "lod-meta.json").write_text("{}")
    with pytest.raises(GaussianVAEError, match="index of several splats"):
        read_splats(tmp_path / "lod-meta.json")


def huge_webp(width: int, height: int, extended: bool = False) -> bytes:
    """A file of some bytes that states a size, as a constant image can."""
    body = b"VP8L" + struct.pack("<I", 40) + b"\x2f" + struct.pack("<I", width - 1 | (height - 1) << 14) + bytes(35)
    if extended:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + sides + bytes(40)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize("extended", [False, True])
def test_a_giant_image_is_refused_before_it_is_decoded(tmp_path: Path, extended: bool) -> None:
    files, _ = sog_files(50, 1)
    for name in ("sh0.webp", "shN_centroids.webp"):
        broken = {**files, name: huge_webp(16000, 16000, extended)}
        begun = time.perf_counter()
        with pytest.raises(GaussianVAEError, match="16000x16000 pixels; expected at most"):
            read_splats(write_bundle(tmp_path / "a.sog", broken))
        assert time.perf_counter() - begun < 1


def test_a_count_needs_bytes(tmp_path: Path) -> None:
    """A black image of ten million pixels is a file of some hundred bytes."""
    files, meta = sog_files(9)
    count = 10_000_000
    black = webp(np.zeros((count // 4000, 4000, 4), np.uint8))
    assert len(black) < 20_000
    files = {name: black for name in files} | {"meta.json": json.dumps(meta | {"count": count}).encode()}
    with pytest.raises(GaussianVAEError, match="more than fit"):
        read_splats(write_bundle(tmp_path / "a.sog", files))


def test_zip_bombs(tmp_path: Path) -> None:
    files, _ = sog_files(9)
    bomb = {**files, "quats.webp": bytes(60 << 20)}
    path = write_bundle(tmp_path / "a.sog", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(GaussianVAEError, match="claims 62914560 bytes"):
        read_splats(path)
    # an entry that lies about its size
    data = path.read_bytes().replace(struct.pack("<I", 60 << 20), struct.pack("<I", 999))
    path.write_bytes(data)
    with pytest.raises(GaussianVAEError, match=r"damaged|no WebP"):
        read_splats(path)


@pytest.mark.parametrize("entries", [{}, {"a/meta.json": b"{}", "b/meta.json": b"{}"}, {"lod-meta.json": b"{}"}])
def test_other_zips(tmp_path: Path, entries: dict[str, bytes]) -> None:
    path = write_bundle(tmp_path / "a.sog", {"readme.txt": b"hello", **entries})
    with pytest.raises(GaussianVAEError, match=r"files named meta\.json"):
        read_splats(path)


def test_other_compressions_and_encryption_are_refused(tmp_path: Path) -> None:
    files, _ = sog_files(9)
    with pytest.raises(GaussianVAEError, match="repack"):
        read_splats(write_bundle(tmp_path / "a.sog", files, zipfile.ZIP_BZIP2))
    data = bytearray(write_bundle(tmp_path / "a.sog", files).read_bytes())
    for at in range(len(data) - 10):
        if data[at : at + 4] == b"PK\x01\x02":
            data[at + 8] |= 1
    (tmp_path / "a.sog").write_bytes(data)
    with pytest.raises(GaussianVAEError, match="repack"):
        read_splats(tmp_path / "a.sog")


def test_lossy_and_gray_images_are_read_as_they_are(tmp_path: Path) -> None:
    """Some writers leave the alpha out where it says nothing."""
    files, _ = sog_files(9)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    with_alpha = np.concatenate([pixels, np.full((4, 3, 1), 255, np.uint8)], -1)
    a = read_splats(write_folder(tmp_path / "a", {**files, "means_l.webp": file.getvalue()}))
    b = read_splats(write_folder(tmp_path / "b", {**files, "means_l.webp": webp(with_alpha)}))
    assert same(a, b)


def test_mutants_raise_nothing_but_our_error(tmp_path: Path) -> None:
    files, _ = sog_files(40, 1)
    data = write_bundle(tmp_path / "a.sog", files).read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "b.sog"
    for _ in range(300):
        mutant = bytearray(data[: int(random.integers(4, len(data)))] if random.random() < 0.2 else data)
        for _ in range(int(random.integers(1, 6))):
            mutant[int(random.integers(len(mutant)))] = int(random.integers(256))
        path.write_bytes(mutant)
        try:
            read_splats(path)
        except GaussianVAEError as error:
            assert "\n" not in str(error)


@pytest.mark.real
def test_real_levels_of_detail(data: Path) -> None:
    """One scene at four levels: as many Gaussians as its source says, in the same box."""
    folder = data / "splats" / "playbot_sog"
    levels = [read_splats(folder / f"lod{level}") for level in (2, 3, 4, 5)]
    assert [len(splats) for splats in levels] == [125_000, 31_000, 8_406, 3_000]
    tree = json.loads((folder / "lod-meta.json").read_text())["tree"]
    low, high = (torch.tensor(tree["bound"][end]) for end in ("min", "max"))
    for splats in levels:
        assert splats.sh_degree == 2
        # the source's box holds the Gaussians' extents, too
        assert bool((splats.means >= low).all()) and bool((splats.means <= high).all())
        torch.testing.assert_close(splats.means.max(0).values, high, atol=0.02, rtol=0)
    assert same(levels[3], read_splats(data / "splats" / "playbot_lod5.sog"))


@pytest.mark.real
def test_a_real_bundle_decodes_as_its_description_says(data: Path) -> None:
    with zipfile.ZipFile(data / "splats" / "playbot_lod5.sog") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    splats = read_splats(data / "splats" / "playbot_lod5.sog")
    for row in range(0, 3000, 499):
        for name, truth in decode_row(files, row).items():
            np.testing.assert_allclose(getattr(splats, name)[row].numpy().ravel(), truth, rtol=2e-5, atol=2e-6)
