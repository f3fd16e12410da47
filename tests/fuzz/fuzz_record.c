/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal record of any kind, as a restarted agent reads it: what is taken can be written, and reads
 * the same again.
 */
#include <stdint.h>
#include <stdlib.h>

#include "agent/migration.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

static int nothing(void *aux, struct json_object *args, struct err *e)
{
    (void)aux;
    (void)args;
    (void)e;
    return 0;
}

static const struct undo_handler handlers[] = {
    {.name = "net.unplug", .run = nothing},
    {.name = "storage.remove_file", .run = nothing},
    {.name = NULL},
};

static void read_again(struct agent *agent, const struct migration *m)
{
    struct migration *again = NULL;
    struct err e = ERR_INIT;
    _cleanup_(json_putp) struct json_object *written = migration_to_record(m), *rewritten = NULL;

    expect(migration_from_record(agent, written, &again, &e) == 0);
    rewritten = migration_to_record(again);
    expect(json_same(written, rewritten));
    json_object_put(migration_account(again));
    migration_forget(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char host[] = "hosta";
    static struct conf *conf;
    _cleanup_(json_putp) struct json_object *record = NULL;
    struct migration *m = NULL;
    struct err e = ERR_INIT;

    log_set_level(NULL, LOG_LEVEL_ERROR);
    if (!conf)
        conf = conf_for_test("DEFAULT.debug", "false", NULL);
    struct agent agent = {.host = host, .conf = conf, .undo_handlers = handlers};
    if (json_parse((const char *)data, size, &record, &e) < 0)
        return 0;
    if (migration_from_record(&agent, record, &m, &e) < 0) {
        expect(e.code != ERR_NONE && e.text[0] && !agent.migrations);
        return 0;
    }
    read_again(&agent, m);
    migration_forget(m);
    expect(!agent.migrations);
    return 0;
}
