#include "kernels/run.h"

#include "base/float_mode.h"

typedef struct polled_task {
    const run *r;
    threads_task task;
    void *context;
    float_mode callers_mode;
} polled_task;

/* Thread 0 is the caller's own, the only one that may call back. */
static void run_polled(void *context, int64_t chunk, int thread) {
    const polled_task *polled = context;
    if (thread == 0) {
        const float_mode mode = float_mode_current();
        float_mode_restore(polled->callers_mode);
        polled->r->poll(polled->r->poll_user);
        float_mode_restore(mode);
    }
    polled->task(polled->context, chunk, thread);
}

trol_status run_chunks(const run *r, int64_t n_chunks, threads_task task, void *context) {
    polled_task polled = {r, task, context, float_mode_current()};
    trol_status status = r->poll ? threads_run(r->threads, n_chunks, run_polled, &polled, r->cancel)
                                 : threads_run(r->threads, n_chunks, task, context, r->cancel);
    return status == TROL_OK ? TROL_OK : fail(r->error, status, "the computation was cancelled");
}

trol_status run_alloc(const run *r, size_t count, size_t size, void **memory) {
    return workspace_alloc(r->space, count, size, memory, r->error);
}
