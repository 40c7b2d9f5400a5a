/* measure.c - the public call for kernels/peaks.h. */
#include "base/threads.h"
#include "engine/params.h"
#include "kernels/peaks.h"

trol_status trol_measure_peaks(int32_t n_threads, trol_peaks *result, trol_error *error) {
    if (!result)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_measure_peaks: the pointer is NULL");
    trol_threads *threads;
    peaks measured;
    TRY(trol_threads_new(n_threads, &threads, error));
    trol_status status = peaks_measure(threads, &measured, error);
    const int32_t count = threads_count(threads);
    trol_threads_free(threads);
    TRY(status);
    const trol_peaks full = {.n_threads = count,
                             .read_streams = measured.read_streams,
                             .float32_gflops = measured.float32_gflops,
                             .int8_gops = measured.int8_gops,
                             .bfloat16_gflops = measured.bfloat16_gflops,
                             .tile_int8_gops = measured.tile_int8_gops,
                             .tile_bfloat16_gflops = measured.tile_bfloat16_gflops,
                             .read_gbytes = measured.read_gbytes};
    return params_copy_out(result, &full, sizeof full, "trol_peaks", error);
}
