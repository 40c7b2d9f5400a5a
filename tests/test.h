/* test.h - checks for the test programs: a failed check prints where and what, and the program continues and exits
 * with 1. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_failures, test_checks;

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        if (!(condition)) {                                                                                            \
            test_failures++;                                                                                           \
            printf("%s:%d: FAILED: %s: ", __FILE__, __LINE__, #condition);                                             \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
        }                                                                                                              \
    } while (0)

/* A call that must succeed; the message of `error` otherwise. */
#define CHECK_OK(call, error)                                                                                          \
    do {                                                                                                               \
        int check_status_ = (int)(call);                                                                               \
        test_checks++;                                                                                                 \
        if (check_status_ != 0) {                                                                                      \
            test_failures++;                                                                                           \
            printf("%s:%d: FAILED: %s: %s\n", __FILE__, __LINE__, #call, (error).message);                             \
        }                                                                                                              \
    } while (0)

/* A deterministic random number: xorshift64*. Seed *state with anything but 0. */
static inline uint64_t test_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

/* Uniform in [-1, 1). */
static inline float test_uniform(uint64_t *state) {
    return (float)((double)(test_random(state) >> 11) * 0x1p-52 - 1.0);
}

/* The last line of a test's main: return test_summary("name"). 77 tells ctest that the test was skipped. */
static inline int test_summary(const char *name) {
    printf("%s: %d checks, %d failed\n", name, test_checks, test_failures);
    return test_failures ? 1 : 0;
}

enum { TEST_SKIPPED = 77 };

#endif
