/* config_keys.c - what configurations of these families, and of their neighbours in transformers 4.40 to 5, contain. */
#include "model/config_keys.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* `value` NULL: config.c reads the key, or nothing that is computed depends on it. Else what it must be, alternatives
 * separated by '|'; "empty" is a list or an object without members. */
typedef struct known_key {
    const char *key;
    unsigned parts;
    const char *value;
} known_key;

enum { TOP = CONFIG_TOP, DECODER = CONFIG_DECODER, VISION = CONFIG_VISION, ROPE = CONFIG_ROPE, ANY = 15 };

static const known_key known_keys[] = {
    /* read by config.c */
    {"model_type", ANY, NULL},
    {"vocab_size", DECODER, NULL},
    {"hidden_size", DECODER | VISION, NULL},
    {"intermediate_size", DECODER | VISION, NULL},
    {"num_hidden_layers", DECODER | VISION, NULL},
    {"num_attention_heads", DECODER | VISION, NULL},
    {"num_key_value_heads", DECODER, NULL},
    {"head_dim", DECODER, NULL},
    {"rms_norm_eps", DECODER, NULL},
    {"tie_word_embeddings", TOP | DECODER, NULL},
    {"bias", DECODER, NULL},
    {"max_position_embeddings", DECODER, NULL},
    {"original_max_position_embeddings", DECODER | ROPE, NULL},
    {"sliding_window", DECODER, NULL},
    {"use_sliding_window", DECODER, NULL},
    {"layer_types", DECODER, NULL},
    {"rope_theta", DECODER | ROPE, NULL},
    {"rope_scaling", DECODER, NULL},
    {"rope_parameters", DECODER, NULL},
    {"type", ROPE, NULL},
    {"rope_type", ROPE, NULL},
    {"factor", ROPE, NULL},
    {"short_factor", ROPE, NULL},
    {"long_factor", ROPE, NULL},
    {"attention_factor", ROPE, NULL},
    {"image_token_index", TOP | DECODER, NULL},
    {"image_token_id", TOP | DECODER, NULL},
    {"llm_config", TOP, NULL},
    {"text_config", TOP, NULL},
    {"vision_config", TOP, NULL},
    {"img_size", TOP, NULL},
    {"force_image_size", TOP, NULL},
    {"image_size", VISION, NULL},
    {"patch_size", VISION, NULL},
    {"layer_norm_eps", VISION, NULL},
    {"qkv_bias", VISION, NULL},
    {"qk_normalization", VISION, NULL},
    {"norm_type", VISION, NULL},
    {"hidden_act", VISION, NULL},

    /* computed in one way */
    {"hidden_act", DECODER, "silu"},
    {"hidden_activation", DECODER, "silu"},
    {"attention_bias", DECODER, "false"},
    {"attention_bias", VISION, "true"},
    {"attn_bias", DECODER, "false"},
    {"mlp_bias", DECODER, "false"},
    {"lm_head_bias", DECODER, "false"},
    {"partial_rotary_factor", DECODER | ROPE, "1"},
    {"rotary_pct", DECODER | ROPE, "1"},
    {"rotary_interleaved", DECODER | ROPE, "false"},
    {"rope_interleave", DECODER | ROPE, "false"},
    {"rope_interleaved", DECODER | ROPE, "false"},
    {"use_rope", DECODER, "true"},
    {"is_causal", DECODER, "true"},
    {"causal", DECODER, "true"},
    {"use_bidirectional_attention", DECODER, "false"},
    {"parallel_attn", DECODER, "false"},
    {"use_parallel_residual", DECODER, "false"},
    {"embedding_multiplier", DECODER, "1"},
    {"residual_multiplier", DECODER, "1"},
    {"attention_multiplier", DECODER, ""},
    {"logits_scaling", DECODER, "1"},
    {"logit_scale", TOP | DECODER, "1"},
    {"scale_emb", DECODER, "1"},
    {"final_logit_softcapping", DECODER, "0"},
    {"attn_logit_softcapping", DECODER, "0"},
    {"qk_layernorm", DECODER, "false"},
    {"qk_norm", DECODER, "false"},
    {"use_qk_norm", DECODER | VISION, "false"},
    {"clip_qkv", DECODER, "0"},
    {"num_experts", DECODER, "0|1"},
    {"num_local_experts", DECODER, "0|1"},
    {"n_routed_experts", DECODER, "0|1"},
    {"quantization_config", ANY, "empty"},
    {"compression_config", ANY, "empty"},
    {"max_window_layers", DECODER, "0"},
    {"add_cross_attention", ANY, "false"},
    {"is_encoder_decoder", ANY, "false"},
    {"tie_encoder_decoder", ANY, "false"},
    {"pruned_heads", ANY, "empty"},
    {"use_llm_lora", TOP, "0"},
    {"use_backbone_lora", TOP, "0"},
    {"select_layer", TOP, "-1"},
    {"vision_feature_layer", TOP, "-1"},
    {"vision_feature_select_strategy", TOP, "default"},
    {"downsample_ratio", TOP, "0.5"},
    {"min_dynamic_patch", TOP, "1"},
    {"max_dynamic_patch", TOP, "6"},
    {"use_thumbnail", TOP, "true"},
    {"dynamic_image_size", TOP, "true"},
    {"pad2square", TOP, "false"},
    {"projector_hidden_act", TOP, "gelu"},
    {"multimodal_projector_bias", TOP, "true"},
    {"num_channels", VISION, "3"},
    {"use_absolute_position_embeddings", VISION, "true"},
    {"use_mean_pooling", VISION, NULL},
    {"use_mask_token", VISION, "false"},

    /* nothing depends on them */
    {"architectures", ANY, NULL},
    {"auto_map", ANY, NULL},
    {"generation_config", ANY, NULL},
    {"transformers_version", ANY, NULL},
    {"torch_dtype", ANY, NULL},
    {"dtype", ANY, NULL},
    {"name_or_path", ANY, NULL},
    {"tokenizer_class", ANY, NULL},
    {"processor_class", ANY, NULL},
    {"attn_implementation", ANY, NULL},
    {"use_flash_attn", ANY, NULL},
    {"use_flash_attention_2", ANY, NULL},
    {"use_cache", ANY, NULL},
    {"is_decoder", ANY, NULL},
    {"torchscript", ANY, NULL},
    {"use_bfloat16", ANY, NULL},
    {"tf_legacy_loss", ANY, NULL},
    {"return_dict", ANY, NULL},
    {"output_attentions", ANY, NULL},
    {"output_hidden_states", ANY, NULL},
    {"chunk_size_feed_forward", ANY, NULL},
    {"gradient_checkpointing", ANY, NULL},
    {"pretraining_tp", ANY, NULL},
    {"finetuning_task", ANY, NULL},
    {"problem_type", ANY, NULL},
    {"task_specific_params", ANY, NULL},
    {"num_labels", ANY, NULL},
    {"id2label", ANY, NULL},
    {"label2id", ANY, NULL},
    {"prefix", ANY, NULL},
    {"template", TOP, NULL},
    {"system_message", TOP, NULL},
    {"ps_version", TOP, NULL},
    {"image_seq_length", TOP, NULL},
    {"image_fold", TOP, NULL},
    {"projection_dim", TOP | VISION, NULL}, /* of CLIP's own projection, which is not used */
    {"initializer_range", ANY, NULL},
    {"initializer_factor", ANY, NULL},
    {"layer_scale_init_value", ANY, NULL},
    {"attention_dropout", ANY, NULL},
    {"embd_pdrop", ANY, NULL},
    {"resid_pdrop", ANY, NULL},
    {"drop_path_rate", ANY, NULL},
    {"max_length", ANY, NULL},
    {"min_length", ANY, NULL},
    {"do_sample", ANY, NULL},
    {"early_stopping", ANY, NULL},
    {"num_beams", ANY, NULL},
    {"num_beam_groups", ANY, NULL},
    {"diversity_penalty", ANY, NULL},
    {"temperature", ANY, NULL},
    {"top_k", ANY, NULL},
    {"top_p", ANY, NULL},
    {"typical_p", ANY, NULL},
    {"repetition_penalty", ANY, NULL},
    {"length_penalty", ANY, NULL},
    {"no_repeat_ngram_size", ANY, NULL},
    {"encoder_no_repeat_ngram_size", ANY, NULL},
    {"bad_words_ids", ANY, NULL},
    {"num_return_sequences", ANY, NULL},
    {"output_scores", ANY, NULL},
    {"return_dict_in_generate", ANY, NULL},
    {"remove_invalid_values", ANY, NULL},
    {"exponential_decay_length_penalty", ANY, NULL},
    {"suppress_tokens", ANY, NULL},
    {"begin_suppress_tokens", ANY, NULL},
};

/* Parts of names that arithmetic has. */
static const char *const arithmetic[] = {
    "norm",   "scal",     "factor", "rotary", "rope",    "theta",    "attn",   "attention", "cap",   "multiplier",
    "bias",   "act",      "expert", "moe",    "router",  "window",   "head",   "layer",     "dim",   "size",
    "hidden", "kv",       "lora",   "adapt",  "quant",   "alpha",    "beta",   "eps",       "resid", "embed",
    "posit",  "alibi",    "mlp",    "ffn",    "conv",    "pool",     "sample", "shuffle",   "patch", "tile",
    "image",  "vision",   "vit",    "pixel",  "feature", "project",  "select", "logit",     "skip",  "gat",
    "block",  "parallel", "chunk",  "sparse", "mask",    "causal",   "group",  "rank",      "clip",  "latent",
    "depth",  "width",    "num_",   "query",  "softmax", "compress", "prun"};

/* Parts of names of what matters to training or to text alone, whatever else is in them. */
static const char *const bookkeeping[] = {"dropout", "_token_id", "_loss", "loss_", "initializer", "_implementation"};

static bool has_part(const char *key, const char *const *parts, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strstr(key, parts[i]))
            return true;
    return false;
}

/* Whether the value is the one alternative text[0 .. n-1]. */
static bool equals(const cJSON *value, const char *text, size_t n) {
    char *end, word[32];
    snprintf(word, sizeof word, "%.*s", (int)n, text);
    if (cJSON_IsNumber(value)) {
        const double number = strtod(word, &end);
        return *word && !*end && number == value->valuedouble;
    }
    if (cJSON_IsBool(value))
        return strcmp(word, cJSON_IsTrue(value) ? "true" : "false") == 0;
    if (cJSON_IsString(value))
        return strcmp(word, value->valuestring) == 0;
    return strcmp(word, "empty") == 0 && !value->child;
}

static bool is_allowed(const cJSON *value, const char *allowed) {
    while (allowed) {
        const size_t n = strcspn(allowed, "|");
        if (equals(value, allowed, n))
            return true;
        allowed = allowed[n] ? allowed + n + 1 : NULL;
    }
    return false;
}

static trol_status refuse(const cJSON *value, const char *prefix, const char *expected, trol_error *error) {
    char *text = cJSON_PrintUnformatted(value);
    const bool one = expected && *expected && strcmp(expected, "empty") != 0;
    const trol_status status =
        fail(error, TROL_ERROR_UNSUPPORTED,
             one ? "config.json: %s%s is %.80s, expected %s"
                 : "config.json: %s%s is %.80s, which is not computed here (expected no such key)",
             prefix, value->string, text ? text : "too long", expected);
    cJSON_free(text);
    return status;
}

static trol_status check_key(const cJSON *value, const char *prefix, unsigned parts, const logger *log,
                             trol_error *error) {
    const char *key = value->string;
    const known_key *found = NULL;
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++)
        if (known_keys[i].parts & parts && strcmp(known_keys[i].key, key) == 0)
            found = &known_keys[i];
    if (found && (!found->value || is_allowed(value, found->value)))
        return TROL_OK;
    if (found)
        return refuse(value, prefix, found->value, error);
    if (key[0] == '_' || has_part(key, bookkeeping, sizeof bookkeeping / sizeof *bookkeeping))
        return TROL_OK;
    if (parts & CONFIG_ROPE || has_part(key, arithmetic, sizeof arithmetic / sizeof *arithmetic))
        return refuse(value, prefix, NULL, error);
    log_message(log, TROL_LOG_WARNING, "config.json: %s%s is not a known key: passed over", prefix, key);
    return TROL_OK;
}

/* transformers 5 writes dtype for torch_dtype. Weights have the types of their tensors, but a file that contradicts
 * itself is not what somebody meant. */
static trol_status check_dtype(const cJSON *object, const char *prefix, trol_error *error) {
    const cJSON *old = cJSON_GetObjectItemCaseSensitive(object, "torch_dtype"),
                *new = cJSON_GetObjectItemCaseSensitive(object, "dtype");
    if (cJSON_IsString(old) && cJSON_IsString(new) && strcmp(old->valuestring, new->valuestring) != 0)
        return fail(error, TROL_ERROR_FORMAT, "config.json: %storch_dtype and %sdtype contradict each other", prefix,
                    prefix);
    return TROL_OK;
}

trol_status config_check_keys(const cJSON *object, const char *prefix, unsigned parts, const logger *log,
                              trol_error *error) {
    const cJSON *value;
    TRY(check_dtype(object, prefix, error));
    cJSON_ArrayForEach(value, object) if (!cJSON_IsNull(value)) TRY(check_key(value, prefix, parts, log, error));
    return TROL_OK;
}
