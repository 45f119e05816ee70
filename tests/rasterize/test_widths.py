"""Kernels compiled for another processor than this one: narrower vectors, no fused multiply-add."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="such code runs on x86-64 only")
def test_code_for_the_oldest_processor_matches_the_reference(tmp_path: Path) -> None:
    """Its vectors of pixels have 8 lanes, which no processor with AVX-512 would test otherwise."""
    oldest = dict(NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="+sse2", NUMBA_CACHE_DIR=str(tmp_path))
    folder = Path(__file__).parent
    chosen = [str(folder / "test_cpu.py"), str(folder / "test_sensitivity.py")]
    names = "matches_the_reference and (odd or opaque) or kernel_agrees and (needles or opaque)"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", names, *chosen],
        env=dict(os.environ, **oldest), cwd=folder.parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
