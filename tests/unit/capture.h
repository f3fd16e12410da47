/* SPDX-License-Identifier: Apache-2.0 */
/* The recorded messages of a real cloud (tests/data/capture), for the tests that go over all of them. */
#pragma once

#include <json-c/json_object.h>

/* The number of recorded messages: a test that saw fewer did not find its data. */
enum { CAPTURE_COUNT = 420 };

/* Calls `each` for every message with its file's name and its inner message (borrowed). */
unsigned capture_each(void (*each)(const char *name, struct json_object *inner));
/* One inner message by file name, e.g. "live-migration/008-...json"; NULL if there is none. */
struct json_object *capture_load(const char *name);
