"""streamctl's pages know every route, command and key of the configuration, and the server has every route of the page."""

import re

from pipeline import Pipeline
from support import ROOT

PAGE = (ROOT / "man/streamctl.1").read_text()
CONFIG_PAGE = (ROOT / "man/streamctl-config.5").read_text()


def test_the_page_and_the_server_have_the_same_routes(tools):
    routes = {f"{route['method']} {route['path']}" for route in Pipeline(tools).ready().get("/api")["routes"]}
    section = PAGE.split(".Sh REST")[1].split(".Sh ")[0]
    told = set()
    for item in re.findall(r"^\.It Li (.*)$", section, re.MULTILINE):
        told |= {" ".join(route.split()) for route in item.split(" , ")}
    assert told == routes


def test_the_page_has_every_command(tools):
    offered = set(re.findall(r"^  ([a-z]+) ", tools.run("streamctl", "--help").out.decode(), re.MULTILINE))
    assert {"run", "audit", "replay"} <= offered
    described = set(re.findall(r"^\.It Cm ([a-z]+)$", PAGE.split(".Ss Commands")[1].split(".Ss ")[0], re.MULTILINE))
    assert described == offered


def test_the_configurations_page_has_every_key():
    declared = set()
    for name in ("config.c", "config_entries.c", "config_pipelines.c", "config_alerts.c"):
        declared |= set(re.findall(r'^    \{"([a-z-]+)", OPTION_', (ROOT / "common/run" / name).read_text(), re.MULTILINE))
    assert {"state-dir", "spool-limit", "memory", "workers", "token-file"} <= declared
    described = set()
    for item in re.findall(r"^\.It Cm (.*)$", CONFIG_PAGE, re.MULTILINE):
        described |= set(re.findall(r"[a-z_]+", item))
    assert {key.replace("-", "_") for key in declared} - described == set()
