/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file of any content, YAML or INI: entries, values, rules, reload, and texts for people. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/load.h"
#include "conf/render.h"
#include "lib/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

static void read_all(struct conf *conf)
{
    bool changed[CONF_COUNT], restart[CONF_COUNT];
    _cleanup_(conf_unrefp) struct conf *merged = conf_reload_merge(conf, conf, changed, restart);
    _cleanup_(str_freep) _unused_ char *log_path = conf_log_path(conf);

    for (unsigned id = 0; id < CONF_COUNT; id++) {
        _cleanup_(str_freep) char *text = conf_text(conf, (enum conf_id)id);
        expect(text && conf_origin(conf, (enum conf_id)id));
        expect(!changed[id] && !restart[id]);
        expect(conf_equal(conf, merged, (enum conf_id)id));
    }
}

static void read_report(const struct conf_report *report)
{
    for (size_t i = 0; i < report->length; i++) {
        _cleanup_(str_freep) char *text = conf_problem_text(&report->items[i]);
        expect(text && text[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    char path[64];
    const char *const files[] = {path, NULL};
    const struct conf_sources sources = {.config_files = files, .no_permission_check = true};
    struct conf_report report = {0};
    struct conf_entries entries = {0};
    _cleanup_(conf_unrefp) struct conf *conf = NULL;
    struct err e = ERR_INIT;

    if (fd < 0)
        fd = memfd_create("conf", MFD_CLOEXEC);
    expect(fd >= 0 && ftruncate(fd, 0) == 0);
    expect(pwrite(fd, data, size, 0) == (ssize_t)size);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (conf_load(&sources, &conf, &report, &e) == 0)
        read_all(conf);
    else
        expect(e.code == ERR_CONFIG && e.text[0] && report.errors > 0);
    read_report(&report);
    conf_report_clear(&report);
    (void)conf_read_entries(path, &entries, &report, NULL);
    conf_entries_clear(&entries);
    conf_report_clear(&report);
    return 0;
}
