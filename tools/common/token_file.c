#include "common/token_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

static bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next number in *id; 1, 0 at the end of the file, -1 for anything else. */
static int next_token(FILE *stream, int32_t *id) {
    int c = getc(stream);
    while (is_space(c))
        c = getc(stream);
    if (c == EOF)
        return 0;
    int64_t value = 0;
    for (; c >= '0' && c <= '9' && value <= INT32_MAX; c = getc(stream)) {
        value = 10 * value + (c - '0');
        *id = (int32_t)value;
    }
    if (value > INT32_MAX || (c != EOF && !is_space(c)))
        return -1;
    return 1;
}

static trol_status read_all(FILE *stream, const char *name, int32_t **tokens, size_t *n_tokens, trol_error *error) {
    size_t capacity = 0;
    for (int32_t id = 0;;) {
        int found = next_token(stream, &id);
        if (ferror(stream))
            return fail(error, TROL_ERROR_IO, "%s cannot be read: %s", name, strerror(errno));
        if (found < 0)
            return fail(error, TROL_ERROR_FORMAT, "%s: token %zu is not a whole number from 0 to %d", name,
                        *n_tokens + 1, INT32_MAX);
        if (found == 0)
            break;
        if (*n_tokens == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            int32_t *grown = realloc(*tokens, capacity * sizeof *grown);
            if (!grown)
                return fail(error, TROL_ERROR_MEMORY, "out of memory");
            *tokens = grown;
        }
        (*tokens)[(*n_tokens)++] = id;
    }
    if (*n_tokens == 0)
        return fail(error, TROL_ERROR_FORMAT, "%s holds no token ids", name);
    return TROL_OK;
}

trol_status token_file_read(const char *path, int32_t **tokens, size_t *n_tokens, trol_error *error) {
    *tokens = NULL;
    *n_tokens = 0;
    const bool standard_input = strcmp(path, "-") == 0;
    FILE *stream = standard_input ? stdin : fopen(path, "r");
    if (!stream)
        return fail(error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
    trol_status status = read_all(stream, standard_input ? "standard input" : path, tokens, n_tokens, error);
    if (!standard_input)
        fclose(stream);
    if (status != TROL_OK) {
        free(*tokens);
        *tokens = NULL;
        *n_tokens = 0;
    }
    return status;
}

trol_status token_file_check(const char *path, const int32_t *tokens, size_t n_tokens, int32_t n_ids,
                             trol_error *error) {
    for (size_t i = 0; i < n_tokens; i++)
        if (tokens[i] < 0 || tokens[i] >= n_ids)
            return fail(error, TROL_ERROR_ARGUMENT, "%s: token %zu is %d, expected 0 to %d",
                        strcmp(path, "-") == 0 ? "standard input" : path, i + 1, tokens[i], n_ids - 1);
    return TROL_OK;
}
