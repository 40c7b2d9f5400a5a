/* rope.h - rotary position embedding: which angles a token's keys and queries are turned by.
 *
 * The angles depend on the position and, for some models, on the length of the text (dynamic NTK, LongRoPE's factors).
 */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include <stdint.h>

#include "model/config.h"

/* What a length makes of the rope: two lengths of equal variant turn every position alike. */
double rope_variant(const rope_config *rope, int32_t head_dim, int64_t length);

/* What cos and sin are multiplied by. */
float rope_attention_scale(const rope_config *rope);

/* cos and sin, [n, head_dim / 2] each, of n positions in a text of `length` tokens. Computed as the authors' code
 * does, frequencies and angles rounded to float32. */
void rope_angles(const rope_config *rope, int32_t head_dim, int64_t length, const int32_t *positions, int64_t n,
                 float *cos, float *sin);

#endif
