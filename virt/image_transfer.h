/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying a file of the source host that libvirt's migration does not copy: image bases, config drives,
 * kernels. It goes through libvirt's storage streams, so that TLS, authentication and access rules are
 * those that the administrator gave to libvirt, and no second daemon or shell is needed.
 *
 * BLOCKS for the whole copy: call it on a worker.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "lib/err.h"

struct image_transfer {
    const char *source_uri; /* libvirt URI of the source host */
    const char *directory;  /* absolute, on the source; checked by virt/paths.c */
    const char *name;       /* one component, checked likewise */
    int64_t size;           /* bytes expected; -1 = any up to size_max */
    int64_t size_max;
    int fd;                        /* empty file to write into, holes are kept */
    const char *path;              /* its name, for messages */
    const atomic_bool *called_off; /* NULL, or becomes true when nobody wants the file any more */
};

/*
 * Fills transfer->fd; its length is then the length of the source's file. ERR_DISK when the file is not
 * there or has another size, ERR_HYPERVISOR when the source's libvirt cannot be reached, ERR_NO_SPACE
 * when the disk is full here, ERR_CANCELLED when it was called off.
 */
typedef int (*image_transfer_fn)(void *aux, const struct image_transfer *transfer, struct err *e);

/*
 * By libvirt. The pool that the file is found in is the source's own for that directory, else a transient
 * one that is taken away again. The file comes in pieces of 16 MiB, each a stream of its own: that
 * bounds what libvirt's client may queue in our memory when the network is faster than the disk. A source
 * that is silent for 30 s is given up (libvirt's keepalive, which needs an event implementation).
 * The program has set libvirt's error function, else libvirt prints a failed connection on stderr.
 */
int image_transfer_libvirt(void *aux, const struct image_transfer *transfer, struct err *e);
