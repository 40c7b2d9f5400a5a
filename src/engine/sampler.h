/* sampler.h - what the library's own loops ask of a sampler beyond trol.h. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "engine/exchange.h"

/* trol_sampler_choose with a status: *token is -1, and the status TROL_OK, where there is nothing to choose.
 * sampler NULL: greedy. */
trol_status sampler_choose(trol_sampler *sampler, const float *logits, int32_t vocab_size, const uint64_t *allowed,
                           int32_t *token, trol_error *error);

/* Takes one more token of the prompt, after trol_sampler_begin and before trol_sampler_accept. */
trol_status sampler_accept_prompt(trol_sampler *sampler, int32_t token, trol_error *error);

/* Writes a sampler to a file, or makes one from a file's contents; a NULL sampler too. */
trol_status sampler_exchange(trol_sampler **sampler, exchange *e);

#endif
