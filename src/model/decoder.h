/* decoder.h - the language model: decoder layers, each applied twice to traversed tokens. */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/linear.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/weights.h"
#include "trol.h"

/* Consecutive rows of a batch that belong to one session. */
typedef struct decoder_segment {
    int64_t first_row, n_rows;
    const kv_plane *pass1; /* reserved for the rows' positions */
    const kv_plane
        *pass2;  /* NULL: the rows are not traversed. A plane of one layer is scratch that every layer overwrites */
    bool answer; /* answer rows: the kernels for answers; otherwise those for prompts */
    float traversal_skip; /* rows whose gate is below this skip their second pass */
    int64_t *n_skipped;   /* [n_layers], += rows that did */
    float *gates;         /* [n_layers, n_rows], with a stride of gates_stride: each row's gate; NULL: not wanted */
    int64_t gates_stride;
    atomic_int *overflow;   /* set if a key or value is too large for the cache's type */
    trol_observer observer; /* may be NULL; then rows may stop early in the last layer */
    void *observer_user;
} decoder_segment;

/* Rows of one or several sessions that go through the layers together. Traversed segments come first. */
typedef struct decoder_batch {
    int64_t n_rows;
    float *x; /* [n_rows, hidden_size]: embeddings; afterwards the last layer's output, in the wanted rows */
    const int32_t *positions; /* [n_rows] */
    const float *cos, *sin;   /* [n_rows, head_dim / 2] */
    const bool *is_image;     /* [n_rows]: prompt rows of image tokens, to which LoRA applies; NULL: none */
    const bool *wants_logits; /* [n_rows] */
    const decoder_segment *segments;
    int64_t n_segments;
    atomic_llong *progress; /* += rows done, counted once per layer and pass; may be NULL */
} decoder_batch;

/* A model's decoder and the arithmetic of its large products. */
typedef struct decoder {
    const decoder_config *config;
    const decoder_weights *weights;
    linear_arithmetic arithmetic;
} decoder;

/* All layers. */
trol_status decoder_forward(const run *r, const decoder *d, decoder_batch *batch);

/* Final norm and output head of some rows: x [n_rows, hidden_size] is overwritten, logits [n_rows, vocab_size]. */
trol_status decoder_logits(const run *r, const decoder *d, float *x, int64_t n_rows, float *logits);

#endif
