#include "model/kv_cache.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct kv_block {
    atomic_int references;
    unsigned char *data;
};

void kv_plane_init(kv_plane *plane, kv_shape shape) { *plane = (kv_plane){.shape = shape}; }

int64_t kv_head_stride(const kv_shape *shape) { return KV_BLOCK_TOKENS * kv_bytes(shape->type, shape->head_dim); }

/* Bytes of a layer's keys (or values) in a block. */
static int64_t half_layer_bytes(const kv_shape *shape) { return shape->n_kv_heads * kv_head_stride(shape); }

size_t kv_block_bytes(const kv_shape *shape) { return (size_t)(2 * shape->n_layers * half_layer_bytes(shape)); }

static void release_block(kv_block *block) {
    if (atomic_fetch_sub(&block->references, 1) > 1)
        return;
    memory_free(block->data);
    free(block);
}

static trol_status new_block(const kv_shape *shape, kv_block **result, trol_error *error) {
    kv_block *block = calloc(1, sizeof *block);
    if (!block)
        return fail_memory(error, sizeof *block, "the kv_cache");
    void *data;
    trol_status status = memory_alloc_zero(1, kv_block_bytes(shape), "the kv_cache", &data, error);
    if (status != TROL_OK) {
        free(block);
        return status;
    }
    atomic_init(&block->references, 1);
    block->data = data;
    *result = block;
    return TROL_OK;
}

void kv_plane_truncate(kv_plane *plane, int64_t n_tokens) {
    size_t kept = (size_t)((n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS);
    while (plane->n_blocks > kept)
        release_block(plane->blocks[--plane->n_blocks]);
}

void kv_plane_free(kv_plane *plane) {
    kv_plane_truncate(plane, 0);
    free(plane->blocks);
    plane->blocks = NULL;
    plane->capacity = 0;
}

/* A block that another plane shares is copied before it is written. */
static trol_status own_block(kv_plane *plane, size_t index, trol_error *error) {
    kv_block *shared = plane->blocks[index], *copy;
    if (atomic_load(&shared->references) == 1)
        return TROL_OK;
    TRY(new_block(&plane->shape, &copy, error));
    memcpy(copy->data, shared->data, kv_block_bytes(&plane->shape));
    plane->blocks[index] = copy;
    release_block(shared);
    return TROL_OK;
}

trol_status kv_plane_reserve(kv_plane *plane, int64_t first, int64_t last, trol_error *error) {
    if (last <= first)
        return TROL_OK;
    size_t n_blocks = (size_t)((last + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS);
    TRY(memory_grow((void **)&plane->blocks, &plane->capacity, n_blocks, sizeof *plane->blocks, "the kv_cache", error));
    for (size_t i = (size_t)(first / KV_BLOCK_TOKENS); i < plane->n_blocks && i < n_blocks; i++)
        TRY(own_block(plane, i, error));
    while (plane->n_blocks < n_blocks) {
        TRY(new_block(&plane->shape, &plane->blocks[plane->n_blocks], error));
        plane->n_blocks++;
    }
    return TROL_OK;
}

trol_status kv_plane_share(const kv_plane *plane, kv_plane *copy, trol_error *error) {
    kv_plane_init(copy, plane->shape);
    TRY(memory_grow((void **)&copy->blocks, &copy->capacity, plane->n_blocks, sizeof *copy->blocks, "the kv_cache",
                    error));
    for (size_t i = 0; i < plane->n_blocks; i++) {
        atomic_fetch_add(&plane->blocks[i]->references, 1);
        copy->blocks[copy->n_blocks++] = plane->blocks[i];
    }
    return TROL_OK;
}

void *kv_plane_block(const kv_plane *plane, size_t i) { return plane->blocks[i]->data; }

int64_t kv_plane_bytes(const kv_plane *plane) { return (int64_t)(plane->n_blocks * kv_block_bytes(&plane->shape)); }

static unsigned char *layer_half(const kv_plane *plane, int64_t layer, int value, size_t block) {
    return plane->blocks[block]->data + (2 * layer + value) * half_layer_bytes(&plane->shape);
}

unsigned char *kv_plane_token(const kv_plane *plane, int64_t layer, int value, int64_t token) {
    return layer_half(plane, layer, value, (size_t)(token / KV_BLOCK_TOKENS)) +
           token % KV_BLOCK_TOKENS * kv_bytes(plane->shape.type, plane->shape.head_dim);
}

trol_status kv_plane_source(const kv_plane *plane, int64_t layer, const run *r, attention_source *source) {
    void *memory;
    TRY(run_alloc(r, 2 * plane->n_blocks, sizeof(void *), &memory));
    const void **keys = memory, **values = keys + plane->n_blocks;
    for (size_t i = 0; i < plane->n_blocks; i++) {
        keys[i] = layer_half(plane, layer, 0, i);
        values[i] = layer_half(plane, layer, 1, i);
    }
    *source = (attention_source){.type = plane->shape.type,
                                 .key_blocks = keys,
                                 .value_blocks = values,
                                 .block_tokens = KV_BLOCK_TOKENS,
                                 .token_stride = kv_bytes(plane->shape.type, plane->shape.head_dim),
                                 .head_stride = kv_head_stride(&plane->shape)};
    return TROL_OK;
}
