"""Man pages, --help and the option tables say the same, and the pages are well formed."""

import json
import re
import subprocess

import pytest

from support import ROOT

PAGES = sorted((ROOT / "man").glob("*.[1-9]"))
TOOLS = ["ingest", "process", "broadcast", "streamctl"]


def page_text(page):
    done = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=200", str(page)], capture_output=True, check=False)
    return re.sub(r".\x08", "", done.stdout.decode())


def long_options(text):
    return set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*[a-z0-9])", text)) - {"no"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_well_formed(page):
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], capture_output=True, check=False)
    assert done.stdout == b"" and done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("name", TOOLS)
def test_page_has_every_option_of_help(tools, name):
    page = page_text(ROOT / f"man/{name}.1")
    done = tools.run(name, "--help")
    assert done.status == 0, done.err
    offered = set(re.findall(r"^\s+(?:-\w, )?--([a-z][a-z0-9-]*)", done.out.decode(), re.MULTILINE))
    assert len(offered) >= 3
    assert offered - long_options(page) - set(re.findall(r"^\s+([a-z][a-z0-9-]*)$", page, re.MULTILINE)) == set()


def test_ingests_page_names_every_format(tools):
    known = tools.run("ingest", "--format", "nosuch", "-", input=b"").err.partition("known are: ")[2].splitlines()[0].split(", ")
    assert len(known) >= 7
    listed = page_text(ROOT / "man/ingest.1").partition("Format of the input:")[2].partition("By default")[0]
    assert [name for name in known if not re.search(rf"\b{name}\b", listed)] == []


@pytest.mark.parametrize("name", ["ingest", "process", "broadcast"])
def test_page_names_no_option_that_does_not_exist(tools, name):
    known = long_options(tools.run(name, "--help").out.decode()) | {"help", "version"}
    for other in TOOLS:                # examples may use the other tools
        known |= long_options(tools.run(other, "--help").out.decode())
    known |= {"list"} | {f"no-{option}" for option in known}   # the form that says no to it
    mentioned = long_options(page_text(ROOT / f"man/{name}.1"))
    foreign = {"silent", "arg", "seed", "follow"}
    assert mentioned - known - foreign == set()


@pytest.mark.parametrize("name", ["ingest", "broadcast"])
def test_page_names_every_driver(tools, name):
    page = page_text(ROOT / f"man/{name}.1")
    described = json.loads(tools.run(name, "--list=json").out)
    for driver in described["drivers"]:
        assert driver["help"]
        assert not driver["schemes"] or any(f"{scheme}:" in page for scheme in driver["schemes"]), driver["name"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quotes_are_printed_as_they_stand(page):
    """In a line of macros an argument that begins with a quote loses it, and ends at the next one."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith(".") and not line.startswith('.\\"'):
            arguments = re.sub(r'(?<=\s)"(?:[^"]|"")*"(?=\s|$)', "", line)
            assert not re.search(r'\s"', arguments), f"{page.name}:{number}: {line}"


def test_references_lead_to_pages_of_ours():
    ours = {page.name for page in PAGES}
    for page in PAGES:
        for name, section in re.findall(r"^\.Xr ([\w-]+) (\d)", page.read_text(), re.MULTILINE):
            if name.startswith("stream") or name in TOOLS:
                assert f"{name}.{section}" in ours, f"{page.name} refers to {name}({section})"
