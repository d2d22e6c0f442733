"""ingest: generators and this machine."""

import os
import time

import support


def test_the_same_seed_gives_the_same_events(tools):
    url = "generator:{}?rate=0&count=5000&seed={}&start=2026-01-01T00:00:00Z"
    for kind in ("sensors", "users"):
        first, again, other = (tools.run("ingest", url.format(kind, seed)) for seed in (1, 1, 2))
        assert first.status == 0, first.err
        assert first.out.count(b"\n") == 5000
        assert first.out == again.out
        assert first.out != other.out
    unseeded = [tools.run("ingest", "generator:users?rate=0&count=100").out for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_the_seed_decides_whatever_the_rate_and_the_batches(tools):
    fast = tools.run("ingest", "generator:sensors?rate=0&count=300&seed=5")
    slow = tools.run("ingest", "generator:sensors?rate=2000&count=300&seed=5", "--batch-size", "7")
    assert fast.out == slow.out


def test_sensors_wander_slowly_in_a_plausible_range(tools):
    tool = tools.run("ingest", "generator:sensors?rate=0&count=20000&seed=9&sensors=20")
    last = {}
    locations = {}
    for event in tool.events:
        assert list(event) == ["sensor_id", "temperature", "humidity", "pressure", "location"]
        sensor = event["sensor_id"]
        assert locations.setdefault(sensor, event["location"]) == event["location"]
        assert 0 < event["temperature"] < 60 and 0 < event["humidity"] < 100 and 950 < event["pressure"] < 1080
        for field, step in (("temperature", 0.6), ("humidity", 0.8), ("pressure", 0.3)):
            assert event[field] == round(event[field], 2)
            if sensor in last:
                assert abs(event[field] - last[sensor][field]) < step
        last[sensor] = event
    assert len(last) == 20 and len(set(locations.values())) == 5


def test_users_live_in_sessions(tools):
    tool = tools.run("ingest", "generator:users?rate=0&count=20000&seed=9&users=50")
    sessions = {}
    kinds = set()
    for event in tool.events:
        assert list(event) == ["user_id", "event_type", "page", "session_id", "value"]
        kinds.add(event["event_type"])
        sessions.setdefault(event["session_id"], []).append(event)
    assert kinds == {"login", "page_view", "click", "search", "add_to_cart", "purchase", "logout"}
    assert len({event["user_id"] for event in tool.events}) == 50
    for events in sessions.values():
        assert len({event["user_id"] for event in events}) == 1
        assert events[0]["event_type"] == "login"
        assert all(event["event_type"] not in ("login", "logout") for event in events[1:-1])


def test_start_and_step_set_the_event_times(tools):
    tool = tools.run("ingest", "generator:sensors?rate=0&count=3&start=2026-01-01T00:00:00Z&step=250ms")
    assert [event["@timestamp"] for event in tool.events] == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.25Z", "2026-01-01T00:00:00.5Z"]
    tool = tools.run("ingest", "generator:sensors?rate=10000&count=2&start=2026-01-01T00:00:00Z")
    assert tool.events[1]["@timestamp"] == "2026-01-01T00:00:00.0001Z"


def test_rate_is_kept_on_the_long_run(tools):
    """5000 a second: what has come after a while is what the clock says, within what a batch and a late look account for."""
    began = time.monotonic()
    tool = tools.start("ingest", "generator:sensors?rate=5000")
    tool.wait_events(2500)
    count, now = tool.out.count(b"\n"), time.monotonic()
    assert count <= (now - began) * 5000 + 1
    assert tool.terminate() == 0


def test_options_after_the_url_override_it(tools):
    assert len(tools.run("ingest", "generator:users?rate=0&count=5", "--count", "2").events) == 2


def test_generator_is_held_back_by_a_slow_receiver(tools):
    tool = tools.shell("ingest generator:sensors --rate 0 --count 400000 --seed 3 --window 64KiB | { sleep 0.3; cat; } | wc -l")
    assert tool.status == 0, tool.err
    assert int(tool.out) == 400000


def test_this_machine_in_all_kinds(tools):
    tool = tools.run("ingest", "system:?interval=100ms&count=2")
    assert tool.status == 0, tool.err
    events = tool.events
    totals = [event for event in events if event["kind"] == "system"]
    assert len(totals) == 2
    for event in totals:
        assert 0 <= event["cpu_percent"] <= 100 and 0 < event["memory_percent"] <= 100
        assert event["memory_total_bytes"] >= event["memory_used_bytes"] > 0
        assert event["uptime_s"] > 0 and event["load_1m"] >= 0
        assert event["network_receive_bytes_per_s"] >= 0 and event["disk_read_bytes_per_s"] >= 0
        assert 0 <= event["disk_percent"] <= 100
    cores = {event["core"] for event in events if event["kind"] == "core"}
    assert cores == set(range(totals[0]["cores"]))
    assert any(event["kind"] == "interface" for event in events)
    assert all(not isinstance(value, (dict, list)) for event in events for value in event.values())
    fields = {}
    for event in events:      # no field but these two means different things in different kinds
        for field in set(event) - {"kind", "host"}:
            assert fields.setdefault(field, event["kind"]) == event["kind"], field


def test_kinds_and_mounts_can_be_chosen(tools):
    tool = tools.run("ingest", "system:?interval=50ms&count=1&kinds=core,filesystem", "--mounts", "/")
    assert {event["kind"] for event in tool.events} == {"core", "filesystem"}
    assert [event["mount"] for event in tool.events if event["kind"] == "filesystem"] == ["/"]


def test_another_proc_gives_its_numbers(tools, directory):
    """What the rates are is known: two readings of files that we write."""
    proc = directory / "proc"
    (proc / "net").mkdir(parents=True)

    def write(step):
        new = proc / "new"
        new.write_text(f"cpu {100 + 30 * step} 0 {50 + 20 * step} {1000 + 50 * step} 0 0 0 0\n"
                                   f"cpu0 {100 + 30 * step} 0 {50 + 20 * step} {1000 + 50 * step} 0 0 0 0\nprocs_running 3\n")
        os.rename(new, proc / "stat")
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 250 kB\nSwapTotal: 100 kB\nSwapFree: 90 kB\n")
    (proc / "loadavg").write_text("1.50 0.25 0.10 1/2 3\n")
    write(0)
    ready, ours = os.pipe()
    tool = tools.start("ingest", "system:", "--interval", "300ms", "--proc", str(proc), "--kinds", "system", "--ready-fd", str(ours), pass_fds=(ours,))
    os.close(ours)
    assert os.read(ready, 10) == b"\n"       # the first reading is done
    os.close(ready)
    write(1)
    support.wait_for(lambda: any(event["cpu_percent"] for event in tool.events), "a rate")
    assert tool.terminate() == 0
    event = next(event for event in tool.events if event["cpu_percent"])
    assert event["cpu_percent"] == 50 and event["cpu_user_percent"] == 30 and event["cpu_system_percent"] == 20
    assert event["memory_percent"] == 75 and event["swap_percent"] == 10 and event["load_1m"] == 1.5
    assert event["processes_running"] == 3 and event["cores"] == 1


def test_machine_without_proc_is_an_error(tools):
    tool = tools.run("ingest", "system:", "--proc", "/nonexistent")
    assert tool.status == 1
    assert "/nonexistent/stat" in tool.err
