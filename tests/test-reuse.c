/* test-reuse.c - what sessions share: forks, truncation, what a later prompt reuses, also after one that failed, the
 * prompt of one token, pictures encoded together. */
#include "session_cases.h"

static void check_forks(const session_case *c) {
    trol_error error = {0};
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++) {
        trol_session *a = open_session(c->model, mode, 1, 0), *b = NULL, *empty = open_session(c->model, mode, 0, 0),
                     *copy = NULL;
        CHECK_OK(trol_session_fork(empty, &copy, &error), error);
        CHECK(trol_session_n_tokens(copy) == 0 && !trol_session_logits(copy), "a fork of nothing");
        prefill_case(c, a, c->ids, c->n_ids);
        CHECK_OK(trol_session_fork(a, &b, &error), error);
        CHECK(equal_logits(c, a, b) && trol_session_n_tokens(b) == c->n_ids, "a fork's logits");
        for (int i = 0; i < 70; i++) { /* past the block of 64 tokens that they share */
            CHECK_OK(trol_session_decode(b, 11 + i, &error), error);
            CHECK_OK(trol_session_decode(a, 200 + i, &error), error);
        }
        prefill_case(c, copy, c->ids, c->n_ids);
        for (int i = 0; i < 70; i++)
            CHECK_OK(trol_session_decode(copy, 200 + i, &error), error);
        CHECK(equal_logits(c, a, copy), "mode %d: a fork disturbed its original", mode);
        trol_session_free(a);
        prefill_case(c, empty, c->ids, c->n_ids);
        for (int i = 0; i < 70; i++)
            CHECK_OK(trol_session_decode(empty, 11 + i, &error), error);
        CHECK(equal_logits(c, b, empty), "mode %d: an original disturbed its fork", mode);
        CHECK(!equal_logits(c, b, copy), "mode %d: different answers give equal logits", mode);
        trol_session_free(b);
        trol_session_free(copy);
        trol_session_free(empty);
    }
}

/* Another prompt in `s`: `expected` tokens are reused, and the logits are those of a fresh session. */
static void check_reuse(const session_case *c, trol_session *s, trol_traversal mode, const char *what,
                        const int32_t *ids, size_t n, trol_features *features, int64_t expected) {
    trol_error error = {0};
    const int64_t before = stats_of(s).reused_tokens, processed = stats_of(s).prompt_tokens;
    trol_session *fresh = open_session(c->model, mode, 0, 0);
    CHECK_OK(trol_session_prefill(s, ids, n, &features, 1, &error), error);
    CHECK_OK(trol_session_prefill(fresh, ids, n, &features, 1, &error), error);
    const int64_t reused = stats_of(s).reused_tokens - before, computed = stats_of(s).prompt_tokens - processed;
    CHECK(reused == expected, "mode %d, %s: %lld tokens reused, expected %lld", (int)mode, what, (long long)reused,
          (long long)expected);
    CHECK(reused + computed == (int64_t)n, "mode %d, %s: %lld tokens computed", (int)mode, what, (long long)computed);
    compare_logits(c, what, s, fresh);
    CHECK_OK(trol_session_decode(s, 9, &error), error);
    CHECK_OK(trol_session_decode(fresh, 9, &error), error);
    compare_logits(c, what, s, fresh);
    CHECK_OK(trol_session_truncate(s, n, &error), error);
    trol_session_free(fresh);
}

/* The case's picture in other colours. */
static trol_features *other_features(const session_case *c, const char *path) {
    trol_error error = {0};
    trol_image *image = NULL, *inverted = NULL;
    trol_features *features = NULL;
    CHECK_OK(trol_image_load_file(path, NULL, &image, &error), error);
    const int32_t width = trol_image_width(image), height = trol_image_height(image);
    const size_t n_bytes = 3 * (size_t)width * (size_t)height;
    uint8_t *rgb = malloc(n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        rgb[i] = (uint8_t)(255 - trol_image_pixels(image)[i]);
    CHECK_OK(trol_image_load_rgb(rgb, width, height, 3 * (size_t)width, &inverted, &error), error);
    CHECK_OK(trol_encode_image(c->model, inverted, &features, &error), error);
    trol_image_free(image);
    trol_image_free(inverted);
    free(rgb);
    return features;
}

static int count_image_progress(void *user, trol_stage stage, int64_t done, int64_t total) {
    int *calls = user;
    CHECK(stage == TROL_STAGE_IMAGE && done >= 0 && done <= total, "progress %lld of %lld of stage %d", (long long)done,
          (long long)total, (int)stage);
    ++*calls;
    return 0;
}

static int stop_at_once(void *user, trol_stage stage, int64_t done, int64_t total) {
    (void)user;
    (void)stage;
    (void)done;
    (void)total;
    return 1;
}

static double largest_difference(const float *a, const float *b, size_t n) {
    double largest = 0, difference = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)b[i]));
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
    }
    return difference / largest;
}

/* Pictures encoded in one call, more than one batch holds, give what they give alone. (Not to the bit: few rows are
 * summed in another order than many.) */
static void check_batch_of_images(const session_case *c, const char *name) {
    enum { N = 11 };
    trol_error error = {0};
    char path[1024];
    int calls = 0;
    snprintf(path, sizeof path, "%s/%s/image.png", TEST_REFERENCE, name);
    trol_image *image = NULL;
    CHECK_OK(trol_image_load_file(path, NULL, &image, &error), error);
    trol_image *other = NULL;
    const uint8_t rgb[12] = {200, 10, 30, 0, 0, 255, 255, 255, 255, 9, 99, 199};
    CHECK_OK(trol_image_load_rgb(rgb, 2, 2, 6, &other, &error), error);
    const trol_image *images[N];
    trol_features *features[N], *alone[2] = {NULL, NULL};
    for (int i = 0; i < N; i++)
        images[i] = i % 3 == 1 ? other : image;
    CHECK_OK(trol_encode_images(c->model, images, N, count_image_progress, &calls, features, &error), error);
    CHECK(calls >= 2, "%d progress calls", calls);
    CHECK_OK(trol_encode_image(c->model, image, &alone[0], &error), error);
    CHECK_OK(trol_encode_image(c->model, other, &alone[1], &error), error);
    for (int i = 0; i < N; i++) {
        const trol_features *expected = alone[i % 3 == 1];
        const size_t n = (size_t)trol_features_n_tokens(expected) * (size_t)c->info.hidden_size;
        CHECK(trol_features_n_tiles(features[i]) == trol_features_n_tiles(expected) &&
                  trol_features_n_tokens(features[i]) == trol_features_n_tokens(expected) &&
                  largest_difference(trol_features_data(features[i]), trol_features_data(expected), n) < 1e-5,
              "%s: picture %d of a batch differs from the picture alone", name, i + 1);
        trol_features_free(features[i]);
    }
    CHECK_REFUSED(trol_encode_images(c->model, images, N, stop_at_once, NULL, features, &refused), TROL_ERROR_CANCELLED,
                  "cancelled");
    images[4] = NULL;
    CHECK_REFUSED(trol_encode_images(c->model, images, N, NULL, NULL, features, &refused), TROL_ERROR_ARGUMENT,
                  "picture 5");
    CHECK(!features[0] && !features[N - 1], "results after a failure");
    trol_features_free(alone[0]);
    trol_features_free(alone[1]);
    trol_image_free(other);
    trol_image_free(image);
}

/* What a prompt that did not complete leaves behind: nothing of its pictures, and nothing to answer. */
static void check_failed_prompts(const session_case *c, const char *name) {
    trol_error error = {0};
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/image.png", TEST_REFERENCE, name);
    trol_features *other = other_features(c, path);
    int32_t *bad = malloc(c->n_ids * sizeof *bad);
    memcpy(bad, c->ids, c->n_ids * sizeof *bad);
    bad[c->n_ids - 1] = 99999999;
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++) {
        trol_session *s = open_session(c->model, mode, 1, 0), *fresh = open_session(c->model, mode, 1, 0);
        CHECK_OK(trol_session_prefill(fresh, c->ids, c->n_ids, &other, 1, &error), error);
        prefill_case(c, s, c->ids, c->n_ids);
        trol_session_cancel(s);
        CHECK_REFUSED(trol_session_prefill(s, c->ids, c->n_ids, &other, 1, &refused), TROL_ERROR_CANCELLED,
                      "cancelled");
        CHECK_REFUSED(trol_session_decode(s, 5, &refused), TROL_ERROR_STATE, "the last prompt failed");
        CHECK_OK(trol_session_prefill(s, c->ids, c->n_ids, &other, 1, &error), error);
        compare_logits(c, "cancelled, then with another picture", s, fresh);

        prefill_case(c, s, c->ids, c->n_ids);
        CHECK_OK(trol_session_prompt_begin(s, c->n_ids, &other, 1, &error), error);
        CHECK_OK(trol_session_prompt_begin(s, c->n_ids, &other, 1, &error), error);
        CHECK_OK(trol_session_prompt_append(s, c->ids, c->n_ids, &error), error);
        CHECK_OK(trol_session_prompt_end(s, &error), error);
        compare_logits(c, "begun twice with another picture", s, fresh);

        prefill_case(c, s, c->ids, c->n_ids);
        CHECK_REFUSED(trol_session_prefill(s, bad, c->n_ids, &other, 1, &refused), TROL_ERROR_ARGUMENT,
                      "token id 99999999");
        CHECK(trol_session_logits(s) == NULL, "a refused prompt has logits");
        CHECK_REFUSED(trol_session_decode(s, 5, &refused), TROL_ERROR_STATE, "the last prompt failed");
        CHECK_OK(trol_session_prefill(s, c->ids, c->n_ids, &other, 1, &error), error);
        compare_logits(c, "a bad id, then another picture", s, fresh);

        prefill_case(c, s, c->ids, c->n_ids);
        CHECK_OK(trol_session_prompt_begin(s, 5, NULL, 0, &error), error);
        CHECK_OK(trol_session_prompt_append(s, c->ids, 3, &error), error);
        CHECK_REFUSED(trol_session_prompt_end(s, &refused), TROL_ERROR_STATE, "only 3 came");
        CHECK_REFUSED(trol_session_decode(s, 5, &refused), TROL_ERROR_STATE, "the last prompt failed");

        prefill_case(c, s, c->ids, c->n_ids); /* truncated within its picture, whose other ids come as an answer */
        prefill_case(c, fresh, c->ids, c->n_ids);
        size_t first = 0;
        while (c->ids[first] != c->info.image_token)
            first++;
        CHECK_OK(trol_session_truncate(s, first + 2, &error), error);
        for (size_t i = first + 2; i < c->n_ids; i++)
            CHECK_OK(trol_session_decode(s, c->ids[i], &error), error);
        prefill_case(c, s, c->ids, c->n_ids);
        compare_logits(c, "image ids as an answer, then as a picture", s, fresh);
        trol_session_free(s);
        trol_session_free(fresh);
    }
    trol_features_free(other);
    free(bad);
}

static void check_reuse_counts(const session_case *c, const char *name) {
    enum { N_ANSWER = 3, N_MORE = 5 };
    const int64_t n = (int64_t)c->n_ids, longer = n + N_ANSWER + N_MORE;
    int64_t first_image = 0;
    trol_error error = {0};
    char path[1024];
    while (c->ids[first_image] != c->info.image_token)
        first_image++;
    snprintf(path, sizeof path, "%s/%s/image.png", TEST_REFERENCE, name);
    trol_features *same = encode_file(c->model, path), *other = other_features(c, path);
    int32_t *turn = malloc((size_t)longer * sizeof *turn), *changed = malloc((size_t)longer * sizeof *changed);
    for (int64_t i = 0; i < longer; i++)
        turn[i] = changed[i] = i < n ? c->ids[i] : (int32_t)(40 + i);
    changed[n + 1] = 3; /* differs within what was the answer */
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++)
        for (int keep = 0; keep <= 1; keep++) {
            const bool answer = mode != TROL_TRAVERSAL_PROMPT, prompt = answer || keep;
            trol_session *s = open_session(c->model, mode, keep, 0);
            prefill_case(c, s, c->ids, c->n_ids);
            for (int i = 0; i < N_ANSWER; i++)
                CHECK_OK(trol_session_decode(s, turn[n + i], &error), error);
            check_reuse(c, s, mode, "a later turn", turn, (size_t)longer, same,
                        !prompt  ? 0
                        : answer ? n + N_ANSWER
                                 : n);
            check_reuse(c, s, mode, "the same prompt again", turn, (size_t)longer, same, prompt ? longer - 1 : 0);
            check_reuse(c, s, mode, "a prompt that differs later", changed, (size_t)longer, same, prompt ? n + 1 : 0);
            check_reuse(c, s, mode, "a shorter prompt", changed, (size_t)n, same, prompt ? n - 1 : 0);
            check_reuse(c, s, mode, "another picture", turn, (size_t)longer, other, prompt ? first_image : 0);
            CHECK_OK(trol_session_truncate(s, (size_t)first_image + 2, &error), error);
            check_reuse(c, s, mode, "after a truncation", turn, (size_t)longer, other, prompt ? first_image + 2 : 0);
            CHECK_OK(trol_session_truncate(s, 0, &error), error);
            check_reuse(c, s, mode, "after all was dropped", turn, (size_t)longer, other, 0);
            trol_session_free(s);
        }
    trol_features_free(same);
    trol_features_free(other);
    free(turn);
    free(changed);
}

/* TROL.md, section 2: a prompt of one token in all is not traversed in mode prompt. */
static void check_one_token(const session_case *c) {
    trol_error error = {0};
    trol_session *s[3], *whole = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0),
                        *fresh = open_session(c->model, TROL_TRAVERSAL_PROMPT, 1, 0);
    for (int mode = 0; mode < 3; mode++) {
        s[mode] = open_session(c->model, mode, 1, 0);
        CHECK_OK(trol_session_prefill(s[mode], c->ids, 1, NULL, 0, &error), error);
    }
    CHECK(equal_logits(c, s[TROL_TRAVERSAL_PROMPT], s[TROL_TRAVERSAL_OFF]),
          "one token in mode prompt is not as in mode off");
    CHECK(!equal_logits(c, s[TROL_TRAVERSAL_PROMPT], s[TROL_TRAVERSAL_ALL]),
          "one token in mode prompt is as in mode all");
    for (int mode = 0; mode < 3; mode++)
        CHECK_OK(trol_session_decode(s[mode], 9, &error), error);
    CHECK(equal_logits(c, s[TROL_TRAVERSAL_PROMPT], s[TROL_TRAVERSAL_OFF]), "its answer");
    /* The first chunk of a longer prompt is traversed though it is one token, and does not share what was not. */
    CHECK_OK(trol_session_prompt_begin(s[0], 5, NULL, 0, &error), error);
    for (int i = 0; i < 5; i++)
        CHECK_OK(trol_session_prompt_append(s[0], &c->ids[i], 1, &error), error);
    CHECK_OK(trol_session_prompt_end(s[0], &error), error);
    CHECK_OK(trol_session_prefill(whole, c->ids, 5, NULL, 0, &error), error);
    compare_logits(c, "five tokens after one", s[0], whole);
    CHECK(stats_of(s[0]).reused_tokens == 0, "%lld tokens reused", (long long)stats_of(s[0]).reused_tokens);
    CHECK_OK(trol_session_prefill(whole, c->ids, 1, NULL, 0, &error), error); /* the other way round */
    CHECK_OK(trol_session_prefill(fresh, c->ids, 1, NULL, 0, &error), error);
    CHECK(equal_logits(c, whole, fresh), "one token after five");
    for (int mode = 0; mode < 3; mode++)
        trol_session_free(s[mode]);
    trol_session_free(whole);
    trol_session_free(fresh);
}

int main(void) {
    static const char *const names[] = {"internlm2-clip", "phi3-internvit"};
    for (int i = 0; i < 2; i++) {
        session_case c = open_case(names[i], 2);
        check_failed_prompts(&c, names[i]);
        check_reuse_counts(&c, names[i]);
        check_batch_of_images(&c, names[i]);
        if (i == 0) {
            check_forks(&c);
            check_one_token(&c);
        }
        close_case(&c);
    }
    return test_summary("test-reuse");
}
