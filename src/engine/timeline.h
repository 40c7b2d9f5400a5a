/* timeline.h - the tokens that a session holds, each with what it was fed as, and everything computed from them: keys
 * and values of both passes, gates, and the rope used for them.
 *
 * A token is added in two steps: it is appended (its place in the planes is reserved, then the decoder fills it), then
 * committed, from when on it counts. A step that fails is undone by timeline_truncate to n_tokens. */
#ifndef ENGINE_TIMELINE_H
#define ENGINE_TIMELINE_H

#include "engine/exchange.h"
#include "engine/model.h"
#include "model/kv_cache.h"

/* What an image token was fed as: row `row` of image `image` of the timeline. image -1: it was fed without an image, as
 * its id, like every text token. */
typedef struct token_place {
    int32_t image, row;
} token_place;

/* An image whose rows are among the tokens. */
typedef struct timeline_image {
    trol_features *features;
    size_t first; /* token: the first that is a row of it */
} timeline_image;

typedef struct timeline {
    const trol_model *model;
    trol_traversal traversal;

    int32_t *ids;        /* [n_tokens] */
    token_place *places; /* [n_tokens] */
    size_t ids_capacity, places_capacity;
    timeline_image *images; /* [n_images], in the order of their first tokens */
    size_t n_images, images_capacity;
    kv_plane pass1, pass2; /* of the first n_tokens and n_pass2 tokens */
    bool keep_gates;
    float *gates; /* [n_layers, gates_capacity]; NaN where a token was not traversed. NULL: none are kept */
    size_t gates_capacity;

    size_t n_tokens;
    size_t n_prompt;     /* the first of them were processed as prompt, the others as answer */
    size_t n_pass2;      /* pass 2 is held for the first of them */
    double rope_variant; /* of all keys held (model/rope.h) */
    uint32_t rope_mixed; /* 1: the answer grew past a threshold: its keys are of another variant than the prompt's */
} timeline;

void timeline_init(timeline *t, const trol_model *model, trol_traversal traversal, trol_cache_type cache_type,
                   bool keep_gates);
void timeline_free(timeline *t);

/* Incoming tokens: a piece of a prompt, whose image tokens take the rows of its images in order, or answer tokens,
 * whose image tokens have none. */
typedef struct timeline_piece {
    const int32_t *ids; /* [n] */
    size_t n;
    trol_features *const *images; /* [n_images]: of the whole prompt */
    size_t n_images;
    size_t n_image_tokens; /* of the prompt before this piece */
} timeline_piece;

/* How many tokens of a piece, which begins at `first` of a prompt of `total` tokens, need not be computed. They are
 * held with the same identity (an image token: the same row of an image of equal identity), and were computed as this
 * prompt needs them:
 *  - mode prompt: as prompt, not as answer, which goes through each layer once;
 *  - modes prompt and all: with pass 2 still held, which the tokens after them attend to. A prompt of one token in all,
 *    which mode prompt does not traverse, has none;
 *  - with the rope of a text of `total` tokens, all of them.
 * The prompt's last token is always computed, for its logits. */
size_t timeline_common_prefix(const timeline *t, const timeline_piece *piece, size_t first, size_t total);

/* Appends a piece, without committing it; ids are not checked. */
trol_status timeline_append(timeline *t, const timeline_piece *piece, trol_error *error);
/* Mode all equals recomputing the whole text: whether n more tokens change the rope of all of them. */
bool timeline_needs_restart(const timeline *t, size_t n);
/* Appends all tokens held, and n more that were appended, to a new timeline, to compute them again. *fresh must be
 * freed, even on failure. */
trol_status timeline_restart(const timeline *t, size_t n, timeline *fresh, trol_error *error);

/* Commits the next n appended tokens, which have been computed. prompt: as part of a prompt of `length` tokens; else as
 * answer. traversed: their pass 2 is held. */
void timeline_commit(timeline *t, size_t n, bool prompt, size_t length, bool traversed);
/* Forgets tokens from n_tokens on, and those that were appended but not committed. */
void timeline_truncate(timeline *t, size_t n_tokens);
/* Frees pass 2: no later prompt can reuse this one in modes prompt and all. */
void timeline_drop_pass2(timeline *t);

/* All of `from` into a timeline that was initialized alike; blocks are shared. *to must be freed, even on failure. */
trol_status timeline_copy(const timeline *from, timeline *to, trol_error *error);

/* The row that an image token was fed as, [hidden_size]; NULL: the token was fed as its id. */
const float *timeline_image_row(const timeline *t, size_t token);

/* Writes the timeline to a file, or reads it into an empty timeline that was initialized alike, with room for `context`
 * tokens. What is read is checked. */
trol_status timeline_exchange(timeline *t, exchange *e, size_t context);

#endif
