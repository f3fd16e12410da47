/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network that follows late (net/carry.h) as part of a migration. With [net] late_wiring = carry on both hosts, the
 * source shares the guest's taps while it copies, the destination looks whether its ports have their way, and if they
 * have none at the pause, frames go both ways between the hosts until they do, for [net] carry_timeout at most.
 *
 * Until then both hosts are at the last step of the migration: what the source has is taken away only when the
 * network has turned. Neutron's Open vSwitch agents wire a port that has migrating_to before its binding is active, and
 * take it out of the source's switch when it is: there the bindings are activated at the turn. Its Linux bridge agents
 * wire only when the binding is active, so that it is activated at the pause; the source's then takes the tap out of
 * its bridge, and we put it back. In both cases the rules that name the tap stay as long as it does. On the loop's
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <json-c/json_object.h>

#include "agent/migration.h"

/* Destination, once its end of the stream waits: permits it, and says so in the facts. */
void carrying_permit(struct migration *migration, struct json_object *facts);
/* Destination: the ports were armed anew; what becomes of their ways is looked at. */
void carrying_watch(struct migration *migration);
/* Source, once its end of the stream is there: offers it if the destination's facts permit it. */
void carrying_offer(struct migration *migration, struct json_object *facts);

/* Either side: from the pause to the turn. Nothing may be announced. */
bool carrying_is_on(const struct migration *migration);
/* Source, as above: nor may the bindings be activated. */
bool carrying_holds_bindings(const struct migration *migration);
/* Calls done, without a failure: now if nothing is carried, else when that has ended (or the agent ends). One at a
 * time. */
void carrying_wait(struct migration *migration, cloud_done_fn done, void *aux);
/* Ends it; the guest is cut off until its port is wired. Nothing is carried: success. */
void carrying_give_up(struct migration *migration);
/* At the agent's end: who waits is called. */
void carrying_drop_waiting(struct migration *migration);
