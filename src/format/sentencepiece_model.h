/* sentencepiece_model.h - the pieces of a tokenizer.model file (a protobuf, ModelProto of SentencePiece's
 * sentencepiece_model.proto), and a refusal by name of every option that this tokenizer does not support. */
#ifndef FORMAT_SENTENCEPIECE_MODEL_H
#define FORMAT_SENTENCEPIECE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* SentencePiece.Type of the file format. */
typedef enum piece_type {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6
} piece_type;

enum {
    PIECE_MAX_BYTES = 4096,   /* a longer piece is refused */
    PIECE_MAX_COUNT = 1 << 22 /* more pieces are refused */
};

typedef struct sentencepiece {
    const char *text; /* valid UTF-8, not NUL-terminated, at least one byte; points into the file's bytes */
    uint32_t n_bytes;
    float score; /* finite */
    piece_type type;
} sentencepiece;

typedef struct sentencepiece_model {
    sentencepiece *pieces; /* [n_pieces], the index is the token id */
    size_t n_pieces;
    bool add_dummy_prefix; /* the file's normalizer setting */
} sentencepiece_model;

/* Reads bytes[0 .. n_bytes-1], which the model then points into. Anything but a BPE model with byte fallback and an
 * identity normalizer is an error. Messages name `file`. */
trol_status sentencepiece_model_parse(const char *bytes, size_t n_bytes, const char *file, sentencepiece_model *model,
                                      trol_error *error);
void sentencepiece_model_free(sentencepiece_model *model);

#endif
