/* run.h - what a computation runs with: threads, scratch memory, and a flag that stops it. */
#ifndef KERNELS_RUN_H
#define KERNELS_RUN_H

#include <stdatomic.h>

#include "base/memory.h"
#include "base/threads.h"
#include "kernels/kernels.h"

typedef struct run {
    trol_threads *threads;
    workspace *space;         /* scratch; a function that takes from it releases it before it returns */
    const kernels *kernels;   /* the table for this CPU */
    const atomic_int *cancel; /* set: stop between chunks with TROL_ERROR_CANCELLED; may be NULL */
    trol_error *error;
    /* Called by the calling thread between its chunks, in its own float mode, to report progress and to check for a
     * cancel; may be NULL. It must be cheap. */
    void (*poll)(void *user);
    void *poll_user;
} run;

/* threads_run with a sentence on cancellation. */
trol_status run_chunks(const run *r, int64_t n_chunks, threads_task task, void *context);
/* workspace_alloc from r->space. */
trol_status run_alloc(const run *r, size_t count, size_t size, void **memory);

#endif
