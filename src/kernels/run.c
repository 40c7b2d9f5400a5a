#include "kernels/run.h"

trol_status run_chunks(const run *r, int64_t n_chunks, threads_task task, void *context) {
    if (threads_run(r->threads, n_chunks, task, context, r->cancel) != TROL_OK)
        return fail(r->error, TROL_ERROR_CANCELLED, "the computation was cancelled");
    return TROL_OK;
}

trol_status run_alloc(const run *r, size_t count, size_t size, void **memory) {
    return workspace_alloc(r->space, count, size, memory, r->error);
}
