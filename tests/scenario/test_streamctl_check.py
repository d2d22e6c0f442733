"""streamctl check: every error with its place, and nothing started by a configuration that has one."""

import json
import re

import pytest
from instance import EX_USAGE, control  # noqa: F401

BRIEF = """{ "stream_config": { "buffer_size": 1000, "batch_size": 100, "processing_interval": 1, "max_connections": 50 },
  "data_sources": [ { "name": "api_source", "type": "api", "url": "https://api.example.com/stream", "interval": 5 } ] }
"""

BROKEN = """{
  "stream_confg": {},
  "data_sources": [
    {"name": "a", "type": "apii", "url": "http://127.0.0.1/"},
    {"name": "b", "type": "sensors", "rat": 5},
    {"name": "b", "type": "sensors", "rate": "fast"},
    {"name": "c", "url": "gopher://x"}
  ],
  "pipelines": [
    {"name": "p", "from": "bb", "program": "where temperature > 30"},
    {"name": "q", "from": "b", "program": ["where temperature > 30", "| wher humidity < 50"]},
    {"name": "r", "from": "b", "program": "set a = "}
  ],
  "sinks": [{"type": "fil", "path": "x"}, {"type": "file", "path": "y", "rotate_sise": "1MiB"}],
  "server": {"port": 70000}
}
"""


def errors_of(done):
    """[(line, column, text), ...] of what check prints."""
    return [(int(line), int(column), text) for line, column, text in re.findall(r"^[^:\n]+\.json:(\d+):(\d+): (.*)$", done.err, re.M)]


def test_the_briefs_file_is_good(control, directory):
    (directory / "config.json").write_text(BRIEF)
    assert control.good("check").startswith("config.json: ok: 1 source, 0 pipelines, 0 sinks")


def test_every_error_is_listed_with_line_and_column(control, directory):
    (directory / "broken.json").write_text(BROKEN)
    done = control.command("check", "broken.json")
    assert done.status == EX_USAGE
    errors = errors_of(done)
    lines = BROKEN.splitlines()
    expected = [(2, '"stream_confg"', 'did you mean "stream_config"?'), (4, '"apii"', 'did you mean "api"?'),
                (5, '"rat"', 'did you mean "rate"?'), (6, '"b"', "taken"), (6, '"fast"', "number"), (7, '"gopher', "gopher"),
                (10, '"bb"', 'did you mean "b"?'), (11, "wher humidity", "where"), (14, '"fil"', 'did you mean "file"?'),
                (14, '"rotate_sise"', 'did you mean "rotate_size"?'), (15, "70000", "65535")]
    for line, at, text in expected:
        column = lines[line - 1].index(at) + 1
        assert [e for e in errors if e[0] == line and e[1] == column and text in e[2]], (line, column, text, done.err)
    assert [e for e in errors if e[0] == 12 and "r" in e[2]], done.err         # the end of the program
    assert len(errors) == len(expected) + 1
    assert errors == sorted(errors, key=lambda e: e[:2])


def test_what_only_the_tool_can_say_is_said_by_check_too(control, directory):
    (directory / "config.json").write_text("""{"data_sources": [
  {"name": "a", "type": "api"},
  {"name": "b", "type": "sensors"}],
 "sinks": [
  {"name": "out", "type": "file"}]}""")
    done = control.command("check")
    assert done.status == EX_USAGE
    (line, column, first), (line2, column2, second) = errors_of(done)
    assert (line, column) == (2, 3) and 'source "a"' in first and "url" in first
    assert (line2, column2) == (5, 3) and 'sink "out"' in second and "path" in second
    assert control.command("start").status == EX_USAGE


def test_a_rule_of_alerts_is_checked_where_it_stands(control, directory):
    text = '{"data_sources": [{"name": "a", "type": "sensors"}],\n "alerts": [{"name": "hot", "from": "a", "when": "temperature > avrg(1)"}]}'
    (directory / "config.json").write_text(text)
    (line, column, message), = errors_of(control.command("check"))
    assert (line, column) == (2, text.splitlines()[1].index("avrg") + 1) and "avrg" in message


def test_a_table_that_is_not_there_is_a_warning(control, directory):
    (directory / "config.json").write_text("""{"data_sources": [{"name": "a", "type": "sensors"}],
 "pipelines": [{"name": "p", "from": "a", "program": "lookup \\"devices.csv\\" on device"}]}""")
    assert 'warning: pipeline "p": lookup "devices.csv" cannot start without its table' in control.good("check")
    (directory / "devices.csv").write_text("device,site\n")
    assert "warning" not in control.good("check")


@pytest.mark.parametrize("program, key, warning", [
    ("window tumbling 1s by sensor_id: count()", None, 'give it "key": "sensor_id"'),
    ("window tumbling 1s: count()", None, 'a field "key"'),
    ("where true | alert hot when temperature > 30", "sensor_id", 'shared by "sensor_id", which is no key of it'),
    ("window tumbling 1s by location: count()", "sensor_id", 'shared by "sensor_id"'),
    ("join users on sensor_id within 1s", None, "join would give"),
    ("window tumbling 1s by location, sensor_id: count() as n | window tumbling 1m by sensor_id: sum(n)", "sensor_id", None),
    ("rename sensor_id as s | window tumbling 1s by s: count()", "sensor_id", None),
    ("window tumbling 1s by device.id: count()", "device.id", None),
    ("where temperature > 30 | set a = 1 | sample 10% by sensor_id | fill b = 0", None, None)])
def test_workers_that_have_a_part_of_each_key_are_warned_of(control, program, key, warning):
    """Else it would be seen in the numbers only, if at all."""
    pipeline = {"name": "p", "from": "sensors", "workers": 2, "program": ["", program], **({"key": key} if key else {})}
    control.config(sources=[{"name": "sensors", "type": "sensors", "count": 1, "rate": 0}], pipelines=[pipeline])
    said = control.good("check")
    assert ("warning" in said) == bool(warning) and (warning or "") in said
    done = control.command("run")
    assert done.status == 0 and (warning or "") in done.err and ("each of its 2 workers" in done.err) == bool(warning)
    control.config(sources=[{"name": "sensors", "type": "sensors"}], pipelines=[{"name": "p", "program": program}])
    assert "warning" not in control.good("check")


def test_nothing_is_started_by_a_broken_file(control, directory):
    (directory / "broken.json").write_text(BROKEN)
    for command in ("start", "run"):
        done = control.command(command, "broken.json")
        assert done.status == EX_USAGE and len(errors_of(done)) > 5
    assert not control.run_dirs()


def test_syntax_errors_point_at_the_spot(control, directory):
    for text, place, hint in (('{\n  "data_sources": [],\n}', (3, 1), "comma"), ("{\n  'a': 1}", (2, 3), "double quotes"),
                              ('{"a": 1, "a": 2}', (1, 10), "duplicate"), ("", (1, 1), "expected"), ("[]", (1, 1), "object")):
        (directory / "config.json").write_text(text)
        done = control.command("check")
        assert done.status == EX_USAGE
        (line, column, message), = errors_of(done)
        assert (line, column) == place and hint in message, done.err


def test_a_byte_order_mark_and_other_line_ends_are_taken(control, directory):
    (directory / "config.json").write_bytes(b"\xef\xbb\xbf" + BRIEF.replace("\n", "\r\n").encode())
    assert control.good("check").startswith("config.json: ok: 1 source")
    second = ' "data_sources": [{"name": "a", "type": "sensors", "rat": 5}]}'
    (directory / "config.json").write_bytes(b'\xef\xbb\xbf{"nme": "x",\r\n' + second.encode() + b"\r\n")
    errors = errors_of(control.command("check"))
    assert [error[:2] for error in errors] == [(1, 2), (2, second.index('"rat"') + 1)] and "name" in errors[0][2] and "rate" in errors[1][2]


def test_a_misspelt_word_where_the_type_should_be_is_found(control, directory):
    (directory / "config.json").write_text('{"data_sources": [{"name": "a", "typ": "sensors", "rate": 5}],\n "sinks": [{"name": "s", "pth": "x"}]}')
    errors = errors_of(control.command("check"))
    assert [(line, text) for line, _, text in errors if "did you mean" in text] == [
        (1, 'unknown key "typ" in source "a"; did you mean "type"?'), (2, 'unknown key "pth" in sink "s"; did you mean "path"?')]
    assert len(errors) == 4 and sum('a "type" or a "url" is needed' in text for _, _, text in errors) == 2


def test_options_of_formats_and_addresses_are_checked_before_anything_starts(control, directory):
    control.config(sources=[{"name": "a", "type": "csv", "path": "x.csv", "csv_separator": ";;"},
                            {"name": "b", "type": "log", "path": "x.log", "format": "regex", "pattern": "("},
                            {"name": "c", "type": "api", "url": "http://127.0.0.1:99999/"}],
                   sinks=[{"name": "d", "type": "http", "url": "http://[::1/"}])
    done = control.command("check")
    assert done.status == EX_USAGE
    said = [text for _, _, text in errors_of(done)]
    for name, reason in (('source "a"', "csv-separator"), ('source "b"', "--pattern"), ('source "c"', "65535"), ('sink "d"', "IPv6")):
        assert [text for text in said if name in text and reason in text], done.err


def test_a_missing_file_is_named(control):
    done = control.command("check", "nowhere.json")
    assert done.status == EX_USAGE and "nowhere.json: No such file" in done.err
    assert control.command("run").status == EX_USAGE        # no ./config.json


def test_binary_and_huge_files_are_refused(control, directory):
    (directory / "config.json").write_bytes(bytes(range(256)))
    assert control.command("check").status == EX_USAGE
    (directory / "config.json").write_bytes(b"[" * 100000)
    assert control.command("check").status == EX_USAGE
    (directory / "config.json").write_bytes(b" " * (5 << 20))
    done = control.command("check")
    assert done.status == EX_USAGE and "larger than" in done.err


def test_secrets_are_found_and_never_shown(control, directory):
    (directory / "token").write_text("very-secret\n")
    config = control.config(sources=[{"name": "a", "type": "api", "url": "http://${API_USER}:${API_PASSWORD}@127.0.0.1/", "password": {"file": "token"}}],
                            server={"token_file": "token", "port": 0})
    missing = control.command("check", config)
    assert missing.status == EX_USAGE and "API_PASSWORD is not set" in missing.err and "API_USER is not set" in missing.err
    env = {"API_USER": "joe", "API_PASSWORD": "hidden"}
    assert ": ok:" in control.good("check", config, env=env)
    config.write_text(config.read_text().replace('"name": "a"', '"name": "a", "interval": "${API_PASSWORD}"'))
    shown = control.command("check", config, env=env)
    assert shown.status == EX_USAGE and "interval" in shown.err and "hidden" not in shown.err


def test_the_redacted_configuration_reaches_the_server_without_secrets(control, directory):
    import urllib.request
    config = control.config(sources=[{"name": "a", "type": "api", "url": "http://joe:hidden@127.0.0.1:9/", "token": "hidden", "interval": 3600}],
                            server={"port": 0, "token": "hidden"})
    control.good("start", config)
    request = urllib.request.Request(control.status()["address"] + "api/config", headers={"Authorization": "Bearer hidden"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read().decode()
    assert "hidden" not in text and json.loads(text)
