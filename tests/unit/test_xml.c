/* XML: what elements become, which of them are events, in pieces of every size and with another decoder for each piece; and what is refused. */
#include "format_harness.h"

#include "data/xml.h"

static void elements_become_values(void **state) {
    harness_check("xml", "xml-records=a.b", "<a><b>1</b><b> x &amp; y </b><b/><b></b><b>007</b><b><![CDATA[<i>]]></b></a>",
                  "{\"b\":1}\n{\"b\":\"x & y\"}\n{\"b\":null}\n{\"b\":null}\n{\"b\":\"007\"}\n{\"b\":\"<i>\"}\n");
    harness_check("xml", "xml-records=b", "<b i='1' j=\"&#228;\"><c>true</c><d><e>2.5</e></d><c/></b>", "{\"i\":1,\"j\":\"\xc3\xa4\",\"c\":[true,null],\"d\":{\"e\":2.5}}\n");
    harness_check("xml", "xml-records=b csv-strings=true", "<b i='1'><c/></b>", "{\"i\":\"1\",\"c\":\"\"}\n");
    harness_check("xml", "xml-records=b", "<b c='0'><c>1</c>x<c>2</c>y<text>z</text></b>", "{\"c\":[0,1,2],\"text\":[\"z\",\"xy\"]}\n");
    harness_check("xml", "xml-records=p:b", "<b>1</b><p:b xmlns:p='u' xmlns='v' p:q='1'><p:c>2</p:c><c>3</c></p:b>", "{\"p:q\":1,\"p:c\":2,\"c\":3}\n");
}

static void a_path_says_which_elements_are_events(void **state) {
    static const char text[] = "<?xml version='1.0'?><!-- <b>0</b> --><r><x><b>1</b></x><y><b>2</b><c><b>3</b></c></y><b>4</b></r>\n<r><b>5</b></r>";
    harness_check("xml", NULL, text, "{\"b\":1}\n{\"b\":2,\"c\":{\"b\":3}}\n{\"b\":4}\n{\"b\":5}\n");
    harness_check("xml", "xml-records=b", text, "{\"b\":1}\n{\"b\":2}\n{\"b\":3}\n{\"b\":4}\n{\"b\":5}\n");
    harness_check("xml", "xml-records=r.*.b", text, "{\"b\":1}\n{\"b\":2}\n");
    harness_check("xml", "xml-records=r.b", text, "{\"b\":4}\n{\"b\":5}\n");
    harness_check("xml", "xml-records=r.y.c.b", text, "{\"b\":3}\n");
    harness_check("xml", "xml-records=*", text, "{\"x\":{\"b\":1},\"y\":{\"b\":2,\"c\":{\"b\":3}},\"b\":4}\n{\"b\":5}\n");
    harness_check("xml", "xml-records=q", text, "");
    harness_check("xml", "xml-records=a.b", "<s:a xmlns:s='u'><s:b>1</s:b><b>2</b></s:a>", "{\"s:b\":1}\n{\"b\":2}\n");
}

static void what_is_malformed_costs_only_itself(void **state) {
    harness_check("xml", "xml-records=b", "<a><b>1</b><b><c></b><b>2<b>3</b></b><b></c></b><b>4</b></a>",
                  "{\"b\":1}\nbad 2: XML, line 1, column 9: mismatched tag\n{\"b\":3,\"text\":2}\nbad 4: XML, line 1, column 6: mismatched tag\n{\"b\":4}\n");
    harness_check("xml", "xml-records=b", "<a><b x='>' y=\"/>\"><!-- </b> --><?p </b> ?><![CDATA[</b>]]></b></a>", "{\"x\":\">\",\"y\":\"/>\",\"text\":\"</b>\"}\n");
    harness_check("xml", "xml-records=b", "<b>\xff</b><b>1</b>", "bad 1: XML, line 1, column 4: not well-formed (invalid token)\n{\"b\":1}\n");
    harness_check("xml", "xml-records=b", "{\"a\":1} more <b>1</b> x<b>2</b>", "bad 1: text outside of an element\n{\"b\":1}\nbad 3: text outside of an element\n{\"b\":2}\n");
    harness_check("xml", NULL, "<a><b>1</b><b>2", "{\"b\":1}\nbad 2: the text ends inside of an element\n");
    harness_check("xml", NULL, "<a><b>1</b><!-- x", "{\"b\":1}\nbad 2: the text ends inside of an element\n");
    harness_check("xml", NULL, "</a><a><b>1</b></a>", "bad 1: a closing tag of nothing\n{\"b\":1}\n");
    harness_check("xml", "xml-records=b max-record=30", "<a><b>0123456789012345678901234567890123456789<b/><b>x</b></b><b>1</b></a>",
                  "bad 1: longer than 30 bytes (--max-record)\n{\"b\":1}\n");
    harness_check("xml", "xml-records=b max-record=20", "<a><c x='0123456789012345678901234567890123456789'/><b>1</b></a>",
                  "bad 1: a tag longer than --max-record: what follows cannot be told apart\n");
    harness_check("xml", NULL, "\xef\xbb\xbf<a><b>1</b></a>\n", "{\"b\":1}\n");
    harness_check("xml", NULL, "", "");
}

static void entities_are_refused_whatever_they_are(void **state) {
    harness_check("xml", "xml-records=b", "<!DOCTYPE a [<!ENTITY x \"y]>\"><!-- it's ]> --><!ENTITY z SYSTEM 'file:///etc/passwd'>]><a><b>&x;</b><b>&z;</b><b>1</b></a>",
                  "bad 1: XML, line 1, column 4: undefined entity\nbad 2: XML, line 1, column 4: undefined entity\n{\"b\":1}\n");
    static const char *const refused[] = {
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY % x SYSTEM 'file:///etc/passwd'> %x;]><a/>",
        "<!DOCTYPE a SYSTEM 'http://127.0.0.1:1/a.dtd'><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY a0 'x'><!ENTITY a1 '&a0;&a0;&a0;&a0;'><!ENTITY a2 '&a1;&a1;&a1;&a1;'>]><a>&a2;</a>",
    };
    xml_t *xml = xml_new(false);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        buf_t out = {0};
        err_t err = {{0}};
        assert_int_equal(xml_read(xml, text_of(refused[i]), NULL, false, &out, &err), -1);
        assert_non_null(strstr(err.text, "entit"));
        assert_int_equal(out.size, 0);
        buf_fini(&out);
    }
    buf_t out = {0};
    assert_int_equal(xml_read(xml, text_of("<!DOCTYPE a><a>&lt;&#x41;</a>"), NULL, false, &out, NULL), 0);
    assert_memory_equal(out.data, "\x81\xa1""a\xa2<A", 6);
    buf_fini(&out);
    xml_free(xml);
}

static void encodings(void **state) {
    harness_check("xml", NULL, "<?xml version=\"1.0\" encoding='iso-8859-1' ?><a><b>\xe4</b></a><a><b>\xc3\xa4</b></a>", "{\"b\":\"\xc3\xa4\"}\n{\"b\":\"\xc3\xa4\"}\n");
    harness_check("xml", NULL, "<?xml version=\"1.0\" encoding=\"Shift_JIS\"?><a><b>1</b></a>",
                  "bad 1: an encoding that cannot be read here: UTF-8, US-ASCII and ISO-8859-1 can; iconv(1) makes UTF-8 of others\n");
    format_settings_t settings;
    harness_defaults(&settings);
    harness_check_settings("xml", &settings, "<\0a\0/\0>\0", 8, "bad 1: UTF-16 cannot be read here; iconv(1) makes UTF-8 of it\n");
    option_fini(format_options, &settings);
}

static void times_are_found_inside(void **state) {
    harness_check("xml", "xml-records=b time=t.at", "<a><b><t at='1970-01-01T00:00:01Z'/></b><b/><b><t at='x'/></b></a>",
                  "{\"@timestamp\":\"1970-01-01T00:00:01Z\",\"t\":{\"at\":\"1970-01-01T00:00:01Z\"}}\n"
                  "bad 2: no field \"t.at\" to take the event's time from (--time)\n"
                  "bad 3: field \"t.at\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106)\n");
}

static void depth_and_number_are_bounded(void **state) {
    buf_t text = {0};
    for (int levels = 30; levels <= 31; levels++) {
        buf_clear(&text);
        for (int i = 0; i < levels; i++)
            buf_put_text(&text, "<b>");
        for (int i = 0; i < levels; i++)
            buf_put_text(&text, "</b>");
        xml_t *xml = xml_new(false);
        buf_t out = {0};
        err_t err;
        assert_int_equal(xml_read(xml, text_of(buf_text(&text)), NULL, false, &out, &err), levels == 30 ? 0 : -1);
        if (levels == 31)
            assert_non_null(strstr(err.text, "nested more than 30 deep"));
        buf_fini(&out);
        xml_free(xml);
    }
    buf_clear(&text);
    buf_put_text(&text, "<a>");
    for (int i = 0; i < 100000; i++) /* of one name and of many */
        buf_format(&text, "<b/><c%d/>", i);
    buf_put_text(&text, "</a>");
    xml_t *xml = xml_new(false);
    buf_t out = {0};
    assert_int_equal(xml_read(xml, text_of(buf_text(&text)), NULL, true, &out, NULL), 0);
    assert_int_equal(xml_read(xml, text_of("<a><b>1</b></a>"), NULL, true, &text, NULL), 0);
    buf_clear(&text);
    buf_put_text(&text, "<a>");
    for (int i = 0; i < 1 << 20; i++)
        buf_put_text(&text, "<b/>");
    buf_put_text(&text, "</a>");
    err_t err;
    assert_int_equal(xml_read(xml, text_of(buf_text(&text)), NULL, true, &out, &err), -1);
    assert_non_null(strstr(err.text, "more than 2^20 elements"));
    xml_free(xml);
    buf_fini(&out);
    buf_fini(&text);
}

static void a_path_that_is_none(void **state) {
    static const char *const bad[] = {"", "a..b", ".", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        format_settings_t settings;
        harness_defaults(&settings);
        option_set(option_find(format_options, text_of("xml-records")), &settings, text_of(bad[i]), NULL);
        decoder_t *decoder;
        err_t err;
        assert_int_equal(format_find("xml")->decoder_open(&decoder, &settings, &err), -1);
        option_fini(format_options, &settings);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_become_values),
        cmocka_unit_test(a_path_says_which_elements_are_events),
        cmocka_unit_test(what_is_malformed_costs_only_itself),
        cmocka_unit_test(entities_are_refused_whatever_they_are),
        cmocka_unit_test(encodings),
        cmocka_unit_test(times_are_found_inside),
        cmocka_unit_test(depth_and_number_are_bounded),
        cmocka_unit_test(a_path_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
