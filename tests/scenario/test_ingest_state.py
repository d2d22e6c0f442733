"""ingest --state: killed at any moment, it goes on where the log ends. A receiver that lives (link_peer) notes every event; each has to be
there once, in order."""

import contextlib
import datetime
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

import link_support
import support


class Runs:
    """ingest, killed and started again over one link, whose receiver lives."""

    def __init__(self, tools, directory, *arguments, seed=1):
        self.tools, self.arguments, self.rng = tools, arguments, random.Random(seed)
        self.link, self.out = f"ipc://{directory}/l", directory / "out"
        self.receiver = link_support.peer(tools, "receive", self.link, self.out)
        self.kills = 0

    def start(self, *more):
        return self.tools.start("ingest", *self.arguments, *more, "--to", f"@{self.link}", "--state", "state", "--log-level", "error")

    def start_ready(self):
        ready, ours = os.pipe()
        tool = self.tools.start("ingest", *self.arguments, "--to", f"@{self.link}", "--state", "state", "--ready-fd", str(ours), pass_fds=(ours,))
        os.close(ours)
        assert os.read(ready, 10) == b"\n", tool.err
        os.close(ready)
        return tool

    def kill_after(self, shortest, longest, *more):
        """True: it had ended by itself before."""
        tool = self.start(*more)
        time.sleep(self.rng.uniform(shortest, longest))
        ended = not tool.running
        assert not ended or tool.wait() == 0, tool.err
        if not ended:
            tool.kill()
            self.kills += 1
        return ended

    def log_size(self):
        return sum(p.stat().st_size for p in (self.out.parent / "state" / "spool").glob("*.seg"))

    def kill_when_full(self):
        """The log takes no more, as nobody takes what is in it: so it is killed in the middle of its input."""
        self.receiver.signal(signal.SIGSTOP)
        tool = self.start("--spool-limit", "1MiB")
        support.wait_for(lambda: self.log_size() > 800_000, lambda: f"a full log; {tool.err}")
        tool.kill()
        self.receiver.signal(signal.SIGCONT)

    def finish(self, *more):
        """A last run comes to its end by itself, and so does the receiver. When that has left with the end already, nobody is there to tell
        a sender so that was killed just then."""
        if self.receiver.process.poll() == 0:
            return
        tool = self.start(*more)
        assert tool.wait(60) == 0, tool.err
        assert self.receiver.wait(45) == 0, self.receiver.err     # 30 s when the last one was killed just before its goodbye

    def numbers(self, stream=None):
        return [n for _, s, n, _ in link_support.read(self.out) if stream is None or s == stream]


def first_difference(found, expected):
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    return f"{len(found)} of {len(expected)}; at {at}: {found[at:at + 5]} instead of {expected[at:at + 5]}"


def check(found, expected):
    assert found == expected, first_difference(found, expected)


COUNT = 100000


def numbered(kind, count):
    """(name of the file, its text, numbers of the events, how many records are bad)."""
    bad = [i for i in range(count) if i % 5000 == 4321]
    good = [i for i in range(count) if i % 5000 != 4321]
    if kind == "ndjson":
        text = "".join('{"n":%d,"k":"device%d"}\n' % (i, i % 7) if i % 5000 != 4321 else "bad line %d\n" % i for i in range(count))
    elif kind == "csv":
        text = 'k,"n",other\n' + "".join('device%d,%d,"x, ""y"""\n' % (i % 7, i) if i % 5000 != 4321 else "bad\n" for i in range(count))
    elif kind == "xml":
        text = "<all>" + "\n".join(f'<r n="{i}"><k>device{i % 7}</k></r>' if i % 5000 != 4321 else "<r><k></r>" for i in range(count)) + "</all>"
    else:
        text = "[" + ",\n ".join('{"n":%d,"k":"]}"}' % i if i % 5000 != 4321 else '"bad"' for i in range(count)) + "]"
    return f"data.{kind}", text, good, len(bad)


@pytest.mark.parametrize("kind", ["ndjson", "csv", "json", "xml"])
def test_file_is_read_exactly_once_over_kills(tools, directory, kind):
    name, text, good, bad = numbered(kind, 5 * COUNT)
    (directory / name).write_text(text)
    runs = Runs(tools, directory, name, "--dead-letter", "dead", "--batch-size", "20")
    for _ in range(15):
        if runs.kill_after(0.01, 0.08):
            break
    runs.finish()
    assert runs.kills >= 3
    check(runs.numbers(), good + ["end"])
    places = [letter["place"] for letter in support.lines_of(directory / "dead")]
    assert len(places) == len(set(places)) == bad


def test_end_is_final_until_the_state_is_reset(tools, directory):
    (directory / "data.ndjson").write_text('{"n":0,"k":"x"}\n')
    runs = Runs(tools, directory, "data.ndjson")
    runs.finish()
    (directory / "data.ndjson").write_text('{"n":1,"k":"x"}\n')
    again = tools.run("ingest", "data.ndjson", "--to", f"@{runs.link}", "--state", "state")
    assert again.status == 0 and "had ended before" in again.err
    runs.receiver = link_support.peer(tools, "receive", runs.link, runs.out)
    runs.finish("--reset")
    check(runs.numbers(), [0, "end", 1, "end"])


def test_state_of_a_source_that_has_ended_is_for_that_source_alone(tools, directory):
    """It is refused for another one, and not taken for a reason to deliver nothing."""
    for name in ("one", "two"):
        (directory / f"{name}.ndjson").write_text('{"n":1,"k":"a"}\n')
    link = f"ipc://{directory}/l"
    receiver = link_support.peer(tools, "receive", link, directory / "out")
    assert tools.start("ingest", "one.ndjson", "--to", f"@{link}", "--state", "state").wait() == 0 and receiver.wait() == 0
    for other in (["two.ndjson"], ["generator:sensors", "--count", "5"]):
        done = tools.run("ingest", *other, "--to", f"@{link}", "--state", "state")
        assert done.status == 1 and "is not for this source" in done.err and "--reset" in done.err
    assert tools.run("ingest", "one.ndjson", "--to", f"@{link}", "--state", "state").status == 0
    (directory / "one.ndjson").unlink()                        # it has been read
    assert tools.run("ingest", "one.ndjson", "--to", f"@{link}", "--state", "state").status == 0


def test_events_for_several_streams_are_exact_over_kills(tools, directory):
    (directory / "data.ndjson").write_text("".join(
        ('{"n":%d,"k":"a","@stream":"s%d"}\n' % (i, i % 5) if i % 2 else '{"n":%d,"k":"a"}\n' % i) for i in range(200000)))
    runs = Runs(tools, directory, "data.ndjson", "--batch-size", "30")
    for _ in range(12):
        if runs.kill_after(0.01, 0.06):
            break
    runs.finish()
    assert runs.kills >= 3
    check(runs.numbers("data"), list(range(0, 200000, 2)) + ["end"])
    for s in range(5):
        check(runs.numbers(f"s{s}"), [i for i in range(1, 200000, 2) if i % 5 == s])


def test_only_bad_records_are_not_read_twice(tools, directory):
    (directory / "data.ndjson").write_text("".join("bad %d\n" % i for i in range(50000)))
    runs = Runs(tools, directory, "data.ndjson", "--dead-letter", "dead")
    for _ in range(6):
        if runs.kill_after(0.02, 0.1):
            break
    runs.finish()
    assert [letter["text"] for letter in support.lines_of(directory / "dead")] == ["bad %d" % i for i in range(50000)]


def test_what_is_in_the_log_is_delivered_by_one_that_is_started_on_a_full_disk(tools, directory):
    """Also after a new start of the machine, when its first act is to note a new epoch."""
    small = directory / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("needs a small file system, which only root can make")
    try:
        (directory / "data.ndjson").write_text("".join('{"n":%d,"k":"a"}\n' % i for i in range(5000)))
        arguments = ("data.ndjson", "--follow", "--state", "small/state", "--to", f"@ipc://{directory}/l", "--batch-size", "100", "--sync", "always")
        ingest = tools.start("ingest", *arguments)
        support.wait_for(lambda: "number 50\n" in (small / "state/spool/synced").read_text() if (small / "state/spool/synced").exists() else False,
                         "all to be in the log")
        ingest.kill()
        receiver = link_support.peer(tools, "receive", f"ipc://{directory}/l", directory / "out")
        taken = lambda: [n for _, _, n, _ in link_support.read(directory / "out")]
        for n in range(3):
            with contextlib.suppress(OSError), open(small / "fill", "ab", buffering=0) as fill:
                while True:
                    fill.write(bytes(4096))
            ingest = tools.start("ingest", *arguments, env={"STREAM_BOOT_ID": f"start{n}"})
            support.wait_for(lambda: len(taken()) == 5000, lambda: f"all events; {ingest.err}")
            support.wait_for(lambda: f"boot start{n}" in (small / "state/spool/meta").read_text(), "the new epoch")
            ingest.kill()
        (small / "fill").unlink()
        with open(directory / "data.ndjson", "a") as file:
            file.write('{"n":5000,"k":"a"}\n')
        ingest = tools.start("ingest", *arguments)
        support.wait_for(lambda: len(taken()) == 5001, lambda: f"one more; {ingest.err}")
        assert taken() == list(range(5001))
        ingest.kill()
        receiver.kill()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


class Writer(threading.Thread):
    """Writes numbered lines to a file, and rotates it as it likes: by renaming, or by copying and truncating. Nothing is deleted."""

    def __init__(self, path, count, ways, seed):
        super().__init__()
        self.path, self.count, self.ways, self.rng = path, count, ways, random.Random(seed)
        self.rotations = 0

    def shift(self):
        kept = [int(p.name.rsplit(".", 1)[1]) for p in self.path.parent.glob(self.path.name + ".*")]
        for number in sorted(kept, reverse=True):
            os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")

    def rotate(self):
        self.shift()
        if self.rng.choice(self.ways) == "rename":
            os.rename(self.path, f"{self.path}.1")
        else:
            shutil.copy(self.path, f"{self.path}.1")
            os.truncate(self.path, 0)
        self.rotations += 1

    def run(self):
        written = 0
        while written < self.count:
            for _ in range(self.rng.randrange(1, 30)):
                many = min(self.rng.randrange(1, 400), self.count - written)
                with open(self.path, "ab", buffering=0) as file:
                    file.write(b"".join(b'{"n":%d,"k":"line"}\n' % i for i in range(written, written + many)))
                written += many
                time.sleep(self.rng.uniform(0, 0.01))
            if written < self.count:
                self.rotate()


@pytest.mark.parametrize("ways, seed", [(["rename"], 1), (["copy"], 2), (["rename", "copy"], 3), (["rename", "copy"], 4)])
def test_followed_file_is_exact_over_kills_and_rotations(tools, directory, ways, seed):
    runs = Runs(tools, directory, "app.ndjson", "--follow", "--rotate-wait", "100ms", "--batch-size", "50", seed=seed)
    writer = Writer(directory / "app.ndjson", COUNT, ways, seed)
    runs.start_ready().kill()           # what was rotated before the first start is not read
    writer.start()
    while writer.is_alive() or runs.kills < 4:
        runs.kill_after(0.02, 0.3)
        time.sleep(runs.rng.uniform(0, 0.3))
    writer.join()
    tool = runs.start()
    try:
        support.wait_for(lambda: len(runs.numbers()) >= COUNT, seconds=30)
    except AssertionError:
        pass
    check(runs.numbers(), list(range(COUNT)))
    assert writer.rotations >= 5
    assert tool.terminate() == 0


def test_file_deleted_and_made_again(tools, directory):
    runs = Runs(tools, directory, "app.ndjson", "--follow")
    path, written = directory / "app.ndjson", 0
    for round_ in range(6):
        tool = runs.start()
        path.write_text("".join('{"n":%d,"k":"x"}\n' % i for i in range(written, written + 500)))
        written += 500
        support.wait_for(lambda: len(runs.numbers()) >= written, lambda: first_difference(runs.numbers(), list(range(written))))
        tool.kill()
        path.unlink()
    check(runs.numbers(), list(range(written)))


def test_file_read_once_is_finished_although_another_took_its_name(tools, directory):
    name, text, good, _ = numbered("ndjson", COUNT)
    (directory / name).write_text(text)
    runs = Runs(tools, directory, name, "--batch-size", "20")
    runs.kill_when_full()
    os.rename(directory / name, directory / "old")
    (directory / name).write_text('{"n":-1,"k":"new"}\n')
    runs.finish()
    check(runs.numbers(), good + ["end"])


class Answers(http.server.BaseHTTPRequestHandler):
    """Answer A events; with an ETag when the server says so. Answers change when `version` does."""

    def do_GET(self):
        server = self.server
        tag = f'"v{server.version}"'
        server.asked += 1
        if server.tagged and self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            self.end_headers()
            return
        first = server.version * server.each
        body = json.dumps([{"n": i, "k": "http"} for i in range(first, first + server.each)]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if server.tagged:
            self.send_header("ETag", tag)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


@pytest.fixture
def answers():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.version, server.each, server.tagged, server.asked = 0, 40000, True, 0
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/events"
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("tagged", [True, False])
def test_answer_cut_off_by_a_kill_is_passed_on_to_its_end(tools, directory, answers, tagged):
    answers.tagged = tagged
    runs = Runs(tools, directory, answers.url, "--once", "--batch-size", "10")
    answers.each = COUNT
    runs.kill_when_full()
    for _ in range(5):
        if runs.kill_after(0.05, 0.2):
            break
    runs.finish()
    check(runs.numbers(), list(range(answers.each)) + ["end"])


def test_answers_with_etag_are_taken_once_each_over_kills(tools, directory, answers):
    answers.each = 5000
    runs = Runs(tools, directory, answers.url, "--interval", "20ms", "--batch-size", "10")
    for version in range(5):
        answers.version = version
        wanted = (version + 1) * answers.each
        for _ in range(3):
            runs.kill_after(0.03, 0.1)
        tool = runs.start()
        support.wait_for(lambda: len(runs.numbers()) >= wanted, lambda: f"{wanted} events; {tool.err}")
        asked = answers.asked
        support.wait_for(lambda: answers.asked > asked + 2)
        tool.kill()
    check(runs.numbers(), list(range(5 * answers.each)))


def test_another_answer_after_a_kill_is_taken_whole(tools, directory, answers):
    answers.each = COUNT
    runs = Runs(tools, directory, answers.url, "--once", "--batch-size", "10")
    runs.kill_when_full()
    answers.version = 1
    runs.finish()
    numbers = runs.numbers()
    old = [n for n in numbers if n != "end" and n < answers.each]
    check(numbers, old + list(range(answers.each, 2 * answers.each)) + ["end"])
    assert old == list(range(len(old))) and 0 < len(old) < answers.each


@pytest.mark.parametrize("seed", [7, 0])
def test_generator_killed_equals_one_without(tools, directory, seed):
    url = f"generator:users?rate=0&count=300000&seed={seed}&start=2026-01-01T00:00:00Z"
    receiver = tools.start("process", "where true", "--from", f"ipc://{directory}/l", "--to", "-")
    kills = 0
    rng = random.Random(5)
    for _ in range(10):
        tool = tools.start("ingest", url, "--to", f"@ipc://{directory}/l", "--state", "state", "--batch-size", "100")
        time.sleep(rng.uniform(0.01, 0.06))
        kills += tool.running
        tool.kill()
    last = tools.run("ingest", url, "--to", f"@ipc://{directory}/l", "--state", "state")
    assert last.status == 0 and kills >= 3, last.err
    assert receiver.wait(45) == 0, receiver.err         # as in Runs.finish
    lines = receiver.out.splitlines()
    assert len(lines) == 300000
    if seed:
        whole = tools.run("ingest", url)
        assert hashlib.sha256(whole.out).digest() == hashlib.sha256(receiver.out).digest()
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    times = [event["@timestamp"] for event in support.lines_of(receiver.out)]
    check([(datetime.datetime.fromisoformat(t) - start) // datetime.timedelta(milliseconds=1) for t in times], list(range(300000)))


def test_term_keeps_what_is_not_delivered_and_the_next_run_goes_on(tools, directory):
    (directory / "app.ndjson").write_text('{"n":0,"k":"x"}\n{"n":1,"k":"x"}\n{"n":')
    runs = Runs(tools, directory, "app.ndjson", "--follow")
    tool = runs.start()
    support.wait_for(lambda: runs.numbers() == [0, 1])
    assert tool.terminate() == 0
    with open(directory / "app.ndjson", "a") as file:
        file.write('2,"k":"x"}\n')
    tool = runs.start()
    support.wait_for(lambda: runs.numbers() == [0, 1, 2], lambda: str(runs.numbers()))
    assert runs.receiver.running        # no end of stream


@pytest.mark.parametrize("first, second, reason", [
    ("data.ndjson", "other.ndjson", "it was made for"),
    ("data.ndjson", "generator:sensors?count=3", "a source of the kind file, not generator"),
    ("generator:sensors?count=3&seed=5&rate=0", "generator:sensors?count=3&seed=6&rate=0", "--seed 5"),
    ("generator:sensors?count=3&rate=0", "generator:users?count=3&rate=0", "generator:sensors"),
    ("generator:sensors?count=3&rate=0", "generator:sensors?count=3&rate=0&sensors=4", "--sensors 10"),
])
def test_state_of_another_source_is_refused_with_the_remedy(tools, directory, first, second, reason):
    for name in ("data.ndjson", "other.ndjson"):
        (directory / name).write_text(f'{{"n":0,"k":"{name}"}}\n')
    source = first + "&count=0" if first.startswith("generator") else first
    runs = Runs(tools, directory, source, *(["--follow"] if first == "data.ndjson" else []))
    tool = runs.start()
    support.wait_for(lambda: runs.out.exists() and runs.out.stat().st_size)
    tool.kill()
    other = tools.run("ingest", second, "--to", f"@{runs.link}", "--state", "state")
    assert other.status == 1
    assert reason in other.err and "--reset" in other.err, other.err
    size = runs.out.stat().st_size
    tools.start("ingest", second, "--to", f"@{runs.link}", "--state", "state", "--reset")
    support.wait_for(lambda: runs.out.stat().st_size > size, "the other source's events")


def test_file_as_standard_input_is_refused_with_state(tools, directory):
    tool = tools.run("ingest", "-", "--to", f"@ipc://{directory}/l", "--state", "state", input=[{"n": 1}])
    assert tool.status == 1 and "by its name" in tool.err


def test_what_came_through_a_pipe_is_delivered_after_a_kill(tools, directory):
    runs = Runs(tools, directory, "-")
    runs.receiver.signal(signal.SIGSTOP)
    tool = tools.start("ingest", "-", "--to", f"@{runs.link}", "--state", "state", pipe=True)
    tool.write(b"".join(b'{"n":%d,"k":"pipe"}\n' % i for i in range(1000)))
    support.wait_for(lambda: runs.log_size() > 10000)
    tool.kill()
    runs.receiver.signal(signal.SIGCONT)
    runs.finish()
    check(runs.numbers(), list(range(1000)) + ["end"])


def test_closing_line_counts_what_could_not_be_used(tools, directory):
    (directory / "data.ndjson").write_text("bad\n" * 7 + '{"n":1}\n')
    assert "7 records could not be used; --dead-letter FILE" in tools.run("ingest", "data.ndjson").err
    assert "7 records could not be used: see dead" in tools.run("ingest", "data.ndjson", "--dead-letter", "dead").err


def test_a_log_that_was_deleted_by_hand_loses_nothing_in_silence(tools, directory):
    """Its place and its numbers are gone with it: all is sent again, under another epoch, and the receiver does not take it for what it had."""
    (directory / "in.ndjson").write_bytes(support.ndjson({"n": n} for n in range(100)))
    link = f"ipc://{directory}/link"
    receiver = tools.start("process", "where true", "--from", link, "--to", "-", "--stay")
    ingest = ("ingest", "in.ndjson", "--follow", "--to", f"@{link}", "--state", "state")
    tool = tools.start(*ingest)
    receiver.wait_events(100)
    assert tool.terminate() == 0, tool.err
    for path in [*(directory / "state/spool").glob("*.seg"), directory / "state/spool/synced"]:
        path.unlink()
    with open(directory / "in.ndjson", "ab") as file:
        file.write(support.ndjson({"n": n} for n in range(100, 110)))
    tool = tools.start(*ingest)
    support.wait_for(lambda: {event["n"] for event in receiver.events} == set(range(110)), lambda: f"all of it; {len(receiver.events)}; {receiver.err} {tool.err}")
    assert "may be there twice" in receiver.err
