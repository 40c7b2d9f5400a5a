#include "server/gates.h"

#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

/* values [n_rows, 1] of the tokens from `first` on. */
static int observe(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows, int64_t n_columns,
                   const float *values) {
    job *j = user;
    if (strcmp(stage, "gate") != 0 || n_columns != 1)
        return 0;
    for (int64_t row = 0; row < n_rows; row++) {
        const int64_t column = j->gate_columns[first + row];
        if (column >= 0)
            j->gates.values[layer * j->gates.n_tokens + column] = values[row];
    }
    return 0;
}

trol_status gates_watch(job *j, trol_session *session, const trol_model_info *info, trol_error *error) {
    int64_t n_tokens = 0;
    j->gate_columns = malloc(j->n_tokens * sizeof *j->gate_columns);
    if (!j->gate_columns)
        return tool_fail(error, TROL_ERROR_MEMORY, "there is no memory for gates");
    for (size_t i = 0; i < j->n_tokens; i++)
        j->gate_columns[i] = j->tokens[i] == info->image_token ? n_tokens++ : -1;
    j->gates = (job_gates){.n_layers = info->n_layers, .n_tokens = n_tokens};
    j->gates.values = calloc((size_t)n_tokens * (size_t)info->n_layers + 1, sizeof *j->gates.values);
    if (!j->gates.values)
        return tool_fail(error, TROL_ERROR_MEMORY, "there is no memory for gates");
    for (size_t i = 0; i < j->request.n_images; i++)
        j->gates.n_tiles[i] = trol_features_n_tiles(image_entry_features(j->images[i]));
    trol_session_set_observer(session, observe, j);
    return TROL_OK;
}

void gates_end(trol_session *session) { trol_session_set_observer(session, NULL, NULL); }
