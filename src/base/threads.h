/* threads.h - the pool behind trol_threads: chunks of work taken from an atomic counter by all threads.
 *
 * Results must not depend on the number of threads: a caller cuts its work into chunks by the work's size alone, and
 * each chunk writes what no other chunk touches. */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "trol.h"

/* Does chunk `chunk`. `thread` (0 to threads_count - 1) says which scratch memory is this thread's own. Tasks run in
 * the float mode of float_mode.h; the caller's own is restored before threads_run returns. */
typedef void (*threads_task)(void *context, int64_t chunk, int thread);

int threads_count(const trol_threads *threads);
trol_threads *threads_retain(trol_threads *threads);
/* Whether the calling thread has it to itself (trol_threads_hold): then it must not wait for others that need it. */
bool threads_held_here(trol_threads *threads);

/* Runs task for chunks 0 .. n_chunks-1 and returns when all are done; the calling thread works too. A set *cancel (may
 * be NULL) stops it between chunks: TROL_ERROR_CANCELLED. Between chunks it also makes way for a caller that wants the
 * pool for itself (trol_threads_hold), and continues once it is released. Must not be called from within a task. */
trol_status threads_run(trol_threads *threads, int64_t n_chunks, threads_task task, void *context,
                        const atomic_int *cancel);

#endif
