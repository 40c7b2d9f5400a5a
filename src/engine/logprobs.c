/* logprobs.c - log-probabilities: the log-softmax of raw logits for one token, and for the likeliest ones. */
#include "engine/logprobs.h"

#include <math.h>

#include "base/exponential.h"

/* log(sum(exp(logits))); NaN counts as -infinity. Lane i % LANES sums each logit i: the same bits anywhere, and sums
 * that do not wait for each other. */
static double log_sum(const float *logits, int32_t n) {
    enum { LANES = 16 };
    float largest = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > largest)
            largest = logits[i];
    if (isinf(largest))
        return largest;
    double sums[LANES] = {0}, sum = 0;
    for (int32_t i = 0; i < n; i += LANES) {
        double x[LANES];
        for (int32_t lane = 0; lane < LANES; lane++)
            x[lane] = i + lane < n ? (double)logits[i + lane] - (double)largest : EXPONENTIAL_LOWEST;
        for (int32_t lane = 0; lane < LANES; lane++) /* NaN is lower, too */
            x[lane] = x[lane] > EXPONENTIAL_LOWEST ? x[lane] : EXPONENTIAL_LOWEST;
        for (int32_t lane = 0; lane < LANES; lane++)
            sums[lane] += exponential(x[lane]);
    }
    for (int32_t lane = 0; lane < LANES; lane++)
        sum += sums[lane];
    return (double)largest + log(sum);
}

/* Whether a comes after b: less likely, or as likely with a higher id. */
static int is_after(const trol_token_logprob *a, const trol_token_logprob *b) {
    return a->logprob < b->logprob || (a->logprob == b->logprob && a->token > b->token);
}

/* list [n] is a heap except for its first entry; the last in order goes to the front. */
static void sift_down(trol_token_logprob *list, int32_t n) {
    const trol_token_logprob moved = list[0];
    int32_t place = 0;
    for (int32_t child; (child = 2 * place + 1) < n; place = child) {
        if (child + 1 < n && is_after(&list[child + 1], &list[child]))
            child++;
        if (!is_after(&list[child], &moved))
            break;
        list[place] = list[child];
    }
    list[place] = moved;
}

/* The n likeliest of the allowed tokens, best first, with their logits: a heap of n with the last of them in front,
 * which gives way to each better one. Places that none is left for have the token INT32_MAX. */
static void find_top(const float *logits, int32_t vocab_size, const uint64_t *allowed, int32_t n,
                     trol_token_logprob *top) {
    for (int32_t i = 0; i < n; i++)
        top[i] = (trol_token_logprob){.token = INT32_MAX, .logprob = -INFINITY};
    for (int32_t i = 0; i < vocab_size; i++) {
        const trol_token_logprob entry = {.token = i, .logprob = logits[i]};
        if (!isnan(logits[i]) && is_after(&top[0], &entry) && (!allowed || (allowed[i >> 6] >> (i & 63) & 1))) {
            top[0] = entry;
            sift_down(top, n);
        }
    }
    for (int32_t left = n - 1; left > 0; left--) {
        const trol_token_logprob last = top[0];
        top[0] = top[left];
        sift_down(top, left);
        top[left] = last;
    }
}

/* As logprobs_top; `total` is log_sum's. */
static void list_top(const float *logits, int32_t vocab_size, const uint64_t *allowed, double total,
                     trol_token_logprob *top, int32_t n_top) {
    find_top(logits, vocab_size, allowed, n_top, top);
    for (int32_t i = 0; i < n_top; i++) {
        if (top[i].token == INT32_MAX)
            top[i].token = -1;
        else
            top[i].logprob = (float)((double)top[i].logprob - total);
    }
}

void logprobs_top(const float *logits, int32_t vocab_size, const uint64_t *allowed, trol_token_logprob *top,
                  int32_t n_top) {
    list_top(logits, vocab_size, allowed, log_sum(logits, vocab_size), top, n_top);
}

float trol_logprobs(const float *logits, int32_t vocab_size, int32_t token, trol_token_logprob *top, int32_t n_top) {
    if (!logits || vocab_size < 1)
        return -INFINITY;
    const double total = log_sum(logits, vocab_size);
    if (top && n_top > 0)
        list_top(logits, vocab_size, NULL, total, top, n_top);
    return token >= 0 && token < vocab_size ? (float)((double)logits[token] - total) : -INFINITY;
}
