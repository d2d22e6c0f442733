"""process --state around the end of the stream: whatever is killed there, and whenever, each stage ends, with everything there once."""

import json
import time

import pytest

import support
from support import wait_for
from test_process_state import events_of, feed, has_ended, recorded, recorded_so_far, recorder, same_frames, stage_starter


def block_snapshots(state):
    """No further snapshot succeeds: a directory stands in the place of the next one's file."""
    wait_for((state / "snapshot").exists, "a first snapshot")

    def made():
        try:
            (state / "snapshot.new").mkdir()
        except FileExistsError:
            return False
        return True
    wait_for(made, "a moment between two snapshots")


def unblock_snapshots(state):
    (state / "snapshot.new").rmdir()


def numbers(events):
    return [event["n"] for event in events]


def write_numbers(source, count):
    source.write(support.ndjson([{"ts": 1732300000000 + n, "n": n} for n in range(count)]))


def test_a_receiver_stays_until_its_sender_can_do_without_it(tools, directory):
    """The end is taken, but the snapshot that knows of it could not be written before the kill: all of it is sent once more."""
    source = feed(tools, directory, "a")
    start = stage_starter(tools, directory, "")
    stage = start()
    write_numbers(source, 50)
    block_snapshots(directory / "state")
    source.close()
    time.sleep(1)                                           # the end is in the log, and on disk
    receiver = tools.start("process", "", "--from", f">ipc://{directory}/out")
    receiver.wait_events(50)
    time.sleep(1)                                           # a receiver that does not stay would be gone
    stage.kill()
    unblock_snapshots(directory / "state")
    stage = start()
    assert stage.wait() == 0, stage.err
    assert receiver.wait() == 0 and source.wait() == 0, receiver.err
    assert numbers(receiver.events) == list(range(50))


def test_a_receiver_that_has_it_all_is_not_waited_for_again(tools, directory):
    """Of two, one takes the end and leaves; the other one takes its time, and the stage is killed meanwhile."""
    source = feed(tools, directory, "a")
    start = stage_starter(tools, directory, "", "--to", f"@ipc://{directory}/slow")
    stage = start()
    held, out = directory / "held", directory / "recorded"
    taker = recorder(tools, f"ipc://{directory}/slow", held, "hold")
    receiver = tools.start("process", "", "--from", f">ipc://{directory}/out")
    write_numbers(source, 50)
    source.close()
    assert receiver.wait() == 0, receiver.err
    wait_for(lambda: has_ended(held), "the end at the slow one, too")
    stage.kill()
    taker.kill()
    stage = start()
    recorder(tools, f"ipc://{directory}/slow", out)
    assert stage.wait() == 0, stage.err
    assert source.wait() == 0
    assert numbers(receiver.events) == numbers(events_of(recorded(out))) == list(range(50))


def log_size(state):
    return sum(path.stat().st_size for path in (state / "spool").glob("*.seg"))


@pytest.mark.parametrize("sync", ["interval", "always", "none"])
def test_killed_amid_the_output_of_one_step(tools, directory, sync):
    """The end lets windows of very many keys go, which is more than is written to the log at a time: what is there of it is repeated, the rest is made."""
    source = feed(tools, directory, "a")
    held, out = directory / "held", directory / "recorded"
    start = stage_starter(tools, directory, "window tumbling 1h by n: count() as c, first(text) as text", "--sync", sync)
    stage = start()
    count = 100000
    source.write(support.ndjson([{"ts": 1732300000000, "n": n, "text": f"{n}" * 12} for n in range(count)]))
    source.close()
    grown = lambda: log_size(directory / "state") > 2 << 20
    wait_for(grown, lambda: f"some of the output; the stage says:\n{stage.err}", 60)
    stage.kill()
    size = log_size(directory / "state")
    stage = start()
    recorder(tools, f"ipc://{directory}/out", out)
    assert stage.wait(60) == 0, stage.err
    assert source.wait() == 0
    frames = recorded(out)
    assert [frame["number"] for frame in frames] == list(range(1, len(frames) + 1)) and frames[-1]["end"]
    found = events_of(frames)
    assert sorted(numbers(found)) == list(range(count))
    print(size, sum(len(frame["body"]) for frame in frames))


@pytest.mark.parametrize("sync", ["interval", "always", "none"])
@pytest.mark.parametrize("count", [50, 60000])
def test_a_stage_behind_it_hears_that_the_last_of_it_is_final(tools, directory, sync, count):
    source = feed(tools, directory, "a")
    stage = stage_starter(tools, directory, "window tumbling 1h by n: count() as c, first(text) as text", "--sync", sync)()
    behind = tools.start("process", "keep n", "--state", directory / "behind", "--from", f">ipc://{directory}/out")
    source.write(support.ndjson([{"ts": 1732300000000, "n": n, "text": f"{n}" * 12} for n in range(count)]))
    source.close()
    assert behind.wait(60) == 0, behind.err
    assert stage.wait() == 0 and source.wait() == 0, stage.err
    assert sorted(numbers(behind.events)) == list(range(count))


def test_a_sender_that_another_one_replaced_is_not_waited_for_after_a_restart(tools, directory):
    """The first went without an end, the second took its place and has ended; then the stage is killed, while another input goes on."""
    first, other = feed(tools, directory, "a"), feed(tools, directory, "b")
    start = stage_starter(tools, directory, "", inputs=("a", "b"))
    stage = start()
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    write_numbers(first, 10)
    wait_for(lambda: len(events_of(recorded_so_far(out))) == 10, "the first one's")
    first.kill()
    second = feed(tools, directory, "a")
    second.write('{"ts":1732300000010,"n":10}\n')
    second.close()
    assert second.wait() == 0, second.err                   # a snapshot covers its end
    stage.kill()
    stage = start()
    other.write('{"ts":1732300000011,"n":11}\n')
    other.close()
    assert stage.wait() == 0, stage.err
    assert other.wait() == 0 and receiver.wait() == 0
    assert numbers(events_of(recorded(out))) == list(range(12))


def test_a_snapshot_that_failed_is_made_up_for_when_nothing_more_comes(tools, directory):
    """A sender in memory has filled its window and waits for just that."""
    source = tools.start("ingest", "-", "--name", "a", "--window", "64KiB", "--batch-size", "100", "--to", f"@ipc://{directory}/a", pipe=True)
    stage = stage_starter(tools, directory, "", "--idle", "0")()
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    block_snapshots(directory / "state")
    write_numbers(source, 20000)
    source.close()
    stage.wait_err("snapshot.new")
    time.sleep(1.5)                                         # so that it was tried more than once
    unblock_snapshots(directory / "state")
    assert stage.wait() == 0, stage.err
    assert source.wait() == 0 and receiver.wait() == 0
    assert numbers(events_of(recorded(out))) == list(range(20000))


def test_a_table_that_changes_behind_the_end_does_not_keep_it_from_its_end(tools, directory):
    table = directory / "names.csv"
    table.write_text("n,name\n1,one\n")
    source = feed(tools, directory, "a")
    start = stage_starter(tools, directory, 'lookup "names.csv" on n')
    stage = start()
    write_numbers(source, 3)
    source.close()
    assert source.wait() == 0, source.err                   # nobody takes the output yet
    for _ in range(2):
        (directory / "new").write_text(table.read_text() + f"{time.monotonic()},two\n")
        (directory / "new").rename(table)
        time.sleep(2.5)
    stage.kill()
    stage = start()
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    assert stage.wait() == 0, stage.err
    assert receiver.wait() == 0
    assert numbers(events_of(recorded(out))) == [0, 1, 2]


@pytest.mark.parametrize("binds", ["sender", "receiver"])
def test_what_a_source_sent_before_it_was_reset_is_final(tools, directory, binds):
    """Its frames were not on disk yet, and nobody will say of them any more that they are: the stage behind it makes snapshots, and ends, all the same."""
    source, link, out = directory / "in.ndjson", f"ipc://{directory}/a", directory / "recorded"
    write = lambda first: source.write_bytes(support.ndjson([{"ts": 1732300000000 + n, "n": n} for n in range(first, first + 50)]))
    to, taken = (f"@{link}", f">{link}") if binds == "sender" else (f">{link}", f"@{link}")
    recorder(tools, f"ipc://{directory}/out", out, "stay")
    stage = stage_starter(tools, directory, "where true", links=(taken,))()
    ingest = ("ingest", source, "--name", "a", "--state", directory / "source", "--time", "ts", "--to", to)
    write(0)
    first = tools.start(*ingest, "--follow", "--sync-interval", "1m")
    wait_for(lambda: numbers(events_of(recorded_so_far(out), "out")) == list(range(50)), lambda: f"its events; {stage.err} {first.err}")
    first.kill()
    write(50)
    again = tools.start(*ingest, "--reset")
    assert stage.wait(60) == 0, stage.err
    assert again.wait() == 0, again.err
    assert numbers(events_of(recorded(out), "out")) == list(range(100))
