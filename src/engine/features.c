/* features.c - trol_features: a picture through encoder and projector, with progress and cancellation. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/cache.h"
#include "engine/identity.h"
#include "engine/params.h"
#include "format/image.h"

trol_features *features_retain(trol_features *features) {
    atomic_fetch_add(&features->references, 1);
    return features;
}

void trol_features_free(trol_features *features) {
    if (!features || atomic_fetch_sub(&features->references, 1) > 1)
        return;
    image_embeds_free(features->embeds);
    trol_model_free(features->model);
    free(features);
}

const float *trol_features_data(const trol_features *features) { return features ? features->embeds->data : NULL; }
int32_t trol_features_n_tokens(const trol_features *features) { return features ? features->embeds->n_tokens : 0; }
int32_t trol_features_n_tiles(const trol_features *features) { return features ? features->embeds->n_tiles : 0; }

trol_status features_of_embeds(trol_model *model, image_embeds *embeds, const unsigned char identity[IDENTITY_BYTES],
                               trol_features **features, trol_error *error) {
    *features = malloc(sizeof **features);
    if (!*features)
        return fail_memory(error, sizeof **features, "a picture's features");
    **features = (trol_features){.model = model_retain(model), .embeds = image_embeds_retain(embeds)};
    memcpy((*features)->identity, identity, IDENTITY_BYTES);
    atomic_init(&(*features)->references, 1);
    return TROL_OK;
}

trol_status features_new(trol_model *model, float *data, int32_t n_tokens, int32_t n_tiles,
                         const unsigned char identity[IDENTITY_BYTES], trol_features **features, trol_error *error) {
    image_embeds *embeds;
    *features = NULL;
    TRY(image_embeds_new(data, n_tokens, n_tiles, model->config.decoder.hidden_size, &embeds, error));
    trol_status status = features_of_embeds(model, embeds, identity, features, error);
    image_embeds_free(embeds);
    return status;
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* A call that encodes pictures, and what cancels it. */
typedef struct request {
    trol_model *model;
    trol_progress_callback progress; /* may be NULL */
    void *user;
    atomic_int *cancel;
    trol_error *error;
} request;

/* Pictures being encoded. */
typedef struct encoding {
    const request *request;
    int64_t total;
    atomic_llong done;
    double next_call; /* on the monotonic clock */
} encoding;

static trol_status show_progress(const request *r, int64_t done, int64_t total) {
    if (r->progress && r->progress(r->user, TROL_STAGE_IMAGE, done, total) != 0)
        return fail(r->error, TROL_ERROR_CANCELLED, "the progress callback asked to stop");
    return TROL_OK;
}

static void poll_encoding(void *user) {
    const double interval = 0.05;
    encoding *e = user;
    const request *r = e->request;
    double now = clock_seconds();
    if (!r->progress || now < e->next_call)
        return;
    e->next_call = now + interval;
    if (r->progress(r->user, TROL_STAGE_IMAGE, atomic_load(&e->done), e->total) != 0)
        atomic_store(r->cancel, 1);
}

/* Buffers of one encoding of several pictures, one after the other; what stays NULL is not reached. */
typedef struct encoded {
    float *pixels;     /* [n_tiles, 3, S, S] */
    float *features;   /* [n_rows, feature width] */
    float *embeddings; /* [n_rows, hidden_size] */
    int32_t n_tiles;   /* of all pictures */
    int64_t n_rows;
} encoded;

static void encoded_free(encoded *out) {
    memory_free(out->pixels);
    memory_free(out->features);
    memory_free(out->embeddings);
}

/* Pictures are encoded together, as one batch of at most MOST_TILES tiles (more only for a single picture), which
 * bounds the scratch memory of a prompt with many pictures. */
enum { MOST_TILES = 8 };

/* Cuts the first images into tiles in `out`, as many as may be encoded together: *taken, at least one. n_tiles[]: tiles
 * of each. */
static trol_status take_images(const model_config *config, const trol_image *const *images, size_t n_images,
                               encoded *out, int32_t *n_tiles, size_t *taken, trol_error *error) {
    const size_t side = (size_t)config->vision.image_size, tile_bytes = 3 * side * side * sizeof(float);
    size_t capacity = 0;
    for (*taken = 0; *taken < n_images; ++*taken) {
        float *pixels;
        void *all = out->pixels;
        TRY(vision_pixels(config, images[*taken], &pixels, &n_tiles[*taken], error));
        const int32_t total = out->n_tiles + n_tiles[*taken];
        if (*taken > 0 && total > MOST_TILES) {
            memory_free(pixels);
            break;
        }
        trol_status status = memory_grow(&all, &capacity, (size_t)total, tile_bytes, "the pixels of pictures", error);
        if (status == TROL_OK) {
            out->pixels = all;
            memcpy((char *)all + (size_t)out->n_tiles * tile_bytes, pixels, (size_t)n_tiles[*taken] * tile_bytes);
            out->n_tiles = total;
        }
        memory_free(pixels);
        TRY(status);
    }
    return TROL_OK;
}

static trol_status encode(const request *r, encoded *out) {
    trol_model *model = r->model;
    const int64_t width = config_feature_width(&model->config), hidden = model->config.decoder.hidden_size;
    workspace *space;
    out->n_rows = out->n_tiles * config_tokens_per_tile(&model->config);
    TRY(memory_alloc((size_t)(out->n_rows * width), sizeof(float), "vision features", (void **)&out->features,
                     r->error));
    TRY(memory_alloc((size_t)(out->n_rows * hidden), sizeof(float), "image embeddings", (void **)&out->embeddings,
                     r->error));
    TRY(model_take_workspace(model, &space, r->error));
    encoding e = {.request = r, .total = vision_progress_units(&model->config, out->n_tiles)};
    const run context = {model->threads, space, model->kernels, r->cancel, r->error, poll_encoding, &e};
    trol_status status = vision_encode(&context, &model->vision, out->pixels, out->n_tiles, out->features, &e.done);
    if (status == TROL_OK)
        status = vision_project(&context, &model->vision, out->features, out->n_rows, out->embeddings);
    model_return_workspace(model, space);
    return status == TROL_OK ? show_progress(r, e.total, e.total) : status;
}

/* One features object a picture, each with a copy of its embeddings. */
static trol_status share_out(const request *r, const encoded *out, const trol_image *const *images,
                             const int32_t *n_tiles, size_t n_images, trol_features **features) {
    const int64_t hidden = r->model->config.decoder.hidden_size;
    const float *next = out->embeddings;
    for (size_t i = 0; i < n_images; i++) {
        const int64_t n_rows = n_tiles[i] * config_tokens_per_tile(&r->model->config);
        unsigned char identity[IDENTITY_BYTES];
        float *own;
        TRY(identity_of_image(r->model, images[i], identity, r->error));
        TRY(memory_alloc((size_t)(n_rows * hidden), sizeof(float), "image embeddings", (void **)&own, r->error));
        memcpy(own, next, (size_t)(n_rows * hidden) * sizeof(float));
        TRY(features_new(r->model, own, (int32_t)n_rows, n_tiles[i], identity, &features[i], r->error));
        next += n_rows * hidden;
    }
    return TROL_OK;
}

static trol_status encode_together(const request *r, const trol_image *const *images, size_t n_images, size_t *taken,
                                   trol_features **features) {
    encoded out = {0};
    int32_t n_tiles[MOST_TILES];
    if (n_images > MOST_TILES)
        n_images = MOST_TILES;
    trol_status status = take_images(&r->model->config, images, n_images, &out, n_tiles, taken, r->error);
    if (status == TROL_OK)
        status = encode(r, &out);
    if (status == TROL_OK)
        status = share_out(r, &out, images, n_tiles, *taken, features);
    encoded_free(&out);
    return status;
}

/* ---- with a cache ---------------------------------------------------------------------------- */

/* A picture that the call asks for. */
typedef struct wanted {
    const trol_image *image;
    trol_features **features; /* where they go; NULL there: not yet */
    unsigned char identity[IDENTITY_BYTES];
    cache_entry *entry; /* NULL: not held */
    cache_state state;
} wanted;

static trol_status take_from_cache(const request *r, wanted *w) {
    return features_of_embeds(r->model, cache_embeds(w->entry), w->identity, w->features, r->error);
}

/* Pictures that no other caller is encoding are taken from the cache, or become this caller's to encode. */
static trol_status enter_all(const request *r, wanted *wanted_images, size_t n) {
    trol_cache *cache = r->model->cache;
    const bool cannot_wait = threads_held_here(r->model->threads);
    for (size_t i = 0; i < n; i++) {
        wanted *w = &wanted_images[i];
        if (*w->features)
            continue;
        TRY(cache_enter(cache, w->identity, cannot_wait, &w->entry, &w->state, r->error));
        if (w->state == CACHE_ENCODE && cache_fetch(cache, w->entry, r->model))
            w->state = CACHE_READY;
        if (w->state == CACHE_READY)
            TRY(take_from_cache(r, w));
    }
    return TROL_OK;
}

/* Encodes what is this caller's, and publishes each group of pictures as soon as it is done, for callers that wait. */
static trol_status encode_own(const request *r, wanted *wanted_images, size_t n, size_t *n_encoded) {
    for (size_t next = 0; next < n;) {
        const trol_image *images[MOST_TILES];
        trol_features *features[MOST_TILES] = {NULL};
        wanted *own[MOST_TILES];
        size_t n_own = 0, taken = 0;
        for (size_t i = next; i < n && n_own < MOST_TILES; i++)
            if (wanted_images[i].state == CACHE_ENCODE) {
                own[n_own] = &wanted_images[i];
                images[n_own++] = wanted_images[i].image;
            }
        if (n_own == 0)
            return TROL_OK;
        trol_status status = encode_together(r, images, n_own, &taken, features);
        for (size_t i = 0; i < taken && status == TROL_OK; i++) {
            *own[i]->features = features[i];
            own[i]->state = CACHE_READY;
            cache_publish(r->model->cache, own[i]->entry, features[i]->embeds, r->model);
            ++*n_encoded;
        }
        for (size_t i = 0; i < MOST_TILES && status != TROL_OK; i++)
            trol_features_free(features[i]);
        TRY(status);
        next = (size_t)(own[taken - 1] - wanted_images) + 1;
    }
    return TROL_OK;
}

/* Waits for a picture that another caller is encoding. */
static trol_status wait_for(const request *r, wanted *w) {
    while (w->state == CACHE_WAIT) {
        TRY(show_progress(r, 0, 1));
        if (atomic_load(r->cancel))
            return fail(r->error, TROL_ERROR_CANCELLED, "encoding the picture was cancelled");
        w->state = cache_wait(r->model->cache, w->entry);
    }
    return w->state == CACHE_READY ? take_from_cache(r, w) : TROL_OK;
}

static void leave_all(const request *r, wanted *wanted_images, size_t n) {
    for (size_t i = 0; i < n; i++) {
        wanted *w = &wanted_images[i];
        if (!w->entry)
            continue;
        if (w->state == CACHE_ENCODE)
            cache_abandon(r->model->cache, w->entry);
        cache_leave(r->model->cache, w->entry);
        w->entry = NULL;
        w->state = CACHE_READY;
    }
}

/* This caller waits for others only after encoding all that it has taken on, so callers cannot wait for each other. */
static trol_status encode_with_cache(const request *r, wanted *wanted_images, size_t n, size_t *n_encoded) {
    bool missing = true;
    while (missing) {
        missing = false;
        trol_status status = enter_all(r, wanted_images, n);
        if (status == TROL_OK)
            status = encode_own(r, wanted_images, n, n_encoded);
        for (size_t i = 0; i < n && status == TROL_OK; i++)
            if (!*wanted_images[i].features)
                status = wait_for(r, &wanted_images[i]);
        leave_all(r, wanted_images, n);
        TRY(status);
        for (size_t i = 0; i < n; i++)
            missing |= !*wanted_images[i].features; /* the caller that encoded it gave up */
    }
    return TROL_OK;
}

static trol_status encode_wanted(const request *r, const trol_image *const *images, size_t n, trol_features **features,
                                 size_t *n_encoded) {
    trol_status status = TROL_OK;
    wanted *wanted_images = calloc(n + 1, sizeof *wanted_images);
    if (!wanted_images)
        return fail_memory(r->error, (n + 1) * sizeof *wanted_images, "a list of pictures");
    for (size_t i = 0; i < n && status == TROL_OK; i++) {
        wanted_images[i] = (wanted){.image = images[i], .features = &features[i]};
        status = identity_of_image(r->model, images[i], wanted_images[i].identity, r->error);
    }
    if (status == TROL_OK)
        status = encode_with_cache(r, wanted_images, n, n_encoded);
    free(wanted_images);
    return status;
}

trol_status model_encode_images(trol_model *model, const trol_image *const *images, size_t n_images,
                                trol_progress_callback progress, void *user, atomic_int *cancel,
                                trol_features **features, size_t *n_encoded, trol_error *error) {
    atomic_int own_cancel = 0;
    size_t count = 0;
    const request r = {model, progress, user, cancel ? cancel : &own_cancel, error};
    trol_status status = TROL_OK;
    for (size_t i = 0; i < n_images; i++)
        features[i] = NULL;
    if (model->cache)
        status = encode_wanted(&r, images, n_images, features, &count);
    for (size_t taken = 0; !model->cache && count < n_images && status == TROL_OK; count += taken)
        status = encode_together(&r, images + count, n_images - count, &taken, features + count);
    for (size_t i = 0; i < n_images && status != TROL_OK; i++) {
        trol_features_free(features[i]);
        features[i] = NULL;
    }
    if (n_encoded)
        *n_encoded = count;
    return status;
}

trol_status trol_encode_images(trol_model *model, const trol_image *const *images, size_t n_images,
                               trol_progress_callback progress, void *user, trol_features **features,
                               trol_error *error) {
    if (n_images && !features)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_encode_images: the array of results is NULL");
    for (size_t i = 0; i < n_images; i++)
        features[i] = NULL;
    if (!model)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_encode_images: the model is NULL");
    for (size_t i = 0; i < n_images; i++)
        if (!images || !images[i])
            return fail(error, TROL_ERROR_ARGUMENT, "trol_encode_images: picture %zu is NULL", i + 1);
    return model_encode_images(model, images, n_images, progress, user, NULL, features, NULL, error);
}

trol_status trol_encode_image(trol_model *model, const trol_image *image, trol_features **features, trol_error *error) {
    TRY_OUT(features, "trol_encode_image", error);
    if (!model || !image)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_encode_image: the model or the image is NULL");
    return model_encode_images(model, &image, 1, NULL, NULL, NULL, features, NULL, error);
}

trol_status trol_observe_image(trol_model *model, const trol_image *image, trol_observer observer, void *user,
                               trol_error *error) {
    if (!model || !image || !observer)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_observe_image: the model, the image or the observer is NULL");
    atomic_int cancel = 0;
    const request r = {.model = model, .cancel = &cancel, .error = error};
    encoded out = {0};
    int32_t n_tiles;
    size_t taken;
    trol_status status = take_images(&model->config, &image, 1, &out, &n_tiles, &taken, error);
    if (status == TROL_OK)
        status = encode(&r, &out);
    const int64_t size = model->config.vision.image_size;
    if (status == TROL_OK &&
        (observer(user, "pixels", -1, 0, out.n_tiles, 3 * size * size, out.pixels) != 0 ||
         observer(user, "vision_features", -1, 0, out.n_rows, config_feature_width(&model->config), out.features) !=
             0 ||
         observer(user, "image_embeds", -1, 0, out.n_rows, model->config.decoder.hidden_size, out.embeddings) != 0))
        status = fail(error, TROL_ERROR_CANCELLED, "the observer asked to stop");
    encoded_free(&out);
    return status;
}
