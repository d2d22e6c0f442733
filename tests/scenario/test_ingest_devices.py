"""Devices behind a source: who is there and who is not, by silence and by last wills, told once over kills."""

import json
import os
import random
import subprocess
import sys
import threading
import time

import paho.mqtt.client
import pytest

import support
from instance import control  # noqa: F401
from mqtt_support import Mosquitto, Runs
from pipeline import Pipeline
from runs_support import QUICK


@pytest.fixture(scope="module")
def server():
    server = Mosquitto()
    yield server
    server.close()


def news(tool, *names):
    """(device, state, reason) of the news, in order; of the given devices only."""
    found = [event for event in tool.events if event.get("@stream", "").endswith(".devices")]
    return [(event["device"], event["state"], event["reason"]) for event in found if not names or event["device"] in names]


def wait_news(tool, count, *names):
    support.wait_for(lambda: len(news(tool, *names)) >= count, lambda: f"{count} news; {len(news(tool))} have come, at last {news(tool)[-20:]}; {tool.err[-1000:]}", 40)
    return news(tool, *names)


def subscribed(server, tools, *arguments):
    before = server.count("Sending SUBACK")
    tool = tools.start("ingest", *arguments, *QUICK)
    support.wait_for(lambda: server.count("Sending SUBACK") > before, lambda: f"a subscription; {tool.err}")
    return tool


@pytest.mark.parametrize("field, events, expected", [
    ("d", [{"d": "a"}, {"d": 7}, {"d": "a"}, {"d": None}, {}, {"d": ["x"]}, {"d": ""}, {"d": "x" * 200}], ["a", "7"]),
    ("site,d", [{"site": "s", "d": "a"}, {"site": "t", "d": "a"}, {"d": "a"}], ["s/a", "t/a"]),
    ("meta.id", [{"meta": {"id": "m"}}, {"meta.id": "n"}, {"meta": 5}], ["m", "n"])])
def test_any_source_has_devices_by_a_field(tools, field, events, expected):
    tool = tools.start("ingest", "-", "--device", field, input="".join(json.dumps(event) + "\n" for event in events))
    assert tool.wait() == 0, tool.err
    assert news(tool) == [(name, "online", "first message") for name in expected]
    assert [event for event in tool.events if "@stream" not in event] == events
    first = next(event for event in tool.events if "@stream" in event)
    assert first["@stream"] == "stdin.devices" and first["interval"] is None and first["since"] == first["last_seen"]


def test_data_cannot_pass_for_news_of_devices(tools):
    tool = tools.start("ingest", "-", "--device", "d", input='{"@stream": "stdin.devices", "device": "x", "state": "offline"}\n{"d": "a"}\n')
    assert tool.wait() == 0 and news(tool) == [("a", "online", "first message")]


def test_who_falls_silent_is_late_then_offline_then_back(tools):
    tool = tools.start("ingest", "-", "--device", "d", "--device-floor", "100ms", "--device-offline", "8", pipe=True)
    silence = 0.5                                                          # longer each time: what comes again and again becomes the rhythm
    while "late" not in [state for _, state, _ in news(tool)]:             # until it knows the rhythm, and some silence is too long for it
        tool.write('{"d": "quiet"}\n')
        count = tool.out.count(b'"d"')
        support.wait_for(lambda: tool.out.count(b'"d"') > count or news(tool), lambda: tool.err)
        time.sleep(0.12 if tool.out.count(b'"d"') < 8 else (silence := 2 * silence))
    support.wait_for(lambda: news(tool)[-1][1] == "offline", lambda: f"{news(tool)}; {tool.err}", 40)
    tool.write('{"d": "quiet"}\n')
    support.wait_for(lambda: news(tool)[-1] == ("quiet", "back", "message"), lambda: f"{news(tool)}; {tool.err}")
    states = " ".join(state for _, state, _ in news(tool))
    assert support.re.fullmatch("online( late( offline)? back)* late offline back", states), states
    late = [event for event in tool.events if event.get("state") == "late"][0]
    assert late["interval"] >= 0.1 and late["since"] > late["last_seen"]


class Device:
    """A client with a last will, in a process of its own so that it can be killed."""

    PROGRAM = """
import sys, paho.mqtt.client
port, name, base, will = int(sys.argv[1]), *sys.argv[2:]
client = paho.mqtt.client.Client(client_id=name)
client.will_set(f"{base}/{name}/{will}", "Offline", qos=1, retain=True)
def connected(client, *rest):
    client.publish(f"{base}/{name}/{will}", "Online", qos=1, retain=True)
    client.publish(f"{base}/{name}/SENSOR", '{"n": 1}', qos=1)
client.on_connect = connected
client.connect("127.0.0.1", port)
client.loop_forever()
"""

    def __init__(self, server, name, base, will="LWT"):
        self.process = subprocess.Popen([sys.executable, "-c", self.PROGRAM, str(server.port), name, base, will], preexec_fn=support._die_with_parent)

    def kill(self):
        self.process.kill()
        self.process.wait(30)


def test_a_last_will_that_the_server_sends_says_offline(tools, server):
    tool = subscribed(server, tools, server.url("tele/+/SENSOR"), "--topic-fields", "-,device", "--device", "device", "--presence", "tele/{device}/LWT")
    device = Device(server, "plug", "tele")
    try:
        assert wait_news(tool, 1) == [("plug", "online", "presence")]
        support.wait_for(lambda: any(event.get("n") == 1 for event in tool.events), lambda: tool.err)
    finally:
        device.kill()
    assert wait_news(tool, 2)[1] == ("plug", "offline", "presence")
    device = Device(server, "plug", "tele")
    try:
        assert wait_news(tool, 3)[2] == ("plug", "back", "presence")
    finally:
        device.kill()
    assert wait_news(tool, 4)[3] == ("plug", "offline", "presence")
    assert [event for event in tool.events if "@stream" not in event] == [{"n": 1, "device": "plug"}] * 2


def test_what_the_server_kept_is_no_sign_of_life(tools, server):
    server.publish(("kept/old/LWT", "Offline"), ("kept/old/SENSOR", '{"n": 0}'), ("kept/new/SENSOR", '{"n": 0}'), retain=True)
    tool = subscribed(server, tools, server.url("kept/+/SENSOR"), "--topic-fields", "-,device", "--device", "device", "--presence", "kept/{device}/LWT")
    server.publish(("kept/last/SENSOR", '{"n": 9}'))
    support.wait_for(lambda: ("last", "online", "first message") in news(tool), lambda: f"{news(tool)}; {tool.err}")
    assert sorted(news(tool)) == [("last", "online", "first message"), ("old", "offline", "presence")]
    assert sum(event.get("n") == 0 for event in tool.events) == 2


@pytest.mark.parametrize("retained", ["yes", "no"])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_presence_as_gateways_have_it(tools, server, directory, protocol, retained):
    base = f"z/{protocol}/{retained}"
    server.publish((f"{base}/kitchen/lamp/availability", '{"state": "online"}'), (f"{base}/x/data", "1"), retain=True)
    tool = subscribed(server, tools, server.url(f"{base}/+/data"), "--protocol", protocol, f"--retained={retained}", "--device", "device", "--topic-fields",
                      "-,-,-,device", "--presence", f"{base}/{{device}}/{{device}}/availability", "--presence", f"{base}/{{device}}/online", "--dead-letter", "dead")
    assert wait_news(tool, 1) == [("kitchen/lamp", "online", "presence")]
    server.publish((f"{base}/kitchen/lamp/availability", '{"state":"offline"}'), (f"{base}/shelly/online", "false"), (f"{base}/shelly/online", "true"),
                   (f"{base}/shelly/online", b""), (f"{base}/shelly/online", "perhaps"), (f"{base}/shelly/online", "false"), (f"{base}/end/data", "7"))
    assert wait_news(tool, 6) == [("kitchen/lamp", "online", "presence"), ("kitchen/lamp", "offline", "presence"), ("shelly", "offline", "presence"),
                                  ("shelly", "back", "presence"), ("shelly", "offline", "presence"), ("end", "online", "first message")]
    assert [letter["text"] for letter in support.lines_of(directory / "dead")] == ["perhaps"]
    assert [event["value"] for event in tool.events if "value" in event] == ([1, 7] if retained == "yes" else [7])


def test_while_the_server_is_away_nobody_is_silent(tools):
    server = Mosquitto()
    try:
        tool = subscribed(server, tools, server.url("t/+"), "--topic-fields", "-,device", "--device", "device", "--device-floor", "50ms",
                          "--device-late", "3", "--device-offline", "1000")
        publisher = server.publisher()
        for i in range(8):
            publisher.publish(("t/a", str(i)))
            time.sleep(0.06)
        publisher.close()
        server.stop()
        tool.wait_err("trying again")
        before = len(news(tool))
        time.sleep(1)                                      # the test of what does not happen: far beyond three intervals
        assert len(news(tool)) == before
    finally:
        server.close()


def test_the_number_of_devices_is_bounded(tools):
    names = [f"d{i}" for i in range(50)]
    tool = tools.start("ingest", "-", "--device", "d", "--device-limit", "10", "--batch-size", "1", input="".join(f'{{"d": "{name}"}}\n' for name in names))
    assert tool.wait() == 0 and [device for device, _, _ in news(tool)] == names
    assert "more than 10 devices" in tool.err


def device_runs(tools, directory, server, *arguments):
    return Runs(tools, directory, server, "k/+/data", "--topic-fields", "-,device", "--device", "device", "--presence", "k/{device}/LWT", "--qos", "2", "--name",
                "plant", "--sync-interval", "5ms", *arguments)


def test_a_restart_keeps_the_table_and_tells_nothing_twice(tools, server, directory):
    runs = device_runs(tools, directory, server)
    tool = runs.first()
    server.publish(("k/a/data", "1"), ("k/b/data", "1"), ("k/b/LWT", "offline"), qos=2)
    assert wait_news(runs.receiver, 3, "a", "b") == [("a", "online", "first message"), ("b", "online", "first message"), ("b", "offline", "presence")]
    tool.kill()
    tool = runs.start()
    server.publish(("k/a/data", "2"), ("k/b/LWT", "offline"), ("k/c/data", "1"), ("k/b/data", "2"), qos=2)
    assert wait_news(runs.receiver, 5)[3:] == [("c", "online", "first message"), ("b", "back", "message")]
    assert tool.terminate() == 0
    audit = json.loads((directory / "state" / "ledger").read_text())
    assert audit["in"] + audit["created"] == audit["out"] and audit["created"] == 5
    tool = runs.start()
    server.publish(("k/b/data", "3"), ("k/b/LWT", "offline"), qos=2)
    assert wait_news(runs.receiver, 6)[5:] == [("b", "offline", "presence")]


def test_news_are_in_the_ledger_although_it_was_killed_right_behind_them(tools, directory):
    """They stand behind the note that tells what had been counted before them."""
    (directory / "in.ndjson").write_bytes(support.ndjson({"d": f"d{n}"} for n in range(10)))
    link = f"ipc://{directory}/l"
    receiver = tools.start("process", "where true", "--from", link, "--to", "-", "--stay")
    ingest = ("ingest", "in.ndjson", "--follow", "--device", "d", "--state", "state", "--to", f"@{link}", "--sync-interval", "5ms")
    tool = tools.start(*ingest)
    receiver.wait_events(20)
    tool.kill()
    tool = tools.start(*ingest, "--ready-fd", "2")
    tool.wait_err("\n")
    assert tool.terminate() == 0
    ledger = json.loads((directory / "state" / "ledger").read_text())
    assert (ledger["in"], ledger["created"], ledger["out"]) == (10, 10, 20)


def test_news_are_told_once_over_kills(tools, server, directory):
    """Each of many devices says offline, online, offline ...: told are exactly these changes, in order, whatever is killed when."""
    runs, rng, turns, devices = device_runs(tools, directory, server, "--spool-limit", "1MiB", "--batch-size", "5"), random.Random(4), 30, 20
    tool = runs.first()

    def publish():
        publisher = server.publisher()
        for turn in range(turns):
            publisher.publish(*((f"k/x{d}/{'LWT' if turn % 2 else 'data'}", "offline" if turn % 2 else json.dumps({"n": turn, "text": "y" * 3000}))
                                for d in range(devices)), qos=2)
            time.sleep(0.03)
        publisher.close()
    thread, kills = threading.Thread(target=publish), 0
    thread.start()
    while thread.is_alive() or not kills:
        time.sleep(rng.uniform(0.05, 0.3))
        tool.kill()
        kills += 1
        tool = runs.start()
    thread.join()
    names = [f"x{d}" for d in range(devices)]
    wait_news(runs.receiver, turns * devices, *names)
    server.publish(("k/end/data", "1"), qos=2)
    wait_news(runs.receiver, 1, "end")
    expected = ["online", "offline"] + ["back", "offline"] * (turns // 2 - 1)
    for name in names:
        assert [state for _, state, _ in news(runs.receiver, name)] == expected, name


@pytest.mark.parametrize("arguments, words", [
    (("-", "--device", ""), "--device"), (("-", "--device", "a,,b"), "a name is missing"), (("-", "--device", "a", "--device-late", "20"), "below --device-late"),
    (("mqtt://h/t", "--device", "d", "--presence", "t/LWT"), r"\{device\}"), (("mqtt://h/t", "--device", "d", "--presence", "{device}/#"), r"\{device\}"),
    (("mqtt://h/t", "--device", "d", "--presence", "a{device}/+x"), "whole level"), (("mqtt://h/t", "--presence", "{device}/LWT"), "--presence needs --device"),
    (("-", "--device", "d", "--device-limit", "0"), "device-limit")])
def test_mistakes_are_told_before_anything_starts(tools, arguments, words):
    done = tools.run("ingest", *arguments, "--check")
    assert done.status == 64 and support.re.search(words, done.err), done.err


def test_the_ready_pipeline_alerts_when_a_device_dies(control, directory, server):
    content = json.loads((support.ROOT / "pipelines/mqtt.json").read_text())
    content["server"] = {"port": 0}
    content["data_sources"][0]["url"] = server.url("plant/+/+/#")
    (directory / "config.json").write_text(json.dumps(content))
    before = server.count("Sending SUBACK")
    control.good("start")
    support.wait_for(lambda: server.count("Sending SUBACK") > before, "the subscription", 40)
    client = Device(server, "press", "plant/hall", "status")
    try:
        presence, alerts = directory / "data/presence.ndjson", directory / "data/alerts.ndjson"
        support.wait_for(lambda: support.lines_so_far(presence), "the device's coming", 40)
    finally:
        client.kill()
    support.wait_for(lambda: support.lines_so_far(alerts), lambda: f"an alert; {support.lines_so_far(presence)}", 40)
    assert [(one["device"], one["state"], one["reason"]) for one in support.lines_so_far(presence)] == [("hall/press", "online", "presence"),
                                                                                                    ("hall/press", "offline", "presence")]
    first = support.lines_so_far(alerts)[0]
    assert (first["alert"], first["state"], first["key"], first["message"]) == ("gone", "firing", {"device": "hall/press"}, "hall/press is offline (presence)")
    client = Device(server, "press", "plant/hall", "status")
    try:
        support.wait_for(lambda: len(support.lines_so_far(alerts)) > 1, "the alert's end", 40)
    finally:
        client.kill()
    assert support.lines_so_far(alerts)[1]["state"] == "cleared"
    control.good("stop")


def test_rest_lists_filters_and_pages_the_table(tools, directory):
    def append(*devices):
        with open(directory / "in.ndjson", "a") as file:
            file.writelines(json.dumps({"site": site, "device": device}) + "\n" for site, device in devices)
    append(*(("berlin", f"d{i:03}") for i in range(150)), ("rome", "Pump"), ("rome", "Pump"))
    source = {"path": "in.ndjson", "follow": True, "device": "site,device", "device_patience": "3650d"}
    pipeline = Pipeline(tools, sources=[{"name": "plant", **source}, {"name": "other", **source, "device": "device", "device_limit": 5},
                                        {"name": "none", "type": "sensors", "rate": 1}]).ready()
    whole = lambda query="": pipeline.get(f"/api/devices{query}")
    support.wait_for(lambda: whole("?source=plant&limit=0")["total"] == 151 and whole("?source=other")["forgotten"] == 146, lambda: str(whole("?limit=0")))
    found = whole("?limit=1000")
    assert found["total"] == 156 and found["next"] is None and found["counts"] == {"online": 156, "late": 0, "offline": 0} and found["forgotten"] == 146
    order = [(one["source"], one["device"]) for one in found["devices"]]
    assert order == sorted(order) and order[:2] == [("other", "Pump"), ("other", "d146")] and order[-1] == ("plant", "rome/Pump")
    pump = found["devices"][-1]
    assert {key: pump[key] for key in ("status", "reason", "messages", "interval")} == {"status": "online", "reason": "first message", "messages": 2, "interval": None}
    assert pump["first_seen"] == pump["since"] <= pump["last_seen"] and pump["rate"] >= 0
    pages, offset = [], 0
    while offset is not None:
        page = whole(f"?source=plant&limit=60&offset={offset}")
        pages.append([one["device"] for one in page["devices"]])
        offset = page["next"]
    assert [len(page) for page in pages] == [60, 60, 31] and sum(pages, []) == [name for source, name in order if source == "plant"]
    assert [one["device"] for one in whole("?search=PUMP&source=plant")["devices"]] == ["rome/Pump"]
    assert whole("?status=offline")["devices"] == [] and whole("?status=offline")["counts"]["online"] == 156
    assert whole("?source=nobody")["total"] == 0 and whole("?offset=1000")["devices"] == []
    for query in ("limit=1001", "limit=x", "offset=-1", "status=gone"):
        assert pipeline.error("GET", f"/api/devices?{query}", 400)["code"] == "bad_query"
