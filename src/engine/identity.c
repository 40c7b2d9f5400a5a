#include "engine/identity.h"

#include <blake2.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "kernels/cpu.h"
#include "kernels/quantize.h"

/* A digest is made twice over: first the pages that it will read are only announced, so that a file that is not in
 * memory yet is read at many places at once. */
typedef struct digest {
    blake2b_state state;
    bool announcing;
} digest;

static trol_status digest_begin(digest *d, trol_error *error) {
    d->announcing = false;
    if (blake2b_init(&d->state, IDENTITY_BYTES) != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "BLAKE2b cannot be used on this machine");
    return TROL_OK;
}

static void digest_add(digest *d, const void *bytes, size_t n_bytes) {
    if (!d->announcing)
        blake2b_update(&d->state, bytes, n_bytes);
}

static void digest_end(digest *d, unsigned char identity[IDENTITY_BYTES]) {
    blake2b_final(&d->state, identity, IDENTITY_BYTES);
}

/* A text with its length, so that two texts in sequence cannot be split in two ways. */
static void add_text(digest *d, const char *text, size_t n_bytes) {
    const uint64_t length = n_bytes;
    digest_add(d, &length, sizeof length);
    digest_add(d, text, n_bytes);
}

#define ADD_NUMBERS(d, ...)                                                                                            \
    do {                                                                                                               \
        const int64_t numbers_[] = {__VA_ARGS__};                                                                      \
        digest_add(d, numbers_, sizeof numbers_);                                                                      \
    } while (0)

/* ---- tensors --------------------------------------------------------------------------------- */

static void add_piece(digest *d, const void *bytes, size_t n_bytes) {
    if (d->announcing)
        file_expect_pages(bytes, n_bytes);
    else
        digest_add(d, bytes, n_bytes);
}

/* All of a small tensor; of a large one two pieces: another tensor differs nearly everywhere, and a page that is not in
 * memory costs far more than its hash. */
static void add_sample(digest *d, const void *data, size_t n_bytes) {
    enum { WHOLE_BYTES = 16 << 10, N_PIECES = 2, PIECE_BYTES = 1 << 10 };
    const unsigned char *bytes = data;
    ADD_NUMBERS(d, (int64_t)n_bytes);
    if (n_bytes <= WHOLE_BYTES)
        add_piece(d, bytes, n_bytes);
    for (size_t i = 1; i <= N_PIECES && n_bytes > WHOLE_BYTES; i++)
        add_piece(d, bytes + n_bytes / (N_PIECES + 1) * i, PIECE_BYTES);
}

static void add_matrix(digest *d, const matrix *m) {
    if (!m->data) {
        ADD_NUMBERS(d, -1);
        return;
    }
    ADD_NUMBERS(d, m->type, m->rows, m->columns);
    add_sample(d, m->data, matrix_bytes(m));
}

/* n floats; NULL: there are none. */
static void add_vector(digest *d, const float *values, int64_t n) {
    if (values)
        add_sample(d, values, (size_t)n * sizeof *values);
    else
        ADD_NUMBERS(d, -1);
}

static void add_linear(digest *d, const linear *l) {
    ADD_NUMBERS(d, l->first_row, l->n_rows);
    add_matrix(d, &l->weight);
    add_vector(d, l->bias, l->weight.rows);
    add_matrix(d, &l->lora_a);
    add_matrix(d, &l->lora_b);
}

static void add_decoder(digest *d, const decoder_config *c, const decoder_weights *w) {
    const int64_t hidden = c->hidden_size;
    add_matrix(d, &w->embeddings);
    add_vector(d, w->norm, hidden);
    add_linear(d, &w->output);
    ADD_NUMBERS(d, w->has_gate);
    for (int64_t i = 0; i < c->n_layers; i++) {
        const decoder_layer_weights *layer = &w->layers[i];
        add_vector(d, layer->attention_norm, hidden);
        add_vector(d, layer->ffn_norm, hidden);
        add_linear(d, &layer->qkv);
        add_linear(d, &layer->attention_out);
        add_linear(d, &layer->gate);
        add_linear(d, &layer->up);
        add_linear(d, &layer->down);
        add_vector(d, layer->mixer_weight, hidden);
        add_vector(d, &layer->mixer_bias, 1);
    }
}

static void add_encoder(digest *d, const vision_config *c, const vision_weights *w) {
    const int64_t hidden = c->hidden_size;
    add_linear(d, &w->patch);
    add_vector(d, w->class_embedding, hidden);
    add_vector(d, w->positions, (1 + w->n_positions) * hidden);
    add_vector(d, w->pre_norm, hidden);
    add_vector(d, w->pre_norm_bias, hidden);
    for (int64_t i = 0; i < c->n_layers; i++) {
        const vision_layer_weights *layer = &w->layers[i];
        const float *const vectors[] = {layer->norm1,  layer->norm1_bias, layer->norm2,  layer->norm2_bias,
                                        layer->q_norm, layer->k_norm,     layer->scale1, layer->scale2};
        for (size_t k = 0; k < sizeof vectors / sizeof *vectors; k++)
            add_vector(d, vectors[k], hidden);
        for (int k = 0; k < 3; k++)
            add_linear(d, &layer->qkv[k]);
        add_linear(d, &layer->attention_out);
        add_linear(d, &layer->fc1);
        add_linear(d, &layer->fc2);
    }
}

static void add_projector(digest *d, const projector_weights *w) {
    add_vector(d, w->norm, w->first.weight.columns);
    add_vector(d, w->norm_bias, w->first.weight.columns);
    add_linear(d, &w->first);
    add_linear(d, &w->second);
}

/* ---- configs and tokens ---------------------------------------------------------------------- */

static void add_decoder_config(digest *d, const decoder_config *c) {
    const rope_config *rope = &c->rope;
    const double reals[] = {c->rms_norm_eps, rope->theta, rope->factor};
    ADD_NUMBERS(d, c->vocab_size, c->hidden_size, c->intermediate_size, c->n_layers, c->n_heads, c->n_kv_heads,
                c->head_dim, c->attention_bias, c->tie_word_embeddings, c->sliding_window, c->max_positions, rope->type,
                rope->max_positions, rope->original_max_positions);
    digest_add(d, reals, sizeof reals);
    if (rope->type == ROPE_SU || rope->type == ROPE_YARN) {
        add_vector(d, rope->short_factor, c->head_dim / 2);
        add_vector(d, rope->long_factor, c->head_dim / 2);
    }
}

static void add_vision_config(digest *d, const model_config *config) {
    const vision_config *c = &config->vision;
    const double eps = c->norm_eps;
    add_text(d, config->family->name, strlen(config->family->name));
    ADD_NUMBERS(d, c->hidden_size, c->intermediate_size, c->n_layers, c->n_heads, c->patch_size, c->image_size, c->norm,
                c->quick_gelu, c->qkv_bias, c->qk_norm, c->max_tiles);
    digest_add(d, &eps, sizeof eps);
}

static void visit_bytes(void *user, const void *bytes, size_t n_bytes) { digest_add(user, bytes, n_bytes); }

static void add_tokenizer(digest *d, const trol_model *model) {
    const int32_t n = model->tokenizer ? tokenizer_count(model->tokenizer) : 0;
    ADD_NUMBERS(d, n, model->image_token, (int64_t)model->n_end_tokens);
    digest_add(d, model->end_tokens, model->n_end_tokens * sizeof *model->end_tokens);
    if (model->tokenizer)
        tokenizer_visit(model->tokenizer, visit_bytes, d);
}

/* ---- identities ------------------------------------------------------------------------------ */

static void add_weights(digest *d, const trol_model *model, bool with_decoder) {
    add_encoder(d, &model->config.vision, model->vision.weights);
    add_projector(d, model->vision.projector);
    if (with_decoder)
        add_decoder(d, &model->config.decoder, model->decoder.weights);
}

static void announce_weights(const trol_model *model, bool with_decoder) {
    digest d = {.announcing = true};
    add_weights(&d, model, with_decoder);
}

static trol_status compute_vision(const trol_model *model, unsigned char bytes[IDENTITY_BYTES], trol_error *error) {
    digest d;
    TRY(digest_begin(&d, error));
    announce_weights(model, false);
    add_vision_config(&d, &model->config);
    add_weights(&d, model, false);
    digest_end(&d, bytes);
    return TROL_OK;
}

static trol_status compute_all(const trol_model *model, unsigned char bytes[IDENTITY_BYTES], trol_error *error) {
    digest d;
    TRY(digest_begin(&d, error));
    announce_weights(model, true);
    add_vision_config(&d, &model->config);
    add_decoder_config(&d, &model->config.decoder);
    add_tokenizer(&d, model); /* while what was announced is read */
    add_weights(&d, model, true);
    digest_end(&d, bytes);
    return TROL_OK;
}

/* Computed once and kept with the model. Threads that ask at the same time each compute it, with the same result. */
static trol_status remembered(const trol_model *model, size_t member, model_identity *found,
                              trol_status (*compute)(const trol_model *, unsigned char *, trol_error *),
                              trol_error *error) {
    trol_model *writable = (trol_model *)model; /* only the remembered value changes */
    model_identity *kept = (model_identity *)((char *)writable + member);
    model_lock(writable);
    *found = *kept;
    model_unlock(writable);
    if (found->known)
        return TROL_OK;
    TRY(compute(model, found->bytes, error));
    found->known = true;
    model_lock(writable);
    *kept = *found;
    model_unlock(writable);
    return TROL_OK;
}

trol_status identity_of_model(const trol_model *model, unsigned char identity[IDENTITY_BYTES], trol_error *error) {
    model_identity found;
    TRY(remembered(model, offsetof(trol_model, whole_identity), &found, compute_all, error));
    memcpy(identity, found.bytes, IDENTITY_BYTES);
    return TROL_OK;
}

void identity_of_arithmetic(const trol_model *model, char text[ARITHMETIC_BYTES]) {
    const kernels *table = model->kernels;
    const unsigned instructions = table->traits & ~(unsigned)CPU_PREFERS_L2_PREFETCH; /* which changes no bits */
    const matrix *text_matrix = &model->weights->decoder.layers[0].qkv.weight,
                 *image_matrix = &model->vision.weights->layers[0].fc1.weight;
    char blas[ARITHMETIC_BYTES / 2] = "";
    memset(text, 0, ARITHMETIC_BYTES);
    (void)linear_describe_blas(table, blas, sizeof blas);
    snprintf(text, ARITHMETIC_BYTES, "libtrol %s, %s kernels (%x), weights %s, of pictures %s, compute %s%s%s",
             trol_version(), cpu_level_name(table->level), instructions, element_name(text_matrix->type),
             element_name(image_matrix->type), model->decoder.arithmetic == LINEAR_BF16 ? "bf16" : "exact",
             blas[0] ? ", " : "", blas);
}

trol_status identity_of_image(const trol_model *model, const trol_image *image, unsigned char identity[IDENTITY_BYTES],
                              trol_error *error) {
    const int64_t width = trol_image_width(image), height = trol_image_height(image);
    const kernels *table = model->kernels;
    char blas[ARITHMETIC_BYTES] = "";
    model_identity encoder;
    digest d;
    TRY(remembered(model, offsetof(trol_model, vision_identity), &encoder, compute_vision, error));
    TRY(digest_begin(&d, error));
    digest_add(&d, encoder.bytes, IDENTITY_BYTES);
    add_text(&d, trol_version(), strlen(trol_version()));
    (void)linear_describe_blas(table, blas, sizeof blas);
    add_text(&d, blas, strlen(blas));
    ADD_NUMBERS(&d, table->level, table->traits & ~(unsigned)CPU_PREFERS_L2_PREFETCH, model->vision.arithmetic, width,
                height);
    digest_add(&d, trol_image_pixels(image), (size_t)width * (size_t)height * 3);
    digest_end(&d, identity);
    return TROL_OK;
}
