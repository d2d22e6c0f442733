"""Standard error that is a full pipe which nobody reads: the stream goes on, and what was lost is told when somebody reads again."""

import os

import pytest
from instance import control, csv_source, seqs, write_csv  # noqa: F401
from support import tool_path, wait_for


@pytest.fixture
def full():
    """Both ends of a pipe that is full, the writing one for a process to inherit."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def start(tools, full, *arguments, **how):
    """A tool whose standard error is that pipe."""
    command = 'exec "$@" 2>&' + str(full[1])
    return tools.start("bash", "-c", command, "bash", *arguments, pass_fds=[full[1]], **how)


def said(full, until):
    """What comes out of the pipe until it holds a text."""
    text = b""
    os.set_blocking(full[0], False)

    def look():
        nonlocal text
        try:
            text += os.read(full[0], 1 << 20)
        except BlockingIOError:
            pass
        return until in text
    wait_for(look, lambda: f"{until} in {text[-2000:]}")
    return text.lstrip(b".").decode()


def test_a_stage_goes_on_and_leaves(tools, directory, full):
    (directory / "in.ndjson").write_text('{"a":1}\n{oops\n{"a":2}\n')
    ingest = start(tools, full, tool_path("ingest"), "in.ndjson", "--log-level", "debug")
    assert ingest.wait() == 0
    assert ingest.events == [{"a": 1}, {"a": 2}]


def test_what_was_lost_is_told_without_another_message(tools, directory, full):
    ingest = start(tools, full, tool_path("ingest"), "-", pipe=True)
    ingest.write('{"a":1}\n{oops\n{"a":2}\n')
    assert ingest.wait_events(2) == [{"a": 1}, {"a": 2}]
    told = said(full, b" lost\n")
    assert "of the log before this one found no room on standard error" in told
    assert os.get_blocking(full[1])
    ingest.close()
    assert ingest.wait() == 0


def test_an_instance_in_the_foreground_goes_on(tools, control, directory, full):
    write_csv(directory / "in.csv", 0, 20000)
    config = control.config(sources=[csv_source("numbers", "in.csv")], sinks=[{"type": "file", "path": "out.ndjson"}])
    run = start(tools, full, tool_path("streamctl"), "run", config, env=control.env, group=True)
    assert run.wait() == 0
    assert seqs(directory / "out.ndjson") == list(range(20000))
