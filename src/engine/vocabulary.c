/* vocabulary.c - the tree of tokens' bytes, made by sorting them. */
#include "engine/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { MAX_TOKEN_BYTES = 1000 };

typedef struct spelled_token {
    const char *bytes;
    uint32_t n_bytes;
    int32_t id;
} spelled_token;

static int compare_tokens(const void *left, const void *right) {
    const spelled_token *a = left, *b = right;
    const uint32_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
    const int order = memcmp(a->bytes, b->bytes, n);
    if (order != 0)
        return order;
    if (a->n_bytes != b->n_bytes)
        return a->n_bytes < b->n_bytes ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

/* Special tokens and those without a text get no bytes. */
static trol_status spell_tokens(vocabulary *v, const tokenizer *t, trol_error *error) {
    size_t n = 0, capacity = 0, n_first = 0, first_capacity = 0;
    char *first = NULL;
    trol_status status =
        memory_alloc((size_t)v->n_tokens + 1, sizeof *v->first_byte, "a vocabulary", (void **)&v->first_byte, error);
    for (int32_t id = 0; id < v->n_tokens && status == TROL_OK; id++) {
        v->first_byte[id] = (uint32_t)n;
        if (tokenizer_is_special(t, id) || !tokenizer_spelling(t, id))
            continue;
        const size_t before = n;
        status = tokenizer_append_bytes(t, id, false, &v->bytes, &n, &capacity, error);
        if (n - before > MAX_TOKEN_BYTES)
            n = before;
        if (n > before && v->bytes[before] == ' ' && !v->drops_a_space && status == TROL_OK) {
            n_first = 0;
            status = tokenizer_append_bytes(t, id, true, &first, &n_first, &first_capacity, error);
            v->drops_a_space = n_first < n - before;
        }
    }
    v->first_byte[v->n_tokens] = (uint32_t)n;
    memory_free(first);
    return status;
}

static trol_status build_tree(vocabulary *v, const spelled_token *sorted, size_t n, trol_error *error) {
    uint32_t way[MAX_TOKEN_BYTES + 1] = {0}; /* the nodes above the next one */
    size_t n_nodes = 2, depth = 0;
    for (size_t i = 0; i < n; i++)
        n_nodes += sorted[i].n_bytes;
    TRY(memory_alloc(n_nodes, sizeof *v->nodes, "a vocabulary", (void **)&v->nodes, error));
    TRY(memory_alloc(n, sizeof *v->tokens, "a vocabulary", (void **)&v->tokens, error));
    v->nodes[v->n_nodes++] = (vocabulary_node){0};
    for (size_t i = 0; i < n; i++) {
        const spelled_token *token = &sorted[i];
        size_t shared = 0;
        while (i > 0 && shared < sorted[i - 1].n_bytes && sorted[i - 1].bytes[shared] == token->bytes[shared])
            shared++;
        for (; depth > shared; depth--)
            v->nodes[way[depth]].end = (uint32_t)v->n_nodes;
        for (; depth < token->n_bytes; depth++) {
            const uint8_t byte = (uint8_t)token->bytes[depth];
            way[depth + 1] = (uint32_t)v->n_nodes;
            v->nodes[v->n_nodes++] =
                (vocabulary_node){.first_token = (uint32_t)i, .depth = (uint16_t)(depth + 1), .byte = byte};
            if (depth == 0)
                v->root_child[byte] = way[1];
        }
        if (depth > v->depth)
            v->depth = (uint16_t)depth;
        v->tokens[i] = token->id;
    }
    for (;; depth--) {
        v->nodes[way[depth]].end = (uint32_t)v->n_nodes;
        if (depth == 0)
            break;
    }
    v->nodes[v->n_nodes] = (vocabulary_node){.end = (uint32_t)v->n_nodes + 1, .first_token = (uint32_t)n};
    return TROL_OK;
}

/* From the last node to the first, so that what is below comes before. */
static void mark_plain(vocabulary *v) {
    for (size_t i = v->n_nodes; i-- > 1;) {
        vocabulary_node *node = &v->nodes[i];
        unsigned levels = vocabulary_is_plain(node->byte) ? 1 : 0;
        for (uint32_t child = (uint32_t)i + 1; levels && child < node->end; child = v->nodes[child].end) {
            const unsigned below = v->nodes[child].plain;
            levels = below == 0 ? 0 : below + 1 > levels ? below + 1 : levels;
        }
        node->plain = (uint8_t)(levels < 255 ? levels : 255);
    }
}

uint32_t vocabulary_child(const vocabulary *v, uint32_t node, uint8_t byte) {
    if (node == 0)
        return v->root_child[byte];
    for (uint32_t child = node + 1; child < v->nodes[node].end; child = v->nodes[child].end)
        if (v->nodes[child].byte == byte)
            return child;
    return 0;
}

static trol_status check_bytes(const vocabulary *v, trol_error *error) {
    for (int byte = 0; byte < 256; byte++)
        if (!v->root_child[byte] || vocabulary_n_tokens(v, v->root_child[byte]) == 0)
            return fail(error, TROL_ERROR_UNSUPPORTED,
                        "the tokenizer has no token for the byte 0x%02x alone, which constrained answers need", byte);
    return TROL_OK;
}

trol_status vocabulary_new(const tokenizer *t, int32_t n_tokens, vocabulary **result, trol_error *error) {
    vocabulary *v = calloc(1, sizeof *v);
    spelled_token *sorted = NULL;
    size_t n = 0;
    trol_status status;
    *result = NULL;
    if (!v)
        return fail_memory(error, sizeof *v, "a vocabulary");
    v->n_tokens = tokenizer_count(t) < n_tokens ? tokenizer_count(t) : n_tokens;
    TRY_GOTO(spell_tokens(v, t, error), failed);
    TRY_GOTO(memory_alloc((size_t)v->n_tokens, sizeof *sorted, "a vocabulary", (void **)&sorted, error), failed);
    for (int32_t id = 0; id < v->n_tokens; id++) {
        const uint32_t first = v->first_byte[id], n_bytes = v->first_byte[id + 1] - first;
        if (n_bytes > 0)
            sorted[n++] = (spelled_token){v->bytes + first, n_bytes, id};
    }
    if (n > 1)
        qsort(sorted, n, sizeof *sorted, compare_tokens);
    TRY_GOTO(build_tree(v, sorted, n, error), failed);
    TRY_GOTO(check_bytes(v, error), failed);
    mark_plain(v);
    memory_free(sorted);
    *result = v;
    return TROL_OK;
failed:
    memory_free(sorted);
    vocabulary_free(v);
    return status;
}

void vocabulary_free(vocabulary *v) {
    if (!v)
        return;
    memory_free(v->nodes);
    memory_free(v->tokens);
    memory_free(v->bytes);
    memory_free(v->first_byte);
    free(v);
}
