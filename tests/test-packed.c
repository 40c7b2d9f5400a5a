/* Packed checkpoints: what trol_quantize writes gives the logits of a load with the same types, to the bit, from mapped
 * memory; and what it refuses. */
#include "files.h"
#include "test.h"
#include "trol.h"

static const int32_t prompt[] = {5, 9, 2, 30, 17, 11, 8, 40, 3, 21, 19, 33, 6, 7, 12, 28, 14, 44, 10, 4};

/* Logits after the prompt; NULL if the model cannot be loaded. */
static float *logits_of(const char *folder, trol_weight_type type, trol_weight_type vision_type, int32_t *vocab_size,
                        char weight_type[32]) {
    trol_error error = {0};
    trol_model_params params;
    trol_model *model;
    trol_session *session;
    trol_model_info info = {.size = sizeof info};
    trol_model_params_init(&params);
    params.weight_type = type;
    params.vision_type = vision_type;
    params.n_threads = 2;
    CHECK_OK(trol_model_load(folder, &params, &model, &error), error);
    if (!model)
        return NULL;
    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    CHECK_OK(trol_session_new(model, NULL, &session, &error), error);
    CHECK_OK(trol_session_prefill(session, prompt, sizeof prompt / sizeof prompt[0], NULL, 0, &error), error);
    float *logits = malloc((size_t)info.vocab_size * sizeof *logits);
    memcpy(logits, trol_session_logits(session), (size_t)info.vocab_size * sizeof *logits);
    *vocab_size = info.vocab_size;
    memcpy(weight_type, info.weight_type, 32);
    trol_session_free(session);
    trol_model_free(model);
    return logits;
}

static int cancel_at_once(void *user, trol_stage stage, int64_t done, int64_t total) {
    (void)user;
    (void)stage;
    return done <= total;
}

static void check_case(const char *source, trol_weight_type type, trol_weight_type vision_type, const char *name) {
    char out[1024];
    trol_error error = {0};
    trol_quantize_params params;
    trol_quantize_params_init(&params);
    params.weight_type = type;
    params.vision_type = vision_type;
    params.n_threads = 2;
    snprintf(out, sizeof out, "%s", test_folder);
    test_clear_folder();
    params.progress = cancel_at_once;
    CHECK(trol_quantize(source, out, &params, &error) == TROL_ERROR_CANCELLED, "%s", error.message);
    params.progress = NULL;
    CHECK(access(test_path("model.safetensors"), F_OK) != 0, "a cancelled call left weights");
    CHECK_OK(trol_quantize(source, out, &params, &error), error);
    CHECK(trol_quantize(source, out, &params, &error) == TROL_ERROR_IO && strstr(error.message, "exists already"), "%s",
          error.message);
    params.overwrite = 1;
    CHECK_OK(trol_quantize(source, out, &params, &error), error);
    CHECK(trol_quantize(out, out, &params, &error) == TROL_ERROR_ARGUMENT, "packing a packed checkpoint: %s",
          error.message);
    CHECK(trol_quantize(source, source, &params, &error) == TROL_ERROR_ARGUMENT && strstr(error.message, "replace"),
          "%s", error.message);

    int32_t n = 0, packed_n = 0;
    char weight_type[32] = "", packed_type[32] = "";
    float *logits = logits_of(source, type, vision_type, &n, weight_type);
    float *packed = logits_of(out, TROL_WEIGHTS_AS_STORED, TROL_WEIGHTS_AS_STORED, &packed_n, packed_type);
    CHECK(logits && packed && n == packed_n && memcmp(logits, packed, (size_t)n * sizeof *logits) == 0,
          "%s %s: the packed checkpoint computes something else", source, name);
    CHECK(strcmp(weight_type, packed_type) == 0, "%s and %s", weight_type, packed_type);
    free(logits);
    free(packed);
}

int main(void) {
    static const char *const cases[] = {"e2e-internlm2", "e2e-phi3"};
    trol_error error = {0};
    test_make_folder();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char source[1024];
        snprintf(source, sizeof source, "%s/%s", TEST_REFERENCE, cases[i]);
        check_case(source, TROL_WEIGHTS_Q8, TROL_WEIGHTS_AS_STORED, "q8");
        check_case(source, TROL_WEIGHTS_Q4, TROL_WEIGHTS_Q8, "q4");
    }
    trol_quantize_params params;
    trol_quantize_params_init(&params);
    params.weight_type = TROL_WEIGHTS_F16;
    CHECK(trol_quantize(cases[0], test_folder, &params, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_quantize(NULL, test_folder, NULL, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_quantize(test_path("nothing"), test_folder, NULL, &error) != TROL_OK, "a folder that is not there");
    test_remove_folder();
    return test_summary("packed");
}
