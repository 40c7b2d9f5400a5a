/* test-step.c - steps of several sessions: random mixes of prompts' pieces, answers and forks give to the bit what each
 * sequence gives alone; an item that fails does not affect others; gates stay with their tokens; keys too large for an
 * f16 cache. */
#include "engine/identity.h"
#include "files.h"
#include "kernels/linear.h"
#include "session_cases.h"

enum { MAX_ANSWER = 24, N_SESSIONS = 6 };

static trol_error error;
static bool to_the_bit = true; /* except where OpenBLAS multiplies prompts, whose rows then depend on their number */

/* Equal logits [vocab_size], or (with OpenBLAS, and keys rounded to f16 or q8) to rounding. */
static bool is_same(const session_case *c, const float *found, const float *expected) {
    double largest = 0, difference = 0;
    if (to_the_bit)
        return memcmp(found, expected, (size_t)c->info.vocab_size * sizeof *found) == 0;
    for (int32_t i = 0; i < c->info.vocab_size; i++) {
        largest = fmax(largest, fabs((double)expected[i]));
        difference = fmax(difference, fabs((double)found[i] - (double)expected[i]));
    }
    return difference <= 1e-2 * largest;
}

static bool same_logits(const session_case *c, const trol_session *a, const trol_session *b) {
    return is_same(c, logits_of(a), logits_of(b));
}

/* ---- mixes ----------------------------------------------------------------------------------- */

/* A prompt and an answer, and the logits that they give alone: of the prompt, and after each answer token. */
typedef struct sequence {
    const int32_t *prompt; /* [n_prompt] */
    size_t n_prompt;
    trol_features **features; /* [n_features] */
    size_t n_features;
    int32_t answer[MAX_ANSWER];
    float *logits; /* [MAX_ANSWER + 1, vocab_size] */
} sequence;

static trol_session *new_session(trol_model *model, trol_traversal mode, trol_cache_type cache) {
    trol_session *s = NULL;
    trol_session_params params;
    trol_session_params_init(&params);
    params.traversal = mode;
    params.cache_type = cache;
    params.context_size = 256;
    params.keep_gates = 1;
    CHECK_OK(trol_session_new(model, &params, &s, &error), error);
    if (!s)
        exit(1);
    return s;
}

static void run_alone(const session_case *c, sequence *q, trol_traversal mode, trol_cache_type cache) {
    const size_t row = (size_t)c->info.vocab_size;
    trol_session *s = new_session(c->model, mode, cache);
    CHECK_OK(trol_session_prefill(s, q->prompt, q->n_prompt, q->features, q->n_features, &error), error);
    memcpy(q->logits, logits_of(s), row * sizeof *q->logits);
    for (size_t i = 0; i < MAX_ANSWER; i++) {
        CHECK_OK(trol_session_decode(s, q->answer[i], &error), error);
        memcpy(q->logits + (i + 1) * row, logits_of(s), row * sizeof *q->logits);
    }
    trol_session_free(s);
}

/* A session that is going through a sequence. */
typedef struct walker {
    const sequence *q;
    trol_session *s;
    size_t n_prompt, n_answer; /* fed so far */
} walker;

static void begin(walker *w, const session_case *c, const sequence *q, trol_traversal mode, trol_cache_type cache) {
    *w = (walker){.q = q, .s = new_session(c->model, mode, cache)};
    CHECK_OK(trol_session_prompt_begin(w->s, q->n_prompt, q->features, q->n_features, &error), error);
}

/* The next tokens of a walker: a piece of the prompt, or of the answer. */
static trol_step_item next_item(const walker *w, uint64_t *random) {
    const bool prompt = w->n_prompt < w->q->n_prompt;
    const size_t left = prompt ? w->q->n_prompt - w->n_prompt : MAX_ANSWER - w->n_answer;
    size_t n = 1 + test_random(random) % (prompt && test_random(random) % 2 ? left : 4);
    n = n < left ? n : left;
    return (trol_step_item){.session = w->s,
                            .tokens = prompt ? w->q->prompt + w->n_prompt : w->q->answer + w->n_answer,
                            .n_tokens = n,
                            .error = &error};
}

static void advance(walker *w, const session_case *c, size_t n, const char *what, int mode) {
    if (w->n_prompt < w->q->n_prompt) {
        w->n_prompt += n;
        if (w->n_prompt < w->q->n_prompt)
            return;
        CHECK_OK(trol_session_prompt_end(w->s, &error), error);
    } else {
        w->n_answer += n;
    }
    const size_t row = (size_t)c->info.vocab_size;
    CHECK(is_same(c, logits_of(w->s), w->q->logits + w->n_answer * row),
          "%s, mode %d: prompt of %zu, %zu answer tokens: not what it gives alone", what, mode, w->q->n_prompt,
          w->n_answer);
}

static bool is_done(const walker *w) { return w->n_answer == MAX_ANSWER; }

static void check_mix(const session_case *c, const char *what, const sequence *sequences, size_t n_sequences, int mode,
                      trol_cache_type cache, uint64_t *random) {
    walker walkers[N_SESSIONS];
    for (size_t i = 0; i < N_SESSIONS; i++)
        begin(&walkers[i], c, &sequences[i % n_sequences], (trol_traversal)mode, cache);
    for (size_t n_done = 0; n_done < N_SESSIONS;) {
        trol_step_item items[N_SESSIONS];
        walker *chosen[N_SESSIONS];
        size_t n = 0;
        for (size_t i = 0; i < N_SESSIONS; i++) {
            if (is_done(&walkers[i]) || test_random(random) % 3 == 0)
                continue;
            chosen[n] = &walkers[i];
            items[n++] = next_item(&walkers[i], random);
        }
        CHECK_OK(trol_step(items, n, &error), error);
        for (size_t i = 0; i < n; i++) {
            CHECK(items[i].status == TROL_OK, "%s, mode %d: %s", what, mode, error.message);
            advance(chosen[i], c, items[i].n_tokens, what, mode);
        }
        /* Now and then one that is done is replaced by a fork of another that is answering. */
        n_done = 0;
        for (size_t i = 0; i < N_SESSIONS; i++) {
            const walker *from = &walkers[test_random(random) % N_SESSIONS];
            if (is_done(&walkers[i]) && from->n_answer > 0 && !is_done(from) && test_random(random) % 2) {
                trol_session_free(walkers[i].s);
                walkers[i] = *from;
                CHECK_OK(trol_session_fork(from->s, &walkers[i].s, &error), error);
            }
            n_done += is_done(&walkers[i]);
        }
    }
    for (size_t i = 0; i < N_SESSIONS; i++)
        trol_session_free(walkers[i].s);
}

static void check_mixes(const session_case *c, const char *what) {
    enum { N_SEQUENCES = 4 };
    const size_t lengths[N_SEQUENCES] = {c->n_ids, 1, 5, 70};
    sequence sequences[N_SEQUENCES];
    uint64_t random = 11;
    int32_t text[128];
    trol_features *features = c->features;
    for (size_t i = 0; i < 128; i++)
        text[i] = (int32_t)(3 + i * 7919 % 400);
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        sequences[i] = (sequence){.prompt = i == 0 ? c->ids : text + i, .n_prompt = lengths[i]};
        sequences[i].features = &features;
        sequences[i].n_features = i == 0 && features;
        sequences[i].logits = malloc((MAX_ANSWER + 1) * (size_t)c->info.vocab_size * sizeof(float));
        for (int k = 0; k < MAX_ANSWER; k++)
            sequences[i].answer[k] = (int32_t)(test_random(&random) % 400);
    }
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++)
        for (trol_cache_type cache = TROL_CACHE_F16; cache <= TROL_CACHE_Q8; cache++) {
            for (size_t i = 0; i < N_SEQUENCES; i++)
                run_alone(c, &sequences[i], (trol_traversal)mode, cache);
            for (int round = 0; round < 3; round++)
                check_mix(c, what, sequences, N_SEQUENCES, mode, cache, &random);
        }
    for (size_t i = 0; i < N_SEQUENCES; i++)
        free(sequences[i].logits);
}

/* Sessions of all three modes in one step. */
static void check_modes_together(const session_case *c) {
    trol_session *together[3], *alone[3];
    trol_step_item items[3];
    for (int mode = 0; mode < 3; mode++) {
        together[mode] = open_session(c->model, (trol_traversal)mode, 0, 0);
        alone[mode] = open_session(c->model, (trol_traversal)mode, 0, 0);
        prefill_case(c, alone[mode], c->ids, c->n_ids);
        CHECK_OK(trol_session_prompt_begin(together[mode], c->n_ids, &c->features, c->features != NULL, &error), error);
        items[mode] = (trol_step_item){.session = together[mode], .tokens = c->ids, .n_tokens = c->n_ids};
    }
    CHECK_OK(trol_step(items, 3, &error), error);
    for (int mode = 0; mode < 3; mode++) {
        CHECK_OK(trol_session_prompt_end(together[mode], &error), error);
        CHECK(same_logits(c, together[mode], alone[mode]), "mode %d beside others", mode);
        trol_session_free(together[mode]);
        trol_session_free(alone[mode]);
    }
}

/* ---- what fails fails alone ------------------------------------------------------------------ */

/* What an observer cancels in layer 1: another session of the batch, once, or (NULL) its own. */
typedef struct canceller {
    trol_session *other;
    bool done;
} canceller;

static int stop_in_layer_1(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows,
                           int64_t n_columns, const float *values) {
    (void)stage, (void)first, (void)n_rows, (void)n_columns, (void)values;
    canceller *c = user;
    if (layer != 1 || c->done)
        return 0;
    c->done = true;
    trol_session_cancel(c->other);
    return !c->other;
}

static void check_failures(const session_case *c) {
    enum { FULL, CANCELLED, GOOD, TWICE, BAD, PROMPT, NONE, N };
    trol_error errors[N] = {{0}};
    trol_session *s[N] = {NULL}, *alone = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 0);
    const int32_t token = 7, bad = 1000000;
    trol_step_item items[N];
    prefill_case(c, alone, c->ids, c->n_ids);
    for (int i = 0; i < N; i++) {
        if (i != TWICE && i != NONE)
            s[i] = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, i == FULL ? (int32_t)c->n_ids : 0);
        if (s[i])
            prefill_case(c, s[i], c->ids, c->n_ids);
        items[i] = (trol_step_item){s[i], &token, 1, &errors[i], TROL_OK};
    }
    items[TWICE].session = s[GOOD];
    items[BAD].tokens = &bad;
    CHECK_OK(trol_session_prompt_begin(s[PROMPT], c->n_ids, NULL, 0, &error), error); /* without its picture */
    items[PROMPT].tokens = c->ids;
    items[PROMPT].n_tokens = c->n_ids;
    trol_session_cancel(s[CANCELLED]);
    CHECK_OK(trol_step(items, N, &error), error);
    static const struct {
        trol_status status;
        const char *text;
    } expected[N] = {{TROL_ERROR_CONTEXT, "do not fit"},
                     {TROL_ERROR_CANCELLED, "cancelled"},
                     {TROL_OK, ""},
                     {TROL_ERROR_ARGUMENT, "are the same"},
                     {TROL_ERROR_ARGUMENT, "token id"},
                     {TROL_ERROR_ARGUMENT, "image tokens"},
                     {TROL_ERROR_ARGUMENT, "session is NULL"}};
    for (int i = 0; i < N; i++)
        CHECK(items[i].status == expected[i].status && strstr(errors[i].message, expected[i].text),
              "item %d: status %d, \"%s\"", i, (int)items[i].status, errors[i].message);
    for (int i = FULL; i <= BAD; i++)
        if (i != GOOD && i != TWICE)
            CHECK(trol_session_n_tokens(s[i]) == c->n_ids && same_logits(c, s[i], alone),
                  "the session of item %d changed", i);
    CHECK(trol_session_decode(s[PROMPT], 7, &error) == TROL_ERROR_STATE, "a prompt of which a piece failed");
    CHECK_OK(trol_session_decode(s[CANCELLED], token, &error), error); /* once is enough */
    CHECK_OK(trol_session_decode(alone, token, &error), error);
    CHECK(same_logits(c, s[GOOD], alone) && same_logits(c, s[CANCELLED], alone), "beside items that failed");
    items[GOOD].tokens = NULL;
    CHECK_OK(trol_step(&items[GOOD], 1, &error), error);
    CHECK(items[GOOD].status == TROL_ERROR_ARGUMENT, "tokens that are NULL");
    CHECK(trol_step(NULL, 2, &error) == TROL_ERROR_ARGUMENT, "items that are NULL");
    CHECK_OK(trol_step(NULL, 0, &error), error);
    for (int i = 0; i < N; i++)
        trol_session_free(s[i]);
    trol_session_free(alone);
}

/* One is cancelled in the middle of the batch: by its own observer, or by a call from outside. */
static void check_cancel_within(const session_case *c) {
    for (int outside = 0; outside <= 1; outside++) {
        trol_error errors[2] = {{0}};
        trol_session *prompt = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0),
                     *answer = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0),
                     *alone = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0);
        prefill_case(c, answer, c->ids, c->n_ids);
        prefill_case(c, alone, c->ids, c->n_ids);
        CHECK_OK(trol_session_prompt_begin(prompt, c->n_ids, &c->features, c->features != NULL, &error), error);
        canceller cancels = {outside ? answer : NULL, false};
        trol_session_set_observer(prompt, stop_in_layer_1, &cancels);
        const int32_t token = 9;
        trol_step_item items[2] = {{prompt, c->ids, c->n_ids, &errors[0], TROL_OK},
                                   {answer, &token, 1, &errors[1], TROL_OK}};
        CHECK_OK(trol_step(items, 2, &error), error);
        CHECK(items[!outside ? 0 : 1].status == TROL_ERROR_CANCELLED && items[outside ? 0 : 1].status == TROL_OK,
              "outside %d: statuses %d and %d", outside, (int)items[0].status, (int)items[1].status);
        if (outside) {
            CHECK(same_logits(c, answer, alone) && trol_session_n_tokens(answer) == c->n_ids,
                  "a cancelled answer moved");
            CHECK_OK(trol_session_prompt_end(prompt, &error), error);
            CHECK(same_logits(c, prompt, alone), "a prompt beside a cancelled answer");
        } else {
            CHECK(trol_session_n_tokens(prompt) == 0, "a cancelled prompt moved");
            CHECK(trol_session_decode(prompt, 9, &error) == TROL_ERROR_STATE, "a cancelled prompt can be answered");
        }
        if (outside)
            CHECK_OK(trol_session_decode(answer, token, &error), error);
        CHECK_OK(trol_session_decode(alone, token, &error), error);
        CHECK(same_logits(c, answer, alone), "outside %d: the answer after it", outside);
        trol_session_free(prompt);
        trol_session_free(answer);
        trol_session_free(alone);
    }
}

/* ---- what may be reused ---------------------------------------------------------------------- */

static void check_reusable(const session_case *c) {
    const size_t n = c->n_ids;
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0);
    int32_t *longer = malloc((n + 4) * sizeof *longer);
    for (size_t i = 0; i < n + 4; i++)
        longer[i] = i < n ? c->ids[i] : 5;
    CHECK(trol_session_reusable(s, longer, n, &c->features, 1) == 0, "of an empty session");
    prefill_case(c, s, c->ids, n);
    CHECK(trol_session_reusable(s, longer, n + 4, &c->features, 1) == n, "a longer prompt");
    CHECK(trol_session_reusable(s, longer, n, &c->features, 1) == n - 1, "the last token is computed");
    CHECK(trol_session_reusable(s, longer, 1, NULL, 0) == 0, "a prompt of one token");
    size_t first = 0;
    while (c->ids[first] != c->info.image_token)
        first++;
    CHECK(trol_session_reusable(s, longer, n, NULL, 0) == first, "image tokens without a picture");
    longer[first + 2] = 6;
    CHECK(trol_session_reusable(s, longer, n + 4, &c->features, 1) == first + 2, "a token that differs");
    CHECK(trol_session_reusable(NULL, longer, n, NULL, 0) == 0 && trol_session_reusable(s, NULL, n, NULL, 0) == 0 &&
              trol_session_reusable(s, longer, n, NULL, 1) == 0,
          "NULL");
    CHECK_OK(trol_session_truncate(s, 1, &error), error);
    CHECK(trol_session_reusable(s, c->ids, n, &c->features, 1) == 1, "one token of a longer prompt was traversed");
    CHECK_OK(trol_session_prefill(s, c->ids, 1, NULL, 0, &error), error);
    CHECK(trol_session_reusable(s, c->ids, n, &c->features, 1) == 0, "a prompt of one token was not");
    trol_session_free(s);
    free(longer);
}

/* LongRoPE's threshold is 16 tokens here. */
static void check_threshold(void) {
    session_case c = open_case("phi3-internvit-border", 1);
    int32_t ids[40];
    for (size_t i = 0; i < 40; i++)
        ids[i] = (int32_t)(3 + i * 7919 % 400);
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++) {
        trol_session *s = open_session(c.model, (trol_traversal)mode, 1, 0);
        CHECK_OK(trol_session_prefill(s, ids, 10, NULL, 0, &error), error);
        CHECK(trol_session_reusable(s, ids, 16, NULL, 0) == 10, "mode %d: before the threshold", mode);
        CHECK(trol_session_reusable(s, ids, 17, NULL, 0) == 0, "mode %d: over the threshold", mode);
        for (size_t i = 10; i < 20; i++)
            CHECK_OK(trol_session_decode(s, ids[i], &error), error);
        const size_t past = trol_session_reusable(s, ids, 20, NULL, 0);
        CHECK(trol_session_reusable(s, ids, 16, NULL, 0) == 0, "mode %d: back over the threshold", mode);
        CHECK(past == (mode == TROL_TRAVERSAL_ALL ? 19 : 0), "mode %d: %zu tokens past the threshold", mode, past);
        CHECK_OK(trol_session_truncate(s, 5, &error), error);
        CHECK(trol_session_reusable(s, ids, 12, NULL, 0) == 0, "mode %d: keys of two ropes", mode);
        trol_session_free(s);
    }
    check_mixes(&c, "phi3-internvit-border");
    close_case(&c);
}

/* ---- identities ------------------------------------------------------------------------------ */

static void check_identities(void) {
    unsigned char first[IDENTITY_BYTES], again[IDENTITY_BYTES];
    const uint8_t rgb[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    trol_image *wide = NULL, *tall = NULL;
    char folder[1024];
    CHECK_OK(trol_image_load_rgb(rgb, 4, 1, 12, &wide, &error), error);
    CHECK_OK(trol_image_load_rgb(rgb, 1, 4, 3, &tall, &error), error);
    snprintf(folder, sizeof folder, "%s/internlm2-clip", TEST_REFERENCE);
    for (int i = 0; i < 3; i++) {
        trol_model *model = NULL;
        trol_model_params params;
        trol_model_params_init(&params);
        params.vision_type = i == 2 ? TROL_WEIGHTS_Q8 : TROL_WEIGHTS_AS_STORED;
        CHECK_OK(trol_model_load(folder, &params, &model, &error), error);
        CHECK_OK(identity_of_image(model, wide, i == 0 ? first : again, &error), error);
        if (i > 0)
            CHECK((memcmp(first, again, sizeof first) == 0) == (i == 1), "an encoder in %d bits", i == 1 ? 32 : 8);
        CHECK_OK(identity_of_image(model, tall, again, &error), error);
        CHECK(memcmp(first, again, sizeof first) != 0, "the same pixels in another shape");
        trol_model_free(model);
    }
    trol_image_free(wide);
    trol_image_free(tall);
}

/* ---- gates ----------------------------------------------------------------------------------- */

/* Rows 0 .. n_prompt - 1 are the reference's, the others are not traversed. */
static void check_gates(const session_case *c, const char *what, const trol_session *s, const float *expected,
                        size_t n_prompt) {
    for (int32_t layer = 0; layer < c->info.n_layers; layer++) {
        const float *gates = trol_session_gates(s, layer);
        CHECK(gates != NULL, "%s: no gates of layer %d", what, layer);
        if (!gates)
            return;
        reference_compare(what, gates, expected + (size_t)layer * c->n_ids, (int64_t)n_prompt, 1, 1e-4);
        for (size_t i = n_prompt; i < trol_session_n_tokens(s); i++)
            CHECK(isnan(gates[i]), "%s: the gate of token %zu in layer %d is %g", what, i, layer, (double)gates[i]);
    }
}

static void check_gates_stay(const char *name) {
    session_case c = open_case(name, 1);
    char folder[512];
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    tensor_source *reference = reference_open(folder, "reference.safetensors");
    reference_tensor expected = {0};
    CHECK(reference_find(reference, "gate", &expected) && expected.shape[1] == (int64_t)c.n_ids, "%s: no gates", name);
    trol_session_params params;
    trol_session_params_init(&params);
    params.cache_type = TROL_CACHE_F32;
    params.keep_pass2 = params.keep_gates = 1;
    trol_session *s = NULL, *fork = NULL, *loaded = NULL;
    CHECK_OK(trol_session_new(c.model, &params, &s, &error), error);
    CHECK(!trol_session_gates(s, 0), "gates of no token");
    prefill_case(&c, s, c.ids, c.n_ids);
    check_gates(&c, "a prompt", s, expected.values, c.n_ids);
    for (int i = 0; i < 100; i++) /* the lists grow */
        CHECK_OK(trol_session_decode(s, 9, &error), error);
    check_gates(&c, "an answer", s, expected.values, c.n_ids);
    CHECK_OK(trol_session_fork(s, &fork, &error), error);
    check_gates(&c, "a fork", fork, expected.values, c.n_ids);
    CHECK_OK(trol_session_save(s, NULL, test_path("gates"), &error), error);
    CHECK_OK(trol_session_load(c.model, test_path("gates"), NULL, &loaded, NULL, &error), error);
    check_gates(&c, "a loaded session", loaded, expected.values, c.n_ids);
    CHECK_OK(trol_session_truncate(loaded, c.n_ids - 3, &error), error);
    check_gates(&c, "a truncated session", loaded, expected.values, c.n_ids - 3);
    prefill_case(&c, loaded, c.ids, c.n_ids);
    CHECK(stats_of(loaded).reused_tokens == (int64_t)c.n_ids - 3, "%lld tokens reused",
          (long long)stats_of(loaded).reused_tokens);
    check_gates(&c, "a prompt that was reused", loaded, expected.values, c.n_ids);
    CHECK(!trol_session_gates(s, -1) && !trol_session_gates(s, c.info.n_layers) && !trol_session_gates(NULL, 0),
          "gates of a layer that does not exist");
    trol_session_free(s);
    trol_session_free(fork);
    trol_session_free(loaded);
    s = open_session(c.model, TROL_TRAVERSAL_PROMPT, 0, 0);
    prefill_case(&c, s, c.ids, c.n_ids);
    CHECK(!trol_session_gates(s, 0), "gates without keep_gates");
    trol_session_free(s);
    tensor_source_close(reference);
    close_case(&c);
}

/* ---- keys that are too large ----------------------------------------------------------------- */

/* The case's folder with one norm that makes keys of a hundred thousand and more. */
static trol_model *load_with_large_keys(const char *name) {
    static const char *const files[] = {"config.json", "trol_gating.pt"};
    char path[1024], *bytes = NULL;
    size_t n_bytes = 0;
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", TEST_REFERENCE, name, files[i]);
        CHECK(symlink(path, test_path(files[i])) == 0, "%s", path);
    }
    snprintf(path, sizeof path, "%s/%s/model.safetensors", TEST_REFERENCE, name);
    CHECK_OK(file_read(path, 1 << 26, &bytes, &n_bytes, &error), error);
    uint64_t n_header;
    memcpy(&n_header, bytes, sizeof n_header);
    char *entry = strstr(bytes + 8, "layers.1.attention_norm.weight"), *offsets = strstr(entry, "data_offsets");
    const bool bf16 = strncmp(strchr(entry, '{'), "{\"dtype\":\"BF16\"", 15) == 0;
    unsigned long long first = 0, last = 0;
    CHECK(sscanf(strchr(offsets, '[') + 1, "%llu,%llu", &first, &last) == 2 && bf16, "%s: the norm's place", path);
    for (unsigned long long i = first; i < last; i += 2) /* 59904 in BF16 */
        memcpy(bytes + 8 + n_header + i, "\x6a\x47", 2);
    test_write("model.safetensors", bytes, n_bytes);
    memory_free(bytes);
    return load_model(test_folder, 1);
}

static void check_large_keys(void) {
    session_case c = open_case("internlm2-clip-text", 1);
    trol_model_free(c.model);
    c.model = load_with_large_keys("internlm2-clip-text");
    trol_session *f16 = new_session(c.model, TROL_TRAVERSAL_PROMPT, TROL_CACHE_F16),
                 *f32 = new_session(c.model, TROL_TRAVERSAL_PROMPT, TROL_CACHE_F32),
                 *q8 = new_session(c.model, TROL_TRAVERSAL_PROMPT, TROL_CACHE_Q8);
    CHECK_OK(trol_session_prompt_begin(f16, c.n_ids, NULL, 0, &error), error);
    CHECK_OK(trol_session_prompt_begin(f32, c.n_ids, NULL, 0, &error), error);
    CHECK_OK(trol_session_prompt_begin(q8, c.n_ids, NULL, 0, &error), error);
    trol_step_item items[3] = {{f16, c.ids, c.n_ids, &error, TROL_OK},
                               {f32, c.ids, c.n_ids, NULL, TROL_OK},
                               {q8, c.ids, c.n_ids, NULL, TROL_OK}};
    CHECK_OK(trol_step(items, 3, &error), error);
    CHECK(items[0].status == TROL_ERROR_UNSUPPORTED && strstr(error.message, "f16 cache") &&
              strstr(error.message, "--cache-type q8"),
          "%d: %s", (int)items[0].status, error.message);
    CHECK(items[1].status == TROL_OK && isfinite(logits_of(f32)[0]), "in float32");
    CHECK(items[2].status == TROL_OK, "in q8");
    double largest = 0, difference = 0;
    for (int32_t i = 0; i < c.info.vocab_size; i++) {
        largest = fmax(largest, fabs((double)logits_of(f32)[i]));
        difference = fmax(difference, fabs((double)logits_of(f32)[i] - (double)logits_of(q8)[i]));
    }
    CHECK(difference <= 0.05 * largest, "q8 keys beyond f16 change a logit by %g of %g", difference, largest);
    trol_session_free(q8);
    trol_session_free(f16);
    trol_session_free(f32);
    close_case(&c);
}

/* With weights in 8 bits, which have kernels of their own. */
static void check_packed(const char *name) {
    session_case c = open_case(name, 2);
    char folder[512];
    trol_model_params params;
    trol_model_params_init(&params);
    params.weight_type = TROL_WEIGHTS_Q8;
    params.n_threads = 2;
    trol_model_free(c.model);
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    CHECK_OK(trol_model_load(folder, &params, &c.model, &error), error);
    check_mixes(&c, name);
    close_case(&c);
}

int main(void) {
    static const char *const names[] = {"internlm2-clip", "phi3-internvit"};
    const kernels *table;
    char text[256];
    CHECK_OK(kernels_get(&table, &error), error);
    to_the_bit = !linear_describe_blas(table, text, sizeof text);
    test_make_folder();
    for (size_t i = 0; i < 2; i++) {
        session_case c = open_case(names[i], 2);
        check_mixes(&c, names[i]);
        check_modes_together(&c);
        check_failures(&c);
        check_cancel_within(&c);
        check_reusable(&c);
        check_gates_stay(names[i]);
        close_case(&c);
        test_clear_folder();
    }
    check_packed("internlm2-clip-text");
    check_packed("phi3-internvit-text");
    check_threshold();
    check_identities();
    check_large_keys();
    test_remove_folder();
    return test_summary("test-step");
}
