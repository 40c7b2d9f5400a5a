/* features.c - trol_features: a picture through encoder and projector, with progress and cancellation. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/model.h"
#include "format/image.h"

trol_features *features_retain(trol_features *features) {
    atomic_fetch_add(&features->references, 1);
    return features;
}

void trol_features_free(trol_features *features) {
    if (!features || atomic_fetch_sub(&features->references, 1) > 1)
        return;
    trol_model_free(features->model);
    memory_free(features->data);
    free(features);
}

const float *trol_features_data(const trol_features *features) { return features ? features->data : NULL; }
int32_t trol_features_n_tokens(const trol_features *features) { return features ? features->n_tokens : 0; }
int32_t trol_features_n_tiles(const trol_features *features) { return features ? features->n_tiles : 0; }

/* FNV-1a over 8 bytes at a time. */
static uint64_t hash_bytes(const void *bytes, size_t n_bytes) {
    uint64_t hash = 14695981039346656037ull, word = 0;
    for (size_t i = 0; i < n_bytes; i += sizeof word) {
        word = 0;
        memcpy(&word, (const char *)bytes + i, n_bytes - i < sizeof word ? n_bytes - i : sizeof word);
        hash = (hash ^ word) * 1099511628211ull;
        hash ^= hash >> 32;
    }
    return hash;
}

trol_status features_new(trol_model *model, float *data, int32_t n_tokens, int32_t n_tiles, trol_features **features,
                         trol_error *error) {
    *features = malloc(sizeof **features);
    if (!*features) {
        memory_free(data);
        return fail_memory(error, sizeof **features, "a picture's features");
    }
    const size_t n_bytes = (size_t)n_tokens * (size_t)model->config.decoder.hidden_size * sizeof *data;
    **features = (trol_features){.model = model_retain(model),
                                 .data = data,
                                 .n_tokens = n_tokens,
                                 .n_tiles = n_tiles,
                                 .hash = hash_bytes(data, n_bytes)};
    atomic_init(&(*features)->references, 1);
    return TROL_OK;
}

/* ---- encoding ----------------------------------------------------------------------------------------------------- */

/* One picture being encoded. */
typedef struct encoding {
    trol_progress_callback callback; /* may be NULL */
    void *user;
    atomic_int *cancel;
    int64_t total;
    atomic_llong done;
    double next_call; /* on the monotonic clock */
} encoding;

static void poll_encoding(void *user) {
    const double interval = 0.05;
    encoding *e = user;
    double now = clock_seconds();
    if (!e->callback || now < e->next_call)
        return;
    e->next_call = now + interval;
    if (e->callback(e->user, TROL_STAGE_IMAGE, atomic_load(&e->done), e->total) != 0)
        atomic_store(e->cancel, 1);
}

/* Buffers of one encoding; what stays NULL is not wanted or not reached. */
typedef struct encoded {
    float *pixels;     /* [n_tiles, 3, S, S] */
    float *features;   /* [n_rows, feature width] */
    float *embeddings; /* [n_rows, hidden_size] */
    int32_t n_tiles;
    int64_t n_rows;
} encoded;

static void encoded_free(encoded *out) {
    memory_free(out->pixels);
    memory_free(out->features);
    memory_free(out->embeddings);
}

static trol_status encode(trol_model *model, const trol_image *image, encoding *e, encoded *out, trol_error *error) {
    const int64_t width = vision_feature_width(&model->config), hidden = model->config.decoder.hidden_size;
    workspace *space;
    TRY(vision_pixels(&model->config, image, &out->pixels, &out->n_tiles, error));
    out->n_rows = out->n_tiles * config_tokens_per_tile(&model->config);
    e->total = vision_progress_units(&model->config, out->n_tiles);
    TRY(memory_alloc((size_t)(out->n_rows * width), sizeof(float), "vision features", (void **)&out->features, error));
    TRY(memory_alloc((size_t)(out->n_rows * hidden), sizeof(float), "image embeddings", (void **)&out->embeddings, error));
    TRY(model_take_workspace(model, &space, error));
    const run r = {model->threads, space, model->kernels, e->cancel, error, poll_encoding, e};
    trol_status status = vision_encode(&r, &model->vision, out->pixels, out->n_tiles, out->features, &e->done);
    if (status == TROL_OK)
        status = vision_project(&r, &model->vision, out->features, out->n_rows, out->embeddings);
    model_return_workspace(model, space);
    return status;
}

trol_status model_encode_image(trol_model *model, const trol_image *image, trol_progress_callback progress, void *user,
                               atomic_int *cancel, trol_features **features, trol_error *error) {
    atomic_int own_cancel = 0;
    encoding e = {.callback = progress, .user = user, .cancel = cancel ? cancel : &own_cancel};
    encoded out = {0};
    *features = NULL;
    trol_status status = encode(model, image, &e, &out, error);
    if (status == TROL_OK && e.callback && e.callback(e.user, TROL_STAGE_IMAGE, e.total, e.total) != 0)
        status = fail(error, TROL_ERROR_CANCELLED, "the progress callback asked to stop");
    if (status == TROL_OK) {
        status = features_new(model, out.embeddings, (int32_t)out.n_rows, out.n_tiles, features, error);
        out.embeddings = NULL;
    }
    encoded_free(&out);
    return status;
}

trol_status trol_encode_image(trol_model *model, const trol_image *image, trol_features **features, trol_error *error) {
    if (!features)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_encode_image: the out-pointer is NULL");
    *features = NULL;
    if (!model || !image)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_encode_image: the model or the image is NULL");
    return model_encode_image(model, image, NULL, NULL, NULL, features, error);
}

trol_status trol_observe_image(trol_model *model, const trol_image *image, trol_observer observer, void *user,
                               trol_error *error) {
    if (!model || !image || !observer)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_observe_image: the model, the image or the observer is NULL");
    atomic_int cancel = 0;
    encoding e = {.cancel = &cancel};
    encoded out = {0};
    trol_status status = encode(model, image, &e, &out, error);
    const int64_t size = model->config.vision.image_size;
    if (status == TROL_OK &&
        (observer(user, "pixels", -1, 0, out.n_tiles, 3 * size * size, out.pixels) != 0 ||
         observer(user, "vision_features", -1, 0, out.n_rows, vision_feature_width(&model->config), out.features) != 0 ||
         observer(user, "image_embeds", -1, 0, out.n_rows, model->config.decoder.hidden_size, out.embeddings) != 0))
        status = fail(error, TROL_ERROR_CANCELLED, "the observer asked to stop");
    encoded_free(&out);
    return status;
}
