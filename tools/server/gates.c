#include "server/gates.h"

#include <math.h>
#include <stdlib.h>

#include "common/fail.h"

trol_status gates_copy(job *j, const trol_session *session, const trol_model_info *info, trol_error *error) {
    int64_t n_tokens = 0;
    for (size_t i = 0; i < j->n_tokens; i++)
        n_tokens += j->tokens[i] == info->image_token;
    j->gates = (job_gates){.n_layers = info->n_layers, .n_tokens = n_tokens};
    j->gates.values = calloc((size_t)n_tokens * (size_t)info->n_layers + 1, sizeof *j->gates.values);
    if (!j->gates.values)
        return fail(error, TROL_ERROR_MEMORY, "there is no memory for gates");
    for (size_t i = 0; i < j->request.n_images; i++)
        j->gates.n_tiles[i] = trol_features_n_tiles(image_entry_features(j->images[i]));
    float *out = j->gates.values;
    for (int32_t layer = 0; layer < info->n_layers; layer++) {
        const float *gates = trol_session_gates(session, layer);
        for (size_t i = 0; i < j->n_tokens; i++)
            if (j->tokens[i] == info->image_token)
                *out++ = gates && isfinite(gates[i]) ? gates[i] : 0;
    }
    return TROL_OK;
}
