"""ingest and files that gzip or zstd have compressed: read once with exact places, and as rotated files of a log that is followed."""

import gzip
import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest

import support
from test_ingest_files import append, follow_over_kills, lines, Numbered, seen, start_ready
from test_ingest_state import Runs, first_difference


PACKERS = {"gz": ("gzip", "-c"), "zst": ("zstd", "-qc")}
ENDINGS = list(PACKERS)


def packed(ending, data, *options):
    return subprocess.run([*PACKERS[ending], *options], input=data if isinstance(data, bytes) else data.encode(), stdout=subprocess.PIPE, check=True).stdout


def pack(path, data, members=1):
    size = max(1, -(-len(data) // members))
    path.write_bytes(b"".join(packed(path.suffix[1:], data[at:at + size]) for at in range(0, len(data), size)))


# Read once

@pytest.mark.parametrize("ending", ENDINGS)
def test_compressed_files_are_read_as_what_they_hold(tools, directory, ending):
    pack(directory / f"a.ndjson.{ending}", lines(range(5000)), members=7)
    pack(directory / f"b.csv.{ending}", "n,k\n" + "".join(f"{n},x\n" for n in range(5000, 6000)))
    append(directory / "c.ndjson", 6000)
    tool = tools.run("ingest", "[abc].*")
    assert tool.status == 0 and seen(tool) == list(range(6001)), tool.err
    (directory / f"plain.ndjson.{ending}").write_text(lines([1]))      # its name only
    assert seen(tools.run("ingest", f"plain.ndjson.{ending}")) == [1]
    with open(directory / f"a.ndjson.{ending}", "ab") as file:         # as tapes end
        file.write(bytes(1000))
    tool = tools.run("ingest", f"a.ndjson.{ending}")
    assert tool.status == 0 and seen(tool) == list(range(5000)) and not tool.err


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cut", [20, 0.6, -1])
def test_a_compressed_file_that_is_cut_off_is_told_and_what_came_before_is_used(tools, directory, ending, cut):
    name, text = f"a.ndjson.{ending}", lines(range(200000))
    pack(directory / name, text)
    whole = (directory / name).read_bytes()
    (directory / name).write_bytes(whole[:cut if isinstance(cut, int) else int(len(whole) * cut)])
    append(directory / "b.ndjson", 77)
    tool = tools.run("ingest", "[ab].*", "--dead-letter", "dead")
    assert tool.status == 0, tool.err
    numbers = [event["n"] for event in tool.events if "n" in event]
    assert numbers[-1] == 77 and numbers[:-1] == list(range(len(numbers) - 1))
    assert len(numbers) > 1 or cut == 20
    letters = support.lines_of(directory / "dead")
    assert any("cut off" in letter["reason"] and letter["place"].endswith(name) for letter in letters)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0x55
    (directory / name).write_bytes(damaged)
    tool = tools.run("ingest", name)
    assert tool.status == 0 and "damaged" in tool.err


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_a_compressed_file_is_exact_over_kills(tools, directory, ending, kind):
    count = 60000
    text = lines(range(count)) if kind == "ndjson" else "k,n\n" + "".join(f"x,{n}\n" for n in range(count))
    pack(directory / f"a.{kind}.{ending}", text, members=3)
    runs = Runs(tools, directory, f"a.{kind}.{ending}", "--batch-size", "20")
    for _ in range(12):
        if runs.kill_after(0.02, 0.09):
            break
    runs.finish()
    assert runs.numbers() == [*range(count), "end"], first_difference(runs.numbers(), list(range(count)))


def test_zstd_frames_of_all_kinds(tools, directory):
    """With and without checksum and size, with a frame to be skipped before them, as pzstd has it, and of nothing."""
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"abcd"
    parts = [packed("zst", lines([0]), "--no-check"), skipped, packed("zst", b""), packed("zst", lines([1, 2]), "-19", "--long=27", "--single-thread"),
             packed("zst", lines(range(3, 90000)), "--fast", "--no-check")]
    (directory / "a.ndjson.zst").write_bytes(skipped + b"".join(parts))
    tool = tools.run("ingest", "a.ndjson.zst")
    assert tool.status == 0 and not tool.err and seen(tool) == list(range(90000)), tool.err


def test_the_window_of_a_zstd_file_is_bounded(tools, directory):
    """What a frame's head asks for is memory: 2 GiB of it are refused, with the remedy; 128 MiB are not."""
    for exponent, expected in ((31, "--long=31"), (27, None)):
        head = b"\x28\xb5\x2f\xfd" + bytes([0x00, (exponent - 10) << 3])     # a window, no size, no checksum
        text = lines(range(3)).encode()
        block = struct.pack("<I", len(text) << 3 | 1)[:3] + text                # the last one, raw
        (directory / "a.ndjson.zst").write_bytes(head + block)
        tool = tools.run("ingest", "a.ndjson.zst", "--dead-letter", "dead")
        assert tool.status == 0
        if expected:
            assert expected in tool.err and "128 MiB" in support.lines_of(directory / "dead")[0]["reason"] and not tool.events
        else:
            assert seen(tool) == [0, 1, 2] and not tool.err


# Rotated

def compress(path, ending="gz"):
    subprocess.run({"gz": ("gzip", path), "zst": ("zstd", "-q", "--rm", path)}[ending], check=True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_rotated_file_that_is_compressed_is_not_read_again_and_not_lost(tools, directory, ending):
    log = directory / "app.ndjson"
    append(log, 0, 1)
    runs = Runs(tools, directory, "app.ndjson", "--follow", "--rotate-wait", "50ms")
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) == 2)
    os.rename(log, directory / "app.ndjson.1")          # while it looks on
    append(log, 2)
    support.wait_for(lambda: len(runs.numbers()) == 3)
    compress(directory / "app.ndjson.1", ending)
    append(log, 3)
    support.wait_for(lambda: len(runs.numbers()) == 4)
    tool.kill()
    append(log, 4, 5)                                   # and while it is away: the one that it was in, and another one
    os.rename(directory / f"app.ndjson.1.{ending}", directory / f"app.ndjson.3.{ending}")
    os.rename(log, directory / "app.ndjson.2")
    compress(directory / "app.ndjson.2", ending)
    append(log, 6, 7)
    os.rename(log, directory / "app.ndjson.1")
    compress(directory / "app.ndjson.1", ending)
    append(log, 8)
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) >= 9, lambda: f"{runs.numbers()}; {tool.err}")
    os.rename(log, directory / "app.ndjson-20261127")   # and a date
    compress(directory / "app.ndjson-20261127", ending)
    append(log, 9)
    support.wait_for(lambda: len(runs.numbers()) >= 10, lambda: f"{runs.numbers()}; {tool.err}")
    assert tool.terminate() == 0
    assert runs.numbers() == list(range(10))


@pytest.mark.parametrize("ending", ENDINGS)
def test_compressed_files_of_a_pattern_that_is_followed_are_rotated_ones(tools, directory, ending):
    (directory / "in").mkdir()
    append(directory / "in/a.ndjson", 0)
    pack(directory / f"in/a.ndjson.9.{ending}", lines([99]))
    os.utime(directory / f"in/a.ndjson.9.{ending}", (0, 0))
    tool = start_ready(tools, "in", "--follow", "--rotate-wait", "50ms", "--format", "ndjson")
    tool.wait_events(1)
    os.rename(directory / "in/a.ndjson", directory / "in/a.ndjson.1")
    append(directory / "in/a.ndjson", 1)
    tool.wait_events(2)
    compress(directory / "in/a.ndjson.1", ending)
    append(directory / "in/a.ndjson", 2)
    tool.wait_events(3)
    assert tool.terminate() == 0
    assert seen(tool) == [0, 1, 2]


class Packing(Numbered):
    """Rotates as logrotate does with compress: by renaming, and the first or the second of the rotated ones is compressed then."""

    ending = "gz"

    def rotate(self):
        def number(path):
            return int(path.name[len(self.path.name) + 1:].split(".")[0])
        for path in sorted(self.path.parent.glob(self.path.name + ".*"), key=number, reverse=True):
            os.rename(path, f"{self.path}.{number(path) + 1}{'' if path.suffix[1:].isdigit() else path.suffix}")
        os.rename(self.path, f"{self.path}.1")
        at = self.rng.choice([f"{self.path}.1", f"{self.path}.2"])
        if os.path.exists(at):
            compress(at, self.ending)
        self.rotations += 1


class PackingByZstd(Packing):
    ending = "zst"


@pytest.mark.parametrize("pattern, files, seed, rotating", [
    ("app00.ndjson", 1, 1, Packing), ("app00.ndjson", 1, 2, PackingByZstd), ("*.ndjson", 4, 3, PackingByZstd), ("*.ndjson", 20, 4, Packing)])
def test_followed_files_are_exact_over_kills_rotations_and_compression(tools, directory, pattern, files, seed, rotating):
    each = 24000 // files
    runs = Runs(tools, directory, pattern, "--follow", "--rotate-wait", "100ms", "--batch-size", "50", seed=seed)
    writers = [rotating(directory / f"app{f:02}.ndjson", f * each, each, [], seed * 100 + f) for f in range(files)]
    assert follow_over_kills(runs, writers, each).terminate() == 0


# Large ones: what they hold takes long to go through, and ingest answers meanwhile

WIDE = 100_000                                              # bytes that a line of these takes


def wide_lines(numbers):
    """Lines with much white space in them, as gzip members of ten each."""
    numbers = list(numbers)
    for at in range(0, len(numbers), 10):
        yield gzip.compress("".join('{"n":%d%s}\n' % (n, " " * (WIDE - 10)) for n in numbers[at:at + 10]).encode(), 1)


def expanded(tool, directory):
    """A file without a name that the tool is writing to by now, opened: it stays when the tool has gone."""
    def find():
        for fd in Path(f"/proc/{tool.pid}/fd").iterdir():
            try:
                if os.readlink(fd).startswith(f"{directory}/#") and os.stat(fd).st_size > 0:
                    return open(fd, "rb")                   # pylint: disable=consider-using-with
            except OSError:
                continue                                    # closed just now
        return None
    return support.wait_for(find, lambda: f"a file that is expanded; {tool.err}")


def test_a_large_rotated_file_is_expanded_while_signals_are_heard(tools, directory, monkeypatch):
    """Terminated and killed while it is expanded, it is begun again; in the end all is there once."""
    count, log, space = 4000, directory / "app.ndjson", directory / "tmp"
    space.mkdir()
    monkeypatch.setenv("TMPDIR", str(space))
    append(log, 0, 1)
    runs = Runs(tools, directory, "app.ndjson", "--follow", "--rotate-wait", "50ms")
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) == 2)
    assert tool.terminate() == 0
    with open(directory / "app.ndjson.1.gz", "wb") as file:
        file.write(gzip.compress(log.read_bytes()))
        for member in wide_lines(range(2, count)):
            file.write(member)
    os.unlink(log)
    append(log, count)
    for end in (signal.SIGTERM, signal.SIGKILL):
        tool = runs.start_ready()
        with expanded(tool, space) as file:
            tool.signal(end)
            assert tool.wait() == (0 if end == signal.SIGTERM else -end), tool.err
            assert os.fstat(file.fileno()).st_size < (count - 2) * WIDE
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) > count, lambda: f"{len(runs.numbers())}; {tool.err}", 90)
    assert tool.terminate() == 0
    assert runs.numbers() == list(range(count + 1)), first_difference(runs.numbers(), list(range(count + 1)))


def test_a_copy_that_is_compressed_is_read_on_though_the_file_has_grown_beyond_the_place_meanwhile(tools, directory, monkeypatch):
    """While its compressed copy is expanded a truncated file is written to again, beyond the place and with the same beginning."""
    count, log, space = 2000, directory / "app.ndjson", directory / "tmp"
    space.mkdir()
    monkeypatch.setenv("TMPDIR", str(space))
    log.write_text('{"n":99999,"head":"%s"}\n' % ("x" * 300) + lines([0]))
    runs = Runs(tools, directory, "app.ndjson", "--follow", "--rotate-wait", "50ms")
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) == 2)
    tool.signal(signal.SIGSTOP)
    first = log.read_bytes()
    with open(directory / "app.ndjson.1.gz", "wb") as file:
        file.write(gzip.compress(first))
        for member in wide_lines(range(1, count)):
            file.write(member)
    os.truncate(log, 0)
    tool.signal(signal.SIGCONT)
    with expanded(tool, space):
        with open(log, "ab") as file:
            file.write(first.splitlines(keepends=True)[0])
        append(log, *range(count, count + 100))
    support.wait_for(lambda: len(runs.numbers()) >= count + 102, lambda: f"{len(runs.numbers())}; {tool.err}", 90)
    assert tool.terminate() == 0
    numbers = [n for n in runs.numbers() if n != 99999]
    assert numbers == list(range(count + 100)), first_difference(numbers, list(range(count + 100)))


def test_places_far_in_large_files_are_found_again_while_signals_are_heard(tools, directory):
    """Two that are read once: killed behind the middle of the second, then over and over while the place is looked for."""
    half = 2000
    for i, name in enumerate(("a", "b")):
        with open(directory / f"{name}.ndjson.gz", "wb") as file:
            for member in wide_lines(range(i * half, (i + 1) * half)):
                file.write(member)
    runs = Runs(tools, directory, "[ab].ndjson.gz", "--batch-size", "20")
    tool = runs.start()
    support.wait_for(lambda: len(runs.numbers()) > half * 3 // 2, lambda: f"{len(runs.numbers())}; {tool.err}", 90)
    tool.kill()
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        tool = runs.start_ready()
        tool.signal(end)
        assert tool.wait() == (0 if end == signal.SIGTERM else -end), tool.err
    runs.finish()
    assert runs.numbers() == [*range(2 * half), "end"], first_difference(runs.numbers(), list(range(2 * half)))
