/* synthetic.h - a random checkpoint of a published model's full size and layout.
 *
 * Names, shapes and files are those of the published folders (config.json, model.safetensors, trol_gating.pt). The
 * weights are Gaussian, scaled by their number of inputs so that activations stay within 16-bit range through all
 * layers; the answers of such a model are noise. Each tensor's values depend on the seed and its name alone: a model
 * with fewer layers has the same first layers. */
#ifndef TOOLS_SYNTHETIC_H
#define TOOLS_SYNTHETIC_H

#include "common/random_weights.h"

typedef struct synthetic_options {
    const char *model;     /* "TroL-1.8B", "TroL-3.8B" or "TroL-7B" */
    const char *folder;    /* made if it is not there (its parent must be) */
    const char *tokenizer; /* a folder whose tokenizer files are copied; NULL: none */
    int n_layers;          /* of the decoder; 0: all */
    int n_vision_layers;   /* 0: all */
    uint64_t seed;
    random_dtype type;
    bool force;                          /* overwrite files that exist */
    const volatile sig_atomic_t *cancel; /* may be NULL */
    random_progress progress;            /* may be NULL */
} synthetic_options;

typedef struct synthetic_result {
    int n_layers;
    size_t n_tensors;
    int64_t weight_bytes;
} synthetic_result;

/* False with *error set; then no file is left behind. */
bool synthetic_write(const synthetic_options *options, synthetic_result *result, trol_error *error);

#endif
