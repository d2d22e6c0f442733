"""One chaos run: the world, the nemesis, and the oracle's verdict. Run by itself it is the soak test:

    chaos.py [--seconds N] [--seed N] [--faults N] [--rate N] [--size N] [--keep]

With --size events are larger by up to so many bytes, so that logs write groups around the page cache; every third seed does that by itself."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import chaos_oracle as oracle  # noqa: E402
from chaos_nemesis import Nemesis, SmallDisk, SplitNetwork  # noqa: E402
from chaos_world import WIDTH_MS, World  # noqa: E402
from support import PATIENCE  # noqa: E402


LARGE = 16384                           # --size of the seeds that choose it
LARGE_RATE = 2_500_000                  # bytes a second that the log's events have then at most


def milliseconds(text):
    """RFC 3339 in UTC, by hand."""
    import datetime
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000 + 0.5)


def judge(world):
    events = world.feed.events
    verdict = oracle.Verdict()
    clean = list(oracle.read_lines(world.output("clean")))
    oracle.check_clean(verdict, "clean.ndjson", events, clean)
    if world.feed.filler:
        oracle.check_filler(verdict, "clean.ndjson", clean, world.feed.filler)
    windows = oracle.expected_windows(events, WIDTH_MS)
    lines = oracle.read_lines(world.output("windows"))
    oracle.check_windows(verdict, "windows.ndjson", windows, [(row["key"], milliseconds(row["window_start"]), row["n"], row["total"]) for row in lines])
    base = world.directory / "out/base.db"
    oracle.check_clean(verdict, "base.clean", events, oracle.sqlite_rows(base, "source, id, key, value, double", "clean"))
    rows = oracle.sqlite_rows(base, "key, window_start, n, total", "windows")
    oracle.check_windows(verdict, "base.windows", windows, [(r["key"], milliseconds(r["window_start"]), r["n"], r["total"]) for r in rows])
    ledgers = {stage.name: stage.ledger() for stage in world.stages}
    for name, ledger in ledgers.items():
        oracle.check_ledger(verdict, name, ledger)
    for into, sources in (("clean", ("log", "web")), ("windows", ("log", "web")), ("broadcast", ("clean", "windows"))):
        given = sum(ledgers[source]["out"] for source in sources)
        if ledgers[into]["in"] != given:
            verdict.problem(f"ledger: {into} took in {ledgers[into]['in']} of {given} events that {' and '.join(sources)} gave")
    for stage in world.stages:
        for failure in stage.failures:
            verdict.problem(f"stage {stage.name}: {failure}")
    return verdict


def wait_until(world, condition, what, seconds):
    deadline = time.monotonic() + seconds * PATIENCE
    while not condition():
        world.tend()
        time.sleep(0.1)
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}\n{tails(world)}")


def tails(world):
    return "\n".join(f"--- {s.name} ({s.starts} starts, {'running' if s.running else s.process.poll()})\n"
                     + (world.directory / f"{s.name}.err").read_text(errors="replace")[-1500:] for s in world.stages)


def run(directory, seed, seconds=None, faults=None, rate=1500, privileged=None, size=0):
    """Returns (verdict, faults, events, world). The caller removes the directory."""
    chance = random.Random(seed)
    privileged = os.geteuid() == 0 and shutil.which("ip") is not None if privileged is None else privileged
    disk = SmallDisk(directory, real=size > 0) if privileged else None
    split = SplitNetwork() if privileged else None
    world = None
    try:
        world = World(directory, random.Random(chance.random()), rate, disk and disk.path, split, size)
        world.start()
        nemesis = Nemesis(world, chance, disk)
        nemesis.rage(seconds, faults)
        world.feed.end()
        wait_until(world, lambda: world.feed.web_ended.is_set() and not world.feed.page_events, "the last page to be taken", 60)
        wait_until(world, world.ended, "the last events in clean.ndjson", 120)
        count = len(oracle.expected_windows(world.feed.events, WIDTH_MS))
        wait_until(world, lambda: sum(1 for _ in oracle.read_lines_safely(world.output("windows"))) >= count, "all windows", 60)
        last = world.feed.numbers
        wait_until(world, lambda: len(oracle.sqlite_rows(directory / "out/base.db", "id", "clean")) >= sum(last.values()) + 2, "all rows", 60)
        for stage in world.stages:
            stage.terminate()
        verdict = judge(world)
        if not verdict.good:
            verdict.problem(tails(world))
        return verdict, nemesis.faults, len(world.feed.events), world
    finally:
        if world:
            world.close()
        if split:
            split.close()
        if disk:
            disk.close()


def main():
    options = argparse.ArgumentParser(description="injects faults for as long as asked, and counts what was lost or doubled")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--faults", type=int)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--rate", type=int, default=1500)
    options.add_argument("--size", type=int)
    options.add_argument("--keep", action="store_true", help="leave the files")
    given = options.parse_args()
    size = given.size if given.size is not None else LARGE if given.seed % 3 == 1 else 0
    rate = min(given.rate, 2 * LARGE_RATE // size) if size else given.rate
    directory = Path(tempfile.mkdtemp(prefix="ch", dir="/tmp"))
    began = time.monotonic()
    try:
        verdict, faults, events, _ = run(directory, given.seed, None if given.faults else given.seconds, given.faults, rate, size=size)
    finally:
        if not given.keep:
            shutil.rmtree(directory, ignore_errors=True)
    for problem in verdict.problems:
        print(problem)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()))
    print(f"seed {given.seed}: {faults.total()} faults ({kinds}) in {time.monotonic() - began:.0f} s, {events} events, "
          f"{verdict.lost} lost, {verdict.doubled} doubled")
    sys.exit(0 if verdict.good else 1)


if __name__ == "__main__":
    main()
