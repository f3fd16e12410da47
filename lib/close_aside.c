/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/close_aside.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

static void *close_it(void *fd)
{
    (void)close((int)(intptr_t)fd);
    return NULL;
}

void close_aside(int fd)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;

    if (fd < 0)
        return;
    (void)sigfillset(&all); /* signals belong to the loop */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, close_it, (void *)(intptr_t)fd) != 0)
        (void)close(fd);
    (void)pthread_attr_destroy(&attributes);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}
