/* test-thresholds.c - texts that grow past the lengths at which a model computes differently: dynamic NTK's and
 * LongRoPE's thresholds and the sliding window. The reference cases have those lengths far away, so they are copied
 * with a changed config.json. */
#include "files.h"
#include "session_cases.h"

enum { N_TOKENS = 40 }; /* of the text */

/* The case's folder with one piece of its config.json replaced, as links to its files. */
static session_case open_changed(const char *name, const char *from, const char *to) {
    static const char *const files[] = {"model.safetensors", "trol_gating.pt"};
    char path[1024], *text = NULL;
    size_t n_bytes = 0;
    trol_error error = {0};
    session_case c = {.info = {.size = sizeof c.info}};
    test_clear_folder();
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", TEST_REFERENCE, name, files[i]);
        CHECK(symlink(path, test_path(files[i])) == 0, "%s", path);
    }
    snprintf(path, sizeof path, "%s/%s/config.json", TEST_REFERENCE, name);
    CHECK_OK(file_read(path, 1 << 20, &text, &n_bytes, &error), error);
    char *changed = malloc(n_bytes + strlen(to) + 1), *where = strstr(text, from);
    CHECK(where != NULL, "%s: no %s", path, from);
    const size_t before = where ? (size_t)(where - text) : n_bytes;
    memcpy(changed, text, before);
    strcpy(changed + before, where ? to : "");
    strcat(changed, where ? where + strlen(from) : "");
    test_write("config.json", changed, strlen(changed));
    free(changed);
    memory_free(text);
    c.model = load_model(test_folder, 1);
    CHECK_OK(trol_model_get_info(c.model, &c.info, &error), error);
    c.ids = malloc(N_TOKENS * sizeof *c.ids);
    c.n_ids = N_TOKENS;
    for (size_t i = 0; i < c.n_ids; i++)
        c.ids[i] = (int32_t)(1 + i * 7919 % 500);
    return c;
}

/* A fresh session after a prompt of the text's first n tokens. */
static trol_session *fresh_prompt(const session_case *c, trol_traversal mode, size_t n) {
    trol_session *s = open_session(c->model, mode, 1, 0);
    prefill_case(c, s, c->ids, n);
    return s;
}

/* Mode all, token by token from n_prompt on, equals recomputing everything at each step. */
static void check_stepwise(const session_case *c, const char *what, size_t n_prompt) {
    trol_error error = {0};
    trol_session *s = fresh_prompt(c, TROL_TRAVERSAL_ALL, n_prompt);
    for (size_t n = n_prompt + 1; n <= N_TOKENS; n++) {
        trol_session *whole = fresh_prompt(c, TROL_TRAVERSAL_ALL, n);
        CHECK_OK(trol_session_decode(s, c->ids[n - 1], &error), error);
        compare_logits(c, what, s, whole);
        trol_session_free(whole);
    }
    CHECK(stats_of(s).decoded_tokens == (int64_t)(N_TOKENS - n_prompt), "%s: %lld tokens decoded", what,
          (long long)stats_of(s).decoded_tokens);
    trol_session_free(s);
}

/* Prompts of growing length in one session, with an answer in between, equal fresh ones, whatever is reused. Returns
 * how many of the steps reused something. */
static int check_turns(const session_case *c, const char *what, trol_traversal mode, size_t step) {
    int n_reusing = 0;
    trol_error error = {0};
    trol_session *s = fresh_prompt(c, mode, 8);
    for (size_t n = 8 + step; n <= N_TOKENS; n += step) {
        const int64_t reused = stats_of(s).reused_tokens;
        trol_session *whole = fresh_prompt(c, mode, n);
        for (size_t i = trol_session_n_tokens(s); i < n - 1; i++) /* the answer, part of the next prompt */
            CHECK_OK(trol_session_decode(s, c->ids[i], &error), error);
        prefill_case(c, s, c->ids, n);
        compare_logits(c, what, s, whole);
        n_reusing += stats_of(s).reused_tokens > reused;
        /* And the answer to it. */
        CHECK_OK(trol_session_decode(s, 77, &error), error);
        CHECK_OK(trol_session_decode(whole, 77, &error), error);
        compare_logits(c, what, s, whole);
        CHECK_OK(trol_session_truncate(s, n, &error), error);
        trol_session_free(whole);
    }
    trol_session_free(s);
    return n_reusing;
}

/* A prompt that is appended token by token uses the whole prompt's length from the first one on. */
static void check_chunks(const session_case *c, const char *what, trol_traversal mode) {
    trol_error error = {0};
    trol_session *s = open_session(c->model, mode, 0, 0), *whole = fresh_prompt(c, mode, N_TOKENS);
    CHECK_OK(trol_session_prompt_begin(s, N_TOKENS, NULL, 0, &error), error);
    for (size_t i = 0; i < N_TOKENS; i++)
        CHECK_OK(trol_session_prompt_append(s, &c->ids[i], 1, &error), error);
    CHECK_OK(trol_session_prompt_end(s, &error), error);
    compare_logits(c, what, s, whole);
    trol_session_free(s);
    trol_session_free(whole);
}

/* The change does change what comes after N_TOKENS tokens, and nothing before the threshold. */
static void check_effect(const session_case *c, const char *name, const char *what, size_t threshold) {
    char folder[1024];
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    session_case plain = *c;
    plain.model = load_model(folder, 1);
    trol_session *a = fresh_prompt(c, TROL_TRAVERSAL_PROMPT, threshold),
                 *b = fresh_prompt(&plain, TROL_TRAVERSAL_PROMPT, threshold);
    CHECK(equal_logits(c, a, b), "%s: differs before the threshold", what);
    trol_session_free(a);
    trol_session_free(b);
    a = fresh_prompt(c, TROL_TRAVERSAL_PROMPT, threshold + 1);
    b = fresh_prompt(&plain, TROL_TRAVERSAL_PROMPT, threshold + 1);
    CHECK(!equal_logits(c, a, b), "%s: no effect past the threshold", what);
    trol_session_free(a);
    trol_session_free(b);
    trol_model_free(plain.model);
}

/* Truncating back over the threshold, then on again. */
static void check_back(const session_case *c, const char *what) {
    trol_error error = {0};
    for (int mode = TROL_TRAVERSAL_ALL; mode <= TROL_TRAVERSAL_OFF; mode++) {
        trol_session *s = fresh_prompt(c, mode, 8);
        for (size_t i = 8; i < N_TOKENS; i++)
            CHECK_OK(trol_session_decode(s, c->ids[i], &error), error);
        CHECK_OK(trol_session_truncate(s, 10, &error), error);
        CHECK_OK(trol_session_decode(s, c->ids[10], &error), error);
        trol_session *whole = fresh_prompt(c, mode, 11);
        compare_logits(c, what, s, whole);
        trol_session_free(s);
        trol_session_free(whole);
    }
}

static void run(const char *what, const char *name, const char *from, const char *to, size_t threshold) {
    session_case c = open_changed(name, from, to);
    if (strcmp(name, "phi3-internvit-border") != 0) /* whose own threshold is as low */
        check_effect(&c, name, what, threshold);
    check_stepwise(&c, what, 8);
    check_stepwise(&c, what, threshold + 4 < N_TOKENS ? threshold + 4 : threshold);
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++) {
        check_chunks(&c, what, mode);
        CHECK(check_turns(&c, what, mode, 5) > 0, "%s, mode %d: nothing was ever reused", what, mode);
        check_turns(&c, what, mode, 16);
    }
    check_back(&c, what);
    close_case(&c);
}

/* Image ids fed as answer tokens do not take a picture's embeddings: not where the prompt was truncated after its
 * picture, and not when mode all computes everything again past a threshold. */
static void check_image_ids_as_answer(void) {
    enum { KEPT = 27, N_ANSWER = 14 };
    trol_error error = {0};
    char path[1024];
    session_case c =
        open_changed("internlm2-clip", "\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 30");
    free(c.ids);
    c.ids = read_prompt("internlm2-clip", &c.n_ids);
    snprintf(path, sizeof path, "%s/internlm2-clip/image.png", TEST_REFERENCE);
    c.features = encode_file(c.model, path);
    trol_session *s = open_session(c.model, TROL_TRAVERSAL_ALL, 0, 0),
                 *never = open_session(c.model, TROL_TRAVERSAL_ALL, 0, 0);
    prefill_case(&c, s, c.ids, c.n_ids);
    CHECK_OK(trol_session_truncate(s, KEPT, &error), error);
    prefill_case(&c, never, c.ids, KEPT);
    for (int i = 0; i < N_ANSWER; i++) {
        CHECK_OK(trol_session_decode(s, c.info.image_token, &error), error);
        CHECK_OK(trol_session_decode(never, c.info.image_token, &error), error);
        compare_logits(&c, "image ids after a truncated prompt", s, never);
    }
    trol_session_free(s);
    trol_session_free(never);
    close_case(&c);
}

int main(void) {
    test_make_folder();
    run("dynamic NTK", "internlm2-clip-text", "\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 24",
        24);
    run("dynamic NTK on the last token", "internlm2-clip-text", "\"max_position_embeddings\": 2048",
        "\"max_position_embeddings\": 39", 39);
    run("sliding window", "phi3-internvit-text", "\"sliding_window\": null", "\"sliding_window\": 5", 6);
    run("LongRoPE, su", "phi3-internvit-border", "\"su\"", "\"su\"", 16);
    run("LongRoPE, yarn", "phi3-internvit-border", "\"su\"", "\"yarn\"", 16);
    check_image_ids_as_answer();
    test_remove_folder();
    return test_summary("test-thresholds");
}
