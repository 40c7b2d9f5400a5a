/* tokenizer_tables.h - what a loaded tokenizer knows, shared by tokenizer.c (loading, decoding) and tokenizer_encode.c.
 */
#ifndef FORMAT_TOKENIZER_TABLES_H
#define FORMAT_TOKENIZER_TABLES_H

#include <string.h>

#include "base/hash.h"
#include "format/byte_trie.h"
#include "format/sentencepiece_model.h"
#include "format/tokenizer.h"

/* U+2581, how pieces spell a space. */
#define SPACE_SYMBOL "\xe2\x96\x81"
enum { SPACE_SYMBOL_BYTES = 3 };

enum token_flags {
    TOKEN_EXISTS = 1,        /* some file defines this id */
    TOKEN_SPECIAL = 2,       /* an added token, a control or unknown piece, or [UNUSED_TOKEN_n] */
    TOKEN_LEFT_OUT = 4,      /* not part of decoded text: the special ones except [UNUSED_TOKEN_n] */
    TOKEN_MATCHES = 8,       /* a piece that text can become: normal, user-defined or unused */
    TOKEN_BYTE = 16,         /* stands for one byte */
    TOKEN_STRIPS_LEFT = 32,  /* an added token that swallows the white space before it */
    TOKEN_STRIPS_RIGHT = 64, /* or after it */
};

typedef struct token {
    uint32_t offset, n_bytes; /* of its spelling in `spellings` */
    uint32_t rank;            /* orders merges: the higher the score, the smaller; equal for equal scores */
    uint8_t flags;            /* token_flags */
    uint8_t byte;             /* TOKEN_BYTE: which */
} token;

/* A slot of the hash table over all spellings. */
typedef struct spelling_slot {
    uint32_t hash;
    int32_t id; /* -1: free */
} spelling_slot;

struct tokenizer {
    token *tokens; /* [n_tokens]; ids that no file defines are zero */
    int32_t n_tokens;
    bool dummy_prefix;
    char *spellings;      /* NUL-terminated one after the other */
    spelling_slot *slots; /* [n_slots], a power of two, at most half full */
    size_t n_slots;
    uint32_t max_spelling_bytes; /* of the longest */
    int32_t byte_ids[256];       /* the piece that stands for each byte */
    byte_trie added;             /* added tokens, cut out of the text first */
    byte_trie user_defined;      /* type-4 pieces, cut out of a run of text next */
};

static inline uint64_t spelling_load(const char *text, size_t n_bytes) {
    uint64_t word = 0;
    memcpy(&word, text, n_bytes);
    return word;
}

static inline uint32_t spelling_hash(const char *text, size_t n_bytes) {
    uint64_t hash = hash_word(0, n_bytes);
    for (; n_bytes >= 8; text += 8, n_bytes -= 8)
        hash = hash_word(hash, spelling_load(text, 8));
    return (uint32_t)hash_word(hash, spelling_load(text, n_bytes));
}

/* Id of the token that is spelled text[0 .. n_bytes-1]; -1 if there is none. */
static inline int32_t spelling_find(const tokenizer *t, const char *text, size_t n_bytes) {
    if (n_bytes > t->max_spelling_bytes)
        return -1;
    uint32_t hash = spelling_hash(text, n_bytes);
    for (size_t place = hash & (t->n_slots - 1);; place = (place + 1) & (t->n_slots - 1)) {
        const spelling_slot *slot = &t->slots[place];
        if (slot->id < 0)
            return -1;
        const token *candidate = &t->tokens[slot->id];
        if (slot->hash == hash && candidate->n_bytes == n_bytes &&
            memcmp(t->spellings + candidate->offset, text, n_bytes) == 0)
            return slot->id;
    }
}

#endif
