/* tokenizer.h - SentencePiece BPE with added tokens: tokenizer.model and the JSON files beside it. */
#ifndef FORMAT_TOKENIZER_H
#define FORMAT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

typedef struct tokenizer tokenizer; /* immutable once loaded; any number of threads */

typedef struct tokenizer_options {
    bool dummy_prefix; /* each run of text between added tokens gets a space in front (Phi-3), and decoding drops the first */
    int64_t n_tokens;  /* rows of the embedding: ids of the files must be below */
} tokenizer_options;

/* Reads tokenizer.model, tokenizer_config.json and added_tokens.json of a folder. */
trol_status tokenizer_load(const char *folder, const tokenizer_options *options, const logger *log, tokenizer **result,
                           trol_error *error);
void tokenizer_free(tokenizer *t);

/* A piece of a text. The pieces of one call are one text (merges cross their borders); in a piece with special == false
 * nothing that spells a special token is one. A special token must lie in special pieces as a whole. */
typedef struct text_piece {
    const char *text; /* UTF-8; invalid UTF-8 is an error that gives the offset */
    size_t n_bytes;
    bool special;
} text_piece;

/* Appends to a growing array of ids (memory_grow). */
trol_status tokenizer_encode(const tokenizer *t, const text_piece *pieces, size_t n_pieces, int32_t **ids, size_t *n_ids,
                             size_t *capacity, trol_error *error);

/* Decodes to text with U+FFFD for bytes that form no UTF-8. Free *text with memory_free. */
trol_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool with_special, char **text,
                             trol_error *error);

/* For streaming: appends the raw bytes of one token (none for a special one) to a growing array; `first` says that it is
 * the first of the whole text. The caller joins characters that tokens cut (base/utf8.h). */
trol_status tokenizer_append_bytes(const tokenizer *t, int32_t id, bool first, char **bytes, size_t *n_bytes,
                                   size_t *capacity, trol_error *error);

/* Id of the token that is spelled exactly so (an added token, a control or user-defined piece, or any piece); -1 if none. */
int32_t tokenizer_id(const tokenizer *t, const char *spelling);
/* How a token is spelled, as the file has it; NULL past the end. */
const char *tokenizer_spelling(const tokenizer *t, int32_t id);
bool tokenizer_is_special(const tokenizer *t, int32_t id);
int32_t tokenizer_count(const tokenizer *t); /* largest id + 1 */

#endif
