/* sampler.c - from logits to a token: greedy, or drawn from the softmax after temperature, top-k and top-p. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "engine/params.h"
#include "trol.h"

typedef struct candidate {
    float logit;
    int32_t token;
} candidate;

struct trol_sampler {
    trol_sampler_params params;
    uint64_t state;
    candidate *candidates; /* [capacity] */
    size_t capacity;
};

void trol_sampler_params_init(trol_sampler_params *params) {
    if (params)
        *params = (trol_sampler_params){.size = sizeof *params, .top_p = 1};
}

trol_status trol_sampler_new(const trol_sampler_params *params, trol_sampler **result, trol_error *error) {
    if (!result)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_sampler_new: the out-pointer is NULL");
    *result = NULL;
    trol_sampler_params p;
    trol_sampler_params_init(&p);
    TRY(params_copy(&p, sizeof p, params, "trol_sampler_params", error));
    if (!(p.temperature >= 0) || !isfinite(p.temperature))
        return fail(error, TROL_ERROR_ARGUMENT, "temperature is %g, expected 0 or more", (double)p.temperature);
    if (p.top_k < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "top_k is %d, expected 0 or more", p.top_k);
    if (!(p.top_p > 0 && p.top_p <= 1))
        return fail(error, TROL_ERROR_ARGUMENT, "top_p is %g, expected more than 0 and at most 1", (double)p.top_p);
    trol_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler)
        return fail_memory(error, sizeof *sampler, "a sampler");
    sampler->params = p;
    sampler->state = p.seed ^ 0x9e3779b97f4a7c15u;
    *result = sampler;
    return TROL_OK;
}

void trol_sampler_free(trol_sampler *sampler) {
    if (!sampler)
        return;
    free(sampler->candidates);
    free(sampler);
}

/* NaN never wins. */
static int32_t choose_greedy(const float *logits, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i])))
            best = i;
    return best;
}

/* Uniform in [0, 1): splitmix64 (Steele, Lea, Flood 2014). */
static double draw(trol_sampler *sampler) {
    uint64_t z = sampler->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int by_logit(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    if (a->logit != b->logit)
        return a->logit < b->logit ? 1 : -1;
    return a->token < b->token ? -1 : 1;
}

/* Draws from the n likeliest candidates, whose logits are sorted from the largest, up to a total probability of top_p.
 */
static int32_t draw_from(trol_sampler *sampler, size_t n) {
    const candidate *list = sampler->candidates;
    const double inverse = 1.0 / (double)sampler->params.temperature;
    double total = 0, kept = 0;
    for (size_t i = 0; i < n; i++)
        total += exp(((double)list[i].logit - (double)list[0].logit) * inverse);
    size_t n_kept = 0;
    while (n_kept < n && (n_kept == 0 || kept < (double)sampler->params.top_p * total))
        kept += exp(((double)list[n_kept++].logit - (double)list[0].logit) * inverse);
    double target = draw(sampler) * kept;
    for (size_t i = 0; i < n_kept; i++) {
        target -= exp(((double)list[i].logit - (double)list[0].logit) * inverse);
        if (target < 0)
            return list[i].token;
    }
    return list[n_kept - 1].token;
}

int32_t trol_sampler_choose(trol_sampler *sampler, const float *logits, int32_t vocab_size) {
    if (!logits || vocab_size < 1)
        return 0;
    if (!sampler || sampler->params.temperature == 0 || sampler->params.top_k == 1)
        return choose_greedy(logits, vocab_size);
    if (memory_grow((void **)&sampler->candidates, &sampler->capacity, (size_t)vocab_size, sizeof *sampler->candidates,
                    "a sampler", NULL) != TROL_OK)
        return choose_greedy(logits, vocab_size);
    size_t n = 0;
    for (int32_t i = 0; i < vocab_size; i++)
        if (!isnan(logits[i]))
            sampler->candidates[n++] = (candidate){logits[i], i};
    if (n == 0)
        return 0;
    qsort(sampler->candidates, n, sizeof *sampler->candidates, by_logit);
    const size_t top_k = (size_t)sampler->params.top_k;
    return draw_from(sampler, top_k > 0 && top_k < n ? top_k : n);
}
