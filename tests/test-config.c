/* test-config.c - config.json of both families: what may be absent, what is refused, and how the refusal names the key.
 */
#include "files.h"
#include "model/config.h"
#include "test.h"

#define INTERNLM2(more)                                                                                                \
    "{\"model_type\":\"internlm\",\"vocab_size\":100,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_"        \
    "layers\":2,"                                                                                                      \
    "\"num_attention_heads\":4,\"img_size\":56" more "}"
#define PHI3(llm, vision, more)                                                                                        \
    "{\"model_type\":\"trol\",\"llm_config\":{\"model_type\":\"phi3\",\"vocab_size\":100,\"hidden_size\":64,"          \
    "\"intermediate_size\":96,"                                                                                        \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4" llm                                                            \
    "},\"vision_config\":{\"hidden_size\":32,\"intermediate_size\":64,"                                                \
    "\"num_hidden_layers\":1,\"num_attention_heads\":2" vision "}" more "}"

static model_config load(const char *text) {
    trol_error error = {0};
    model_config config;
    test_write("config.json", text, strlen(text));
    CHECK_OK(config_load(test_folder, NULL, &config, &error), error);
    return config;
}

static void check_refused(const char *text, trol_status status, const char *part) {
    trol_error error = {0};
    model_config config;
    test_write("config.json", text, strlen(text));
    CHECK(config_load(test_folder, NULL, &config, &error) == status && strstr(error.message, part),
          "\"%s\", expected \"%s\"", error.message, part);
}

static void check_end_tokens(void) {
    model_config c = load(INTERNLM2(",\"eos_token_id\":[92542, 2]"));
    CHECK(c.decoder.n_eos_tokens == 2 && c.decoder.eos_tokens[0] == 92542 && c.decoder.eos_tokens[1] == 2, "a list");
    c = load(INTERNLM2(",\"eos_token_id\":7"));
    CHECK(c.decoder.n_eos_tokens == 1 && c.decoder.eos_tokens[0] == 7, "a number");
    c = load(PHI3("", ",\"image_size\":28", ""));
    CHECK(c.decoder.n_eos_tokens == 1 && c.decoder.eos_tokens[0] == 32000, "the default");
    check_refused(INTERNLM2(",\"eos_token_id\":[]"), TROL_ERROR_FORMAT, "config.json: eos_token_id is an empty list");
    check_refused(INTERNLM2(",\"eos_token_id\":[1, \"2\"]"), TROL_ERROR_FORMAT, "whole numbers from 0");
    check_refused(INTERNLM2(",\"eos_token_id\":[1,2,3,4,5,6,7,8,9]"), TROL_ERROR_FORMAT, "at most 8");
    check_refused(INTERNLM2(",\"eos_token_id\":-1"), TROL_ERROR_FORMAT, "\"eos_token_id\" is -1");
}

static void check_image_sizes(void) {
    CHECK(load(PHI3("", "", ",\"force_image_size\":56")).vision.image_size == 56, "without vision_config.image_size");
    CHECK(load(PHI3("", ",\"image_size\":84", ",\"force_image_size\":56")).vision.image_size == 56, "the forced size");
    CHECK(load(PHI3("", ",\"image_size\":84", ",\"force_image_size\":null")).vision.image_size == 84, "null");
    CHECK(load(PHI3("", ",\"image_size\":84", ",\"force_image_size\":0")).vision.image_size == 84, "0");
    CHECK(load(PHI3("", ",\"image_size\":84", "")).vision.patch_size == 14, "the default patch");
    CHECK(load(PHI3("", ",\"image_size\":32,\"patch_size\":8", "")).vision.patch_size == 8, "the patch");
    check_refused(PHI3("", "", ""), TROL_ERROR_FORMAT, "\"vision_config.image_size\" is missing");
    check_refused(PHI3("", ",\"image_size\":84", ",\"force_image_size\":50"), TROL_ERROR_UNSUPPORTED,
                  "force_image_size is 50, expected a multiple of 28");
}

static void check_key_paths(void) {
    check_refused(PHI3(",\"rope_theta\":\"x\"", ",\"image_size\":28", ""), TROL_ERROR_FORMAT,
                  "config.json: \"llm_config.rope_theta\" is");
    check_refused(PHI3(",\"rope_scaling\":{}", ",\"image_size\":28", ""), TROL_ERROR_FORMAT,
                  "\"llm_config.rope_scaling.type\" is missing");
    check_refused(PHI3(",\"rope_scaling\":{\"type\":\"su\"}", ",\"image_size\":28", ""), TROL_ERROR_FORMAT,
                  "llm_config.rope_scaling.short_factor is missing");
    check_refused(PHI3(",\"hidden_act\":\"gelu\"", ",\"image_size\":28", ""), TROL_ERROR_UNSUPPORTED,
                  "llm_config.hidden_act is \"gelu\"");
    check_refused(PHI3("", ",\"image_size\":28,\"patch_size\":0", ""), TROL_ERROR_FORMAT,
                  "\"vision_config.patch_size\" is 0");
    check_refused(INTERNLM2(",\"rope_scaling\":{\"type\":\"dynamic\"}"), TROL_ERROR_FORMAT,
                  "\"rope_scaling.factor\" is missing");
    check_refused(INTERNLM2(",\"head_dim\":8"), TROL_ERROR_UNSUPPORTED, "config.json: head_dim is 8, expected 16");
}

/* rope as transformers 4.40, 4.43 and 5 write it. */
static void check_rope(void) {
    static const char *const same[] = {
        ",\"rope_theta\":1000000,\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}",
        ",\"rope_theta\":1000000,\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2.0}",
        ",\"rope_theta\":1000000,\"rope_scaling\":{\"rope_type\":\"dynamic\",\"type\":\"dynamic\",\"factor\":2.0}",
        ",\"rope_parameters\":{\"rope_type\":\"dynamic\",\"factor\":2.0,\"rope_theta\":1000000.0}",
        ",\"rope_scaling\":null,\"rope_theta\":1e6,\"rope_parameters\":{\"rope_type\":\"dynamic\",\"factor\":2.0,"
        "\"rope_theta\":1e6,\"partial_rotary_factor\":1.0,\"original_max_position_embeddings\":2048}",
        ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2},\"rope_parameters\":{\"rope_type\":\"dynamic\","
        "\"factor\":2.0,\"rope_theta\":1e6}"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char text[1024];
        snprintf(text, sizeof text, INTERNLM2("%s"), same[i]);
        const rope_config rope = load(text).decoder.rope;
        CHECK(rope.type == ROPE_DYNAMIC_NTK && rope.theta == 1e6 && rope.factor == 2 && rope.max_positions == 2048,
              "spelling %zu: type %d, theta %g, factor %g", i, (int)rope.type, rope.theta, rope.factor);
    }
    rope_config rope = load(INTERNLM2(",\"rope_parameters\":{\"rope_theta\":500000}")).decoder.rope;
    CHECK(rope.type == ROPE_PLAIN && rope.theta == 500000, "theta alone");
    rope = load(INTERNLM2(",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500000}")).decoder.rope;
    CHECK(rope.type == ROPE_PLAIN && rope.theta == 500000, "the default type");
    check_refused(INTERNLM2(",\"rope_theta\":10000,\"rope_parameters\":{\"rope_theta\":500000}"), TROL_ERROR_FORMAT,
                  "rope_parameters.rope_theta and rope_theta contradict each other");
    check_refused(INTERNLM2(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2},\"rope_parameters\":{\"rope_type\":"
                            "\"dynamic\",\"factor\":3}"),
                  TROL_ERROR_FORMAT, "rope_scaling.factor and rope_parameters.factor contradict");
    check_refused(INTERNLM2(",\"rope_scaling\":{\"type\":\"dynamic\",\"rope_type\":\"default\",\"factor\":2}"),
                  TROL_ERROR_FORMAT, "rope_scaling.type and rope_scaling.rope_type contradict");
    check_refused(INTERNLM2(",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2}"), TROL_ERROR_UNSUPPORTED,
                  "rope_parameters.rope_type is \"linear\", expected one of \"default\", \"dynamic\"");
    check_refused(INTERNLM2(",\"rope_parameters\":{\"factor\":2}"), TROL_ERROR_FORMAT,
                  "\"rope_parameters.rope_type\" is missing");
    check_refused(INTERNLM2(",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e6}}"), TROL_ERROR_UNSUPPORTED,
                  "rope_parameters.full_attention is {");
    check_refused(INTERNLM2(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2,\"alpha\":1000}"),
                  TROL_ERROR_UNSUPPORTED, "rope_scaling.alpha is 1000");
    check_refused(INTERNLM2(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2,"
                            "\"original_max_position_embeddings\":1024}"),
                  TROL_ERROR_UNSUPPORTED, "original_max_position_embeddings is 1024");
    check_refused(INTERNLM2(",\"rope_parameters\":{\"rope_type\":\"default\",\"factor\":2}"), TROL_ERROR_UNSUPPORTED,
                  "rope_parameters.factor is 2, expected 1");
}

#define FACTORS                                                                                                        \
    "\"short_factor\":[1,1,1,1,1,1,1,1],\"long_factor\":[2,2,2,2,2,2,2,2],\"original_max_position_embeddings\":1024"

static void check_long_rope(void) {
    static const char *const same[] = {
        ",\"max_position_embeddings\":4096,\"rope_parameters\":{\"rope_type\":\"longrope\",\"rope_theta\":"
        "20000," FACTORS "}",
        ",\"max_position_embeddings\":4096,\"rope_theta\":20000,\"rope_scaling\":{\"type\":\"su\",\"rope_type\":"
        "\"longrope\",\"factor\":4,\"attention_factor\":1.0954451150103321," FACTORS "}"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char text[1024];
        snprintf(text, sizeof text, PHI3("%s", ",\"image_size\":28", ""), same[i]);
        const rope_config rope = load(text).decoder.rope;
        CHECK(rope.type == ROPE_SU && rope.theta == 20000 && rope.original_max_positions == 1024 &&
                  rope.long_factor[7] == 2,
              "spelling %zu", i);
    }
    check_refused(PHI3(",\"original_max_position_embeddings\":2048,\"rope_scaling\":{\"type\":\"su\"," FACTORS "}",
                       ",\"image_size\":28", ""),
                  TROL_ERROR_FORMAT,
                  "llm_config.rope_scaling.original_max_position_embeddings and "
                  "llm_config.original_max_position_embeddings contradict");
    check_refused(
        PHI3(",\"rope_scaling\":{\"type\":\"su\",\"attention_factor\":2," FACTORS "}", ",\"image_size\":28", ""),
        TROL_ERROR_UNSUPPORTED, "attention_factor is 2, expected 1.09");
    check_refused(PHI3(",\"rope_scaling\":{\"type\":\"yarn\",\"beta_fast\":32," FACTORS "}", ",\"image_size\":28", ""),
                  TROL_ERROR_UNSUPPORTED, "llm_config.rope_scaling.beta_fast is 32");
    check_refused(PHI3(",\"rope_scaling\":{\"type\":\"default\"," FACTORS "}", ",\"image_size\":28", ""),
                  TROL_ERROR_UNSUPPORTED, "llm_config.rope_scaling.short_factor is given");
}

/* text_config for llm_config, and keys of the language model at the top as well. */
static void check_nesting(void) {
#define TEXT(llm, more)                                                                                                \
    "{\"model_type\":\"trol\",\"text_config\":{\"model_type\":\"phi3\",\"vocab_size\":100,\"hidden_size\":64,"         \
    "\"intermediate_size\":96,\"num_hidden_layers\":2,\"num_attention_heads\":4" llm                                   \
    "},\"vision_config\":{\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":1,"                        \
    "\"num_attention_heads\":2,\"image_size\":28}" more "}"
    CHECK(load(TEXT("", "")).decoder.vocab_size == 100, "text_config");
    CHECK(load(TEXT("", ",\"tie_word_embeddings\":true")).decoder.tie_word_embeddings, "tied at the top");
    CHECK(load(TEXT(",\"tie_word_embeddings\":true", "")).decoder.tie_word_embeddings, "tied below");
    CHECK(load(TEXT("", ",\"hidden_size\":64,\"dtype\":\"float16\"")).decoder.hidden_size == 64, "in both places");
    check_refused(TEXT("", ",\"hidden_size\":32"), TROL_ERROR_FORMAT,
                  "text_config.hidden_size and hidden_size contradict");
    check_refused(TEXT(",\"tie_word_embeddings\":true", ",\"tie_word_embeddings\":false"), TROL_ERROR_FORMAT,
                  "tie_word_embeddings and tie_word_embeddings contradict");
    check_refused(TEXT("", ",\"llm_config\":{\"model_type\":\"phi3\"}"), TROL_ERROR_FORMAT,
                  "llm_config and text_config contradict each other");
    check_refused(TEXT("", ",\"torch_dtype\":\"float16\",\"dtype\":\"bfloat16\""), TROL_ERROR_FORMAT,
                  "torch_dtype and dtype contradict");
    const model_config c = load("{\"model_type\":\"internlm\",\"img_size\":56,\"text_config\":{\"model_type\":"
                                "\"internlm2\",\"vocab_size\":100,\"hidden_size\":64,\"intermediate_size\":96,"
                                "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":null,"
                                "\"rope_parameters\":{\"rope_theta\":1e6}}}");
    CHECK(c.decoder.n_kv_heads == 4 && c.decoder.rope.theta == 1e6 && c.decoder.attention_bias, "InternLM2, nested");
}

static void check_window(void) {
#define WINDOW(more) load(PHI3(",\"sliding_window\":32" more, ",\"image_size\":28", "")).decoder.sliding_window
    CHECK(WINDOW("") == 32, "a window");
    CHECK(WINDOW(",\"use_sliding_window\":false") == INT64_MAX, "not used");
    CHECK(WINDOW(",\"layer_types\":[\"full_attention\",\"full_attention\"]") == INT64_MAX, "in no layer");
    CHECK(WINDOW(",\"layer_types\":[\"sliding_attention\",\"sliding_attention\"]") == 32, "in each layer");
    check_refused(PHI3(",\"sliding_window\":32,\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
                       ",\"image_size\":28", ""),
                  TROL_ERROR_UNSUPPORTED, "llm_config.layer_types has 1 times");
    CHECK(WINDOW(",\"max_window_layers\":70") == INT64_MAX, "from no layer on");
    check_refused(PHI3(",\"sliding_window\":32,\"max_window_layers\":1", ",\"image_size\":28", ""),
                  TROL_ERROR_UNSUPPORTED, "llm_config.max_window_layers is 1");
    check_refused(PHI3(",\"layer_types\":[\"linear_attention\",\"full_attention\"]", ",\"image_size\":28", ""),
                  TROL_ERROR_UNSUPPORTED, "layer_types has 1 times");
}

/* Keys that would change the computation must have the one supported value, or are refused with their value. */
static void check_unknown_keys(void) {
    static const struct {
        const char *json, *message;
    } refused[] = {{"\"partial_rotary_factor\":0.5", "partial_rotary_factor is 0.5, expected 1"},
                   {"\"attention_multiplier\":0.0078125", "attention_multiplier is 0.0078125, which is not supported"},
                   {"\"embedding_multiplier\":12", "embedding_multiplier is 12, expected 1"},
                   {"\"residual_multiplier\":0.22", "residual_multiplier is 0.22"},
                   {"\"logit_scale\":0.0625", "logit_scale is 0.0625, expected 1"},
                   {"\"logits_scaling\":8", "logits_scaling is 8"},
                   {"\"final_logit_softcapping\":30", "final_logit_softcapping is 30"},
                   {"\"attn_logit_softcapping\":50", "attn_logit_softcapping is 50"},
                   {"\"qk_layernorm\":true", "qk_layernorm is true, expected false"},
                   {"\"attention_bias\":true", "attention_bias is true, expected false"},
                   {"\"mlp_bias\":true", "mlp_bias is true"},
                   {"\"num_local_experts\":16", "num_local_experts is 16"},
                   {"\"quantization_config\":{\"bits\":4}", "quantization_config is {\"bits\":4}"},
                   {"\"attn_output_gate\":true", "attn_output_gate is true, which is not supported"},
                   {"\"rotary\":{\"base\":1}", "rotary is {\"base\":1}"},
                   {"\"hidden_act\":\"gelu\"", "hidden_act is \"gelu\", expected silu"},
                   {"\"is_causal\":false", "is_causal is false, expected true"}},
      accepted[] = {
          {"\"partial_rotary_factor\":1.0,\"attention_multiplier\":null,\"mlp_bias\":false", NULL},
          {"\"architectures\":[\"X\"],\"auto_map\":{\"AutoConfig\":\"a.B\"},\"transformers_version\":\"5.0.0\"", NULL},
          {"\"attention_dropout\":0.1,\"resid_pdrop\":0.0,\"use_cache\":true,\"pad_token_id\":0", NULL},
          {"\"_attn_implementation\":\"sdpa\",\"pruned_heads\":{},\"temperature\":1.0,\"top_k\":50", NULL},
          {"\"quantization_config\":null,\"num_local_experts\":1,\"unsloth_version\":\"2024.8\"", NULL}};
    char text[1024];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        snprintf(text, sizeof text, INTERNLM2(",%s"), refused[i].json);
        check_refused(text, TROL_ERROR_UNSUPPORTED, refused[i].message);
        snprintf(text, sizeof text, PHI3(",%s", ",\"image_size\":28", ""), refused[i].json);
        check_refused(text, TROL_ERROR_UNSUPPORTED, "config.json: llm_config.");
    }
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        snprintf(text, sizeof text, INTERNLM2(",%s"), accepted[i].json);
        load(text);
        snprintf(text, sizeof text, PHI3(",%s", ",\"image_size\":28", ""), accepted[i].json);
        load(text);
    }
    check_refused(PHI3("", ",\"image_size\":28,\"num_channels\":4", ""), TROL_ERROR_UNSUPPORTED,
                  "vision_config.num_channels is 4, expected 3");
    check_refused(PHI3("", ",\"image_size\":28", ",\"select_layer\":-2"), TROL_ERROR_UNSUPPORTED,
                  "select_layer is -2, expected -1");
    check_refused(PHI3("", ",\"image_size\":28", ",\"max_dynamic_patch\":12"), TROL_ERROR_UNSUPPORTED,
                  "max_dynamic_patch is 12, expected 6");
}

/* All that transformers 4.37 writes for a configuration of several parts, defaults included, and a later
 * InternViT's. */
static void check_full_dump(void) {
    const model_config c = load(PHI3(
        ",\"_name_or_path\":\"microsoft/Phi-3-mini-128k-instruct\",\"add_cross_attention\":false,\"architectures\":["
        "\"Phi3ForCausalLM\"],\"attn_implementation\":\"flash_attention_2\",\"bad_words_ids\":null,"
        "\"begin_suppress_tokens\":null,\"bos_token_id\":1,\"chunk_size_feed_forward\":0,"
        "\"cross_attention_hidden_size\":null,\"decoder_start_token_id\":null,\"diversity_penalty\":0.0,"
        "\"do_sample\":false,\"early_stopping\":false,\"embd_pdrop\":0.0,\"encoder_no_repeat_ngram_size\":0,"
        "\"eos_token_id\":32000,\"exponential_decay_length_penalty\":null,\"finetuning_task\":null,"
        "\"forced_bos_token_id\":null,\"id2label\":{\"0\":\"LABEL_0\"},\"is_decoder\":false,\"is_encoder_decoder\":"
        "false,\"label2id\":{\"LABEL_0\":0},\"length_penalty\":1.0,\"max_length\":20,\"max_window_layers\":70,"
        "\"min_length\":0,\"moe_config\":null,\"no_repeat_ngram_size\":0,\"num_beam_groups\":1,\"num_beams\":1,"
        "\"num_return_sequences\":1,\"output_scores\":false,\"prefix\":null,\"pretraining_tp\":1,"
        "\"problem_type\":null,\"pruned_heads\":{},\"remove_invalid_values\":false,\"repetition_penalty\":1.0,"
        "\"resid_pdrop\":0.0,\"return_dict\":true,\"return_dict_in_generate\":false,\"sep_token_id\":null,"
        "\"sliding_window\":null,\"temperature\":1.0,\"tf_legacy_loss\":false,\"tie_encoder_decoder\":false,"
        "\"tie_word_embeddings\":false,\"top_k\":50,\"top_p\":1.0,\"torch_dtype\":\"bfloat16\",\"torchscript\":false,"
        "\"typical_p\":1.0,\"use_bfloat16\":true,\"use_cache\":true,\"use_sliding_window\":false",
        ",\"image_size\":28,\"attention_dropout\":0.0,\"capacity_factor\":1.2,\"drop_path_rate\":0.1,\"dropout\":0.0,"
        "\"eval_capacity_factor\":1.4,\"initializer_factor\":0.1,\"laux_allreduce\":\"all_nodes\","
        "\"moe_coeff_ratio\":0.5,\"moe_intermediate_size\":768,\"moe_output_scale\":4.0,\"noisy_gate_policy\":"
        "\"RSample_before\",\"num_channels\":3,\"num_experts\":8,\"num_routed_experts\":4,\"num_shared_experts\":4,"
        "\"shared_expert_intermediate_size\":3072,\"use_flash_attn\":false,\"use_moe\":false,\"use_residual\":true,"
        "\"use_rts\":false,\"use_weighted_residual\":false",
        ",\"_commit_hash\":null,\"auto_map\":{},\"hidden_size\":64,\"image_fold\":null,\"num_hidden_layers\":2,"
        "\"output_attentions\":false,\"system_message\":null,\"template\":\"phi3-chat\",\"tie_word_embeddings\":"
        "false,\"transformers_version\":null,\"use_backbone_lora\":0,\"use_llm_lora\":0"));
    CHECK(c.decoder.hidden_size == 64 && c.decoder.eos_tokens[0] == 32000, "a full dump");
    check_refused(PHI3("", ",\"image_size\":28,\"use_moe\":true", ""), TROL_ERROR_UNSUPPORTED,
                  "vision_config.use_moe is true, expected false");
}

static void check_trained_positions(void) {
    decoder_config c = load(INTERNLM2("")).decoder;
    CHECK(config_trained_positions(&c) == 2048, "plain");
    c = load(INTERNLM2(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}")).decoder;
    CHECK(config_trained_positions(&c) == 4096, "dynamic");
    c = load(PHI3(",\"max_position_embeddings\":8192,\"rope_scaling\":{\"type\":\"su\"," FACTORS "}",
                  ",\"image_size\":28", ""))
            .decoder;
    CHECK(config_trained_positions(&c) == 8192, "long factors");
}

int main(void) {
    test_make_folder();
    check_end_tokens();
    check_image_sizes();
    check_key_paths();
    check_rope();
    check_long_rope();
    check_nesting();
    check_window();
    check_unknown_keys();
    check_full_dump();
    check_trained_positions();
    test_remove_folder();
    return test_summary("test-config");
}
