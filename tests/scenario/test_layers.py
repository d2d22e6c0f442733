"""The layers hold: includes point downward only, tools do not include each other, headers compile alone."""

import subprocess

import pytest

from support import ROOT


@pytest.mark.limit(600)       # each header is compiled
def test_layers():
    done = subprocess.run([str(ROOT / "tests/layers")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
