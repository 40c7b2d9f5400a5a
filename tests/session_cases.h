/* session_cases.h - a small checkpoint with its picture and prompt, as the tests of sessions use it, and ways to
 * compare what sessions compute. */
#ifndef TESTS_SESSION_CASES_H
#define TESTS_SESSION_CASES_H

#include "reference.h"

typedef struct session_case {
    trol_model *model;
    trol_model_info info;
    trol_features *features; /* NULL: the case is text only */
    int32_t *ids;            /* [n_ids]: a prompt */
    size_t n_ids;
} session_case;

/* A call, which fills `refused`, must give this status and a sentence that contains `text`. */
#define CHECK_REFUSED(call, expected, text)                                                                            \
    do {                                                                                                               \
        trol_error refused = {TROL_OK, ""};                                                                            \
        trol_status status_ = (call);                                                                                  \
        CHECK(status_ == (expected) && refused.status == (expected) && strstr(refused.message, text),                  \
              "%s gave %d \"%s\", expected %d with \"%s\"", #call, (int)status_, refused.message, (int)(expected),     \
              text);                                                                                                   \
    } while (0)

/* A checkpoint folder; stops the program if it does not load. */
static inline trol_model *load_model(const char *folder, int32_t n_threads) {
    trol_error error = {0};
    trol_model *model = NULL;
    trol_model_params params;
    trol_model_params_init(&params);
    params.n_threads = n_threads;
    if (trol_model_load(folder, &params, &model, &error) != TROL_OK) {
        printf("%s\n", error.message);
        exit(1);
    }
    return model;
}

/* The prompt of a reference case: input_ids of its case.json. */
static inline int32_t *read_prompt(const char *name, size_t *n_ids) {
    char path[1024], *text = NULL;
    size_t n_bytes = 0;
    trol_error error = {0};
    snprintf(path, sizeof path, "%s/%s/case.json", TEST_REFERENCE, name);
    CHECK_OK(file_read(path, 1 << 24, &text, &n_bytes, &error), error);
    cJSON *json = cJSON_ParseWithLength(text, n_bytes);
    int32_t *ids = reference_integers(json, "input_ids", n_ids);
    cJSON_Delete(json);
    memory_free(text);
    return ids;
}

static inline trol_features *encode_file(trol_model *model, const char *path) {
    trol_error error = {0};
    trol_image *image = NULL;
    trol_features *features = NULL;
    CHECK_OK(trol_image_load_file(path, NULL, &image, &error), error);
    CHECK_OK(trol_encode_image(model, image, &features, &error), error);
    trol_image_free(image);
    return features;
}

static inline session_case open_case(const char *name, int32_t n_threads) {
    session_case c = {.info = {.size = sizeof c.info}};
    char path[1024];
    trol_error error = {0};
    snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, name);
    c.model = load_model(path, n_threads);
    CHECK_OK(trol_model_get_info(c.model, &c.info, &error), error);
    c.ids = read_prompt(name, &c.n_ids);
    snprintf(path, sizeof path, "%s/%s/image.png", TEST_REFERENCE, name);
    for (size_t i = 0; i < c.n_ids && !c.features; i++)
        if (c.ids[i] == c.info.image_token)
            c.features = encode_file(c.model, path);
    return c;
}

static inline void close_case(session_case *c) {
    trol_features_free(c->features);
    trol_model_free(c->model);
    free(c->ids);
}

/* `context` 0: 512 tokens. */
static inline trol_session *open_session_of(trol_model *model, trol_cache_type cache_type, trol_traversal traversal,
                                            int keep_pass2, int32_t context) {
    trol_error error = {0};
    trol_session *session = NULL;
    trol_session_params params;
    trol_session_params_init(&params);
    params.cache_type = cache_type;
    params.traversal = traversal;
    params.keep_pass2 = keep_pass2;
    params.context_size = context ? context : 512;
    CHECK_OK(trol_session_new(model, &params, &session, &error), error);
    if (!session)
        exit(1);
    return session;
}

/* The same with keys and values in float32. */
static inline trol_session *open_session(trol_model *model, trol_traversal traversal, int keep_pass2, int32_t context) {
    return open_session_of(model, TROL_CACHE_F32, traversal, keep_pass2, context);
}

static inline void prefill_case(const session_case *c, trol_session *session, const int32_t *ids, size_t n) {
    trol_error error = {0};
    CHECK_OK(trol_session_prefill(session, ids, n, &c->features, c->features != NULL, &error), error);
}

static inline trol_session_stats stats_of(const trol_session *session) {
    trol_session_stats stats = {.size = sizeof stats};
    trol_session_get_stats(session, &stats);
    return stats;
}

/* The session's logits, or the end of the program. */
static inline const float *logits_of(const trol_session *session) {
    const float *logits = trol_session_logits(session);
    CHECK(logits != NULL, "no logits");
    if (!logits)
        exit(1);
    return logits;
}

static inline bool equal_logits(const session_case *c, const trol_session *a, const trol_session *b) {
    return memcmp(logits_of(a), logits_of(b), (size_t)c->info.vocab_size * sizeof(float)) == 0;
}

/* Agreement to rounding. */
static inline void compare_logits(const session_case *c, const char *what, const trol_session *found,
                                  const trol_session *expected) {
    reference_compare(what, logits_of(found), logits_of(expected), c->info.vocab_size, 0, 1e-5);
}

#endif
