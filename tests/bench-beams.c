/* bench-beams MODEL [--context N] [--tokens N] [--beams N] [--rounds N] [--processor-time 1]: what a beam search costs
 * for each token of the answer beside one sequence, alternating, so that other load on the machine slows both. MODEL
 * may come from trol-synth. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "trol.h"

static trol_error error;

static void stop_on(trol_status status) {
    if (status != TROL_OK) {
        fprintf(stderr, "bench-beams: %s\n", error.message);
        exit(1);
    }
}

static bool processor_time; /* of all threads, instead of wall-clock time: for a machine with other load */

static double now(void) { return processor_time ? (double)clock() / CLOCKS_PER_SEC : clock_seconds(); }

static int by_value(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* Seconds a token of one sequence; the first token of an answer needs no step. */
static double time_one(const trol_session *session, int n_tokens) {
    trol_session *fork;
    trol_generate_params params;
    trol_generate_params_init(&params);
    params.max_tokens = n_tokens;
    params.ignore_eos = 1;
    stop_on(trol_session_fork(session, &fork, &error));
    const double start = now();
    stop_on(trol_generate(fork, &params, NULL, NULL, NULL, &error));
    const double seconds = now() - start;
    trol_session_free(fork);
    return seconds / (n_tokens - 1);
}

static double time_beams(trol_session *session, int n_beams, int n_tokens) {
    trol_beam_list *list;
    trol_beams_params params;
    trol_beams_params_init(&params);
    params.n_beams = n_beams;
    params.max_tokens = n_tokens;
    params.ignore_eos = 1;
    const double start = now();
    stop_on(trol_beams(session, &params, &list, &error));
    const double seconds = now() - start;
    trol_beam_list_free(list);
    return seconds / (n_tokens - 1);
}

static trol_session *read_prompt(trol_model *model, int context) {
    trol_session *session;
    trol_session_params params;
    int32_t *tokens = calloc((size_t)context + 1, sizeof *tokens);
    trol_model_info info = {.size = sizeof info};
    trol_session_params_init(&params);
    params.traversal = TROL_TRAVERSAL_OFF; /* halves the prompt's time; answers take the same work */
    params.context_size = context + 4096;
    stop_on(trol_model_get_info(model, &info, &error));
    for (int i = 0; i < context; i++)
        tokens[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)(info.vocab_size / 2));
    stop_on(trol_session_new(model, &params, &session, &error));
    stop_on(trol_session_prefill(session, tokens, (size_t)context, NULL, 0, &error));
    free(tokens);
    return session;
}

static int option(int argc, char **argv, const char *name, int value) {
    for (int i = 2; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            value = atoi(argv[i + 1]);
    return value;
}

int main(int argc, char **argv) {
    enum { MAX_ROUNDS = 100 };
    double one[MAX_ROUNDS], beams[MAX_ROUNDS], ratio[MAX_ROUNDS];
    const int context = option(argc, argv, "--context", 1300), n_tokens = option(argc, argv, "--tokens", 12);
    const int n_beams = option(argc, argv, "--beams", 5), rounds = option(argc, argv, "--rounds", 9);
    processor_time = option(argc, argv, "--processor-time", 0) != 0;
    if (argc < 2 || context < 1 || n_tokens < 2 || rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr,
                "usage: bench-beams MODEL [--context N] [--tokens N] [--beams N] [--rounds N] [--processor-time 1]\n");
        return 2;
    }
    trol_model *model;
    stop_on(trol_model_load(argv[1], NULL, &model, &error));
    trol_session *session = read_prompt(model, context);
    (void)time_one(session, n_tokens);
    for (int i = 0; i < rounds; i++) {
        one[i] = time_one(session, n_tokens);
        beams[i] = time_beams(session, n_beams, n_tokens);
        ratio[i] = beams[i] / one[i];
        printf("one %.1f ms, %d beams %.1f ms a token: %.2f\n", 1e3 * one[i], n_beams, 1e3 * beams[i], ratio[i]);
        fflush(stdout);
    }
    printf("medians after %d tokens: one %.1f ms, %d beams %.1f ms a token, ratio %.2f\n", context,
           1e3 * median(one, rounds), n_beams, 1e3 * median(beams, rounds), median(ratio, rounds));
    trol_session_free(session);
    trol_model_free(model);
    return 0;
}
