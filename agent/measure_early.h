/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measurements of guests that are asked about and may be moved next. Between the check and the request the control
 * plane does its own work (Nova binds ports): a measurement that begins with the check is over by then. It costs
 * nothing where no request follows.
 */
#pragma once

#include "agent/agent.h"
#include "agent/measure.h"

/* Takes over what was begun, in place of an older one of that guest. Loop. */
void measure_early_keep(struct agent *agent, const char *uuid, struct measure_begun *begun);
/* Gives it away, if it is of the last seconds: the caller clears it. Loop. */
bool measure_early_take(struct agent *agent, const char *uuid, struct measure_begun *out);
void measure_early_close(struct agent *agent);
