/* hash.h - hashes for tables in memory, and FNV-1a where a file keeps the value. Neither resists an adversary: tables
 * compare keys. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A table's hash over words: one step a word, from any start. All bits of the result can be used. */
static inline uint64_t hash_word(uint64_t hash, uint64_t word) {
    hash ^= word;
    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u; /* a product's low bits depend on low bits only */
    return hash ^ hash >> 32;
}

/* FNV-1a over bytes, from FNV_START or from the hash of the bytes before. Its values are stored: they never change. */
#define FNV_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t fnv_bytes(uint64_t hash, const void *bytes, size_t n_bytes) {
    const unsigned char *b = bytes;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ b[i]) * 0x100000001b3u;
    return hash;
}

#endif
