/* embeds.h - an image's embeddings, reference-counted: features and the cache share them. */
#ifndef ENGINE_EMBEDS_H
#define ENGINE_EMBEDS_H

#include <stdatomic.h>
#include <stdint.h>

#include "trol.h"

typedef struct image_embeds {
    atomic_int references;
    float *data; /* [n_tokens, width] */
    int32_t n_tokens, n_tiles;
    int64_t width; /* hidden_size */
} image_embeds;

/* Takes `data` over, also on failure. */
trol_status image_embeds_new(float *data, int32_t n_tokens, int32_t n_tiles, int64_t width, image_embeds **embeds,
                             trol_error *error);
image_embeds *image_embeds_retain(image_embeds *embeds);
void image_embeds_free(image_embeds *embeds);

#endif
