"""Progress as events: the library reports, whoever runs it decides what to draw.

A verb takes a `Reporter`; the default is silent. The command line draws bars from the same events, tests record them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Bar(Protocol):
    """One running count; `figures` are short texts shown beside it (loss, PSNR, ...)."""

    def advance(self, count: int = 1, **figures: str) -> None: ...


@runtime_checkable
class Reporter(Protocol):
    """Receives what a long verb has to say."""

    def message(self, text: str) -> None:
        """One line that the user should read (an estimate that was made, a row that was dropped)."""
        ...

    def bar(self, label: str, total: int, start: int = 0) -> AbstractContextManager[Bar]:
        """A context that yields a `Bar` of `total` steps, the first `start` already done."""
        ...


class _SilentBar:
    def advance(self, count: int = 1, **figures: str) -> None:
        return None


class Silent:
    """The reporter that says nothing."""

    def message(self, text: str) -> None:
        return None

    @contextmanager
    def bar(self, label: str, total: int, start: int = 0) -> Iterator[Bar]:
        yield _SilentBar()


SILENT: Reporter = Silent()
