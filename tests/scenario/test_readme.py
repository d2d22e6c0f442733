"""The README's commands work when pasted, and what it refers to exists."""

import json
import os
import re

import pytest

from support import BIN, ROOT

README = (ROOT / "README.md").read_text()


def shell_blocks():
    """The ```sh blocks with the paragraph's number before each."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert "export PATH" in blocks[0]
    return blocks[1:]


# What each composition must leave behind or print, besides exit status 0.
def check_filtered(output, directory):
    rows = [line.split("\t") for line in output.splitlines()]
    assert len(rows) == 3
    assert all(name.startswith("sensor_") and float(value) > 68 for name, value in rows)


def check_windows(output, directory):
    lines = output.splitlines()
    assert len(lines) == 3
    for column in ("sensor", "average", "hottest", "n"):
        assert column in lines[0]
    rows = (directory / "averages.csv").read_text().splitlines()
    counts = [dict(zip(rows[0].split(","), row.split(","))) for row in rows[1:]]
    assert sum(int(row["n"]) for row in counts) == 5000
    assert len({row["sensor"] for row in counts}) == 10 and len(counts) == 50


def check_system(output, directory):
    assert len(re.findall(r"^cpu [\d.]+ %  memory [\d.]+ %  load [\d.]+$", output, re.MULTILINE)) == 2


def check_log(output, directory):
    assert [json.loads(line)["message"] for line in output.splitlines()] == ["GET /cart 500", "POST /pay 502"]
    (kept,) = directory.glob("errors-*.ndjson")
    assert kept.read_text().count("\n") == 2


def check_enriched(output, directory):
    assert [json.loads(line) for line in output.splitlines()] == [{"host": "db1", "load": 3.5, "team": "billing", "percent": 350}]


def check_links(output, directory):
    count = int(output.strip().splitlines()[-1])
    assert 0 < count < 20000
    lines = (directory / "buyers.ndjson").read_text().splitlines()
    assert len(lines) == count and all(set(json.loads(line)) == {"user_id", "value"} for line in lines)


def check_case(output, directory):
    assert output == "2 passed, 0 failed\n"


CHECKS = [check_filtered, check_windows, check_system, check_log, check_enriched, check_links, check_case]


def test_every_block_is_checked():
    assert len(shell_blocks()) == len(CHECKS)


@pytest.mark.parametrize("number", range(len(CHECKS)))
def test_composition(tools, directory, number):
    command = shell_blocks()[number]
    link = f"{directory}/demo"
    done = tools.run("bash", "-e", "-o", "pipefail", "-c", command.replace("/tmp/stream-demo", link), seconds=60,
                     env={"PATH": f"{BIN}:{os.environ['PATH']}"})
    assert done.status == 0, done.err
    CHECKS[number](done.out.decode(), directory)


def test_files_that_it_names_exist():
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name
    for row in re.findall(r"^\| `((?:cmd|common|pipelines|tests|man)[\w/]*)`", README, re.MULTILINE):
        assert (ROOT / row).is_dir(), row
    for name in re.findall(r"`((?:cmd|common|tests)/[\w/]+\.[ch])`", README):
        if "NAME" not in name:
            assert (ROOT / name).exists(), name


def test_man_pages_that_it_names_exist():
    for name, section in re.findall(r"\b([a-z-]+)\((\d)\)", README):
        assert (ROOT / f"man/{name}.{section}").exists(), f"{name}({section})"


def test_its_configuration_is_valid(tools, directory):
    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    (directory / "config.json").write_text(block)
    done = tools.run("streamctl", "check", "config.json")
    assert done.status == 0, done.err
