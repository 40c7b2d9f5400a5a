/* model.h - trol_model and trol_features: everything that is loaded once and shared. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/fork_mutex.h"
#include "base/log.h"
#include "engine/embeds.h"
#include "engine/prompt.h"
#include "format/tokenizer.h"
#include "kernels/run.h"
#include "model/config.h"
#include "model/decoder.h"
#include "model/family.h"
#include "model/vision.h"
#include "model/weights.h"
#include "trol.h"

enum { MODEL_MAX_END_TOKENS = TROL_MAX_END_TOKENS, MODEL_MAX_WORKSPACES = 8 };

_Static_assert((int)MODEL_MAX_END_TOKENS >= (int)CONFIG_MAX_EOS_TOKENS, "room for the end tokens of config.json");

enum { IDENTITY_BYTES = 32 };

/* Computed when it is first asked for (identity.h). */
typedef struct model_identity {
    bool known;
    unsigned char bytes[IDENTITY_BYTES];
} model_identity;

struct trol_model {
    atomic_int references;
    model_config config;
    weights *weights;
    decoder decoder;
    vision vision;
    tokenizer *tokenizer; /* NULL: the folder has none */
    const prompt_template *prompt_template;
    int32_t image_token;
    int32_t end_tokens[MODEL_MAX_END_TOKENS];
    size_t n_end_tokens;
    trol_threads *threads;
    const kernels *kernels;
    logger log;
    atomic_bool length_noticed;                  /* that a context grew past what the model was trained for */
    fork_mutex mutex;                            /* guards what follows; see model_lock */
    workspace *workspaces[MODEL_MAX_WORKSPACES]; /* idle ones */
    int n_workspaces;
    trol_cache *cache; /* NULL: none */
    model_identity whole_identity, vision_identity;
    struct vocabulary *vocabulary; /* of constraints: made for the first; NULL before */
};

struct trol_features {
    atomic_int references;
    trol_model *model;
    image_embeds *embeds;
    unsigned char identity[IDENTITY_BYTES]; /* of the picture and what encoded it (identity.h) */
};

/* Fails with TROL_ERROR_FORMAT because logits are not finite, and names the tensor at fault if one holds such a number:
 * that is searched for only now, since it takes reading all files. */
trol_status model_logits_not_finite(const trol_model *model, trol_error *error);

trol_model *model_retain(trol_model *model);
trol_features *features_retain(trol_features *features);

/* Features around embeddings that the caller computed; takes `data` over, also on failure. */
trol_status features_new(trol_model *model, float *data, int32_t n_tokens, int32_t n_tiles,
                         const unsigned char identity[IDENTITY_BYTES], trol_features **features, trol_error *error);

/* Features of embeddings that exist already, one more reference to them. */
trol_status features_of_embeds(trol_model *model, image_embeds *embeds, const unsigned char identity[IDENTITY_BYTES],
                               trol_features **features, trol_error *error);

/* Around what changes in a model that others use, in a child of fork too. */
void model_lock(trol_model *model);
void model_unlock(trol_model *model);

/* Scratch memory for one call; return it with model_return_workspace. */
trol_status model_take_workspace(trol_model *model, workspace **space, trol_error *error);
void model_return_workspace(trol_model *model, workspace *space);

/* The bytes of the model's tokens, for constraints: made with the first call. */
trol_status model_get_vocabulary(trol_model *model, const struct vocabulary **found, trol_error *error);

/* Warns, once per model, if a context of n_tokens is longer than the model was trained for. */
void model_note_length(trol_model *model, size_t n_tokens);

/* The shape of a pass's keys and values. */
kv_shape model_kv_shape(const trol_model *model, trol_cache_type type);

/* 0 <= token < n_tokens, or an error that names the token. */
trol_status model_check_token(const trol_model *model, int32_t token, trol_error *error);

/* trol_encode_images with a progress callback (NULL: none) and a flag that cancels (NULL: none). *n_encoded (may be
 * NULL): how many of them were not in the model's cache. */
trol_status model_encode_images(trol_model *model, const trol_image *const *images, size_t n_images,
                                trol_progress_callback progress, void *user, atomic_int *cancel,
                                trol_features **features, size_t *n_encoded, trol_error *error);

#endif
