/* config_keys.c - what configurations of these families, and of related ones in transformers 4.40 to 5, contain. */
#include "model/config_keys.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { TOP = CONFIG_TOP, DECODER = CONFIG_DECODER, VISION = CONFIG_VISION, ROPE = CONFIG_ROPE, ANY = 15 };

/* Keys that config.c reads, and keys that do not affect anything computed here; a space around each. */
static const struct {
    unsigned parts;
    const char *keys;
} free_keys[] = {
    {TOP, " llm_config text_config vision_config img_size force_image_size image_token_index image_token_id "},
    {DECODER, " vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
              "head_dim rms_norm_eps tie_word_embeddings bias max_position_embeddings "
              "original_max_position_embeddings sliding_window use_sliding_window max_window_layers layer_types "
              "rope_theta rope_scaling rope_parameters image_token_index image_token_id "},
    {ROPE, " type rope_type rope_theta factor short_factor long_factor attention_factor "
           "original_max_position_embeddings "},
    {VISION, " hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size "
             "layer_norm_eps qkv_bias qk_normalization norm_type hidden_act "},

    {ANY, " model_type architectures auto_map generation_config transformers_version torch_dtype dtype name_or_path "
          "tokenizer_class processor_class attn_implementation use_flash_attn use_flash_attention_2 use_cache "
          "is_decoder torchscript use_bfloat16 tf_legacy_loss return_dict output_attentions output_hidden_states "
          "chunk_size_feed_forward gradient_checkpointing pretraining_tp finetuning_task problem_type "
          "task_specific_params num_labels id2label label2id prefix "
          /* training */
          "initializer_range initializer_factor layer_scale_init_value attention_dropout embd_pdrop resid_pdrop "
          "drop_path_rate "
          /* generation */
          "max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature "
          "top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size "
          "bad_words_ids num_return_sequences output_scores return_dict_in_generate remove_invalid_values "
          "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens "},
    {TOP, " template system_message ps_version image_seq_length image_fold projection_dim "},
    /* CLIP's own projection is not used, nor are InternViT's experts without use_moe */
    {VISION, " projection_dim use_mean_pooling capacity_factor eval_capacity_factor laux_allreduce moe_coeff_ratio "
             "moe_intermediate_size moe_output_scale noisy_gate_policy num_experts num_routed_experts "
             "num_shared_experts shared_expert_intermediate_size use_residual use_rts use_weighted_residual ep_size "},
};

/* Keys that change what a model computes, with the supported value, or alternatives separated by '|'; "empty" is a list
 * or an object without members, "" no value at all. */
static const struct {
    const char *key;
    unsigned parts;
    const char *value;
} fixed_keys[] = {
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
    {"use_mask_token", VISION, "false"},
    {"use_moe", VISION, "false"},
};

/* Parts of names that indicate arithmetic. */
static const char *const arithmetic[] = {
    "norm",   "scal",     "factor", "rotary", "rope",    "theta",    "attn",   "attention", "cap",   "multiplier",
    "bias",   "act",      "expert", "moe",    "router",  "window",   "head",   "layer",     "dim",   "size",
    "hidden", "kv",       "lora",   "adapt",  "quant",   "alpha",    "beta",   "eps",       "resid", "embed",
    "posit",  "alibi",    "mlp",    "ffn",    "conv",    "pool",     "sample", "shuffle",   "patch", "tile",
    "image",  "vision",   "vit",    "pixel",  "feature", "project",  "select", "logit",     "skip",  "gat",
    "block",  "parallel", "chunk",  "sparse", "mask",    "causal",   "group",  "rank",      "clip",  "latent",
    "depth",  "width",    "num_",   "query",  "softmax", "compress", "prun"};

/* Parts of names that only matter to training or to text, whatever else is in them. */
static const char *const bookkeeping[] = {"dropout", "_token_id", "_loss", "loss_", "initializer", "_implementation"};

static bool has_part(const char *key, const char *const *parts, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strstr(key, parts[i]))
            return true;
    return false;
}

static bool has_word(const char *words, const char *key) {
    const size_t length = strlen(key);
    for (const char *at = words; length > 0 && (at = strstr(at, key)); at += length)
        if (at > words && at[-1] == ' ' && at[length] == ' ')
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
    const trol_status status = fail(error, TROL_ERROR_UNSUPPORTED,
                                    one ? "config.json: %s%s is %.80s, expected %s"
                                        : "config.json: %s%s is %.80s, which is not supported (expected no such key)",
                                    prefix, value->string, text ? text : "too long", expected);
    cJSON_free(text);
    return status;
}

static trol_status check_key(const cJSON *value, const char *prefix, unsigned parts, const logger *log,
                             trol_error *error) {
    const char *key = value->string;
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (free_keys[i].parts & parts && has_word(free_keys[i].keys, key))
            return TROL_OK;
    for (size_t i = 0; i < sizeof fixed_keys / sizeof *fixed_keys; i++)
        if (fixed_keys[i].parts & parts && strcmp(fixed_keys[i].key, key) == 0)
            return is_allowed(value, fixed_keys[i].value) ? TROL_OK : refuse(value, prefix, fixed_keys[i].value, error);
    if (key[0] == '_' || has_part(key, bookkeeping, sizeof bookkeeping / sizeof *bookkeeping))
        return TROL_OK;
    if (parts & CONFIG_ROPE || has_part(key, arithmetic, sizeof arithmetic / sizeof *arithmetic))
        return refuse(value, prefix, NULL, error);
    log_message(log, TROL_LOG_WARNING, "config.json: %s%s is not a known key: ignored", prefix, key);
    return TROL_OK;
}

/* transformers 5 writes dtype for torch_dtype. The types of weights are those of the tensors, but a file that
 * contradicts itself is an error. */
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
