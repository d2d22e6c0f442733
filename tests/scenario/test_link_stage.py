"""A stage in another language between ours (tools/stage.py): the protocol is what the man page says, not what our code happens to do."""

import signal
import time

import pytest

import support
from link_support import disturb, exact, let_end, lines, lost_nothing, peer

STAGE = support.ROOT / "tests/scenario/tools/stage.py"


@pytest.fixture(params=["ipc", "tcp"])
def ends(request, directory):
    if request.param == "ipc":
        return f"ipc://{directory}/a", f"ipc://{directory}/b"
    return tuple(f"tcp://127.0.0.1:{support.free_port()}" for _ in range(2))


def test_the_stage_passes_everything_on_and_ends(tools, directory, ends):
    stage = tools.start("/usr/bin/python3", STAGE, *ends)
    receiver = peer(tools, "receive", ends[1], directory / "out")
    sender = peer(tools, "send", ends[0], count=20000, batch=10)
    assert [tool.wait() for tool in (sender, stage, receiver)] == [0, 0, 0]
    exact(directory / "out", 20000, "example")


def test_the_stage_bears_stopped_and_killed_neighbours(tools, directory, ends):
    out = directory / "out"
    stage = tools.start("/usr/bin/python3", STAGE, *ends)
    sender = peer(tools, "send", ends[0], count=20000, batch=5, rate=5000, stay=1)
    receiver = peer(tools, "receive", ends[1], out)
    disturb(sender, 1, seed=1)
    for turn in range(3):
        before = lines(out)
        support.wait_for(lambda: lines(out) > min(before + 200, 19999), "events")
        disturb(receiver, 0.3, seed=turn)
        receiver.kill()
        receiver = peer(tools, "receive", ends[1], out)
    let_end(sender)
    assert [tool.wait() for tool in (sender, stage, receiver)] == [0, 0, 0]
    lost_nothing(out, 20000, "example")


def test_the_stage_killed_and_started_again_loses_nothing(tools, directory, ends):
    out = directory / "out"
    sender = peer(tools, "send", ends[0], count=20000, batch=5, rate=8000, stay=1)
    receiver = peer(tools, "receive", ends[1], out)
    stage = tools.start("/usr/bin/python3", STAGE, *ends)
    for turn in range(3):
        before = lines(out)
        support.wait_for(lambda: lines(out) > min(before + 200, 19999), "events")
        stage.signal(signal.SIGSTOP)
        time.sleep(0.05)
        stage.kill()
        stage = tools.start("/usr/bin/python3", STAGE, *ends)
    let_end(sender)
    assert [tool.wait() for tool in (sender, stage, receiver)] == [0, 0, 0]
    lost_nothing(out, 20000, "example")
