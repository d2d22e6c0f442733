"""Windows and aggregates against pandas: every kind of window and every aggregate on random events that arrive in disorder, to 1e-9 of what pandas
computes from all events at once, or to the error that stream-language(7) states."""

import json
import math

import numpy
import pandas
import pytest

START = 1767326400000                                   # ms: 2026-01-02T04:00:00Z
DELAY = 5000                                            # ms that an event comes late, at most
AGGREGATES = ("count() as n, count(v) as nv, sum(v) as sum, sum(i) as isum, avg(v) as avg, min(v) as min, max(v) as max, range(v) as range, "
              "first(i) as first, last(i) as last, min(s) as smin, max(s) as smax, stddev(v) as std, var(v) as var, median(v) as median, "
              "p90(v) as p90, p99.9(v) as p999, percentile(v, 12.5) as p12, distinct(s) as distinct, top(s, 3) as top, rate() as rate, "
              "rate(v) as vrate, slope(v) as slope, collect(i, 10000) as all")
SKETCH = 1 / 128                                        # relative error of quantiles


def events(seed, count=1500, keys=4, seconds=600):
    """In order of arrival. Some at the same time, some values missing."""
    random = numpy.random.default_rng(seed)
    time = numpy.sort(random.integers(0, seconds * 1000, count))
    time[1::7] = time[0::7][:len(time[1::7])]
    frame = pandas.DataFrame({
        "t": time,
        "k": random.integers(0, keys, count),
        "v": numpy.where(random.random(count) < 0.05, numpy.nan, random.normal(10, 100, count)),
        "i": random.integers(-10**12, 10**12, count),
        "s": random.choice([f"text {n}" for n in range(40)], count),
        "at": time + random.integers(0, DELAY, count),
    })
    return frame.sort_values("at", kind="stable", ignore_index=True)


def stamp(ms):
    return pandas.Timestamp(START + int(ms), unit="ms").isoformat(timespec="milliseconds") + "Z"


def run(tools, program, frame):
    """The results as (main stream's, late ones); times in ms from START."""
    lines = []
    for row in frame.itertuples(index=False):
        event = {"@timestamp": stamp(row.t), "k": int(row.k), "i": int(row.i), "s": row.s}
        if row.v == row.v:
            event["v"] = row.v
        lines.append(json.dumps(event))
    done = tools.run("process", program, input=("\n".join(lines) + "\n").encode(), seconds=60)
    assert done.status == 0, done.err
    found = [json.loads(line) for line in done.out.decode().splitlines()]
    main = [event for event in found if "@stream" not in event]
    for event in main:
        for name in ("window_start", "window_end", "@timestamp"):
            event[name] = round(pandas.Timestamp(event[name]).value / 1e6) - START
    return main, [event for event in found if "@stream" in event]


def near(found, expected, scale=0.0):
    if expected is None or expected != expected:
        return found is None
    return found is not None and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9 * scale)


def quantile_near(found, values, share, exact=True):
    if not len(values):
        return found is None
    expected = values.quantile(share)
    if len(values) <= 32 and exact:
        return near(found, expected)
    below, above = (abs(values.quantile(share, interpolation=way)) for way in ("lower", "higher"))
    return abs(found - expected) <= SKETCH * max(below, above) * (1 + 1e-9)


def slope_of(part):
    part = part[part.v.notna()]
    seconds = (part.t - part.t.min()) / 1000
    if seconds.nunique() < 2:
        return None
    return seconds.cov(part.v) / seconds.var()


def most_frequent(texts, count):
    counts = texts.value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"value": value, "count": int(n)} for value, n in ordered[:count]]


def check(result, part, seconds, first_look=True):
    """A result with AGGREGATES against the events of its window, in order of time. first_look: the window never had others."""
    values = part.v.dropna()
    scale = values.abs().sum()
    assert result["n"] == len(part)
    assert result["nv"] == len(values)
    assert near(result["sum"], values.sum() if len(values) else None, scale)
    assert result["isum"] == part.i.sum()
    assert near(result["avg"], values.mean(), scale)
    assert near(result["min"], values.min()) and near(result["max"], values.max())
    assert near(result["range"], values.max() - values.min(), scale)
    assert result["first"] == part.i.iloc[0] and result["last"] == part.i.iloc[-1]
    assert result["smin"] == part.s.min() and result["smax"] == part.s.max()
    assert near(result["std"], values.std()) and near(result["var"], values.var())
    for name, share in (("median", 0.5), ("p90", 0.9), ("p999", 0.999), ("p12", 0.125)):
        assert quantile_near(result[name], values, share, first_look), (name, result[name], values.quantile(share))
    assert result["distinct"] == part.s.nunique()
    if first_look:
        assert result["top"] == most_frequent(part.s, 3)
    else:                                               # of equals any
        counts = part.s.value_counts()
        assert [one["count"] for one in result["top"]] == counts.tolist()[:3]
        assert all(counts[one["value"]] == one["count"] for one in result["top"])
    assert near(result["rate"], len(part) / seconds if seconds else None)
    assert near(result["vrate"], values.sum() / seconds if seconds and len(values) else None, scale)
    assert near(result["slope"], slope_of(part), 1.0)
    assert result["all"] == part.i.tolist()


def by_time(frame):
    return frame.sort_values("t", kind="stable")


def check_all(results, expected, seconds=None):
    """expected: {(key, start, end): events}. Each is there once, and right."""
    found = {(r["k"], r["window_start"], r["window_end"]): r for r in results}
    assert len(found) == len(results)
    assert set(found) == set(expected)
    for window, part in expected.items():
        check(found[window], part, (part.t.max() - part.t.min()) / 1000 if seconds is None else seconds)


def hopping(frame, length, every):
    windows = {}
    for start in range(-length // every * every, frame.t.max() + every, every):
        part = frame[(frame.t >= start) & (frame.t < start + length)]
        windows.update({(key, start, start + length): group for key, group in part.groupby("k")})
    return windows


def sessions(frame, gap, most=None):
    windows = {}
    for key, group in frame.groupby("k"):
        numbers = (group.t.diff() >= gap).cumsum()
        if most:
            start = last = number = None
            numbers = []
            for time in group.t:
                if start is None or time - last >= gap or time - start >= most:
                    start, number = time, 0 if number is None else number + 1
                last = time
                numbers.append(number)
            numbers = pandas.Series(numbers, index=group.index)
        for _, part in group.groupby(numbers):
            end = part.t.iloc[-1] + gap
            windows[key, part.t.iloc[0], min(end, part.t.iloc[0] + most) if most else end] = part
    return windows


@pytest.mark.parametrize("seed", [1, 2])
def test_tumbling(tools, seed):
    frame = events(seed)
    results, late = run(tools, f"window tumbling 30s by k wait 5s: {AGGREGATES}", frame)
    assert not late
    check_all(results, hopping(by_time(frame), 30000, 30000), 30)


@pytest.mark.parametrize("seed, length, every", [(3, 60, 20), (4, 50, 15), (5, 17, 7)])
def test_hopping(tools, seed, length, every):
    frame = events(seed, 700)
    results, late = run(tools, f"window hopping {length}s every {every}s by k wait 5s: {AGGREGATES}", frame)
    assert not late
    check_all(results, hopping(by_time(frame), length * 1000, every * 1000), length)


@pytest.mark.parametrize("seed, gap", [(6, 3), (7, 7)])
def test_sessions(tools, seed, gap):
    frame = events(seed)
    results, late = run(tools, f"window session {gap}s by k wait 5s: {AGGREGATES}", frame)
    assert not late and len(results) > 10
    check_all(results, sessions(by_time(frame), gap * 1000))


def test_sessions_with_an_end(tools):
    frame = events(8)
    results, late = run(tools, f"window session 8s max 25s by k wait 5s: {AGGREGATES}", frame)
    assert not late
    check_all(results, sessions(by_time(frame), 8000, 25000))


def compare_rows(results, frame, window_of, seconds):
    """One result per event, in order of time for each key."""
    for key, group in by_time(frame).groupby("k"):
        found = [r for r in results if r["k"] == key]
        expected = window_of(group)
        assert len(found) == len(expected)
        for result, part in zip(found, expected):
            check(result, part, seconds, False)


@pytest.mark.parametrize("seed, length", [(9, 45), (10, 3)])
def test_sliding_is_what_pandas_calls_rolling(tools, seed, length):
    frame = events(seed, 400, 2, 200)
    results, late = run(tools, f"window sliding {length}s by k wait 5s: {AGGREGATES}", frame)
    assert not late and [r["window_end"] for r in results] == sorted(frame.t)

    def windows(group):
        times = group.t.to_numpy()
        firsts = numpy.searchsorted(times, times - length * 1000, side="right")
        parts = [group.iloc[first:row + 1] for row, first in enumerate(firsts)]
        rolled = group.set_index(pandas.to_datetime(group.t, unit="ms")).rolling(f"{length}s").i.count()
        assert rolled.tolist() == [len(part) for part in parts]         # the same events as pandas takes
        return parts
    compare_rows(results, frame, windows, length)


@pytest.mark.parametrize("number, every, wait", [(20, 20, True), (50, 7, True), (10, 1, False)])
def test_windows_of_so_many_events(tools, number, every, wait):
    frame = events(11 + number, 300, 2)
    part = f"window count {number} every {every} by k {'wait 5s' if wait else ''}: {AGGREGATES}"
    results, late = run(tools, part, frame)
    assert not late
    for key, group in (by_time(frame) if wait else frame).groupby("k"):
        found = [r for r in results if r["k"] == key]
        ends = [*range(every, len(group) + 1, every)] + ([len(group)] if len(group) % every else [])
        assert len(found) == len(ends)
        for result, end in zip(found, ends):
            first = end - end % number if number == every and end % number else max(0, end - number)
            window = group.iloc[first:end]
            assert (result["window_start"], result["window_end"]) == (window.t.min(), window.t.max())
            check(result, window, (window.t.max() - window.t.min()) / 1000, number == every)


@pytest.mark.parametrize("kind, length, every", [("tumbling 20s", 20000, 20000), ("hopping 20s every 6s", 20000, 6000)])
def test_the_last_revision_is_what_pandas_has_of_all_events(tools, kind, length, every):
    frame = events(12, 600, 2)
    results, late = run(tools, f"window {kind} by k wait 1s late 10s: {AGGREGATES}", frame)
    last, revised = {}, 0
    for result in results:
        window = result["k"], result["window_start"], result["window_end"]
        assert result["revision"] == (last[window]["revision"] + 1 if window in last else 0)
        revised += result["revision"] > 0
        last[window] = result
    assert not late and revised > 5
    check_all([*last.values()], hopping(by_time(frame), length, every), length / 1000)


def test_the_last_revisions_of_sessions_are_those_of_all_events(tools):
    frame = events(13)
    results, late = run(tools, f"window session 4s by k wait 100ms late 10s: {AGGREGATES}", frame)
    standing = []
    for result in results:                              # a result stands for all whose time it covers
        covered = [r for r in standing if r["k"] == result["k"] and r["window_start"] >= result["window_start"] and
                   r["window_end"] <= result["window_end"]]
        assert (result["revision"] > 0) == bool(covered)
        standing = [r for r in standing if r not in covered] + [result]
    assert not late and len(standing) < len(results)
    check_all(standing, sessions(by_time(frame), 4000))


def test_events_that_are_too_late_are_in_no_window_and_all_are_on_the_side_stream(tools):
    frame = events(14, 800)
    watermark = frame.t.cummax()
    on_time = frame.t // 10000 * 10000 + 10000 + 1000 > watermark
    assert 20 < (~on_time).sum() < len(frame) / 2
    results, late = run(tools, f"window tumbling 10s by k wait 1s: {AGGREGATES}", frame)
    check_all(results, hopping(by_time(frame[on_time]), 10000, 10000), 10)
    assert [event["i"] for event in late] == frame[~on_time].i.tolist()
    results, late = run(tools, f"window sliding 10s by k wait 1s: {AGGREGATES}", frame)
    on_time = frame.t + 1000 >= watermark
    assert len(results) == on_time.sum() and [event["i"] for event in late] == frame[~on_time].i.tolist()


def test_early_results_are_of_what_had_come_by_then(tools):
    frame = events(15)
    watermark = frame.t.cummax()
    results, _ = run(tools, "window tumbling 60s early every 7s by k wait 5s: count() as n, sum(i) as isum", frame)
    windows = {(k, start): part for (k, start, _), part in hopping(frame, 60000, 60000).items()}
    early = [r for r in results if not r["final"]]
    assert len(early) > 50 and len(results) - len(early) == len(windows)
    for result in results:
        part = windows[result["k"], result["window_start"]]
        if not result["final"]:
            until = (result["@timestamp"] + 1) if result["@timestamp"] + 1 < result["window_end"] else None
            if until is None:                           # after the end, before wait is over: not told from the result
                assert result["n"] <= len(part)
                continue
            part = part[part.index < watermark[watermark >= until].index[0]]
        assert (result["n"], result["isum"]) == (len(part), part.i.sum())


@pytest.mark.parametrize("kind", ["tumbling 1h", "hopping 1h every 10m", "session 1h", "count 1000000", "sliding 1h"])
def test_many_values_within_the_stated_errors(tools, kind):
    random = numpy.random.default_rng(16)
    count = 20000
    values = numpy.exp(random.normal(0, 3, count)) * random.choice([-1, 1, 1], count)
    frame = pandas.DataFrame({"t": numpy.sort(random.integers(0, 3600000, count)), "k": 0, "v": values, "i": random.integers(0, 2**60, count),
                              "s": [f"word {n}" for n in random.zipf(1.3, count) % 5000]})
    results, _ = run(tools, f"window {kind}: p1(v) as p1, median(v) as p50, p99(v) as p99, p100(v) as p100, distinct(i) as n, distinct(s) as m, "
                            f"top(s, 5) as top, count() as all | where all == {count}", frame)
    result, = results
    counts = frame.s.value_counts()
    for name, share in (("p1", 0.01), ("p50", 0.5), ("p99", 0.99), ("p100", 1.0)):
        assert quantile_near(result[name], frame.v, share), name
    exact = kind.startswith("sliding")
    for found, true in ((result["n"], frame.i.nunique()), (result["m"], frame.s.nunique())):
        assert found == true if exact else abs(found / true - 1) < 3 * 0.0115
    bound = 0 if exact else count / 128
    assert [one["value"] for one in result["top"]] == [value for value, _ in counts.head(5).items()]
    assert all(counts[one["value"]] <= one["count"] <= counts[one["value"]] + bound for one in result["top"])
