#define _GNU_SOURCE /* sched_setaffinity */
#include "kernels/linear_blas.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/library.h"

/* Of cblas.h; integers are 32 bits wide, which the configuration is checked for. */
enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANSPOSE = 111, CBLAS_TRANSPOSE = 112 };
typedef void (*cblas_sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

static const char library_name[] = "libopenblas.so.0"; /* the same for all of its variants */

static cblas_sgemm sgemm; /* NULL: not usable */
static char description[512];
static pthread_once_t open_once = PTHREAD_ONCE_INIT;

/* OpenBLAS starts a thread for each CPU that it may run on while it is loaded, and memory for each. It is to have one:
 * the caller's mask shrinks to one CPU meanwhile. */
static void *open_with_one_cpu(char *why, size_t why_bytes) {
    cpu_set_t own, one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    bool narrowed = false;
    if (cpu >= 0 && cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof own, &own) == 0) {
        CPU_SET(cpu, &one);
        narrowed = sched_setaffinity(0, sizeof one, &one) == 0;
    }
    void *library = library_open(library_name, why, why_bytes);
    if (narrowed)
        (void)sched_setaffinity(0, sizeof own, &own);
    return library;
}

static void open_library(void) {
    char *(*get_config)(void), *(*get_corename)(void);
    void (*set_num_threads)(int);
    cblas_sgemm found;
    char why[256];
    void *library = open_with_one_cpu(why, sizeof why);
    if (!library) {
        snprintf(description, sizeof description, "%s cannot be opened (%s)", library_name, why);
        return;
    }
    if (!library_function(library, "openblas_get_config", &get_config) ||
        !library_function(library, "openblas_get_corename", &get_corename) ||
        !library_function(library, "openblas_set_num_threads", &set_num_threads) ||
        !library_function(library, "cblas_sgemm", &found)) {
        snprintf(description, sizeof description, "%s lacks functions of OpenBLAS", library_name);
        return;
    }
    const char *config = get_config();
    if (strncmp(config, "OpenBLAS", strlen("OpenBLAS")) != 0 || strstr(config, "USE64BITINT")) {
        snprintf(description, sizeof description, "%s is \"%s\", expected OpenBLAS with 32-bit integers", library_name,
                 config);
        return;
    }
    set_num_threads(1);
    snprintf(description, sizeof description, "%s, core %s", config, get_corename());
    sgemm = found;
}

bool blas_open(void) {
    pthread_once(&open_once, open_library);
    return sgemm != NULL;
}

const char *blas_description(void) { return description; }

void blas_multiply(const float *x, int64_t x_stride, int64_t n_rows, const float *weights, int64_t n_outputs,
                   int64_t n_columns, float *sums, int64_t sums_stride, bool add) {
    sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANSPOSE, CBLAS_TRANSPOSE, (int)n_rows, (int)n_outputs, (int)n_columns, 1.0f, x,
          (int)x_stride, weights, (int)n_columns, add ? 1.0f : 0.0f, sums, (int)sums_stride);
}
