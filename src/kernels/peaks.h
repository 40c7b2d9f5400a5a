/* peaks.h - what this machine can do at most, measured in a second or two: the yardstick for every speed that is
 * reported. Public as trol_measure_peaks. */
#ifndef KERNELS_PEAKS_H
#define KERNELS_PEAKS_H

#include "base/error.h"
#include "base/threads.h"

/* The best of several short runs, all threads of the pool together; 0 where the CPU has no such unit. A multiplication
 * and the addition after it count as two operations. Registers only, so no memory is in the way. */
typedef struct peaks {
    double float32_gflops;  /* FMA, in the widest registers */
    double int8_gops;       /* vpdpbusd; without it what vpmaddubsw, vpmaddwd and vpaddd give */
    double bfloat16_gflops; /* vdpbf16ps */
    double tile_int8_gops;  /* AMX */
    double tile_bfloat16_gflops;
    double read_gbytes; /* GB/s (1e9 bytes), sequential reading of memory far larger than the caches */
    int read_streams;   /* for each thread, with which that was reached */
} peaks;

trol_status peaks_measure(trol_threads *threads, peaks *result, trol_error *error);

#endif
