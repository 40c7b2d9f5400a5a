/* filter.h - "--test TEXT" of the kernel tests: only the parts with TEXT in "LEVEL PART", for example "avx2 pieces". */
#ifndef TESTS_FILTER_H
#define TESTS_FILTER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *test_filter; /* NULL: everything */

static inline void test_arguments(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--test") == 0)
        test_filter = argv[2];
    else if (argc > 1) {
        fprintf(stderr, "usage: %s [--test TEXT]\n", argv[0]);
        exit(2);
    }
}

static inline bool test_wanted(const char *level, const char *part) {
    char name[128];
    snprintf(name, sizeof name, "%s %s", level, part);
    return !test_filter || strstr(name, test_filter);
}

#endif
