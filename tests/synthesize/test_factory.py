"""The factory: drafts of every kind, and runs that survive being killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gaussianvae.synthesize.factory import CONVERGED_STEPS, MAX_HR, MIN_HR, draft


def test_drafts_cover_what_is_asked_for() -> None:
    plans = [draft(seed) for seed in range(300)]
    assert {plan.fit.mode for plan in plans} == {"mip", "classic"}
    assert sum(plan.fit.steps == CONVERGED_STEPS for plan in plans) >= 150
    assert min(plan.lr for plan in plans) == 32 and max(plan.lr for plan in plans) == 160
    assert {2.0, 3.0, 4.0, 6.0, 8.0} == {plan.scale for plan in plans}
    assert all(MIN_HR <= plan.lr * plan.scale <= MAX_HR for plan in plans)
    counts = [plan.fit.max_gaussians for plan in plans]
    assert min(counts) >= 3000 and max(counts) <= 20_000
    assert draft(5) == draft(5)


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_manifest_of_an_undisturbed_run(tmp_path: Path) -> None:
    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "gaussianvae.cli", "factory", "-o", str(folder), "--count", "8", "--seed", "500"]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    choose = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(command(tmp_path / "killed"), env=environment, start_new_session=True)
        time.sleep(choose.uniform(20, 50))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path / "killed"), env=environment, check=True)
    subprocess.run(command(tmp_path / "whole"), env=environment, check=True)
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("killed", "whole")]
    assert len(manifests[0]) == 8 and manifests[0] == manifests[1]
