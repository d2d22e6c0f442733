"""Alerts on their way from a silent source to a sink, to REST, and through the death of the stage that watches."""

import datetime
import json

from pipeline import Pipeline
from support import lines_so_far, ndjson, wait_for


def now(seconds=0):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def test_a_source_that_says_nothing_any_more_is_noticed(tools):
    tool = tools.start("process", 'alert lost when no data for 500ms by device message "{device} is silent"', pipe=True)
    tool.write(ndjson([{"@timestamp": now(), "device": "a", "v": 1}]))
    alert = wait_for(lambda: len(tool.events) > 1 and tool.events[1], "the alert")
    assert (alert["@stream"], alert["state"], alert["message"], alert["key"]) == ("alerts", "firing", "a is silent", {"device": "a"})
    tool.write(ndjson([{"@timestamp": now(), "device": "a", "v": 2}]))
    states = lambda: [event["state"] for event in tool.events if "state" in event]
    wait_for(lambda: states()[:2] == ["firing", "cleared"], lambda: f"its end: {states()}")
    tool.close()
    assert tool.wait() == 0
    assert states().count("cleared") >= states().count("firing") - 1


def test_it_is_noticed_though_inputs_are_never_idle(tools):
    tool = tools.start("process", "alert lost when no data for 500ms", "--idle", "0", pipe=True)
    tool.write(ndjson([{"@timestamp": now(), "v": 1}]))
    wait_for(lambda: len(tool.events) > 1 and tool.events[1]["state"] == "firing", "the alert")
    assert tool.terminate() == 0


def test_a_silence_reaches_a_sink_and_rest(tools, directory):
    """A file that is followed gets one line, and then no more: rules of config.json and an operator of a program see it."""
    (directory / "in.ndjson").write_bytes(ndjson([{"@timestamp": now(), "device": "a", "v": 1}]))
    pipeline = Pipeline(
        tools, sources=[{"name": "values", "type": "file", "path": "in.ndjson", "follow": True}],
        pipelines=[{"name": "watched", "from": "values", "program": "alert silent when no data for 700ms by device severity critical"}],
        alerts=[{"name": "dead", "from": "values", "when": "no data for 500ms", "repeat_every": "1h", "expire": "2h"}],
        sinks=[{"type": "file", "path": "alerts.ndjson", "from": "alerts"}]).ready()
    path = directory / "alerts.ndjson"
    firing = lambda: {alert["alert"]: alert for alert in lines_so_far(path) if alert["state"] == "firing"}
    wait_for(lambda: set(firing()) == {"silent", "dead"}, lambda: f"both alerts, not {firing()}", 30)
    assert firing()["silent"]["key"] == {"device": "a"} and firing()["silent"]["severity"] == "critical"
    assert "key" not in firing()["dead"] and firing()["dead"]["message"] == "dead: no data for 500ms"
    shown = lambda: {alert["event"]["alert"]: alert for alert in pipeline.get("/api/alerts")["alerts"] if alert["kind"] == "alert"}
    wait_for(lambda: set(shown()) == {"silent", "dead"}, "the alerts in REST")
    assert shown()["silent"]["severity"] == "critical" and shown()["silent"]["state"] == "firing"
    assert {alert["event"]["alert"] for alert in pipeline.get("/api/alerts")["firing"]} == {"silent", "dead"}
    with open(directory / "in.ndjson", "ab") as file:
        file.write(ndjson([{"@timestamp": now(), "device": "a", "v": 2}]))
    cleared = lambda: {alert["alert"] for alert in lines_so_far(path) if alert["state"] == "cleared"}
    wait_for(lambda: cleared() == {"silent", "dead"}, "their end", 30)
    alerts_of = lambda: [alert["event"] for alert in pipeline.get("/api/alerts")["alerts"] if alert["kind"] == "alert"]

    def told():
        """What is on by REST is what fired last and was not cleared: the source is silent again by now."""
        answer = pipeline.get("/api/alerts")
        last = {alert["event"]["alert"]: alert["event"]["state"] for alert in answer["alerts"] if alert["kind"] == "alert"}
        on = [alert["event"]["alert"] for alert in answer["firing"]]
        return sorted(on) == sorted(name for name, state in last.items() if state == "firing")
    wait_for(lambda: any(event["state"] == "cleared" for event in alerts_of()) and told(), "what is on")


def test_a_watch_survives_the_death_of_its_stage(tools, directory):
    """Killed after the key was heard; the alert comes from the process that goes on, once."""
    link, out = directory / "a", directory / "out.ndjson"
    start = lambda: tools.start("process", "alert lost when no data for 1s by device", "--state", "state", "--snapshot", "50ms",
                                "--from", f"ipc://{link}", "--to", f"ipc://{link}b")
    source = directory / "in.ndjson"
    source.write_bytes(ndjson([{"@timestamp": now(), "device": "a"}]))
    tools.start("ingest", source, "--follow", "--state", "ingest-state", "--to", f"ipc://{link}")
    tools.start("broadcast", f"file:{out}", "--from", f"ipc://{link}b", "--stay")
    first = start()
    records = lambda: lines_so_far(out)
    wait_for(lambda: any("alert" not in record for record in records()), "the event", 30)
    first.kill()
    start()
    wait_for(lambda: [record.get("state") for record in records() if "alert" in record] == ["firing"], lambda: f"the alert: {records()}", 30)
