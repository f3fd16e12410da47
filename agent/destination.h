/* SPDX-License-Identifier: Apache-2.0 */
/* What recovery and events need of the destination's side; nothing for others. */
#pragma once

#include "agent/migration.h"

/* Ports armed (again): what an earlier set had still to announce is dropped. */
void destination_arm(struct migration *migration);
/* After a restart, in PREPARED: ports armed again, the direct line open with the key of the record. */
void destination_rearm(struct migration *migration);
