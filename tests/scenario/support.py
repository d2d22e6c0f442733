"""What the scenarios share: starting the real tools, waiting with a bound, temporary places, free ports,
decoding frames. The tools come from $STREAM_BIN (default bin/), so that the same scenarios run against a
sanitizer build. Nothing here sleeps for a fixed time to "let something happen": use wait_for."""

import contextlib
import ctypes
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import msgpack

ROOT = Path(__file__).resolve().parents[2]
BIN = (ROOT / os.environ.get("STREAM_BIN", "bin")).resolve()
# Sanitizer builds and busy machines need more time; bounds are multiplied by this. No test asserts a time.
PATIENCE = float(os.environ.get("STREAM_PATIENCE", "1"))

_SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|runtime error:|^.*\bpanic\b.*$", re.MULTILINE)
_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def tool_path(name):
    """The path of one of our tools; other names (jq, sh, ...) stay as they are."""
    return str(BIN / name) if name in ("ingest", "process", "broadcast", "streamctl") else str(name)


def free_port(count=2):
    """A tcp port on 127.0.0.1 such that it and those behind it, so many in all (the next one is for acknowledgements), are free now. Below the range that
    the kernel hands out for outgoing connections, so that they stay free, and not given out by other tests that run now: for each of them this process
    holds a name, which goes when it ends."""
    start = (os.getpid() * 37 + free_port.count * 2) % 20000
    for attempt in range(5000):
        port = 10000 + (start + attempt * 2) % (20000 - count)
        with contextlib.ExitStack() as taken:
            try:
                names = [taken.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
                for i, name in enumerate(names):
                    name.bind(f"\0stream-test-port-{port + i}")
                for i in range(count):
                    taken.enter_context(socket.socket()).bind(("127.0.0.1", port + i))
            except OSError:
                continue
            free_port.held += [name.dup() for name in names]
            free_port.count += attempt + 1
            return port
    raise RuntimeError("no free port found")


free_port.count, free_port.held = 0, []


def wait_for(condition, what="the condition", seconds=15):
    """Calls condition() until it is true and returns its value; AssertionError after `seconds` (times PATIENCE)."""
    deadline = time.monotonic() + seconds * PATIENCE
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds * PATIENCE:g} s in vain for {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def whole(data):
    """The complete lines of what somebody is still writing (bytes or a Path; no file yet: nothing): its last line may be there in part."""
    if isinstance(data, Path):
        try:
            data = data.read_bytes()
        except FileNotFoundError:
            data = b""
    return data[:data.rfind(b"\n") + 1]


def lines_so_far(data):
    """The complete lines of NDJSON that is still being written (bytes or a Path) as a list of objects."""
    return lines_of(whole(data))


def lines_of(data):
    """NDJSON (bytes, text or a Path) as a list of objects. It must be finished: a last line without its end is a fault. While its writer may
    still be at it, lines_so_far is meant."""
    if isinstance(data, Path):
        data = data.read_bytes()
    if isinstance(data, bytes):
        data = data.decode()
    *lines, rest = data.split("\n")
    assert not rest, f"the last line is unfinished: {rest[-200:]!r}"
    return [json.loads(line) for line in lines if line.strip()]


def ndjson(events):
    """Objects as NDJSON bytes."""
    return b"".join(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for event in events)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Tool:
    """A started process; its output goes to files, so that it never blocks on us. Made by Tools.start."""

    def __init__(self, arguments, out_path, err_path, stdin, stdout, cwd, env, pass_fds, group):
        self.arguments = [str(a) for a in arguments]
        self.out_path, self.err_path = out_path, err_path
        self.ended_by_us = False
        with open(out_path, "wb") as out, open(err_path, "wb") as err:
            self.process = subprocess.Popen(
                self.arguments, stdin=stdin, stdout=out if stdout is None else stdout, stderr=err, cwd=cwd, env=env, pass_fds=pass_fds,
                start_new_session=group, preexec_fn=_die_with_parent)

    @property
    def pid(self):
        return self.process.pid

    @property
    def out(self):
        return self.out_path.read_bytes()

    @property
    def err(self):
        return self.err_path.read_text(errors="replace")

    @property
    def events(self):
        """The complete NDJSON lines on stdout so far. When it has ended by itself they must all be complete."""
        ended = self.process.poll() is not None and not self.ended_by_us
        return lines_of(self.out) if ended else lines_so_far(self.out)

    @property
    def running(self):
        return self.process.poll() is None

    def write(self, data):
        """To its stdin (start with pipe=True)."""
        self.process.stdin.write(data if isinstance(data, bytes) else data.encode())
        self.process.stdin.flush()

    def close(self):
        """End of its stdin."""
        self.process.stdin.close()

    def signal(self, number):
        if number in (signal.SIGKILL, signal.SIGABRT):
            self.ended_by_us = True
        to_be_ended = number in (signal.SIGTERM, signal.SIGINT) and Path(self.arguments[0]).parent == BIN and self.arguments[1:2] != ["logs"]
        if to_be_ended or number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            wait_for(lambda: not self.running or self.expects(number), lambda: f"{self} to expect signals; {self.err[-1000:]}")
        if self.running:
            os.kill(self.pid, number)

    def expects(self, number):
        """It has been started far enough for the signal not to end it just so."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigBlk", "SigCgt"))]
        return any(mask >> (number - 1) & 1 for mask in masks)

    def kill(self):
        """kill -9, and waits for it."""
        self.signal(signal.SIGKILL)
        return self.process.wait(30 * PATIENCE)

    def terminate(self, seconds=20):
        """TERM: drains and exits. Returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds=30):
        """Waits for it to exit by itself and returns the exit status."""
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds * PATIENCE:g} s: {self}\n{self.err[-2000:]}") from None

    def wait_err(self, pattern, seconds=15):
        """Until stderr matches the regular expression; returns the match."""
        return wait_for(lambda: re.search(pattern, self.err),
                        lambda: f"{pattern!r} on stderr of {self}; it says:\n{self.err[-2000:]}", seconds)

    def wait_events(self, count, seconds=20):
        """Until stdout holds at least `count` events; returns them all."""
        wait_for(lambda: self.out.count(b"\n") >= count,
                 lambda: f"{count} events on stdout of {self} (has {self.out.count(10)}); stderr:\n{self.err[-2000:]}", seconds)
        return self.events

    def __str__(self):
        return " ".join(shlex.quote(a) for a in self.arguments)

    def finish(self):
        """Clean-up after a test: stops it hard when it still runs, and reports a crash or a sanitizer's finding."""
        if self.process.stdin and not self.process.stdin.closed:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self.running:
            self.ended_by_us = True
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait(30)
        problems = []
        status = self.process.returncode
        if status is not None and -status in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL) \
                and not self.ended_by_us:
            problems.append(f"ended by signal {-status}")
        found = _SANITIZER.search(self.err)
        if found:
            problems.append(f"said {found.group(0)!r}")
        return [f"{self}: {problem}\n{self.err[-6000:]}" for problem in problems]


class Tools:
    """The fixture `tools`: starts processes in the test's directory, and cleans all of them up."""

    def __init__(self, directory):
        self.directory = directory
        self.started = []

    def start(self, name, *arguments, input=None, pipe=False, stdout=None, cwd=None, env=None, pass_fds=(), group=False):
        """Starts a tool (or any program). stdin is `input` (bytes, text or a list of objects as NDJSON), or a pipe for
        write() with pipe=True, or /dev/null. stdout: a descriptor, else .out and .events hold it."""
        number = len(self.started)
        base = self.directory / f"{Path(str(name)).name}-{number}"
        stdin = subprocess.PIPE if pipe else subprocess.DEVNULL
        if input is not None:
            if isinstance(input, list):
                input = ndjson(input)
            stdin = tempfile.TemporaryFile()
            stdin.write(input if isinstance(input, bytes) else input.encode())
            stdin.seek(0)
        tool = Tool([tool_path(name), *arguments], base.with_suffix(".out"), base.with_suffix(".err"), stdin, stdout,
                    cwd or self.directory, {**os.environ, "STREAM_BIN": str(BIN), **(env or {})}, pass_fds, group)
        self.started.append(tool)
        return tool

    def run(self, name, *arguments, seconds=30, **how):
        """Starts it and waits for its end. Returns the Tool with .status set; check it."""
        tool = self.start(name, *arguments, **how)
        tool.status = tool.wait(seconds)
        return tool

    def shell(self, command, seconds=60, **how):
        """A shell line with our tools first on PATH."""
        env = {**how.pop("env", {}), "PATH": f"{BIN}:{os.environ['PATH']}"}
        return self.run("bash", "-c", command, seconds=seconds, env=env, **how)

    def finish(self):
        problems = []
        for tool in reversed(self.started):
            problems += tool.finish()
        return problems


# Frames, decoded independently of the product's code: stream-frame(5).

def event_time(ext):
    """An EventTime (ext type 0) as ns since 1970."""
    assert ext.code == 0 and len(ext.data) == 8, ext
    seconds, nanoseconds = struct.unpack(">II", ext.data)
    return seconds * 1_000_000_000 + nanoseconds


def decode_events(body):
    """A frame's body as [(time in ns, record), ...]."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=True, max_buffer_size=64 << 20)
    unpacker.feed(body)
    return [(event_time(time), record) for time, record in unpacker]


def decode_frame(parts):
    """The three parts as (topic, header, [(time, record), ...]); checks the count and the lengths against the body."""
    topic, header, body = parts
    header = msgpack.unpackb(header, raw=False, strict_map_key=True)
    events = decode_events(body)
    assert header["v"] == 1
    assert header.get("n", 0) == len(events), header
    if "x" in header:
        lengths = struct.unpack(f"<{len(events)}I", header["x"])
        assert sum(lengths) == len(body)
    return topic.decode(), header, events


def encode_event(record, time_ns=None):
    """One entry of a body."""
    time_ns = time.time_ns() if time_ns is None else time_ns
    ext = msgpack.ExtType(0, struct.pack(">II", time_ns // 1_000_000_000, time_ns % 1_000_000_000))
    return msgpack.packb([ext, record], use_bin_type=True)


def encode_frame(topic, header, records):
    """Three parts of a frame for a foreign sender; header needs o, e, q, l (v, n and t are added)."""
    header = {"v": 1, "n": len(records), "t": time.time_ns(), **header}
    return [topic.encode(), msgpack.packb(header, use_bin_type=True), b"".join(encode_event(r) for r in records)]


def sensor_lines(count, first=0, devices=10, start_ms=1732300000000, step_ms=10):
    """Sensor events as objects with known values: seq counts from `first`, time moves by step_ms."""
    return [{"ts": start_ms + i * step_ms, "device": f"sensor_{i % devices:04d}", "site": ("warehouse_a", "warehouse_b", "office")[i % 3],
             "temperature": 15 + (i * 7 % 200) / 10, "humidity": 40.5, "pressure": 1013.2, "status": "ok", "seq": i}
            for i in range(first, first + count)]
