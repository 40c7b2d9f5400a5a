/* sampler.c - from logits to a token, in the order that trol.h states: mask, bias, penalties, temperature, top-k,
 * top-p, min-p, and then the draw.
 *
 * Probabilities are whole numbers here: exp((logit - largest) / temperature) in units of 2^-shift, so small that all of
 * them together fit 63 bits. Their sums are exact and depend on no order. So a cut needs no sorted list: a histogram
 * over the leading bits of the logits finds the place where the sum passes a target, and one pass in the order of the
 * vocabulary draws. Nothing depends on the machine: the exponential is the library's own. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/exponential.h"
#include "base/memory.h"
#include "engine/params.h"

typedef struct candidate {
    uint64_t weight; /* its probability, not normalized */
    uint32_t key;    /* larger for a larger logit */
    int32_t token;
} candidate;

struct trol_sampler {
    trol_sampler_params params; /* bias points to the sampler's own copy */
    uint64_t state;             /* of the random numbers: one step for each draw */
    int32_t *history;           /* [n_history]: the last tokens, at least repeat_last_n of them */
    size_t n_history, history_capacity;
    size_t n_prompt;       /* the first of them are the prompt's */
    float *logits;         /* [vocab]: with mask, bias and penalties */
    uint32_t *counts;      /* [vocab]: all 0 between two calls */
    candidate *candidates; /* [vocab] */
    size_t capacity;       /* of these three */
};

/* ---- a sampler's life ------------------------------------------------------------------------ */

void trol_sampler_params_init(trol_sampler_params *params) {
    if (params)
        *params = (trol_sampler_params){.size = sizeof *params, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64};
}

static trol_status check_params(const trol_sampler_params *p, trol_error *error) {
    if (!(p->temperature >= 0) || !isfinite(p->temperature))
        return fail(error, TROL_ERROR_ARGUMENT, "temperature is %g, expected 0 or more", (double)p->temperature);
    if (p->top_k < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "top_k is %d, expected 0 or more", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return fail(error, TROL_ERROR_ARGUMENT, "top_p is %g, expected more than 0 and at most 1", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return fail(error, TROL_ERROR_ARGUMENT, "min_p is %g, expected 0 to 1", (double)p->min_p);
    if (!(p->repeat_penalty > 0) || !isfinite(p->repeat_penalty))
        return fail(error, TROL_ERROR_ARGUMENT, "repeat_penalty is %g, expected more than 0 (1: none)",
                    (double)p->repeat_penalty);
    if (p->repeat_last_n < -1)
        return fail(error, TROL_ERROR_ARGUMENT, "repeat_last_n is %d, expected -1 (all), 0 (off) or more",
                    p->repeat_last_n);
    if (!isfinite(p->presence_penalty))
        return fail(error, TROL_ERROR_ARGUMENT, "presence_penalty is %g, expected a finite number",
                    (double)p->presence_penalty);
    if (!isfinite(p->frequency_penalty))
        return fail(error, TROL_ERROR_ARGUMENT, "frequency_penalty is %g, expected a finite number",
                    (double)p->frequency_penalty);
    if (p->n_bias > 0 && !p->bias)
        return fail(error, TROL_ERROR_ARGUMENT, "the logit bias is NULL, expected %zu entries", p->n_bias);
    for (size_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].token < 0 || isnan(p->bias[i].bias) || p->bias[i].bias == INFINITY)
            return fail(error, TROL_ERROR_ARGUMENT,
                        "the logit bias of token %d is %g, expected a token from 0 on, and a number or -infinity",
                        p->bias[i].token, (double)p->bias[i].bias);
    return TROL_OK;
}

/* Random-looking numbers, for consecutive states too: splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static const uint64_t state_step = 0x9e3779b97f4a7c15u;

trol_status trol_sampler_new(const trol_sampler_params *params, trol_sampler **result, trol_error *error) {
    TRY_OUT(result, "trol_sampler_new", error);
    trol_sampler_params p;
    trol_sampler_params_init(&p);
    TRY(params_copy(&p, sizeof p, params, "trol_sampler_params", error));
    TRY(check_params(&p, error));
    trol_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler)
        return fail_memory(error, sizeof *sampler, "a sampler");
    sampler->params = p;
    sampler->params.bias = NULL;
    sampler->state = mix(p.seed + state_step);
    if (p.n_bias > 0) {
        trol_logit_bias *bias;
        trol_status status = memory_alloc(p.n_bias, sizeof *bias, "a logit bias", (void **)&bias, error);
        if (status != TROL_OK) {
            trol_sampler_free(sampler);
            return status;
        }
        memcpy(bias, p.bias, p.n_bias * sizeof *bias);
        sampler->params.bias = bias;
    }
    *result = sampler;
    return TROL_OK;
}

static void free_scratch(trol_sampler *sampler) {
    memory_free(sampler->logits);
    memory_free(sampler->counts);
    memory_free(sampler->candidates);
    sampler->logits = NULL;
    sampler->counts = NULL;
    sampler->candidates = NULL;
    sampler->capacity = 0;
}

void trol_sampler_free(trol_sampler *sampler) {
    if (!sampler)
        return;
    free_scratch(sampler);
    memory_free((void *)sampler->params.bias);
    free(sampler->history);
    free(sampler);
}

trol_status trol_sampler_clone(const trol_sampler *sampler, trol_sampler **clone, trol_error *error) {
    TRY_OUT(clone, "trol_sampler_clone", error);
    if (!sampler)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_sampler_clone: the sampler is NULL");
    trol_sampler *copy;
    TRY(trol_sampler_new(&sampler->params, &copy, error));
    trol_status status = memory_grow((void **)&copy->history, &copy->history_capacity, sampler->n_history,
                                     sizeof *copy->history, "a sampler", error);
    if (status != TROL_OK) {
        trol_sampler_free(copy);
        return status;
    }
    if (sampler->n_history > 0)
        memcpy(copy->history, sampler->history, sampler->n_history * sizeof *copy->history);
    copy->n_history = sampler->n_history;
    copy->n_prompt = sampler->n_prompt;
    copy->state = sampler->state;
    *clone = copy;
    return TROL_OK;
}

uint64_t trol_sampler_state(const trol_sampler *sampler) { return sampler ? sampler->state : 0; }

void trol_sampler_set_state(trol_sampler *sampler, uint64_t state) {
    if (sampler)
        sampler->state = state;
}

/* ---- files ----------------------------------------------------------------------------------- */

typedef struct number {
    size_t offset, n_bytes;
} number;

/* A sampler in a file: these numbers, then its bias and its tokens. */
#define NUMBER(field)                                                                                                  \
    { offsetof(trol_sampler, field), sizeof((trol_sampler *)0)->field }
static const number numbers[] = {NUMBER(params.temperature),
                                 NUMBER(params.top_k),
                                 NUMBER(params.top_p),
                                 NUMBER(params.min_p),
                                 NUMBER(params.repeat_penalty),
                                 NUMBER(params.repeat_last_n),
                                 NUMBER(params.presence_penalty),
                                 NUMBER(params.frequency_penalty),
                                 NUMBER(params.seed),
                                 NUMBER(params.n_bias),
                                 NUMBER(state),
                                 NUMBER(n_history),
                                 NUMBER(n_prompt)};

/* When reading, of a sampler of zeros, which may be incomplete on failure. */
static trol_status exchange_parts(trol_sampler *s, exchange *e) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        TRY(e->bytes(e, (char *)s + numbers[i].offset, numbers[i].n_bytes));
    trol_logit_bias *bias = (trol_logit_bias *)s->params.bias; /* the sampler's own */
    if (e->reading) {
        if (s->params.n_bias > e->left / sizeof *bias || s->n_history > e->left / sizeof *s->history ||
            s->n_prompt > s->n_history)
            return fail(e->error, TROL_ERROR_FORMAT, "%s: the file is cut short in its sampler", e->path);
        TRY(memory_alloc(s->params.n_bias, sizeof *bias, "a logit bias", (void **)&bias, e->error));
        s->params.bias = bias;
        TRY(memory_grow((void **)&s->history, &s->history_capacity, s->n_history, sizeof *s->history,
                        "a sampler's tokens", e->error));
    }
    TRY(e->bytes(e, bias, s->params.n_bias * sizeof *bias));
    TRY(e->bytes(e, s->history, s->n_history * sizeof *s->history));
    return e->reading ? check_params(&s->params, e->error) : TROL_OK;
}

trol_status sampler_exchange(trol_sampler **sampler, exchange *e) {
    uint64_t is_there = *sampler != NULL;
    TRY(e->bytes(e, &is_there, sizeof is_there));
    if (!is_there)
        return TROL_OK;
    if (!e->reading)
        return exchange_parts(*sampler, e);
    trol_sampler *made = calloc(1, sizeof *made);
    if (!made)
        return fail_memory(e->error, sizeof *made, "a sampler");
    made->params.size = sizeof made->params;
    const trol_status status = exchange_parts(made, e);
    if (status == TROL_OK)
        *sampler = made;
    else
        trol_sampler_free(made);
    return status;
}

/* ---- the tokens before ----------------------------------------------------------------------- */

static bool has_penalties(const trol_sampler_params *p) {
    return p->repeat_last_n != 0 && (p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0);
}

static size_t window(const trol_sampler *sampler) {
    const int32_t last_n = sampler->params.repeat_last_n;
    return last_n < 0 || (size_t)last_n > sampler->n_history ? sampler->n_history : (size_t)last_n;
}

/* Up to twice the window is held, so that what is too old is dropped once in a window and not with each token. */
static void drop_old(trol_sampler *sampler) {
    const size_t kept = window(sampler), dropped = sampler->n_history - kept;
    if (dropped <= kept)
        return;
    memmove(sampler->history, sampler->history + dropped, kept * sizeof *sampler->history);
    sampler->n_history = kept;
    sampler->n_prompt = sampler->n_prompt > dropped ? sampler->n_prompt - dropped : 0;
}

trol_status trol_sampler_accept(trol_sampler *sampler, int32_t token, trol_error *error) {
    if (!sampler || !has_penalties(&sampler->params))
        return TROL_OK;
    TRY(memory_grow((void **)&sampler->history, &sampler->history_capacity, sampler->n_history + 1,
                    sizeof *sampler->history, "a sampler's tokens", error));
    sampler->history[sampler->n_history++] = token;
    drop_old(sampler);
    return TROL_OK;
}

trol_status sampler_accept_prompt(trol_sampler *sampler, int32_t token, trol_error *error) {
    TRY(trol_sampler_accept(sampler, token, error));
    if (sampler)
        sampler->n_prompt = sampler->n_history;
    return TROL_OK;
}

trol_status trol_sampler_begin(trol_sampler *sampler, const int32_t *prompt, size_t n_prompt, trol_error *error) {
    if (!sampler)
        return TROL_OK;
    if (n_prompt > 0 && !prompt)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_sampler_begin: the prompt is NULL, expected %zu tokens",
                    n_prompt);
    sampler->n_history = sampler->n_prompt = 0;
    for (size_t i = 0; i < n_prompt; i++)
        TRY(sampler_accept_prompt(sampler, prompt[i], error));
    return TROL_OK;
}

/* ---- logits ---------------------------------------------------------------------------------- */

static bool is_allowed(const uint64_t *allowed, int32_t token) {
    return !allowed || (allowed[token >> 6] >> (token & 63) & 1);
}

/* The tokens of the window are counted, then each is penalized once, where it comes first. */
static void apply_penalties(trol_sampler *sampler, int32_t n) {
    const trol_sampler_params *p = &sampler->params;
    const size_t first = sampler->n_history - window(sampler);
    static const uint32_t seen = 1u << 31; /* the other bits count the answer's tokens */
    for (size_t i = first; i < sampler->n_history; i++) {
        const int32_t token = sampler->history[i];
        if (token >= 0 && token < n)
            sampler->counts[token] = (sampler->counts[token] + (i >= sampler->n_prompt)) | seen;
    }
    for (size_t i = first; i < sampler->n_history; i++) {
        const int32_t token = sampler->history[i];
        if (token < 0 || token >= n || !sampler->counts[token])
            continue;
        const uint32_t count = sampler->counts[token] & ~seen;
        float logit = sampler->logits[token];
        logit = logit > 0 ? logit / p->repeat_penalty : logit * p->repeat_penalty;
        logit -= (float)count * p->frequency_penalty;
        if (count > 0)
            logit -= p->presence_penalty;
        sampler->logits[token] = logit;
        sampler->counts[token] = 0;
    }
}

static trol_status reserve(trol_sampler *sampler, size_t n, trol_error *error) {
    if (n <= sampler->capacity)
        return TROL_OK;
    free_scratch(sampler);
    TRY(memory_alloc(n, sizeof *sampler->logits, "a sampler", (void **)&sampler->logits, error));
    TRY(memory_alloc_zero(n, sizeof *sampler->counts, "a sampler", (void **)&sampler->counts, error));
    TRY(memory_alloc(n, sizeof *sampler->candidates, "a sampler", (void **)&sampler->candidates, error));
    sampler->capacity = n;
    return TROL_OK;
}

/* sampler->logits: mask, bias and penalties applied; NaN becomes -infinity. */
static trol_status adjust(trol_sampler *sampler, const float *logits, int32_t n, const uint64_t *allowed,
                          trol_error *error) {
    const trol_sampler_params *p = &sampler->params;
    TRY(reserve(sampler, (size_t)n, error));
    for (int32_t i = 0; i < n; i++)
        sampler->logits[i] = is_allowed(allowed, i) && !isnan(logits[i]) ? logits[i] : -INFINITY;
    for (size_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].token < n && sampler->logits[p->bias[i].token] != INFINITY)
            sampler->logits[p->bias[i].token] += p->bias[i].bias;
    if (has_penalties(p))
        apply_penalties(sampler, n);
    return TROL_OK;
}

/* The lowest id of the largest logit; -1 where all are NaN, -infinity or not allowed. */
static int32_t choose_greedy(const float *logits, int32_t n, const uint64_t *allowed) {
    int32_t best = -1;
    float largest = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > largest && is_allowed(allowed, i)) {
            largest = logits[i];
            best = i;
        }
    return best;
}

/* ---- candidates ------------------------------------------------------------------------------ */

/* Orders as the numbers do; 0 and -0 are equal. */
static uint32_t order_key(float value) {
    uint32_t bits;
    value += 0.0f;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}

/* Bits of a weight of 1, so that n of them fit 63 bits. */
static int weight_bits(int32_t n) {
    int bits = 62;
    for (uint32_t left = (uint32_t)n; left > 0; left >>= 1)
        bits--;
    return bits < 52 ? bits : 52;
}

/* All tokens that can be chosen, in the order of the vocabulary. */
static size_t collect(trol_sampler *sampler, int32_t n) {
    size_t count = 0;
    for (int32_t i = 0; i < n; i++) {
        sampler->candidates[count] = (candidate){.key = order_key(sampler->logits[i]), .token = i};
        count += sampler->logits[i] > -INFINITY;
    }
    return count;
}

/* Weights of the candidates, of which those with 0 are dropped. */
static size_t weigh(trol_sampler *sampler, size_t n, float largest, double one) {
    enum { CHUNK = 64 };
    const double inverse = 1.0 / (double)sampler->params.temperature;
    candidate *list = sampler->candidates;
    size_t kept = 0;
    for (size_t first = 0; first < n; first += CHUNK) {
        const size_t count = n - first < CHUNK ? n - first : CHUNK;
        double x[CHUNK] = {0};
        for (size_t i = 0; i < count; i++) {
            const float logit = sampler->logits[list[first + i].token];
            x[i] = logit == largest ? 0 : ((double)logit - (double)largest) * inverse;
        }
        for (size_t i = 0; i < CHUNK; i++)
            x[i] = x[i] > EXPONENTIAL_LOWEST ? x[i] : EXPONENTIAL_LOWEST;
        for (size_t i = 0; i < CHUNK; i++)
            x[i] = one * exponential(x[i]);
        for (size_t i = 0; i < count; i++) {
            const candidate c = {(uint64_t)(int64_t)x[i], list[first + i].key, list[first + i].token};
            list[kept] = c;
            kept += c.weight > 0;
        }
    }
    return kept;
}

static uint64_t measure_of(const candidate *c, bool by_count) { return by_count ? 1 : c->weight; }

static uint64_t total_of(const candidate *list, size_t n) {
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += list[i].weight;
    return total;
}

/* Keeps the fewest of the likeliest candidates (of equals the first) that are `target` together, in number or in
 * weight; what is kept stays in order. Returns how many. */
static size_t keep_likeliest(candidate *list, size_t n, bool by_count, uint64_t target) {
    enum { BITS = 11, BUCKETS = 1 << BITS };
    uint64_t buckets[BUCKETS], above = 0; /* what is above the cut */
    uint32_t cut = 0, known = 0;          /* the leading bits of the cut's key, and which bits these are */
    for (int shift = 32 - BITS; known != UINT32_MAX; shift = shift > BITS ? shift - BITS : 0) {
        const uint32_t window_mask = (uint32_t)(BUCKETS - 1) << shift & ~known;
        memset(buckets, 0, sizeof buckets);
        for (size_t i = 0; i < n; i++)
            if ((list[i].key & known) == cut)
                buckets[(list[i].key & window_mask) >> shift] += measure_of(&list[i], by_count);
        uint32_t b = window_mask >> shift;
        while (b > 0 && above + buckets[b] < target)
            above += buckets[b--];
        cut |= b << shift;
        known |= window_mask;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (list[i].key < cut || (list[i].key == cut && above >= target))
            continue;
        if (list[i].key == cut)
            above += measure_of(&list[i], by_count);
        list[kept++] = list[i];
    }
    return kept;
}

/* top-k, top-p and min-p, each on what the one before left. */
static size_t cut(trol_sampler *sampler, size_t n, float largest, double one) {
    const trol_sampler_params *p = &sampler->params;
    candidate *list = sampler->candidates;
    if (p->top_k > 0 && (size_t)p->top_k < n)
        n = keep_likeliest(list, n, true, (uint64_t)p->top_k);
    n = weigh(sampler, n, largest, one);
    if (p->top_p < 1) {
        const double target = ceil((double)p->top_p * (double)total_of(list, n));
        n = keep_likeliest(list, n, false, target < 1 ? 1 : (uint64_t)target);
    }
    const double smallest = (double)p->min_p * one;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)list[i].weight >= smallest)
            list[kept++] = list[i];
    return kept;
}

/* The upper half of a * b. */
static uint64_t multiply_high(uint64_t a, uint64_t b) {
    const uint64_t low = UINT32_MAX, a0 = a & low, a1 = a >> 32, b0 = b & low, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & low);
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

static int32_t draw(trol_sampler *sampler, const candidate *list, size_t n) {
    sampler->state += state_step;
    uint64_t target = multiply_high(mix(sampler->state), total_of(list, n));
    size_t i = 0;
    while (target >= list[i].weight)
        target -= list[i++].weight;
    return list[i].token;
}

trol_status sampler_choose(trol_sampler *sampler, const float *logits, int32_t vocab_size, const uint64_t *allowed,
                           int32_t *token, trol_error *error) {
    *token = -1;
    if (!logits || vocab_size < 1)
        return TROL_OK;
    if (!sampler) {
        *token = choose_greedy(logits, vocab_size, allowed);
        return TROL_OK;
    }
    TRY(adjust(sampler, logits, vocab_size, allowed, error));
    const int32_t best = choose_greedy(sampler->logits, vocab_size, NULL);
    const trol_sampler_params *p = &sampler->params;
    *token = best;
    if (best < 0 || p->temperature == 0 || p->top_k == 1)
        return TROL_OK;
    size_t n = collect(sampler, vocab_size);
    n = cut(sampler, n, sampler->logits[best], (double)(1ull << weight_bits(vocab_size)));
    *token = draw(sampler, sampler->candidates, n);
    return TROL_OK;
}

int32_t trol_sampler_choose(trol_sampler *sampler, const float *logits, int32_t vocab_size) {
    return trol_sampler_choose_allowed(sampler, logits, vocab_size, NULL);
}

int32_t trol_sampler_choose_allowed(trol_sampler *sampler, const float *logits, int32_t vocab_size,
                                    const uint64_t *allowed) {
    int32_t token;
    return sampler_choose(sampler, logits, vocab_size, allowed, &token, NULL) == TROL_OK ? token : -1;
}
