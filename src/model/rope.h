/* rope.h - rotary position embedding: the angles by which queries and keys are rotated.
 *
 * The angles depend on the position and, for some models, on the length of the text (dynamic NTK, LongRoPE's factors).
 */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include <stdint.h>

#include "model/config.h"

/* The variant of the rope for a length: lengths of the same variant rotate every position alike. */
double rope_variant(const rope_config *rope, int32_t head_dim, int64_t length);

/* The factor of cos and sin. */
float rope_attention_scale(const rope_config *rope);

/* cos and sin, [n, head_dim / 2] each, of n positions in a text of `length` tokens. Computed as in the authors' code,
 * with frequencies and angles rounded to float32. */
void rope_angles(const rope_config *rope, int32_t head_dim, int64_t length, const int32_t *positions, int64_t n,
                 float *cos, float *sin);

#endif
