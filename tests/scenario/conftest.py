"""Fixtures of the scenarios: `directory` (short, private, removed), `tools` (starts and cleans up processes), and a
bound on the time of every test."""

import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import support  # noqa: E402

TEST_LIMIT = 120


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): bound on this test's time (default 120 s, times STREAM_PATIENCE)")


@pytest.fixture
def directory():
    """A temporary directory with a short path: ipc paths hold 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="st", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tools(directory):
    started = support.Tools(directory)
    yield started
    problems = started.finish()
    assert not problems, "\n".join(problems)


def bounded(item, what):
    """Around one phase of a test: TimeoutError inside it when it takes too long."""
    marker = item.get_closest_marker("limit")
    limit = (marker.args[0] if marker else TEST_LIMIT) * support.PATIENCE

    def expired(number, frame):
        raise TimeoutError(f"{what} took more than {limit:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, limit)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    yield from bounded(item, "setting up")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    yield from bounded(item, "the test")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from bounded(item, "cleaning up")
