/* test-out-of-memory.c - every call is made again and again, with its first, second, third ... allocation failing: each
 * time it must report that, leave nothing behind, and work the next time.
 *
 * The allocator's functions are replaced here by ones that count and fail on request (glibc; not with sanitizers, which
 * replace them too: exit status 77). */
#include <errno.h>
#include <stdatomic.h>

#include "base/memory.h"
#include "files.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/tokenizer.h"
#include "format/torch_pickle.h"
#include "test.h"
#include "trol.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define SANITIZED 1
#endif

#ifdef SANITIZED

int main(void) {
    printf("test-out-of-memory: skipped with sanitizers\n");
    return TEST_SKIPPED;
}

#else

/* ---- the allocator --------------------------------------------------------------------------- */

void *__libc_malloc(size_t n_bytes);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t n_bytes);
void *__libc_memalign(size_t alignment, size_t n_bytes);
void __libc_free(void *memory);

static atomic_long n_requests, n_live; /* requests so far; allocations that are not freed yet */
static atomic_long failing_request;    /* this one and, if `all_after`, those after it fail; -1: none */
static atomic_int all_after;

static int must_fail(void) {
    long failing = atomic_load(&failing_request), request = atomic_fetch_add(&n_requests, 1);
    return failing >= 0 && (request == failing || (request > failing && atomic_load(&all_after)));
}

static void *counted(void *memory) {
    if (memory)
        atomic_fetch_add(&n_live, 1);
    else
        errno = ENOMEM;
    return memory;
}

void *malloc(size_t n_bytes) { return counted(must_fail() ? NULL : __libc_malloc(n_bytes)); }
void *calloc(size_t count, size_t size) { return counted(must_fail() ? NULL : __libc_calloc(count, size)); }
void *aligned_alloc(size_t alignment, size_t n_bytes) {
    return counted(must_fail() ? NULL : __libc_memalign(alignment, n_bytes));
}
void *memalign(size_t alignment, size_t n_bytes);
void *memalign(size_t alignment, size_t n_bytes) { return aligned_alloc(alignment, n_bytes); }
int posix_memalign(void **memory, size_t alignment, size_t n_bytes) {
    *memory = aligned_alloc(alignment, n_bytes);
    return *memory ? 0 : ENOMEM;
}

void *realloc(void *memory, size_t n_bytes) {
    if (!memory)
        return malloc(n_bytes);
    if (must_fail()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(memory, n_bytes);
}

/* The C library's own would be served by its own malloc: these functions are hidden from it. */
char *strdup(const char *text) {
    char *copy = malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

void free(void *memory) {
    if (memory)
        atomic_fetch_sub(&n_live, 1);
    __libc_free(memory);
}

/* ---- scenarios: each does something whole and frees all that it got -------------------------- */

/* Requests before this call belong to the preparation: only those from here on are made to fail. */
static long n_requests_before;

static void begin_here(void) { n_requests_before = atomic_load(&n_requests); }

static trol_threads *pool;
static trol_model *models[2]; /* for scenarios that need one ready */
static trol_image *images[2];

static const char *const folders[2] = {TEST_REFERENCE "/e2e-internlm2", TEST_REFERENCE "/e2e-phi3"};

static trol_status read_json(int which, trol_error *error) {
    cJSON *json;
    const char *path = which ? TEST_REFERENCE "/grid/grids.json" : TEST_REFERENCE "/e2e-phi3/tokenizer_config.json";
    trol_status status = json_read_file(path, 1 << 24, &json, error);
    cJSON_Delete(json);
    return status;
}

static trol_status open_tensors(int which, trol_error *error) {
    tensor_source *source;
    trol_status status =
        tensor_source_open(which ? TEST_REFERENCE "/internlm2-clip-bias" : folders[0], NULL, &source, error);
    tensor_source_close(source);
    return status;
}

static trol_status read_gate(int which, trol_error *error) {
    torch_file *file;
    const char *path =
        which ? TEST_REFERENCE "/phi3-internvit-rms/trol_gating.pt" : TEST_REFERENCE "/e2e-internlm2/trol_gating.pt";
    trol_status status = torch_file_read(path, &file, error);
    torch_file_free(file);
    return status;
}

static trol_status use_tokenizer(int which, trol_error *error) {
    static const char text[] = "abc <image> \xf0\x9f\x98\x80[UNUSED_TOKEN_145]\n<|end|> the end";
    tokenizer_options options = {.dummy_prefix = which, .n_tokens = 100000};
    tokenizer *t;
    int32_t *ids = NULL;
    size_t n = 0, capacity = 0;
    char *decoded = NULL;
    trol_status status = tokenizer_load(folders[which], &options, NULL, &t, error);
    if (status == TROL_OK) {
        text_piece pieces[2] = {{text, 20, true}, {text + 20, sizeof text - 21, false}};
        status = tokenizer_encode(t, pieces, 2, &ids, &n, &capacity, error);
    }
    if (status == TROL_OK)
        status = tokenizer_decode(t, ids, n, true, &decoded, error);
    memory_free(decoded);
    memory_free(ids);
    tokenizer_free(t);
    return status;
}

static trol_status load_image(int which, trol_error *error) {
    static const char *const names[] = {"e2e-phi3/pictures/photo.png",
                                        "e2e-phi3/pictures/palette.png",
                                        "e2e-phi3/pictures/still.gif",
                                        "e2e-phi3/pictures/bitmap.bmp",
                                        "pictures/420.jpg",
                                        "pictures/progressive.jpg",
                                        "pictures/cmyk.jpg"};
    char path[1024];
    trol_image *image, *upright = NULL;
    snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, names[which]);
    trol_status status = trol_image_load_file(path, NULL, &image, error);
    if (status == TROL_OK)
        status = trol_image_upright(image, &upright, error);
    trol_image_free(upright);
    trol_image_free(image);
    return status;
}

static trol_status load_model(int which, trol_error *error) {
    trol_model_params params;
    trol_model *model;
    trol_model_params_init(&params);
    params.threads = pool;
    params.weight_type = which >= 2 ? TROL_WEIGHTS_Q8 : TROL_WEIGHTS_AS_STORED;
    trol_status status = trol_model_load(folders[which % 2], &params, &model, error);
    trol_model_free(model);
    return status;
}

static trol_status encode_image(int which, trol_error *error) {
    trol_features *features;
    trol_status status = trol_encode_image(models[which], images[which], &features, error);
    trol_features_free(features);
    return status;
}

static trol_status encode_first_image(int which, trol_error *error) {
    trol_model_params params;
    trol_model *model;
    trol_model_params_init(&params);
    params.threads = pool;
    trol_features *features = NULL;
    trol_status status = trol_model_load(folders[which], &params, &model, error);
    begin_here();
    if (status == TROL_OK)
        status = trol_encode_image(model, images[which], &features, error);
    trol_features_free(features);
    trol_model_free(model);
    return status;
}

static int take_text(void *user, const char *text) {
    *(size_t *)user += strlen(text);
    return 0;
}

static trol_status answer(int which, trol_error *error) {
    trol_session_params params;
    trol_generate_params generate;
    trol_session *session, *fork = NULL;
    size_t n_bytes = 0;
    trol_session_params_init(&params);
    params.traversal = which >= 2 ? TROL_TRAVERSAL_ALL : TROL_TRAVERSAL_PROMPT;
    trol_generate_params_init(&generate);
    generate.max_tokens = 4;
    generate.ignore_eos = 1;
    generate.lookup = which >= 2 ? 2 : 0;
    trol_status status = trol_session_new(models[which % 2], &params, &session, error);
    if (status == TROL_OK)
        status = trol_session_ask(session, "What is this?", (const trol_image *const *)&images[which % 2], 1, error);
    if (status == TROL_OK)
        status = trol_session_fork(session, &fork, error);
    if (status == TROL_OK)
        status = trol_generate(fork, &generate, take_text, &n_bytes, NULL, error);
    trol_session_free(session);
    trol_session_free(fork);
    return status;
}

/* A conversation: a saved file, a second session in one batch, prompt lookup and a sampler. */
static trol_status keep(int which, trol_error *error) {
    static const int32_t prompt[] = {5, 6, 7, 8, 5, 6, 7, 8, 5, 6};
    trol_session_params params;
    trol_sampler_params sampling;
    trol_generate_params generate;
    trol_session *sessions[2] = {NULL, NULL};
    trol_sampler *sampler = NULL;
    trol_session_params_init(&params);
    params.keep_pass2 = 1;
    trol_sampler_params_init(&sampling);
    sampling.temperature = 1;
    trol_generate_params_init(&generate);
    generate.max_tokens = 6;
    generate.ignore_eos = 1;
    generate.lookup = 1;
    trol_status status = trol_session_new(models[which], &params, &sessions[0], error);
    if (status == TROL_OK)
        status = trol_session_prefill(sessions[0], prompt, sizeof prompt / sizeof *prompt, NULL, 0, error);
    if (status == TROL_OK)
        status = trol_sampler_new(&sampling, &sampler, error);
    generate.sampler = sampler;
    if (status == TROL_OK)
        status = trol_generate(sessions[0], &generate, NULL, NULL, NULL, error);
    if (status == TROL_OK)
        status = trol_session_save(sessions[0], NULL, test_path("session"), error);
    if (status == TROL_OK)
        status = trol_session_load(models[which], test_path("session"), NULL, &sessions[1], NULL, error);
    if (status == TROL_OK)
        status = trol_decode_batch(sessions, prompt, 2, error);
    trol_session_free(sessions[0]);
    trol_session_free(sessions[1]);
    trol_sampler_free(sampler);
    return status;
}

/* A beam search with stop strings, and a sampler that is copied. */
static trol_status search(int which, trol_error *error) {
    static const int32_t prompt[] = {5, 6, 7, 8, 5, 6, 7, 8, 5, 6};
    static const char *const stops[] = {"never"};
    trol_session *session;
    trol_beam_list *list = NULL;
    trol_sampler *sampler = NULL, *clone = NULL;
    trol_beams_params params;
    trol_sampler_params sampling;
    trol_beams_params_init(&params);
    params.n_beams = 3;
    params.max_tokens = 4;
    params.ignore_eos = 1;
    params.stops = stops;
    params.n_stops = 1;
    trol_sampler_params_init(&sampling);
    sampling.repeat_penalty = 2;
    sampling.bias = &(trol_logit_bias){3, 1};
    sampling.n_bias = 1;
    trol_status status = trol_session_new(models[which], NULL, &session, error);
    if (status == TROL_OK)
        status = trol_session_prefill(session, prompt, sizeof prompt / sizeof *prompt, NULL, 0, error);
    if (status == TROL_OK)
        status = trol_beams(session, &params, &list, error);
    if (status == TROL_OK)
        status = trol_sampler_new(&sampling, &sampler, error);
    if (status == TROL_OK)
        status = trol_sampler_begin(sampler, prompt, 10, error);
    if (status == TROL_OK)
        status = trol_sampler_clone(sampler, &clone, error);
    trol_sampler_free(sampler);
    trol_sampler_free(clone);
    trol_beam_list_free(list);
    trol_session_free(session);
    return status;
}

/* Two sessions in one step, with gates, and a fork. */
static trol_status step(int which, trol_error *error) {
    static const int32_t prompt[] = {5, 6, 7, 8};
    trol_session_params params;
    trol_session *sessions[2] = {NULL, NULL}, *fork = NULL;
    trol_session_params_init(&params);
    params.keep_pass2 = params.keep_gates = 1;
    trol_status status = trol_session_new(models[which], &params, &sessions[0], error);
    if (status == TROL_OK)
        status = trol_session_new(models[which], &params, &sessions[1], error);
    for (int i = 0; i < 2 && status == TROL_OK; i++)
        status = trol_session_prompt_begin(sessions[i], 4, NULL, 0, error);
    trol_step_item items[2] = {{sessions[0], prompt, 4, error, TROL_OK}, {sessions[1], prompt, 2, error, TROL_OK}};
    if (status == TROL_OK)
        status = trol_step(items, 2, error);
    for (int i = 0; i < 2 && status == TROL_OK; i++)
        status = items[i].status;
    if (status == TROL_OK)
        status = trol_session_prompt_end(sessions[0], error);
    items[0].n_tokens = 1;
    items[1].tokens = prompt + 2;
    if (status == TROL_OK)
        status = trol_step(items, 2, error);
    for (int i = 0; i < 2 && status == TROL_OK; i++)
        status = items[i].status;
    if (status == TROL_OK)
        status = trol_session_fork(sessions[0], &fork, error);
    if (status == TROL_OK)
        status = trol_session_decode(fork, 5, error);
    trol_session_free(fork);
    trol_session_free(sessions[0]);
    trol_session_free(sessions[1]);
    return status;
}

static trol_status stream(int which, trol_error *error) {
    static const char *const stops[] = {"stop", "zzz"};
    trol_stream_params params;
    trol_stream *s = NULL;
    const char *text;
    trol_stream_params_init(&params);
    params.stops = stops;
    params.n_stops = 2;
    trol_status status = trol_stream_new(models[which], &params, &s, error);
    for (int32_t token = 3; token < 300 && status == TROL_OK; token++)
        status = trol_stream_put(s, token, &text, NULL, error);
    if (status == TROL_OK)
        status = trol_stream_end(s, &text, error);
    trol_stream_free(s);
    return status;
}

static trol_status constrain(int which, trol_error *error) {
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},"
                                 "\"required\":[\"a\"],\"additionalProperties\":false}";
    static const char grammar[] = "root ::= (\"a\" | \"b\") root | \"c\"";
    static const int32_t prompt[] = {5, 6, 7, 8};
    trol_generate_params generate;
    trol_session *session = NULL;
    trol_constraint *constraint = NULL, *clone = NULL;
    trol_generate_params_init(&generate);
    generate.max_tokens = 40;
    trol_status status =
        which >= 2 ? trol_constraint_new_gbnf(models[which % 2], grammar, strlen(grammar), &constraint, error)
                   : trol_constraint_new_json_schema(models[which % 2], schema, strlen(schema), &constraint, error);
    if (status == TROL_OK)
        status = trol_constraint_clone(constraint, &clone, error);
    if (status == TROL_OK)
        status = trol_session_new(models[which % 2], NULL, &session, error);
    if (status == TROL_OK)
        status = trol_session_prefill(session, prompt, 4, NULL, 0, error);
    generate.constraint = clone;
    if (status == TROL_OK)
        status = trol_generate(session, &generate, NULL, NULL, NULL, error);
    trol_constraint_free(constraint);
    trol_constraint_free(clone);
    trol_session_free(session);
    return status;
}

/* ---- running them ---------------------------------------------------------------------------- */

typedef trol_status (*scenario)(int which, trol_error *error);

/* With the request that is numbered `failing` from now on failing. Returns whether the scenario succeeded. */
static bool run_failing(const char *name, scenario run, int which, long failing, int all) {
    trol_error error = {0};
    long live = atomic_load(&n_live);
    atomic_store(&all_after, all);
    atomic_store(&failing_request, failing < 0 ? -1 : atomic_load(&n_requests) + failing);
    trol_status status = run(which, &error);
    atomic_store(&failing_request, -1);
    /* The C library's own buffers are an input/output error. */
    const bool reported =
        status == TROL_ERROR_MEMORY || (status == TROL_ERROR_IO && strstr(error.message, strerror(ENOMEM)));
    CHECK(status == TROL_OK || (reported && error.status == status && error.message[0]),
          "%s %d, request %ld: status %d, \"%s\"", name, which, failing, (int)status, error.message);
    CHECK(atomic_load(&n_live) == live, "%s %d, request %ld: %ld allocations are left over", name, which, failing,
          atomic_load(&n_live) - live);
    return status == TROL_OK;
}

/* Fails each request in turn, or about `n_points` of them where there are more. A model keeps scratch memory from the
 * first run on; what a run leaves behind is counted from the second. */
static void test_scenario(const char *name, scenario run, int which, long n_points) {
    trol_error error = {0};
    CHECK_OK(run(which, &error), error);
    begin_here();
    long begin = n_requests_before;
    CHECK(run_failing(name, run, which, -1, 0), "%s %d works again", name, which);
    long first = n_requests_before - begin, n = atomic_load(&n_requests) - begin, n_absorbed = 0;
    long step = n - first > n_points ? (n - first) / n_points : 1;
    CHECK(n > first, "%s allocates", name);
    for (int all = 0; all < 2; all++)
        for (long failing = first; failing < n; failing += failing - first < 15 ? 1 : step)
            n_absorbed += run_failing(name, run, which, failing, all);
    CHECK(run_failing(name, run, which, -1, 0), "%s %d works after all that", name, which);
    printf("%s %d: %ld requests, %ld failures did no harm\n", name, which, n - first, n_absorbed);
}

int main(void) {
    trol_error error = {0};
    atomic_store(&failing_request, -1);
    for (int i = 0; i < 2; i++) {
        test_scenario("read_json", read_json, i, 150);
        test_scenario("open_tensors", open_tensors, i, 150);
        test_scenario("read_gate", read_gate, i, 150);
        test_scenario("use_tokenizer", use_tokenizer, i, 40);
    }
    for (int i = 0; i < 7; i++)
        test_scenario("load_image", load_image, i, 100);
    CHECK_OK(trol_threads_new(1, &pool, &error), error); /* more would only make it slower */
    for (int i = 0; i < 4; i++)
        test_scenario("load_model", load_model, i, 25);
    for (int i = 0; i < 2; i++) {
        trol_model_params params;
        char path[1024];
        trol_model_params_init(&params);
        params.threads = pool;
        CHECK_OK(trol_model_load(folders[i], &params, &models[i], &error), error);
        snprintf(path, sizeof path, "%s/pictures/photo.png", folders[i]);
        CHECK_OK(trol_image_load_file(path, NULL, &images[i], &error), error);
    }
    for (int i = 0; i < 2; i++)
        test_scenario("encode_image", encode_image, i, 30),
            test_scenario("encode_first_image", encode_first_image, i, 30);
    for (int i = 0; i < 4; i++)
        test_scenario("answer", answer, i, 20);
    for (int i = 0; i < 2; i++) {
        test_scenario("step", step, i, 20);
        test_scenario("stream", stream, i, 20);
    }
    for (int i = 0; i < 4; i++)
        test_scenario("constrain", constrain, i, 60);
    test_make_folder();
    for (int i = 0; i < 2; i++)
        test_scenario("keep", keep, i, 40);
    for (int i = 0; i < 2; i++)
        test_scenario("search", search, i, 60);
    test_remove_folder();
    for (int i = 0; i < 2; i++) {
        trol_model_free(models[i]);
        trol_image_free(images[i]);
    }
    trol_threads_free(pool);
    return test_summary("test-out-of-memory");
}

#endif
