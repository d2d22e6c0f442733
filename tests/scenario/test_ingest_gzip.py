"""ingest and files that gzip has compressed: read once with exact places, and as rotated files of a log that is followed."""

import gzip
import os
import subprocess
import time

import pytest

import support
from test_ingest_files import append, follow_over_kills, lines, Numbered, seen, start_ready
from test_ingest_state import Runs, first_difference


def pack(path, data, members=1):
    size = max(1, -(-len(data) // members))
    path.write_bytes(b"".join(gzip.compress(data[at:at + size].encode()) for at in range(0, len(data), size)))


# Read once

def test_compressed_files_are_read_as_what_they_hold(tools, directory):
    pack(directory / "a.ndjson.gz", lines(range(5000)), members=7)
    pack(directory / "b.csv.gz", "n,k\n" + "".join(f"{n},x\n" for n in range(5000, 6000)))
    append(directory / "c.ndjson", 6000)
    tool = tools.run("ingest", "[abc].*")
    assert tool.status == 0 and seen(tool) == list(range(6001)), tool.err
    (directory / "plain.ndjson.gz").write_text(lines([1]))      # its name only
    assert seen(tools.run("ingest", "plain.ndjson.gz")) == [1]


@pytest.mark.parametrize("cut", [20, 3000])
def test_a_compressed_file_that_is_cut_off_is_told_and_what_came_before_is_used(tools, directory, cut):
    pack(directory / "a.ndjson.gz", lines(range(20000)))
    whole = (directory / "a.ndjson.gz").read_bytes()
    (directory / "a.ndjson.gz").write_bytes(whole[:cut])
    append(directory / "b.ndjson", 77)
    tool = tools.run("ingest", "[ab].*", "--dead-letter", "dead")
    assert tool.status == 0, tool.err
    numbers = [event["n"] for event in tool.events if "n" in event]
    assert numbers[-1] == 77 and numbers[:-1] == list(range(len(numbers) - 1))
    assert len(numbers) > 1 or cut < 100
    letters = support.lines_of(directory / "dead")
    assert any("cut off" in letter["reason"] and letter["place"].endswith("a.ndjson.gz") for letter in letters)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0x55
    (directory / "a.ndjson.gz").write_bytes(damaged)
    tool = tools.run("ingest", "a.ndjson.gz")
    assert tool.status == 0 and "damaged" in tool.err


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_a_compressed_file_is_exact_over_kills(tools, directory, kind):
    count = 60000
    text = lines(range(count)) if kind == "ndjson" else "k,n\n" + "".join(f"x,{n}\n" for n in range(count))
    pack(directory / f"a.{kind}.gz", text, members=3)
    runs = Runs(tools, directory, f"a.{kind}.gz", "--batch-size", "20")
    for _ in range(12):
        if runs.kill_after(0.02, 0.09):
            break
    runs.finish()
    assert runs.numbers() == [*range(count), "end"], first_difference(runs.numbers(), list(range(count)))


# Rotated

def compress(path):
    subprocess.run(["gzip", path], check=True)


def test_a_rotated_file_that_is_compressed_is_not_read_again_and_not_lost(tools, directory):
    log = directory / "app.ndjson"
    append(log, 0, 1)
    runs = Runs(tools, directory, "app.ndjson", "--follow", "--rotate-wait", "50ms")
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) == 2)
    os.rename(log, directory / "app.ndjson.1")          # while it looks on
    append(log, 2)
    support.wait_for(lambda: len(runs.numbers()) == 3)
    compress(directory / "app.ndjson.1")
    append(log, 3)
    support.wait_for(lambda: len(runs.numbers()) == 4)
    tool.kill()
    append(log, 4, 5)                                   # and while it is away: the one that it was in, and another one
    os.rename(directory / "app.ndjson.1.gz", directory / "app.ndjson.3.gz")
    os.rename(log, directory / "app.ndjson.2")
    compress(directory / "app.ndjson.2")
    append(log, 6, 7)
    os.rename(log, directory / "app.ndjson.1")
    compress(directory / "app.ndjson.1")
    append(log, 8)
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) >= 9, lambda: f"{runs.numbers()}; {tool.err}")
    os.rename(log, directory / "app.ndjson-20261127")   # and a date
    compress(directory / "app.ndjson-20261127")
    append(log, 9)
    support.wait_for(lambda: len(runs.numbers()) >= 10, lambda: f"{runs.numbers()}; {tool.err}")
    assert tool.terminate() == 0
    assert runs.numbers() == list(range(10))


def test_compressed_files_of_a_pattern_that_is_followed_are_rotated_ones(tools, directory):
    (directory / "in").mkdir()
    append(directory / "in/a.ndjson", 0)
    pack(directory / "in/a.ndjson.9.gz", lines([99]))
    os.utime(directory / "in/a.ndjson.9.gz", (0, 0))
    tool = start_ready(tools, "in", "--follow", "--rotate-wait", "50ms", "--format", "ndjson")
    tool.wait_events(1)
    os.rename(directory / "in/a.ndjson", directory / "in/a.ndjson.1")
    append(directory / "in/a.ndjson", 1)
    tool.wait_events(2)
    compress(directory / "in/a.ndjson.1")
    append(directory / "in/a.ndjson", 2)
    tool.wait_events(3)
    assert tool.terminate() == 0
    assert seen(tool) == [0, 1, 2]


class Packing(Numbered):
    """Rotates as logrotate does with compress: by renaming, and the first or the second of the rotated ones is compressed then."""

    def rotate(self):
        def number(path):
            return int(path.name[len(self.path.name) + 1:].split(".")[0])
        for path in sorted(self.path.parent.glob(self.path.name + ".*"), key=number, reverse=True):
            os.rename(path, f"{self.path}.{number(path) + 1}{'.gz' if path.name.endswith('.gz') else ''}")
        os.rename(self.path, f"{self.path}.1")
        at = self.rng.choice([f"{self.path}.1", f"{self.path}.2"])
        if os.path.exists(at):
            compress(at)
        self.rotations += 1


@pytest.mark.parametrize("pattern, files, seed", [("app00.ndjson", 1, 1), ("app00.ndjson", 1, 2), ("*.ndjson", 4, 3), ("*.ndjson", 20, 4)])
def test_followed_files_are_exact_over_kills_rotations_and_compression(tools, directory, pattern, files, seed):
    each = 24000 // files
    runs = Runs(tools, directory, pattern, "--follow", "--rotate-wait", "100ms", "--batch-size", "50", seed=seed)
    writers = [Packing(directory / f"app{f:02}.ndjson", f * each, each, [], seed * 100 + f) for f in range(files)]
    assert follow_over_kills(runs, writers, each).terminate() == 0
