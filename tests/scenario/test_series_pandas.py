"""The operators on series against pandas and against sums made afresh: moving over time and over a number of events, ewma, delta and rate, on random events
of several keys, with nulls, equal times, values far from zero, and events that come late."""

import json
import math
import random
import statistics

import numpy
import pandas
import pytest

from support import lines_of, ndjson

RELATIVE = 1e-9
START = pandas.Timestamp("2026-01-02T03:00:00Z")
FUNCTIONS = ["sum", "avg", "min", "max", "stddev", "var", "median", "count"]


def make_events(seed, count, offset=0.0, scale=10.0, keys=4, late=0.0, nulls=0.05):
    """Events in the order of their arrival, about one a second; `late` of them up to 20 s behind."""
    rng = random.Random(seed)
    now, events = 0, []
    for number in range(count):
        now += rng.choice([0, 1, 250, 1000, 2000, 3333]) * 1_000_000
        time = now - (rng.randrange(20_000) * 1_000_000 if rng.random() < late else 0)
        value = None if rng.random() < nulls else offset + rng.gauss(0, scale) if rng.random() < 0.8 else int(offset) + rng.randrange(-20, 20)
        events.append({"ns": time, "k": f"key{rng.randrange(keys)}", "v": value, "n": number})
    return events


def run(tools, program, events):
    lines = [{"@timestamp": (START + pandas.Timedelta(event["ns"], "ns")).isoformat(), **{name: event[name] for name in event if name != "ns"}} for event in events]
    done = tools.run("process", program, input=ndjson(lines))
    assert done.status == 0, done.err
    results = lines_of(done.out)
    assert [result["n"] for result in results] == [event["n"] for event in events]
    return results


def is_close(found, wanted, what, scale=0.0):
    """`scale`: the size of what was added up, where the result may have cancelled to nothing."""
    if wanted is None or (isinstance(wanted, float) and math.isnan(wanted)):
        assert found is None, (what, found, wanted)
    else:
        assert found is not None and math.isclose(found, wanted, rel_tol=RELATIVE, abs_tol=RELATIVE * scale * 1e-3), (what, found, wanted)


def exact(function, values):
    """Of a window's values, without rounding on the way."""
    values = [value for value in values if value is not None and not (isinstance(value, float) and math.isnan(value))]
    if function == "count":
        return len(values)
    if not values or (function in ("stddev", "var") and len(values) < 2):
        return None
    if function == "stddev":
        return math.sqrt(statistics.variance(values))
    return {"sum": math.fsum, "avg": statistics.fmean, "min": min, "max": max, "var": statistics.variance, "median": statistics.median}[function](values)


def frame_of(events):
    frame = pandas.DataFrame(events)
    frame["v"] = frame["v"].astype(float)
    frame.index = pandas.to_datetime(START) + pandas.to_timedelta(frame["ns"], unit="ns")
    return frame


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("window", ["7s", "60s", 1, 2, 7, 100])
def test_moving_is_what_pandas_computes(tools, window, seed):
    events = make_events(seed, 3000)
    calls = ", ".join(f"{function}(v)" for function in FUNCTIONS)
    results = run(tools, f"moving {calls} over {window} by k", events)
    names = {"avg": "mean", "stddev": "std"}
    for key, part in frame_of(events).groupby("k"):
        rolling = part["v"].rolling(window, min_periods=1)
        for function in FUNCTIONS:
            column = getattr(rolling, names.get(function, function))()
            if function == "count":
                column = column.fillna(0)
            for number, wanted in zip(part["n"], column):
                if function in ("stddev", "var") and (wanted == 0 or (results[number]["count_v"] < 100 and wanted < 1e-3)):
                    continue                                # pandas subtracts what leaves: there its rounding shows
                is_close(results[number][f"{function}_v"], wanted, (key, number, function), scale=1000)


@pytest.mark.parametrize("offset,scale", [(0.0, 1.0), (1e9, 1.0), (-1e12, 10.0), (1e6, 1e-3)])
@pytest.mark.parametrize("window", ["10s", 50])
def test_moving_is_exact_far_from_zero(tools, window, offset, scale):
    events = make_events(11, 1200, offset, scale)
    calls = ", ".join(f"{function}(v)" for function in FUNCTIONS)
    results = run(tools, f"moving {calls} over {window} by k", events)
    for _, part in frame_of(events).groupby("k"):
        rolling = part["v"].rolling(window, min_periods=0)
        for function in FUNCTIONS:
            wanted = rolling.apply(lambda values, function=function: float("nan") if (x := exact(function, values)) is None else x, raw=True)
            for number, value in zip(part["n"], wanted):
                is_close(results[number][f"{function}_v"], value, (number, function))


@pytest.mark.parametrize("seed", [5, 6, 7])
@pytest.mark.parametrize("late", [0.05, 0.5])
def test_late_events_are_in_the_window_where_their_time_is(tools, seed, late):
    events = make_events(seed, 900, late=late)
    calls = ", ".join(f"{function}(v)" for function in FUNCTIONS)
    results = run(tools, f"moving {calls}, count() as all over 12s by k", events)
    seen, span = {}, 12_000_000_000
    for event, result in zip(events, results):
        mine = seen.setdefault(event["k"], [])
        newest = max([event["ns"]] + [other["ns"] for other in mine])
        mine.append(event)
        inside = [other["v"] for other in mine if other["ns"] > newest - span]
        assert result["all"] == len(inside)
        for function in FUNCTIONS:
            is_close(result[f"{function}_v"], exact(function, inside), (event["n"], function), scale=1000)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1])
def test_ewma_with_a_weight_is_that_of_pandas(tools, alpha):
    events = make_events(21, 3000)
    results = run(tools, f"moving ewma(v, {alpha}) as e by k", events)
    for _, part in frame_of(events).groupby("k"):
        wanted = part["v"].ewm(alpha=alpha, adjust=False, ignore_na=True).mean()
        for number, value in zip(part["n"], wanted):
            is_close(results[number]["e"], value, number, scale=100)


@pytest.mark.parametrize("half_life,late", [("5s", 0.0), ("1m", 0.0), ("5s", 0.3)])
def test_ewma_with_a_half_life_weighs_by_age(tools, half_life, late):
    events = make_events(22, 1500, late=late)
    results = run(tools, f"moving ewma(v, {half_life}) as e by k", events)
    for _, part in frame_of(events).groupby("k"):
        ns = pandas.Timedelta(half_life.replace("m", "min")).value
        if not late:
            some = part[part["v"].notna()]
            wanted = dict(zip(some["n"], some["v"].ewm(halflife=pandas.Timedelta(ns, "ns"), times=pandas.to_datetime(some["ns"])).mean()))
            for number, value in wanted.items():
                is_close(results[number]["e"], value, number, scale=100)
        times, values, last = [], [], None
        for time, value, number in zip(part["ns"], part["v"], part["n"]):
            if not math.isnan(value):
                times.append(time)
                values.append(value)
                weights = numpy.exp2(-(max(times) - numpy.array(times, dtype=float)) / ns)
                last = float((weights * numpy.array(values)).sum() / weights.sum())
            is_close(results[number]["e"], last, number, scale=100)


def test_a_long_window_stays_within_its_bound(tools):
    """100,000 events of a key at most: the oldest leaves before its time, and that is told."""
    lines = [json.dumps({"@timestamp": (START + pandas.Timedelta(n, "us")).isoformat(), "v": n}) for n in range(100_003)]
    done = tools.run("process", "moving count() as c, sum(v), min(v), median(v) over 1h | where c >= 99999 or min_v > 0", input=("\n".join(lines) + "\n").encode())
    assert done.status == 0, done.err
    results = lines_of(done.out)
    assert [result["c"] for result in results] == [99_999] + 4 * [100_000]
    assert [result["min_v"] for result in results] == [0, 0, 1, 2, 3]
    assert results[-1]["sum_v"] == sum(range(3, 100_003)) and results[-1]["median_v"] == (3 + 100_002) / 2
    assert "more than 100000 events in the window of a key" in done.err


@pytest.mark.parametrize("seed", [31, 32])
def test_delta_and_rate_are_those_of_pandas(tools, seed):
    events = make_events(seed, 3000)
    results = run(tools, "delta v by k | rate v by k", events)
    for _, part in frame_of(events).groupby("k"):
        some = part[part["v"].notna()]
        difference, seconds = some["v"].diff(), some["ns"].diff() / 1e9
        for number, apart, dt in zip(some["n"], difference, seconds):
            is_close(results[number]["delta_v"], apart, number)
            is_close(results[number]["rate_v"], apart / dt if dt else None, number)
        for number in part[part["v"].isna()]["n"]:
            assert results[number]["delta_v"] is None and results[number]["rate_v"] is None


@pytest.mark.parametrize("seed", [33, 34])
def test_rate_of_a_counter_adds_up_to_what_was_counted(tools, seed):
    rng = random.Random(seed)
    events, counter, now = [], 0, 0
    for number in range(1000):
        now += rng.randrange(1, 5000) * 1_000_000
        reset, more = rng.random() < 0.05, rng.randrange(100)
        counter = more if reset else counter + more
        events.append({"ns": now, "v": counter, "n": number})
    results = run(tools, "delta v counter | rate v counter", events)
    fell = sum(now["v"] < before["v"] for before, now in zip(events, events[1:]))
    assert fell > 10
    for before, event, result in zip(events, events[1:], results[1:]):
        wanted = event["v"] if event["v"] < before["v"] else event["v"] - before["v"]
        assert result["delta_v"] == wanted and wanted >= 0
        is_close(result["rate_v"], wanted * 1e9 / (event["ns"] - before["ns"]), event["n"])


def least_squares(points):
    """The slope through (seconds, value), by numpy."""
    if len({seconds for seconds, _ in points}) < 2:
        return None
    seconds = numpy.array([point[0] for point in points])
    values = numpy.array([point[1] for point in points])
    return float(numpy.linalg.lstsq(numpy.vstack([seconds - seconds.mean(), numpy.ones(len(points))]).T, values - values.mean(), rcond=None)[0][0])


def mann_kendall(values):
    """S and p as the textbook has them: all pairs, groups of ties."""
    n = len(values)
    score = sum((values[j] > values[i]) - (values[j] < values[i]) for i in range(n) for j in range(i + 1, n))
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in pandas.Series(values).value_counts())) / 18
    z = 0 if score == 0 or variance == 0 else (score - math.copysign(1, score)) / math.sqrt(variance)
    return score, math.erfc(abs(z) / math.sqrt(2))


def check_trend(result, points, level, what):
    slope, trend, p = result["v_slope"], result["v_trend"], result["v_p"]
    if (wanted := least_squares(points)) is None:
        assert slope is None
    else:
        values = [value for _, value in points]
        seconds = [second for second, _ in points]
        assert math.isclose(slope, wanted, rel_tol=RELATIVE, abs_tol=1e-11 * (1 + max(values) - min(values)) / (max(seconds) - min(seconds))), (what, slope, wanted)
    if len(points) < 3:
        assert trend is None and p is None
        return
    score, wanted = mann_kendall([value for _, value in points])
    is_close(p, wanted, (what, "p"))
    assert trend == ("flat" if wanted >= level else "up" if score > 0 else "down"), what


def drifting(seed, count, late=0.0):
    events = make_events(seed, count, keys=2, late=late)
    rng = random.Random(seed)
    slope = 0
    for event in events:
        if rng.random() < 0.02:
            slope = rng.choice([-1, 0, 0, 1])
        if event["v"] is not None:
            event["v"] = round(slope * event["n"] + event["v"]) if rng.random() < 0.5 else slope * event["n"] + event["v"]
    return events


@pytest.mark.parametrize("seed,late", [(41, 0.0), (42, 0.0), (43, 0.3)])
@pytest.mark.parametrize("most", [2, 5, 40])
def test_trend_over_a_number_of_events(tools, seed, late, most):
    events = drifting(seed, 400, late)
    results = run(tools, f"trend v over {most} by k significance 0.1", events)
    kept = {}
    for event, result in zip(events, results):
        mine = kept.setdefault(event["k"], [])
        if event["v"] is not None:
            mine.append((event["ns"], event["v"]))
            mine.sort(key=lambda point: point[0])           # stable: of equal times the first to come stands first
            del mine[:-most]
        check_trend(result, [(ns / 1e9, value) for ns, value in mine], 0.1, event["n"])
    assert {result["v_trend"] for result in results} >= ({"up", "down", "flat"} if most > 2 else {None})


@pytest.mark.parametrize("seed,late", [(44, 0.0), (45, 0.0), (46, 0.3)])
@pytest.mark.parametrize("span", [10, 60, 1200])
def test_trend_over_time_is_that_of_the_means_of_slices(tools, seed, late, span):
    events = drifting(seed, 350, late)
    results = run(tools, f"trend v over {span}s by k", events)
    start, slice_length, seen = START.value, span * 1_000_000_000 // 120, {}
    for event, result in zip(events, results):
        mine = seen.setdefault(event["k"], [])
        mine.append(event)
        newest, slices = max(other["ns"] for other in mine), {}
        for other in mine:
            begin = (start + other["ns"]) // slice_length * slice_length - start
            if other["v"] is not None and begin > newest - span * 1_000_000_000:
                slices.setdefault(begin, []).append(other)
        points = [(statistics.fmean(other["ns"] for other in slices[begin]) / 1e9, sum(other["v"] for other in slices[begin]) / len(slices[begin]))
                  for begin in sorted(slices)]
        check_trend(result, points, 0.05, event["n"])
    assert len({result["v_trend"] for result in results}) >= (3 if span == 1200 else 2)     # null, flat, up or down
