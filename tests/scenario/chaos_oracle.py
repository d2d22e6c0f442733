"""The oracle of the chaos runs: says from what went in and what came out whether anything was lost, doubled, changed or put out of
order. It knows nothing of the tools but their output formats, and shares no code with them. What went in is the list that the
producer wrote down: (source, id, key, value, time in ms), in the order in which each source gave it."""

import json
import sqlite3
from collections import Counter, defaultdict


class Verdict:
    """Counts of each kind of fault, with a few samples."""

    def __init__(self):
        self.lost, self.doubled, self.problems = 0, 0, []
        self.checked = Counter()

    def problem(self, text):
        if len(self.problems) < 20:
            self.problems.append(text)
        elif len(self.problems) == 20:
            self.problems.append("... and more")

    def ids(self, what, expected, got):
        """Every expected id exactly once."""
        counts = Counter(got)
        lost = [i for i in expected if i not in counts]
        doubled = [i for i, n in counts.items() if n > 1]
        foreign = [i for i in counts if i not in expected]
        self.lost += len(lost)
        self.doubled += sum(counts[i] - 1 for i in doubled)
        self.checked[what] += len(expected)
        if lost:
            self.problem(f"{what}: {len(lost)} lost, such as {lost[:5]}")
        if doubled:
            self.problem(f"{what}: {len(doubled)} more than once, such as {doubled[:5]}")
        if foreign:
            self.problem(f"{what}: {len(foreign)} that never went in, such as {foreign[:5]}")

    @property
    def good(self):
        return not self.lost and not self.doubled and not self.problems


def read_lines(paths):
    """NDJSON of several files, oldest first. A line that is none is a fault, so it is not passed over."""
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                yield json.loads(line)


def read_lines_safely(paths):
    """As far as it is complete: while it is still being written."""
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line


def expected_windows(events, width_ms):
    """{(key, window start ms): (count, sum)} computed from the input."""
    windows = defaultdict(lambda: [0, 0])
    for _, _, key, value, time in events:
        slot = windows[key, time - time % width_ms]
        slot[0] += 1
        slot[1] += value
    return {where: tuple(slot) for where, slot in windows.items()}


def check_clean(verdict, what, events, rows):
    """rows: dicts with source, id, key, value, double as they came out, in order."""
    expected = {(source, number): (key, value) for source, number, key, value, _ in events}
    rows = [row for row in rows if row["key"] != "end"]
    verdict.ids(what, expected, [(row["source"], row["id"]) for row in rows])
    last = {}
    for row in rows:
        where = row["source"], row["id"]
        if where in expected and (row["key"], row["value"], row["double"]) != (*expected[where], 2 * expected[where][1]):
            verdict.problem(f"{what}: {where} was changed: {row}")
        lane = row["source"], row["key"]
        if row["id"] < last.get(lane, -1):
            verdict.problem(f"{what}: {where} came after {last[lane]}")
        last[lane] = row["id"]


def check_filler(verdict, what, rows, filler):
    for row in rows:
        if row["key"] != "end" and row["filler"] != filler.of(row["source"], row["id"]):
            verdict.problem(f"{what}: the filler of {row['source']}, {row['id']} was changed")


def check_windows(verdict, what, windows, rows):
    """rows: (key, start ms, count, sum)."""
    rows = [row for row in rows if row[0] != "end"]
    verdict.ids(what, windows, [(key, start) for key, start, _, _ in rows])
    for key, start, count, total in rows:
        if (key, start) in windows and windows[key, start] != (count, total):
            verdict.problem(f"{what}: {key} at {start}: {(count, total)} instead of {windows[key, start]}")


def sqlite_rows(path, columns, table):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
        base.row_factory = sqlite3.Row
        return [dict(row) for row in base.execute(f"SELECT {columns} FROM {table} ORDER BY rowid")]


def check_ledger(verdict, name, ledger):
    got, known = ledger["in"] + ledger["created"], sum(ledger[k] for k in ("out", "filtered", "late", "dead", "dropped", "held"))
    if got != known:
        verdict.problem(f"ledger of {name} does not balance: {ledger}")
