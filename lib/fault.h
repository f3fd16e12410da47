/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault points: named places before and after external effects where tests make the agent fail, stall
 * or die. They are always compiled in and cost one load when nothing is armed. They are armed by a file
 * that root owns and nobody else may write (`--fault-file`), lines of `name=error|crash|delay(ms)|hang`,
 * each optionally `@n` = only the n-th time. `crash` is SIGKILL to ourselves, so nothing is tidied up;
 * `hang` lasts until another file is read or the points are disarmed. The agent reads the file again with its
 * configuration (SIGHUP). What is armed and what happens at a point is logged as a warning. Empty lines and
 * lines that begin with # are skipped.
 */
#pragma once

#include "lib/err.h"

/* Reads the file; NULL disarms. Refuses a file that is not root's or is writable by others. */
int fault_load(const char *file, struct err *e);
/* For tests: arms one point from text "name=action". */
int fault_arm(const char *spec, struct err *e);
void fault_disarm_all(void);

/* 0, or -1 with *e set when the point is armed with `error`. Any thread; may block (delay, hang). Where nothing can
 * fail (a state is entered, news came) the result is cast away: there `error` does nothing. */
int fault_point(const char *name, struct err *e);
