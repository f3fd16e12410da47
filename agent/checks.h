/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of checks before a guest moves: one table, two uses. A migration runs the checks of a phase in order and
 * ends with the first that refuses; a plan (agent/plan.h) is told of each, with the values that were compared.
 * Every check only looks.
 *
 * What is not in the table needs an answer of somebody else: server groups (cloud/instances.h), storage that both
 * hosts share (agent/check_answer.h), a guest that never converges (agent/source_measure.c).
 */
#pragma once

#include <json-c/json_object.h>

#include "agent/migration.h"

/* Who looks, and when. A check may belong to several. */
enum check_phase {
    CHECK_SOURCE_COMMAND = 1 << 0,    /* source: the command `migrate`; loop or worker */
    CHECK_SOURCE_TAKES = 1 << 1,      /* source: live_migration; loop */
    CHECK_SOURCE_GUEST = 1 << 2,      /* source: the guest as it was read; any thread */
    CHECK_DESTINATION_ASKED = 1 << 3, /* destination: before anybody else is asked; loop */
    CHECK_DESTINATION_TAKES = 1 << 4, /* destination: pre_live_migration; loop */
    CHECK_DESTINATION_FITS = 1 << 5,  /* destination: this host and the guest; BLOCKS: worker */
};

/* What the checks look at, all borrowed; a phase uses what it needs. */
struct check_subject {
    struct agent *agent; /* of the loop's phases */
    const char *host;    /* this one */
    const char *destination;
    const struct instance *instance;
    const struct virt_guest *guest;
    struct virt *virt;
    struct net *net;
    const struct conf *conf;
    const struct port_list *ports;
    bool block_migration, over_commit, own_directory;
    int64_t disk_free;
    char **warning; /* what an operator should know; the caller frees */
};

/* 0, or -1 with the first refusal. */
int checks_run(enum check_phase phase, const struct check_subject *subject, struct err *e);
/* Each check of the phases, once: appended to the list, as checks_add() does. */
void checks_tell(unsigned phases, const struct check_subject *subject, struct json_object *list);

enum check_result { CHECK_PASSED, CHECK_WARNED, CHECK_REFUSED, CHECK_UNKNOWN };
/* Appends {"at": host, "check", "result": word, "text"}. */
void checks_add(struct json_object *list, const char *host, const char *check,
                enum check_result result, const char *text);
/* By the error: refused with its sentence, or passed with `found` when none is set. */
void checks_add_outcome(struct json_object *list, const char *host, const char *check,
                        const struct err *failure, const char *found);
