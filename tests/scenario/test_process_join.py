"""process with join: against an oracle that compares each event with each, with disorder, from one input and from two, and with a stage that is killed."""

import collections
import json
import random
import time

import pytest

import support
from support import wait_for
from test_process_state import events_of, feed, recorded, recorder, stage_starter

START = 1_732_300_000_000
WITHIN = 2000           # ms
DISORDER = 1500


def two_streams(seed, count, keys=40):
    """Events of both streams as they arrive: each at most DISORDER behind the newest before it."""
    rng = random.Random(seed)
    events, now = [], START
    for number in range(count):
        now += rng.choice([0, 0, 1, 5, 40, 200])
        key = rng.randrange(keys)
        event = {"@stream": rng.choice(["orders", "payments"]), "ts": now - rng.randrange(DISORDER), "n": number}
        if rng.random() < 0.97:
            event["id"] = key if rng.random() < 0.5 else float(key)      # the same key
        events.append(event)
    return events


def pairs_of(events):
    """(order, payment or None) by number, as a left join has them."""
    sides = {name: [event for event in events if event["@stream"] == name] for name in ("orders", "payments")}
    found = []
    for order in sides["orders"]:
        with_it = [payment["n"] for payment in sides["payments"]
                   if "id" in order and order["id"] == payment.get("id") and abs(order["ts"] - payment["ts"]) <= WITHIN]
        found += [(order["n"], payment) for payment in with_it or [None]]
    return collections.Counter(found)


def found_pairs(events):
    return collections.Counter((event["n"], event["payments"] and event["payments"]["n"]) for event in events)


def as_event(event):
    return {**{key: value for key, value in event.items() if key != "ts"}, "@timestamp": event["ts"]}


@pytest.mark.parametrize("seed", range(4))
def test_all_pairs_and_those_without(tools, directory, seed):
    events = two_streams(seed, 3000)
    done = tools.run("process", f"join payments on id within {WITHIN}ms wait {DISORDER}ms left", input=[as_event(event) for event in events])
    assert done.status == 0, done.err
    assert not [event for event in done.events if event.get("@stream")]
    assert found_pairs(done.events) == pairs_of(events)
    inner = tools.run("process", f"join payments on id within {WITHIN}ms wait {DISORDER}ms", input=[as_event(event) for event in events])
    assert found_pairs(inner.events) == collections.Counter({pair: n for pair, n in pairs_of(events).items() if pair[1] is not None})


def test_what_comes_too_late_goes_to_its_own_stream_and_the_rest_is_joined(tools, directory):
    events = two_streams(9, 4000)
    source = tools.start("process", f"join payments on id within {WITHIN}ms left", "--batch-size", 50, pipe=True)
    source.write(support.ndjson([as_event(event) for event in events]))
    source.wait_events(1)
    events += [{"@stream": name, "ts": START, "n": len(events) + i, "id": 1} for i, name in enumerate(("orders", "payments"))]
    source.write(support.ndjson([as_event(event) for event in events[-2:]]))
    source.close()
    assert source.wait() == 0
    late = [event for event in source.events if event.get("@stream") == "process.late"]
    joined = [event for event in source.events if "@stream" not in event]
    assert len(late) + len(joined) == len(source.events) and joined
    assert {event["n"] for event in late} >= {event["n"] for event in events[-2:]}
    too_late = {event["n"] for event in late}
    assert found_pairs(joined) == pairs_of([event for event in events if event["n"] not in too_late])


@pytest.mark.parametrize("seed", (1, 2))
def test_killed_at_any_moment_each_pair_comes_once(tools, directory, seed):
    rng = random.Random(seed)
    events = two_streams(seed, 8000)
    sources = {name: feed(tools, directory, name) for name in ("orders", "payments")}
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, f"join payments on id within {WITHIN}ms wait 1h left", inputs=sources)
    stage = start()
    for i in range(0, len(events), 400):
        for event in events[i:i + 400]:
            line = {key: value for key, value in event.items() if key != "@stream"}
            sources[event["@stream"]].write(json.dumps(line) + "\n")
        if rng.random() < 0.6:
            time.sleep(rng.uniform(0, 0.15))
            stage.kill()
            stage = start()
    for source in sources.values():
        source.close()
    assert stage.wait(60) == 0, stage.err
    assert receiver.wait() == 0 and [source.wait() for source in sources.values()] == [0, 0]
    frames = recorded(out)
    assert [frame["number"] for frame in frames] == list(range(1, len(frames) + 1))
    assert found_pairs(events_of(frames, "out")) == pairs_of(events)
