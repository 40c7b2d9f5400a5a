/* test-models.c - the bundled models: for a set of questions about the bundled pictures, the token ids, the first
 * logits and the greedy answers in each traversal mode that the PyTorch definition (tools/train) gives for the same
 * weights. */
#include <dirent.h>
#include <unistd.h>

#include "session_cases.h"

#ifndef TEST_MODELS
#define TEST_MODELS TEST_REFERENCE "/../../models"
#endif
#define MODELS_REFERENCE TEST_REFERENCE "/../models-reference"

static const char *const mode_prefix[] = {"", "all_", "off_"};

/* A model with the reference results of its questions. */
typedef struct bundled {
    const char *name;
    trol_model *model;
    trol_model_info info;
    reference_tensor first_logits[3]; /* [n_lines, vocab_size] in each mode */
    trol_session *sessions[3];
} bundled;

/* The first of the folders with bundled pictures that holds this one. */
static trol_features *encode_image(const bundled *b, const char *name) {
    static const char *const folders[] = {"pictures", "eval-sample"};
    char path[1024];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", TEST_MODELS, folders[i], name);
        FILE *file = fopen(path, "rb");
        if (!file)
            continue;
        fclose(file);
        return encode_file(b->model, path);
    }
    CHECK(false, "%s: no picture %s", b->name, name);
    return NULL;
}

static int append_text(void *user, const char *text) {
    strncat(user, text, 2000 - strlen(user));
    return 0;
}

/* Whether the tokens end with one that ends an answer: else the reference was cut at its length. */
static bool has_end(const trol_model *model, const int32_t *tokens, size_t n) {
    char *text = NULL;
    trol_error error = {0};
    if (n == 0)
        return false;
    CHECK_OK(trol_detokenize(model, tokens + n - 1, 1, 0, &text, &error), error);
    const bool ends = !*text || strcmp(text, "[UNUSED_TOKEN_145]") == 0;
    trol_free(text);
    return ends;
}

/* trol_generate's answer is what the tokens spell. */
static void check_text(const bundled *b, const char *what, trol_session *s, const int32_t *tokens, size_t n) {
    char written[2001] = "", *expected = NULL;
    trol_error error = {0};
    trol_generate_params params;
    trol_stop stop = 0;
    const bool ends = has_end(b->model, tokens, n);
    trol_generate_params_init(&params);
    params.max_tokens = (int32_t)(ends ? n + 5 : n);
    CHECK_OK(trol_generate(s, &params, append_text, written, &stop, &error), error);
    CHECK(stop == (ends ? TROL_STOP_END : TROL_STOP_LENGTH), "%s: stopped by %d", what, (int)stop);
    CHECK_OK(trol_detokenize(b->model, tokens, ends ? n - 1 : n, 0, &expected, &error), error);
    const char *begin = expected + strspn(expected, " \n");
    size_t length = strlen(begin);
    while (length > 0 && strchr(" \n", begin[length - 1]))
        length--;
    CHECK(strlen(written) == length && strncmp(written, begin, length) == 0, "%s: \"%s\", expected \"%s\"", what,
          written, expected);
    trol_free(expected);
}

/* One line in one mode. */
static void check_mode(bundled *b, const cJSON *line, size_t number, int mode, trol_features *features) {
    trol_error error = {0};
    trol_session *s = b->sessions[mode];
    char what[256], key[16];
    size_t n_ids, n_tokens;
    const trol_message message = {.role = TROL_ROLE_USER, .text = cJSON_GetObjectItem(line, "question")->valuestring};
    snprintf(key, sizeof key, "%stokens", mode_prefix[mode]);
    int32_t *ids = reference_integers(line, "input_ids", &n_ids), *tokens = reference_integers(line, key, &n_tokens);
    snprintf(what, sizeof what, "%s, question %zu (%.80s), mode %d", b->name, number, message.text, mode);
    CHECK_OK(trol_session_set_prompt_features(s, &message, 1, &features, features != NULL, &error), error);
    CHECK(trol_session_n_tokens(s) == n_ids && memcmp(trol_session_tokens(s), ids, n_ids * sizeof *ids) == 0,
          "%s: token ids differ", what);
    const float *expected = b->first_logits[mode].values + (int64_t)number * b->info.vocab_size;
    reference_compare(what, logits_of(s), expected, b->info.vocab_size, 0, 1e-4);
    for (size_t i = 0; i < n_tokens; i++) {
        const int32_t token = trol_sampler_choose(NULL, logits_of(s), b->info.vocab_size);
        CHECK(token == tokens[i], "%s: token %zu is %d, expected %d", what, i, token, tokens[i]);
        if (i + 1 < n_tokens)
            CHECK_OK(trol_session_decode(s, tokens[i], &error), error);
    }
    CHECK_OK(trol_session_set_prompt_features(s, &message, 1, &features, features != NULL, &error), error);
    check_text(b, what, s, tokens, n_tokens);
    free(ids);
    free(tokens);
}

static void check_line(bundled *b, const cJSON *line, size_t number) {
    const char *image = cJSON_GetStringValue(cJSON_GetObjectItem(line, "image"));
    const cJSON *tiles = cJSON_GetObjectItem(line, "tiles");
    trol_features *features = image ? encode_image(b, image) : NULL;
    if (features && cJSON_IsNumber(tiles))
        CHECK(trol_features_n_tiles(features) == tiles->valueint, "%s, question %zu: %d tiles, expected %d", b->name,
              number, trol_features_n_tiles(features), tiles->valueint);
    for (int mode = 0; mode < 3; mode++)
        check_mode(b, line, number, mode, features);
    trol_features_free(features);
}

static void check_lines(bundled *b, char *lines) {
    size_t number = 0;
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n"), number++) {
        cJSON *json = cJSON_Parse(line);
        const bool good = json && (int64_t)number < b->first_logits[0].shape[0];
        CHECK(good, "%s: line %zu", b->name, number + 1);
        if (good)
            check_line(b, json, number);
        cJSON_Delete(json);
    }
    CHECK(number >= 10 && (int64_t)number == b->first_logits[0].shape[0], "%s: %zu questions", b->name, number);
}

/* false if there are no reference results under this name. */
static bool check_model(const char *name) {
    char folder[512], path[1024], *lines = NULL;
    size_t n_bytes = 0;
    trol_error error = {0};
    bundled b = {.name = name, .info = {.size = sizeof b.info}};
    snprintf(path, sizeof path, "%s/%s/questions.jsonl", MODELS_REFERENCE, name);
    if (access(path, R_OK) != 0)
        return false;
    CHECK_OK(file_read(path, 1 << 24, &lines, &n_bytes, &error), error);
    snprintf(folder, sizeof folder, "%s/%s", TEST_MODELS, name);
    b.model = load_model(folder, 1);
    CHECK_OK(trol_model_get_info(b.model, &b.info, &error), error);
    snprintf(folder, sizeof folder, "%s/%s", MODELS_REFERENCE, name);
    tensor_source *reference = reference_open(folder, "questions.safetensors");
    bool found = lines && reference;
    for (int mode = 0; mode < 3 && found; mode++) {
        snprintf(path, sizeof path, "%sfirst_logits", mode_prefix[mode]);
        found = reference_find(reference, path, &b.first_logits[mode]) &&
                b.first_logits[mode].shape[1] == b.info.vocab_size &&
                b.first_logits[mode].shape[0] == b.first_logits[0].shape[0];
        CHECK(found, "%s: no %s of the vocabulary's size", name, path);
        b.sessions[mode] = open_session(b.model, (trol_traversal)mode, 1, 2048);
    }
    if (found)
        check_lines(&b, lines);
    for (int mode = 0; mode < 3; mode++)
        trol_session_free(b.sessions[mode]);
    trol_model_free(b.model);
    tensor_source_close(reference);
    memory_free(lines);
    return true;
}

int main(void) {
    int n_models = 0;
    struct dirent *entry;
    DIR *models = opendir(MODELS_REFERENCE);
    while (models && (entry = readdir(models)))
        n_models += entry->d_name[0] != '.' && check_model(entry->d_name);
    if (models)
        closedir(models);
    if (n_models == 0) {
        printf("test-models: no model is bundled yet\n");
        return TEST_SKIPPED;
    }
    return test_summary("test-models");
}
