/* test-reference.c - what the authors' code computed for small checkpoints, step by step, so that the first wrong step
 * is named with the largest error and where it is. Then what must not change the result: how a prompt is cut into
 * chunks, the number of threads, batches, forks, and what a later turn reuses. */
#include "reference.h"

enum { MAX_IMAGES = 8, N_STEPS = 12 };
static const double tolerance = 1e-4, same = 1e-5;

/* One reference case, opened. */
typedef struct test_case {
    const char *name;
    tensor_source *reference;
    trol_model *model;
    trol_model_info info;
    trol_features *features[MAX_IMAGES];
    size_t n_features;
    int32_t *ids; /* [n_ids]: the prompt */
    size_t n_ids;
    cJSON *json;
} test_case;

/* "case: step" for messages. */
static const char *rung(const test_case *c, const char *what) {
    static char text[256];
    snprintf(text, sizeof text, "%s: %s", c->name, what);
    return text;
}

static trol_session *new_session(const test_case *c, trol_model *model, trol_traversal traversal, int keep_pass2) {
    trol_error error = {0};
    trol_session *session = NULL;
    trol_session_params params;
    trol_session_params_init(&params);
    params.cache_type = TROL_CACHE_F32;
    params.traversal = traversal;
    params.keep_pass2 = keep_pass2;
    params.context_size = 512;
    CHECK_OK(trol_session_new(model, &params, &session, &error), error);
    (void)c;
    return session;
}

static void prefill(const test_case *c, trol_session *session, const int32_t *ids, size_t n) {
    trol_error error = {0};
    CHECK_OK(trol_session_prefill(session, ids, n, c->features, c->n_features, &error), error);
}

static const float *logits_of(const trol_session *session) {
    const float *logits = trol_session_logits(session);
    CHECK(logits != NULL, "no logits");
    if (!logits)
        exit(1);
    return logits;
}

/* ---- pictures -------------------------------------------------------------------------------- */

typedef struct image_check {
    const test_case *c;
    int64_t tile; /* tiles of the pictures before */
    int64_t tokens_per_tile;
} image_check;

static int check_image_stage(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows,
                             int64_t n_columns, const float *values) {
    const image_check *check = user;
    const char *name = strcmp(stage, "pixels") == 0 ? "pixel_values" : stage;
    reference_tensor expected;
    bool found = reference_find(check->c->reference, name, &expected);
    CHECK(found, "%s", rung(check->c, name));
    if (!found)
        return 1;
    (void)layer;
    (void)first;
    int64_t row = strcmp(stage, "pixels") == 0 ? check->tile : check->tile * check->tokens_per_tile;
    CHECK((row + n_rows) * n_columns <= expected.n_values, "%s has %lld values", rung(check->c, name),
          (long long)expected.n_values);
    if ((row + n_rows) * n_columns <= expected.n_values)
        reference_compare(rung(check->c, name), values, expected.values + row * n_columns, n_rows * n_columns, 0,
                          tolerance);
    return 0;
}

/* Picture number `index`: the file, or (where a case has two) the second, which is stored after its resize. */
static trol_image *open_image(const test_case *c, const char *folder, size_t index) {
    trol_error error = {0};
    trol_image *image = NULL;
    if (index == 0) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, cJSON_GetObjectItem(c->json, "image")->valuestring);
        CHECK_OK(trol_image_load_file(path, NULL, &image, &error), error);
        return image;
    }
    const tensor *t = tensor_source_find(c->reference, "image_resized"); /* [n, 3, S, S] bytes */
    const int64_t side = t->shape[3], plane = side * side;
    const uint8_t *planes = (const uint8_t *)t->data + (int64_t)index * 3 * plane;
    uint8_t *rgb = malloc((size_t)(3 * plane));
    for (int64_t i = 0; i < 3 * plane; i++)
        rgb[i] = planes[i % 3 * plane + i / 3];
    CHECK_OK(trol_image_load_rgb(rgb, (int32_t)side, (int32_t)side, (size_t)(3 * side), &image, &error), error);
    free(rgb);
    return image;
}

static void encode_images(test_case *c, const char *folder) {
    const cJSON *images = cJSON_GetObjectItem(c->json, "images");
    image_check check = {c, 0, c->info.tokens_per_tile};
    if (!cJSON_IsString(cJSON_GetObjectItem(c->json, "image")))
        return;
    c->n_features = images ? (size_t)images->valueint : 1;
    for (size_t i = 0; i < c->n_features; i++) {
        trol_error error = {0};
        trol_image *image = open_image(c, folder, i);
        CHECK_OK(trol_observe_image(c->model, image, check_image_stage, &check, &error), error);
        CHECK_OK(trol_encode_image(c->model, image, &c->features[i], &error), error);
        check.tile += trol_features_n_tiles(c->features[i]);
        trol_image_free(image);
    }
}

/* ---- the prompt's rungs ---------------------------------------------------------------------- */

static int check_stage(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows, int64_t n_columns,
                       const float *values) {
    const test_case *c = user;
    const char *name = strcmp(stage, "pass1") == 0 ? "pass1_out" : strcmp(stage, "gate") == 0 ? "gate" : "layer_in";
    int32_t index = strcmp(stage, "embeddings") == 0 ? 0 : strcmp(stage, "layer") == 0 ? layer + 1 : layer;
    if (strcmp(stage, "pass2") == 0 || index == c->info.n_layers)
        return 0;
    reference_tensor expected;
    if (!reference_find(c->reference, name, &expected))
        return 1;
    char what[64];
    snprintf(what, sizeof what, "%s of layer %d", name, index);
    const int64_t offset = (index * (int64_t)c->n_ids + first) * n_columns;
    reference_compare(rung(c, what), values, expected.values + offset, n_rows * n_columns, 0, tolerance);
    return 0;
}

typedef struct prompt_logits {
    float *rows; /* [n_ids, vocab] */
    int64_t n_rows;
} prompt_logits;

static int keep_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    prompt_logits *kept = user;
    memcpy(kept->rows + position * vocab_size, logits, (size_t)vocab_size * sizeof *logits);
    kept->n_rows++;
    return 0;
}

static void check_prompt(test_case *c) {
    reference_tensor expected;
    prompt_logits kept = {calloc(c->n_ids * (size_t)c->info.vocab_size, sizeof(float)), 0};
    trol_session *session = new_session(c, c->model, TROL_TRAVERSAL_PROMPT, 0);
    trol_session_set_observer(session, check_stage, c);
    trol_session_set_logits_callback(session, keep_logits, &kept);
    prefill(c, session, c->ids, c->n_ids);
    CHECK(kept.n_rows == (int64_t)c->n_ids, "%lld rows", (long long)kept.n_rows);
    if (reference_find(c->reference, "prefill_logits", &expected))
        reference_compare(rung(c, "prefill_logits"), kept.rows, expected.values, expected.n_values, 0, tolerance);
    else
        CHECK(false, "%s", rung(c, "prefill_logits are missing"));
    trol_session_free(session);
    free(kept.rows);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static const char *const mode_names[] = {"prompt", "all", "off"};

static void check_answer(test_case *c, trol_traversal mode) {
    char name[64];
    size_t n;
    trol_error error = {0};
    reference_tensor expected;
    snprintf(name, sizeof name, "%s_greedy", mode_names[mode]);
    int32_t *tokens = reference_integers(c->json, name, &n);
    snprintf(name, sizeof name, "%s_logits", mode_names[mode]);
    bool found = reference_find(c->reference, name, &expected);
    CHECK(found && n == N_STEPS, "%s", rung(c, name));
    trol_session *session = new_session(c, c->model, mode, 0);
    prefill(c, session, c->ids, c->n_ids);
    for (size_t i = 0; found && i < n; i++) {
        char what[96];
        snprintf(what, sizeof what, "%s, step %zu", name, i);
        reference_compare(rung(c, what), logits_of(session), expected.values + (int64_t)i * c->info.vocab_size,
                          c->info.vocab_size, 0, tolerance);
        int32_t token = trol_sampler_choose(NULL, logits_of(session), c->info.vocab_size);
        CHECK(token == tokens[i], "%s: token %d, expected %d", rung(c, what), token, tokens[i]);
        CHECK_OK(trol_session_decode(session, tokens[i], &error), error);
    }
    trol_session_free(session);
    free(tokens);
}

/* ---- what must not matter -------------------------------------------------------------------- */

static void check_chunks(test_case *c, trol_traversal mode) {
    static const size_t sizes[] = {1, 7};
    trol_session *whole = new_session(c, c->model, mode, 0);
    prefill(c, whole, c->ids, c->n_ids);
    for (size_t k = 0; k < 2; k++) {
        trol_error error = {0};
        trol_session *session = new_session(c, c->model, mode, 0);
        CHECK_OK(trol_session_prompt_begin(session, c->n_ids, c->features, c->n_features, &error), error);
        for (size_t i = 0; i < c->n_ids; i += sizes[k]) {
            size_t n = c->n_ids - i < sizes[k] ? c->n_ids - i : sizes[k];
            CHECK_OK(trol_session_prompt_append(session, c->ids + i, n, &error), error);
        }
        CHECK_OK(trol_session_prompt_end(session, &error), error);
        char what[64];
        snprintf(what, sizeof what, "mode %s in chunks of %zu", mode_names[mode], sizes[k]);
        reference_compare(rung(c, what), logits_of(session), logits_of(whole), c->info.vocab_size, 0, same);
        trol_session_free(session);
    }
    trol_session_free(whole);
}

/* Mode all, token by token, equals a prompt of the whole text; so does a later turn that reuses an earlier prompt. */
static void check_recomputing(test_case *c) {
    size_t n;
    trol_error error = {0};
    int32_t *tokens = reference_integers(c->json, "all_greedy", &n), *text = calloc(c->n_ids + n, sizeof *text);
    memcpy(text, c->ids, c->n_ids * sizeof *text);
    memcpy(text + c->n_ids, tokens, n * sizeof *text);
    for (size_t i = 0; i < n; i++) /* an answer may hold the image token's id, a prompt may not, without a picture */
        if (text[c->n_ids + i] == c->info.image_token)
            text[c->n_ids + i] = 5;
    trol_session *stepwise = new_session(c, c->model, TROL_TRAVERSAL_ALL, 0);
    prefill(c, stepwise, c->ids, c->n_ids);
    for (size_t i = 0; i < n; i++)
        CHECK_OK(trol_session_decode(stepwise, text[c->n_ids + i], &error), error);
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++) {
        char what[64];
        trol_session *fresh = new_session(c, c->model, mode, 0), *later = new_session(c, c->model, mode, 1);
        prefill(c, fresh, text, c->n_ids + n);
        if (mode == TROL_TRAVERSAL_ALL)
            reference_compare(rung(c, "mode all, step by step"), logits_of(stepwise), logits_of(fresh),
                              c->info.vocab_size, 0, same);
        prefill(c, later, c->ids, c->n_ids);
        for (size_t i = 0; i < n; i++)
            CHECK_OK(trol_session_decode(later, text[c->n_ids + i], &error), error);
        prefill(c, later, text, c->n_ids + n);
        snprintf(what, sizeof what, "mode %s, a later turn", mode_names[mode]);
        reference_compare(rung(c, what), logits_of(later), logits_of(fresh), c->info.vocab_size, 0, same);
        trol_session_free(fresh);
        trol_session_free(later);
    }
    trol_session_free(stepwise);
    free(tokens);
    free(text);
}

/* Prompt and some steps with another number of threads: equal to the bit. */
static void check_threads(test_case *c, const char *folder) {
    trol_error error = {0};
    const size_t bytes = (size_t)c->info.vocab_size * sizeof(float);
    trol_session *expected = new_session(c, c->model, TROL_TRAVERSAL_PROMPT, 0);
    prefill(c, expected, c->ids, c->n_ids);
    for (int32_t n_threads = 2; n_threads <= 3; n_threads++) {
        trol_model_params params;
        test_case other = *c;
        trol_model_params_init(&params);
        params.n_threads = n_threads;
        CHECK_OK(trol_model_load(folder, &params, &other.model, &error), error);
        for (size_t i = 0; i < c->n_features; i++) {
            trol_image *image = open_image(c, folder, i);
            CHECK_OK(trol_encode_image(other.model, image, &other.features[i], &error), error);
            CHECK(memcmp(trol_features_data(other.features[i]), trol_features_data(c->features[i]),
                         (size_t)trol_features_n_tokens(c->features[i]) * (size_t)c->info.hidden_size *
                             sizeof(float)) == 0,
                  "%s: picture %zu differs with %d threads", c->name, i, n_threads);
            trol_image_free(image);
        }
        trol_session *session = new_session(c, other.model, TROL_TRAVERSAL_PROMPT, 0);
        prefill(&other, session, c->ids, c->n_ids);
        CHECK(memcmp(logits_of(session), logits_of(expected), bytes) == 0, "%s: logits differ with %d threads", c->name,
              n_threads);
        trol_session_free(session);
        for (size_t i = 0; i < c->n_features; i++)
            trol_features_free(other.features[i]);
        trol_model_free(other.model);
    }
    trol_session_free(expected);
}

/* Sessions that decode as one batch give the bits that each gives alone; a fork is independent; a truncated session is
 * as it was. */
static void check_batches(test_case *c) {
    enum { N_SESSIONS = 3 };
    trol_error error = {0};
    const size_t bytes = (size_t)c->info.vocab_size * sizeof(float);
    trol_session *alone[N_SESSIONS], *together[N_SESSIONS];
    int32_t tokens[N_SESSIONS] = {7, 8, 9};
    for (int i = 0; i < N_SESSIONS; i++) {
        alone[i] = new_session(c, c->model, (trol_traversal)i, 0);
        prefill(c, alone[i], c->ids, c->n_ids);
        CHECK_OK(trol_session_fork(alone[i], &together[i], &error), error);
        CHECK_OK(trol_session_decode(alone[i], tokens[i], &error), error);
    }
    CHECK_OK(trol_decode_batch(together, tokens, N_SESSIONS, &error), error);
    for (int i = 0; i < N_SESSIONS; i++) {
        CHECK(memcmp(logits_of(together[i]), logits_of(alone[i]), bytes) == 0, "%s: mode %s differs in a batch",
              c->name, mode_names[i]);
        CHECK_OK(trol_session_decode(together[i], 3, &error), error);
        CHECK_OK(trol_session_truncate(together[i], c->n_ids, &error), error);
        CHECK_OK(trol_session_decode(together[i], tokens[i], &error), error);
        CHECK(memcmp(logits_of(together[i]), logits_of(alone[i]), bytes) == 0, "%s: mode %s differs after a truncation",
              c->name, mode_names[i]);
        trol_session_free(alone[i]);
        trol_session_free(together[i]);
    }
    CHECK(trol_decode_batch((trol_session *[]){NULL}, tokens, 1, &error) == TROL_ERROR_ARGUMENT, "a NULL session");
}

/* Generation with prompt lookup gives the same text as without. */
static int collect_text(void *user, const char *text) {
    strncat(user, text, 1000 - strlen(user));
    return 0;
}

static void check_lookup(test_case *c) {
    trol_error error = {0};
    char plain[1001] = "", looked[1001] = "";
    trol_generate_params params;
    trol_generate_params_init(&params);
    params.max_tokens = 40;
    params.ignore_eos = 1;
    for (int lookup = 0; lookup < 2; lookup++) {
        trol_session *session = new_session(c, c->model, TROL_TRAVERSAL_PROMPT, 0);
        prefill(c, session, c->ids, c->n_ids);
        params.lookup = lookup;
        trol_stop stop;
        CHECK_OK(trol_generate(session, &params, collect_text, lookup ? looked : plain, &stop, &error), error);
        CHECK(stop == TROL_STOP_LENGTH, "stop is %d", (int)stop);
        CHECK(trol_session_n_tokens(session) == c->n_ids + 39, "%zu tokens", trol_session_n_tokens(session));
        trol_session_free(session);
    }
    CHECK(strcmp(plain, looked) == 0, "%s: with prompt lookup \"%s\", without \"%s\"", c->name, looked, plain);
}

static void run_case(const char *name) {
    char folder[768];
    trol_error error = {0};
    test_case c = {.name = name, .info = {.size = sizeof(trol_model_info)}};
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    char path[1024];
    snprintf(path, sizeof path, "%s/case.json", folder);
    CHECK_OK(json_read_file(path, 1 << 20, &c.json, &error), error);
    c.reference = reference_open(folder, "reference.safetensors");
    trol_model_params params;
    trol_model_params_init(&params);
    params.n_threads = 1;
    CHECK_OK(trol_model_load(folder, &params, &c.model, &error), error);
    if (!c.json || !c.reference || !c.model)
        return;
    CHECK_OK(trol_model_get_info(c.model, &c.info, &error), error);
    c.ids = reference_integers(c.json, "input_ids", &c.n_ids);
    CHECK(c.info.image_token == cJSON_GetObjectItem(c.json, "image_token_index")->valueint, "image token %d",
          c.info.image_token);
    encode_images(&c, folder);
    check_prompt(&c);
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++) {
        check_answer(&c, mode);
        check_chunks(&c, mode);
    }
    check_recomputing(&c);
    check_threads(&c, folder);
    check_batches(&c);
    check_lookup(&c);
    for (size_t i = 0; i < c.n_features; i++)
        trol_features_free(c.features[i]);
    trol_model_free(c.model);
    tensor_source_close(c.reference);
    cJSON_Delete(c.json);
    free(c.ids);
}

int main(int argc, char **argv) {
    static const char *const cases[] = {
        "internlm2-clip",     "internlm2-clip-bias",   "internlm2-clip-text",     "internlm2-clip-two-images",
        "phi3-internvit",     "phi3-internvit-border", "phi3-internvit-longrope", "phi3-internvit-rms",
        "phi3-internvit-text"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (argc < 2 || strcmp(argv[1], cases[i]) == 0)
            run_case(cases[i]);
    return test_summary("test-reference");
}
