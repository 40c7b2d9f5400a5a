#include "server/slot_choice.h"

/* The slot whose session shares the longest beginning with the prompt, and how long it is. Busy ones can be copied. */
static slot *find_source(const engine_params *params, slot *slots, const job *j, trol_features *const *features,
                         size_t *n_shared) {
    slot *best = NULL;
    *n_shared = 0;
    for (int32_t i = 0; i < params->n_slots && j->request.cache_prompt; i++) {
        slot *s = &slots[i];
        if (!s->session || (s->state != SLOT_IDLE && s->state != SLOT_ANSWER) || s->traversal != j->request.traversal ||
            s->traversal_skip != j->request.traversal_skip || (j->request.gates && !s->gates))
            continue;
        const size_t n = trol_session_reusable(s->session, j->tokens, j->n_tokens, features, j->request.n_images);
        if (n > *n_shared || (n > 0 && n == *n_shared && best && best->state != SLOT_IDLE && s->state == SLOT_IDLE)) {
            *n_shared = n;
            best = s;
        }
    }
    return best;
}

slot *slot_find_idle(const engine_params *params, slot *slots, const slot *but) {
    slot *best = NULL;
    for (int32_t i = 0; i < params->n_slots; i++) {
        slot *s = &slots[i];
        if (s->state == SLOT_IDLE && s != but &&
            (!best || (!s->session && best->session) || (!s->session == !best->session && s->used < best->used)))
            best = s;
    }
    return best;
}

static trol_status open_session(const engine_params *own, slot *s, const job *j, trol_error *error) {
    trol_session_params params;
    trol_session_params_init(&params);
    params.context_size = own->context_size;
    params.cache_type = own->cache_type;
    params.traversal = j->request.traversal;
    params.traversal_skip = j->request.traversal_skip;
    params.keep_pass2 = 1;
    params.keep_gates = j->request.gates;
    trol_session_free(s->session);
    s->traversal = j->request.traversal;
    s->traversal_skip = j->request.traversal_skip;
    s->gates = j->request.gates;
    return trol_session_new(own->model, &params, &s->session, error);
}

trol_status slot_take(const engine_params *params, slot *slots, const job *j, trol_features *const *features,
                      slot **result, trol_error *error) {
    size_t n_shared;
    slot *source = find_source(params, slots, j, features, &n_shared),
         *free_slot = slot_find_idle(params, slots, source);
    const bool take_over =
        source && source->state == SLOT_IDLE && (!free_slot || 2 * n_shared >= trol_session_n_tokens(source->session));
    trol_status status = TROL_OK;
    slot *s = take_over ? source : free_slot;
    if (!take_over && source) {
        trol_session *fork;
        status = trol_session_fork(source->session, &fork, error);
        if (status == TROL_OK) {
            trol_session_free(s->session);
            s->session = fork;
            s->traversal = source->traversal;
            s->traversal_skip = source->traversal_skip;
            s->gates = source->gates;
        }
    } else if (!take_over) {
        status = open_session(params, s, j, error);
    }
    *result = s;
    return status;
}
