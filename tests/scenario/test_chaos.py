"""Nothing lost, nothing counted twice: a short chaos run (chaos.py does it at length, as `make soak`)."""

import chaos
import pytest

SEED = 20261124


@pytest.mark.limit(420)
def test_nothing_is_lost_and_nothing_doubled(directory):
    verdict, faults, events, _ = chaos.run(directory, SEED, seconds=45, rate=1000)
    print(f"seed {SEED}: {dict(faults)}, {events} events, checked {dict(verdict.checked)}")
    assert verdict.good, "\n".join([f"seed {SEED}, {dict(faults)}: {verdict.lost} lost, {verdict.doubled} doubled", *verdict.problems])
    assert faults.total() >= 20 and events > 5000
    assert set(verdict.checked) == {"clean.ndjson", "windows.ndjson", "base.clean", "base.windows"} and min(verdict.checked.values()) > 100


@pytest.mark.limit(420)
def test_large_events_are_neither(directory):
    """Groups of them go around the page cache, where the file system can do that."""
    verdict, faults, events, _ = chaos.run(directory, SEED, seconds=25, rate=250, size=chaos.LARGE)
    assert verdict.good, "\n".join([f"seed {SEED}, {dict(faults)}: {verdict.lost} lost, {verdict.doubled} doubled", *verdict.problems])
    assert faults.total() >= 10 and min(verdict.checked.values()) > 50
