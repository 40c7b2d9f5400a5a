/* request_check.h - what can be checked of a request before it is queued. */
#ifndef SERVER_REQUEST_CHECK_H
#define SERVER_REQUEST_CHECK_H

#include "server/engine.h"

typedef struct request_limits {
    const trol_model *model;
    int32_t n_slots, context_size, vocab_size, tokens_per_tile;
    size_t longest_token; /* bytes of text that a token stands for at most, white space aside */
} request_limits;

trol_status request_limits_find(const engine_params *params, const trol_model_info *info, request_limits *limits,
                                trol_error *error);

/* The job's tokens; one for each picture that is not encoded yet. Free *tokens with trol_free. */
trol_status request_render(const request_limits *limits, const job *j, bool encoded, int32_t **tokens, size_t *n_tokens,
                           trol_error *error);
/* A prompt and at least one token of its answer must have room. */
bool request_fits(const request_limits *limits, size_t n_tokens, bool at_least, api_error *error);
/* All that needs no picture's contents. */
bool request_check(const request_limits *limits, const job *j, api_error *error);

#endif
