/* test-snapshot.c - sessions in files: a loaded session continues as the saved one would, in every state; a file that
 * was cut, changed or forged is refused. */
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "changed_checkpoint.h"
#include "engine/identity.h"
#include "files.h"
#include "format/tokenizer_tables.h"
#include "session_cases.h"

static char *read_file(const char *name, size_t *n_bytes) {
    char *bytes = NULL;
    trol_error error = {0};
    CHECK_OK(file_read(test_path(name), 1 << 26, &bytes, n_bytes, &error), error);
    return bytes;
}

static trol_session *save_and_load(const session_case *c, const trol_session *s) {
    trol_error error = {0};
    trol_session *loaded = NULL;
    CHECK_OK(trol_session_save(s, NULL, test_path("session"), &error), error);
    CHECK_OK(trol_session_load(c->model, test_path("session"), NULL, &loaded, NULL, &error), error);
    if (!loaded)
        exit(1);
    return loaded;
}

static void check_equal(const session_case *c, const char *what, const trol_session *a, const trol_session *b) {
    const size_t n = trol_session_n_tokens(a);
    CHECK(n == trol_session_n_tokens(b) &&
              (n == 0 || memcmp(trol_session_tokens(a), trol_session_tokens(b), n * sizeof(int32_t)) == 0),
          "%s: other tokens", what);
    CHECK(!trol_session_logits(a) == !trol_session_logits(b), "%s: logits are there or not", what);
    if (trol_session_logits(a) && trol_session_logits(b))
        CHECK(equal_logits(c, a, b), "%s: other logits", what);
}

/* ---- going on -----------------------------------------------------------------------------------------------------
 */

static int append_text(void *user, const char *text) {
    strncat(user, text, 1000 - strlen(user));
    return 0;
}

/* Whatever follows gives the same in the saved session and in the loaded one. Frees the loaded one. */
static void check_going_on(const session_case *c, const char *what, trol_session *s, trol_session *loaded) {
    trol_error error = {0};
    char answers[2][1001] = {"", ""};
    check_equal(c, what, s, loaded);
    if (trol_session_logits(s)) {
        trol_generate_params params;
        trol_generate_params_init(&params);
        params.max_tokens = 3;
        params.ignore_eos = 1;
        CHECK_OK(trol_generate(s, &params, append_text, answers[0], NULL, &error), error);
        CHECK_OK(trol_generate(loaded, &params, append_text, answers[1], NULL, &error), error);
        CHECK(strcmp(answers[0], answers[1]) == 0, "%s: \"%s\", loaded \"%s\"", what, answers[0], answers[1]);
    }
    if (trol_session_n_tokens(s) > 0)
        for (int i = 0; i < 70; i++) { /* past the boundary of a block of 64 tokens */
            CHECK_OK(trol_session_decode(s, 30 + i, &error), error);
            CHECK_OK(trol_session_decode(loaded, 30 + i, &error), error);
        }
    check_equal(c, what, s, loaded);
    const int64_t before = stats_of(s).reused_tokens, before_loaded = stats_of(loaded).reused_tokens;
    int32_t *turn = calloc(c->n_ids + 5, sizeof *turn);
    memcpy(turn, c->ids, c->n_ids * sizeof *turn);
    for (size_t i = 0; i < 5; i++)
        turn[c->n_ids + i] = (int32_t)(60 + i);
    prefill_case(c, s, turn, c->n_ids + 5);
    prefill_case(c, loaded, turn, c->n_ids + 5);
    CHECK(stats_of(s).reused_tokens - before == stats_of(loaded).reused_tokens - before_loaded,
          "%s: %lld tokens reused, loaded %lld", what, (long long)(stats_of(s).reused_tokens - before),
          (long long)(stats_of(loaded).reused_tokens - before_loaded));
    check_equal(c, what, s, loaded);
    trol_session_free(loaded);
    free(turn);
}

static trol_session *new_session(const session_case *c, int mode, trol_cache_type cache, int keep_pass2) {
    trol_error error = {0};
    trol_session *s = NULL;
    trol_session_params p;
    trol_session_params_init(&p);
    p.traversal = (trol_traversal)mode;
    p.cache_type = cache;
    p.keep_pass2 = keep_pass2;
    p.context_size = 200;
    CHECK_OK(trol_session_new(c->model, &p, &s, &error), error);
    return s;
}

static void check_states(const session_case *c) {
    trol_error error = {0};
    for (int i = 0; i < 18; i++) {
        const int mode = i / 6, keep = i & 1;
        const trol_cache_type cache = (trol_cache_type)(i / 2 % 3);
        trol_session *s = new_session(c, mode, cache, keep);
        check_going_on(c, "empty", s, save_and_load(c, s));
        check_going_on(c, "after a prompt", s, save_and_load(c, s));
        CHECK_OK(trol_session_decode(s, 5, &error), error);
        check_going_on(c, "within an answer", s, save_and_load(c, s));
        trol_generate_params params;
        trol_generate_params_init(&params);
        params.max_tokens = 4;
        params.ignore_eos = 1;
        CHECK_OK(trol_generate(s, &params, NULL, NULL, NULL, &error), error);
        check_going_on(c, "after an answer that was cut", s, save_and_load(c, s));
        CHECK_OK(trol_session_truncate(s, c->n_ids - 2, &error), error);
        check_going_on(c, "after a truncation", s, save_and_load(c, s));
        trol_session_free(s);
    }
}

/* ---- files that are refused ---------------------------------------------------------------------------------------
 */

/* A file of these bytes must not load; if `may_load` it may, and must then be usable. */
static void check_file(const session_case *c, const char *what, size_t where, const char *bytes, size_t n_bytes,
                       bool may_load) {
    trol_error error = {TROL_OK, ""};
    trol_session *s = (trol_session *)&error;
    test_write("broken", bytes, n_bytes);
    trol_status status = trol_session_load(c->model, test_path("broken"), NULL, &s, NULL, &error);
    if (may_load && status == TROL_OK) {
        (void)!trol_session_decode(s, 5, &error);
        (void)!trol_session_truncate(s, trol_session_n_tokens(s) / 2, &error);
        (void)!trol_session_prefill(s, c->ids, c->n_ids, &c->features, 1, &error);
        (void)!trol_session_decode(s, 5, &error);
        trol_session_free(s);
        return;
    }
    CHECK((status == TROL_ERROR_FORMAT || status == TROL_ERROR_ARGUMENT || status == TROL_ERROR_UNSUPPORTED) &&
              s == NULL && error.status == status && strstr(error.message, "broken"),
          "%s at %zu: status %d, \"%s\"", what, where, (int)status, error.message);
    if (status == TROL_OK)
        trol_session_free(s);
}

/* Where the session's tokens are stored in its file. */
static size_t find_tokens(const char *bytes, size_t n_bytes, const trol_session *s) {
    const size_t n = trol_session_n_tokens(s) * sizeof(int32_t);
    size_t where = 0;
    while (where + n < n_bytes && memcmp(bytes + where, trol_session_tokens(s), n) != 0)
        where++;
    CHECK(where + n < n_bytes, "the file does not hold the tokens");
    return where;
}

/* The file's checksum, so that a change reaches the checks after it. */
static void write_checksum(char *bytes, size_t n_bytes) {
    const uint64_t hash = XXH3_64bits(bytes, n_bytes - 8);
    memcpy(bytes + n_bytes - 8, &hash, 8);
}

static void check_broken_files(const session_case *c) {
    enum { HEADER_BYTES = 440, DENSE = 700, N_RANDOM = 1500 };
    trol_error error = {0};
    size_t n;
    uint64_t random = 7;
    trol_session *s = new_session(c, TROL_TRAVERSAL_PROMPT, TROL_CACHE_F16, 1);
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK_OK(trol_session_decode(s, 5, &error), error);
    CHECK_OK(trol_session_save(s, NULL, test_path("session"), &error), error);
    char *bytes = read_file("session", &n), *copy = malloc(n + 1);
    for (size_t i = 0; i < n; i += i < DENSE ? 1 : 149)
        check_file(c, "cut", i, bytes, i, false);
    memcpy(copy, bytes, n);
    copy[n] = 0;
    check_file(c, "a byte more", n, copy, n + 1, false);
    for (size_t i = 0; i < n; i += i < DENSE || i + 16 > n ? 1 : 149) {
        copy[i] = (char)(copy[i] ^ (1 << i % 8));
        check_file(c, "changed", i, copy, n, false);
        copy[i] = bytes[i];
    }
    /* Forged headers with a correct checksum. */
    static const uint64_t extremes[] = {
        0, 1, 2, 29, 30, 64, 65, 200, 201, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX, UINT64_MAX / 2, 1ull << 62};
    for (int i = 0; i < N_RANDOM; i++) {
        memcpy(copy, bytes, n);
        for (uint64_t k = 0; k <= test_random(&random) % 3; k++) {
            const uint64_t value = extremes[test_random(&random) % (sizeof extremes / sizeof *extremes)];
            const size_t width = test_random(&random) % 2 ? 4 : 8;
            memcpy(copy + 4 * (test_random(&random) % (HEADER_BYTES / 4 - 1)), &value, width);
        }
        write_checksum(copy, n);
        check_file(c, "made up", (size_t)i, copy, n, true);
    }
    /* Tokens that belong to pictures that do not exist, and pictures with wrong sizes. */
    const size_t places = find_tokens(bytes, n, s) + trol_session_n_tokens(s) * sizeof(int32_t);
    const size_t n_places = trol_session_n_tokens(s) * 2 * sizeof(int32_t) + 16;
    for (int i = 0; i < N_RANDOM; i++) {
        memcpy(copy, bytes, n);
        const int32_t value = i % 3 ? (int32_t)(test_random(&random) % 40) - 2
                                    : (int32_t)extremes[test_random(&random) % (sizeof extremes / sizeof *extremes)];
        memcpy(copy + places + 4 * (test_random(&random) % (n_places / 4)), &value, sizeof value);
        write_checksum(copy, n);
        check_file(c, "places made up", (size_t)i, copy, n, true);
    }
    /* Tokens that are not the model's. */
    for (size_t i = 0; i < 30; i++) {
        const int32_t id = i % 2 ? -1 : 513;
        memcpy(copy, bytes, n);
        memcpy(copy + find_tokens(copy, n, s) + i * sizeof id, &id, sizeof id);
        write_checksum(copy, n);
        check_file(c, "a token outside the vocabulary", i, copy, n, false);
    }
    free(copy);
    memory_free(bytes);
    trol_session_free(s);
}

static void check_places(const session_case *c) {
    trol_error error = {0};
    size_t n, n_again;
    trol_session *s = new_session(c, 0, TROL_CACHE_F16, 0), *loaded = NULL;
    session_case other = open_case("internlm2-clip-text", 1);
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK(trol_session_save(s, NULL, test_path("no/such/folder"), &error) == TROL_ERROR_IO &&
              strstr(error.message, "no/such"),
          "%s", error.message);
    CHECK(trol_session_load(c->model, test_path("nothing"), NULL, &loaded, NULL, &error) == TROL_ERROR_IO &&
              strstr(error.message, "nothing"),
          "%s", error.message);
    CHECK(trol_session_load(c->model, test_folder, NULL, &loaded, NULL, &error) == TROL_ERROR_IO, "a folder: %s",
          error.message);
    CHECK_OK(trol_session_save(s, NULL, test_path("place"), &error), error);
    char *bytes = read_file("place", &n);
    (void)!trol_session_load(other.model, test_path("place"), NULL, &loaded, NULL, &error);
    CHECK(!loaded && strstr(error.message, "model"), "another model: %s", error.message);
    CHECK_OK(trol_session_decode(s, 5, &error), error);
    CHECK_OK(trol_session_save(s, NULL, test_path("place"), &error), error); /* over the old one */
    char *again = read_file("place", &n_again);
    CHECK(n != n_again || memcmp(bytes, again, n) != 0, "the file is the old one");
    DIR *folder = opendir(test_folder);
    int n_files = 0;
    while (folder && readdir(folder))
        n_files++;
    closedir(folder);
    CHECK(n_files == 4, "%d names in the folder, expected ., .., session, place", n_files);
    memory_free(bytes);
    memory_free(again);
    trol_session_free(s);
    close_case(&other);
}

/* A file of an earlier version is named as such. */
static void check_versions(const session_case *c) {
    trol_error error = {0};
    trol_session *s = new_session(c, 0, TROL_CACHE_F16, 0), *loaded = NULL;
    size_t n;
    CHECK_OK(trol_session_save(s, NULL, test_path("version"), &error), error);
    char *bytes = read_file("version", &n);
    bytes[7]--;
    test_write("version", bytes, n);
    CHECK(trol_session_load(c->model, test_path("version"), NULL, &loaded, NULL, &error) == TROL_ERROR_UNSUPPORTED &&
              !loaded && strstr(error.message, "another version"),
          "%s", error.message);
    memory_free(bytes);
    trol_session_free(s);
}

/* What a failed prompt left is saved, too: it still cannot be answered and can still be reused. */
static void check_failed_prompt(const session_case *c) {
    trol_error error = {0};
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_OFF, 0, 0),
                 *fresh = open_session(c->model, TROL_TRAVERSAL_OFF, 0, 0);
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK_OK(trol_session_prompt_begin(s, c->n_ids, &c->features, 1, &error), error);
    CHECK(trol_session_prompt_end(s, &error) == TROL_ERROR_STATE, "%s", error.message);
    trol_session *loaded = save_and_load(c, s);
    check_equal(c, "after a failed prompt", loaded, s);
    CHECK(trol_session_n_tokens(loaded) == c->n_ids, "%zu tokens held", trol_session_n_tokens(loaded));
    CHECK(trol_session_decode(loaded, 5, &error) == TROL_ERROR_STATE && strstr(error.message, "the last prompt failed"),
          "%s", error.message);
    prefill_case(c, loaded, c->ids, c->n_ids);
    prefill_case(c, fresh, c->ids, c->n_ids);
    compare_logits(c, "a prompt after a failed one that was saved", loaded, fresh);
    CHECK(stats_of(loaded).reused_tokens == (int64_t)c->n_ids - 1, "%lld tokens reused",
          (long long)stats_of(loaded).reused_tokens);
    trol_session_free(s);
    trol_session_free(loaded);
    trol_session_free(fresh);
}

/* ---- samplers ------------------------------------------------------------------------------- */

static trol_sampler *new_sampler(void) {
    static const trol_logit_bias bias[] = {{7, -1.5f}, {9, 0.25f}, {11, -INFINITY}};
    trol_error error = {0};
    trol_sampler *sampler = NULL;
    trol_sampler_params p;
    trol_sampler_params_init(&p);
    p.temperature = 1.5f;
    p.top_k = 100;
    p.top_p = 0.99f;
    p.min_p = 1e-6f;
    p.repeat_penalty = 1.1f;
    p.presence_penalty = 0.2f;
    p.frequency_penalty = 0.1f;
    p.repeat_last_n = 20;
    p.seed = 12345;
    p.bias = bias;
    p.n_bias = 3;
    CHECK_OK(trol_sampler_new(&p, &sampler, &error), error);
    return sampler;
}

/* A sampled answer continues as it would have. */
static void check_sampler(const session_case *c) {
    enum { N = 40 };
    trol_error error = {0};
    trol_session *s = new_session(c, 0, TROL_CACHE_F16, 0), *loaded = NULL;
    trol_sampler *sampler = new_sampler(), *second = (trol_sampler *)&error;
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK_OK(trol_sampler_begin(sampler, c->ids, c->n_ids, &error), error);
    for (int i = 0; i < N; i++) {
        const int32_t id = trol_sampler_choose(sampler, trol_session_logits(s), c->info.vocab_size);
        CHECK_OK(trol_sampler_accept(sampler, id, &error), error);
        CHECK_OK(trol_session_decode(s, id, &error), error);
    }
    CHECK_OK(trol_session_save(s, sampler, test_path("session"), &error), error);
    CHECK_OK(trol_session_load(c->model, test_path("session"), NULL, &loaded, &second, &error), error);
    CHECK(second != NULL && trol_sampler_state(second) == trol_sampler_state(sampler), "no sampler, or another state");
    for (int i = 0; i < N && second; i++) {
        const int32_t id = trol_sampler_choose(sampler, trol_session_logits(s), c->info.vocab_size),
                      other = trol_sampler_choose(second, trol_session_logits(loaded), c->info.vocab_size);
        CHECK(id == other && id != 11, "token %d: %d, loaded %d", i, id, other);
        CHECK_OK(trol_sampler_accept(sampler, id, &error), error);
        CHECK_OK(trol_sampler_accept(second, id, &error), error);
        CHECK_OK(trol_session_decode(s, id, &error), error);
        CHECK_OK(trol_session_decode(loaded, id, &error), error);
    }
    trol_session_free(loaded);
    trol_sampler_free(second);
    CHECK_OK(trol_session_load(c->model, test_path("session"), NULL, &loaded, NULL, &error), error);
    trol_session_free(loaded);
    CHECK_OK(trol_session_save(s, NULL, test_path("session"), &error), error);
    second = (trol_sampler *)&error;
    CHECK_OK(trol_session_load(c->model, test_path("session"), NULL, &loaded, &second, &error), error);
    CHECK(second == NULL, "a sampler that was not saved");
    trol_session_free(loaded);
    /* Forged samplers. */
    enum { N_RANDOM = 400, TAIL_BYTES = 240 };
    size_t n;
    uint64_t random = 3;
    CHECK_OK(trol_session_save(s, sampler, test_path("session"), &error), error);
    char *bytes = read_file("session", &n), *copy = malloc(n);
    for (size_t i = 0; i < N_RANDOM; i++) {
        static const uint64_t values[] = {0, 1, UINT64_MAX, 1u << 31, 0x7fc000007f800000, 1ull << 62, 100};
        memcpy(copy, bytes, n);
        const uint64_t value = values[test_random(&random) % (sizeof values / sizeof *values)];
        memcpy(copy + n - 8 - TAIL_BYTES + 4 * (test_random(&random) % (TAIL_BYTES / 4 - 2)), &value, 8);
        write_checksum(copy, n);
        check_file(c, "a forged sampler", i, copy, n, true);
    }
    free(copy);
    memory_free(bytes);
    trol_sampler_free(sampler);
    trol_session_free(s);
}

/* ---- which model ----------------------------------------------------------------------------- */

/* A session can be loaded with the model of the same weights only, wherever that was loaded from. */
static void check_models(const char *name) {
    session_case c = open_case(name, 1);
    trol_error error = {0};
    trol_session *s = new_session(&c, 0, TROL_CACHE_F16, 0);
    int n_refused = 0;
    prefill_case(&c, s, c.ids, c.n_ids);
    CHECK_OK(trol_session_save(s, NULL, test_path("session"), &error), error);
    changed_checkpoint copy = changed_checkpoint_copy(name, "copy");
    for (const cJSON *item = copy.header->child;; item = item->next) {
        trol_session *loaded = NULL;
        if (item && (strcmp(item->string, "__metadata__") == 0 || strstr(item->string, "post_layernorm")))
            continue; /* which is idle */
        changed_checkpoint_write(&copy, item);
        trol_model *other = load_model(copy.folder, 1);
        const trol_status status = trol_session_load(other, test_path("session"), NULL, &loaded, NULL, &error);
        CHECK(status == (item ? TROL_ERROR_ARGUMENT : TROL_OK) && (!item || strstr(error.message, "another model")),
              "%s: %s: %d, %s", name, item ? item->string : "an equal copy", (int)status, error.message);
        n_refused += status != TROL_OK;
        trol_session_free(loaded);
        trol_model_free(other);
        if (!item)
            break;
    }
    CHECK(n_refused > 30, "%d tensors", n_refused);
    changed_checkpoint_remove(&copy);
    trol_session_free(s);
    close_case(&c);
}

/* The other files of a model count, too. */
static void check_identity(const char *name) {
    unsigned char own[IDENTITY_BYTES], found[IDENTITY_BYTES];
    trol_error error = {0};
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, name);
    for (int i = 0; i < 8; i++) {
        trol_model *model = load_model(path, 1);
        decoder_weights *w = &model->weights->decoder;
        const int64_t last = model->config.decoder.n_layers - 1;
        if (i == 2)
            ((float *)w->layers[last].mixer_weight)[1] += 1;
        if (i == 3)
            w->layers[last].mixer_bias += 1;
        if (i == 4)
            model->config.decoder.rms_norm_eps *= 2;
        if (i == 5)
            model->tokenizer->tokens[300].rank++;
        if (i == 6)
            model->config.vision.norm_eps *= 2;
        if (i == 7)
            model->end_tokens[0]++;
        CHECK_OK(identity_of_model(model, i == 0 ? own : found, &error), error);
        if (i > 0)
            CHECK((memcmp(own, found, sizeof own) == 0) == (i == 1), "%s: change %d", name, i);
        trol_model_free(model);
    }
}

/* Another arithmetic, other parameters: refused by a sentence; the context's size is the caller's. */
static void check_params(const session_case *c) {
    trol_error error = {0};
    char path[1024];
    trol_model_params model_params;
    trol_session_params params;
    trol_session *s = new_session(c, 0, TROL_CACHE_F16, 1), *loaded = NULL;
    trol_model *other = NULL;
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK_OK(trol_session_save(s, NULL, test_path("session"), &error), error);
    snprintf(path, sizeof path, "%s/internlm2-clip", TEST_REFERENCE);
    trol_model_params_init(&model_params);
    model_params.weight_type = TROL_WEIGHTS_Q8;
    CHECK_OK(trol_model_load(path, &model_params, &other, &error), error);
    CHECK(trol_session_load(other, test_path("session"), NULL, &loaded, NULL, &error) == TROL_ERROR_ARGUMENT &&
              !loaded && strstr(error.message, "in another way") && strstr(error.message, "weights q8"),
          "%s", error.message);
    trol_model_free(other);
    trol_session_params_init(&params);
    params.keep_pass2 = 1;
    params.context_size = (int32_t)c->n_ids + 1;
    CHECK_OK(trol_session_load(c->model, test_path("session"), &params, &loaded, NULL, &error), error);
    CHECK_OK(trol_session_decode(loaded, 5, &error), error);
    CHECK(trol_session_decode(loaded, 5, &error) == TROL_ERROR_CONTEXT, "%s", error.message);
    trol_session_free(loaded);
    params.traversal = TROL_TRAVERSAL_ALL;
    CHECK(trol_session_load(c->model, test_path("session"), &params, &loaded, NULL, &error) == TROL_ERROR_ARGUMENT &&
              !loaded && strstr(error.message, "other parameters"),
          "%s", error.message);
    params.traversal = TROL_TRAVERSAL_PROMPT;
    params.cache_type = TROL_CACHE_Q8;
    CHECK(trol_session_load(c->model, test_path("session"), &params, &loaded, NULL, &error) == TROL_ERROR_ARGUMENT &&
              !loaded && strstr(error.message, "cache_type f16") && strstr(error.message, "expected 0, q8"),
          "%s", error.message);
    trol_session_free(s);
}

/* ---- a save that does not come to its end ----------------------------------------------------- */

/* A process that is killed while it saves (at a limit on files' bytes) leaves the old file as it was. */
static void check_killed(const session_case *c) {
    trol_error error = {0};
    size_t n, n_again;
    int n_killed = 0;
    trol_session *s = new_session(c, 0, TROL_CACHE_F16, 1), *loaded = NULL;
    prefill_case(c, s, c->ids, c->n_ids);
    CHECK_OK(trol_session_save(s, NULL, test_path("killed"), &error), error);
    char *bytes = read_file("killed", &n);
    CHECK_OK(trol_session_decode(s, 5, &error), error);
    for (size_t limit = 0; limit < n; limit += n / 5) {
        const pid_t child = fork();
        if (child == 0) {
            const struct rlimit small = {limit, limit};
            setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
            setrlimit(RLIMIT_FSIZE, &small);
            _exit(trol_session_save(s, NULL, test_path("killed"), NULL) == TROL_OK);
        }
        int status = 0;
        waitpid(child, &status, 0);
        n_killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ;
        char *again = read_file("killed", &n_again);
        CHECK(n == n_again && memcmp(bytes, again, n) == 0, "limit %zu: the old file has changed", limit);
        memory_free(again);
    }
    CHECK(n_killed >= 5, "%d were killed", n_killed);
    CHECK_OK(trol_session_load(c->model, test_path("killed"), NULL, &loaded, NULL, &error), error);
    trol_session_free(loaded);
    CHECK_OK(trol_session_save(s, NULL, test_path("killed"), &error), error);
    CHECK_OK(trol_session_load(c->model, test_path("killed"), NULL, &loaded, NULL, &error), error);
    check_equal(c, "after saves that were killed", s, loaded);
    trol_session_free(loaded);
    trol_session_free(s);
    memory_free(bytes);
}

int main(void) {
    test_make_folder();
    session_case c = open_case("internlm2-clip", 1);
    check_states(&c);
    check_places(&c);
    check_broken_files(&c);
    check_failed_prompt(&c);
    check_versions(&c);
    check_sampler(&c);
    check_params(&c);
    check_killed(&c);
    close_case(&c);
    check_models("internlm2-clip");
    check_models("phi3-internvit");
    check_identity("e2e-internlm2");
    session_case phi3 = open_case("phi3-internvit", 1);
    check_states(&phi3);
    close_case(&phi3);
    test_remove_folder();
    return test_summary("test-snapshot");
}
