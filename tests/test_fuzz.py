"""Two thousand damaged files; `python tests/fuzzing.py` reads a hundred times as many."""

from __future__ import annotations

import pytest

from fuzzing import fuzz
from fuzztargets import targets

TARGETS = {target.name: target for target in targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused_in_one_line(name: str) -> None:
    tally = fuzz(TARGETS[name], -(-2000 // len(TARGETS)), seed=0)
    assert not tally.failures, "\n".join(tally.failures)
