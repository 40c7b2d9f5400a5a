/* vision.c - CLIP ViT and InternViT are one encoder: patches as rows of one matrix product, a class token, positions,
 * pre-norm layers. They differ in what config.c and weights.c provide: CLIP's norm before the first layer, InternViT's
 * scale vectors and norms of queries and keys, and the activation. The result is the last layer's output without the
 * class token, for InternViT after the pixel shuffle. */
#include "model/vision.h"

#include <math.h>
#include <string.h>

#include "base/cubic.h"
#include "format/image.h"
#include "kernels/attention.h"
#include "kernels/ops.h"
#include "model/family.h"

/* ---- pixels ---------------------------------------------------------------------------------- */

trol_status vision_pixels(const model_config *config, const trol_image *image, float **pixels, int32_t *n_tiles,
                          trol_error *error) {
    const vision_config *c = &config->vision;
    const size_t side = (size_t)c->image_size, tile_values = 3 * side * side;
    const image_recipe *recipe = &config->family->image;
    uint8_t *tiles = NULL;
    *pixels = NULL;
    *n_tiles = 1;
    if (recipe->tiled) {
        TRY(image_make_tiles(image, c->image_size, c->max_tiles, 1, &tiles, n_tiles, error));
    } else {
        TRY(memory_alloc(tile_values, 1, "a resized picture", (void **)&tiles, error));
        trol_status status = image_resize_torch(image, c->image_size, c->image_size, tiles, error);
        if (status != TROL_OK) {
            memory_free(tiles);
            return status;
        }
    }
    trol_status status =
        memory_alloc((size_t)*n_tiles * tile_values, sizeof(float), "a picture's pixels", (void **)pixels, error);
    for (int32_t i = 0; status == TROL_OK && i < *n_tiles; i++)
        image_normalize(tiles + (size_t)i * tile_values, c->image_size, recipe->mean, recipe->std, recipe->unit_range,
                        *pixels + (size_t)i * tile_values);
    memory_free(tiles);
    return status;
}

/* ---- embeddings ------------------------------------------------------------------------------ */

/* One call of the encoder: all tiles are rows of the same products. */
typedef struct encoder {
    const run *r;
    const vision *v;
    int32_t n_tiles;
    int64_t side, n_patches, n_tokens; /* patches per side and per tile; tokens per tile: one more */
    int64_t n_rows;                    /* n_tiles * n_tokens */
    float *x;                          /* [n_rows, hidden_size] */
    atomic_llong *progress;
} encoder;

/* Pixels [3, S, S] of each tile to rows [tiles * patches, 3 * patch * patch]. */
static void gather_patches(const encoder *e, const float *pixels, float *rows) {
    const int64_t size = e->v->config->vision.image_size, patch = e->v->config->vision.patch_size;
    for (int64_t row = 0; row < e->n_tiles * e->n_patches; row++) {
        const int64_t tile = row / e->n_patches, y = row % e->n_patches / e->side, x = row % e->side;
        const float *corner = pixels + tile * 3 * size * size + y * patch * size + x * patch;
        for (int64_t channel = 0; channel < 3; channel++)
            for (int64_t line = 0; line < patch; line++, rows += patch)
                memcpy(rows, corner + (channel * size + line) * size, (size_t)patch * sizeof *rows);
    }
}

/* Bicubic resize of a square grid of position embeddings, [from * from, width] to [to * to, width], as torch's
 * interpolate(mode='bicubic', align_corners=False) computes it. */
static void resize_positions(const float *grid, int64_t from, float *out, int64_t to, int64_t width) {
    for (int64_t cell = 0; cell < to * to; cell++) {
        const double scale = (double)from / (double)to;
        const double cy = scale * ((double)(cell / to) + 0.5) - 0.5, cx = scale * ((double)(cell % to) + 0.5) - 0.5;
        const int64_t fy = (int64_t)floor(cy), fx = (int64_t)floor(cx);
        float *row = out + cell * width;
        memset(row, 0, (size_t)width * sizeof *row);
        for (int64_t tap = 0; tap < 16; tap++) {
            int64_t y = fy - 1 + tap / 4, x = fx - 1 + tap % 4;
            const float weight = (float)(cubic_weight(-0.75, (double)y - cy) * cubic_weight(-0.75, (double)x - cx));
            y = y < 0 ? 0 : y >= from ? from - 1 : y;
            x = x < 0 ? 0 : x >= from ? from - 1 : x;
            const float *source = grid + (y * from + x) * width;
            for (int64_t i = 0; i < width; i++)
                row[i] += weight * source[i];
        }
    }
}

/* x = class token and patches, plus positions. */
static trol_status embed(const encoder *e, const float *pixels) {
    const vision_weights *w = e->v->weights;
    const int64_t hidden = e->v->config->vision.hidden_size, columns = w->patch.weight.columns;
    const int64_t rows = e->n_tiles * e->n_patches;
    float *patches, *embedded, *positions;
    TRY(run_alloc(e->r, (size_t)(rows * columns), sizeof(float), (void **)&patches));
    TRY(run_alloc(e->r, (size_t)(rows * hidden), sizeof(float), (void **)&embedded));
    TRY(run_alloc(e->r, (size_t)(e->n_patches * hidden), sizeof(float), (void **)&positions));
    gather_patches(e, pixels, patches);
    activations a = activations_of(patches, rows, columns, columns);
    const product p = {.linear = &w->patch, .epilogue = EPILOGUE_STORE, .out = embedded, .out_stride = hidden};
    TRY(linear_apply(e->r, e->v->arithmetic, &a, &p, 1));
    if (w->n_positions == e->n_patches)
        memcpy(positions, w->positions + hidden, (size_t)(e->n_patches * hidden) * sizeof(float));
    else
        resize_positions(w->positions + hidden, llround(sqrt((double)w->n_positions)), positions, e->side, hidden);
    for (int64_t row = 0; row < e->n_rows; row++) {
        const int64_t tile = row / e->n_tokens, token = row % e->n_tokens;
        const float *content = token == 0 ? w->class_embedding : embedded + (tile * e->n_patches + token - 1) * hidden;
        const float *position = token == 0 ? w->positions : positions + (token - 1) * hidden;
        for (int64_t i = 0; i < hidden; i++)
            e->x[row * hidden + i] = content[i] + position[i];
    }
    return TROL_OK;
}

/* ---- layers ---------------------------------------------------------------------------------- */

static trol_status norm_rows(const encoder *e, const float *x, int64_t x_stride, float *out, int64_t out_stride,
                             norm_type type, const float *weight, const float *bias) {
    const vision_config *c = &e->v->config->vision;
    if (type == NORM_RMS)
        return ops_rms_norm(e->r, x, x_stride, out, out_stride, e->n_rows, c->hidden_size, weight, c->norm_eps);
    return ops_layer_norm(e->r, x, x_stride, out, out_stride, e->n_rows, c->hidden_size, weight, bias, c->norm_eps);
}

static trol_status apply(const encoder *e, const float *input, int64_t n_columns, const product *products, int64_t n) {
    size_t mark = workspace_mark(e->r->space);
    activations a = activations_of(input, e->n_rows, n_columns, n_columns);
    trol_status status = linear_apply(e->r, e->v->arithmetic, &a, products, n);
    workspace_release(e->r->space, mark);
    return status;
}

/* Every token of a tile attends to all tokens of that tile; qkv [n_rows, 3 * hidden_size]. */
static trol_status attend(const encoder *e, const vision_layer_weights *w, const float *qkv, float *attended) {
    const vision_config *c = &e->v->config->vision;
    const int64_t hidden = c->hidden_size, head_dim = hidden / c->n_heads;
    const void **pointers;
    attention_job *jobs;
    int32_t *offsets;
    TRY(run_alloc(e->r, 2 * (size_t)e->n_tiles, sizeof *pointers, (void **)&pointers));
    TRY(run_alloc(e->r, (size_t)e->n_tiles, sizeof *jobs, (void **)&jobs));
    TRY(run_alloc(e->r, (size_t)c->n_heads, sizeof *offsets, (void **)&offsets));
    for (int32_t h = 0; h < c->n_heads; h++)
        offsets[h] = h * (int32_t)head_dim;
    for (int32_t i = 0; i < e->n_tiles; i++) {
        const float *tile = qkv + i * e->n_tokens * 3 * hidden;
        pointers[2 * i] = tile + hidden;
        pointers[2 * i + 1] = tile + 2 * hidden;
        jobs[i] = (attention_job){.q = tile,
                                  .q_stride = 3 * hidden,
                                  .out = attended + i * e->n_tokens * hidden,
                                  .out_stride = hidden,
                                  .n_rows = e->n_tokens,
                                  .source = {.type = KV_F32,
                                             .key_blocks = &pointers[2 * i],
                                             .value_blocks = &pointers[2 * i + 1],
                                             .block_tokens = e->n_tokens,
                                             .token_stride = 3 * hidden * (int64_t)sizeof(float),
                                             .head_stride = head_dim * (int64_t)sizeof(float)},
                                  .n_keys = e->n_tokens};
    }
    const attention_shape shape = {.n_heads = c->n_heads,
                                   .n_kv_heads = c->n_heads,
                                   .head_dim = (int32_t)head_dim,
                                   .q_offsets = offsets,
                                   .scale = 1.0f / sqrtf((float)head_dim),
                                   .window = INT64_MAX,
                                   .bf16 = !linear_is_exact(e->v->arithmetic, &w->qkv[0])};
    return attention_apply(e->r, &shape, jobs, e->n_tiles);
}

/* x += scale1 * attention(norm1(x)), x += scale2 * mlp(norm2(x)); the scales are InternViT's, for CLIP they are 1.
 * wide [n_rows, max(3 hidden_size, intermediate_size)] and narrow [n_rows, hidden_size] are scratch. */
static trol_status layer(const encoder *e, const vision_layer_weights *w, float *wide, float *narrow) {
    const vision_config *c = &e->v->config->vision;
    const int64_t hidden = c->hidden_size;
    product qkv[3];
    TRY(norm_rows(e, e->x, hidden, narrow, hidden, c->norm, w->norm1, w->norm1_bias));
    for (int i = 0; i < 3; i++)
        qkv[i] = (product){
            .linear = &w->qkv[i], .epilogue = EPILOGUE_STORE, .out = wide + i * hidden, .out_stride = 3 * hidden};
    TRY(apply(e, narrow, hidden, qkv, 3));
    if (w->q_norm) {
        TRY(norm_rows(e, wide, 3 * hidden, wide, 3 * hidden, NORM_RMS, w->q_norm, NULL));
        TRY(norm_rows(e, wide + hidden, 3 * hidden, wide + hidden, 3 * hidden, NORM_RMS, w->k_norm, NULL));
    }
    TRY(attend(e, w, wide, narrow));
    const product out = {.linear = &w->attention_out,
                         .scale = w->scale1,
                         .epilogue = w->scale1 ? EPILOGUE_ADD_SCALED : EPILOGUE_ADD,
                         .out = e->x,
                         .out_stride = hidden};
    TRY(apply(e, narrow, hidden, &out, 1));

    TRY(norm_rows(e, e->x, hidden, narrow, hidden, c->norm, w->norm2, w->norm2_bias));
    const product fc1 = {.linear = &w->fc1,
                         .epilogue = c->quick_gelu ? EPILOGUE_QUICK_GELU : EPILOGUE_GELU,
                         .out = wide,
                         .out_stride = c->intermediate_size};
    TRY(apply(e, narrow, hidden, &fc1, 1));
    const product fc2 = {.linear = &w->fc2,
                         .scale = w->scale2,
                         .epilogue = w->scale2 ? EPILOGUE_ADD_SCALED : EPILOGUE_ADD,
                         .out = e->x,
                         .out_stride = hidden};
    return apply(e, wide, c->intermediate_size, &fc2, 1);
}

/* ---- output ----------------------------------------------------------------------------- */

int64_t vision_progress_units(const model_config *config, int32_t n_tiles) { return config->vision.n_layers * n_tiles; }

/* Pixel shuffle by one half with its transposed order: a tile's grid [h, w, C] is viewed as [h, w/2, 2C], its first two
 * axes swapped, viewed as [w/2, h/2, 4C] and swapped back. So feature (j, i), row j of h/2, holds the four tokens at
 * rows 2j, 2j + 1 and columns 2i, 2i + 1: both of the upper row, then both of the lower. */
static void pixel_shuffle(const encoder *e, float *features) {
    const int64_t hidden = e->v->config->vision.hidden_size, half = e->side / 2;
    for (int64_t tile = 0; tile < e->n_tiles; tile++)
        for (int64_t j = 0; j < half; j++)
            for (int64_t i = 0; i < half; i++)
                for (int64_t part = 0; part < 2; part++, features += 2 * hidden) {
                    const int64_t token = 1 + (2 * j + part) * e->side + 2 * i;
                    memcpy(features, e->x + (tile * e->n_tokens + token) * hidden,
                           (size_t)(2 * hidden) * sizeof *features);
                }
}

static void drop_class_tokens(const encoder *e, float *features) {
    const int64_t hidden = e->v->config->vision.hidden_size;
    for (int64_t tile = 0; tile < e->n_tiles; tile++)
        memcpy(features + tile * e->n_patches * hidden, e->x + (tile * e->n_tokens + 1) * hidden,
               (size_t)(e->n_patches * hidden) * sizeof *features);
}

static trol_status encode_tiles(encoder *e, const float *pixels, float *features) {
    const vision_config *c = &e->v->config->vision;
    const vision_weights *w = e->v->weights;
    const int64_t hidden = c->hidden_size;
    const int64_t wide_columns = 3 * hidden > c->intermediate_size ? 3 * hidden : c->intermediate_size;
    float *wide, *narrow;
    TRY(run_alloc(e->r, (size_t)(e->n_rows * hidden), sizeof(float), (void **)&e->x));
    size_t mark = workspace_mark(e->r->space);
    TRY(embed(e, pixels));
    workspace_release(e->r->space, mark);
    if (w->pre_norm)
        TRY(norm_rows(e, e->x, hidden, e->x, hidden, NORM_LAYER, w->pre_norm, w->pre_norm_bias));
    TRY(run_alloc(e->r, (size_t)(e->n_rows * wide_columns), sizeof(float), (void **)&wide));
    TRY(run_alloc(e->r, (size_t)(e->n_rows * hidden), sizeof(float), (void **)&narrow));
    for (int64_t i = 0; i < c->n_layers; i++) {
        mark = workspace_mark(e->r->space);
        TRY(layer(e, &w->layers[i], wide, narrow));
        workspace_release(e->r->space, mark);
        if (e->progress)
            atomic_fetch_add(e->progress, e->n_tiles);
    }
    if (e->v->config->family->pixel_shuffle)
        pixel_shuffle(e, features);
    else
        drop_class_tokens(e, features);
    return TROL_OK;
}

trol_status vision_encode(const run *r, const vision *v, const float *pixels, int32_t n_tiles, float *features,
                          atomic_llong *progress) {
    const vision_config *c = &v->config->vision;
    const int64_t side = c->image_size / c->patch_size;
    encoder e = {.r = r,
                 .v = v,
                 .n_tiles = n_tiles,
                 .side = side,
                 .n_patches = side * side,
                 .n_tokens = side * side + 1,
                 .n_rows = n_tiles * (side * side + 1),
                 .progress = progress};
    size_t mark = workspace_mark(r->space);
    trol_status status = encode_tiles(&e, pixels, features);
    workspace_release(r->space, mark);
    return status;
}

/* ---- projector ------------------------------------------------------------------------------- */

static trol_status project(const run *r, const vision *v, const float *features, int64_t n_rows, float *embeddings) {
    const projector_weights *w = v->projector;
    const int64_t width = config_feature_width(v->config), middle = w->first.n_rows, hidden = w->second.n_rows;
    const float projector_eps = 1e-5f;
    float *normed, *activated;
    if (w->norm) {
        TRY(run_alloc(r, (size_t)(n_rows * width), sizeof(float), (void **)&normed));
        TRY(ops_layer_norm(r, features, width, normed, width, n_rows, width, w->norm, w->norm_bias, projector_eps));
        features = normed;
    }
    TRY(run_alloc(r, (size_t)(n_rows * middle), sizeof(float), (void **)&activated));
    activations a = activations_of(features, n_rows, width, width);
    const product first = {.linear = &w->first, .epilogue = EPILOGUE_GELU, .out = activated, .out_stride = middle};
    TRY(linear_apply(r, v->arithmetic, &a, &first, 1));
    activations b = activations_of(activated, n_rows, middle, middle);
    const product second = {.linear = &w->second, .epilogue = EPILOGUE_STORE, .out = embeddings, .out_stride = hidden};
    return linear_apply(r, v->arithmetic, &b, &second, 1);
}

trol_status vision_project(const run *r, const vision *v, const float *features, int64_t n_rows, float *embeddings) {
    size_t mark = workspace_mark(r->space);
    trol_status status = project(r, v, features, n_rows, embeddings);
    workspace_release(r->space, mark);
    return status;
}
