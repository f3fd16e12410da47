/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a program where no library does the job (qemu-img, ovs-vsctl). posix_spawn, no shell, an
 * explicit argument vector, a clean environment, no inherited descriptors, bounded time, output, CPU
 * time and address space. Blocks: call it on a worker.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct process_limits {
    int64_t timeout_us;     /* the whole run; the process group is killed then; 0 = 60 s */
    size_t output_max;      /* bytes of standard output kept, more is an error; 0 = 1 MiB */
    uint64_t cpu_seconds;   /* RLIMIT_CPU; 0 = none */
    uint64_t address_space; /* RLIMIT_AS in bytes; 0 = none */
};

/*
 * argv[0] is looked up in /usr/sbin:/usr/bin:/sbin:/bin unless it is an absolute path. Nothing of the
 * program's process group outlives the call. *out (may be NULL) gets standard output, terminated. A
 * non-zero exit, a signal or a limit is ERR_SYSTEM with the end of standard error.
 */
int process_run(const char *const argv[], const struct process_limits *limits, char **out,
                struct err *e);
