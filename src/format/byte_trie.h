/* byte_trie.h - texts with ids, looked up at a position of a longer text, byte by byte. */
#ifndef FORMAT_BYTE_TRIE_H
#define FORMAT_BYTE_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct byte_trie_node {
    uint32_t first_child, next_sibling; /* 0: none */
    int32_t id;                         /* of the text that ends here; -1: none */
    uint8_t byte;
} byte_trie_node;

typedef struct byte_trie {
    byte_trie_node *nodes; /* [n_nodes]; node 0 is the root; NULL while empty */
    size_t n_nodes, capacity;
    uint32_t roots[256]; /* the root's child for each byte; 0: none */
} byte_trie;

enum { BYTE_TRIE_ROOT = 0 };

/* Adds text[0 .. n_bytes-1], n_bytes > 0; a text that is already there gets the new id. A zeroed trie is empty. */
trol_status byte_trie_add(byte_trie *trie, const char *text, size_t n_bytes, int32_t id, trol_error *error);
void byte_trie_free(byte_trie *trie);

/* The node that `byte` leads to; 0 if none. */
static inline uint32_t byte_trie_step(const byte_trie *trie, uint32_t node, uint8_t byte) {
    if (node == BYTE_TRIE_ROOT)
        return trie->roots[byte];
    uint32_t child = trie->nodes[node].first_child;
    while (child && trie->nodes[child].byte != byte)
        child = trie->nodes[child].next_sibling;
    return child;
}

#endif
