"""sequence against a search in Python: for each event that could begin a match the events behind it are gone through one by one, and of the matches found
those are kept that nothing earlier has used up. Patterns and events at random."""

import random
from dataclasses import dataclass, field

import pandas
import pytest

from support import lines_of, ndjson

START = pandas.Timestamp("2026-01-02T03:00:00Z")
FOREVER = 10 ** 9


@dataclass
class Step:
    label: str
    text: str
    test: object                # of the event and what was taken so far
    least: int = 1
    most: int = 1
    within: int = None          # seconds
    next: bool = False
    row: bool = False
    guards: list = field(default_factory=list)


@dataclass
class Pattern:
    steps: list
    within: int = None
    absent: object = None       # (text, test, seconds)

    def program(self):
        parts = []
        for step in self.steps:
            for number, (text, _) in enumerate(step.guards):
                parts.append(f"not G{number} when {text}")
            times = "" if (step.least, step.most) == (1, 1) else f" times {step.least}" + (
                "" if step.most == step.least else " or more" if step.most == FOREVER else f" to {step.most}")
            parts.append(("next " if step.next else "") + f"{step.label} when {step.text}{times}" + (" in a row" if step.row else "") +
                         (f" within {step.within}s" if step.within else ""))
        if self.absent:
            parts.append(f"not Z when {self.absent[0]} within {self.absent[2]}s")
        return f"sequence s by k{f' within {self.within}s' if self.within else ''}: " + "\n  then ".join(parts)


def too_long(later, earlier, limit):
    return limit is not None and later["t"] - earlier["t"] > limit


def search(pattern, events, first):
    """The match that begins with events[first]: (order, last event, taken, counts), or None."""
    steps, taken, counts = pattern.steps, {}, [0] * len(pattern.steps)
    at, last, since = 0, first, events[first]

    def take(number):
        """True when the last step is complete."""
        nonlocal at, last, since
        taken[steps[at].label] = events[number]
        counts[at] += 1
        last = number
        final = at == len(steps) - 1
        if counts[at] < (steps[at].least if final else steps[at].most):
            return False
        at += 1
        since = events[number]
        return final

    def absence():
        due = events[last]["t"] + pattern.absent[2]
        for event in events[last + 1:]:
            if event["t"] > due:
                break
            if pattern.absent[1](event, taken):
                return None
        return (due, 0), last, taken, counts, due

    def result(number):
        return absence() if pattern.absent else ((number, 1), number, taken, counts, events[number]["t"])

    if not steps[0].test(events[first], {}):
        return None
    if take(first):
        return result(first)
    for number in range(first + 1, len(events)):
        event = events[number]
        if too_long(event, events[first], pattern.within):
            return None
        step, count = steps[at], counts[at]
        if count < step.least:
            if too_long(event, since, step.within) or any(test(event, taken) for _, test in step.guards):
                return None
            if step.test(event, taken):
                if take(number):
                    return result(number)
            elif step.row if count else step.next:
                return None
            continue
        behind = steps[at + 1]
        if too_long(event, events[last], behind.within) or any(test(event, taken) for _, test in behind.guards):
            return None
        if behind.test(event, taken):
            at, since = at + 1, events[last]
            if take(number):
                return result(number)
        elif not too_long(event, since, step.within) and step.test(event, taken):
            take(number)
        elif behind.next:
            return None
        elif step.row:
            at, since = at + 1, events[last]
    return None


def matches(pattern, events):
    """Of a key: what completes first goes first, of several with the same event what began first; it uses up all events to its last one."""
    found = [(match[0], first, match) for first in range(len(events)) if (match := search(pattern, events, first))]
    kept, used = [], -1
    for _, first, (_, last, taken, counts, end) in sorted(found, key=lambda one: one[:2]):
        if first > used:
            kept.append((events[first], end, taken, counts))
            used = last
    return kept


def random_test(rng, earlier):
    """A condition as text and as a function."""
    kind, limit = rng.randrange(5 if earlier else 3), rng.randrange(2, 9)
    if kind == 0:
        return f"v > {limit}", lambda event, taken: event["v"] > limit
    if kind == 1:
        return f"v < {limit}", lambda event, taken: event["v"] < limit
    if kind == 2:
        words = rng.sample(["x", "y", "z", "w"], 2)
        return f'e in ("{words[0]}", "{words[1]}")', lambda event, taken: event["e"] in words
    label = rng.choice(earlier)
    if kind == 3:
        return f"v > {label}.v", lambda event, taken: event["v"] > taken[label]["v"]
    return f"e == {label}.e", lambda event, taken: event["e"] == taken[label]["e"]


def random_pattern(rng):
    steps, count = [], rng.randrange(1, 5)
    absent = rng.random() < 0.35
    for number in range(count):
        earlier = [step.label for step in steps]
        step = Step("ABCD"[number], *random_test(rng, earlier))
        if rng.random() < 0.4:
            step.least = rng.randrange(1, 4)
            step.most = step.least if number == count - 1 else rng.choice([step.least, step.least + 2, FOREVER])
            step.row = rng.random() < 0.4 and (step.least, step.most) != (1, 1)
        if rng.random() < 0.4 and (number or step.most > 1):
            step.within = rng.choice([2, 5, 10, 30])
        if number and rng.random() < 0.2:
            step.next = True
        if number and rng.random() < 0.25:
            step.guards = [random_test(rng, earlier) for _ in range(rng.randrange(1, 3))]
        steps.append(step)
    pattern = Pattern(steps, rng.choice([None, None, 10, 40]))
    if absent or count == 1 and steps[0].least == 1:
        pattern.absent = (*random_test(rng, [step.label for step in steps]), rng.choice([1, 3, 8]))
    return pattern


def random_events(rng, count=150, keys=3):
    now, events = 0, []
    for number in range(count):
        now += rng.choice([0, 0, 1, 1, 2, 5])
        events.append({"t": now, "k": f"key{rng.randrange(keys)}", "e": rng.choice("xyzw"), "v": rng.randrange(11), "n": number})
    return events


def text_of(seconds):
    return (START + pandas.Timedelta(seconds, "s")).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("seed", range(12))
def test_patterns_at_random(tools, seed):
    found = 0
    for number in range(25):
        rng = random.Random(1000 * seed + number)
        pattern, events = random_pattern(rng), random_events(rng)
        program = pattern.program()
        done = tools.run("process", program, input=ndjson([{"@timestamp": text_of(event["t"]), **{name: event[name] for name in "kevn"}} for event in events]))
        assert done.status == 0, program + done.err
        results = lines_of(done.out)
        for key in {event["k"] for event in events}:
            got = [result for result in results if result["k"] == key]
            wanted = matches(pattern, [event for event in events if event["k"] == key])
            found += len(wanted)
            assert [(result["start"], result["end"]) for result in got] == [(text_of(first["t"]), text_of(end)) for first, end, _, _ in wanted], (key, program)
            for result, (_, end, taken, counts) in zip(got, wanted):
                assert result["@timestamp"] == text_of(end)
                for step, count in zip(pattern.steps, counts):
                    assert result[step.label]["n"] == taken[step.label]["n"], (key, program)
                    if step.most > 1:
                        assert result[f"{step.label}_count"] == count, (key, program)
    assert found > 100


def test_many_open_beginnings_lose_no_match(tools):
    """A hundred events that could begin a match, and the end comes when only the last one is still in time."""
    lines = [{"@timestamp": text_of(second), "e": "a", "n": second} for second in range(100)] + [{"@timestamp": text_of(108), "e": "b", "n": 100}]
    done = tools.run("process", 'sequence s: A when e == "a" then B when e == "b" within 9s', input=ndjson(lines))
    assert [result["A"]["n"] for result in lines_of(done.out)] == [99] and done.status == 0
    lines[-1]["@timestamp"] = text_of(99)
    done = tools.run("process", 'sequence s: A when e == "a" then B when e == "b" within 200s', input=ndjson(lines))
    assert [result["A"]["n"] for result in lines_of(done.out)] == [0] and " warning " not in done.err
    done = tools.run("process", 'sequence s: A when e == "a" then B when e == "b" and n > A.n within 200s', input=ndjson(lines))
    assert [result["A"]["n"] for result in lines_of(done.out)] == [0] and "more than 32 partial matches" in done.err


def test_what_must_not_happen_is_told_in_the_order_of_time(tools):
    """By the watermark, whatever keys the events are of."""
    lines = [{"@timestamp": text_of(second), "k": second % 7, "n": second} for second in range(50)]
    done = tools.run("process", "sequence s by k: A when n < 40 then not B when n > 0 within 5s", input=ndjson(lines))
    results = lines_of(done.out)
    assert [result["A"]["n"] for result in results] == list(range(40))
    assert [result["@timestamp"] for result in results] == [text_of(second + 5) for second in range(40)]
