/* byte_trie.c - a node's children are a linked list, except the root's, which are a table: most searches fail there at
 * once. */
#include "format/byte_trie.h"

#include <string.h>

#include "base/memory.h"

static trol_status add_node(byte_trie *trie, uint8_t byte, uint32_t *index, trol_error *error) {
    void *nodes = trie->nodes;
    TRY(memory_grow(&nodes, &trie->capacity, trie->n_nodes + 1, sizeof *trie->nodes, "a tokenizer", error));
    trie->nodes = nodes;
    *index = (uint32_t)trie->n_nodes++;
    trie->nodes[*index] = (byte_trie_node){.id = -1, .byte = byte};
    return TROL_OK;
}

trol_status byte_trie_add(byte_trie *trie, const char *text, size_t n_bytes, int32_t id, trol_error *error) {
    uint32_t node = BYTE_TRIE_ROOT;
    if (trie->n_nodes == 0)
        TRY(add_node(trie, 0, &node, error));
    for (size_t i = 0; i < n_bytes; i++) {
        uint8_t byte = (uint8_t)text[i];
        uint32_t next = byte_trie_step(trie, node, byte);
        if (!next) {
            TRY(add_node(trie, byte, &next, error));
            if (node == BYTE_TRIE_ROOT) {
                trie->roots[byte] = next;
            } else {
                trie->nodes[next].next_sibling = trie->nodes[node].first_child;
                trie->nodes[node].first_child = next;
            }
        }
        node = next;
    }
    trie->nodes[node].id = id;
    return TROL_OK;
}

void byte_trie_free(byte_trie *trie) {
    memory_free(trie->nodes);
    memset(trie, 0, sizeof *trie);
}
