#include "server/request_check.h"

#include <string.h>

trol_status request_limits_find(const engine_params *params, const trol_model_info *info, request_limits *limits,
                                trol_error *error) {
    *limits = (request_limits){.model = params->model,
                               .n_slots = params->n_slots,
                               .context_size = params->context_size,
                               .vocab_size = info->vocab_size,
                               .tokens_per_tile = info->tokens_per_tile,
                               .longest_token = 1};
    for (int32_t token = 0; token < info->n_tokens; token++) {
        char *bytes;
        size_t n_bytes;
        const trol_status status = trol_token_bytes(params->model, token, &bytes, &n_bytes, error);
        trol_free(bytes);
        if (status != TROL_OK)
            return status;
        if (n_bytes > limits->longest_token)
            limits->longest_token = n_bytes;
    }
    return TROL_OK;
}

trol_status request_render(const request_limits *limits, const job *j, bool encoded, int32_t **tokens, size_t *n_tokens,
                           trol_error *error) {
    int32_t counts[CHAT_MOST_IMAGES];
    for (size_t i = 0; i < j->request.n_images; i++)
        counts[i] = encoded ? trol_features_n_tokens(image_entry_features(j->images[i])) : 1;
    return trol_render_prompt(limits->model, j->request.messages, j->request.n_messages, counts, j->request.n_images, 0,
                              tokens, n_tokens, error);
}

bool request_fits(const request_limits *limits, size_t n_tokens, bool at_least, api_error *error) {
    if (n_tokens < (size_t)limits->context_size)
        return true;
    return api_fail(error, 400, "messages", "context_length_exceeded",
                    "the messages have %s%zu tokens, but the context has %d, for them and the answer",
                    at_least ? "at least " : "", n_tokens, limits->context_size);
}

/* So many tokens the texts have at least. White space does not count: a special token may take any amount of it. */
static size_t count_least_tokens(const request_limits *limits, const chat_request *request) {
    static const char white_space[] = " \t\n\v\f\r";
    size_t n_bytes = 0;
    for (size_t i = 0; i < request->n_messages; i++)
        for (const char *at = request->messages[i].text; *at;) {
            const size_t n_words = strcspn(at, white_space);
            n_bytes += n_words;
            at += n_words + strspn(at + n_words, white_space);
        }
    return n_bytes / limits->longest_token;
}

bool request_check(const request_limits *limits, const job *j, api_error *error) {
    int32_t *tokens = NULL;
    size_t n_tokens = 0;
    trol_error cause = {0};
    if (j->request.n > limits->n_slots)
        return api_fail(error, 400, "n", "invalid_value", "n is %d, but %d are answered at once", j->request.n,
                        limits->n_slots);
    for (size_t i = 0; i < j->request.sampler.n_bias; i++)
        if (j->request.bias[i].token >= limits->vocab_size)
            return api_fail(error, 400, "logit_bias", "invalid_value", "logit_bias names token %d, expected 0 to %d",
                            j->request.bias[i].token, limits->vocab_size - 1);
    if (!request_fits(limits, count_least_tokens(limits, &j->request), true,
                      error)) /* 20 MB take seconds to tokenize */
        return false;
    if (request_render(limits, j, false, &tokens, &n_tokens, &cause) != TROL_OK)
        return api_fail_library(error, "messages", &cause);
    trol_free(tokens);
    n_tokens += j->request.n_images * (size_t)(limits->tokens_per_tile - 1);
    return request_fits(limits, n_tokens, j->request.n_images > 0, error);
}
