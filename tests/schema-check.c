/* schema-check.c - for tests: which JSON texts a schema's grammar accepts.
 *
 * Standard input: a schema on one line, texts on the lines after it, an empty line; and again. Standard output: "ok" or
 * "refused" and the reason for each schema, then "yes" or "no" for each text. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/json_schema.h"
#include "engine/matcher.h"

static matcher *compile(const char *schema, size_t n) {
    trol_error error = {0};
    grammar *g;
    matcher *m = NULL;
    if (json_schema_compile(schema, n, &g, &error) == TROL_OK && matcher_new(g, &m, &error) == TROL_OK)
        printf("ok\n");
    else
        printf("refused %s\n", error.message);
    return m;
}

static void check(matcher *m, const char *text, size_t n) {
    uint32_t state = MATCHER_START;
    trol_error error = {0};
    for (size_t i = 0; m && i < n && state; i++)
        if (matcher_step(m, state, (uint8_t)text[i], &state, &error) != TROL_OK)
            state = MATCHER_DEAD;
    printf("%s\n", m && state && matcher_accepts(m, state) ? "yes" : "no");
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    matcher *m = NULL;
    int in_texts = 0;
    while ((n = getline(&line, &room, stdin)) >= 0) {
        if (n > 0 && line[n - 1] == '\n')
            line[--n] = '\0';
        if (n == 0) {
            in_texts = 0;
            fflush(stdout);
        } else if (in_texts) {
            check(m, line, (size_t)n);
        } else {
            matcher_free(m);
            m = compile(line, (size_t)n);
            in_texts = 1;
        }
    }
    matcher_free(m);
    free(line);
    return 0;
}
