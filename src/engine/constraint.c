/* constraint.c - which tokens may come next: the vocabulary's tree walked with a grammar's automaton.
 *
 * Clones share the automaton and the masks that were computed, each mask kept for its state. The reserve: each state
 * knows the shortest text that ends it; that text, cut into the longest tokens one after the other, bounds the tokens
 * that are needed. What is left of it after its first token is the shortest text of the state that this leads to, cut
 * alike, so with enough tokens left at least that token is allowed. */
#include <stdlib.h>
#include <string.h>

#include "base/fork_mutex.h"
#include "base/memory.h"
#include "engine/gbnf.h"
#include "engine/json_schema.h"
#include "engine/matcher.h"
#include "engine/model.h"
#include "engine/params.h"
#include "engine/vocabulary.h"

enum {
    MASK_SETS = 64,
    MASKS_IN_A_SET = 8,
    KEPT_STATE_BYTES = 48 << 20 /* of the automaton, before what is not in use is forgotten */
};

/* The tokens that may follow a state, whatever the limit. */
typedef struct kept_mask {
    uint64_t *allowed; /* [n_words]; NULL: none yet */
    uint64_t last_use;
    uint32_t key;      /* of the state */
    uint32_t farthest; /* after any of them, no more tokens than this are needed */
} kept_mask;

/* What clones share. */
typedef struct constraint_core {
    fork_mutex mutex;
    bool broken; /* another thread was changing this when the process forked: neither used nor freed */
    size_t references;
    trol_model *model;
    const vocabulary *vocabulary; /* the model's */
    matcher *matcher;
    trol_constraint *users; /* whose states are kept when others are forgotten */
    size_t n_words;         /* of a mask */
    kept_mask masks[MASK_SETS][MASKS_IN_A_SET];
    uint64_t clock;
    uint32_t *states; /* [vocabulary->depth + 1]: on the way down the tree */
} constraint_core;

struct trol_constraint {
    constraint_core *core; /* NULL: a custom one */
    trol_constraint *next; /* of the core's users */
    uint32_t state;
    bool started, ended; /* a token was accepted; an end token was */
    trol_model *model;   /* of a custom one */
    trol_constraint_hooks hooks;
    void *user;
};

static size_t mask_words(const trol_model *model) { return ((size_t)model->config.decoder.vocab_size + 63) / 64; }

/* ---- the reserve ----------------------------------------------------------------------------- */

/* Advances along the shortest text by the longest token that it begins with. */
static trol_status take_longest(constraint_core *core, uint32_t state, uint32_t *after, trol_error *error) {
    uint32_t node = 0;
    *after = state;
    while (matcher_distance(core->matcher, state) > 0) {
        uint8_t byte;
        TRY(matcher_next_byte(core->matcher, state, &byte, &state, error));
        node = vocabulary_child(core->vocabulary, node, byte);
        if (!node)
            break;
        if (vocabulary_n_tokens(core->vocabulary, node) > 0)
            *after = state;
    }
    return TROL_OK;
}

/* Tokens of the shortest text from a state on; kept as the state's note, plus 1. */
static trol_status needed_tokens(constraint_core *core, uint32_t state, uint32_t *n_tokens, trol_error *error) {
    matcher *m = core->matcher;
    uint32_t *way = NULL, needed = 0;
    size_t n = 0, capacity = 0;
    trol_status status = TROL_OK;
    while (matcher_distance(m, state) > 0 && matcher_note(m, state) == 0) {
        TRY_GOTO(memory_grow((void **)&way, &capacity, n + 1, sizeof *way, "a constraint", error), done);
        way[n++] = state;
        TRY_GOTO(take_longest(core, state, &state, error), done);
    }
    if (matcher_distance(m, state) > 0)
        needed = matcher_note(m, state) - 1;
    while (n > 0)
        matcher_set_note(m, way[--n], ++needed + 1);
    *n_tokens = needed;
done:
    memory_free(way);
    return status;
}

/* ---- masks ----------------------------------------------------------------------------------- */

/* A walk down the vocabulary's tree. */
typedef struct mask_walk {
    constraint_core *core;
    uint64_t *allowed;
    bool exact; /* those after which at most `most` tokens are needed; else all, whose needs are counted in bytes */
    int64_t most;
    uint32_t farthest; /* see kept_mask */
} mask_walk;

static inline void set_tokens(mask_walk *w, uint32_t first, uint32_t end) {
    const int32_t *tokens = w->core->vocabulary->tokens;
    for (uint32_t i = first; i < end; i++)
        w->allowed[tokens[i] / 64] |= (uint64_t)1 << tokens[i] % 64;
}

/* Tokens first .. end-1 of the vocabulary's list lead to a state: they are allowed if few enough are needed from there.
 */
static trol_status allow_exactly(mask_walk *w, uint32_t first, uint32_t end, uint32_t state, trol_error *error) {
    uint32_t needed;
    TRY(needed_tokens(w->core, state, &needed, error));
    if (needed > w->farthest)
        w->farthest = needed;
    if (needed <= w->most)
        set_tokens(w, first, end);
    return TROL_OK;
}

/* A string takes all plain bytes alike: then all tokens of plain bytes below a node are allowed at once, if the string
 * is long enough for them and, with w->exact, each length of them leaves enough. */
static trol_status allow_plain(mask_walk *w, const vocabulary_node *node, uint32_t state, bool *done,
                               trol_error *error) {
    const vocabulary_node *nodes = w->core->vocabulary->nodes;
    uint32_t farthest = w->farthest;
    *done = false;
    for (unsigned level = 0; level < node->plain; level++) {
        uint32_t next, needed;
        TRY(matcher_common_step(w->core->matcher, state, vocabulary_is_plain, &next, error));
        if (next == MATCHER_DEAD)
            return TROL_OK;
        needed = matcher_distance(w->core->matcher, next);
        if (w->exact)
            TRY(needed_tokens(w->core, next, &needed, error));
        if (w->exact && needed > w->most)
            return TROL_OK;
        farthest = needed > farthest ? needed : farthest;
        if (next == state)
            break;
        state = next;
    }
    w->farthest = farthest;
    set_tokens(w, node->first_token, nodes[node->end].first_token);
    *done = true;
    return TROL_OK;
}

/* Visits nodes first .. end-1, the children of a node at `depth` and what is below them. */
static trol_status walk_nodes(mask_walk *w, uint32_t state, uint32_t depth, uint32_t first, uint32_t end,
                              trol_error *error) {
    const constraint_core *core = w->core;
    const vocabulary_node *nodes = core->vocabulary->nodes;
    matcher_view view = matcher_look(core->matcher);
    uint32_t *states = core->states;
    states[depth] = state;
    for (uint32_t i = first; i < end;) {
        const vocabulary_node node = nodes[i];
        const uint32_t from = states[node.depth - 1];
        if (node.plain > 0 && node.plain < 255) {
            bool done;
            TRY(allow_plain(w, &node, from, &done, error));
            view = matcher_look(core->matcher);
            if (done) {
                i = node.end;
                continue;
            }
        }
        const uint32_t row = view.rows[from];
        uint32_t next = row ? view.steps[row - 1 + view.class_of[node.byte]] : MATCHER_UNKNOWN;
        if (next == MATCHER_UNKNOWN) {
            TRY(matcher_step(core->matcher, from, node.byte, &next, error));
            view = matcher_look(core->matcher);
        }
        if (next == MATCHER_DEAD) {
            i = node.end;
            continue;
        }
        states[node.depth] = next;
        const uint32_t end_of_tokens = nodes[++i].first_token;
        if (end_of_tokens == node.first_token)
            continue;
        if (w->exact) {
            TRY(allow_exactly(w, node.first_token, end_of_tokens, next, error));
            view = matcher_look(core->matcher);
            continue;
        }
        w->farthest = view.distances[next] > w->farthest ? view.distances[next] : w->farthest;
        set_tokens(w, node.first_token, end_of_tokens);
    }
    return TROL_OK;
}

static trol_status walk(mask_walk *w, uint32_t state, bool first, trol_error *error) {
    const vocabulary *v = w->core->vocabulary;
    memset(w->allowed, 0, w->core->n_words * sizeof *w->allowed);
    const uint32_t space = first && v->drops_a_space ? v->root_child[' '] : 0;
    if (!space)
        return walk_nodes(w, state, 0, 1, v->nodes[0].end, error);
    TRY(walk_nodes(w, state, 0, 1, space, error));
    TRY(walk_nodes(w, state, 1, space + 1, v->nodes[space].end, error)); /* the space in front does not count */
    return walk_nodes(w, state, 0, v->nodes[space].end, v->nodes[0].end, error);
}

/* The kept mask of a state, or the place for it: the least recently used of its set. */
static kept_mask *find_mask(constraint_core *core, uint32_t key) {
    kept_mask *set = core->masks[(key * 0x9e3779b1u) >> 26], *found = &set[0];
    for (int i = 0; i < MASKS_IN_A_SET; i++) {
        if (set[i].allowed && set[i].key == key && set[i].last_use)
            return &set[i];
        if (set[i].last_use < found->last_use)
            found = &set[i];
    }
    found->last_use = 0;
    return found;
}

static void forget_masks(constraint_core *core) {
    for (int i = 0; i < MASK_SETS * MASKS_IN_A_SET; i++)
        core->masks[i / MASKS_IN_A_SET][i % MASKS_IN_A_SET].last_use = 0;
}

/* The automaton does not grow without bound: states that no user is in are forgotten. */
static trol_status forget_states(constraint_core *core, trol_error *error) {
    uint32_t *states;
    size_t n = 0;
    if (matcher_bytes(core->matcher) < KEPT_STATE_BYTES)
        return TROL_OK;
    for (const trol_constraint *c = core->users; c; c = c->next)
        n++;
    TRY(memory_alloc(n, sizeof *states, "a constraint", (void **)&states, error));
    n = 0;
    for (const trol_constraint *c = core->users; c; c = c->next)
        states[n++] = c->state;
    trol_status status = matcher_compact(core->matcher, states, n, error);
    n = 0;
    for (trol_constraint *c = core->users; c && status == TROL_OK; c = c->next)
        c->state = states[n++];
    memory_free(states);
    forget_masks(core);
    return status;
}

static trol_status too_few(int64_t n_left, uint32_t needed, trol_error *error) {
    return fail(error, TROL_ERROR_ARGUMENT,
                "the answer may take %lld more tokens, but the shortest one that the constraint allows takes %u",
                (long long)n_left, needed);
}

static trol_status fill_text(trol_constraint *c, int64_t n_left, uint64_t *allowed, trol_error *error) {
    constraint_core *core = c->core;
    const bool first = !c->started && core->vocabulary->drops_a_space;
    uint32_t needed;
    TRY(forget_states(core, error));
    TRY(needed_tokens(core, c->state, &needed, error));
    if (n_left >= 0 && needed > n_left)
        return too_few(n_left, needed, error);
    if (n_left == 0) {
        memset(allowed, 0, core->n_words * sizeof *allowed);
        return TROL_OK;
    }
    kept_mask *kept = find_mask(core, 2 * c->state + first);
    const int64_t most = n_left < 0 ? -1 : n_left - 1;
    const bool known = kept->last_use != 0;
    kept->last_use = ++core->clock;
    if (known && (most < 0 || kept->farthest <= most)) {
        memcpy(allowed, kept->allowed, core->n_words * sizeof *allowed);
        return TROL_OK;
    }
    if (!kept->allowed) {
        kept->last_use = 0;
        TRY(memory_alloc(core->n_words, sizeof *allowed, "a constraint", (void **)&kept->allowed, error));
        kept->last_use = core->clock;
    }
    mask_walk w = {.core = core, .allowed = kept->allowed};
    trol_status status = TROL_OK;
    if (!known) {
        status = walk(&w, c->state, first, error);
        *kept = (kept_mask){kept->allowed, status == TROL_OK ? core->clock : 0, 2 * c->state + first, w.farthest};
    }
    if (status == TROL_OK && most >= 0 && kept->farthest > most) {
        w = (mask_walk){.core = core, .allowed = allowed, .exact = true, .most = most};
        status = walk(&w, c->state, first, error);
        if (status == TROL_OK)
            kept->farthest = w.farthest;
        return status;
    }
    if (status == TROL_OK)
        memcpy(allowed, kept->allowed, core->n_words * sizeof *allowed);
    return status;
}

/* ---- a program's own ------------------------------------------------------------------------- */

static trol_status stopped(const char *what, trol_error *error) {
    return fail(error, TROL_ERROR_CANCELLED, "the constraint's %s callback asked to stop", what);
}

trol_status trol_constraint_new_custom(trol_model *model, const trol_constraint_hooks *hooks, void *user,
                                       trol_constraint **constraint, trol_error *error) {
    trol_constraint_hooks copied = {.size = sizeof copied};
    TRY_OUT(constraint, "trol_constraint_new_custom", error);
    if (!model || !hooks)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_constraint_new_custom: %s is NULL",
                    model ? "hooks" : "the model");
    TRY(params_copy(&copied, sizeof copied, hooks, "trol_constraint_hooks", error));
    if (!copied.fill || !copied.accept)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_constraint_hooks: fill and accept are needed");
    trol_constraint *c = calloc(1, sizeof *c);
    if (!c)
        return fail_memory(error, sizeof *c, "a constraint");
    c->model = model_retain(model);
    c->hooks = copied;
    c->user = user;
    *constraint = c;
    return TROL_OK;
}

static trol_status clone_custom(const trol_constraint *constraint, trol_constraint **clone, trol_error *error) {
    void *user = NULL;
    if (!constraint->hooks.clone)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the constraint has no clone callback");
    if (constraint->hooks.clone(constraint->user, &user) != 0)
        return stopped("clone", error);
    trol_status status = trol_constraint_new_custom(constraint->model, &constraint->hooks, user, clone, error);
    if (status != TROL_OK && constraint->hooks.release)
        constraint->hooks.release(user);
    return status;
}

/* ---- making and freeing ---------------------------------------------------------------------- */

static void core_free(constraint_core *core) {
    matcher_free(core->matcher);
    for (int i = 0; i < MASK_SETS * MASKS_IN_A_SET; i++)
        memory_free(core->masks[i / MASKS_IN_A_SET][i % MASKS_IN_A_SET].allowed);
    memory_free(core->states);
    trol_model_free(core->model);
    fork_mutex_destroy(&core->mutex);
    free(core);
}

static bool core_lock(constraint_core *core) {
    if (!fork_mutex_lock(&core->mutex))
        core->broken = true;
    return !core->broken;
}

static trol_status fail_broken(trol_error *error) {
    return fail(error, TROL_ERROR_STATE,
                "the constraint was in use by another thread when the process forked: make a new one in the child");
}

/* Takes the grammar over, also on failure. */
static trol_status constraint_new(trol_model *model, grammar *g, trol_constraint **constraint, trol_error *error) {
    matcher *m;
    TRY(matcher_new(g, &m, error));
    trol_constraint *c = calloc(1, sizeof *c);
    constraint_core *core = calloc(1, sizeof *core);
    trol_status status = TROL_OK;
    if (!c || !core) {
        free(c);
        free(core);
        matcher_free(m);
        return fail_memory(error, sizeof *core, "a constraint");
    }
    fork_mutex_init(&core->mutex);
    core->references = 1;
    core->matcher = m;
    core->model = model_retain(model);
    core->n_words = mask_words(model);
    TRY_GOTO(model_get_vocabulary(model, &core->vocabulary, error), failed);
    const size_t n_deep = (size_t)core->vocabulary->depth + 1;
    TRY_GOTO(memory_alloc(n_deep, sizeof *core->states, "a constraint", (void **)&core->states, error), failed);
    *c = (trol_constraint){.core = core, .state = MATCHER_START};
    core->users = c;
    *constraint = c;
    return TROL_OK;
failed:
    core_free(core);
    free(c);
    return status;
}

static trol_status check_new(const char *call, const trol_model *model, const char *text, trol_constraint **constraint,
                             trol_error *error) {
    TRY_OUT(constraint, call, error);
    if (!model || !text)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: %s is NULL", call, model ? "the text" : "the model");
    return TROL_OK;
}

trol_status trol_constraint_new_gbnf(trol_model *model, const char *text, size_t n_bytes, trol_constraint **constraint,
                                     trol_error *error) {
    grammar *g;
    TRY(check_new("trol_constraint_new_gbnf", model, text, constraint, error));
    TRY(gbnf_compile(text, n_bytes, &g, error));
    return constraint_new(model, g, constraint, error);
}

trol_status trol_constraint_new_json_schema(trol_model *model, const char *text, size_t n_bytes,
                                            trol_constraint **constraint, trol_error *error) {
    grammar *g;
    TRY(check_new("trol_constraint_new_json_schema", model, text, constraint, error));
    TRY(json_schema_compile(text, n_bytes, &g, error));
    return constraint_new(model, g, constraint, error);
}

trol_status trol_constraint_new_json(trol_model *model, trol_constraint **constraint, trol_error *error) {
    static const char schema[] = "{\"type\": \"object\"}";
    return trol_constraint_new_json_schema(model, schema, sizeof schema - 1, constraint, error);
}

void trol_constraint_free(trol_constraint *constraint) {
    if (!constraint)
        return;
    constraint_core *core = constraint->core;
    if (!core) {
        if (constraint->hooks.release)
            constraint->hooks.release(constraint->user);
        trol_model_free(constraint->model);
        free(constraint);
        return;
    }
    const bool whole = core_lock(core);
    trol_constraint **link = &core->users;
    while (whole && *link != constraint)
        link = &(*link)->next;
    if (whole)
        *link = constraint->next;
    const bool last = whole && --core->references == 0;
    fork_mutex_unlock(&core->mutex);
    if (last)
        core_free(core);
    free(constraint);
}

trol_status trol_constraint_clone(const trol_constraint *constraint, trol_constraint **clone, trol_error *error) {
    TRY_OUT(clone, "trol_constraint_clone", error);
    if (!constraint)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_constraint_clone: the constraint is NULL");
    constraint_core *core = constraint->core;
    if (!core)
        return clone_custom(constraint, clone, error);
    trol_constraint *c = calloc(1, sizeof *c);
    if (!c)
        return fail_memory(error, sizeof *c, "a constraint");
    const bool whole = core_lock(core);
    if (whole) {
        *c = *constraint;
        c->next = core->users;
        core->users = c;
        core->references++;
    }
    fork_mutex_unlock(&core->mutex);
    if (!whole) {
        free(c);
        return fail_broken(error);
    }
    *clone = c;
    return TROL_OK;
}

/* ---- use ------------------------------------------------------------------------------------- */

static bool is_end(const trol_model *model, int32_t token) {
    for (size_t i = 0; i < model->n_end_tokens; i++)
        if (model->end_tokens[i] == token)
            return true;
    return false;
}

static trol_status check(const trol_constraint *constraint, const char *call, trol_error *error) {
    return constraint ? TROL_OK : fail(error, TROL_ERROR_ARGUMENT, "%s: the constraint is NULL", call);
}

trol_status trol_constraint_reset(trol_constraint *constraint, trol_error *error) {
    TRY(check(constraint, "trol_constraint_reset", error));
    if (!constraint->core) {
        if (!constraint->hooks.reset)
            return fail(error, TROL_ERROR_UNSUPPORTED, "the constraint has no reset callback");
        constraint->ended = false;
        return constraint->hooks.reset(constraint->user) != 0 ? stopped("reset", error) : TROL_OK;
    }
    const bool whole = core_lock(constraint->core);
    constraint->state = MATCHER_START;
    constraint->started = constraint->ended = false;
    fork_mutex_unlock(&constraint->core->mutex);
    return whole ? TROL_OK : fail_broken(error);
}

static void allow_ends(const trol_model *model, uint64_t *allowed) {
    for (size_t i = 0; i < model->n_end_tokens; i++)
        if (model->end_tokens[i] < model->config.decoder.vocab_size)
            allowed[model->end_tokens[i] / 64] |= (uint64_t)1 << model->end_tokens[i] % 64;
}

trol_status trol_constraint_fill(trol_constraint *constraint, int64_t n_left, uint64_t *allowed, trol_error *error) {
    TRY(check(constraint, "trol_constraint_fill", error));
    if (!allowed)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_constraint_fill: the mask is NULL");
    constraint_core *core = constraint->core;
    const trol_model *model = core ? core->model : constraint->model;
    if (constraint->ended || !core) {
        memset(allowed, 0, mask_words(model) * sizeof *allowed);
        if (constraint->ended)
            allow_ends(model, allowed);
        else if (constraint->hooks.fill(constraint->user, n_left, allowed, (int32_t)model->config.decoder.vocab_size))
            return stopped("fill", error);
        return TROL_OK;
    }
    trol_status status = core_lock(core) ? fill_text(constraint, n_left, allowed, error) : fail_broken(error);
    if (status == TROL_OK && matcher_accepts(core->matcher, constraint->state))
        allow_ends(model, allowed);
    fork_mutex_unlock(&core->mutex);
    return status;
}

static trol_status accept_text(trol_constraint *c, int32_t token, trol_error *error) {
    const vocabulary *v = c->core->vocabulary;
    matcher *m = c->core->matcher;
    const bool known = token >= 0 && token < v->n_tokens;
    uint32_t at = known ? v->first_byte[token] : 0, state = c->state;
    const uint32_t end = known ? v->first_byte[token + 1] : 0;
    TRY(forget_states(c->core, error));
    state = c->state;
    if (at < end && !c->started && v->drops_a_space && v->bytes[at] == ' ')
        at++;
    if (at == end)
        state = MATCHER_DEAD;
    for (; at < end && state != MATCHER_DEAD; at++)
        TRY(matcher_step(m, state, (uint8_t)v->bytes[at], &state, error));
    if (state == MATCHER_DEAD)
        return fail(error, TROL_ERROR_ARGUMENT, "token %d is not one that the constraint allows here", (int)token);
    c->state = state;
    c->started = true;
    return TROL_OK;
}

trol_status trol_constraint_accept(trol_constraint *constraint, int32_t token, trol_error *error) {
    TRY(check(constraint, "trol_constraint_accept", error));
    constraint_core *core = constraint->core;
    const bool end = is_end(core ? core->model : constraint->model, token);
    if (constraint->ended && !end)
        return fail(error, TROL_ERROR_ARGUMENT, "token %d comes after the constraint's end", (int)token);
    if (!core) {
        if (constraint->hooks.accept(constraint->user, token) != 0)
            return stopped("accept", error);
        constraint->ended = end;
        return TROL_OK;
    }
    trol_status status = TROL_OK;
    if (!core_lock(core))
        status = fail_broken(error);
    else if (!end)
        status = accept_text(constraint, token, error);
    else if (!matcher_accepts(core->matcher, constraint->state))
        status = fail(error, TROL_ERROR_ARGUMENT, "the constraint does not allow the answer to end here");
    else
        constraint->ended = true;
    fork_mutex_unlock(&core->mutex);
    return status;
}

trol_status trol_constraint_min_tokens(trol_constraint *constraint, int64_t *n_tokens, trol_error *error) {
    uint32_t needed = 0;
    TRY(check(constraint, "trol_constraint_min_tokens", error));
    if (!n_tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_constraint_min_tokens: the out-pointer is NULL");
    trol_status status = TROL_OK;
    if (constraint->core) {
        status = core_lock(constraint->core) ? needed_tokens(constraint->core, constraint->state, &needed, error)
                                             : fail_broken(error);
        fork_mutex_unlock(&constraint->core->mutex);
    }
    *n_tokens = needed;
    return status;
}

int trol_constraint_complete(const trol_constraint *constraint) {
    if (!constraint || constraint->ended || !constraint->core)
        return constraint && constraint->ended;
    const bool complete = core_lock(constraint->core) && matcher_must_end(constraint->core->matcher, constraint->state);
    fork_mutex_unlock(&constraint->core->mutex);
    return complete;
}
