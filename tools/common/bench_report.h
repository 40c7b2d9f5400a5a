/* bench_report.h - measurements as a table, JSON or CSV. */
#ifndef TOOLS_BENCH_REPORT_H
#define TOOLS_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum bench_format { BENCH_TABLE, BENCH_JSON, BENCH_CSV } bench_format;

/* Times of repeated runs. */
typedef struct bench_times {
    double median, smallest, largest; /* seconds */
} bench_times;

/* Sorts seconds [n], n > 0. */
bench_times bench_summary(double *seconds, size_t n);

typedef struct bench_row {
    char weights[16], vision[16]; /* "q8" */
    int32_t n_threads;
    char test[32];             /* "prefill" */
    char traversal[8];         /* "prompt", or "" where it does not matter */
    int64_t context, n_tokens; /* tokens before those measured, and tokens measured; 0: none */
    bench_times times;         /* of all n_tokens */
    double operations, bytes;  /* arithmetic operations, and bytes read from memory; 0: not counted */
    double peak_share;         /* of the machine's peak at the time, 1: all of it; 0: not measured */
} bench_row;

typedef struct bench_report {
    bench_format format;
    const char *model, *cpu_level, *compute;
    FILE *stream;
    size_t n_rows;
    int write_error; /* errno of the first row that could not be written; 0: none */
} bench_report;

/* Each row is written as soon as it is measured. */
void bench_report_row(bench_report *report, const bench_row *row);
/* Ends the report, even one without rows. */
void bench_report_end(bench_report *report);

#endif
