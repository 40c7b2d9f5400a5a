#include "common/bench_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bench_times bench_summary(double *seconds, size_t n) {
    qsort(seconds, n, sizeof *seconds, by_size);
    return (bench_times){(seconds[(n - 1) / 2] + seconds[n / 2]) / 2, seconds[0], seconds[n - 1]};
}

/* A row's results. Rates are 0 where they do not apply. */
typedef struct rates {
    double milliseconds, spread_percent, tokens_per_second, gops, gbytes, peak_percent;
} rates;

static rates rates_of(const bench_row *row) {
    const double t = row->times.median;
    return (rates){.milliseconds = 1e3 * t,
                   .spread_percent = t > 0 ? 100 * (row->times.largest - row->times.smallest) / t : 0,
                   .tokens_per_second = t > 0 ? (double)row->n_tokens / t : 0,
                   .gops = t > 0 ? row->operations / t / 1e9 : 0,
                   .gbytes = t > 0 ? row->bytes / t / 1e9 : 0,
                   .peak_percent = 100 * row->peak_share};
}

/* A number, or blanks for 0. */
static void cell(FILE *stream, int width, int decimals, double value) {
    if (value > 0)
        fprintf(stream, " %*.*f", width, decimals, value);
    else
        fprintf(stream, " %*s", width, "");
}

static void table_row(bench_report *report, const bench_row *row) {
    const rates r = rates_of(row);
    if (report->n_rows == 0) {
        fprintf(report->stream, "%s, %s kernels, compute %s\n", report->model, report->cpu_level, report->compute);
        fprintf(report->stream, "weights  vision    threads  test       traversal  context  tokens         ms  spread  "
                                "tokens/s   GOP/s    GB/s  of peak\n");
    }
    fprintf(report->stream, "%-8s %-9s %7" PRId32 "  %-10s %-9s ", row->weights, row->vision, row->n_threads, row->test,
            row->traversal);
    cell(report->stream, 8, 0, (double)row->context);
    cell(report->stream, 7, 0, (double)row->n_tokens);
    fprintf(report->stream, " %10.2f %6.1f%%", r.milliseconds, r.spread_percent);
    cell(report->stream, 9, 2, r.tokens_per_second);
    cell(report->stream, 7, 1, r.gops);
    cell(report->stream, 7, 2, r.gbytes);
    if (r.peak_percent > 0)
        fprintf(report->stream, " %7.0f%%", r.peak_percent);
    fprintf(report->stream, "\n");
}

/* Text in which characters that JSON or CSV would have to escape (quotes, backslashes, control characters) become
 * '_'. */
static void put_quoted(FILE *stream, const char *text) {
    putc('"', stream);
    for (; *text; text++)
        putc(*text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? '_' : *text, stream);
    putc('"', stream);
}

static void json_row(bench_report *report, const bench_row *row) {
    const rates r = rates_of(row);
    FILE *out = report->stream;
    fprintf(out, "%s{\"model\": ", report->n_rows ? ",\n " : "[");
    put_quoted(out, report->model);
    fprintf(
        out,
        ", \"cpu_level\": \"%s\", \"compute\": \"%s\", \"weights\": \"%s\", \"vision\": \"%s\", \"threads\": %" PRId32,
        report->cpu_level, report->compute, row->weights, row->vision, row->n_threads);
    fprintf(out, ", \"test\": \"%s\", \"traversal\": \"%s\", \"context\": %" PRId64 ", \"tokens\": %" PRId64, row->test,
            row->traversal, row->context, row->n_tokens);
    fprintf(out, ", \"ms\": %.4f, \"ms_smallest\": %.4f, \"ms_largest\": %.4f, \"tokens_per_second\": %.4f",
            r.milliseconds, 1e3 * row->times.smallest, 1e3 * row->times.largest, r.tokens_per_second);
    fprintf(out, ", \"gops\": %.3f, \"gbytes_per_second\": %.3f, \"percent_of_peak\": %.2f}", r.gops, r.gbytes,
            r.peak_percent);
}

static void csv_row(bench_report *report, const bench_row *row) {
    const rates r = rates_of(row);
    FILE *out = report->stream;
    if (report->n_rows == 0)
        fprintf(
            out,
            "model,cpu_level,compute,weights,vision,threads,test,traversal,context,tokens,ms,ms_smallest,ms_largest,"
            "tokens_per_second,gops,gbytes_per_second,percent_of_peak\n");
    put_quoted(out, report->model);
    fprintf(out, ",%s,%s,%s,%s,%" PRId32 ",%s,%s,%" PRId64 ",%" PRId64, report->cpu_level, report->compute,
            row->weights, row->vision, row->n_threads, row->test, row->traversal, row->context, row->n_tokens);
    fprintf(out, ",%.4f,%.4f,%.4f,%.4f,%.3f,%.3f,%.2f\n", r.milliseconds, 1e3 * row->times.smallest,
            1e3 * row->times.largest, r.tokens_per_second, r.gops, r.gbytes, r.peak_percent);
}

void bench_report_row(bench_report *report, const bench_row *row) {
    static void (*const writers[])(bench_report *, const bench_row *) = {table_row, json_row, csv_row};
    writers[report->format](report, row);
    if (fflush(report->stream) != 0 && report->write_error == 0)
        report->write_error = errno;
    report->n_rows++;
}

void bench_report_end(bench_report *report) {
    if (report->format == BENCH_JSON)
        fputs(report->n_rows ? "]\n" : "[]\n", report->stream);
}
