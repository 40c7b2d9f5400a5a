/* kv_cache.h - keys and values of one pass through the layers, in blocks of 64 tokens that are counted and shared.
 *
 * A plane holds one pass: a session has one for pass 1 and, while pass 2 is wanted, one for pass 2. Blocks are made
 * when tokens come, so a context costs what it holds; forks share them until one of the sessions writes. */
#ifndef MODEL_KV_CACHE_H
#define MODEL_KV_CACHE_H

#include <stdint.h>

#include "kernels/attention.h"

enum { KV_BLOCK_TOKENS = 64 };

typedef struct kv_shape {
    int64_t n_layers;
    int32_t n_kv_heads, head_dim;
    kv_type type;
} kv_shape;

typedef struct kv_block kv_block;

typedef struct kv_plane {
    kv_shape shape;
    kv_block **blocks; /* [n_blocks]; each [n_layers][key, value][n_kv_heads][64] rows of head_dim values */
    size_t n_blocks, capacity;
} kv_plane;

void kv_plane_init(kv_plane *plane, kv_shape shape);
void kv_plane_free(kv_plane *plane);

/* Makes room for tokens first .. last-1 and makes their blocks this plane's own; tokens before them are kept. */
trol_status kv_plane_reserve(kv_plane *plane, int64_t first, int64_t last, trol_error *error);
/* Releases the blocks that hold no token before n_tokens. */
void kv_plane_truncate(kv_plane *plane, int64_t n_tokens);
/* A second plane with the same blocks. *copy must be freed even on failure. */
trol_status kv_plane_share(const kv_plane *plane, kv_plane *copy, trol_error *error);
int64_t kv_plane_bytes(const kv_plane *plane);

/* The contents of block i, and how many bytes a block of a shape has. */
void *kv_plane_block(const kv_plane *plane, size_t i);
size_t kv_block_bytes(const kv_shape *shape);

/* Where a token's keys (or values, with value == 1) of a layer are stored: the row of head h is at
 * result + h * kv_head_stride(shape). Writing needs a reserved block. */
unsigned char *kv_plane_token(const kv_plane *plane, int64_t layer, int value, int64_t token);
int64_t kv_head_stride(const kv_shape *shape);

/* The plane's layer as attention reads it; the pointer lists are allocated in r's workspace. */
trol_status kv_plane_source(const kv_plane *plane, int64_t layer, const run *r, attention_source *source);

#endif
