"""Helpers of the scenarios in which ingest listens: where it does, and an output that is not read before it shall be."""

import contextlib
import json
import os
import re
import socket
import threading
from pathlib import Path

import support


def address(tool):
    """(host, port) that the tool says it listens on; [::] is reached by ::1."""
    found = tool.wait_err(r"listening on [a-z-]+://(\S+):(\d+)")
    host = found.group(1).strip("[]")
    return {"::": "::1"}.get(host, host), int(found.group(2))


def connect(tool):
    return socket.create_connection(address(tool), timeout=30 * support.PATIENCE)


def ledger(state):
    return json.loads((state / "ledger").read_text())


class Clogged:
    """A pipe for a tool's output: start(..., stdout=out.writer), then out.started()."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.data = bytearray()
        self.thread = None

    def started(self):
        """The tool has it: its end is then seen."""
        with contextlib.suppress(OSError):
            os.close(self.writer)

    def read(self):
        """From now on it is read."""
        def run():
            while True:
                part = os.read(self.reader, 1 << 20)
                if not part:
                    return
                self.data += part
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def wait_events(self, count):
        support.wait_for(lambda: self.data.count(b"\n") >= count, lambda: f"{count} events; there are {self.data.count(10)}", 60)
        return support.lines_of(bytes(self.data))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.thread is None:
            os.close(self.reader)


def peak(tool):
    """The most bytes of memory that it has had so far."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{tool.pid}/status").read_text()).group(1)) * 1024


def unread(tool):
    """Bytes that the kernel has of what its peers have sent: still on their side, and then on its."""
    port = f":{address(tool)[1]:04X}"

    def queued(end, side):
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(int(row[4].split(":")[side], 16) for row in rows if row[end].endswith(port) and row[3] == "01")
    return queued(2, 0) + queued(1, 1)
