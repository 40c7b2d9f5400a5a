/* at-level LEVEL PROGRAM [ARGUMENT ...]: runs a test program with the kernels of one instruction-set level (TROL_CPU).
 * Exits with 77, which tells ctest that the test was skipped, where this CPU lacks the level, and for its best level,
 * with which the same program runs anyway when nothing is forced. */
#define _DEFAULT_SOURCE /* setenv */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "test.h"

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: at-level LEVEL PROGRAM [ARGUMENT ...]\n");
        return 2;
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
            setenv("TROL_CPU", argv[1], 1);
            execv(argv[2], argv + 2);
            perror(argv[2]);
            return 1;
        }
    fprintf(stderr, "at-level: there is no level called %s\n", argv[1]);
    return 2;
}
