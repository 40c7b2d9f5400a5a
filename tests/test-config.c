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

int main(void) {
    test_make_folder();
    check_end_tokens();
    check_image_sizes();
    check_key_paths();
    test_remove_folder();
    return test_summary("test-config");
}
