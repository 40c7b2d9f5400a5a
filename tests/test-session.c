/* test-session.c - the rules of sessions: what a call refuses and how, structs of older callers, a full context,
 * cancelling, progress, several threads on one model. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/model.h"
#include "session_cases.h"

/* CPU time of all threads: what a cancel takes is measured by it, other programs on the machine do not count. */
static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what is refused ----------------------------------------------------------------------------------------------
 */

static void check_null_pointers(const session_case *c) {
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 0), *out = s;
    trol_model *model = c->model;
    trol_features *features = c->features;
    trol_image *image = (trol_image *)c;
    trol_threads *threads = (trol_threads *)c;
    trol_model_info info = {.size = sizeof info};
    int32_t *ids = c->ids;
    size_t n = 1;
    char *text = "x";
    const trol_message message = {.role = TROL_ROLE_USER, .text = NULL};

    CHECK_REFUSED(trol_threads_new(1, NULL, &refused), TROL_ERROR_ARGUMENT, "out-pointer");
    CHECK_REFUSED(trol_threads_new(257, &threads, &refused), TROL_ERROR_ARGUMENT, "257");
    CHECK(threads == NULL, "the out-pointer of a refused call");
    CHECK_REFUSED(trol_model_load("/", NULL, NULL, &refused), TROL_ERROR_ARGUMENT, "out-pointer");
    CHECK_REFUSED(trol_model_load(NULL, NULL, &model, &refused), TROL_ERROR_ARGUMENT, "path");
    CHECK(model == NULL, "the out-pointer of a refused call");
    CHECK_REFUSED(trol_model_get_info(NULL, &info, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_model_get_info(c->model, NULL, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_tokenize(NULL, "a", 1, 0, &ids, &n, &refused), TROL_ERROR_ARGUMENT, "model");
    CHECK(ids == NULL && n == 0, "the out-pointers of a refused call");
    CHECK_REFUSED(trol_tokenize(c->model, "a", 1, 0, &ids, &n, &refused), TROL_ERROR_STATE, "tokenizer.model");
    CHECK_REFUSED(trol_tokenize(c->model, "a", 1, 0, NULL, &n, &refused), TROL_ERROR_ARGUMENT, "out-pointer");
    CHECK_REFUSED(trol_detokenize(NULL, c->ids, 1, 0, &text, &refused), TROL_ERROR_ARGUMENT, "model");
    CHECK(text == NULL, "the out-pointer of a refused call");
    CHECK_REFUSED(trol_image_load_file(NULL, NULL, &image, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK(image == NULL, "the out-pointer of a refused call");
    CHECK_REFUSED(trol_image_load_memory(NULL, 5, NULL, &image, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_image_load_rgb(NULL, 1, 1, 3, &image, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_image_upright(NULL, &image, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_encode_image(c->model, NULL, &features, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK(features == NULL, "the out-pointer of a refused call");
    CHECK_REFUSED(trol_observe_image(c->model, NULL, NULL, NULL, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_session_new(NULL, NULL, &out, &refused), TROL_ERROR_ARGUMENT, "model");
    CHECK(out == NULL, "the out-pointer of a refused call");
    CHECK_REFUSED(trol_session_new(c->model, NULL, NULL, &refused), TROL_ERROR_ARGUMENT, "out-pointer");
    CHECK_REFUSED(trol_session_fork(NULL, &out, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_fork(s, NULL, &refused), TROL_ERROR_ARGUMENT, "out-pointer");
    CHECK_REFUSED(trol_session_set_prompt(NULL, &message, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT,
                  "session is NULL");
    CHECK_REFUSED(trol_session_set_prompt_features(NULL, &message, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT,
                  "session is NULL");
    CHECK_REFUSED(trol_session_ask(NULL, "x", NULL, 0, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_ask(s, "x", NULL, 0, &refused), TROL_ERROR_STATE, "tokenizer.model");
    CHECK_REFUSED(trol_session_prefill(NULL, c->ids, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_prefill(s, NULL, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT, "tokens are NULL");
    CHECK_REFUSED(trol_session_prefill(s, c->ids, 0, NULL, 0, &refused), TROL_ERROR_ARGUMENT, "no tokens");
    CHECK_REFUSED(trol_session_prompt_begin(NULL, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_prompt_begin(s, 1, NULL, 1, &refused), TROL_ERROR_ARGUMENT, "pictures are NULL");
    CHECK_REFUSED(trol_session_prompt_begin(s, 1, &features, 1, &refused), TROL_ERROR_ARGUMENT, "picture 1");
    CHECK_REFUSED(trol_session_prompt_append(NULL, c->ids, 1, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_prompt_end(NULL, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_decode(NULL, 1, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_decode_batch(NULL, c->ids, 1, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_session_truncate(NULL, 0, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_save(NULL, NULL, "/x", &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_session_save(s, NULL, NULL, &refused), TROL_ERROR_ARGUMENT, "path");
    CHECK_REFUSED(trol_session_load(c->model, NULL, NULL, &out, NULL, &refused), TROL_ERROR_ARGUMENT, "path");
    CHECK_REFUSED(trol_session_load(NULL, "/x", NULL, &out, NULL, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK_REFUSED(trol_generate(NULL, NULL, NULL, NULL, NULL, &refused), TROL_ERROR_ARGUMENT, "session is NULL");
    CHECK_REFUSED(trol_sampler_new(NULL, NULL, &refused), TROL_ERROR_ARGUMENT, "out-pointer");
    CHECK_REFUSED(trol_inspect(NULL, 0, NULL, NULL, &refused), TROL_ERROR_ARGUMENT, "NULL");
    CHECK(trol_session_decode(NULL, 1, NULL) == TROL_ERROR_ARGUMENT, "without a trol_error");
    /* Calls without a status accept NULL silently. */
    trol_session_free(NULL);
    trol_model_free(NULL);
    trol_features_free(NULL);
    trol_image_free(NULL);
    trol_threads_free(NULL);
    trol_sampler_free(NULL);
    trol_free(NULL);
    trol_session_cancel(NULL);
    trol_session_set_observer(NULL, NULL, NULL);
    trol_session_set_logits_callback(NULL, NULL, NULL);
    trol_session_get_stats(NULL, NULL);
    trol_session_params_init(NULL);
    CHECK(!trol_session_logits(NULL) && !trol_session_tokens(NULL) && trol_session_n_tokens(NULL) == 0, "NULL");
    CHECK(!trol_features_data(NULL) && trol_features_n_tokens(NULL) == 0 && trol_image_width(NULL) == 0, "NULL");
    CHECK(trol_sampler_choose(NULL, NULL, 0) == -1, "NULL");
    trol_session_free(s);
}

static void check_parameters(const session_case *c) {
    trol_session *s;
    trol_session_params p;
    trol_model *model;
    trol_model_params m;
    char folder[1024];
    snprintf(folder, sizeof folder, "%s/internlm2-clip", TEST_REFERENCE);
#define WITH(init, params, change) (init(&(params)), (void)(change), &(params))
    CHECK_REFUSED(trol_session_new(c->model, WITH(trol_session_params_init, p, p.context_size = -1), &s, &refused),
                  TROL_ERROR_ARGUMENT, "context_size is -1");
    CHECK_REFUSED(trol_session_new(c->model, WITH(trol_session_params_init, p, p.traversal = 3), &s, &refused),
                  TROL_ERROR_ARGUMENT, "traversal is 3");
    CHECK_REFUSED(trol_session_new(c->model, WITH(trol_session_params_init, p, p.cache_type = 3), &s, &refused),
                  TROL_ERROR_ARGUMENT, "cache_type is 3");
    CHECK_REFUSED(trol_session_new(c->model, WITH(trol_session_params_init, p, p.traversal_skip = 1.5f), &s, &refused),
                  TROL_ERROR_ARGUMENT, "traversal_skip");
    CHECK_REFUSED(trol_session_new(c->model, WITH(trol_session_params_init, p, p.traversal_skip = NAN), &s, &refused),
                  TROL_ERROR_ARGUMENT, "traversal_skip");
    CHECK_REFUSED(trol_session_new(c->model, WITH(trol_session_params_init, p, p.size = 0), &s, &refused),
                  TROL_ERROR_ARGUMENT, "trol_session_params.size is 0");
    CHECK_REFUSED(trol_session_new(c->model, WITH(trol_session_params_init, p, p.size = (size_t)1 << 40), &s, &refused),
                  TROL_ERROR_ARGUMENT, "size");
    CHECK(s == NULL, "the out-pointer of a refused call");
    CHECK_REFUSED(trol_model_load(folder, WITH(trol_model_params_init, m, m.weight_type = 77), &model, &refused),
                  TROL_ERROR_ARGUMENT, "weight_type is 77");
    CHECK_REFUSED(trol_model_load(folder, WITH(trol_model_params_init, m, m.vision_type = -1), &model, &refused),
                  TROL_ERROR_ARGUMENT, "vision_type is -1");
    CHECK_REFUSED(trol_model_load(folder, WITH(trol_model_params_init, m, m.compute = 5), &model, &refused),
                  TROL_ERROR_ARGUMENT, "compute is 5");
    CHECK_REFUSED(trol_model_load(folder, WITH(trol_model_params_init, m, m.n_threads = -3), &model, &refused),
                  TROL_ERROR_ARGUMENT, "-3");
    CHECK_REFUSED(trol_model_load(folder, WITH(trol_model_params_init, m, m.size = 4), &model, &refused),
                  TROL_ERROR_ARGUMENT, "trol_model_params.size is 4");
#undef WITH
}

static void check_order_and_tokens(const session_case *c) {
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 64), *out = NULL;
    int32_t token = 5, bad = c->info.n_tokens, image = c->info.image_token;
    CHECK_REFUSED(trol_session_decode(s, token, &refused), TROL_ERROR_STATE, "no prompt");
    CHECK_REFUSED(trol_generate(s, NULL, NULL, NULL, NULL, &refused), TROL_ERROR_STATE, "no prompt");
    CHECK_REFUSED(trol_session_prompt_append(s, &token, 1, &refused), TROL_ERROR_STATE, "no prompt was begun");
    CHECK_REFUSED(trol_session_prompt_end(s, &refused), TROL_ERROR_STATE, "no prompt was begun");
    CHECK_REFUSED(trol_session_truncate(s, 1, &refused), TROL_ERROR_ARGUMENT, "holds 0 tokens");
    CHECK_REFUSED(trol_session_prompt_begin(s, 65, NULL, 0, &refused), TROL_ERROR_CONTEXT, "65 tokens");
    CHECK_REFUSED(trol_session_prefill(s, &bad, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT, "token id 513");
    bad = -1;
    CHECK_REFUSED(trol_session_prefill(s, &bad, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT, "token id -1");
    CHECK_REFUSED(trol_session_prefill(s, &image, 1, NULL, 0, &refused), TROL_ERROR_ARGUMENT, "1 image tokens");
    CHECK_REFUSED(trol_session_prefill(s, &token, 1, &c->features, 1, &refused), TROL_ERROR_ARGUMENT, "0 image tokens");

    trol_error error = {0};
    CHECK_OK(trol_session_prompt_begin(s, 3, NULL, 0, &error), error);
    CHECK_REFUSED(trol_session_decode(s, token, &refused), TROL_ERROR_STATE, "has not ended");
    CHECK_REFUSED(trol_generate(s, NULL, NULL, NULL, NULL, &refused), TROL_ERROR_STATE, "no prompt");
    CHECK_REFUSED(trol_session_truncate(s, 0, &refused), TROL_ERROR_STATE, "has not ended");
    CHECK_REFUSED(trol_session_fork(s, &out, &refused), TROL_ERROR_STATE, "has not ended");
    CHECK_REFUSED(trol_session_save(s, NULL, "/nowhere/x", &refused), TROL_ERROR_STATE, "has not ended");
    CHECK_OK(trol_session_prompt_append(s, c->ids, 2, &error), error);
    CHECK_REFUSED(trol_session_prompt_end(s, &refused), TROL_ERROR_STATE, "only 2 came");
    CHECK(trol_session_logits(s) == NULL, "an unfinished prompt has logits");
    CHECK_OK(trol_session_prompt_begin(s, 3, NULL, 0, &error), error);
    CHECK_REFUSED(trol_session_prompt_append(s, c->ids, 4, &refused), TROL_ERROR_ARGUMENT, "4 came");
    CHECK_REFUSED(trol_session_prompt_end(s, &refused), TROL_ERROR_STATE, "it failed");
    CHECK_OK(trol_session_prompt_begin(s, 3, &c->features, 1, &error), error); /* pictures without tokens for them */
    CHECK_OK(trol_session_prompt_append(s, c->ids, 3, &error), error);
    CHECK_REFUSED(trol_session_prompt_end(s, &refused), TROL_ERROR_ARGUMENT, "0 image tokens");

    session_case other = open_case("internlm2-clip-text", 1);
    trol_session *foreign = open_session(other.model, TROL_TRAVERSAL_PROMPT, 0, 64);
    prefill_case(&other, foreign, other.ids, 3);
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK_REFUSED(trol_session_prefill(foreign, c->ids, c->n_ids, &c->features, 1, &refused), TROL_ERROR_ARGUMENT,
                  "another model");
    CHECK(trol_session_logits(foreign) == NULL, "a refused prompt left the old one's logits to be answered");
    CHECK_REFUSED(trol_decode_batch((trol_session *[]){s, foreign}, (int32_t[]){1, 1}, 2, &refused),
                  TROL_ERROR_ARGUMENT, "another model");
    CHECK_REFUSED(trol_decode_batch((trol_session *[]){s, s}, (int32_t[]){1, 1}, 2, &refused), TROL_ERROR_ARGUMENT,
                  "the same");
    CHECK_REFUSED(trol_session_decode(s, 100000, &refused), TROL_ERROR_ARGUMENT, "token id 100000");
    CHECK_REFUSED(trol_session_truncate(s, c->n_ids + 1, &refused), TROL_ERROR_ARGUMENT, "asked to keep");
    CHECK(trol_session_n_tokens(s) == c->n_ids && trol_session_logits(s) != NULL, "a refused call changed the session");
    CHECK_OK(trol_decode_batch(NULL, NULL, 0, &error), error);
    CHECK_OK(trol_session_truncate(s, c->n_ids - 1, &error), error);
    CHECK(trol_session_logits(s) == NULL, "logits after a truncation");
    CHECK_REFUSED(trol_generate(s, NULL, NULL, NULL, NULL, &refused), TROL_ERROR_STATE, "no prompt");
    trol_session_free(s);
    trol_session_free(foreign);
    close_case(&other);
}

/* ---- structs of callers compiled earlier and later ----------------------------------------------------------------
 */

static void check_sizes(const session_case *c) {
    trol_error error = {0};
    trol_session *s = NULL;
    trol_session_params p;
    trol_session_params_init(&p);
    p.traversal_skip = 7; /* refused, but an earlier caller does not know the field */
    p.context_size = 2;
    p.size = offsetof(trol_session_params, traversal_skip);
    CHECK_OK(trol_session_new(c->model, &p, &s, &error), error);
    CHECK_REFUSED(trol_session_prompt_begin(s, 3, NULL, 0, &refused), TROL_ERROR_CONTEXT, "room for 2");
    trol_session_free(s);
    struct {
        trol_session_params params;
        char later[40];
    } larger;
    memset(&larger, 0x55, sizeof larger);
    trol_session_params_init(&larger.params);
    larger.params.size = sizeof larger;
    CHECK_OK(trol_session_new(c->model, &larger.params, &s, &error), error);

    trol_model_info info, whole = {.size = sizeof whole};
    memset(&info, 0x55, sizeof info);
    info.size = offsetof(trol_model_info, n_layers);
    CHECK_OK(trol_model_get_info(c->model, &info, &error), error);
    CHECK_OK(trol_model_get_info(c->model, &whole, &error), error);
    CHECK(info.size == offsetof(trol_model_info, n_layers) && info.hidden_size == whole.hidden_size,
          "what an earlier caller knows");
    CHECK(info.n_layers == 0x55555555, "memory behind an earlier caller's struct was written");
    CHECK(whole.n_layers == 3 && whole.size == sizeof whole, "%d layers", whole.n_layers);

    trol_session_stats stats;
    memset(&stats, 0x55, sizeof stats);
    stats.size = offsetof(trol_session_stats, image_tokens);
    trol_session_get_stats(s, &stats);
    CHECK(stats.prompt_tokens == 0 && stats.image_tokens == 0x5555555555555555, "stats of an earlier caller");
    trol_session_free(s);
}

/* ---- the context --------------------------------------------------------------------------------------------------
 */

static void check_context(const session_case *c) {
    trol_error error = {0};
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_ALL, 0, (int32_t)c->n_ids + 1);
    trol_session *roomy = open_session(c->model, TROL_TRAVERSAL_ALL, 0, 0);
    prefill_case(c, s, c->ids, c->n_ids);
    prefill_case(c, roomy, c->ids, c->n_ids);
    CHECK_OK(trol_session_decode(s, 5, &error), error);
    CHECK_OK(trol_session_decode(roomy, 5, &error), error);
    CHECK_REFUSED(trol_session_decode(s, 6, &refused), TROL_ERROR_CONTEXT, "31 tokens do not fit");
    CHECK(trol_session_n_tokens(s) == c->n_ids + 1 && equal_logits(c, s, roomy),
          "a decode that did not fit changed the session");
    CHECK_REFUSED(trol_decode_batch((trol_session *[]){roomy, s}, (int32_t[]){6, 6}, 2, &refused), TROL_ERROR_CONTEXT,
                  "31 tokens do not fit");
    CHECK(trol_session_n_tokens(roomy) == c->n_ids + 1 && equal_logits(c, s, roomy),
          "a batch that failed moved one of its sessions");
    CHECK_OK(trol_session_truncate(s, c->n_ids, &error), error);
    CHECK_OK(trol_session_decode(s, 5, &error), error);
    CHECK(equal_logits(c, s, roomy), "after a truncation");
    trol_session_free(s);
    trol_session_free(roomy);
    /* 0: the default; this model has 2048 positions, which is less than the smallest default. */
    trol_session_params p;
    trol_session_params_init(&p);
    CHECK_OK(trol_session_new(c->model, &p, &s, &error), error);
    CHECK_OK(trol_session_prompt_begin(s, 4096, NULL, 0, &error), error);
    CHECK_REFUSED(trol_session_prompt_begin(s, 4097, NULL, 0, &refused), TROL_ERROR_CONTEXT, "room for 4096");
    trol_session_free(s);
}

/* ---- progress and cancelling --------------------------------------------------------------------------------------
 */

typedef struct progress_log {
    int n_calls, cancel_at; /* 0: never */
    int64_t last_done, last_total;
    bool backwards;
} progress_log;

static int note_progress(void *user, trol_stage stage, int64_t done, int64_t total) {
    progress_log *log = user;
    CHECK(stage == TROL_STAGE_PREFILL && total > 0 && done >= 0 && done <= total, "stage %d, %lld of %lld", (int)stage,
          (long long)done, (long long)total);
    log->backwards = log->backwards || done < log->last_done;
    log->last_done = done;
    log->last_total = total;
    return ++log->n_calls == log->cancel_at;
}

/* A prompt that takes a while even here: the case's picture, then many tokens. */
static int32_t *long_prompt(const session_case *c, size_t n) {
    int32_t *ids = malloc(n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = i < c->n_ids ? c->ids[i] : (int32_t)(3 + i * 7919 % 500);
    return ids;
}

static void check_progress(const session_case *c) {
    enum { N_TOKENS = 1500 };
    trol_error error = {0};
    progress_log log = {0};
    trol_session_params p;
    trol_session *s = NULL, *fresh = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 0);
    int32_t *ids = long_prompt(c, N_TOKENS);
    trol_session_params_init(&p);
    p.progress = note_progress;
    p.progress_user = &log;
    p.cache_type = TROL_CACHE_F32;
    CHECK_OK(trol_session_new(c->model, &p, &s, &error), error);
    prefill_case(c, s, ids, N_TOKENS);
    CHECK(log.n_calls > 0 && !log.backwards && log.last_done == N_TOKENS && log.last_total == N_TOKENS,
          "%d calls, last %lld of %lld", log.n_calls, (long long)log.last_done, (long long)log.last_total);
    log = (progress_log){.cancel_at = 1};
    ids[1] = 7; /* nothing but the first token is reused */
    CHECK_REFUSED(trol_session_prefill(s, ids, N_TOKENS, &c->features, 1, &refused), TROL_ERROR_CANCELLED, "cancelled");
    CHECK(log.n_calls == 1 && trol_session_logits(s) == NULL, "%d calls after a cancel", log.n_calls);
    CHECK_REFUSED(trol_session_prompt_end(s, &refused), TROL_ERROR_STATE, "it failed");
    prefill_case(c, s, c->ids, c->n_ids);
    prefill_case(c, fresh, c->ids, c->n_ids);
    CHECK(equal_logits(c, s, fresh), "a prompt after a cancelled one");
    trol_session_free(s);
    trol_session_free(fresh);
    free(ids);
}

static int stop_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    (void)logits;
    (void)vocab_size;
    *(int64_t *)user = position;
    return position == 5;
}

static int stop_observer(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows, int64_t n_columns,
                         const float *values) {
    (void)user, (void)first, (void)n_rows, (void)n_columns, (void)values;
    return layer == 1 && strcmp(stage, "gate") == 0;
}

static void check_callbacks_cancel(const session_case *c) {
    int64_t position = 0;
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0),
                 *fresh = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0);
    trol_session_set_logits_callback(s, stop_logits, &position);
    CHECK_REFUSED(trol_session_prefill(s, c->ids, c->n_ids, &c->features, 1, &refused), TROL_ERROR_CANCELLED,
                  "logits callback");
    CHECK(position == 5 && trol_session_logits(s) == NULL, "stopped at %lld", (long long)position);
    trol_session_set_logits_callback(s, NULL, NULL);
    trol_session_set_observer(s, stop_observer, NULL);
    CHECK_REFUSED(trol_session_prefill(s, c->ids, c->n_ids, &c->features, 1, &refused), TROL_ERROR_CANCELLED,
                  "observer");
    trol_session_set_observer(s, NULL, NULL);
    prefill_case(c, s, c->ids, c->n_ids);
    prefill_case(c, fresh, c->ids, c->n_ids);
    CHECK(equal_logits(c, s, fresh) && stats_of(s).reused_tokens == 0, "a prompt after cancelled ones");

    trol_error error = {0};
    trol_session_cancel(s); /* between two calls: the next one stops, the one after it runs */
    CHECK_REFUSED(trol_session_decode(s, 5, &refused), TROL_ERROR_CANCELLED, "cancelled");
    CHECK(equal_logits(c, s, fresh), "a cancelled decode changed the session");
    CHECK_OK(trol_session_decode(s, 5, &error), error);
    CHECK_OK(trol_session_decode(fresh, 5, &error), error);
    CHECK(equal_logits(c, s, fresh), "a decode after a cancelled one");
    trol_session_free(s);
    trol_session_free(fresh);
}

/* Cancels a session from another thread. */
typedef struct canceller {
    trol_session *session;
    double at; /* when it was cancelled */
} canceller;

static void *cancel_soon(void *user) {
    canceller *job = user;
    nanosleep(&(struct timespec){0, 30000000}, NULL);
    job->at = cpu_seconds();
    trol_session_cancel(job->session);
    return NULL;
}

static void check_cancel_from_outside(const session_case *c) {
    enum { N_TOKENS = 20000, N_THREADS = 2 };
    const double limit = 0.2 * N_THREADS; /* all threads work until the call returns */
    int32_t *ids = long_prompt(c, N_TOKENS);
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, N_TOKENS);
    pthread_t thread;
    canceller job = {s, 0};
    pthread_create(&thread, NULL, cancel_soon, &job);
    CHECK_REFUSED(trol_session_prefill(s, ids, N_TOKENS, &c->features, 1, &refused), TROL_ERROR_CANCELLED, "cancelled");
    const double end = cpu_seconds();
    pthread_join(thread, NULL);
    CHECK(end - job.at <= limit, "a cancel took %.3f s of %d CPUs", end - job.at, N_THREADS);
    prefill_case(c, s, c->ids, c->n_ids);
    trol_session_free(s);
    free(ids);
}

static int stop_at_the_end(void *user, trol_stage stage, int64_t done, int64_t total) {
    (void)user;
    (void)stage;
    return done == total;
}

/* The last progress call of a prompt can cancel it, too. */
static void check_cancel_at_the_end(const session_case *c) {
    trol_error error = {0};
    trol_session_params p;
    trol_session *s = NULL;
    trol_session_params_init(&p);
    p.progress = stop_at_the_end;
    CHECK_OK(trol_session_new(c->model, &p, &s, &error), error);
    CHECK_REFUSED(trol_session_prefill(s, c->ids, c->n_ids, &c->features, 1, &refused), TROL_ERROR_CANCELLED,
                  "asked to stop");
    CHECK(trol_session_logits(s) == NULL, "a cancelled prompt has logits");
    CHECK_REFUSED(trol_session_decode(s, 5, &refused), TROL_ERROR_STATE, "the last prompt failed");
    CHECK_REFUSED(trol_generate(s, NULL, NULL, NULL, NULL, &refused), TROL_ERROR_STATE, "no prompt");
    trol_session_free(s);
}

/* What a session holds is what trol_model_cache_bytes announces, of both passes; q8 takes at most 0.54 of f16 from
 * heads of 32 on. */
static void check_cache_bytes(const session_case *c) {
    enum { N_TOKENS = 131 };
    int32_t *ids = long_prompt(c, N_TOKENS);
    for (trol_cache_type type = TROL_CACHE_F16; type <= TROL_CACHE_Q8; type++)
        for (int keep = 0; keep <= 1; keep++) {
            trol_session *s = open_session_of(c->model, type, TROL_TRAVERSAL_PROMPT, keep, 0);
            prefill_case(c, s, ids, N_TOKENS);
            const int64_t expected = (1 + keep) * trol_model_cache_bytes(c->model, type, N_TOKENS);
            CHECK(stats_of(s).cache_bytes == expected && expected > 0, "type %d: %lld bytes, expected %lld", (int)type,
                  (long long)stats_of(s).cache_bytes, (long long)expected);
            trol_session_free(s);
        }
    const int64_t rows = 2 * (int64_t)c->info.n_layers * c->info.n_kv_heads * 192,
                  dims = c->info.head_dim; /* 3 blocks */
    CHECK(trol_model_cache_bytes(c->model, TROL_CACHE_F16, N_TOKENS) == rows * 2 * dims, "f16");
    CHECK(trol_model_cache_bytes(c->model, TROL_CACHE_F32, N_TOKENS) == rows * 4 * dims, "f32");
    CHECK(trol_model_cache_bytes(c->model, TROL_CACHE_Q8, N_TOKENS) == rows * (dims + 2), "q8");
    CHECK(trol_model_cache_bytes(c->model, TROL_CACHE_Q8, 128) * 3 ==
              trol_model_cache_bytes(c->model, TROL_CACHE_Q8, 129) * 2,
          "blocks of 64 tokens");
    CHECK(trol_model_cache_bytes(NULL, TROL_CACHE_Q8, 1) == 0 && trol_model_cache_bytes(c->model, 3, 1) == 0 &&
              trol_model_cache_bytes(c->model, TROL_CACHE_Q8, 0) == 0,
          "nothing to hold");
    free(ids);
}

static trol_session *open_skipping(const session_case *c, float skip) {
    trol_error error = {0};
    trol_session *session = NULL;
    trol_session_params params;
    trol_session_params_init(&params);
    params.cache_type = TROL_CACHE_F32;
    params.traversal_skip = skip;
    CHECK_OK(trol_session_new(c->model, &params, &session, &error), error);
    prefill_case(c, session, c->ids, c->n_ids);
    return session;
}

/* No gate is 1, so a threshold of 1 skips the second pass of every token, which leaves the plain backbone; a threshold
 * between the gates skips some and changes the logits. */
static void check_skipping(const session_case *c) {
    trol_session *off = open_session(c->model, TROL_TRAVERSAL_OFF, 0, 0), *exact = open_skipping(c, 0);
    trol_session *some = open_skipping(c, 0.5f), *all = open_skipping(c, 1);
    const int64_t n = (int64_t)c->n_ids, n_layers = c->info.n_layers;
    prefill_case(c, off, c->ids, c->n_ids);
    compare_logits(c, "every second pass skipped", all, off);
    CHECK(stats_of(exact).skipped_tokens == 0, "%lld skipped", (long long)stats_of(exact).skipped_tokens);
    CHECK(stats_of(all).skipped_tokens == n * n_layers, "%lld skipped", (long long)stats_of(all).skipped_tokens);
    int64_t sum = 0;
    for (int32_t layer = 0; layer < n_layers; layer++) {
        CHECK(trol_session_skipped_in_layer(all, layer) == n, "%lld skipped in layer %d",
              (long long)trol_session_skipped_in_layer(all, layer), layer);
        sum += trol_session_skipped_in_layer(some, layer);
    }
    CHECK(sum == stats_of(some).skipped_tokens && sum > 0 && sum < n * n_layers, "%lld skipped", (long long)sum);
    CHECK(!equal_logits(c, some, exact) && !equal_logits(c, some, off), "half skipped is all or nothing");
    CHECK(trol_session_skipped_in_layer(all, -1) == 0 && trol_session_skipped_in_layer(all, (int32_t)n_layers) == 0 &&
              trol_session_skipped_in_layer(NULL, 0) == 0,
          "skipped in a layer that does not exist");
    trol_session_free(off);
    trol_session_free(exact);
    trol_session_free(some);
    trol_session_free(all);
}

/* What a session reports is what its own calls took. */
static void check_workspace(const session_case *c) {
    trol_error error = {0};
    int32_t *ids = long_prompt(c, 1500);
    trol_session *large = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 2000),
                 *small = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 0);
    CHECK(stats_of(small).workspace_bytes == 0, "a session that did nothing");
    prefill_case(c, large, ids, 1500);
    prefill_case(c, small, c->ids, c->n_ids);
    CHECK_OK(trol_session_decode(small, 5, &error), error);
    CHECK(stats_of(small).workspace_bytes > 0 && 4 * stats_of(small).workspace_bytes < stats_of(large).workspace_bytes,
          "scratch memory: %lld bytes for 29 tokens, %lld for 1500", (long long)stats_of(small).workspace_bytes,
          (long long)stats_of(large).workspace_bytes);
    trol_session_free(large);
    trol_session_free(small);
    free(ids);
}

/* ---- several threads ----------------------------------------------------------------------------------------------
 */

typedef struct conversation {
    const session_case *c;
    float logits[8 * 512]; /* [8, vocab_size]: after each token */
    bool failed;
} conversation;

static void *converse(void *user) {
    conversation *t = user;
    const session_case *c = t->c;
    trol_session *s = NULL;
    trol_features *features = NULL;
    trol_image *image = NULL;
    char path[1024];
    snprintf(path, sizeof path, "%s/internlm2-clip/image.png", TEST_REFERENCE);
    t->failed = trol_image_load_file(path, NULL, &image, NULL) || trol_encode_image(c->model, image, &features, NULL) ||
                trol_session_new(c->model, NULL, &s, NULL) ||
                trol_session_prefill(s, c->ids, c->n_ids, &features, 1, NULL);
    for (int i = 0; i < 8 && !t->failed; i++) {
        memcpy(t->logits + i * 512, trol_session_logits(s), 512 * sizeof(float));
        t->failed = trol_session_decode(s, 20 + i, NULL) != TROL_OK;
    }
    trol_session_free(s);
    trol_features_free(features);
    trol_image_free(image);
    return NULL;
}

static void check_threads(const session_case *c) {
    enum { N_THREADS = 4 };
    conversation alone = {.c = c}, *together = calloc(N_THREADS, sizeof *together);
    pthread_t threads[N_THREADS];
    converse(&alone);
    CHECK(!alone.failed, "a conversation failed");
    for (int i = 0; i < N_THREADS; i++) {
        together[i].c = c;
        pthread_create(&threads[i], NULL, converse, &together[i]);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(!together[i].failed && memcmp(together[i].logits, alone.logits, sizeof alone.logits) == 0,
              "thread %d differs", i);
    }
    free(together);
}

typedef struct busy_thread {
    trol_model *model;
    atomic_int stop, rounds;
} busy_thread;

static void *take_workspaces(void *context) {
    busy_thread *b = context;
    workspace *space;
    trol_error error;
    while (!atomic_load(&b->stop) && model_take_workspace(b->model, &space, &error) == TROL_OK) {
        model_return_workspace(b->model, space);
        atomic_fetch_add(&b->rounds, 1);
    }
    return NULL;
}

/* A child of fork continues with its parent's session, whatever another thread of the parent was doing. */
static void check_forked_process(const session_case *c) {
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 0), *copy;
    trol_error error = {0};
    busy_thread busy = {.model = c->model};
    pthread_t thread;
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK_OK(trol_session_fork(s, &copy, &error), error);
    CHECK_OK(trol_session_decode(copy, 4, &error), error);
    CHECK(pthread_create(&thread, NULL, take_workspaces, &busy) == 0, "a thread");
    while (atomic_load(&busy.rounds) == 0)
        sched_yield();
    for (int i = 0; i < 20; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            const bool good = trol_session_decode(s, 4, &error) == TROL_OK && equal_logits(c, s, copy);
            trol_session_free(s);
            _exit(good ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        CHECK(status == 0, "child %d of a process whose other thread uses the model: status %d", i, status);
    }
    atomic_store(&busy.stop, 1);
    pthread_join(thread, NULL);
    trol_session_free(copy);
    trol_session_free(s);
}

/* Sessions and features keep their model alive. */
static void check_lifetimes(void) {
    session_case c = open_case("internlm2-clip", 2);
    trol_error error = {0};
    trol_session *s = open_session(c.model, TROL_TRAVERSAL_PROMPT, 0, 0);
    trol_model_free(c.model);
    prefill_case(&c, s, c.ids, c.n_ids);
    trol_features_free(c.features);
    CHECK_OK(trol_session_decode(s, 4, &error), error);
    trol_session_free(s);
    free(c.ids);
}

int main(void) {
    session_case c = open_case("internlm2-clip", 2);
    CHECK(c.info.vocab_size == 512 && c.n_ids == 29, "the case has changed");
    check_null_pointers(&c);
    check_parameters(&c);
    check_order_and_tokens(&c);
    check_sizes(&c);
    check_context(&c);
    check_progress(&c);
    check_cache_bytes(&c);
    check_callbacks_cancel(&c);
    check_cancel_from_outside(&c);
    check_cancel_at_the_end(&c);
    check_skipping(&c);
    check_workspace(&c);
    check_threads(&c);
    check_forked_process(&c);
    close_case(&c);
    check_lifetimes();
    return test_summary("test-session");
}
