#include "engine/embeds.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"

trol_status image_embeds_new(float *data, int32_t n_tokens, int32_t n_tiles, int64_t width, image_embeds **embeds,
                             trol_error *error) {
    *embeds = malloc(sizeof **embeds);
    if (!*embeds) {
        memory_free(data);
        return fail_memory(error, sizeof **embeds, "a picture's features");
    }
    **embeds = (image_embeds){.data = data, .n_tokens = n_tokens, .n_tiles = n_tiles, .width = width};
    atomic_init(&(*embeds)->references, 1);
    return TROL_OK;
}

image_embeds *image_embeds_retain(image_embeds *embeds) {
    atomic_fetch_add(&embeds->references, 1);
    return embeds;
}

void image_embeds_free(image_embeds *embeds) {
    if (!embeds || atomic_fetch_sub(&embeds->references, 1) > 1)
        return;
    memory_free(embeds->data);
    free(embeds);
}
