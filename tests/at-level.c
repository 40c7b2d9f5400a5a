/* at-level LEVEL PROGRAM [ARGUMENT ...]: runs a test program with the kernels of one instruction-set level (TROL_CPU),
 * or with those of the best one and OpenBLAS (TROL_BLAS) where LEVEL is "openblas".
 * Exits with 77, which reports to ctest that the test was skipped, where this CPU lacks the level, and for its best
 * level, with which the same program runs anyway when nothing is forced. */
#define _DEFAULT_SOURCE /* setenv */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu.h"
#include "kernels/linear_blas.h"
#include "test.h"

static int run_with(const char *variable, const char *value, char **program) {
    setenv(variable, value, 1);
    execv(program[0], program);
    perror(program[0]);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: at-level LEVEL PROGRAM [ARGUMENT ...]\n");
        return 2;
    }
    if (strcmp(argv[1], "openblas") == 0) {
        if (blas_open())
            return run_with("TROL_BLAS", argv[1], argv + 2);
        printf("skipped: %s\n", blas_description());
        return TEST_SKIPPED;
    }
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++)
        if (strcmp(argv[1], cpu_level_name(level)) == 0) {
            if (!cpu_has_level(level)) {
                printf("skipped: this CPU has no %s\n", argv[1]);
                return TEST_SKIPPED;
            }
            if (level == cpu_best_level()) {
                printf("skipped: %s is what this CPU runs when nothing is forced\n", argv[1]);
                return TEST_SKIPPED;
            }
            return run_with("TROL_CPU", argv[1], argv + 2);
        }
    fprintf(stderr, "at-level: there is no level called %s\n", argv[1]);
    return 2;
}
