"""Series with anomalies whose place is known, made from a seed: what the detectors are measured with. Each has a name, times (seconds), values and windows
(first and last index) in which an alarm is right; anywhere else one is false."""

import json
import math
import random
import subprocess
from typing import NamedTuple

START = 1767571200                                               # a Monday, 00:00 UTC
DAY = 86400


class Series(NamedTuple):
    name: str
    times: list
    values: list
    windows: list
    learn: int                                                   # so many values at the beginning are not judged


def times(count, step, start=START):
    return [start + i * step for i in range(count)]


def noise(rng, count, mean=100.0, deviation=5.0):
    return [rng.gauss(mean, deviation) for _ in range(count)]


def places(rng, count, number, length, learn):
    """Distinct spots for `number` anomalies, one in each equal part."""
    part = (count - learn) // number
    return [learn + i * part + rng.randrange(part // 4, part - length - part // 4) for i in range(number)]


def spikes(rng):
    values = noise(rng, 4000)
    spots = places(rng, 4000, 3, 10, 800)
    for spot in spots:
        values[spot] += rng.choice((-1, 1)) * rng.uniform(45, 70)
    return values, [(s, s + 4) for s in spots]


def level_shift(rng):
    values, level = [], 0.0
    spot = rng.randrange(1800, 3200)
    for i in range(4000):
        level = 0.7 * level + rng.gauss(0, 3)
        values.append(50 + level + (35 if i >= spot else 0))
    return values, [(spot, spot + 60)]


def daily(rng, count=288 * 14, per_day=288):
    return [60 + 25 * math.sin(2 * math.pi * i / per_day) + rng.gauss(0, 3) for i in range(count)]


def daily_spike(rng):
    values = daily(rng)
    spots = places(rng, len(values), 2, 10, 288 * 4)
    for spot in spots:
        values[spot] += rng.choice((-1, 1)) * 60
    return values, [(s, s + 4) for s in spots]


def daily_flat(rng):
    """One day on which nothing happens: each value alone is an ordinary one."""
    values = daily(rng)
    day = rng.randrange(8, 12)
    first = day * 288 + 10
    values[first:first + 200] = [60 + rng.gauss(0, 3) for _ in range(200)]
    return values, [(first, first + 200)]


def weekly_holiday(rng):
    """Hourly visits with weekends; one Wednesday is like a Sunday."""
    values = []
    for i in range(24 * 7 * 9):
        hour, day = i % 24, i // 24 % 7
        base = 200 + 600 * max(0.0, math.sin(math.pi * (hour - 6) / 14)) * (0.25 if day >= 5 else 1)
        values.append(base + rng.gauss(0, 25))
    first = (7 * rng.randrange(5, 8) + 2) * 24
    values[first:first + 24] = [200 + 150 * max(0.0, math.sin(math.pi * (h - 6) / 14)) + rng.gauss(0, 25) for h in range(24)]
    return values, [(first + 6, first + 24)]


def variance(rng):
    values = noise(rng, 4000, 0.5, 0.01)
    spot = rng.randrange(2000, 3500)
    for i in range(spot, spot + 100):
        values[i] = rng.gauss(0.5, 0.05)
    return values, [(spot, spot + 100)]


def dropout(rng):
    values = noise(rng, 4000, 230.0, 2.0)
    spot = rng.randrange(2000, 3500)
    values[spot:spot + 30] = [0.0] * 30
    return values, [(spot, spot + 30)]


def burst(rng):
    """Errors per minute: mostly none, now and then a few; then very many."""
    values = [sum(rng.random() < 0.02 for _ in range(40)) for _ in range(4000)]
    spot = rng.randrange(2000, 3500)
    for i in range(spot, spot + 20):
        values[i] += rng.randrange(15, 25)
    return values, [(spot, spot + 20)]


def heavy_tails(rng):
    """Response times: a long tail belongs to them."""
    values = [math.exp(rng.gauss(3, 0.6)) for _ in range(4000)]
    spot = rng.randrange(2000, 3500)
    for i in range(spot, spot + 15):
        values[i] *= 12
    return values, [(spot, spot + 30)]


def constant_then_not(rng):
    values = [7] * 3000
    spot = rng.randrange(1500, 2800)
    values[spot:spot + 5] = [9] * 5
    return values, [(spot, spot + 10)]


def trend_break(rng):
    values = [0.01 * i + rng.gauss(0, 1.5) for i in range(4000)]
    spot = rng.randrange(2000, 3500)
    for i in range(spot, 4000):
        values[i] -= 25
    return values, [(spot, spot + 60)]


def tiny_spikes(rng):
    values, windows = spikes(rng)
    return [v * 1e-12 for v in values], windows


def huge_spikes(rng):
    values, windows = spikes(rng)
    return [v * 1e15 for v in values], windows


def clean_noise(rng):
    return noise(rng, 4000), []


def clean_constant(rng):
    return [42.0] * 4000, []


def clean_counter(rng):
    total, values = 10 ** 12, []
    for _ in range(4000):
        total += rng.randrange(50, 150)
        values.append(total)
    return values, []


def clean_trend(rng):
    return [1000 + 0.5 * i + rng.gauss(0, 20) for i in range(4000)], []


def clean_daily(rng):
    return daily(rng), []


def clean_square(rng):
    return [80 if i % 288 >= 96 else 20 for i in range(288 * 14)], []


def clean_states(rng):
    """A machine that is on or off, for times of any length."""
    values, state = [], 0
    for _ in range(4000):
        if rng.random() < 0.03:
            state = 1 - state
        values.append(state)
    return values, []


KINDS = {                                                        # the maker, seconds between values, values to learn from
    spikes: (300, 800), level_shift: (60, 800), daily_spike: (300, 288 * 3), daily_flat: (300, 288 * 3), weekly_holiday: (3600, 24 * 14),
    variance: (10, 800), dropout: (1, 800), burst: (60, 800), heavy_tails: (60, 800), constant_then_not: (60, 800), trend_break: (600, 800),
    tiny_spikes: (300, 800), huge_spikes: (300, 800), clean_noise: (60, 800), clean_constant: (60, 800), clean_counter: (60, 800), clean_trend: (60, 800),
    clean_daily: (300, 288 * 3), clean_square: (300, 288 * 3), clean_states: (60, 800),
}


def make(seeds):
    """All kinds, once for each seed."""
    result = []
    for kind, (step, learn) in KINDS.items():
        for seed in seeds:
            values, windows = kind(random.Random(f"{kind.__name__} {seed}"))
            result.append(Series(f"{kind.__name__}-{seed}", times(len(values), step), values, windows, learn))
    return result


class Verdict(NamedTuple):
    found: int
    missed: int
    right: int                                                   # alarms
    false: int
    values: int

    @property
    def recall(self):
        return self.found / max(1, self.found + self.missed)

    @property
    def precision(self):
        return self.right / max(1, self.right + self.false)


def judge(series, alarms):
    """alarms: the indices at which there was one."""
    found = sum(any(first <= at <= last for at in alarms) for first, last in series.windows)
    judged = [at for at in alarms if at >= series.learn]
    right = sum(any(first <= at <= last for first, last in series.windows) for at in judged)
    return Verdict(found, len(series.windows) - found, right, len(judged) - right, len(series.values) - series.learn)


def total(verdicts):
    return Verdict(*(sum(v[i] for v in verdicts) for i in range(5)))


def run(process, program, series):
    """What becomes of the program (over `value`, with the field `anomaly`) on each series: {name: Verdict}. All go through one process, by their names."""
    lines = (f'{{"@timestamp":{time},"series":"{one.name}","value":{value!r}}}\n' for one in series for time, value in zip(one.times, one.values, strict=True))
    done = subprocess.run([process, f"{program} by series | keep series, anomaly"], input="".join(lines).encode(), stdout=subprocess.PIPE, check=True)
    alarms, count = {one.name: [] for one in series}, {one.name: 0 for one in series}
    for line in done.stdout.splitlines():
        event = json.loads(line)
        if event["anomaly"]:
            alarms[event["series"]].append(count[event["series"]])
        count[event["series"]] += 1
    assert all(count[one.name] == len(one.values) for one in series)
    return {one.name: judge(one, alarms[one.name]) for one in series}
