/* SPDX-License-Identifier: Apache-2.0 */
/* What recovery needs of the destination's side; nothing for others. */
#pragma once

#include "agent/migration.h"

/* After a restart, in PREPARED: ports armed again, the direct line open with the key of the record. */
void destination_rearm(struct migration *migration);
