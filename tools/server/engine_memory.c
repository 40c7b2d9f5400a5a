/* engine_memory.c - upper bounds of the engine's memory, from its parameters. */
#include "server/engine.h"
#include "server/pace.h"

engine_memory engine_compute_memory(const trol_model_info *info, const engine_params *p) {
    const int64_t pass = trol_model_cache_bytes(p->model, p->cache_type, p->context_size);
    const int64_t rows = PACE_LARGEST_PIECE, image_tokens = (int64_t)info->max_tiles * info->tokens_per_tile;
    const int64_t vision_rows =
        info->max_tiles *
        ((int64_t)info->image_size / info->vision_patch_size * (info->image_size / info->vision_patch_size) + 1);
    engine_memory m;
    m.sessions = p->n_slots * (2 * pass + 4 * (int64_t)info->vocab_size);
    /* Requests that run or are next have their pictures encoded: each fits a context. */
    m.images = (int64_t)p->image_cache_bytes + 2 * p->n_slots * (int64_t)p->context_size * info->hidden_size * 4;
    m.scratch = 4 * (rows * (6 * (int64_t)info->hidden_size + 3 * (int64_t)info->intermediate_size) +
                     vision_rows * (4 * (int64_t)info->vision_hidden_size + info->vision_intermediate_size) +
                     image_tokens * 2 * (int64_t)info->hidden_size);
    return m;
}
