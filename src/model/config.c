/* config.c - from config.json to numbers. The limits are far above any model of these families and far below what
 * overflows: the product of any three sizes fits an int64_t. */
#include "model/config.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "format/json.h"

enum {
    MAX_CONFIG_BYTES = 16 << 20,
    MAX_SIZE = 1 << 20,
    MAX_LAYERS = 1024,
    MAX_HEADS = 4096,
    MAX_IMAGE_SIZE = 8192,
    MAX_TOKEN = 1 << 24
};

static const char file[] = "config.json";

const char *config_family_name(model_family family) {
    return family == FAMILY_INTERNLM2_CLIP ? "internlm2-clip" : "phi3-internvit";
}

int64_t config_tokens_per_tile(const model_config *config) {
    int64_t side = config->vision.image_size / config->vision.patch_size;
    return config->family == FAMILY_PHI3_INTERNVIT ? (side / 2) * (side / 2) : side * side;
}

int32_t config_max_tiles(const model_config *config) {
    int32_t tiles = config->vision.max_tiles;
    return tiles > 1 ? tiles + 1 : 1;
}

/* The key, if it is there, must have the one value that is computed here. */
static trol_status require_string(const cJSON *object, const char *key, const char *expected, trol_error *error) {
    const char *value;
    TRY(json_string_or(object, file, key, expected, &value, error));
    if (strcmp(value, expected) != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is \"%s\", expected \"%s\"", file, key, value, expected);
    return TROL_OK;
}

static trol_status require_number(const cJSON *object, const char *key, double expected, trol_error *error) {
    double value;
    TRY(json_number_or(object, file, key, expected, -1e9, 1e9, &value, error));
    if (value != expected)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is %g, expected %g", file, key, value, expected);
    return TROL_OK;
}

static trol_status require_bool(const cJSON *object, const char *key, bool expected, trol_error *error) {
    bool value;
    TRY(json_bool_or(object, file, key, expected, &value, error));
    if (value != expected)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is %s, expected %s", file, key, value ? "true" : "false",
                    expected ? "true" : "false");
    return TROL_OK;
}

static trol_status read_int32(const cJSON *object, const char *key, int64_t smallest, int64_t largest, int32_t *value,
                              trol_error *error) {
    int64_t wide;
    TRY(json_integer(object, file, key, smallest, largest, &wide, error));
    *value = (int32_t)wide;
    return TROL_OK;
}

/* A key of the language model's part, as errors give it. */
#define KEY(name) (phi3 ? "llm_config." name : name)

/* [head_dim / 2] positive numbers. */
static trol_status read_factors(const cJSON *scaling, const char *key, int32_t head_dim, float *factors,
                                trol_error *error) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(scaling, strrchr(key, '.') + 1);
    if (!cJSON_IsArray(list))
        return fail(error, TROL_ERROR_FORMAT, "%s: %s is missing or no list, expected %d numbers", file, key,
                    head_dim / 2);
    if (cJSON_GetArraySize(list) != head_dim / 2)
        return fail(error, TROL_ERROR_FORMAT, "%s: %s has %d numbers, expected %d (half of head_dim)", file, key,
                    cJSON_GetArraySize(list), head_dim / 2);
    int i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble > 0) || item->valuedouble > 1e6)
            return fail(error, TROL_ERROR_FORMAT, "%s: %s[%d] is no number between 0 and 1000000", file, key, i);
        factors[i++] = (float)item->valuedouble;
    }
    return TROL_OK;
}

static trol_status read_rope(const cJSON *json, model_family family, decoder_config *c, trol_error *error) {
    const bool phi3 = family == FAMILY_PHI3_INTERNVIT;
    rope_config *rope = &c->rope;
    TRY(json_number_or(json, file, KEY("rope_theta"), 10000, 1, 1e12, &rope->theta, error));
    rope->max_positions = c->max_positions;
    rope->type = ROPE_PLAIN;
    rope->factor = 1;
    const cJSON *scaling;
    TRY(json_object_or_null(json, file, KEY("rope_scaling"), &scaling, error));
    if (phi3)
        TRY(json_integer_or(json, file, KEY("original_max_position_embeddings"), 4096, 1, (int64_t)1 << 31,
                            &rope->original_max_positions, error));
    if (!scaling)
        return TROL_OK;
    const char *type;
    TRY(json_string(scaling, file, KEY("rope_scaling.type"), &type, error));
    if (!phi3) {
        if (strcmp(type, "dynamic") != 0)
            return fail(error, TROL_ERROR_UNSUPPORTED, "%s: rope_scaling.type is \"%s\", expected \"dynamic\"", file,
                        type);
        rope->type = ROPE_DYNAMIC_NTK;
        if (c->head_dim < 4)
            return fail(error, TROL_ERROR_UNSUPPORTED,
                        "%s: head_dim is %d, expected at least 4 with dynamic rope_scaling", file, c->head_dim);
        return json_number(scaling, file, KEY("rope_scaling.factor"), 1, 1e6, &rope->factor, error);
    }
    if (strcmp(type, "su") == 0 || strcmp(type, "longrope") == 0)
        rope->type = ROPE_SU;
    else if (strcmp(type, "yarn") == 0)
        rope->type = ROPE_YARN;
    else
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is \"%s\", expected \"su\" or \"yarn\"", file,
                    KEY("rope_scaling.type"), type);
    if (rope->original_max_positions < 2)
        return fail(error, TROL_ERROR_FORMAT, "%s: %s is %lld, expected at least 2", file,
                    KEY("original_max_position_embeddings"), (long long)rope->original_max_positions);
    TRY(read_factors(scaling, KEY("rope_scaling.short_factor"), c->head_dim, rope->short_factor, error));
    return read_factors(scaling, KEY("rope_scaling.long_factor"), c->head_dim, rope->long_factor, error);
}

/* One token, or a list of those that end an answer. */
static trol_status read_eos(const cJSON *json, const char *key, int64_t otherwise, decoder_config *c,
                            trol_error *error) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "eos_token_id"), *item;
    int64_t token;
    if (!cJSON_IsArray(list)) {
        TRY(json_integer_or(json, file, key, otherwise, 0, MAX_TOKEN, &token, error));
        c->eos_tokens[c->n_eos_tokens++] = (int32_t)token;
        return TROL_OK;
    }
    cJSON_ArrayForEach(item, list) {
        if (!json_exact_integer(item, &token) || token < 0 || token > MAX_TOKEN ||
            c->n_eos_tokens == CONFIG_MAX_EOS_TOKENS)
            return fail(error, TROL_ERROR_FORMAT,
                        "%s: %s is a list of other things than at most %d whole numbers from 0 to %d", file, key,
                        CONFIG_MAX_EOS_TOKENS, MAX_TOKEN);
        c->eos_tokens[c->n_eos_tokens++] = (int32_t)token;
    }
    if (c->n_eos_tokens == 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: %s is an empty list, expected at least one token", file, key);
    return TROL_OK;
}

/* The language model's part: the whole file for InternLM2, "llm_config" for Phi-3. */
static trol_status read_decoder(const cJSON *json, model_family family, decoder_config *c, trol_error *error) {
    bool phi3 = family == FAMILY_PHI3_INTERNVIT;
    TRY(json_integer(json, file, KEY("vocab_size"), 1, MAX_TOKEN, &c->vocab_size, error));
    TRY(json_integer(json, file, KEY("hidden_size"), 1, MAX_SIZE, &c->hidden_size, error));
    TRY(json_integer(json, file, KEY("intermediate_size"), 1, MAX_SIZE, &c->intermediate_size, error));
    TRY(json_integer(json, file, KEY("num_hidden_layers"), 1, MAX_LAYERS, &c->n_layers, error));
    TRY(read_int32(json, KEY("num_attention_heads"), 1, MAX_HEADS, &c->n_heads, error));
    int64_t n_kv_heads;
    TRY(json_integer_or(json, file, KEY("num_key_value_heads"), c->n_heads, 1, MAX_HEADS, &n_kv_heads, error));
    c->n_kv_heads = (int32_t)n_kv_heads;
    if (c->n_heads % c->n_kv_heads != 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: %s is %d, expected a multiple of num_key_value_heads, which is %d",
                    file, KEY("num_attention_heads"), c->n_heads, c->n_kv_heads);
    if (c->hidden_size % c->n_heads != 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: %s is %lld, expected a multiple of num_attention_heads, which is %d",
                    file, KEY("hidden_size"), (long long)c->hidden_size, c->n_heads);
    int64_t head_dim = c->hidden_size / c->n_heads;
    if (head_dim > CONFIG_MAX_HEAD_DIM || head_dim % 2 != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: %s / num_attention_heads is %lld, expected an even number of at most %d", file,
                    KEY("hidden_size"), (long long)head_dim, CONFIG_MAX_HEAD_DIM);
    c->head_dim = (int32_t)head_dim;
    TRY(require_number(json, KEY("head_dim"), (double)head_dim, error));
    double eps;
    TRY(json_number_or(json, file, KEY("rms_norm_eps"), phi3 ? 1e-5 : 1e-6, 0, 1, &eps, error));
    c->rms_norm_eps = (float)eps;
    TRY(require_string(json, KEY("hidden_act"), "silu", error));
    TRY(json_bool_or(json, file, KEY("tie_word_embeddings"), false, &c->tie_word_embeddings, error));
    if (phi3)
        TRY(require_bool(json, KEY("attention_bias"), false, error));
    else
        TRY(json_bool_or(json, file, KEY("bias"), true, &c->attention_bias, error));
    TRY(json_integer_or(json, file, KEY("max_position_embeddings"), phi3 ? 4096 : 2048, 1, (int64_t)1 << 31,
                        &c->max_positions, error));
    TRY(json_integer_or(json, file, KEY("sliding_window"), INT64_MAX, 1, (int64_t)1 << 40, &c->sliding_window, error));
    int64_t bos;
    TRY(json_integer_or(json, file, KEY("bos_token_id"), 1, 0, MAX_TOKEN, &bos, error));
    TRY(read_eos(json, KEY("eos_token_id"), phi3 ? 32000 : 2, c, error));
    c->bos_token = (int32_t)bos;
    TRY(json_integer_or(json, file, KEY("image_token_index"), -1, 0, MAX_TOKEN, &c->image_token, error));
    return read_rope(json, family, c, error);
}

#undef KEY

static trol_status check_image_size(const vision_config *c, int64_t multiple, const char *key, trol_error *error) {
    if (c->image_size % (c->patch_size * multiple) != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is %d, expected a multiple of %lld", file, key,
                    c->image_size, (long long)(c->patch_size * multiple));
    return TROL_OK;
}

/* CLIP. Without a vision_config it is ViT-L/14, the other sizes are those of the tensors. */
static trol_status read_clip(const cJSON *root, vision_config *c, trol_error *error) {
    *c = (vision_config){.n_heads = 16,
                         .patch_size = 14,
                         .norm = NORM_LAYER,
                         .norm_eps = 1e-5f,
                         .quick_gelu = true,
                         .qkv_bias = true,
                         .max_tiles = 1};
    TRY(read_int32(root, "img_size", 1, MAX_IMAGE_SIZE, &c->image_size, error));
    const cJSON *json;
    TRY(json_object_or_null(root, file, "vision_config", &json, error));
    if (json) {
        int64_t value;
        double eps;
        TRY(json_integer_or(json, file, "vision_config.hidden_size", 0, 1, MAX_SIZE, &c->hidden_size, error));
        TRY(json_integer_or(json, file, "vision_config.intermediate_size", 0, 1, MAX_SIZE, &c->intermediate_size,
                            error));
        TRY(json_integer_or(json, file, "vision_config.num_hidden_layers", 0, 1, MAX_LAYERS, &c->n_layers, error));
        TRY(json_integer_or(json, file, "vision_config.num_attention_heads", 16, 1, MAX_HEADS, &value, error));
        c->n_heads = (int32_t)value;
        TRY(json_integer_or(json, file, "vision_config.patch_size", 14, 1, 1024, &value, error));
        c->patch_size = (int32_t)value;
        TRY(json_number_or(json, file, "vision_config.layer_norm_eps", 1e-5, 0, 1, &eps, error));
        c->norm_eps = (float)eps;
        const char *activation;
        TRY(json_string_or(json, file, "vision_config.hidden_act", "quick_gelu", &activation, error));
        if (strcmp(activation, "gelu") != 0 && strcmp(activation, "quick_gelu") != 0)
            return fail(error, TROL_ERROR_UNSUPPORTED,
                        "%s: vision_config.hidden_act is \"%s\", expected \"quick_gelu\" or \"gelu\"", file,
                        activation);
        c->quick_gelu = strcmp(activation, "quick_gelu") == 0;
    }
    return check_image_size(c, 1, "img_size", error);
}

static trol_status read_internvit(const cJSON *root, vision_config *c, trol_error *error) {
    *c = (vision_config){.max_tiles = 6};
    TRY(require_number(root, "select_layer", -1, error));
    TRY(require_number(root, "downsample_ratio", 0.5, error));
    TRY(require_number(root, "min_dynamic_patch", 1, error));
    TRY(require_number(root, "max_dynamic_patch", 6, error));
    TRY(require_bool(root, "use_thumbnail", true, error));
    TRY(require_bool(root, "dynamic_image_size", true, error));
    TRY(require_bool(root, "pad2square", false, error));
    const cJSON *json;
    TRY(json_object_or_null(root, file, "vision_config", &json, error));
    if (!json)
        return fail(error, TROL_ERROR_FORMAT, "%s: vision_config is missing", file);
    TRY(json_integer(json, file, "vision_config.hidden_size", 1, MAX_SIZE, &c->hidden_size, error));
    TRY(json_integer(json, file, "vision_config.intermediate_size", 1, MAX_SIZE, &c->intermediate_size, error));
    TRY(json_integer(json, file, "vision_config.num_hidden_layers", 1, MAX_LAYERS, &c->n_layers, error));
    TRY(read_int32(json, "vision_config.num_attention_heads", 1, MAX_HEADS, &c->n_heads, error));
    int64_t size, forced;
    TRY(json_integer_or(json, file, "vision_config.patch_size", 14, 1, 1024, &size, error));
    c->patch_size = (int32_t)size;
    TRY(json_integer_or(root, file, "force_image_size", 0, 0, MAX_IMAGE_SIZE, &forced, error));
    if (forced > 0)
        size = forced;
    else
        TRY(json_integer(json, file, "vision_config.image_size", 1, MAX_IMAGE_SIZE, &size, error));
    c->image_size = (int32_t)size;
    TRY(check_image_size(c, 2, forced > 0 ? "force_image_size" : "vision_config.image_size", error));
    double eps;
    TRY(json_number_or(json, file, "vision_config.layer_norm_eps", 1e-6, 0, 1, &eps, error));
    c->norm_eps = (float)eps;
    TRY(json_bool_or(json, file, "vision_config.qkv_bias", false, &c->qkv_bias, error));
    TRY(json_bool_or(json, file, "vision_config.qk_normalization", true, &c->qk_norm, error));
    TRY(require_string(json, "vision_config.hidden_act", "gelu", error));
    const char *norm;
    TRY(json_string_or(json, file, "vision_config.norm_type", "rms_norm", &norm, error));
    if (strcmp(norm, "rms_norm") != 0 && strcmp(norm, "layer_norm") != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: vision_config.norm_type is \"%s\", expected \"rms_norm\" or \"layer_norm\"", file, norm);
    c->norm = strcmp(norm, "rms_norm") == 0 ? NORM_RMS : NORM_LAYER;
    return TROL_OK;
}

static trol_status check_vision_heads(const vision_config *c, trol_error *error) {
    if (c->hidden_size == 0)
        return TROL_OK;
    if (c->hidden_size % c->n_heads != 0 || c->hidden_size / c->n_heads > CONFIG_MAX_HEAD_DIM)
        return fail(
            error, TROL_ERROR_UNSUPPORTED,
            "%s: vision_config.hidden_size is %lld with %d heads, expected a multiple with at most %d for each head",
            file, (long long)c->hidden_size, c->n_heads, CONFIG_MAX_HEAD_DIM);
    return TROL_OK;
}

static trol_status read_config(const cJSON *json, model_config *config, trol_error *error) {
    if (!cJSON_IsObject(json))
        return fail(error, TROL_ERROR_FORMAT, "%s: the file holds no JSON object", file);
    const char *model_type;
    TRY(json_string(json, file, "model_type", &model_type, error));
    if (strcmp(model_type, "internlm") == 0) {
        config->family = FAMILY_INTERNLM2_CLIP;
        TRY(read_decoder(json, config->family, &config->decoder, error));
        TRY(read_clip(json, &config->vision, error));
    } else if (strcmp(model_type, "trol") == 0) {
        config->family = FAMILY_PHI3_INTERNVIT;
        const cJSON *llm;
        TRY(json_object_or_null(json, file, "llm_config", &llm, error));
        if (!llm)
            return fail(error, TROL_ERROR_FORMAT, "%s: llm_config is missing", file);
        TRY(require_string(llm, "llm_config.model_type", "phi3", error));
        TRY(read_decoder(llm, config->family, &config->decoder, error));
        TRY(read_internvit(json, &config->vision, error));
    } else {
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: model_type is \"%s\", expected \"internlm\" or \"trol\"", file,
                    model_type);
    }
    return check_vision_heads(&config->vision, error);
}

trol_status config_load(const char *folder, const logger *log, model_config *config, trol_error *error) {
    memset(config, 0, sizeof *config);
    char *path;
    cJSON *json = NULL;
    TRY(path_join(folder, file, &path, error));
    trol_status status = json_read_file(path, MAX_CONFIG_BYTES, &json, error);
    memory_free(path);
    if (status == TROL_OK)
        status = read_config(json, config, error);
    cJSON_Delete(json);
    if (status == TROL_OK)
        log_message(log, TROL_LOG_DEBUG, "%s: %s, %lld layers, hidden_size %lld", file,
                    config_family_name(config->family), (long long)config->decoder.n_layers,
                    (long long)config->decoder.hidden_size);
    return status;
}
