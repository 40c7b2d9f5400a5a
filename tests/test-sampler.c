/* test-sampler.c - choosing tokens: against a plain reference that sorts everything, the stated order, penalties,
 * extremes, equal choices from equal states, log-probabilities, and all of it in an answer. */
#include "session_cases.h"

enum { MAX_VOCAB = 1024 };

static trol_sampler_params defaults(void) {
    trol_sampler_params p;
    trol_sampler_params_init(&p);
    p.temperature = 1;
    return p;
}

static trol_sampler *new_sampler(const trol_sampler_params *params) {
    trol_error error = {0};
    trol_sampler *sampler = NULL;
    CHECK_OK(trol_sampler_new(params, &sampler, &error), error);
    if (!sampler)
        exit(1);
    return sampler;
}

/* ---- parameters ------------------------------------------------------------------------------ */

static void check_refused(const trol_sampler_params *p, const char *text) {
    trol_error error = {0};
    trol_sampler *sampler = (trol_sampler *)&error;
    CHECK(trol_sampler_new(p, &sampler, &error) == TROL_ERROR_ARGUMENT && !sampler && strstr(error.message, text),
          "%s: \"%s\"", text, error.message);
}

static void check_parameters(void) {
    static const float bad_penalties[] = {NAN, INFINITY, -INFINITY};
    static const float bad_shares[] = {-0.1f, 1.1f, NAN};
    static const trol_logit_bias bad_bias[] = {{-1, 0}, {0, NAN}, {0, INFINITY}};
    for (int i = 0; i < 3; i++) {
        trol_sampler_params p = defaults();
        p.min_p = bad_shares[i];
        check_refused(&p, "min_p is");
        p = defaults();
        p.repeat_penalty = i == 0 ? 0 : bad_penalties[i];
        check_refused(&p, "repeat_penalty is");
        p = defaults();
        p.presence_penalty = bad_penalties[i];
        check_refused(&p, "presence_penalty is");
        p = defaults();
        p.frequency_penalty = bad_penalties[i];
        check_refused(&p, "frequency_penalty is");
        p = defaults();
        p.bias = &bad_bias[i];
        p.n_bias = 1;
        check_refused(&p, "logit bias of token");
    }
    trol_sampler_params p = defaults();
    p.repeat_last_n = -2;
    check_refused(&p, "repeat_last_n is -2");
    p = defaults();
    p.n_bias = 2;
    check_refused(&p, "the logit bias is NULL, expected 2");
    trol_error error = {0};
    trol_sampler *clone = (trol_sampler *)&error;
    CHECK(trol_sampler_clone(NULL, &clone, &error) == TROL_ERROR_ARGUMENT && !clone, "%s", error.message);
    CHECK(trol_sampler_clone(NULL, NULL, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_sampler_accept(NULL, 1, &error) == TROL_OK && trol_sampler_begin(NULL, NULL, 3, &error) == TROL_OK,
          "NULL samplers keep nothing");
    CHECK(trol_sampler_state(NULL) == 0, "NULL");
    trol_sampler_set_state(NULL, 1);
    p = defaults();
    trol_sampler *sampler = new_sampler(&p);
    CHECK(trol_sampler_begin(sampler, NULL, 3, &error) == TROL_ERROR_ARGUMENT, "a prompt that is NULL");
    trol_sampler_free(sampler);
}

/* ---- the reference --------------------------------------------------------------------------- */

typedef struct ranked {
    double logit, probability;
    int32_t token;
} ranked;

static int by_rank(const void *left, const void *right) {
    const ranked *a = left, *b = right;
    if (a->logit != b->logit)
        return a->logit < b->logit ? 1 : -1;
    return a->token < b->token ? -1 : 1;
}

/* What trol.h states, step by step, with everything sorted: probability [n]. */
static void reference_distribution(const trol_sampler_params *p, const float *logits, int32_t n,
                                   const uint64_t *allowed, const int32_t *history, size_t n_history, size_t n_prompt,
                                   double *probability) {
    static ranked list[MAX_VOCAB];
    const size_t last_n =
        p->repeat_last_n < 0 || (size_t)p->repeat_last_n > n_history ? n_history : (size_t)p->repeat_last_n;
    for (int32_t i = 0; i < n; i++) {
        float logit = logits[i];
        int count = 0, seen = 0;
        for (size_t k = 0; k < p->n_bias; k++)
            logit += p->bias[k].token == i ? p->bias[k].bias : 0;
        for (size_t k = n_history - last_n; k < n_history; k++) {
            seen += history[k] == i;
            count += history[k] == i && k >= n_prompt;
        }
        if (seen)
            logit = logit > 0 ? logit / p->repeat_penalty : logit * p->repeat_penalty;
        logit -= (float)count * p->frequency_penalty;
        logit -= count > 0 ? p->presence_penalty : 0;
        if (isnan(logits[i]) || (allowed && !(allowed[i / 64] >> (i % 64) & 1)))
            logit = -INFINITY;
        list[i] = (ranked){(double)logit, 0, i};
        probability[i] = 0;
    }
    qsort(list, (size_t)n, sizeof *list, by_rank);
    int32_t kept = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    double total = 0, sum = 0, last = 0;
    for (int32_t i = 0; i < kept; i++)
        total += list[i].probability = exp((list[i].logit - list[0].logit) / (double)p->temperature);
    for (int32_t i = 0; i < kept; i++) { /* in order, until top_p is reached */
        const double before = sum;
        sum += list[i].probability;
        if (before >= (double)p->top_p * total || list[i].probability < (double)p->min_p)
            continue;
        probability[list[i].token] = list[i].probability;
        last += list[i].probability;
    }
    for (int32_t i = 0; i < n; i++)
        probability[i] /= last;
}

/* Draws n_draws tokens, with one history for all, and compares with the reference by the sum of squares. */
static void check_distribution(const char *what, const trol_sampler_params *p, const float *logits, int32_t n,
                               const uint64_t *allowed, const int32_t *history, size_t n_history, size_t n_prompt) {
    enum { N_DRAWS = 5000 };
    static double probability[MAX_VOCAB];
    static int counts[MAX_VOCAB];
    trol_error error = {0};
    trol_sampler *sampler = new_sampler(p);
    reference_distribution(p, logits, n, allowed, history, n_history, n_prompt, probability);
    CHECK_OK(trol_sampler_begin(sampler, history, n_prompt, &error), error);
    for (size_t i = n_prompt; i < n_history; i++)
        CHECK_OK(trol_sampler_accept(sampler, history[i], &error), error);
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < N_DRAWS; i++) {
        const int32_t token = trol_sampler_choose_allowed(sampler, logits, n, allowed);
        CHECK(token >= 0 && token < n, "%s: %d", what, token);
        if (token >= 0 && token < n)
            counts[token]++;
    }
    double sum = 0, rest = 0, rest_count = 0;
    int classes = 0;
    for (int32_t i = 0; i < n; i++) {
        const double expected = probability[i] * N_DRAWS;
        CHECK(expected > 0 || counts[i] == 0, "%s: token %d was drawn, whose probability is 0", what, i);
        if (expected < 10) { /* the rare ones together */
            rest += expected;
            rest_count += counts[i];
            continue;
        }
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
        classes++;
    }
    if (rest > 5) {
        sum += (rest_count - rest) * (rest_count - rest) / rest;
        classes++;
    }
    CHECK(sum < classes + 5 * sqrt(2.0 * classes) + 5, "%s: chi-square %.1f in %d classes", what, sum, classes);
    trol_sampler_free(sampler);
}

static float pick(uint64_t *state, const float *values, size_t n) { return values[test_random(state) % n]; }

/* Random parameters over random logits, flat and steep, with many equals, NaN and -infinity among them. */
static void check_random_distributions(void) {
    enum { N_CASES = 120, N_HISTORY = 200 };
    static float logits[MAX_VOCAB];
    static uint64_t allowed[MAX_VOCAB / 64];
    static int32_t history[N_HISTORY];
    static const float temperatures[] = {0.3f, 0.7f, 1, 1.5f}, top_ps[] = {1, 0.95f, 0.9f, 0.5f, 0.1f},
                       min_ps[] = {0, 0, 0.02f, 0.1f, 0.5f}, penalties[] = {1, 1.1f, 1.5f, 0.8f},
                       presences[] = {0, 0.5f, -0.5f}, frequencies[] = {0, 0.2f, -0.1f};
    static const int32_t top_ks[] = {0, 0, 1000000, 40, 5, 2}, windows[] = {64, 0, -1, 7}, sizes[] = {3, 50, 300, 1024};
    uint64_t random = 11;
    for (int i = 0; i < N_CASES; i++) {
        const int32_t n = sizes[i % 4];
        const float spread = i % 3 == 0 ? 8 : 2;
        for (int32_t k = 0; k < n; k++) {
            logits[k] = spread * test_uniform(&random);
            if (i % 5 == 1)
                logits[k] = roundf(logits[k]);
            if (i % 7 == 2 && k % 11 == 5)
                logits[k] = k % 2 ? NAN : -INFINITY;
        }
        for (int32_t k = 0; k < n; k += 64)
            allowed[k / 64] = test_random(&random) | 1;
        for (int k = 0; k < N_HISTORY; k++)
            history[k] = (int32_t)(test_random(&random) % 20);
        const trol_logit_bias bias[] = {{1, 1.5f}, {2, -INFINITY}, {100000, 5}, {1, 0.5f}};
        char what[64];
        trol_sampler_params p = defaults();
        p.seed = (uint64_t)i;
        p.temperature = pick(&random, temperatures, 4);
        p.top_p = pick(&random, top_ps, 5);
        p.min_p = pick(&random, min_ps, 5);
        p.repeat_penalty = pick(&random, penalties, 4);
        p.presence_penalty = pick(&random, presences, 3);
        p.frequency_penalty = pick(&random, frequencies, 3);
        p.top_k = top_ks[test_random(&random) % 6];
        p.repeat_last_n = windows[test_random(&random) % 4];
        p.bias = bias;
        p.n_bias = i % 2 ? sizeof bias / sizeof *bias : 0;
        snprintf(what, sizeof what, "random case %d", i);
        check_distribution(what, &p, logits, n, i % 3 == 1 ? allowed : NULL, history, (size_t)(i % N_HISTORY),
                           (size_t)(i % N_HISTORY / 2));
    }
}

/* ---- the order and the edges ----------------------------------------------------------------- */

/* The tokens that come up in many draws, as bits. */
static uint64_t support(const trol_sampler_params *p, const float *logits, int32_t n, const int32_t *prompt,
                        size_t n_prompt, const int32_t *answer, size_t n_answer) {
    trol_error error = {0};
    trol_sampler *sampler = new_sampler(p);
    uint64_t drawn = 0;
    CHECK_OK(trol_sampler_begin(sampler, prompt, n_prompt, &error), error);
    for (size_t i = 0; i < n_answer; i++)
        CHECK_OK(trol_sampler_accept(sampler, answer[i], &error), error);
    for (int i = 0; i < 3000; i++)
        drawn |= 1ull << trol_sampler_choose(sampler, logits, n);
    trol_sampler_free(sampler);
    return drawn;
}

static void check_support(const char *what, const trol_sampler_params *p, const float *logits, int32_t n,
                          uint64_t expected) {
    const uint64_t found = support(p, logits, n, NULL, 0, NULL, 0);
    CHECK(found == expected, "%s: tokens %llx, expected %llx", what, (unsigned long long)found,
          (unsigned long long)expected);
}

static void check_order(void) {
    /* probabilities 0.4, 0.3, 0.2, 0.1 */
    const float logits[] = {logf(0.4f), logf(0.3f), logf(0.2f), logf(0.1f)};
    trol_sampler_params p = defaults();
    p.top_p = 0.65f;
    check_support("top_p 0.65", &p, logits, 4, 3);
    p.temperature = 0.5f; /* 0.53, 0.3, 0.13, 0.03: after the temperature two are 0.83, one 0.53 */
    p.top_p = 0.5f;
    check_support("the temperature comes before top_p", &p, logits, 4, 1);
    p = defaults();
    p.top_k = 2; /* 0.57 and 0.43 of what is left */
    p.top_p = 0.55f;
    check_support("top_k comes before top_p", &p, logits, 4, 1);
    p = defaults();
    p.min_p = 0.45f; /* of 0.4 */
    check_support("min_p", &p, logits, 4, 7);
    p.top_p = 0.85f; /* among all: three are 0.9. Of the three that min_p leaves, 0.7 / 0.9 would do with two */
    p.min_p = 0.45f;
    check_support("top_p comes before min_p", &p, logits, 4, 7);
    p.temperature = 0.5f;
    p.top_p = 1;
    check_support("the temperature comes before min_p", &p, logits, 4, 3);
    p = defaults();
    p.temperature = 0;
    const float near[] = {1, 0.9f, -1};
    const trol_logit_bias bias[] = {{0, -2}};
    const int32_t zero[] = {0};
    p.bias = bias;
    p.n_bias = 1;
    p.repeat_penalty = 0.5f;
    /* 1 - 2 = -1, which is multiplied: -0.5. The penalty first would give 2 - 2 = 0. Both are less than 0.9; so against
     * -0.2 */
    const float against[] = {1, -0.2f};
    CHECK(support(&p, against, 2, zero, 1, NULL, 0) == 2, "the bias comes before the penalties");
    check_support("the bias", &p, near, 3, 2);
}

static void check_penalties(void) {
    static const float logits[] = {2, 1.9f, 1.8f, -1};
    static const int32_t zero[] = {0}, zero_one[] = {0, 1}, zeros[] = {0, 0, 1}, old[] = {0, 3, 3, 3, 3};
    trol_sampler_params p = defaults();
    p.temperature = 0;
    p.repeat_penalty = 1.2f;
    CHECK(support(&p, logits, 4, zero, 1, NULL, 0) == 2, "repetition: the prompt counts");
    CHECK(support(&p, logits, 4, NULL, 0, zero_one, 2) == 4, "repetition: the answer counts");
    p.repeat_last_n = 4;
    CHECK(support(&p, logits, 4, old, 5, NULL, 0) == 1, "repetition: before the last 4");
    p.repeat_last_n = 5;
    CHECK(support(&p, logits, 4, old, 5, NULL, 0) == 2, "repetition: among the last 5");
    p.repeat_last_n = -1;
    CHECK(support(&p, logits, 4, old, 5, NULL, 0) == 2, "repetition: all");
    p.repeat_last_n = 0;
    CHECK(support(&p, logits, 4, old, 5, NULL, 0) == 1, "repetition: none");
    p = defaults();
    p.temperature = 0;
    p.presence_penalty = 0.15f;
    CHECK(support(&p, logits, 4, zero_one, 2, NULL, 0) == 1, "presence: the prompt does not count");
    CHECK(support(&p, logits, 4, NULL, 0, zeros, 2) == 2, "presence: the answer counts, once");
    CHECK(support(&p, logits, 4, NULL, 0, zeros, 3) == 1, "presence: 1.85, 1.75, 1.8");
    p.presence_penalty = 0;
    p.frequency_penalty = 0.15f;
    CHECK(support(&p, logits, 4, NULL, 0, zeros, 3) == 4, "frequency: 1.7, 1.75, 1.8");
    CHECK(support(&p, logits, 4, zeros, 3, NULL, 0) == 1, "frequency: the prompt does not count");
    /* Many more tokens than the window: the prompt's and the answer's are still distinguished. */
    trol_error error = {0};
    p.frequency_penalty = 1;
    p.repeat_last_n = 3;
    trol_sampler *sampler = new_sampler(&p);
    for (int round = 0; round < 2; round++) {
        int32_t prompt[100] = {0};
        CHECK_OK(trol_sampler_begin(sampler, prompt, 100, &error), error);
        CHECK(trol_sampler_choose(sampler, logits, 4) == 0, "round %d: the prompt", round);
        for (int i = 0; i < 100; i++)
            CHECK_OK(trol_sampler_accept(sampler, 1, &error), error);
        CHECK(trol_sampler_choose(sampler, logits, 4) == 0, "round %d: the answer's 1", round);
        CHECK_OK(trol_sampler_accept(sampler, 0, &error), error);
        CHECK(trol_sampler_choose(sampler, logits, 4) == 2, "round %d: 0 and 1", round);
        for (int i = 0; i < 3; i++)
            CHECK_OK(trol_sampler_accept(sampler, 1000 * i - 100, &error), error); /* no tokens of this vocabulary */
        CHECK(trol_sampler_choose(sampler, logits, 4) == 0, "round %d: tokens outside the vocabulary", round);
    }
    trol_sampler_free(sampler);
}

static void check_extremes(void) {
    static const float ties[] = {NAN, 1, 3, 3, NAN, 2}, nothing[] = {NAN, -INFINITY}, zeros[] = {-0.0f, 0.0f, -1},
                       one[] = {-INFINITY, NAN, -1e38f, -INFINITY}, infinite[] = {0, INFINITY, 1, INFINITY},
                       huge[] = {-3e38f, 3e38f, 2.9e38f};
    static const uint64_t none[] = {0}, second[] = {2}, last[] = {1u << 5};
    CHECK(trol_sampler_choose(NULL, ties, 6) == 2, "greedy takes the lowest id of equals");
    CHECK(trol_sampler_choose(NULL, nothing, 2) == -1 && trol_sampler_choose(NULL, ties, 0) == -1, "nothing to choose");
    CHECK(trol_sampler_choose_allowed(NULL, ties, 6, none) == -1, "nothing is allowed");
    CHECK(trol_sampler_choose_allowed(NULL, ties, 6, last) == 5, "one is allowed");
    static const float temperatures[] = {0, 1e-45f, 1e-6f, 1, 3e38f};
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 5; k++) {
            trol_sampler_params p = defaults();
            p.temperature = temperatures[i];
            p.top_k = k == 1 ? 1000 : k == 4 ? 1 : 0;
            p.top_p = k == 2 ? 1e-6f : 1;
            p.min_p = k == 3 ? 1 : 0;
            trol_sampler *sampler = new_sampler(&p);
            for (int n = 0; n < 30; n++) {
                const int32_t token = trol_sampler_choose(sampler, ties, 6), limit = huge[1] > 0 ? 3 : 0;
                CHECK(token > 0 && token < 6 && token != 4, "temperature %g: %d", (double)temperatures[i], token);
                CHECK((k != 2 && k != 4) || token == 2, "the first of the likeliest: %d", token);
                CHECK(k != 3 || i == 4 || token == 2 || token == 3, "the likeliest: %d", token);
                CHECK(trol_sampler_choose(sampler, one, 4) == 2, "one finite logit, temperature %g",
                      (double)temperatures[i]);
                CHECK((trol_sampler_choose(sampler, infinite, 4) & 1) == 1, "infinite logits");
                CHECK(trol_sampler_choose(sampler, huge, 3) < limit, "huge logits");
                CHECK(trol_sampler_choose(sampler, nothing, 2) == -1, "nothing to choose");
                CHECK(trol_sampler_choose_allowed(sampler, ties, 6, none) == -1, "nothing is allowed");
                CHECK(trol_sampler_choose_allowed(sampler, ties, 6, second) == 1, "one is allowed");
                CHECK(trol_sampler_choose(sampler, ties + 1, 1) == 0, "a vocabulary of one");
            }
            trol_sampler_free(sampler);
        }
    trol_sampler_params p = defaults();
    p.top_k = 1;
    check_support("0 and -0 are equal: the lowest id", &p, zeros, 3, 1);
    p.temperature = 1e-6f;
    p.top_k = 0;
    check_support("0 and -0 are equal", &p, zeros, 3, 3);
    const trol_logit_bias all[] = {{0, -INFINITY}, {1, -INFINITY}, {2, -INFINITY}};
    p = defaults();
    p.bias = all;
    p.n_bias = 3;
    trol_sampler *sampler = new_sampler(&p);
    CHECK(trol_sampler_choose(sampler, zeros, 3) == -1 && trol_sampler_choose(sampler, huge, 3) == -1,
          "all are ruled out");
    CHECK(trol_sampler_choose(sampler, ties, 6) > 2, "some are ruled out");
    trol_sampler_free(sampler);
}

/* ---- equal choices --------------------------------------------------------------------------- */

/* Logits that every machine has, to the bit. */
static void make_logits(float *logits, int32_t n, uint64_t salt) {
    uint64_t random = salt;
    for (int32_t i = 0; i < n; i++)
        logits[i] = 6 * test_uniform(&random);
}

static void check_states(void) {
    enum { N = 1000, N_TOKENS = 12 };
    static const int32_t pinned[N_TOKENS] = {638, 850, 23, 478, 608, 81, 221, 240, 484, 676, 46, 774};
    static float logits[N];
    trol_error error = {0};
    trol_sampler_params p = defaults();
    p.seed = 1234;
    p.top_p = 0.9f;
    p.min_p = 0.01f;
    p.frequency_penalty = 0.5f;
    p.bias = (trol_logit_bias[]){{3, 2}};
    p.n_bias = 1;
    trol_sampler *a = new_sampler(&p), *b = NULL, *c = new_sampler(&p);
    int32_t tokens[N_TOKENS], equal = 0;
    for (int i = 0; i < N_TOKENS; i++) {
        make_logits(logits, N, (uint64_t)i + 1);
        tokens[i] = trol_sampler_choose(a, logits, N);
        CHECK_OK(trol_sampler_accept(a, tokens[i], &error), error);
        CHECK(tokens[i] == pinned[i], "token %d of the seed is %d, expected %d", i, tokens[i], pinned[i]);
    }
    CHECK_OK(trol_sampler_clone(a, &b, &error), error);
    CHECK_OK(trol_sampler_begin(c, NULL, 0, &error), error);
    for (int i = 0; i < N_TOKENS; i++)
        CHECK_OK(trol_sampler_accept(c, tokens[i], &error), error);
    trol_sampler_set_state(c, trol_sampler_state(a));
    for (int i = 0; i < 50; i++) {
        make_logits(logits, N, (uint64_t)i + 100);
        const int32_t token = trol_sampler_choose(a, logits, N);
        CHECK(trol_sampler_choose(b, logits, N) == token, "a clone chooses another token");
        CHECK(trol_sampler_choose(c, logits, N) == token, "a state that was kept chooses another token");
        equal += token == tokens[i % N_TOKENS];
        trol_sampler *all[] = {a, b, c};
        for (int k = 0; k < 3; k++)
            CHECK_OK(trol_sampler_accept(all[k], token, &error), error);
    }
    CHECK(equal < 5, "the draws repeat");
    trol_sampler_free(a);
    trol_sampler_free(b);
    trol_sampler_free(c);
}

/* ---- log-probabilities ----------------------------------------------------------------------- */

static void check_logprobs(void) {
    enum { N = 3000, N_TOP = 20 };
    static float logits[N];
    static ranked list[N];
    trol_token_logprob top[N_TOP];
    for (int round = 0; round < 6; round++) {
        const int32_t n = round == 5 ? 7 : N;
        double sum = 0;
        make_logits(logits, n, (uint64_t)round + 1);
        for (int32_t i = 0; i < n; i++) {
            logits[i] = round % 2 ? roundf(logits[i]) : logits[i] * (round == 2 ? 100.0f : 1.0f);
            if (i % 10 == 3 && round >= 3)
                logits[i] = i % 20 == 3 ? NAN : -INFINITY;
            list[i] = (ranked){isnan(logits[i]) ? -INFINITY : (double)logits[i], 0, i};
        }
        qsort(list, (size_t)n, sizeof *list, by_rank);
        for (int32_t i = 0; i < n; i++)
            sum += exp(list[i].logit - list[0].logit);
        const double total = list[0].logit + log(sum);
        for (int32_t token = 0; token < n; token += 7) {
            const float found = trol_logprobs(logits, n, token, top, token % 2 ? 0 : N_TOP);
            CHECK(isnan(logits[token])
                      ? isnan(found)
                      : found == logits[token] || /* -infinity */
                            fabs((double)found - ((double)logits[token] - total)) <= 1e-6 * (1 + fabs((double)found)),
                  "token %d: %g, expected %g", token, (double)found, (double)logits[token] - total);
        }
        trol_logprobs(logits, n, 0, top, N_TOP);
        for (int i = 0; i < N_TOP; i++) {
            const int32_t expected = i < n && !isinf(list[i].logit) ? list[i].token : -1;
            CHECK(round == 5 ? i >= 6 || top[i].token == expected : top[i].token == expected,
                  "round %d: rank %d is %d, expected %d", round, i, top[i].token, expected);
            CHECK(i >= n || top[i].token < 0 || fabs((double)top[i].logprob - (list[i].logit - total)) < 1e-4,
                  "rank %d: %g", i, (double)top[i].logprob);
            CHECK(i < n || (top[i].token == -1 && top[i].logprob == -INFINITY), "rank %d of %d is there", i, n);
        }
    }
    CHECK(trol_logprobs(logits, 3, 3, NULL, 0) == -INFINITY && trol_logprobs(logits, 3, -1, NULL, 4) == -INFINITY &&
              trol_logprobs(NULL, 3, 1, NULL, 0) == -INFINITY,
          "no such token");
    static const float one[] = {-INFINITY, 5, NAN};
    CHECK(trol_logprobs(one, 3, 1, top, 2) == 0 && top[0].token == 1 && top[0].logprob == 0, "a single one is certain");
}

int main(void) {
    check_parameters();
    check_random_distributions();
    check_order();
    check_penalties();
    check_extremes();
    check_states();
    check_logprobs();
    return test_summary("test-sampler");
}
