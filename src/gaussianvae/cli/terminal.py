"""Progress bars and messages on stderr; stdout stays free for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as RemainingColumn


class TerminalBar:
    """One line of the running display."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: int = 1, **figures: str) -> None:
        """Count on; figures are shown beside the bar."""
        if figures:
            text = "  ".join(f"{name} {value}" for name, value in figures.items())
            self._progress.update(self._task, advance=count, figures=text)
        else:
            self._progress.update(self._task, advance=count)


class TerminalReporter:
    """Draws the events of a verb with rich; without a terminal, each bar leaves one line when it ends."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None

    def message(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int, start: int = 0) -> Iterator[TerminalBar]:
        """A bar of `total` steps, the first `start` already done; bars may be nested."""
        outermost = self._progress is None
        progress = self._progress or self._new_progress()
        self._progress = progress
        begin = time.monotonic()
        if outermost:
            progress.start()
        task = progress.add_task(label, total=total, completed=start, figures="")
        done = False
        try:
            yield TerminalBar(progress, task)
            done = True
        finally:
            if not outermost:
                progress.remove_task(task)
            else:
                progress.stop()
                self._progress = None
            if done and not self._console.is_terminal:
                self.message(f"{label}: {total} in {time.monotonic() - begin:.1f} s")

    def _new_progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            RemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )


def results_console() -> Console:
    """Where tables go: stdout, at least wide enough for them when it is no terminal."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=160)
