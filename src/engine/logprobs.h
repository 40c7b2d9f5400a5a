/* logprobs.h - the likeliest of the tokens that a constraint allows. */
#ifndef ENGINE_LOGPROBS_H
#define ENGINE_LOGPROBS_H

#include "trol.h"

/* top [n_top] of trol_logprobs, n_top at least 1, among the tokens whose bit of allowed is set (NULL: all). The
 * probabilities are those among all tokens. */
void logprobs_top(const float *logits, int32_t vocab_size, const uint64_t *allowed, trol_token_logprob *top,
                  int32_t n_top);

#endif
