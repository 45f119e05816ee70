"""The command line: one module a command, imported only when that command runs.

Exit codes: 0 done, 2 wrong usage or bad input (one line on stderr), 130 interrupted, 1 a defect of this program.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gaussianvae import __version__
from gaussianvae.errors import GaussianVAEError

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

COMMANDS = {
    "reconstruct": "Fit a splat to the photos of a capture, with its lineage.",
    "enhance": "Make a splat finer: predict and refine Gaussians.",
    "refine": "Make a splat finer by its low-resolution photos.",
    "evaluate": "Judge a splat, and finer ones made from it, at a finer resolution.",
    "render": "Render a splat from a capture's cameras, an orbit or an estimate.",
    "convert": "Write a splat in another format.",
    "info": "Say what is in a splat file or a capture.",
    "synthesize": "Make captures with known truth, from nothing or from a mesh.",
    "factory": "Make training data: scene, capture, fit, shard.",
    "train": "Train the VAE on the factory's shards.",
    "demo": "Run everything once on a small scene of its own.",
}
"""Every command and what it does, in the order of the help; `gaussianvae.cli.<name>:<name>` is its function."""


def make_app() -> App:
    """The application, without importing any command."""
    from cyclopts import App, Parameter

    app = App(
        name="gaussianvae",
        help="Make a 3D Gaussian splat sharper than the photos it was trained on.",
        version=__version__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=()),
    )
    for place, (name, summary) in enumerate(COMMANDS.items()):
        app.command(f"gaussianvae.cli.{name}:{name}", name=name, help=summary, sort_key=place)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code and never raises but for `GAUSSIANVAE_DEBUG=1`."""
    # worker threads that spin while waiting steal the cores of everybody else
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from cyclopts import CycloptsError

    tokens = split_boxes(sys.argv[1:] if argv is None else list(argv))
    try:
        make_app()(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(usage_line(error, tokens), 2)
    except GaussianVAEError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # the reader of stdout has left; keep the interpreter from complaining at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("GAUSSIANVAE_DEBUG"):
            raise
        name = type(error).__name__
        return _fail(f"unexpected {name}: {error} (a defect; GAUSSIANVAE_DEBUG=1 shows where)", 1)
    return 0


def _fail(text: str, code: int) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201
    return code


def usage_line(error: CycloptsError, tokens: Sequence[str]) -> str:
    """What was wrong with the command line, in one line that names the help to read."""
    from cyclopts import UnknownCommandError

    if isinstance(error, UnknownCommandError):
        word = tokens[0] if tokens else ""
        close = get_close_matches(word, COMMANDS, 1)
        guess = f"; did you mean {close[0]}?" if close else f"; choose from {', '.join(COMMANDS)}"
        return f"no command named {word}{guess}"
    command = tokens[0] if tokens and tokens[0] in COMMANDS else ""
    return f"{error} See gaussianvae {command + ' ' if command else ''}--help"


def split_boxes(tokens: Sequence[str]) -> list[str]:
    """`--roi x0,y0,z0,x1,y1,z1` with its commas as spaces, which is what the parser reads."""
    result: list[str] = []
    for index, token in enumerate(tokens):
        if token.startswith("--roi="):
            result += ["--roi", *token.removeprefix("--roi=").split(",")]
        elif index and tokens[index - 1] == "--roi":
            result += token.split(",")
        else:
            result.append(token)
    return result
