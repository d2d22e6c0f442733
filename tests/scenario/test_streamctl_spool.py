"""streamctl spool, on logs that are written here from what streamctl(1) says of the format: bit by bit, without the product's code."""

import json
import struct

import msgpack
import pytest

ID = 0x1122334455667788
MAGIC = b"rtspool\n"


def table():
    made = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        made.append(byte)
    return made


TABLE = table()


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def head(first_index, first_number, synced=0):
    rest = struct.pack("<IQQQQ40s8s", 1, ID, first_index, first_number, synced, b"boot", b"")
    return MAGIC + struct.pack("<I", crc32c(rest)) + rest


def event(seconds, fields):
    time = msgpack.ExtType(0, struct.pack(">II", seconds, 0))
    return msgpack.packb([time, fields])


def frame(topic, *events):
    header = msgpack.packb({"v": 1, "o": "", "e": 0, "q": 0, "l": 0, "n": len(events), "t": 5, "d": True})
    return topic.encode(), header, b"".join(events), len(events)


def record(segment, index, number=0, note=b"", what=(b"", b"", b"", 0), continues=False):
    topic, header, body, events = what
    content = note + topic + header + body
    rest = struct.pack("<IQQIIIBBH", 40 + len(content), index, number, len(note), len(header), events, continues, len(topic), 0) + content
    seed = crc32c(struct.pack("<QQ", ID, segment))
    whole = struct.pack("<I", crc32c(rest, seed)) + rest
    return whole + bytes(-len(whole) % 8)


def name(index):
    return f"{index:016x}.seg"


@pytest.fixture
def log(directory):
    """A state directory with a log of two segments and four events."""
    spool = directory / "state" / "spool"
    spool.mkdir(parents=True)
    (spool / "meta").write_text(f"spool 1\nid {ID}\nname sensors\norigin sensors.1\nepoch 3\npast 2 1\nboot boot\nsync interval\n")
    (spool / name(1)).write_bytes(
        head(1, 1) + record(1, 1, 1, msgpack.packb({"offset": 10}), frame("sensors", event(1, {"a": 1}), event(2, {"a": 2}))) + record(1, 2, note=b"plain"))
    (spool / name(3)).write_bytes(
        head(3, 2, 2) + record(3, 3, 2, b"", frame("other", event(3, {"a": 3})), True) + record(3, 4, 3, b"", frame("sensors", event(4, {"a": 4}))))
    return spool


def rows(run):
    return [json.loads(line) for line in run.out.decode().splitlines()]


def test_cat_shows_events_of_the_state_directory_and_of_the_log(tools, log):
    for where in (log, log.parent):
        run = tools.run("streamctl", "spool", "cat", where)
        assert run.status == 0, run.err
        assert rows(run) == [{"@timestamp": "1970-01-01T00:00:01Z", "a": 1}, {"@timestamp": "1970-01-01T00:00:02Z", "a": 2},
                             {"@timestamp": "1970-01-01T00:00:03Z", "@stream": "other", "a": 3}, {"@timestamp": "1970-01-01T00:00:04Z", "a": 4}]


def test_cat_shows_notes(tools, log):
    run = tools.run("streamctl", "spool", "cat", log, "--notes")
    assert run.status == 0
    assert rows(run) == [{"index": 1, "number": 1, "topic": "sensors", "events": 2, "note": {"offset": 10}}, {"index": 2, "note": "plain"},
                         {"index": 3, "number": 2, "topic": "other", "events": 1, "continues": True},
                         {"index": 4, "number": 3, "topic": "sensors", "events": 1}]


def test_ls_and_fsck_of_a_sound_log(tools, log):
    for verb in ("ls", "fsck"):
        run = tools.run("streamctl", "spool", verb, log)
        assert run.status == 0
        text = run.out.decode()
        assert "log of sensors, origin sensors.1, epoch 3, which continues epoch 2 up to frame 1" in text
        assert name(1) in text and name(3) in text and "DAMAGED" not in text


def test_a_damage_is_found_and_repaired(tools, log):
    path = log / name(1)
    content = bytearray(path.read_bytes())
    content[-4] ^= 1                                    # in the second record's note
    path.write_bytes(content)
    run = tools.run("streamctl", "spool", "fsck", log)
    assert run.status == 1 and b"DAMAGED at byte" in run.out and b"checksum" in run.out
    run = tools.run("streamctl", "spool", "cat", log)
    assert run.status == 1 and name(1) in run.err
    assert [row["a"] for row in rows(run)] == [1, 2, 3, 4]           # what is sound is shown
    run = tools.run("streamctl", "spool", "repair", log)
    assert run.status == 0, run.err
    assert (log / (name(3) + ".damaged")).exists() and not (log / name(3)).exists()
    assert (log / (name(1) + ".damaged")).read_bytes() == bytes(content[-48:])
    assert "epoch 4\npast 3 1\npast 2 1\n" in (log / "meta").read_text()
    assert tools.run("streamctl", "spool", "fsck", log).status == 0
    assert len(rows(tools.run("streamctl", "spool", "cat", log))) == 2


def test_an_unfinished_group_is_no_damage(tools, log):
    path = log / name(3)
    path.write_bytes(path.read_bytes()[:-30])
    run = tools.run("streamctl", "spool", "fsck", log)
    assert run.status == 0 and b"unfinished" in run.out


def test_what_a_segment_repeats_of_the_next_does_not_count(tools, log):
    path = log / name(1)
    path.write_bytes(path.read_bytes() + record(1, 3, 2, b"superseded", frame("sensors", event(9, {"a": 9}))))
    assert tools.run("streamctl", "spool", "fsck", log).status == 0
    assert [row["a"] for row in rows(tools.run("streamctl", "spool", "cat", log))] == [1, 2, 3, 4]


def test_bytes_of_another_segment_are_no_records(tools, log):
    """What a file held before it was used again."""
    path = log / name(3)
    path.write_bytes(path.read_bytes() + record(1, 5, 4, b"", frame("sensors", event(9, {"a": 9}))))
    run = tools.run("streamctl", "spool", "fsck", log)
    assert run.status == 0
    assert len(rows(tools.run("streamctl", "spool", "cat", log))) == 4


@pytest.mark.parametrize("words", [["cat"], ["fsk", "."], ["ls", ".", "--notes"], ["ls", ".", "more"], []])
def test_wrong_command_lines_exit_64(tools, words):
    run = tools.run("streamctl", "spool", *words)
    assert run.status == 64 and run.err


def test_what_is_no_log_is_said(tools, directory):
    run = tools.run("streamctl", "spool", "ls", directory)
    assert run.status == 1 and "not the directory of a durable log" in run.err
