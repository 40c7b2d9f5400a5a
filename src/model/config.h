/* config.h - config.json as checked numbers: what is not supported is refused by name. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

typedef struct model_family model_family; /* family.h */

typedef enum rope_type {
    ROPE_PLAIN,
    ROPE_DYNAMIC_NTK, /* the base grows once the length passes max_positions */
    ROPE_SU,          /* LongRoPE: short or long factors by length, cos and sin scaled */
    ROPE_YARN         /* like SU with another scale */
} rope_type;

enum { CONFIG_MAX_HEAD_DIM = 256, CONFIG_MAX_EOS_TOKENS = 8 };

typedef struct rope_config {
    rope_type type;
    double theta, factor;                                                              /* factor: dynamic NTK's */
    int64_t max_positions, original_max_positions;                                     /* original: SU and YARN */
    float short_factor[CONFIG_MAX_HEAD_DIM / 2], long_factor[CONFIG_MAX_HEAD_DIM / 2]; /* [head_dim / 2] */
} rope_config;

typedef struct decoder_config {
    int64_t vocab_size; /* rows of the output head */
    int64_t hidden_size, intermediate_size, n_layers;
    int32_t n_heads, n_kv_heads, head_dim;
    float rms_norm_eps;
    bool attention_bias;
    bool tie_word_embeddings; /* the output head is the embedding */
    int64_t sliding_window;   /* how many keys before its own a query sees; INT64_MAX: all */
    int64_t max_positions;
    rope_config rope;
    int32_t bos_token;
    int32_t eos_tokens[CONFIG_MAX_EOS_TOKENS]; /* [n_eos_tokens], at least one */
    int32_t n_eos_tokens;
    int64_t image_token; /* from config.json; -1: not given */
} decoder_config;

typedef enum norm_type { NORM_LAYER, NORM_RMS } norm_type;

/* Sizes that follow from the tensors (CLIP without a vision_config) are 0 until weights.c reads them. */
typedef struct vision_config {
    int64_t hidden_size, intermediate_size, n_layers;
    int32_t n_heads, patch_size, image_size;
    norm_type norm;
    float norm_eps;
    bool quick_gelu; /* else exact GELU */
    bool qkv_bias, qk_norm;
    int32_t max_tiles; /* of the grid, thumbnail not counted; 1: the image is one square */
} vision_config;

typedef struct model_config {
    const model_family *family;
    decoder_config decoder;
    vision_config vision;
} model_config;

/* Reads folder/config.json, or its text. */
trol_status config_load(const char *folder, const logger *log, model_config *config, trol_error *error);
trol_status config_parse(const char *text, size_t n_bytes, const logger *log, model_config *config, trol_error *error);

/* Image tokens per tile, and the width of their features: the encoder's patches or, after a pixel shuffle, a quarter of
 * them at four times the width. */
int64_t config_tokens_per_tile(const model_config *config);
int64_t config_feature_width(const model_config *config);
/* The context that the model was trained for, including what its rope scaling adds. */
int64_t config_trained_positions(const decoder_config *config);
/* The largest number of tiles of an image, thumbnail included. */
int32_t config_max_tiles(const model_config *config);
/* The image token's id where there is no tokenizer to ask: config.json's, or that of the published model. */
int32_t config_image_token(const model_config *config);

#endif
