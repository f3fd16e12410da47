/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarding frames at the switch-over (net/forward.h) as part of a migration: which mode both agents can do, what the
 * destination says of it in its answer to pre_live_migration, and when which end is told what. Every failure here
 * means that the network turns by announcement alone, and is told in the log. All on the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <json-c/json_object.h>

#include "agent/migration.h"

enum switchover_mode switchover_mode_wanted(const struct conf *conf);
const char *switchover_mode_name(enum switchover_mode mode);
/* The mode of that name; a word that is not known: announce, which all can do. */
enum switchover_mode switchover_mode_named(const char *word);
/* What this host does as a destination now: what is wanted, as far as its line and its listener are open. */
enum switchover_mode switchover_mode_here(const struct agent *agent);

/* Listens for streams if [net] switchover wants it and nobody listens yet; again after each reload. */
int forwarding_open(struct agent *agent, struct err *e);

/* Destination: waits for the source's stream and adds to the direct line's facts what the source must know. */
void forwarding_expect(struct migration *migration, struct json_object *facts);
/* Destination, after a restart: lets flow what the agent before may have held, and waits for the stream again. */
void forwarding_expect_again(struct migration *migration);
/* Source: by the destination's facts, in the best mode that both can do. */
void forwarding_connect(struct migration *migration, struct json_object *facts);

/* Either side: the guest stopped at the source; true at the destination if what still reaches the source comes here. */
bool forwarding_paused(struct migration *migration);
/* Destination: the network was told of the guest's new place, or nobody will tell it. */
void forwarding_told(struct migration *migration);
/* It runs here (destination); it runs at the source again (either side). */
void forwarding_resumed(struct migration *migration);
void forwarding_reverted(struct migration *migration);

/* Ends it. At the destination of a guest that came, a job takes the holding devices away. */
void forwarding_end(struct migration *migration);
/* Source: the same; `then` runs when all is given back to the kernel. */
void forwarding_end_then(struct migration *migration, void (*then)(struct migration *migration));
void forwarding_counts(const struct migration *migration, struct forward_counts *out);
/* Frees what is there, without a word; for the end of the migration's memory. */
void forwarding_free(struct migration *migration);

/* {"mode": word, "forwarded": n, "held": n, "dropped": n, "returned": n, "carried": n, "carried_ms": n}: new
 * reference. carried_ms -1: nothing was carried. */
struct json_object *forwarding_account(const struct migration *migration);
