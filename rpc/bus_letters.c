/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/bus_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text.h"

struct bus_setup *bus_setup_ref(struct bus_setup *setup)
{
    atomic_fetch_add(&setup->references, 1);
    return setup;
}

void bus_setup_unref(struct bus_setup *setup)
{
    if (!setup || atomic_fetch_sub(&setup->references, 1) > 1)
        return;
    rabbit_options_free(setup->options);
    transport_url_free(setup->url);
    mailbox_unref(setup->outbox);
    free(setup->name);
    free(setup);
}

void letter_free(struct letter *letter)
{
    free(letter);
}

void outgoing_drop(struct letter *letter)
{
    struct outgoing *o = (struct outgoing *)letter;

    free((char *)(uintptr_t)o->message.exchange);
    free((char *)(uintptr_t)o->message.routing_key);
    free(o->message.body);
    free(o);
}

void state_report(struct state_reporter *reporter, bool up, const char *broker, const char *why)
{
    struct state_letter *letter;

    if (reporter->told && reporter->up == up && text_equal(reporter->why, why ? why : ""))
        return;
    letter = NEW(struct state_letter);
    letter->letter = (struct letter){.kind = LETTER_STATE, .drop = letter_free};
    letter->role = reporter->role;
    letter->up = up;
    snprintf(letter->why, sizeof(letter->why), "%s", why ? why : "");
    snprintf(letter->broker, sizeof(letter->broker), "%s", broker ? broker : "");
    reporter->told = true;
    reporter->up = up;
    memcpy(reporter->why, letter->why, sizeof(reporter->why));
    mailbox_post(reporter->setup->outbox, &letter->letter);
}
