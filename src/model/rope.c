#include "model/rope.h"

#include <math.h>

/* Dynamic NTK's base for a length: theta itself up to max_positions. */
static double ntk_base(const rope_config *rope, int32_t head_dim, int64_t length) {
    if (length <= rope->max_positions)
        return rope->theta;
    double stretch = rope->factor * (double)length / (double)rope->max_positions - (rope->factor - 1);
    return rope->theta * pow(stretch, (double)head_dim / (head_dim - 2));
}

static int is_long(const rope_config *rope, int64_t length) { return length > rope->original_max_positions; }

double rope_variant(const rope_config *rope, int32_t head_dim, int64_t length) {
    switch (rope->type) {
    case ROPE_DYNAMIC_NTK:
        return ntk_base(rope, head_dim, length);
    case ROPE_SU:
    case ROPE_YARN:
        return is_long(rope, length);
    case ROPE_PLAIN:
        break;
    }
    return 0;
}

float rope_attention_scale(const rope_config *rope) {
    double ratio = (double)rope->max_positions / (double)rope->original_max_positions;
    if ((rope->type != ROPE_SU && rope->type != ROPE_YARN) || ratio <= 1)
        return 1;
    if (rope->type == ROPE_YARN)
        return (float)(0.1 * log(ratio) + 1);
    return (float)sqrt(1 + log(ratio) / log((double)rope->original_max_positions));
}

void rope_angles(const rope_config *rope, int32_t head_dim, int64_t length, const int32_t *positions, int64_t n,
                 float *cos, float *sin) {
    const int32_t half = head_dim / 2;
    const float base = (float)ntk_base(rope, head_dim, rope->type == ROPE_DYNAMIC_NTK ? length : 0);
    const float scale = rope_attention_scale(rope);
    float frequencies[CONFIG_MAX_HEAD_DIM / 2];
    for (int32_t i = 0; i < half; i++) {
        float factor = 1;
        if (rope->type == ROPE_SU || rope->type == ROPE_YARN)
            factor = is_long(rope, length) ? rope->long_factor[i] : rope->short_factor[i];
        frequencies[i] = 1.0f / (factor * powf(base, (float)(2 * i) / (float)head_dim));
    }
    for (int64_t row = 0; row < n; row++)
        for (int32_t i = 0; i < half; i++) {
            float angle = (float)positions[row] * frequencies[i];
            cos[row * half + i] = cosf(angle) * scale;
            sin[row * half + i] = sinf(angle) * scale;
        }
}
