/* test-questions.c - whole questions, from the text and the picture file to the answer: token ids, first logits and
 * greedy tokens that the authors' pipeline made of them. */
#include "reference.h"

/* One line of questions.jsonl. */
static void check_question(trol_model *model, const char *folder, const cJSON *line, const float *first_logits,
                           size_t number) {
    trol_model_info info = {.size = sizeof info};
    trol_session_params params;
    trol_session *session = NULL;
    trol_image *image = NULL;
    trol_error error = {0};
    size_t n_ids, n_tokens;
    char what[128], path[1024];
    const char *question = cJSON_GetObjectItem(line, "question")->valuestring;
    const cJSON *image_name = cJSON_GetObjectItem(line, "image");
    int32_t *ids = reference_integers(line, "input_ids", &n_ids),
            *tokens = reference_integers(line, "tokens", &n_tokens);

    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    trol_session_params_init(&params);
    params.cache_type = TROL_CACHE_F32;
    params.context_size = 4096;
    CHECK_OK(trol_session_new(model, &params, &session, &error), error);
    if (cJSON_IsString(image_name)) {
        snprintf(path, sizeof path, "%s/pictures/%s", folder, image_name->valuestring);
        CHECK_OK(trol_image_load_file(path, NULL, &image, &error), error);
    }
    snprintf(what, sizeof what, "question %zu (%.60s)", number, question);
    trol_status status = trol_session_ask(session, question, (const trol_image *[]){image}, image ? 1 : 0, &error);
    CHECK(status == TROL_OK, "%s: %s", what, error.message);
    if (status == TROL_OK) {
        bool equal = trol_session_n_tokens(session) == n_ids &&
                     memcmp(trol_session_tokens(session), ids, n_ids * sizeof *ids) == 0;
        CHECK(equal, "%s: token ids differ (%zu, expected %zu)", what, trol_session_n_tokens(session), n_ids);
        reference_compare(what, trol_session_logits(session), first_logits, info.vocab_size, 0, 1e-4);
        for (size_t i = 0; i < n_tokens; i++) {
            int32_t token = trol_sampler_choose(NULL, trol_session_logits(session), info.vocab_size);
            CHECK(token == tokens[i], "%s: token %zu is %d, expected %d", what, i, token, tokens[i]);
            CHECK_OK(trol_session_decode(session, tokens[i], &error), error);
        }
    }
    trol_image_free(image);
    trol_session_free(session);
    free(ids);
    free(tokens);
}

static void check_folder(const char *name) {
    char folder[768], path[1024];
    trol_error error = {0};
    trol_model *model = NULL;
    char *lines = NULL;
    size_t n_bytes = 0, number = 0;
    reference_tensor logits;
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    snprintf(path, sizeof path, "%s/questions.jsonl", folder);
    CHECK_OK(file_read(path, 1 << 24, &lines, &n_bytes, &error), error);
    tensor_source *reference = reference_open(folder, "questions.safetensors");
    CHECK_OK(trol_model_load(folder, NULL, &model, &error), error);
    bool found = reference && reference_find(reference, "first_logits", &logits);
    CHECK(found, "%s: no first_logits", name);
    if (lines && model && found)
        for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n"), number++) {
            cJSON *json = cJSON_Parse(line);
            CHECK(json != NULL && (int64_t)number < logits.shape[0], "%s: line %zu", name, number);
            if (json)
                check_question(model, folder, json, logits.values + (int64_t)number * logits.shape[1], number);
            cJSON_Delete(json);
        }
    CHECK((int64_t)number == (found ? logits.shape[0] : -1), "%s: %zu lines", name, number);
    trol_model_free(model);
    tensor_source_close(reference);
    memory_free(lines);
}

int main(void) {
    check_folder("e2e-internlm2");
    check_folder("e2e-phi3");
    return test_summary("test-questions");
}
