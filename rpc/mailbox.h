/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue from any thread to one reader, with an eventfd to wait for: the loop's end is watched by the
 * loop, a connection's end is polled beside its socket. Letters are intrusive, so that posting never
 * allocates; whoever takes a letter owns it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

struct letter {
    struct letter *next;
    int kind;                            /* the reader's */
    void (*drop)(struct letter *letter); /* frees it when nobody will read it any more */
};

struct mailbox;

int mailbox_new(struct mailbox **out, struct err *e);
struct mailbox *mailbox_ref(struct mailbox *mailbox);
void mailbox_unref(struct mailbox *mailbox); /* the last one drops what was not taken */
DEFINE_CLEANUP(struct mailbox *, mailbox_unref)

/* Any thread. A closed mailbox drops the letter at once. */
void mailbox_post(struct mailbox *mailbox, struct letter *letter);
void mailbox_wake(struct mailbox *mailbox); /* makes the descriptor readable, with no letter */
size_t mailbox_length(struct mailbox *mailbox);
void mailbox_close(struct mailbox *mailbox); /* from now on everything is dropped */

/* The reader's. Takes all letters, oldest first, and makes the descriptor quiet. */
int mailbox_fd(const struct mailbox *mailbox);
struct letter *mailbox_take(struct mailbox *mailbox);
