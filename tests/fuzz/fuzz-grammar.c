/* fuzz-grammar.c - any bytes as a GBNF file, a JSON Schema or a pattern: refused with a sentence, or a grammar whose
 * shortest text it accepts, after any other bytes were tried. The first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "engine/gbnf.h"
#include "engine/json_schema.h"
#include "engine/matcher.h"
#include "engine/regex.h"

/* Feeds the input's own bytes as far as they match, then goes the shortest way out. */
static void run(grammar *g, const uint8_t *bytes, size_t n_bytes) {
    enum { MAX_STEPS = 300 };
    trol_error error = {0};
    matcher *m;
    uint32_t state = MATCHER_START, next;
    if (matcher_new(g, &m, &error) != TROL_OK)
        return;
    for (size_t i = 0; i < n_bytes && i < MAX_STEPS; i++)
        if (matcher_step(m, state, bytes[i], &next, &error) == TROL_OK && next != MATCHER_DEAD)
            state = next;
    uint32_t kept = state;
    if (matcher_compact(m, &kept, 1, &error) != TROL_OK)
        abort();
    state = kept;
    for (uint32_t left = matcher_distance(m, state), i = 0; left > 0 && i < MAX_STEPS; left--, i++) {
        uint8_t byte;
        if (matcher_next_byte(m, state, &byte, &state, &error) != TROL_OK)
            break; /* too ambiguous */
        if (state == MATCHER_DEAD || matcher_distance(m, state) != left - 1)
            abort();
    }
    matcher_free(m);
}

static void check_pattern(const uint8_t *bytes, size_t n_bytes) {
    trol_error error = {0};
    text_automaton *a;
    char *pattern = malloc(n_bytes + 1);
    memcpy(pattern, bytes, n_bytes);
    pattern[n_bytes] = '\0';
    const char *const patterns[] = {pattern};
    const char *const taken[] = {"name", "na", ""};
    const text_rules rules = {patterns, 1, n_bytes % 3, n_bytes % 5 ? UINT32_MAX : 7, taken, n_bytes % 4};
    if (text_automaton_new(&rules, &a, &error) == TROL_OK) {
        text_automaton_accepts(a, pattern);
        text_automaton_free(a);
    } else if (error.message[0] == '\0') {
        abort();
    }
    free(pattern);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    trol_error error = {0};
    grammar *g;
    if (n_bytes == 0)
        return 0;
    const char *text = (const char *)bytes + 1;
    if (bytes[0] % 3 == 0) {
        check_pattern(bytes + 1, n_bytes - 1);
        return 0;
    }
    const trol_status status = bytes[0] % 3 == 1 ? gbnf_compile(text, n_bytes - 1, &g, &error)
                                                 : json_schema_compile(text, n_bytes - 1, &g, &error);
    if (status == TROL_OK)
        run(g, bytes, n_bytes);
    else if (error.message[0] == '\0' || g)
        abort();
    return 0;
}
