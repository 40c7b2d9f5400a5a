#include "engine/identity.h"

#include <blake2.h>

typedef struct digest {
    blake2b_state state;
} digest;

static trol_status digest_begin(digest *d, trol_error *error) {
    if (blake2b_init(&d->state, IDENTITY_BYTES) != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "BLAKE2b cannot be used on this machine");
    return TROL_OK;
}

static void digest_add(digest *d, const void *bytes, size_t n_bytes) { blake2b_update(&d->state, bytes, n_bytes); }

static void digest_end(digest *d, unsigned char identity[IDENTITY_BYTES]) {
    blake2b_final(&d->state, identity, IDENTITY_BYTES);
}

trol_status identity_of_model(const trol_model *model, unsigned char identity[IDENTITY_BYTES], trol_error *error) {
    const decoder_config *c = &model->config.decoder;
    const decoder_weights *w = &model->weights->decoder;
    const size_t row = (size_t)c->hidden_size * sizeof(float);
    const int64_t sizes[] = {c->vocab_size, c->hidden_size, c->intermediate_size,
                             c->n_layers,   c->n_heads,     c->n_kv_heads};
    digest d;
    TRY(digest_begin(&d, error));
    digest_add(&d, sizes, sizeof sizes);
    digest_add(&d, w->norm, row);
    for (int64_t i = 0; i < c->n_layers; i++) {
        digest_add(&d, w->layers[i].attention_norm, row);
        digest_add(&d, w->layers[i].ffn_norm, row);
        if (w->layers[i].mixer_weight)
            digest_add(&d, w->layers[i].mixer_weight, row);
    }
    digest_end(&d, identity);
    return TROL_OK;
}

trol_status identity_of_image(const trol_model *model, const trol_image *image, unsigned char identity[IDENTITY_BYTES],
                              trol_error *error) {
    const vision *v = &model->vision;
    const int64_t width = trol_image_width(image), height = trol_image_height(image);
    const vision_layer_weights *layer = &v->weights->layers[0];
    const int64_t numbers[] = {width,
                               height,
                               v->arithmetic,
                               v->weights->patch.weight.type,
                               layer->qkv[0].weight.type,
                               layer->attention_out.weight.type,
                               layer->fc1.weight.type,
                               layer->fc2.weight.type,
                               v->projector->first.weight.type,
                               v->projector->second.weight.type};
    digest d;
    TRY(identity_of_model(model, identity, error));
    TRY(digest_begin(&d, error));
    digest_add(&d, identity, IDENTITY_BYTES);
    digest_add(&d, numbers, sizeof numbers);
    digest_add(&d, trol_image_pixels(image), (size_t)width * (size_t)height * 3);
    digest_end(&d, identity);
    return TROL_OK;
}
