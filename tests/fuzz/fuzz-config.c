/* fuzz-config.c - any bytes as a config.json: refused with a sentence, or sizes that may be multiplied. */
#include <stdlib.h>

#include "model/config.h"
#include "model/rope.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    trol_error error = {0};
    model_config c;
    if (config_parse((const char *)bytes, n_bytes, NULL, &c, &error) != TROL_OK) {
        if (error.message[0] == '\0')
            abort();
        return 0;
    }
    const decoder_config *d = &c.decoder;
    const int32_t positions[] = {0, 1, 100000};
    float cos[3 * CONFIG_MAX_HEAD_DIM / 2], sin[3 * CONFIG_MAX_HEAD_DIM / 2];
    rope_angles(&d->rope, d->head_dim, 100001, positions, 3, cos, sin);
    if (d->n_heads * d->head_dim != d->hidden_size || d->n_heads % d->n_kv_heads != 0 || d->n_eos_tokens < 1 ||
        config_tokens_per_tile(&c) < 1 || config_trained_positions(d) < 1 || config_image_token(&c) < 0 ||
        config_max_tiles(&c) < 1)
        abort();
    return 0;
}
