/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The own part of transient queues' names. Without use_queue_manager: 32 random hex digits. With it:
 * "<hostname>:<processname>:<n>", the same after each restart, where n counts within this process group in
 * /dev/shm/<hostname>_<processname>_qmanager (oslo.messaging 16.1 on, contract 1.2), so that several
 * processes of one service never take the same name.
 */
#pragma once

#include "lib/err.h"
#include "rpc/rabbit_options.h"

enum { QUEUE_SUFFIX_SIZE = 256 };

/* The next name's own part. `directory` is "/dev/shm" but for tests. */
int queue_suffix(const struct rabbit_options *options, const char *directory,
                 char out[QUEUE_SUFFIX_SIZE], struct err *e);
