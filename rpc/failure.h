/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failures as oslo.messaging serialises exceptions (nova-contract 1.7): a JSON text with class, module,
 * message, tb, args and kwargs. A Nova class gets the keyword arguments that its constructor and its
 * readers use (`code`, `reason`, `instance_id`, ...), so that the receiver rebuilds the very exception.
 *
 * What goes out is bounded (struct err) and scrubbed of credentials. Pure functions; any thread.
 */
#pragma once

#include <stddef.h>

#include "lib/err.h"

enum { FAILURE_TEXT_MAX = 256 * 1024 }; /* a peer's failure that is kept for passing on */

/* The failure text of an error; the caller frees it. */
char *failure_encode(const struct err *e);
/*
 * Fills *e from a peer's failure: class, module and message pass through (cut at their limits), the
 * `_Remote` suffix that oslo.messaging appends is taken off. A text that is no failure gives ERR_REMOTE.
 */
void failure_decode(const char *text, struct err *e);
/*
 * Replaces credentials in place by asterisks: the user part of URLs, and what follows a key that is
 * named like a password, secret or token.
 */
void failure_scrub(char *text);
