/* Packed checkpoints: what trol_quantize writes gives the logits of a load with the same types, to the bit, from mapped
 * memory; and what it refuses. */
#include "files.h"
#include "format/json.h"
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

static int count_files(const char *path) {
    int n = 0;
    DIR *folder = opendir(path);
    for (const struct dirent *file; folder && (file = readdir(folder));)
        n += strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0;
    if (folder)
        closedir(folder);
    return n;
}

/* Links to the case's files in a folder, except for one. */
static void link_case(const char *source, const char *to, const char *left_out) {
    char path[2048], place[2048];
    DIR *folder = opendir(source);
    for (const struct dirent *file; folder && (file = readdir(folder));) {
        snprintf(path, sizeof path, "%s/%s", source, file->d_name);
        snprintf(place, sizeof place, "%s/%s", to, file->d_name);
        if (file->d_name[0] != '.' && strcmp(file->d_name, left_out) != 0)
            CHECK(symlink(path, place) == 0, "%s", path);
    }
    if (folder)
        closedir(folder);
}

static void check_needed_files(const char *source) {
    static const char *const needed[] = {"trol_gating.pt", "config.json"};
    char out[1024];
    trol_error error = {0};
    snprintf(out, sizeof out, "%s-out", test_folder);
    for (int i = 0; i < 2; i++) {
        test_clear_folder();
        link_case(source, test_folder, needed[i]);
        CHECK(trol_quantize(test_folder, out, NULL, &error) == TROL_ERROR_IO && strstr(error.message, needed[i]), "%s",
              error.message);
        CHECK(access(out, F_OK) != 0, "%s was made", out);
    }
    test_clear_folder();
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
    CHECK(count_files(test_folder) == 0, "a cancelled call left files");
    test_write("config.json", "mine", 4);
    CHECK(trol_quantize(source, out, &params, &error) == TROL_ERROR_IO &&
              strstr(error.message, "config.json: the file exists already"),
          "%s", error.message);
    CHECK(count_files(test_folder) == 1, "a refused call left files");
    unlink(test_path("config.json"));
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

static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    for (const struct dirent *file; folder && (file = readdir(folder));)
        if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0)
            unlinkat(dirfd(folder), file->d_name, 0);
    if (folder)
        closedir(folder);
    rmdir(path);
}

/* A config.json as published, which leaves the encoder's sizes to the tensors: packed ones determine them, too. */
static void check_without_vision_config(const char *source) {
    char published[600], path[2048];
    trol_error error = {0};
    cJSON *json = NULL;
    snprintf(path, sizeof path, "%s/config.json", source);
    CHECK_OK(json_read_file(path, 1 << 20, &json, &error), error);
    cJSON_DeleteItemFromObject(json, "vision_config");
    char *text = cJSON_Print(json);
    snprintf(published, sizeof published, "%s-published", test_folder);
    CHECK(mkdir(published, 0700) == 0, "%s", published);
    link_case(source, published, "config.json");
    test_write("config.json", text, strlen(text));
    snprintf(path, sizeof path, "%s/config.json", published);
    CHECK(rename(test_path("config.json"), path) == 0, "%s", path);
    check_case(published, TROL_WEIGHTS_Q8, TROL_WEIGHTS_Q8, "q8, published config");
    remove_folder(published);
    cJSON_free(text);
    cJSON_Delete(json);
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
        check_needed_files(source);
    }
    char internlm2[1024];
    snprintf(internlm2, sizeof internlm2, "%s/%s", TEST_REFERENCE, cases[0]);
    check_without_vision_config(internlm2);
    trol_quantize_params params;
    trol_quantize_params_init(&params);
    params.weight_type = TROL_WEIGHTS_F16;
    CHECK(trol_quantize(cases[0], test_folder, &params, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_quantize(NULL, test_folder, NULL, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_quantize(test_path("nothing"), test_folder, NULL, &error) != TROL_OK, "a folder that is not there");
    test_remove_folder();
    return test_summary("packed");
}
