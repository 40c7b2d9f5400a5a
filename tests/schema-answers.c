/* schema-answers.c - for tests: a model's answers under schemas.
 *
 * schema-answers MODEL N_SEEDS MAX_TOKENS: standard input has a schema on each line; standard output gets N_SEEDS
 * answers for each, a line each (line breaks of an answer as spaces), greedy for the first seed; "refused ..." where
 * the schema is, "short ..." where MAX_TOKENS is below what closes an answer. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trol.h"

static int print_text(void *user, const char *text) {
    (void)user;
    for (; *text; text++)
        putchar(*text == '\n' ? ' ' : *text);
    return 0;
}

static void answer(const trol_session *prompt, const trol_constraint *constraint, uint64_t seed, int32_t max_tokens) {
    trol_error error = {TROL_OK, ""};
    trol_session *session = NULL;
    trol_constraint *own = NULL;
    trol_sampler *sampler = NULL;
    trol_sampler_params sampling;
    trol_generate_params params;
    trol_sampler_params_init(&sampling);
    trol_generate_params_init(&params);
    sampling.temperature = seed == 0 ? 0.0f : 0.7f * (float)seed;
    sampling.seed = seed;
    trol_status status = trol_session_fork(prompt, &session, &error);
    if (status == TROL_OK)
        status = trol_constraint_clone(constraint, &own, &error);
    if (status == TROL_OK)
        status = trol_sampler_new(&sampling, &sampler, &error);
    params.max_tokens = max_tokens;
    params.sampler = sampler;
    params.constraint = own;
    params.lookup = seed % 2 ? 2 : 0;
    if (status == TROL_OK)
        status = trol_generate(session, &params, print_text, NULL, NULL, &error);
    if (status != TROL_OK)
        printf("%s %s", status == TROL_ERROR_ARGUMENT ? "short" : "failed", error.message);
    putchar('\n');
    trol_sampler_free(sampler);
    trol_constraint_free(own);
    trol_session_free(session);
}

int main(int argc, char **argv) {
    trol_error error = {TROL_OK, ""};
    trol_model *model = NULL;
    trol_session *prompt = NULL;
    if (argc != 4 || trol_model_load(argv[1], NULL, &model, &error) != TROL_OK ||
        trol_session_new(model, NULL, &prompt, &error) != TROL_OK ||
        trol_session_ask(prompt, "Describe the picture as JSON.", NULL, 0, &error) != TROL_OK) {
        fprintf(stderr, "schema-answers MODEL N_SEEDS MAX_TOKENS: %s\n", error.message);
        return 1;
    }
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    while ((n = getline(&line, &room, stdin)) > 0) {
        trol_constraint *constraint = NULL;
        const trol_status status = trol_constraint_new_json_schema(model, line, (size_t)n, &constraint, &error);
        for (int seed = 0; seed < atoi(argv[2]); seed++) {
            if (status == TROL_OK)
                answer(prompt, constraint, (uint64_t)seed, atoi(argv[3]));
            else
                printf("refused %s\n", error.message);
        }
        trol_constraint_free(constraint);
    }
    free(line);
    trol_session_free(prompt);
    trol_model_free(model);
    return 0;
}
