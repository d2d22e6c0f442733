"""The layers hold: includes point downward only, tools do not include each other, headers compile alone."""

import subprocess

from support import ROOT


def test_layers():
    done = subprocess.run([str(ROOT / "tests/layers")], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
