/* test-misuse.c - calls of the interface as no program should make them: NULL everywhere, numbers at their ends, calls
 * in the wrong order, from within callbacks and after a cancel. Each must give an error with a sentence, or do nothing.
 */
#include <float.h>
#include <limits.h>

#include "session_cases.h"

static trol_error error;

/* A call that must fail with a status and a sentence that names something. */
#define REFUSED(expected, text, call)                                                                                  \
    do {                                                                                                               \
        error = (trol_error){0};                                                                                       \
        const trol_status status_ = (call);                                                                            \
        CHECK(status_ == (expected) && error.status == status_ && strstr(error.message, text),                         \
              "status %d (%d), \"%s\"", (int)status_, (int)error.status, error.message);                               \
    } while (0)

#define NULLS(call) REFUSED(TROL_ERROR_ARGUMENT, "", call)

/* ---- NULL ------------------------------------------------------------------------------------ */

static void check_null_model(void) {
    trol_model *model = (trol_model *)1;
    trol_model_info info = {.size = sizeof info};
    trol_threads *threads = NULL;
    trol_image *image = NULL;
    trol_features *features = NULL;
    trol_session *session = NULL;
    trol_stream *stream = NULL;
    trol_constraint *constraint = NULL;
    int32_t *tokens = NULL;
    size_t n = 0;
    char *text = NULL;
    NULLS(trol_model_load(NULL, NULL, &model, &error));
    CHECK(model == NULL, "the out-pointer");
    NULLS(trol_model_load("a", NULL, NULL, &error));
    NULLS(trol_model_get_info(NULL, &info, &error));
    NULLS(trol_threads_new(1, NULL, &error));
    NULLS(trol_threads_new(-1, &threads, &error));
    NULLS(trol_threads_new(257, &threads, &error));
    NULLS(trol_inspect(NULL, 0, NULL, NULL, &error));
    NULLS(trol_tokenize(NULL, "a", 1, 0, &tokens, &n, &error));
    NULLS(trol_detokenize(NULL, NULL, 0, 0, &text, &error));
    NULLS(trol_token_bytes(NULL, 1, &text, &n, &error));
    NULLS(trol_image_load_file(NULL, NULL, &image, &error));
    NULLS(trol_image_load_file("a", NULL, NULL, &error));
    NULLS(trol_image_load_memory(NULL, 1, NULL, &image, &error));
    NULLS(trol_image_load_memory("a", 1, NULL, NULL, &error));
    NULLS(trol_image_load_rgb(NULL, 1, 1, 3, &image, &error));
    NULLS(trol_image_upright(NULL, &image, &error));
    NULLS(trol_encode_image(NULL, NULL, &features, &error));
    NULLS(trol_encode_images(NULL, NULL, 1, NULL, NULL, &features, &error));
    NULLS(trol_observe_image(NULL, NULL, NULL, NULL, &error));
    NULLS(trol_session_new(NULL, NULL, &session, &error));
    NULLS(trol_session_load(NULL, "a", NULL, &session, NULL, &error));
    NULLS(trol_render_prompt(NULL, NULL, 0, NULL, 0, 0, &tokens, &n, &error));
    NULLS(trol_stream_new(NULL, NULL, &stream, &error));
    NULLS(trol_constraint_new_json(NULL, &constraint, &error));
    NULLS(trol_constraint_new_json_schema(NULL, "{}", 2, &constraint, &error));
    NULLS(trol_constraint_new_gbnf(NULL, "root ::= \"a\"", 12, &constraint, &error));
    NULLS(trol_constraint_new_custom(NULL, NULL, NULL, &constraint, &error));
    NULLS(trol_measure_peaks(1, NULL, &error));
    NULLS(trol_quantize(NULL, NULL, NULL, &error));
}

static void check_null_session(void) {
    const int32_t token = 1;
    trol_session *session = NULL;
    trol_beam_list *list = NULL;
    trol_session_stats stats = {.size = sizeof stats};
    NULLS(trol_session_set_prompt(NULL, NULL, 0, NULL, 0, &error));
    NULLS(trol_session_set_prompt_features(NULL, NULL, 0, NULL, 0, &error));
    NULLS(trol_session_ask(NULL, NULL, NULL, 0, &error));
    NULLS(trol_session_prefill(NULL, &token, 1, NULL, 0, &error));
    NULLS(trol_session_prompt_begin(NULL, 1, NULL, 0, &error));
    NULLS(trol_session_prompt_append(NULL, &token, 1, &error));
    NULLS(trol_session_prompt_end(NULL, &error));
    NULLS(trol_session_decode(NULL, 1, &error));
    NULLS(trol_decode_batch(&session, &token, 1, &error));
    NULLS(trol_decode_batch(NULL, &token, 1, &error));
    NULLS(trol_session_truncate(NULL, 0, &error));
    NULLS(trol_session_fork(NULL, &session, &error));
    NULLS(trol_session_fork(NULL, NULL, &error));
    NULLS(trol_session_save(NULL, NULL, "a", &error));
    NULLS(trol_generate(NULL, NULL, NULL, NULL, NULL, &error));
    NULLS(trol_beams(NULL, NULL, &list, &error));
    NULLS(trol_beams(NULL, NULL, NULL, &error));
    trol_session_set_logits_callback(NULL, NULL, NULL);
    trol_session_set_observer(NULL, NULL, NULL);
    trol_session_cancel(NULL);
    trol_session_get_stats(NULL, &stats);
    CHECK(!trol_session_logits(NULL) && !trol_session_tokens(NULL) && !trol_session_gates(NULL, 0) &&
              trol_session_n_tokens(NULL) == 0 && trol_session_skipped_in_layer(NULL, 0) == 0,
          "of no session");
}

static void check_null_others(void) {
    trol_sampler *sampler = NULL;
    trol_constraint *constraint = NULL;
    uint64_t allowed[1];
    int64_t n = 0;
    const char *text = NULL;
    float logits[2] = {1, 2};
    NULLS(trol_sampler_new(NULL, NULL, &error));
    NULLS(trol_sampler_clone(NULL, NULL, &error));
    CHECK(trol_sampler_choose(NULL, logits, 2) == 1 && trol_sampler_choose(NULL, NULL, 2) == -1 &&
              trol_sampler_choose(NULL, logits, 0) == -1 && trol_sampler_choose(NULL, logits, -1) == -1,
          "a greedy choice");
    CHECK(trol_logprobs(NULL, 2, 0, NULL, 0) == -INFINITY && trol_logprobs(logits, 0, 0, NULL, 0) == -INFINITY &&
              trol_logprobs(logits, 2, -1, NULL, 3) == -INFINITY && trol_logprobs(logits, 2, 2, NULL, -1) == -INFINITY,
          "log-probabilities of nothing");
    CHECK_OK(trol_sampler_begin(NULL, NULL, 0, &error), error);
    CHECK_OK(trol_sampler_accept(NULL, 1, &error), error);
    trol_sampler_set_state(NULL, 1);
    CHECK(trol_sampler_state(NULL) == 0, "the state of no sampler");
    CHECK_OK(trol_sampler_new(NULL, &sampler, &error), error);
    NULLS(trol_sampler_begin(sampler, NULL, 1, &error));
    trol_sampler_free(sampler);
    NULLS(trol_constraint_clone(NULL, &constraint, &error));
    NULLS(trol_constraint_reset(NULL, &error));
    NULLS(trol_constraint_fill(NULL, 1, allowed, &error));
    NULLS(trol_constraint_accept(NULL, 1, &error));
    NULLS(trol_constraint_min_tokens(NULL, &n, &error));
    CHECK(trol_constraint_complete(NULL) == 0 || trol_constraint_complete(NULL) == 1, "no constraint");
    NULLS(trol_stream_put(NULL, 1, &text, NULL, &error));
    NULLS(trol_stream_end(NULL, &text, &error));
    trol_stream_reset(NULL);
    CHECK(!trol_image_pixels(NULL) && trol_image_width(NULL) == 0 && trol_image_height(NULL) == 0 &&
              trol_image_orientation(NULL) == 1 && !trol_features_data(NULL) && trol_features_n_tokens(NULL) == 0 &&
              trol_features_n_tiles(NULL) == 0 && trol_beam_list_count(NULL) == 0 && !trol_beam_list_get(NULL, 0),
          "of nothing");
    trol_free(NULL), trol_threads_free(NULL), trol_model_free(NULL), trol_image_free(NULL), trol_features_free(NULL);
    trol_session_free(NULL), trol_stream_free(NULL), trol_sampler_free(NULL), trol_constraint_free(NULL);
    trol_beam_list_free(NULL);
    trol_threads_hold(NULL), trol_threads_release(NULL);
    trol_model_params_init(NULL), trol_image_params_init(NULL), trol_session_params_init(NULL);
    trol_stream_params_init(NULL), trol_sampler_params_init(NULL), trol_generate_params_init(NULL);
    trol_beams_params_init(NULL), trol_quantize_params_init(NULL);
    CHECK(trol_status_text(TROL_OK) && trol_status_text((trol_status)-99) && trol_status_text((trol_status)99),
          "texts");
    CHECK(trol_model_load(NULL, NULL, NULL, NULL) == TROL_ERROR_ARGUMENT, "without an error");
}

/* ---- the ends of numbers --------------------------------------------------------------------- */

static void check_extremes(const session_case *c) {
    static const int32_t counts[2] = {INT32_MIN, -1};
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 64);
    trol_image *image = NULL;
    const uint8_t pixel[3] = {1, 2, 3};
    const int32_t token = 5;
    NULLS(trol_session_prefill(s, NULL, 1, NULL, 0, &error));
    NULLS(trol_session_prefill(s, &token, 0, NULL, 0, &error));
    NULLS(trol_session_prefill(s, &token, 1, NULL, SIZE_MAX, &error));
    NULLS(trol_session_prompt_begin(s, 1, NULL, SIZE_MAX, &error));
    REFUSED(TROL_ERROR_CONTEXT, "does not fit", trol_session_prompt_begin(s, SIZE_MAX, NULL, 0, &error));
    NULLS(trol_session_truncate(s, SIZE_MAX, &error));
    static const int32_t ids[] = {-1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(trol_session_prefill(s, &token, 1, NULL, 0, &error), error);
        NULLS(trol_session_decode(s, ids[i], &error));
        NULLS(trol_session_prefill(s, &ids[i], 1, NULL, 0, &error));
        CHECK(trol_session_skipped_in_layer(s, ids[i]) == 0 && !trol_session_gates(s, ids[i]), "a layer");
    }
    trol_step_item item = {.session = s, .tokens = &token, .n_tokens = SIZE_MAX, .error = &error};
    CHECK_OK(trol_session_prompt_begin(s, 2, NULL, 0, &error), error);
    CHECK_OK(trol_step(&item, 1, NULL), error);
    CHECK(item.status == TROL_ERROR_ARGUMENT && strstr(error.message, "came"), "%s", error.message);
    NULLS(trol_image_load_rgb(pixel, 0, 1, 3, &image, &error));
    NULLS(trol_image_load_rgb(pixel, 1, -1, 3, &image, &error));
    REFUSED(TROL_ERROR_UNSUPPORTED, "pixels",
            trol_image_load_rgb(pixel, INT32_MAX, INT32_MAX, SIZE_MAX, &image, &error));
    NULLS(trol_image_load_rgb(pixel, 2, 2, 3, &image, &error));
    int32_t *tokens = NULL;
    size_t n = 0;
    const trol_message message = {.role = TROL_ROLE_USER, .text = "a"};
    const trol_message odd = {.role = (trol_role)7, .text = "a"};
    const trol_message none = {.role = TROL_ROLE_USER};
    const int32_t many = INT32_MAX;
    REFUSED(TROL_ERROR_ARGUMENT, "expected 1 to",
            trol_render_prompt(c->model, &message, 1, &many, 1, 0, &tokens, &n, &error));
    for (size_t i = 0; i < 2; i++)
        CHECK(trol_render_prompt(c->model, &message, 1, &counts[i], 1, 0, &tokens, &n, &error) != TROL_OK && !tokens,
              "a picture of %d tokens", counts[i]);
    NULLS(trol_render_prompt(c->model, &message, 1, NULL, 1, 0, &tokens, &n, &error));
    NULLS(trol_render_prompt(c->model, &message, 1, NULL, 0, 77, &tokens, &n, &error));
    NULLS(trol_render_prompt(c->model, &message, 0, NULL, 0, 0, &tokens, &n, &error));
    NULLS(trol_render_prompt(c->model, &odd, 1, NULL, 0, 0, &tokens, &n, &error));
    NULLS(trol_render_prompt(c->model, &none, 1, NULL, 0, 0, &tokens, &n, &error));
    NULLS(trol_render_prompt(c->model, NULL, 1, NULL, 0, 0, &tokens, &n, &error));
    trol_session_free(s);
}

static void check_params(const session_case *c) {
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 64);
    const int32_t prompt[] = {5, 6, 7};
    CHECK_OK(trol_session_prefill(s, prompt, 3, NULL, 0, &error), error);
    trol_generate_params g;
    trol_beams_params b;
    trol_beam_list *list = NULL;
    trol_stop stop;
    for (int i = 0; i < 7; i++) {
        trol_generate_params_init(&g);
        const char *const nothing[] = {NULL}, *const empty[] = {""};
        if (i == 0)
            g.max_tokens = -1;
        if (i == 1)
            g.lookup = INT32_MAX;
        if (i == 2)
            g.n_top_logprobs = INT32_MIN;
        if (i == 3)
            g.n_stops = SIZE_MAX;
        if (i == 4)
            g.size = 3;
        if (i >= 5) {
            g.stops = i == 5 ? nothing : empty;
            g.n_stops = 1;
        }
        NULLS(trol_generate(s, &g, NULL, NULL, &stop, &error));
    }
    trol_generate_params_init(&g);
    g.n_top_logprobs = INT32_MAX; /* as many as there are */
    g.max_tokens = 1;
    (void)!trol_generate(s, &g, NULL, NULL, &stop, &error);
    for (int i = 0; i < 7; i++) {
        trol_beams_params_init(&b);
        const int32_t end = INT32_MAX;
        if (i == 0)
            b.n_beams = -1;
        if (i == 1)
            b.n_beams = INT32_MAX;
        if (i == 2)
            b.max_tokens = INT32_MIN;
        if (i == 3)
            b.length_penalty = NAN;
        if (i == 4)
            b.n_end_tokens = SIZE_MAX;
        if (i == 5)
            b.n_stops = 1;
        if (i == 6) {
            b.n_end_tokens = 1;
            b.end_tokens = &end;
        }
        const trol_status status = trol_beams(s, &b, &list, &error);
        CHECK(i == 6 ? status == TROL_OK || status == TROL_ERROR_ARGUMENT : status == TROL_ERROR_ARGUMENT,
              "beams %d: status %d, %s", i, (int)status, error.message);
        trol_beam_list_free(list);
    }
    trol_beams_params_init(&b);
    b.max_tokens = INT32_MAX; /* the context ends it */
    b.n_beams = 64;
    CHECK_OK(trol_beams(s, &b, &list, &error), error);
    trol_beam_list_free(list);
    trol_session_free(s);
}

static void check_samplers(void) {
    const float bad[] = {NAN, INFINITY, -INFINITY, -1, FLT_MAX};
    for (size_t i = 0; i < 5; i++)
        for (int k = 0; k < 6; k++) {
            trol_sampler_params p;
            trol_sampler *sampler = NULL;
            float logits[4] = {1, -2, FLT_MAX, -FLT_MAX};
            trol_sampler_params_init(&p);
            p.temperature = 1;
            *(k == 0   ? &p.temperature
              : k == 1 ? &p.top_p
              : k == 2 ? &p.min_p
              : k == 3 ? &p.repeat_penalty
              : k == 4 ? &p.presence_penalty
                       : &p.frequency_penalty) = bad[i];
            if (trol_sampler_new(&p, &sampler, &error) != TROL_OK)
                continue;
            for (int n = 0; n < 5; n++) {
                const int32_t token = trol_sampler_choose(sampler, logits, 4);
                CHECK(token >= 0 && token < 4, "parameter %d of %g: token %d", k, (double)bad[i], token);
                CHECK_OK(trol_sampler_accept(sampler, token, &error), error);
            }
            trol_sampler_free(sampler);
        }
    trol_sampler_params p;
    trol_sampler *sampler = NULL;
    trol_sampler_params_init(&p);
    p.n_bias = SIZE_MAX;
    NULLS(trol_sampler_new(&p, &sampler, &error));
}

/* ---- the wrong order ------------------------------------------------------------------------- */

static void check_order(const session_case *c) {
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 64), *fork = NULL;
    trol_beam_list *list = NULL;
    const int32_t prompt[] = {5, 6, 7};
    REFUSED(TROL_ERROR_STATE, "no prompt", trol_session_decode(s, 1, &error));
    REFUSED(TROL_ERROR_STATE, "no prompt", trol_generate(s, NULL, NULL, NULL, NULL, &error));
    REFUSED(TROL_ERROR_STATE, "", trol_beams(s, NULL, &list, &error));
    REFUSED(TROL_ERROR_STATE, "begun", trol_session_prompt_append(s, prompt, 1, &error));
    REFUSED(TROL_ERROR_STATE, "begun", trol_session_prompt_end(s, &error));
    CHECK_OK(trol_session_prompt_begin(s, 3, NULL, 0, &error), error);
    REFUSED(TROL_ERROR_STATE, "ended", trol_session_decode(s, 1, &error));
    REFUSED(TROL_ERROR_STATE, "", trol_generate(s, NULL, NULL, NULL, NULL, &error));
    REFUSED(TROL_ERROR_STATE, "", trol_beams(s, NULL, &list, &error));
    REFUSED(TROL_ERROR_STATE, "ended", trol_session_fork(s, &fork, &error));
    REFUSED(TROL_ERROR_STATE, "ended", trol_session_truncate(s, 0, &error));
    REFUSED(TROL_ERROR_STATE, "ended", trol_session_save(s, NULL, "/dev/null", &error));
    CHECK_OK(trol_session_prompt_append(s, NULL, 0, &error), error);
    CHECK_OK(trol_session_prompt_append(s, prompt, 3, &error), error);
    REFUSED(TROL_ERROR_ARGUMENT, "came", trol_session_prompt_append(s, prompt, 1, &error));
    REFUSED(TROL_ERROR_STATE, "", trol_generate(s, NULL, NULL, NULL, NULL, &error));
    /* After a prompt that failed there is nothing to answer, in whatever way it failed. */
    for (int i = 0; i < 6; i++) {
        CHECK_OK(trol_session_prefill(s, prompt, 3, NULL, 0, &error), error);
        trol_image *one_pixel = NULL;
        const uint8_t rgb[3] = {1, 2, 3};
        const int32_t bad = INT32_MAX;
        char *text = calloc(1, 100000);
        CHECK_OK(trol_image_load_rgb(rgb, 1, 1, 3, &one_pixel, &error), error);
        memset(text, 'a', 99999);
        trol_status status = TROL_OK;
        if (i == 0)
            status = trol_session_prefill(s, &bad, 1, NULL, 0, &error);
        if (i == 1)
            status = trol_session_ask(s, text, NULL, 0, &error);
        if (i == 2) {
            trol_session_cancel(s);
            status = trol_session_ask(s, "a", (const trol_image *const *)&one_pixel, 1, &error);
        }
        if (i == 3)
            status = trol_session_prefill(s, &c->info.image_token, 1, NULL, 0, &error);
        if (i == 4)
            status = trol_session_ask(s, "\xff", NULL, 0, &error);
        if (i == 5)
            status = trol_session_prompt_begin(s, SIZE_MAX, NULL, 0, &error);
        CHECK(status != TROL_OK, "prompt %d is refused", i);
        CHECK(!trol_session_logits(s), "prompt %d (%s): logits of the prompt before it", i, error.message);
        REFUSED(TROL_ERROR_STATE, "", trol_generate(s, NULL, NULL, NULL, NULL, &error));
        REFUSED(TROL_ERROR_STATE, "", trol_session_decode(s, 1, &error));
        if (i == 2) /* the cancel may still be pending for a call that computes */
            (void)!trol_session_prefill(s, prompt, 3, NULL, 0, NULL);
        trol_image_free(one_pixel);
        free(text);
    }
    trol_session_free(s);
}

/* ---- callbacks that call back ---------------------------------------------------------------- */

typedef struct caller {
    const session_case *c;
    trol_session *session;
    int n_calls, n_refused;
} caller;

/* All calls that would change the session, from within its own call. */
static int call_back(caller *k) {
    static const int32_t prompt[] = {5, 6, 7};
    trol_error e = {0};
    trol_beam_list *list = NULL;
    const trol_message message = {.role = TROL_ROLE_USER, .text = "a"};
    const int32_t token = 9;
    trol_step_item item = {.session = k->session, .tokens = &token, .n_tokens = 1};
    const trol_status statuses[] = {trol_session_decode(k->session, 9, &e),
                                    trol_session_truncate(k->session, 0, &e),
                                    trol_session_prefill(k->session, prompt, 3, NULL, 0, &e),
                                    trol_session_prompt_begin(k->session, 3, NULL, 0, &e),
                                    trol_session_prompt_append(k->session, prompt, 1, &e),
                                    trol_session_prompt_end(k->session, &e),
                                    trol_session_set_prompt(k->session, &message, 1, NULL, 0, &e),
                                    trol_generate(k->session, NULL, NULL, NULL, NULL, &e),
                                    trol_beams(k->session, NULL, &list, &e),
                                    trol_step(&item, 1, &e) == TROL_OK ? item.status : TROL_OK};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        CHECK(statuses[i] == TROL_ERROR_STATE, "call %zu from a callback: status %d, %s", i, (int)statuses[i],
              e.message);
    /* Another session of the same model may be used. */
    if (k->n_calls++ == 0) {
        trol_session *other = open_session(k->c->model, TROL_TRAVERSAL_PROMPT, 0, 64);
        CHECK_OK(trol_session_prefill(other, prompt, 3, NULL, 0, &e), e);
        CHECK_OK(trol_session_decode(other, 9, &e), e);
        trol_session_free(other);
    }
    return 0;
}

static int from_text(void *user, const char *text) {
    (void)text;
    return call_back(user);
}

static int from_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    (void)position, (void)logits, (void)vocab_size;
    return call_back(user);
}

static int from_token(void *user, const trol_token_info *info) {
    (void)info;
    return call_back(user);
}

static int from_progress(void *user, trol_stage stage, int64_t done, int64_t total) {
    (void)stage, (void)done, (void)total;
    return call_back(user);
}

static int from_observer(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows, int64_t n_columns,
                         const float *values) {
    (void)stage, (void)layer, (void)first, (void)n_rows, (void)n_columns, (void)values;
    return call_back(user);
}

static void check_callbacks(const session_case *c) {
    static const int32_t prompt[] = {5, 6, 7, 8, 9, 10};
    trol_session_params params;
    trol_generate_params generate;
    trol_session *alone = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 64);
    caller k = {.c = c};
    trol_session_params_init(&params);
    params.cache_type = TROL_CACHE_F32;
    params.context_size = 64;
    params.progress = from_progress;
    params.progress_user = &k;
    CHECK_OK(trol_session_new(c->model, &params, &k.session, &error), error);
    trol_session_set_observer(k.session, from_observer, &k);
    trol_session_set_logits_callback(k.session, from_logits, &k);
    CHECK_OK(trol_session_prefill(k.session, prompt, 6, NULL, 0, &error), error);
    CHECK_OK(trol_session_prefill(alone, prompt, 6, NULL, 0, &error), error);
    CHECK(k.n_calls > 0 && equal_logits(c, k.session, alone), "a prompt whose callbacks call back");
    trol_generate_params_init(&generate);
    generate.max_tokens = 4;
    generate.ignore_eos = 1;
    CHECK_OK(trol_generate(alone, &generate, NULL, NULL, NULL, &error), error);
    generate.token = from_token;
    generate.logits = from_logits;
    generate.token_user = generate.logits_user = &k;
    CHECK_OK(trol_generate(k.session, &generate, from_text, &k, NULL, &error), error);
    CHECK(equal_logits(c, k.session, alone), "an answer whose callbacks call back");
    trol_session_free(k.session);
    trol_session_free(alone);
}

int main(void) {
    check_null_model();
    check_null_session();
    check_null_others();
    check_samplers();
    static const char *const names[] = {"e2e-internlm2", "e2e-phi3"};
    for (size_t i = 0; i < 2; i++) {
        session_case c = {.info = {.size = sizeof c.info}};
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, names[i]);
        c.model = load_model(path, 2);
        CHECK_OK(trol_model_get_info(c.model, &c.info, &error), error);
        check_extremes(&c);
        check_params(&c);
        check_order(&c);
        check_callbacks(&c);
        close_case(&c);
    }
    return test_summary("test-misuse");
}
