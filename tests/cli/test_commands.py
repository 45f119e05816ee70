"""The commands as a user runs them, on a capture of 48 px, in one process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussianvae.cli import main
from gaussianvae.formats import find_cameras, read_splats, write_splats
from gaussianvae.growth.lineage import read_lineage
from gaussianvae.scene.splats import transform
from scenes import random_splats
from tiny_capture import write_capture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """toy/ (a capture), LR.ply with its cameras and lineage (a fit of 30 steps), true.ply (what the photos show)."""
    folder = tmp_path_factory.mktemp("commands")
    write_splats(folder / "true.ply", write_capture(folder / "toy"))
    argv = ["reconstruct", str(folder / "toy"), "-o", str(folder / "LR.ply"), "--factor", "4", "--steps", "30"]
    assert main([*argv, "--max-gaussians", "60", "--lineage", str(folder / "LR.lineage.safetensors")]) == 0
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_reconstruct_writes_splat_cameras_and_lineage_and_no_more(folder: Path) -> None:
    splats = read_splats(folder / "LR.ply")
    assert 0 < len(splats) <= 60
    assert splats.recipe.mode == "mip" and splats.recipe.factor == 4 and splats.recipe.width == 12
    cameras = find_cameras(folder / "LR.ply")
    assert cameras is not None and len(cameras) == 6 and cameras.sizes[0] == (12, 12)
    assert read_lineage(folder / "LR.lineage.safetensors").num_rows == len(splats)
    assert {"LR.ply", "LR.cameras.json", "LR.lineage.safetensors", "toy", "true.ply"} >= set(names_in(folder))


def test_enhance_finds_the_cameras_by_itself_and_keeps_the_budget(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "OUT.ply"
    argv = ["enhance", str(folder / "LR.ply"), "-o", str(out), "--method", "split", "--score", "size"]
    assert main([*argv, "--scale", "4", "--budget", "1.5"]) == 0
    assert len(read_splats(out)) == int(1.5 * len(read_splats(folder / "LR.ply")))
    assert "estimated" not in capsys.readouterr().err
    assert main([*argv, "--capture", str(folder / "toy")]) == 0
    stranger = tmp_path / "stranger.ply"
    stranger.write_bytes((folder / "LR.ply").read_bytes())
    assert main(["enhance", str(stranger), *argv[2:]]) == 0
    assert "no training cameras known" in capsys.readouterr().err


def test_evaluate_prints_a_table_and_writes_json_and_pictures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(folder / "LR.ply"), str(folder / "toy"), "--factor", "4"]
    argv += ["--with", f"enhanced={folder / 'true.ply'}", f"again={folder / 'true.ply'}"]
    files = ["--json", str(tmp_path / "metrics.json"), "--pictures", str(tmp_path / "pictures")]
    assert main([*argv, "--baselines", "bicubic", *files]) == 0
    out, _ = capsys.readouterr()
    assert "enhanced@classic_view" in out and "scale_adaptive" in out
    rows = {row["method"]: row for row in json.loads((tmp_path / "metrics.json").read_text())["rows"]}
    assert {"enhanced", "again", "bicubic", "mip"} <= set(rows)
    assert rows["enhanced"]["psnr"] > 40 > rows["mip"]["psnr"]
    assert len(names_in(tmp_path / "pictures")) == 1
    # the factor is remembered by the splat
    assert main(argv[:3]) == 0
    assert "object-x4" in capsys.readouterr().out


def test_render_from_a_capture_and_from_an_orbit(folder: Path, tmp_path: Path) -> None:
    argv = ["render", str(folder / "true.ply"), "-o"]
    assert main([*argv, str(tmp_path / "a"), "--capture", str(folder / "toy"), "--factor", "1"]) == 0
    assert names_in(tmp_path / "a") == ["r_0.png", "r_1.png", "r_2.png"]
    photo = np.asarray(Image.open(folder / "toy" / "test" / "r_1.png")).astype(float)
    seen = np.asarray(Image.open(tmp_path / "a" / "r_1.png")).astype(float)
    np.testing.assert_allclose(seen, photo[..., :3] * photo[..., 3:] / 255, atol=2.5)
    assert main([*argv, str(tmp_path / "b"), "--orbit", "2", "--size", "40", "--background", "white"]) == 0
    assert names_in(tmp_path / "b") == ["orbit_000.png", "orbit_001.png"]
    picture = np.asarray(Image.open(tmp_path / "b" / "orbit_000.png"))
    assert picture.shape == (40, 40, 3) and picture[0, 0].min() > 250 and picture[20, 20].min() < 200
    assert main([*argv, str(tmp_path / "c"), "--estimated", "3", "--size", "40", "--up", "0", "-1", "0"]) == 0
    assert names_in(tmp_path / "c") == ["view_000.png", "view_001.png", "view_002.png"]
    assert np.asarray(Image.open(tmp_path / "c" / "view_001.png"))[20, 20].max() > 0


def test_commands_say_when_a_splat_is_in_another_frame_than_its_capture(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turn = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, y, z) -> (x, z, -y)
    turned, toy = tmp_path / "turned.ply", str(folder / "toy")
    write_splats(turned, transform(read_splats(folder / "true.ply"), turn, torch.zeros(3)))
    says = "turned.ply doesn't look like this capture's photos: "
    for splat, count in ((turned, 1), (folder / "true.ply", 0)):
        out, name = str(tmp_path / "out.ply"), str(splat)
        for argv in (
            ["evaluate", name, toy, "--factor", "2"],
            ["evaluate", str(folder / "true.ply"), toy, "--factor", "2", "--with", f"x={name}"],
            ["enhance", name, "-o", out, "--capture", toy, "--method", "anchor"],
            ["render", name, "-o", str(tmp_path / "out"), "--capture", toy],
            ["refine", name, toy, "-o", out, "--scale", "2", "--start", "as-is", "--steps", "2", "--factor", "2"],
        ):
            assert main(argv) == 0, argv
            err = capsys.readouterr().err
            assert err.count(says) == count and err.count("turned by (x, y, z) -> (x, -z, y) it would") == count, err


def test_info_of_a_splat_and_of_a_capture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(folder / "LR.ply"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == "gaussianvae.info/1"
    assert facts["num_gaussians"] == len(read_splats(folder / "LR.ply"))
    assert facts["recipe"]["mode"] == "mip" and facts["cameras"]["views"] == 6
    assert main(["info", str(folder / "toy"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["train"] == 6 and facts["test"] == 3 and facts["sizes"] == ["48x48"]
    assert (facts["missing_photos"], facts["undistorted_photos"], facts["distortion_px"]) == (0, 0, 0)
    assert main(["info", str(folder / "LR.ply")]) == 0
    assert "num gaussians" in capsys.readouterr().out


def test_info_says_what_a_capture_lacks_and_how_much_its_lens_bends(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / "toy" / "transforms_train.json").read_text())
    for frame in content["frames"]:
        frame["file_path"] = str(folder / "toy" / frame["file_path"])
    content["frames"].append({"file_path": "gone.png", "transform_matrix": np.eye(4).tolist()})
    (tmp_path / "transforms.json").write_text(json.dumps(content | {"fl_x": 24.0, "k1": 0.05}))
    assert main(["info", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["missing_photos"] == 1 and facts["undistorted_photos"] == 6 and facts["views"] == 6
    # the corner's ray has r^2 just under 1^2 + 1^2 (the pinhole is a little longer): 0.05 * 2 of its 34 px
    assert 2 < facts["distortion_px"] < 0.05 * 2 * 24 * 2**0.5
    assert "1 of 7 photos" in err and f"up to {facts['distortion_px']:.1f} px at the corners (6 photos)" in err


def bad_files(folder: Path) -> dict[str, Path]:
    """Splat files that are none, by what is wrong with them."""
    write_splats(folder / "good.ply", random_splats(20))
    good = (folder / "good.ply").read_bytes()
    header_end = good.index(b"end_header\n") + len(b"end_header\n")
    nan = bytearray(good)
    nan[header_end : header_end + 4] = np.float32(np.nan).tobytes()
    contents = {
        "empty": b"",
        "noise": bytes(range(256)),
        "truncated": good[:-7],
        "header_only": good[: header_end - 20],
        "negative": good.replace(b"element vertex 20", b"element vertex -3"),
        "property": good.replace(b"property float opacity", b"property float opacitas"),
        "nan": bytes(nan),
    }
    for name, content in contents.items():
        (folder / f"{name}.ply").write_bytes(content)
    return {name: folder / f"{name}.ply" for name in contents} | {"missing": folder / "missing.ply"}


@pytest.mark.parametrize("command", ["info", "enhance", "render", "evaluate", "with"])
def test_bad_splats_are_one_line_and_exit_code_2_everywhere(
    command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    toy, good = str(folder / "toy"), str(folder / "LR.ply")
    for name, path in bad_files(tmp_path / "in").items():
        argv = {
            "info": ["info", str(path)],
            "enhance": ["enhance", str(path), "-o", str(tmp_path / "out.ply"), "--method", "anchor"],
            "render": ["render", str(path), "-o", str(tmp_path / "out"), "--orbit", "1"],
            "evaluate": ["evaluate", str(path), toy, "--factor", "4", "--json", str(tmp_path / "out.json")],
            "with": ["evaluate", good, toy, "--factor", "4", "--with", f"x={path}"],
        }[command]
        assert main(argv) == 2, name
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and path.name in err, (name, err)
    assert names_in(tmp_path) == ["in"]


def spoil(capture: Path, how: str) -> None:
    """Break a capture in one way."""
    if how == "undecodable":
        (capture / "train" / "r_1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    elif how == "one":
        for split, count in (("train", 1), ("test", 0)):
            path = capture / f"transforms_{split}.json"
            content = json.loads(path.read_text())
            path.write_text(json.dumps({**content, "frames": content["frames"][:count]}))
    elif how == "nonsense":
        (capture / "transforms_train.json").write_text("{")


@pytest.mark.parametrize("how", ["undecodable", "one", "nonsense", "absent"])
def test_bad_captures_are_one_line_and_exit_code_2(
    how: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = tmp_path / "toy"
    if how != "absent":
        write_capture(capture, size=16, train=3, test=1)
        spoil(capture, how)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    out = str(tmp_path / "out.ply")
    commands = [["reconstruct", str(capture), "-o", out, "--factor", "2", "--steps", "2", "--max-gaussians", "10"]]
    if how != "undecodable":
        commands.append(["evaluate", str(folder / "LR.ply"), str(capture), "--factor", "2"])
    for argv in commands:
        assert main(argv) == 2, argv
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1, err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_outputs_that_can_t_be_written_are_refused_before_the_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    toy, lr = str(folder / "toy"), str(folder / "LR.ply")
    for argv in [
        ["reconstruct", toy, "-o", str(blocked / "x.ply"), "--factor", "4"],
        ["reconstruct", toy, "-o", str(tmp_path / "x.ply"), "--factor", "4", "--lineage", str(blocked / "x")],
        ["enhance", lr, "-o", str(blocked / "x.ply")],
        ["enhance", lr, "-o", lr],
        ["render", lr, "-o", str(blocked), "--orbit", "1"],
        ["evaluate", lr, toy, "--factor", "4", "--json", str(blocked / "x.json")],
        ["evaluate", lr, toy, "--factor", "4", "--json", lr],
        ["evaluate", lr, toy, "--factor", "4", "--pictures", str(blocked)],
        ["synthesize", "-o", str(blocked / "x"), "--count", "1", "--size", "8", "--views", "2"],
        ["train", str(tmp_path), "-o", str(blocked / "x")],
    ]:
        assert main(argv) == 2, argv
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1, err
    assert names_in(tmp_path) == ["file"]
    assert len(read_splats(folder / "LR.ply")) > 0


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["render", "LR", "-o", "out"], "either --capture"),
        (["render", "LR", "-o", "out", "--orbit", "0"], "at least 1"),
        (["render", "LR", "-o", "out", "--estimated", "0"], "at least 1"),
        (["render", "LR", "-o", "out", "--estimated", "2", "--orbit", "3"], "either --capture"),
        (["render", "LR", "-o", "out", "--estimated", "2", "--size", "0"], "at least 1"),
        (["render", "LR", "-o", "out", "--capture", "toy", "--factor", "0"], "above 0"),
        (["evaluate", "LR", "toy", "--factor", "4", "--with", "nothing"], "NAME=FILE"),
        (["evaluate", "LR", "toy", "--factor", "4", "--baselines", "nerf"], "choose from"),
        (["evaluate", "LR", "toy", "--factor", "4", "--background", "grey"], "black, white"),
        (["evaluate", "LR", "toy", "--factor", "0.5"], "at least 1"),
        (["reconstruct", "toy", "-o", "out", "--factor", "0.5"], "at least 1"),
        (["enhance", "LR", "-o", "out", "--scale", "9"], "1 to 8"),
        (["enhance", "LR", "-o", "out", "--budget", "3"], "1 to 2"),
        (["enhance", "LR", "-o", "out", "--samples", "-1"], "samples"),
        (["enhance", "LR", "-o", "out", "--cameras", "toy", "--capture", "toy"], "not both"),
        (["synthesize", "-o", "out"], "either --count"),
        (["synthesize", "-o", "out", "--count", "0"], "at least 1"),
        (["synthesize", "-o", "out", "--mesh", "missing.glb"], "missing.glb"),
        (["factory", "-o", "out", "--meshes", "missing.glb"], "missing.glb"),
        (["train", "toy", "-o", "out"], "no shards"),
        (["train", "toy", "-o", "out", "--held-out", "1"], "held-out"),
    ],
)
def test_requests_out_of_range_are_one_line(
    argv: list[str], complaint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"LR": folder / "LR.ply", "toy": folder / "toy", "out": tmp_path / "out.ply"}
    places["missing.glb"] = tmp_path / "missing.glb"
    assert main([str(places.get(word, word)) for word in argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and complaint in err, err
    assert names_in(tmp_path) == []


def test_convert_brings_comments_the_recipe_and_the_cameras_along(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(folder / "LR.ply"), str(tmp_path / "out.ply")]) == 0
    given, written = read_splats(folder / "LR.ply"), read_splats(tmp_path / "out.ply")
    assert torch.equal(given.means, written.means) and given.recipe == written.recipe
    assert find_cameras(tmp_path / "out.ply") is not None
    capsys.readouterr()
    assert main(["convert", str(folder / "LR.ply"), str(tmp_path / "out.xyz")]) == 2
    assert "writable are" in capsys.readouterr().err
    assert main(["convert", str(folder / "LR.ply"), str(folder / "LR.ply")]) == 2
    assert "is an input" in capsys.readouterr().err
