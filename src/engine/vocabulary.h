/* vocabulary.h - the bytes that tokens stand for, as a tree in one array: a walk visits common beginnings once and
 * skips what has become impossible. Special tokens are not in it: they stand for no text. */
#ifndef ENGINE_VOCABULARY_H
#define ENGINE_VOCABULARY_H

#include "format/tokenizer.h"

typedef struct vocabulary_node {
    uint32_t end;         /* the first node that is not below this one */
    uint32_t first_token; /* tokens[first_token .. the next node's - 1] end here */
    uint16_t depth;       /* bytes from the root */
    uint8_t byte;
    uint8_t plain; /* not 0: this and all below it are plain bytes, for this many levels (255: or more) */
} vocabulary_node;

/* Plain bytes: the printable ones of ASCII but " and \\, which strings of most kinds take all alike. */
static inline bool vocabulary_is_plain(uint8_t byte) {
    return byte >= ' ' && byte <= '~' && byte != '"' && byte != '\\';
}

typedef struct vocabulary {
    vocabulary_node *nodes; /* [n_nodes + 1] in the order of a walk from the left; node 0 is the root; the last one only
                               closes the lists */
    size_t n_nodes;
    int32_t *tokens;          /* [nodes[n_nodes].first_token] */
    uint32_t root_child[256]; /* 0: none */
    char *bytes;              /* of all tokens */
    uint32_t *first_byte;     /* [n_tokens + 1]: token t stands for bytes[first_byte[t] .. first_byte[t + 1] - 1] */
    int32_t n_tokens;
    uint16_t depth;     /* of the deepest node */
    bool drops_a_space; /* the first token of a text stands for one space less if it begins with one */
} vocabulary;

/* The tokens below n_tokens, the rows of logits. Fails if there is a byte that no token stands for alone. */
trol_status vocabulary_new(const tokenizer *t, int32_t n_tokens, vocabulary **result, trol_error *error);
void vocabulary_free(vocabulary *v);

static inline size_t vocabulary_n_tokens(const vocabulary *v, uint32_t node) {
    return v->nodes[node + 1].first_token - v->nodes[node].first_token;
}

/* The child of a node for a byte; 0: none. */
uint32_t vocabulary_child(const vocabulary *v, uint32_t node, uint8_t byte);

#endif
