/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct job {
    void (*run)(void);
    atomic_uint done;
};

static void *run_job(void *aux)
{
    struct job *job = aux;

    job->run();
    atomic_store(&job->done, 1);
    return NULL;
}

void worker_run(struct loop *loop, void (*run)(void))
{
    struct job job = {.run = run};
    pthread_t thread;

    if (pthread_create(&thread, NULL, run_job, &job) != 0)
        abort();
    while (!atomic_load(&job.done))
        (void)loop_turn(loop, 5, NULL);
    pthread_join(thread, NULL);
}
