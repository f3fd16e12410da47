/* SPDX-License-Identifier: Apache-2.0 */
/* For lib/json.c alone: what must hold of a text before json-c reads it. */
#pragma once

#include <stddef.h>

#include "lib/err.h"

/*
 * 0 if the text may be given to json-c's strict parser, -1 with ERR_PARSE and the place if not. It does
 * not check the grammar between values. Any thread.
 */
int json_scan(const char *text, size_t length, struct err *e);
