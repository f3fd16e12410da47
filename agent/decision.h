/* SPDX-License-Identifier: Apache-2.0 */
/* A decision of the policy as one line for people: what was done and the figures it was done for. Pure. */
#pragma once

#include <stddef.h>

#include "agent/policy.h"

enum { DECISION_TEXT_SIZE = 256 };

/*
 * "downtime limit 50 -> 84 ms: 3.1 MiB left at 38.0 MiB/s after pass 4, without progress" for a downtime
 * limit; for all else the reason and the figures, to be put behind what was done.
 */
void decision_text(const struct policy_decision *decision, char *out, size_t size);
