"""How well anomaly finds what is known to be there: in series made here, and in the Numenta Anomaly Benchmark where that lies beside the repository."""

import random

import pytest

import anomaly_nab
import anomaly_series
from anomaly_series import START, Series, judge, total
from support import lines_of, ndjson, tool_path

SEEDS = [11, 12]
# What each method is made for: its kinds of anomalies, the least part of them that it finds, and how many false alarms in 1000 values at most.
CLAIMS = {
    "": (None, 0.9, 1.2),
    "method zscore threshold 5": (["spikes", "dropout", "constant_then_not", "clean_noise", "clean_constant"], 0.9, 0.5),
    "method mad threshold 5": (["spikes", "dropout", "clean_noise", "clean_constant"], 0.9, 1.0),
    "method ewma threshold 5 rest 100": (["variance", "clean_noise", "clean_constant"], 0.5, 1.0),
    "method seasonal threshold 5": (["daily_spike", "clean_constant", "clean_noise", "clean_daily"], 0.9, 2.0),
}


@pytest.fixture(scope="module")
def made():
    return anomaly_series.make(SEEDS)


def kind_of(name):
    return name.rsplit("-", 1)[0]


@pytest.mark.parametrize("method", CLAIMS)
def test_a_method_finds_what_it_is_made_for(made, method):
    kinds, recall, alarms = CLAIMS[method]
    series = [one for one in made if kinds is None or kind_of(one.name) in kinds]
    verdicts = anomaly_series.run(tool_path("process"), f"anomaly value {method}", series)
    verdict = total(verdicts.values())
    assert verdict.recall >= recall, {name: v for name, v in verdicts.items() if v.missed}
    assert 1000 * verdict.false / verdict.values <= alarms, {name: v for name, v in verdicts.items() if v.false}


def test_what_is_regular_gives_no_alarm(made):
    series = [one for one in made if kind_of(one.name) in ("clean_constant", "clean_counter", "clean_square")]
    verdicts = anomaly_series.run(tool_path("process"), "anomaly value", series)
    assert len(verdicts) == 3 * len(SEEDS) and not any(v.false for v in verdicts.values()), verdicts


def test_gaps_and_uneven_times_are_borne():
    """Values come every 5 s to 2 min, days are missing."""
    rng, time, times, values = random.Random(3), START, [], []
    for i in range(5000):
        time += rng.choice((5, 60, 120)) + (3 * 86400 if i % 1500 == 1499 else 0)
        times.append(time)
        values.append(rng.gauss(20, 1) + (15 if i == 4000 else 0))
    one = Series("uneven-0", times, values, [(4000, 4004)], 800)
    verdict = anomaly_series.run(tool_path("process"), "anomaly value", [one])["uneven-0"]
    assert verdict.missed == 0
    assert verdict.false <= 10


def test_what_comes_later_changes_nothing(tools):
    """No look ahead: the first thousand results are the same whatever follows."""
    rng = random.Random(8)
    events = [{"@timestamp": START + 60 * i, "value": rng.gauss(0, 1)} for i in range(1000)]
    for method in ("auto", "zscore", "mad", "ewma", "seasonal"):
        program = f"anomaly value method {method}"
        alone = lines_of(tools.run("process", program, input=ndjson(events)).out)
        rest = [{"@timestamp": START + 60 * i, "value": 1e6 * rng.random()} for i in range(1000, 1200)]
        assert lines_of(tools.run("process", program, input=ndjson(events + rest)).out)[:1000] == alone


def test_the_benchmark_is_passed_where_it_is(tmp_path):
    """The floors are what was reached, less 1. Without the benchmark: the same claim on longer series of the made kinds."""
    place = anomaly_nab.find()
    if place:
        anomaly_nab.detect(place, tool_path("process"), "anomaly value", tmp_path)
        scores = {profile: anomaly_nab.score(place, tmp_path, profile)[0] for profile in anomaly_nab.PROFILES}
        assert all(scores[profile] >= floor for profile, floor in {"standard": 70.2, "low_fp": 62.7, "low_fn": 74.9}.items()), scores
    else:
        verdict = total(anomaly_series.run(tool_path("process"), "anomaly value", anomaly_series.make(range(20, 24))).values())
        assert verdict.recall >= 0.9 and verdict.precision >= 0.3, verdict


def test_an_alarm_is_judged_by_its_window():
    one = Series("one-0", list(range(100)), [0] * 100, [(50, 55), (80, 81)], 10)
    assert judge(one, [5, 20, 52, 54, 90]) == (1, 1, 2, 2, 90)
