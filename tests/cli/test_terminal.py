from __future__ import annotations

import io

import pytest
from rich.console import Console

from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.progress import Reporter


def reporter(terminal: bool) -> tuple[TerminalReporter, io.StringIO]:
    text = io.StringIO()
    return TerminalReporter(Console(file=text, force_terminal=terminal, width=100)), text


def test_it_is_a_reporter() -> None:
    assert isinstance(TerminalReporter(), Reporter)


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_may_be_nested_and_messages_come_through(terminal: bool) -> None:
    report, text = reporter(terminal)
    with report.bar("outer", 2) as outer:
        with report.bar("inner", 3, start=1) as inner:
            inner.advance(2, loss="0.25")
            report.message("a note with [brackets]")
        outer.advance()
        with report.bar("second", 1):
            pass
        outer.advance()
    with report.bar("after", 1) as bar:
        bar.advance()
    assert "a note with [brackets]" in text.getvalue()


def test_without_a_terminal_a_bar_leaves_one_line() -> None:
    report, text = reporter(False)
    with report.bar("fit", 5) as bar:
        for _ in range(5):
            bar.advance(loss="1.0")
    lines = text.getvalue().splitlines()
    assert len(lines) == 1 and lines[0].startswith("fit: 5 in ")


def test_a_failure_inside_a_bar_passes_and_ends_the_display() -> None:
    report, text = reporter(True)
    with pytest.raises(ValueError, match="inside"), report.bar("fit", 5):
        raise ValueError("inside")
    with report.bar("again", 1) as bar:
        bar.advance()
    assert "\x1b[?25h" in text.getvalue(), "the cursor is shown again"
