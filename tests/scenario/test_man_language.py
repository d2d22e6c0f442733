"""stream-language(7) and the program say the same: every function with its line and example, every operator with its syntax, every aggregate is
in the page, the page has no others, and the programs that it shows are programs."""

import re
import subprocess

import pytest

from support import ROOT

PAGE = ROOT / "man/stream-language.7"


def source():
    return PAGE.read_text()


def one_line(text):
    """Text without markup of the terminal and with single blanks."""
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def text():
    done = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=250", str(PAGE)], capture_output=True, check=True)
    return re.sub(r".\x08", "", done.stdout.decode())


def section(name):
    found = re.search(r"^\.Sh " + name + r"\n(.*?)(?=^\.Sh )", source(), re.DOTALL | re.MULTILINE)
    assert found, name
    return found.group(1)


def shown_programs():
    """The displayed lines that begin with an operator."""
    lines = [line[len(".Dl "):] for line in source().splitlines() if line.startswith(".Dl ")]
    return [line.replace(r"\(dq", '"').replace(r"\e", "\\").replace(r"\&", "") for line in lines]


def test_every_function_is_in_the_page_as_the_program_lists_it(tools, text):
    done = tools.run("process", "--functions")
    assert done.status == 0, done.err
    listed = [line.strip() for line in done.out.decode().splitlines() if line.startswith("  ")]
    assert len(listed) > 480
    page = one_line(text)
    missing = [line for line in listed if f" {one_line(line)} " not in page]
    assert not missing, "stream-language(7) lacks:\n" + "\n".join(missing)


def test_the_page_has_no_function_that_does_not_exist(tools):
    listed = tools.run("process", "--functions").out.decode()
    known = re.findall(r"^  (\w+)\(", listed, re.MULTILINE)
    assert len(known) > 175
    assert re.findall(r'^\.It Li "?(\w+)\(', section("FUNCTIONS"), re.MULTILINE) == known        # in the same order
    assert re.findall(r"^\.Ss (.*)$", section("FUNCTIONS"), re.MULTILINE) == re.findall(r"^(\w.*)$", listed, re.MULTILINE)
    assert set(re.findall(r"^\.Fn (\w+)", source(), re.MULTILINE)) <= set(known)


def test_operators_of_the_page_are_those_of_the_program(tools, text):
    done = tools.run("process", "--operators")
    assert done.status == 0, done.err
    syntax = re.findall(r"^([a-z].*)$", done.out.decode(), re.MULTILINE)
    assert len(syntax) >= 8
    page = one_line(text)
    for line in syntax:
        assert one_line(line) in page, line
    assert re.findall(r"^\.Ss (\w+)$", section("OPERATORS"), re.MULTILINE) == [line.split()[0] for line in syntax]


def test_aggregates_of_the_page_are_those_of_the_program(tools):
    done = tools.run("process", "--check", "window tumbling 1s: zzzzzzzzzzzz(x)")
    known = re.search(r"aggregates are ([a-z0-9 ]+);", done.err)
    assert done.status == 64 and known, done.err
    described = set()
    for line in re.findall(r"^\.It Li (.*)$", section("AGGREGATES"), re.MULTILINE):
        described |= set(re.findall(r"(\w+)\(", line))
    assert described == set(known.group(1).split())


def test_every_program_shown_is_one(tools):
    programs = shown_programs()
    operators = {line.split()[0] for line in re.findall(r"^([a-z].*)$", tools.run("process", "--operators").out.decode(), re.MULTILINE)}
    assert {program.split()[0] for program in programs} == operators       # an example of each
    for program in programs:
        done = tools.run("process", "--check", program)
        assert done.status == 0, program + "\n" + done.err


def test_every_example_with_its_result_is_right(tools):
    """EXPRESSION = RESULT, in the list of functions."""
    listed = tools.run("process", "--functions").out.decode()
    examples = re.findall(r"^      (\w+\(.*\)) = (.+)$", listed, re.MULTILINE)
    assert len(examples) > 165
    names = [f"f{number}" for number in range(len(examples))]
    program = "keep " + ", ".join(f"{expression} as {name}" for (expression, _), name in zip(examples, names))
    wanted = "keep " + ", ".join(f"{result} as {name}" for (_, result), name in zip(examples, names))
    got, expected = (tools.run("process", text, input=b"{\"@timestamp\":\"2026-01-02T03:00:00Z\"}\n") for text in (program, wanted))
    assert got.status == 0 and expected.status == 0, got.err + expected.err
    assert got.out == expected.out
