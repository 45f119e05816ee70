from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from gaussianvae.cli import COMMANDS, main, make_app, split_boxes
from gaussianvae.errors import GaussianVAEError


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; stdout must be empty."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


def test_help_and_import_load_nothing_heavy() -> None:
    script = (
        "import sys, gaussianvae, gaussianvae.cli\n"
        "assert gaussianvae.cli.main(['--help']) == 0\n"
        "heavy = {'torch', 'numba', 'numpy', 'scipy', 'PIL', 'trimesh', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module_and_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(getattr(importlib.import_module(f"gaussianvae.cli.{name}"), name))
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"gaussianvae {name}" in out and err == ""


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["evalute", "a"], "did you mean evaluate?"),
        (["zzz"], "choose from reconstruct, enhance"),
        (["--zzz"], "--zzz"),
        (["info"], "FILE"),
        (["info", "a", "b"], "'b'"),
        (["render", "a"], "--output"),
        (["enhance", "a", "-o", "b", "--budget", "many"], "many"),
        (["reconstruct", "a", "-o", "b", "--factor", "8", "--mode", "best"], "best"),
        (["evaluate", "a", "b", "--factor"], "--factor"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert complaint in line_of(capsys)


def test_a_config_out_of_range_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", "a", "-o", "b", "--factor", "8", "--steps", "0"]) == 2
    assert "steps" in line_of(capsys)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (GaussianVAEError("one\ntwo"), 2, "error: one two\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (RuntimeError("odd"), 1, "error: unexpected RuntimeError: odd"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: unexpected FileNotFoundError"),
    ],
)
def test_errors_become_lines_and_codes(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.delenv("GAUSSIANVAE_DEBUG", raising=False)
    monkeypatch.setattr("gaussianvae.cli.info.splat_facts", fail)
    assert main(["info", "nothing.ply"]) == code
    assert line_of(capsys).startswith(text)
    if code == 1:
        monkeypatch.setenv("GAUSSIANVAE_DEBUG", "1")
        with pytest.raises(type(error)):
            main(["info", "nothing.ply"])


def test_a_reader_of_stdout_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    script = "import sys; from gaussianvae.cli import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert done.stderr == ""


def test_boxes_may_be_written_with_commas() -> None:
    box = ["--roi", "-1", "0", "0.5", "1", "2", "3e-1"]
    assert split_boxes(["enhance", "--roi", "-1,0,0.5,1,2,3e-1", "-o", "a,b"]) == ["enhance", *box, "-o", "a,b"]
    assert split_boxes(["--roi=-1,0,0.5,1,2,3e-1"]) == box
    assert split_boxes(box) == box


def test_a_box_arrives_at_the_config() -> None:
    tokens = split_boxes(["enhance", "a.ply", "-o", "b.ply", "--roi", "-1,0,0.5,1,2,3e-1"])
    _, bound, _ = make_app().parse_args(tokens, exit_on_error=False, print_error=False)
    assert bound.arguments["config"].roi == (-1.0, 0.0, 0.5, 1.0, 2.0, 0.3)
