"""Each tool's options and its man page say the same: what --help and --list=json know is in the page, and the page
knows nothing else. Reads the tools' own declarations, so that an option added there fails here until it is documented."""

import json
import re

import pytest

import support

TOOLS = ("ingest", "process", "broadcast", "streamctl")
# Hidden from --help on purpose: what the tools hand each other.
HEADING_OF_FORMATS = "text formats:"


def man_page(tool):
    return support.ROOT / "man" / f"{tool}.1"


def documented(tool):
    """The long options that the page has an item for: ".It Fl -name", ".It Fl Fl name", more after commas."""
    names = set()
    for line in man_page(tool).read_text().splitlines():
        if line.startswith(".It "):
            names |= set(re.findall(r"Fl (?:Fl |-)([a-z][a-z0-9-]+)", line))
            names |= set(re.findall(r", -([a-z][a-z0-9-]+)", line))
    return names


def mentioned(tool):
    """The long options that the page names anywhere."""
    return set(re.findall(r"(?:Fl Fl |Fl -|(?<=[ (])--)([a-z][a-z0-9-]+)", man_page(tool).read_text()))


def in_help(text):
    return set(re.findall(r"^(?:  -\w,|     ) ?--([a-z][a-z0-9-]+)", text, re.MULTILINE))


def declared(tools, tool):
    """Options by --help and --list=json, and those of them that all text readers share."""
    help_run = tools.run(tool, "--help")
    assert help_run.status == 0
    text = help_run.out.decode()
    names = in_help(text)
    assert {"help", "version"} <= names
    shared = set()
    if HEADING_OF_FORMATS in text:
        shared = in_help(text.split(HEADING_OF_FORMATS)[1].split("\n\n")[0])
        assert shared
    if tool in ("ingest", "broadcast"):
        listed = tools.run(tool, "--list=json")
        assert listed.status == 0
        listed = json.loads(listed.out)
        for options in [listed["options"], *(driver["options"] for driver in listed["drivers"])]:
            names |= {option["name"] for option in options}
        names.add("list")
    return names, shared


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_is_in_the_man_page_and_nothing_else(tools, tool):
    if not (support.BIN / tool).exists() or not man_page(tool).exists():
        pytest.skip(f"{tool} or its man page is not there yet")
    names, shared = declared(tools, tool)
    items = documented(tool)
    referred = set()
    if tool != "ingest" and "Xr ingest 1" in man_page(tool).read_text():
        referred = shared & documented("ingest")      # text formats are described once
    # The options of a stage itself have items; those of sinks that a page describes as fields are mentioned at least.
    missing = names - items - referred - mentioned(tool)
    assert not missing, f"man/{tool}.1 says nothing of: {', '.join(sorted(missing))}"
    unknown = items - names
    assert not unknown, f"man/{tool}.1 has options that {tool} does not: {', '.join(sorted(unknown))}"


def test_every_default_in_ingest_is_what_the_page_says(tools):
    """Defaults are told in the page as "Default: X."; where one is, it is the declared one."""
    listed = json.loads(tools.run("ingest", "--list=json").out)
    page = man_page("ingest").read_text()
    sections = {"options": page.split(".Sh SOURCES")[0]}
    for section in page.split(".Sh SOURCES")[1].split(".Ss ")[1:]:
        sections[section.split("\n")[0]] = section
    heading = {"file": "Files", "http": "Web", "generator": "Generators", "system": "This machine", "postgres": "PostgreSQL", "sqlite": "SQLite"}
    heading |= {"mysql": "MySQL", "nats": "NATS", "mqtt": "MQTT", "redis": "Redis", "kafka": "Kafka"}
    heading |= {"tcp": "Connections", "udp": "Datagrams", "unix": "Local sockets", "webhook": "Webhooks", "syslog": "Syslog", "exec": "Commands"}
    heading |= {"forward": "Forward", "statsd": "Metrics of programs", "websocket": "WebSocket feeds"}
    wrong = []
    for name, options in [("options", listed["options"])] + [(d["name"], d["options"]) for d in listed["drivers"] if d["options"]]:
        text = sections["options"] if name == "options" else next(v for k, v in sections.items() if k.startswith(heading[name]))
        for option in options:
            found = re.search(r"^\.It [^\n]*Fl Fl " + option["name"] + r"\b[^\n]*\n(.*?)(?=^\.It|^\.El)", text, re.DOTALL | re.MULTILINE)
            assert found, option["name"]
            stated = re.search(r"^Default: (\S+?)\.$", found.group(1), re.MULTILINE)
            if stated and stated.group(1) != str(option.get("default")) and re.match(r"[0-9/]", stated.group(1)) and "default" in option:
                wrong.append(f"{name} --{option['name']}: {option['default']}, the page says {stated.group(1)}")
    assert not wrong, "\n".join(wrong)
