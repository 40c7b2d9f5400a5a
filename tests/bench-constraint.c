/* bench-constraint.c - what masks cost on a published vocabulary.
 *
 * bench-constraint TOKENIZER_FOLDER: for usual schemas, a random walk along the masks: microseconds for each token's
 * mask, the first time (every state new) and again (states known, as in a second answer). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/model.h"

static const char *const schemas[][2] = {
    {"person",
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\",\"minimum\":0,"
     "\"maximum\":150},\"email\":{\"type\":\"string\",\"pattern\":\"^\\\\S+@\\\\S+$\"},\"tags\":{\"type\":\"array\","
     "\"items\":{\"type\":\"string\",\"maxLength\":40}}},\"required\":[\"name\",\"age\",\"tags\"],"
     "\"additionalProperties\":false}"},
    {"boxes",
     "{\"type\":\"array\",\"minItems\":1,\"maxItems\":20,\"items\":{\"type\":\"object\",\"properties\":{\"label\":{"
     "\"enum\":"
     "[\"cat\",\"dog\",\"bird\"]},\"x\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1},\"y\":{\"type\":\"number\","
     "\"minimum\":0,\"maximum\":1}},\"required\":[\"label\",\"x\",\"y\"],\"additionalProperties\":false}}"},
    {"open object",
     "{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\",\"maxLength\":200},\"when\":{\"type\":"
     "\"string\",\"format\":\"date-time\"}},\"required\":[\"title\"]}"},
    {"any object", "{\"type\":\"object\"}"},
};

/* Of this process: other programs do not count. */
static double cpu_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* Writes as a model would, mostly longer tokens; returns how many tokens. */
static int walk(trol_constraint *c, const trol_model *model, uint64_t seed, int limit, double *slowest, double *total) {
    const int32_t vocab = (int32_t)model->config.decoder.vocab_size;
    uint64_t *allowed = calloc(((size_t)vocab + 63) / 64, sizeof *allowed);
    trol_error error = {TROL_OK, ""};
    int n = 0;
    for (; n < limit; n++) {
        const double start = cpu_seconds();
        if (trol_constraint_fill(c, limit - n, allowed, &error) != TROL_OK)
            break;
        const double seconds = cpu_seconds() - start;
        *total += seconds;
        *slowest = seconds > *slowest ? seconds : *slowest;
        int32_t chosen = -1;
        for (int32_t tries = 0, t = (int32_t)(seed >> 33) % vocab; tries < vocab && chosen < 0;
             tries++, t = (t + 1) % vocab)
            if (allowed[t / 64] >> t % 64 & 1)
                chosen = t;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        if (chosen < 0 || chosen == model->end_tokens[0] || trol_constraint_accept(c, chosen, &error) != TROL_OK)
            break;
    }
    free(allowed);
    return n;
}

int main(int argc, char **argv) {
    static trol_model model;
    trol_error error = {TROL_OK, ""};
    const tokenizer_options options = {.n_tokens = 92545};
    if (argc != 2 || tokenizer_load(argv[1], &options, NULL, &model.tokenizer, &error) != TROL_OK) {
        printf("bench-constraint TOKENIZER_FOLDER: %s\n", error.message);
        return 1;
    }
    model.references = 1;
    model.config.decoder.vocab_size = tokenizer_count(model.tokenizer);
    model.end_tokens[0] = 2;
    model.n_end_tokens = 1;
    fork_mutex_init(&model.mutex);
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        trol_constraint *c = NULL;
        double start = cpu_seconds(), slowest[2] = {0};
        if (trol_constraint_new_json_schema(&model, schemas[i][1], strlen(schemas[i][1]), &c, &error) != TROL_OK) {
            printf("%s: %s\n", schemas[i][0], error.message);
            return 1;
        }
        printf("%-12s made in %.2f ms;", schemas[i][0], 1e3 * (cpu_seconds() - start));
        for (int warm = 0; warm < 2; warm++) {
            double total = 0;
            int n = 0;
            for (uint64_t seed = 1; seed <= 4; seed++) {
                if (trol_constraint_reset(c, &error) != TROL_OK)
                    return 1;
                n += walk(c, &model, seed * 0x9e3779b97f4a7c15u, 256, &slowest[warm], &total);
            }
            printf(" %s %.0f us a token (%d tokens, slowest %.0f us)", warm ? "again" : "first", 1e6 * total / n, n,
                   1e6 * slowest[warm]);
        }
        printf("\n");
        trol_constraint_free(c);
    }
    return 0;
}
