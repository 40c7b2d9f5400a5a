/* model.c - opening a checkpoint, and what its users share: weights, tokenizer, threads, scratch memory. */
#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/cache.h"
#include "engine/locate.h"
#include "engine/params.h"
#include "engine/vocabulary.h"
#include "format/json.h"

void trol_model_params_init(trol_model_params *params) {
    if (params)
        *params = (trol_model_params){.size = sizeof *params};
}

static trol_status check_params(const trol_model_params *p, trol_error *error) {
    if (p->weight_type < TROL_WEIGHTS_AS_STORED || p->weight_type > TROL_WEIGHTS_Q4)
        return fail(error, TROL_ERROR_ARGUMENT, "weight_type is %d, expected a trol_weight_type", (int)p->weight_type);
    if (p->vision_type < TROL_WEIGHTS_AS_STORED || p->vision_type > TROL_WEIGHTS_Q4)
        return fail(error, TROL_ERROR_ARGUMENT, "vision_type is %d, expected a trol_weight_type", (int)p->vision_type);
    if (p->compute != TROL_COMPUTE_EXACT && p->compute != TROL_COMPUTE_BF16)
        return fail(error, TROL_ERROR_ARGUMENT, "compute is %d, expected a trol_compute", (int)p->compute);
    return TROL_OK;
}

/* A dangling link exists as well: opening it reports what is wrong. */
static trol_status file_exists(const char *folder, const char *name, bool *exists, trol_error *error) {
    char *path;
    struct stat info;
    TRY(path_join(folder, name, &path, error));
    *exists = lstat(path, &info) == 0;
    memory_free(path);
    return TROL_OK;
}

static trol_status load_tokenizer(trol_model *model, const char *folder, trol_error *error) {
    const model_family *family = model->config.family;
    model->prompt_template = &family->prompt;
    model->image_token = config_image_token(&model->config);
    model->n_end_tokens = (size_t)model->config.decoder.n_eos_tokens;
    memcpy(model->end_tokens, model->config.decoder.eos_tokens, model->n_end_tokens * sizeof *model->end_tokens);
    bool exists;
    TRY(file_exists(folder, "tokenizer.model", &exists, error));
    if (!exists) {
        log_message(&model->log, TROL_LOG_WARNING,
                    "tokenizer.model is missing: only raw token ids can be used (image token %d)", model->image_token);
        return TROL_OK;
    }
    const tokenizer_options options = {.dummy_prefix = family->dummy_prefix,
                                       .n_tokens = model->weights->decoder.embeddings.rows};
    TRY(tokenizer_load(folder, &options, &model->log, &model->tokenizer, error));
    TRY(prompt_check(model->prompt_template, model->tokenizer, error));
    model->image_token = tokenizer_id(model->tokenizer, model->prompt_template->image_token);
    model->n_end_tokens =
        prompt_end_tokens(model->prompt_template, model->tokenizer, model->end_tokens, MODEL_MAX_END_TOKENS);
    return TROL_OK;
}

static trol_status load_into(trol_model *model, const char *path, const trol_model_params *p, trol_error *error) {
    char *folder = NULL;
    trol_status status;
    TRY(check_params(p, error));
    TRY(kernels_get(&model->kernels, error));
    const bool bf16 = p->compute == TROL_COMPUTE_BF16 && linear_has_bf16(model->kernels);
    const linear_arithmetic arithmetic = bf16 ? LINEAR_BF16 : LINEAR_EXACT;
    if (p->threads)
        model->threads = threads_retain(p->threads);
    else
        TRY(trol_threads_new(p->n_threads, &model->threads, error));
    TRY(locate_checkpoint(path, &folder, error));
    TRY_GOTO(config_load(folder, &model->log, &model->config, error), done);
    const weights_options options = {.types = {p->weight_type, p->vision_type},
                                     .plain_backbone = p->plain_backbone != 0,
                                     .kernels = model->kernels,
                                     .threads = model->threads,
                                     .log = &model->log,
                                     .progress = p->progress,
                                     .progress_user = p->progress_user};
    TRY_GOTO(weights_load(folder, &model->config, &options, &model->weights, error), done);
    TRY_GOTO(load_tokenizer(model, folder, error), done);
    if (model->image_token >= model->weights->decoder.embeddings.rows)
        status =
            fail(error, TROL_ERROR_FORMAT, "%s: the image token is %d, expected less than the embedding's %lld rows",
                 model->tokenizer ? "tokenizer_config.json" : "config.json", model->image_token,
                 (long long)model->weights->decoder.embeddings.rows);
    model->decoder = (decoder){&model->config.decoder, &model->weights->decoder, arithmetic};
    model->vision = (vision){&model->config, &model->weights->vision, &model->weights->projector, arithmetic};
done:
    if (status != TROL_OK)
        fail_prefix(error, status, path);
    memory_free(folder);
    return status;
}

/* Logs a line if the arithmetic is not what the kernels' name suggests. */
static void describe_arithmetic(const trol_model *model, const trol_model_params *p) {
    char text[600];
    if (linear_describe_blas(model->kernels, text, sizeof text))
        log_message(&model->log, TROL_LOG_INFO, "%s", text);
    if (p->compute == TROL_COMPUTE_BF16 && model->decoder.arithmetic == LINEAR_EXACT)
        log_message(&model->log, TROL_LOG_INFO,
                    "compute is bf16, but this CPU multiplies float32 as fast: exact products are computed");
}

trol_status trol_model_load(const char *path, const trol_model_params *params, trol_model **result, trol_error *error) {
    TRY_OUT(result, "trol_model_load", error);
    if (!path || !*path)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_model_load: the path is NULL or empty");
    trol_model_params p;
    trol_model_params_init(&p);
    TRY(params_copy(&p, sizeof p, params, "trol_model_params", error));
    trol_model *model = calloc(1, sizeof *model);
    if (!model)
        return fail_memory(error, sizeof *model, "a model");
    atomic_init(&model->references, 1);
    fork_mutex_init(&model->mutex);
    model->log = (logger){p.log, p.log_user};
    model->cache = cache_retain(p.cache);
    trol_status status = load_into(model, path, &p, error);
    if (status != TROL_OK) {
        trol_model_free(model);
        return status;
    }
    log_message(&model->log, TROL_LOG_INFO, "%s: %s, %.2f G parameters, %d threads, %s kernels", path,
                model->config.family->name, (double)model->weights->n_parameters / 1e9, threads_count(model->threads),
                cpu_level_name(model->kernels->level));
    describe_arithmetic(model, &p);
    *result = model;
    return TROL_OK;
}

trol_model *model_retain(trol_model *model) {
    atomic_fetch_add(&model->references, 1);
    return model;
}

void trol_model_free(trol_model *model) {
    if (!model || atomic_fetch_sub(&model->references, 1) > 1)
        return;
    for (int i = 0; i < model->n_workspaces; i++)
        workspace_free(model->workspaces[i]);
    vocabulary_free(model->vocabulary);
    tokenizer_free(model->tokenizer);
    weights_free(model->weights);
    trol_threads_free(model->threads);
    trol_cache_free(model->cache);
    fork_mutex_destroy(&model->mutex);
    free(model);
}

/* What another thread was changing when the process forked is forgotten. */
void model_lock(trol_model *model) {
    if (fork_mutex_lock(&model->mutex))
        return;
    model->n_workspaces = 0;
    model->whole_identity.known = model->vision_identity.known = false;
}

void model_unlock(trol_model *model) { fork_mutex_unlock(&model->mutex); }

trol_status model_take_workspace(trol_model *model, workspace **space, trol_error *error) {
    *space = NULL;
    model_lock(model);
    if (model->n_workspaces > 0)
        *space = model->workspaces[--model->n_workspaces];
    model_unlock(model);
    return *space ? TROL_OK : workspace_new(space, error);
}

/* A long prompt's scratch is returned to the system; what a decode step needs is kept. */
void model_return_workspace(trol_model *model, workspace *space) {
    enum { KEPT_BYTES = 32 << 20 };
    workspace_release(space, 0);
    workspace_trim(space, KEPT_BYTES);
    model_lock(model);
    bool kept = model->n_workspaces < MODEL_MAX_WORKSPACES;
    if (kept)
        model->workspaces[model->n_workspaces++] = space;
    model_unlock(model);
    if (!kept)
        workspace_free(space);
}

trol_status model_get_vocabulary(trol_model *model, const vocabulary **found, trol_error *error) {
    trol_status status = TROL_OK;
    if (!model->tokenizer)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the model has no tokenizer, which constraints need");
    model_lock(model);
    if (!model->vocabulary)
        status = vocabulary_new(model->tokenizer, (int32_t)model->config.decoder.vocab_size, &model->vocabulary, error);
    *found = model->vocabulary;
    model_unlock(model);
    return status;
}

void model_note_length(trol_model *model, size_t n_tokens) {
    const int64_t trained = config_trained_positions(&model->config.decoder);
    if ((int64_t)n_tokens > trained && !atomic_exchange(&model->length_noticed, true))
        log_message(&model->log, TROL_LOG_WARNING,
                    "the context passes %lld tokens, the most that the model was trained for (max_position_embeddings "
                    "and what rope scaling adds): answers may make no sense from here on",
                    (long long)trained);
}

_Static_assert((int)KV_F16 == TROL_CACHE_F16 && (int)KV_F32 == TROL_CACHE_F32 && (int)KV_Q8 == TROL_CACHE_Q8,
               "kv_type is numbered as trol_cache_type");

kv_shape model_kv_shape(const trol_model *model, trol_cache_type type) {
    const decoder_config *c = &model->config.decoder;
    return (kv_shape){c->n_layers, c->n_kv_heads, c->head_dim, (kv_type)type};
}

int64_t trol_model_cache_bytes(const trol_model *model, trol_cache_type type, int32_t n_tokens) {
    if (!model || n_tokens < 1 || type < TROL_CACHE_F16 || type > TROL_CACHE_Q8)
        return 0;
    const kv_shape shape = model_kv_shape(model, type);
    return ((int64_t)n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS * (int64_t)kv_block_bytes(&shape);
}

trol_status model_check_token(const trol_model *model, int32_t token, trol_error *error) {
    const int64_t n_tokens = model->weights->decoder.embeddings.rows;
    if (token < 0 || token >= n_tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "token id %d is outside the vocabulary, expected 0 to %lld", token,
                    (long long)n_tokens - 1);
    return TROL_OK;
}

trol_status model_logits_not_finite(const trol_model *model, trol_error *error) {
    const tensor_source *source = model->weights->source;
    for (size_t i = 0; i < tensor_source_count(source); i++) {
        const tensor *t = tensor_source_at(source, i);
        const int64_t place = tensor_find_not_finite(t);
        if (place >= 0)
            return fail(error, TROL_ERROR_FORMAT,
                        "the model's logits are not finite: %s: tensor %s is infinite or not a number at place %lld",
                        t->file, t->name, (long long)place);
    }
    return fail(error, TROL_ERROR_FORMAT,
                "the model's logits are not finite: its weights are damaged, or too large for their type");
}

trol_status trol_model_get_info(const trol_model *model, trol_model_info *info, trol_error *error) {
    if (!model || !info)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_model_get_info: a pointer is NULL");
    const decoder_config *d = &model->config.decoder;
    trol_model_info full = {.vocab_size = (int32_t)d->vocab_size,
                            .n_tokens = (int32_t)model->weights->decoder.embeddings.rows,
                            .hidden_size = (int32_t)d->hidden_size,
                            .intermediate_size = (int32_t)d->intermediate_size,
                            .n_layers = (int32_t)d->n_layers,
                            .n_heads = d->n_heads,
                            .n_kv_heads = d->n_kv_heads,
                            .head_dim = d->head_dim,
                            .max_positions = (int32_t)(d->max_positions > INT32_MAX ? INT32_MAX : d->max_positions),
                            .image_size = model->config.vision.image_size,
                            .tokens_per_tile = (int32_t)config_tokens_per_tile(&model->config),
                            .max_tiles = config_max_tiles(&model->config),
                            .image_token = model->image_token,
                            .bos_token = d->bos_token,
                            .eos_token = d->eos_tokens[0],
                            .has_tokenizer = model->tokenizer != NULL,
                            .vision_layers = (int32_t)model->config.vision.n_layers,
                            .vision_hidden_size = (int32_t)model->config.vision.hidden_size,
                            .vision_intermediate_size = (int32_t)model->config.vision.intermediate_size,
                            .vision_patch_size = model->config.vision.patch_size,
                            .vision_feature_size = (int32_t)config_feature_width(&model->config),
                            .has_gate = model->weights->decoder.has_gate,
                            .n_parameters = model->weights->n_parameters,
                            .weight_bytes = model->weights->n_bytes};
    full.n_end_tokens = (int32_t)model->n_end_tokens;
    memcpy(full.end_tokens, model->end_tokens, model->n_end_tokens * sizeof *full.end_tokens);
    snprintf(full.family, sizeof full.family, "%s", model->config.family->name);
    snprintf(full.weight_type, sizeof full.weight_type, "%s",
             element_name(model->weights->decoder.layers[0].qkv.weight.type));
    snprintf(full.cpu_level, sizeof full.cpu_level, "%s", cpu_level_name(model->kernels->level));
    snprintf(full.compute, sizeof full.compute, "%s", model->decoder.arithmetic == LINEAR_BF16 ? "bf16" : "exact");
    return params_copy_out(info, &full, sizeof full, "trol_model_info", error);
}
