"""ingest: XML from files and web addresses, with attacks in it."""

import support
from listen_support import connect
from test_ingest_http import QUICK, Server, each_time

RSS = b"""<?xml version="1.0" encoding="UTF-8"?>
<!-- a feed --><rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>News</title>
<item id="1"><title>Bread &amp; butter</title><dc:creator>Anna</dc:creator><tag>a</tag><tag>b</tag><price currency="EUR"> 12.5 </price><none/></item>
<item id="2"><title><![CDATA[<b>]]></title></item></channel></rss>
"""
ITEMS = [{"id": 1, "title": "Bread & butter", "dc:creator": "Anna", "tag": ["a", "b"], "price": {"currency": "EUR", "text": 12.5}, "none": None},
         {"id": 2, "title": "<b>"}]


def as_xml(text, kind="application/xml"):
    return 200, {"Content-Type": kind}, text if isinstance(text, bytes) else text.encode()


def test_elements_of_a_file_are_events(tools, directory):
    (directory / "feed.xml").write_bytes(RSS)
    for path in ("rss.channel.item", "item", "*.*.item"):
        done = tools.run("ingest", "feed.xml", "--xml-records", path)
        assert (done.status, done.events) == (0, ITEMS)
    done = tools.run("ingest", "feed.xml", "--xml-records", "rss.*.title")
    assert done.events == [{"title": "News"}]


def test_a_malformed_event_is_a_dead_letter_and_the_next_one_goes_on(tools, directory):
    (directory / "a.xml").write_text("<a><b><n>1</n></b><b><n>2</b><b><n>3</n></b><b>&own;</b><b><n>5</n></b>")
    done = tools.run("ingest", "a.xml", "--dead-letter", "dead")
    assert [event["n"] for event in done.events] == [1, 3, 5]
    reasons = [letter["reason"] for letter in support.lines_of(directory / "dead")]
    assert ["mismatched tag" in reasons[0], "undefined entity" in reasons[1], reasons[2]] == [True, True, "the text ends inside of an element"]


def test_a_document_of_any_length_in_little_memory(tools, directory):
    count, padding = 50000, f"<!-- {'x' * 1500} -->"
    with open(directory / "big.xml", "w") as out:
        out.write("<all>\n")
        for n in range(count):
            out.write(f'<row n="{n}">{padding}</row>\n')
        out.write("</all>\n")
    peak = directory / "peak"
    done = tools.run("/usr/bin/python3", "-c", "import resource, subprocess, sys; subprocess.run(sys.argv[2:], check=True); "
                     "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))", peak,
                     support.tool_path("ingest"), "big.xml", seconds=120)
    assert done.status == 0 and [event["n"] for event in done.events] == list(range(count))
    if "asan" not in str(support.BIN):
        assert int(peak.read_text()) < 60 * 1024      # KiB; the file has 75 MiB


def test_documents_over_a_connection(tools):
    tool = tools.start("ingest", "tcp://127.0.0.1:0", "--format", "xml", "--xml-records", "item")
    with connect(tool) as peer:
        peer.sendall(RSS[:200])
        peer.sendall(RSS[200:] + b"\n" + RSS)
        assert tool.wait_events(4) == ITEMS + ITEMS
    assert tool.terminate() == 0


def test_bodies_of_a_web_address(tools):
    empty = "<rss><channel><title>News</title></channel></rss>"
    with Server(each_time(as_xml(RSS, "application/rss+xml; charset=utf-8"), as_xml(empty, "text/xml"), as_xml(RSS))) as server:
        tool = tools.start("ingest", server.url(), "--records", "rss.channel.item", *QUICK)
        assert tool.wait_events(4)[:4] == ITEMS + ITEMS
        assert tool.terminate() == 0
    with Server(each_time(as_xml("<ids><id>1</id><id>x</id></ids>", "text/plain"))) as server:
        done = tools.run("ingest", server.url(), "--once", "--format", "xml", "--records", "ids.id")
        assert done.events == [{"id": 1}, {"id": "x"}]
        done = tools.run("ingest", server.url(), "--once", "--format", "xml", "--csv-strings")
        assert done.events == [{"ids": {"id": ["1", "x"]}}]


def test_a_cursor_and_pages_of_xml(tools):
    def answer(request):
        page = 2 if "page=two" in request.path else 1
        after = "since=4" in request.path
        rows = "" if after else "".join(f"<row><id>{n}</id></row>" for n in range(2 * page - 1, 2 * page + 1))
        return as_xml(f"<answer><rows>{rows}</rows>{'<next>two</next>' if page == 1 and not after else ''}</answer>")
    with Server(answer) as server:
        tool = tools.start("ingest", server.url(), "--records", "answer.rows.row", "--paging", "cursor", "--next", "answer.next", "--page-param", "page",
                           "--cursor", "id", "--cursor-param", "since", *QUICK)
        support.wait_for(lambda: sum("since=4" in path for path, *_ in server.requests) >= 2, "two rounds that bring nothing")
        assert tool.events == [{"id": n} for n in (1, 2, 3, 4)]
        assert tool.terminate() == 0


def test_attacks_by_entities_are_dead_letters(tools, directory):
    (directory / "secret").write_text("hush")
    laughs = "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12))
    attacks = [f"<!DOCTYPE a [<!ENTITY a0 'ha'>{laughs}]><a>&a11;</a>",
               f"<!DOCTYPE a [<!ENTITY x SYSTEM 'file://{directory}/secret'>]><a>&x;</a>",
               f"<!DOCTYPE a [<!ENTITY % x SYSTEM 'file://{directory}/secret'>%x;]><a/>",
               "<!DOCTYPE a [<!ENTITY x '" + "x" * 100000 + "'>]><a>" + "&x;" * 100000 + "</a>"]
    with Server(each_time(*map(as_xml, attacks), as_xml("<a><n>1</n></a>"))) as server:
        tool = tools.start("ingest", server.url(), "--dead-letter", "dead", *QUICK)
        assert tool.wait_events(1)[0] == {"a": {"n": 1}}
        assert tool.terminate() == 0
    assert [("entities" in letter["reason"], "hush" in letter["reason"]) for letter in support.lines_of(directory / "dead")] == 4 * [(True, False)]
    for attack in attacks:               # in the text format the DOCTYPE is not read at all
        (directory / "a.xml").write_text(attack)
        done = tools.run("ingest", "a.xml", "--xml-records", "a", "--dead-letter", "dead-file")
        assert "hush" not in done.out.decode() and len(done.out) < 1000


def test_options_that_do_not_go_together(tools):
    for options, word in ((("--xml-records", "a..b"), "--xml-records a..b"), (("--stream",), "not --format xml")):
        tool = tools.run("ingest", "http://127.0.0.1:1/", "--format", "xml", *options) if "--stream" in options else \
            tools.run("ingest", "tcp://127.0.0.1:0", "--format", "xml", *options)
        assert (tool.status, word in tool.err) == (64, True), tool.err


def test_a_text_that_ends_inside_is_told_although_all_before_it_was_used(tools, directory):
    for name, text in (("a.xml", "<a><n><v>1</v></n>"), ("a.json", '[{"v":1},')):
        (directory / name).write_text(text)
        done = tools.run("ingest", name)
        assert (done.status, done.events) == (0, [{"v": 1}])
        assert "the text ends inside" in done.err
