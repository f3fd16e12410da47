/* SPDX-License-Identifier: Apache-2.0 */
/* The report's page: what it says, that nothing from an answer gets out of its place, that it is well-formed. */
#include "tests/unit/unit.h"

#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>

#include "ctl/report.h"
#include "ctl/view.h"
#include "lib/json.h"
#include "lib/text.h"

#define WRITTEN INT64_C(1795348800000000) /* 2026-11-22T12:00:00 */

static struct json_object *m;
static struct text_buffer page;
static xmlDoc *doc;

static struct json_object *parsed(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

static void add_stamp(const char *name, const char *text, const char *host, double start,
                      double pause)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "name", name);
    json_add_string(o, "text", text);
    json_add_string(o, "host", host);
    json_add_string(o, "at", "2026-11-22T11:59:00.123456");
    json_add_double(o, "since_start_ms", start);
    json_add_double(o, "since_pause_ms", pause);
    json_object_array_add(json_get(json_get(m, "timeline"), "stamps"), o);
}

static void add_sample(double ms, int64_t left, int64_t expected)
{
    struct json_object *o = json_object_new_object();

    json_add_double(o, "since_start_ms", ms);
    json_add_int(o, "memory_remaining", left);
    json_add_int(o, "disk_remaining", left / 2);
    json_add_int(o, "throughput_bytes_s", 100 << 20);
    json_add_int(o, "dirty_rate_bytes_s", 20 << 20);
    json_add_int(o, "throttle_percent", ms > 5000 ? 20 : 0);
    json_add(o, "expected_downtime_ms", expected < 0 ? NULL : json_object_new_int64(expected));
    json_add(o, "expected_downtime_low_ms",
             expected < 0 ? NULL : json_object_new_int64(expected * 3 / 4));
    json_add(o, "expected_downtime_high_ms",
             expected < 0 ? NULL : json_object_new_int64(expected * 2));
    json_add_int(o, "downtime_limit_ms", 100);
    json_add_int(o, "iteration", 2);
    json_object_array_add(json_get(m, "samples"), o);
}

static void add_note(double ms, const char *text)
{
    struct json_object *o = json_object_new_object();

    json_add_double(o, "since_start_ms", ms);
    json_add_string(o, "text", text);
    json_object_array_add(json_get(m, "notes"), o);
}

/* One that completed: called 200 ms after the request, paused at 10.2 s, running again 80.5 ms later. */
static void setup(void)
{
    m = parsed(
        "{\"id\": 17, \"uuid\": \"34082c59-a44b-4000-9999-43a9a0767be2\", \"name\": \"web-01\","
        " \"instance\": \"fa70925f-2d0d-4024-871f-903f3c94d32b\", \"role\": \"source\","
        " \"source\": \"hosta\", \"dest\": \"hostb\", \"status\": \"completed\","
        " \"phase\": \"completed\", \"message\": null, \"created_at\": \"2026-11-22T11:59:00Z\","
        " \"updated_at\": \"2026-11-22T11:59:12Z\", \"elapsed_s\": 10.3,"
        " \"memory\": {\"total\": 1073741824, \"processed\": 1181116006, \"remaining\": 0},"
        " \"disk\": {\"total\": 0, \"processed\": 0, \"remaining\": 0}, \"iteration\": 4,"
        " \"completion_timeout_s\": 360, \"timeout_action\": \"abort\", \"auto_converge\": true,"
        " \"post_copy\": false, \"bandwidth_mib\": 0, \"downtime_limit_ms\": 100,"
        " \"result\": {\"total_time_ms\": 10300, \"average_throughput_bytes_s\": 113246208,"
        " \"downtime_ms\": 72}, \"notes\": [], \"samples\": [],"
        " \"timeline\": {\"aligned_by\": \"signal\", \"stamps\": []}}");
    add_stamp("accepted", "request received", "hosta", 0, -10200);
    add_stamp("called", "libvirt called", "hosta", 200, -10000);
    add_stamp("paused", "guest paused", "hosta", 10200, 0);
    add_stamp("signal_sent", "signal sent", "hosta", 10200.2, 0.2);
    add_stamp("announced", "network turned", "hostb", 10201.4, 1.4);
    add_stamp("resumed", "guest runs", "hostb", 10280.5, 80.5);
    add_stamp("returned", "libvirt's call returned", "hosta", 10300, 100);
    add_stamp("cleaned", "source cleaned up", "hosta", 12000, 1800);
    for (int i = 0; i < 10; i++)
        add_sample(300 + i * 1000, (10 - i) * INT64_C(100) << 20, i < 2 ? -1 : 400 - i * 30);
    add_note(4200, "downtime limit raised to 100 ms: the last pass left 40 MiB");
}

static void teardown(void)
{
    xmlFreeDoc(doc);
    doc = NULL;
    text_buffer_free(&page);
    json_object_put(m);
}
UNIT_FIXTURE(setup, teardown)

/* Writes the page and reads it with an XML parser: not one error is permitted. */
static void write_page(void)
{
    xmlFreeDoc(doc);
    text_buffer_free(&page);
    report_page(&page, m, WRITTEN, "1.2.3");
    doc = xmlReadMemory(page.data, (int)page.length, "report", NULL, XML_PARSE_NONET);
    UNIT_TRUE(doc != NULL);
}

static double number_of(const char *expression)
{
    xmlXPathContext *context = xmlXPathNewContext(doc);
    double value = -1;

    xmlXPathRegisterNs(context, BAD_CAST "h", BAD_CAST "http://www.w3.org/1999/xhtml");
    xmlXPathRegisterNs(context, BAD_CAST "s", BAD_CAST "http://www.w3.org/2000/svg");
    xmlXPathObject *found = xmlXPathEvalExpression(BAD_CAST expression, context);
    if (UNIT_TRUE(found != NULL))
        value = xmlXPathCastToNumber(found);
    xmlXPathFreeObject(found);
    xmlXPathFreeContext(context);
    return value;
}

static char *text_of(const char *expression)
{
    xmlXPathContext *context = xmlXPathNewContext(doc);
    char *text = NULL;

    xmlXPathRegisterNs(context, BAD_CAST "h", BAD_CAST "http://www.w3.org/1999/xhtml");
    xmlXPathObject *found = xmlXPathEvalExpression(BAD_CAST expression, context);
    if (UNIT_TRUE(found != NULL)) {
        xmlChar *string = xmlXPathCastToString(found);
        text = text_dup((const char *)string);
        xmlFree(string);
    }
    xmlXPathFreeObject(found);
    xmlXPathFreeContext(context);
    return text;
}

#define TEXT_IS(expression, expected)                                                              \
    do {                                                                                           \
        _cleanup_(str_freep) char *unit_text = text_of(expression);                                \
        UNIT_STR(unit_text, expected);                                                             \
    } while (0)
#define TEXT_HAS(expression, part)                                                                 \
    do {                                                                                           \
        _cleanup_(str_freep) char *unit_text = text_of(expression);                                \
        UNIT_HAS(unit_text, part);                                                                 \
    } while (0)
#define VERDICT "string(//h:p[@class='verdict'][1])"

/* ---- what it says ---- */

UNIT_TEST(verdict,
          "the head says in words what became of it, and how long the instance stood still")
{
    write_page();
    TEXT_IS("string(//h:h1)", "web-01: hosta \xe2\x86\x92 hostb");
    TEXT_IS("string(//h:title)", "web-01: hosta \xe2\x86\x92 hostb");
    TEXT_HAS(VERDICT, "moved to hostb in 10.3 s and stood still for 80.5 ms.");
    TEXT_IS("string(//*[@id='status'])", "completed");
    TEXT_HAS("string(//h:footer)",
             "2026-11-22 12:00:00 UTC by computectl 1.2.3 from the account of hosta");
}

static void say(const char *status, const char *phase, const char *message)
{
    json_add_string(m, "status", status);
    json_add_string(m, "phase", phase);
    json_add_string(m, "message", message);
    write_page();
}

UNIT_TEST(other_ends, "each other end has its own words, and where the instance is")
{
    say("failed", "failed", "the line broke");
    TEXT_HAS(VERDICT, "failed; the instance stays on hosta");
    TEXT_IS("string(//*[@id='message'])", "the line broke");
    say("cancelled", "cancelled", NULL);
    TEXT_HAS(VERDICT, "was cancelled; the instance stays on hosta");
    say("error", "parked", NULL);
    TEXT_HAS(VERDICT, "cannot be told: look at both hosts");
    json_add(m, "result", NULL);
    say("running", "running", NULL);
    TEXT_HAS(VERDICT, "under way");
    TEXT_HAS("string(//h:dl[@class='key'])", "Time so far");
}

UNIT_TEST(no_measure, "a pause that nobody measured is said to be so, and is no number")
{
    json_add(m, "timeline", NULL);
    json_add(json_get(m, "result"), "downtime_ms", NULL);
    write_page();
    TEXT_HAS(VERDICT, "how long it stood still was not measured");
    TEXT_HAS("string(//*[@id='timeline'])", "No timeline is on record");
}

UNIT_TEST(figures, "four plots, each with its axis, its curves, the decision and the pause")
{
    write_page();
    UNIT_EQ(number_of("count(//h:figure[@class='plot']/s:svg)"), 4);
    UNIT_EQ(number_of("count(//s:path[starts-with(@class, 'curve')])"), 9);
    UNIT_EQ(number_of("count(//h:figure[@class='plot']//s:path[@class='pause'])"), 4);
    UNIT_EQ(number_of("count(//h:figure[@class='plot']//s:circle[@class='ball'])"), 4);
    UNIT_EQ(number_of("count(//h:ol[@class='decisions']/h:li)"), 1);
    TEXT_HAS("string(//h:ol[@class='decisions'])", "4.0 sdowntime limit raised to 100 ms");
    UNIT_TRUE(number_of("count(//s:text[contains(., 'MiB/s')])") >= 3);
}

UNIT_TEST(
    at_the_edge,
    "what was decided just before libvirt's call is marked at the plots' edge, earlier things not")
{
    json_add(m, "notes", json_object_new_array());
    add_note(199.8, "begins with 20 %");
    write_page();
    UNIT_EQ(number_of("count(//h:figure[@class='plot']//s:circle[@class='ball'])"), 4);
    json_add(m, "notes", json_object_new_array());
    add_note(-5000, "waited");
    write_page();
    UNIT_EQ(number_of("count(//h:figure[@class='plot']//s:circle[@class='ball'])"), 0);
    UNIT_EQ(number_of("count(//h:ol[@class='decisions']/h:li)"), 1);
}

UNIT_TEST(to_scale, "the switch-over is drawn to scale around the pause; the table has every stamp")
{
    write_page();
    UNIT_EQ(number_of("count(//h:table/h:tbody/h:tr)"), 8);
    /* the clean-up of 1.8 s would make the rest invisible */
    UNIT_EQ(number_of("count(//*[@class='stamp'])"), 5);
    double pause = number_of("number(//*[@class='band'][../../@id='switchover']/@x)");
    double width = number_of("number(//*[@class='band'][../../@id='switchover']/@width)");
    double returned = number_of("number((//*[@class='stamp'])[5]/s:circle/@cx)");
    UNIT_TRUE(width > 100);
    /* 100 ms are to 80.5 ms as their lengths */
    UNIT_TRUE((returned - pause) / width > 1.23 && (returned - pause) / width < 1.25);
}

UNIT_TEST(alone, "the page has no script, no link and nothing to fetch, and forbids it")
{
    write_page();
    UNIT_EQ(number_of("count(//h:script | //h:link | //h:img | //h:iframe | //@src | //@href | "
                      "//@onload | //@style)"),
            0);
    TEXT_HAS("string(//h:meta[@http-equiv]/@content)", "default-src 'none'");
    UNIT_TRUE(strstr(page.data, "url(") == NULL && strstr(page.data, "@import") == NULL);
}

/* ---- what may come ---- */

UNIT_TEST(hostile, "names and texts that try to be markup stay text, wherever they stand")
{
    static const char evil[] =
        "<script>alert(1)</script>\"'&amp;]]><!-- \x01\xff \xef\xbf\xbf\n\xe2\x80\xae";
    static const char *const keys[] = {"name",       "instance",   "uuid",  "source",
                                       "dest",       "status",     "phase", "message",
                                       "created_at", "updated_at", "role",  "timeout_action"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        json_add_string(m, keys[i], evil);
    add_note(500, evil);
    add_stamp("paused", evil, evil, 10200, 0);
    json_add_string(json_object_array_get_idx(json_get(json_get(m, "timeline"), "stamps"), 0), "at",
                    evil);
    write_page();
    UNIT_EQ(number_of("count(//*[local-name() = 'script'] | //comment())"), 0);
    TEXT_HAS("string(//h:h1)", "<script>alert(1)</script>\"'&amp;]]><!-- ");
    UNIT_TRUE(strstr(page.data, "<script") == NULL);
    UNIT_TRUE(strstr(page.data, "\xe2\x80\xae") == NULL); /* turns the direction of what follows */
}

UNIT_TEST(other_types, "an answer of other types, or of nothing, is still a page")
{
    static const char *const answers[] = {
        "{}",
        "{\"timeline\": 7, \"samples\": {}, \"notes\": \"x\", \"result\": [], \"memory\": null}",
        "{\"timeline\": {\"stamps\": [null, 1, \"x\", [], {}]}, \"samples\": [null, 1, []], "
        "\"notes\": [null, 3, {}], \"name\": 5}",
        "{\"samples\": [{\"since_start_ms\": 1e308, \"memory_remaining\": 1e308}, "
        "{\"since_start_ms\": "
        "-1e308, \"memory_remaining\": -5, \"throughput_bytes_s\": 9223372036854775807}], "
        "\"timeline\": {\"stamps\": [{\"name\": \"paused\", \"since_pause_ms\": 0}, {\"name\": "
        "\"resumed\", \"since_pause_ms\": 1e308}]}, \"elapsed_s\": -1e300}",
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        json_object_put(m);
        m = parsed(answers[i]);
        write_page();
        UNIT_TRUE(strstr(page.data, "nan") == NULL && strstr(page.data, "inf\"") == NULL);
    }
}

static void clear_samples(void)
{
    json_add(m, "samples", json_object_new_array());
}

UNIT_TEST(no_sample, "without samples the page says so instead of drawing empty axes")
{
    clear_samples();
    write_page();
    UNIT_EQ(number_of("count(//h:figure[@class='plot'])"), 0);
    TEXT_HAS("string(//*[@id='progress'])", "No samples are on record");
}

UNIT_TEST(one_sample, "one sample is a dot, not a gap")
{
    clear_samples();
    add_sample(300, 1000, 50);
    write_page();
    UNIT_EQ(number_of("count(//h:figure[@class='plot'])"), 4);
    UNIT_EQ(number_of("count(//s:path[starts-with(@class, 'curve') and contains(@d, 'h.1')])"), 9);
    UNIT_EQ(number_of("count(//s:path[@class='area'])"), 0);
}

UNIT_TEST(gaps, "what was not known at a moment is a gap in the curve")
{
    clear_samples();
    for (int i = 0; i < 6; i++)
        add_sample(300 + 1000 * i, 1000, i == 2 || i == 3 ? -1 : 50);
    write_page();
    _cleanup_(str_freep) char *d = text_of("string(//*[contains(@aria-label, 'pause and')]/*"
                                           "[@class='curve a']/@d)");
    unsigned moves = 0;
    for (const char *p = d; p && *p; p++)
        moves += *p == 'M';
    UNIT_EQ(moves, 2);
}

UNIT_TEST(thousands, "thousands of samples, notes and stamps are one page of a bounded size")
{
    clear_samples();
    for (int i = 0; i < 5000; i++)
        add_sample(300 + 1000 * i, 1000000 - i, i);
    for (int i = 0; i < 1000; i++)
        add_note(300 + 10 * i, "again");
    write_page();
    UNIT_TRUE(page.length < 4 << 20);
    UNIT_EQ(number_of("count(//s:path[starts-with(@class, 'curve')])"), 9);
    /* of marks that would lie on one another only some carry their number */
    UNIT_TRUE(number_of("count(//h:figure[@class='plot'][1]//s:circle)") < 60);
}

UNIT_TEST(table, "the same timeline as a table of a terminal")
{
    struct text_buffer out = TEXT_BUFFER_INIT;
    view_timeline(&out, json_get(m, "timeline"));
    UNIT_HAS(out.data, "START MS  PAUSE MS  HOST   WHAT");
    UNIT_HAS(out.data, "+10280.5     +80.5  hostb  guest runs");
    UNIT_HAS(out.data, "laid beside by the signal of the pause");
    text_buffer_free(&out);
    view_timeline(&out, NULL);
    UNIT_STR(out.data, "no timeline was kept of this migration\n");
    text_buffer_free(&out);
}

UNIT_TEST(steps, "axes are parted by 1, 2 or 5 of a power of ten")
{
    UNIT_TRUE(report_nice_step(10, 4) == 5.0);
    UNIT_TRUE(report_nice_step(0.8, 8) == 0.1 || report_nice_step(0.8, 8) == 0.2);
    UNIT_TRUE(report_nice_step(390, 4) == 100.0);
}
