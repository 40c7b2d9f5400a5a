/* tokenizer.h - SentencePiece BPE with added tokens: tokenizer.model and the JSON files beside it.
 *
 * Special tokens are the added tokens of the JSON files, the control and unknown pieces of tokenizer.model, and its
 * pieces [UNUSED_TOKEN_n], InternLM2's chat markers. */
#ifndef FORMAT_TOKENIZER_H
#define FORMAT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

typedef struct tokenizer tokenizer; /* immutable once loaded; any number of threads */

typedef struct tokenizer_options {
    bool dummy_prefix; /* each run of text between added tokens gets a leading space (Phi-3), and decoding drops the
                        * first */
    int64_t n_tokens;  /* rows of the embedding: ids of the files must be below */
} tokenizer_options;

/* Reads tokenizer.model, tokenizer_config.json and, if it is there, added_tokens.json of a folder. */
trol_status tokenizer_load(const char *folder, const tokenizer_options *options, const logger *log, tokenizer **result,
                           trol_error *error);
void tokenizer_free(tokenizer *t);

/* A piece of a text. The pieces of one call form one text (merges cross their boundaries); in a piece with special ==
 * false, text that spells a special token is not one. A special token must be spelled in special pieces only. */
typedef struct text_piece {
    const char *text; /* UTF-8; invalid UTF-8 is an error that gives the offset in this piece; may hold NUL */
    size_t n_bytes;
    bool special;
} text_piece;

/* Appends to a growing array of ids (memory_grow), which is unchanged on failure. Time is O(n log n) and scratch memory
 * O(n) in the text's bytes. Each call starts afresh: nothing merges with the text of an earlier call, and with a dummy
 * prefix the text gets one. */
trol_status tokenizer_encode(const tokenizer *t, const text_piece *pieces, size_t n_pieces, int32_t **ids,
                             size_t *n_ids, size_t *capacity, trol_error *error);

/* Decodes to text: U+FFFD for each byte that is not part of a character (utf8_repair). Without with_special, added
 * tokens, control and unknown pieces are left out; [UNUSED_TOKEN_n] is spelled, as the authors' tokenizer does. A
 * non-negative id that no file defines gives no text; one past the end is an error. Free *text with memory_free. */
trol_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool with_special, char **text,
                             trol_error *error);

/* For streaming: appends the bytes of one token, as in tokenizer_decode without with_special before U+FFFD is inserted,
 * to a growing array (memory_grow). `first`: no token before it contributed to the text. The caller passes the bytes
 * through utf8_repair, which joins characters split between tokens; the result is the same as tokenizer_decode's. */
trol_status tokenizer_append_bytes(const tokenizer *t, int32_t id, bool first, char **bytes, size_t *n_bytes,
                                   size_t *capacity, trol_error *error);

/* Id of the token with exactly this spelling (an added token or any piece); -1 if none. */
int32_t tokenizer_id(const tokenizer *t, const char *spelling);
/* A token's spelling as in the file (U+2581 for spaces, "<0x0A>" for bytes); NULL if there is no such token.
 */
const char *tokenizer_spelling(const tokenizer *t, int32_t id);
bool tokenizer_is_special(const tokenizer *t, int32_t id);
/* Bytes of the longest spelling: no token stands for more bytes of a text (except for white space that an added token
 * swallows).
 */
size_t tokenizer_longest(const tokenizer *t);
int32_t tokenizer_count(const tokenizer *t); /* largest id + 1 */

/* All that encoding and decoding depend on, as bytes piece by piece: equal bytes, equal tokenizers. */
void tokenizer_visit(const tokenizer *t, void (*visit)(void *user, const void *bytes, size_t n_bytes), void *user);

#endif
