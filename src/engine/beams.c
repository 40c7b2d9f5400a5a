/* beams.c - beam search, as the authors' evaluation runs it: the rule of transformers' generate(num_beams=...), without
 * sampling.
 *
 * At each step every beam's likeliest next tokens are candidates, and the best candidates of all beams become the next
 * beams. A beam is a timeline: one with a single continuation is handed over, one with several is copied, which shares
 * its keys and values block by block until they are written. All beams are fed as one batch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/logprobs.h"
#include "engine/params.h"
#include "engine/session.h"

enum { MAX_BEAMS = 64, MAX_ENDS = 1024, DEFAULT_BEAMS = 5, DEFAULT_MAX_TOKENS = 256 };

/* A hypothesis: its timeline holds all of its tokens but the last. */
typedef struct beam {
    timeline timeline;
    int32_t *tokens;             /* [max_tokens]: of the answer */
    double sum;                  /* of their log-probabilities */
    trol_constraint *constraint; /* after them; NULL: none */
} beam;

/* A beam and its possible next token. */
typedef struct candidate {
    double sum;
    int32_t beam, token;
} candidate;

/* A finished answer. */
typedef struct answer {
    trol_beam shown;
    int32_t *tokens; /* those of `shown` */
    char *text;
    double score;
} answer;

struct trol_beam_list {
    answer *answers; /* [n], best first */
    size_t n, capacity;
};

/* One call of trol_beams. */
typedef struct search {
    trol_session *session;
    const trol_beams_params *params;
    const int32_t *ends; /* [n_ends] */
    size_t n_ends;
    int32_t n_tokens, max_tokens;
    trol_stop limit;    /* what set max_tokens */
    beam *beams, *next; /* [n_beams]; the first n_alive are in use */
    size_t n_alive;
    int32_t *tokens;   /* [2 * n_beams, max_tokens]: the beams' */
    float *logits;     /* [n_beams, vocab_size] */
    uint64_t *allowed; /* [n_beams, n_words]: by the beams' constraints; NULL without */
    size_t n_words;
    trol_token_logprob *tops; /* [n_beams, n_taken] */
    candidate *candidates;    /* [n_beams * n_taken] */
    size_t n_taken;
    step_item *items;      /* [n_beams] */
    step_item **item_list; /* [n_beams]: to them */
    trol_beam_list *list;
    trol_error *error;
} search;

void trol_beams_params_init(trol_beams_params *params) {
    if (params)
        *params = (trol_beams_params){.size = sizeof *params, .n_beams = DEFAULT_BEAMS, .length_penalty = 1};
}

/* ---- finished answers ------------------------------------------------------------------------ */

static void free_answer(answer *a) {
    free(a->tokens);
    free(a->text);
}

void trol_beam_list_free(trol_beam_list *list) {
    if (!list)
        return;
    for (size_t i = 0; i < list->n; i++)
        free_answer(&list->answers[i]);
    free(list->answers);
    free(list);
}

size_t trol_beam_list_count(const trol_beam_list *list) { return list ? list->n : 0; }

const trol_beam *trol_beam_list_get(const trol_beam_list *list, size_t i) {
    return list && i < list->n ? &list->answers[i].shown : NULL;
}

/* Takes the first n tokens of a beam and, unless it is -1, `token` as an answer, if it is among the n_beams best; after
 * those with the same score. */
static trol_status finish(search *s, const beam *from, size_t n, int32_t token, double score, trol_stop stop) {
    trol_beam_list *list = s->list;
    size_t place = list->n;
    while (place > 0 && list->answers[place - 1].score < score)
        place--;
    if (place == (size_t)s->params->n_beams)
        return TROL_OK;
    answer a = {.score = score, .tokens = calloc(n + 1, sizeof *a.tokens)};
    if (!a.tokens)
        return fail_memory(s->error, (n + 1) * sizeof *a.tokens, "a beam's answer");
    memcpy(a.tokens, from->tokens, n * sizeof *a.tokens);
    if (token >= 0)
        a.tokens[n++] = token;
    a.shown = (trol_beam){.tokens = a.tokens, .n_tokens = n, .score = (float)score, .stop = stop};
    if (list->n == (size_t)s->params->n_beams)
        free_answer(&list->answers[--list->n]);
    memmove(list->answers + place + 1, list->answers + place, (list->n - place) * sizeof a);
    list->answers[place] = a;
    list->n++;
    return TROL_OK;
}

static double score_of(const search *s, double sum) {
    return sum / pow((double)s->n_tokens, (double)s->params->length_penalty);
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* The text of n tokens and, unless it is -1, one more, up to a stop string: *text (may be NULL: not wanted). */
static trol_status spell(const search *s, const int32_t *tokens, size_t n, int32_t last, char **text, bool *stopped) {
    trol_stream *stream;
    trol_stream_params params;
    trol_stream_params_init(&params);
    params.stops = s->params->stops;
    params.n_stops = s->params->n_stops;
    params.keep_space = s->params->constraint != NULL;
    TRY(trol_stream_new(s->session->model, &params, &stream, s->error));
    trol_status status = TROL_OK;
    char *whole = NULL;
    size_t n_bytes = 0, capacity = 0;
    int32_t found = 0;
    const size_t n_all = n + (last >= 0);
    for (size_t i = 0; i <= n_all && status == TROL_OK && !found; i++) {
        const char *piece;
        if (i < n_all)
            status = trol_stream_put(stream, i < n ? tokens[i] : last, &piece, &found, s->error);
        else
            status = trol_stream_end(stream, &piece, s->error);
        const size_t length = status == TROL_OK && text ? strlen(piece) : 0;
        if (status == TROL_OK && text)
            status = memory_grow((void **)&whole, &capacity, n_bytes + length + 1, 1, "a beam's text", s->error);
        if (status == TROL_OK && text) {
            memcpy(whole + n_bytes, piece, length);
            whole[n_bytes += length] = '\0';
        }
    }
    trol_stream_free(stream);
    *stopped = found != 0;
    if (status != TROL_OK)
        free(whole);
    else if (text)
        *text = whole;
    return status;
}

static trol_status spell_answers(search *s) {
    for (size_t i = 0; i < s->list->n; i++) {
        answer *a = &s->list->answers[i];
        bool stopped;
        TRY(spell(s, a->tokens, a->shown.n_tokens, -1, &a->text, &stopped));
        a->shown.text = a->text;
    }
    return TROL_OK;
}

/* ---- one step -------------------------------------------------------------------------------- */

/* The logits of the session are those of the one beam that the search begins with. */
static const float *logits_of(const search *s, size_t beam_index) {
    const size_t vocab = (size_t)s->session->model->config.decoder.vocab_size;
    return s->n_tokens == 1 ? s->session->logits : s->logits + beam_index * vocab;
}

static void find_tops(void *context, int64_t chunk, int thread) {
    const search *s = context;
    const size_t i = (size_t)chunk;
    (void)thread;
    logprobs_top(logits_of(s, i), (int32_t)s->session->model->config.decoder.vocab_size,
                 s->allowed ? s->allowed + i * s->n_words : NULL, s->tops + i * s->n_taken, (int32_t)s->n_taken);
}

/* What each beam's constraint allows next, so that it can be ended in the tokens that are left. */
static trol_status fill_allowed(search *s) {
    for (size_t i = 0; s->allowed && i < s->n_alive; i++) {
        uint64_t *allowed = s->allowed + i * s->n_words;
        TRY(trol_constraint_fill(s->beams[i].constraint, s->max_tokens - s->n_tokens + 1, allowed, s->error));
        const trol_model *model = s->session->model;
        for (size_t k = 0; k < model->n_end_tokens && s->n_ends == 0; k++)
            if (model->end_tokens[k] < model->config.decoder.vocab_size)
                allowed[model->end_tokens[k] / 64] &= ~((uint64_t)1 << model->end_tokens[k] % 64);
    }
    return TROL_OK;
}

static int by_sum(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    if (a->sum != b->sum)
        return a->sum < b->sum ? 1 : -1;
    if (a->beam != b->beam)
        return a->beam < b->beam ? -1 : 1;
    return a->token < b->token ? -1 : 1;
}

/* The n_taken best candidates, best first; *n says how many there are. */
static trol_status find_candidates(search *s, size_t *n) {
    size_t count = *n = 0;
    TRY(fill_allowed(s));
    TRY(threads_run(s->session->model->threads, (int64_t)s->n_alive, find_tops, s, NULL));
    for (size_t i = 0; i < s->n_alive; i++)
        for (size_t k = 0; k < s->n_taken; k++) {
            const trol_token_logprob *top = &s->tops[i * s->n_taken + k];
            if (top->token >= 0 && isfinite(top->logprob))
                s->candidates[count++] = (candidate){s->beams[i].sum + (double)top->logprob, (int32_t)i, top->token};
        }
    if (count == 0 && s->allowed)
        return fail(s->error, TROL_ERROR_STATE, "no token can be chosen: the constraint rules out all of them");
    if (count == 0)
        return model_logits_not_finite(s->session->model, s->error);
    qsort(s->candidates, count, sizeof *s->candidates, by_sum);
    *n = count < s->n_taken ? count : s->n_taken;
    return TROL_OK;
}

/* Whether the answer is complete after this token, for searches that cannot choose an end token. */
static trol_status completes(const search *s, const candidate *c, bool *complete) {
    trol_constraint *after;
    TRY(trol_constraint_clone(s->beams[c->beam].constraint, &after, s->error));
    trol_status status = trol_constraint_accept(after, c->token, s->error);
    *complete = status == TROL_OK && trol_constraint_complete(after);
    trol_constraint_free(after);
    return status;
}

/* Whether the answer ends with this token (0: it continues), and whether the token is still part of it. */
static trol_status ends_with(const search *s, const candidate *c, trol_stop *stop, bool *is_part) {
    bool stopped = false, complete = false;
    *stop = 0;
    *is_part = true;
    for (size_t i = 0; i < s->n_ends; i++)
        if (s->ends[i] == c->token) {
            *stop = TROL_STOP_END;
            *is_part = false;
            return TROL_OK;
        }
    if (s->params->n_stops > 0)
        TRY(spell(s, s->beams[c->beam].tokens, (size_t)s->n_tokens - 1, c->token, NULL, &stopped));
    if (s->allowed && s->n_ends == 0)
        TRY(completes(s, c, &complete));
    *stop = stopped ? TROL_STOP_STRING : complete ? TROL_STOP_END : 0;
    return TROL_OK;
}

/* Walks the candidates in order: those that end an answer are finished, if they are among the n_beams best, the others
 * continue: they come to the front of the list, *n_next of them. */
static trol_status walk(search *s, size_t n, size_t *n_next) {
    const size_t n_beams = (size_t)s->params->n_beams;
    *n_next = 0;
    for (size_t rank = 0; rank < n && *n_next < n_beams; rank++) {
        const candidate c = s->candidates[rank];
        trol_stop stop;
        bool is_part;
        TRY(ends_with(s, &c, &stop, &is_part));
        if (stop == 0)
            s->candidates[(*n_next)++] = c;
        else if (rank < n_beams)
            TRY(finish(s, &s->beams[c.beam], (size_t)s->n_tokens - 1, is_part ? c.token : -1, score_of(s, c.sum),
                       stop));
    }
    return TROL_OK;
}

static void free_beam(beam *b) {
    timeline_free(&b->timeline);
    trol_constraint_free(b->constraint);
    b->constraint = NULL;
}

/* The candidates become the beams. The last child of a beam takes its timeline over, the others get copies. */
static trol_status branch(search *s, size_t n_next) {
    const timeline *model = &s->session->timeline;
    const trol_session_params *p = &s->session->params;
    size_t n_children[MAX_BEAMS] = {0};
    for (size_t i = 0; i < n_next; i++)
        n_children[s->candidates[i].beam]++;
    for (size_t i = 0; i < s->n_alive; i++)
        if (n_children[i] == 0)
            free_beam(&s->beams[i]);
    for (size_t i = 0; i < n_next; i++) {
        const candidate c = s->candidates[i];
        beam *from = &s->beams[c.beam], *to = &s->next[i];
        memcpy(to->tokens, from->tokens, ((size_t)s->n_tokens - 1) * sizeof *to->tokens);
        to->tokens[s->n_tokens - 1] = c.token;
        to->sum = c.sum;
        if (--n_children[c.beam] == 0) { /* the last one */
            to->timeline = from->timeline;
            to->constraint = from->constraint;
            from->timeline = (timeline){0};
            from->constraint = NULL;
            continue;
        }
        timeline_init(&to->timeline, model->model, p->traversal, p->cache_type, false);
        TRY(timeline_copy(&from->timeline, &to->timeline, s->error));
        if (from->constraint)
            TRY(trol_constraint_clone(from->constraint, &to->constraint, s->error));
    }
    for (size_t i = 0; i < n_next; i++)
        if (s->next[i].constraint)
            TRY(trol_constraint_accept(s->next[i].constraint, s->candidates[i].token, s->error));
    beam *beams = s->beams;
    s->beams = s->next;
    s->next = beams;
    s->n_alive = n_next;
    return TROL_OK;
}

/* In mode all, a token may change the rope of the whole text: then all of it is computed again. */
static trol_status append_last(search *s, beam *b) {
    const timeline_piece piece = {.ids = &b->tokens[s->n_tokens - 1], .n = 1};
    TRY(timeline_append(&b->timeline, &piece, s->error));
    if (!timeline_needs_restart(&b->timeline, 1))
        return TROL_OK;
    timeline fresh;
    trol_status status = timeline_restart(&b->timeline, 1, &fresh, s->error);
    if (status != TROL_OK) {
        timeline_free(&fresh);
        return status;
    }
    timeline_free(&b->timeline);
    b->timeline = fresh;
    return TROL_OK;
}

/* Feeds each beam's last token. */
static trol_status feed(search *s) {
    trol_session *session = s->session;
    const size_t vocab = (size_t)session->model->config.decoder.vocab_size;
    const size_t length = session->timeline.n_tokens + (size_t)s->n_tokens;
    const double start = clock_seconds();
    for (size_t i = 0; i < s->n_alive; i++) {
        beam *b = &s->beams[i];
        TRY(append_last(s, b));
        const size_t n_tokens = length - b->timeline.n_tokens;
        s->items[i] = (step_item){.timeline = &b->timeline,
                                  .n_tokens = n_tokens,
                                  .prompt = n_tokens > 1,
                                  .length = length,
                                  .keep_pass2 = true,
                                  .traversal_skip = session->params.traversal_skip,
                                  .n_skipped = session->n_skipped,
                                  .logits = s->logits + i * vocab,
                                  .cancel = &session->cancel,
                                  .error = s->error};
    }
    step_run(s->item_list, s->n_alive, true);
    session->stats.decode_seconds += clock_seconds() - start;
    for (size_t i = 0; i < s->n_alive; i++) {
        TRY(s->items[i].status);
        if (s->items[i].workspace_bytes > session->stats.workspace_bytes)
            session->stats.workspace_bytes = s->items[i].workspace_bytes;
    }
    session->stats.decoded_tokens += (int64_t)s->n_alive;
    return TROL_OK;
}

/* ---- the search ------------------------------------------------------------------------------ */

static trol_status alloc_search(search *s) {
    static const char what[] = "a beam search";
    const size_t n = (size_t)s->params->n_beams, max_tokens = (size_t)s->max_tokens;
    const size_t vocab = (size_t)s->session->model->config.decoder.vocab_size;
    TRY(memory_alloc_zero(2 * n, sizeof *s->beams, what, (void **)&s->beams, s->error));
    s->next = s->beams + n;
    TRY(memory_alloc(2 * n * max_tokens, sizeof *s->tokens, what, (void **)&s->tokens, s->error));
    TRY(memory_alloc(n * vocab, sizeof *s->logits, what, (void **)&s->logits, s->error));
    s->n_words = (vocab + 63) / 64;
    if (s->params->constraint)
        TRY(memory_alloc(n * s->n_words, sizeof *s->allowed, what, (void **)&s->allowed, s->error));
    TRY(memory_alloc(n * s->n_taken, sizeof *s->tops, what, (void **)&s->tops, s->error));
    TRY(memory_alloc(n * s->n_taken, sizeof *s->candidates, what, (void **)&s->candidates, s->error));
    TRY(memory_alloc(n, sizeof *s->items, what, (void **)&s->items, s->error));
    TRY(memory_alloc(n, sizeof *s->item_list, what, (void **)&s->item_list, s->error));
    for (size_t i = 0; i < n; i++)
        s->item_list[i] = &s->items[i];
    for (size_t i = 0; i < 2 * n; i++)
        s->beams[i].tokens = s->tokens + i * max_tokens;
    s->list = calloc(1, sizeof *s->list);
    if (s->list)
        s->list->answers = calloc(n + 1, sizeof *s->list->answers);
    return s->list && s->list->answers ? TROL_OK : fail_memory(s->error, n * sizeof *s->list->answers, what);
}

static void free_search(search *s) {
    const size_t n = (size_t)s->params->n_beams;
    beam *first = s->beams < s->next ? s->beams : s->next;
    for (size_t i = 0; first && i < 2 * n; i++)
        free_beam(&first[i]);
    memory_free(first);
    memory_free(s->tokens);
    memory_free(s->logits);
    memory_free(s->allowed);
    memory_free(s->tops);
    memory_free(s->candidates);
    memory_free(s->items);
    memory_free(s->item_list);
}

static trol_status run_search(search *s) {
    const trol_session_params *p = &s->session->params;
    const size_t n_beams = (size_t)s->params->n_beams;
    timeline_init(&s->beams[0].timeline, s->session->model, p->traversal, p->cache_type, false);
    TRY(timeline_copy(&s->session->timeline, &s->beams[0].timeline, s->error));
    if (s->params->constraint)
        TRY(trol_constraint_clone(s->params->constraint, &s->beams[0].constraint, s->error));
    s->n_alive = 1;
    for (s->n_tokens = 1;; s->n_tokens++) {
        size_t n, n_next;
        TRY(find_candidates(s, &n));
        const double best = score_of(s, s->candidates[0].sum);
        TRY(walk(s, n, &n_next));
        if (n_next == 0 || (s->list->n == n_beams && s->list->answers[n_beams - 1].score >= best))
            break;
        TRY(branch(s, n_next));
        if (s->n_tokens == s->max_tokens) {
            for (size_t i = 0; i < n_next; i++)
                TRY(finish(s, &s->beams[i], (size_t)s->n_tokens, -1, score_of(s, s->beams[i].sum), s->limit));
            break;
        }
        TRY(feed(s));
    }
    return spell_answers(s);
}

static trol_status check_params(const trol_beams_params *p, const trol_model *model, trol_error *error) {
    if (p->n_beams < 1 || p->n_beams > MAX_BEAMS)
        return fail(error, TROL_ERROR_ARGUMENT, "n_beams is %d, expected 1 to %d", p->n_beams, MAX_BEAMS);
    if (p->max_tokens < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "max_tokens is %d, expected 0 (default) or more", p->max_tokens);
    if (!isfinite(p->length_penalty))
        return fail(error, TROL_ERROR_ARGUMENT, "length_penalty is %g, expected a finite number",
                    (double)p->length_penalty);
    if (p->n_end_tokens > 0 && !p->end_tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "the end tokens are NULL, expected %zu", p->n_end_tokens);
    if (p->n_end_tokens > 0 && p->constraint)
        return fail(error, TROL_ERROR_ARGUMENT, "end_tokens cannot be combined with a constraint");
    if (p->n_end_tokens > MAX_ENDS)
        return fail(error, TROL_ERROR_ARGUMENT, "there are %zu end tokens, expected at most %d", p->n_end_tokens,
                    MAX_ENDS);
    for (size_t i = 0; i < p->n_end_tokens; i++)
        TRY(model_check_token(model, p->end_tokens[i], error));
    return TROL_OK;
}

/* Where the context has room for less than max_tokens, that is the limit. The last token of an answer is not fed. */
static void set_limit(search *s) {
    const size_t room = (size_t)s->session->params.context_size - s->session->timeline.n_tokens + 1;
    s->max_tokens = s->params->max_tokens ? s->params->max_tokens : DEFAULT_MAX_TOKENS;
    s->limit = TROL_STOP_LENGTH;
    if ((size_t)s->max_tokens > room) {
        s->max_tokens = (int32_t)room;
        s->limit = TROL_STOP_CONTEXT;
    }
}

trol_status trol_beams(trol_session *session, const trol_beams_params *params, trol_beam_list **list,
                       trol_error *error) {
    TRY_OUT(list, "trol_beams", error);
    trol_beams_params p;
    trol_beams_params_init(&p);
    TRY(session_check(session, "trol_beams", error));
    TRY(params_copy(&p, sizeof p, params, "trol_beams_params", error));
    TRY(check_params(&p, session->model, error));
    if (!session->has_logits || session->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_beams: the session holds no prompt to answer");
    search s = {.session = session, .params = &p, .error = error};
    s.ends = p.n_end_tokens > 0 ? p.end_tokens : session->model->end_tokens;
    s.n_ends = p.ignore_eos ? 0 : p.n_end_tokens > 0 ? p.n_end_tokens : session->model->n_end_tokens;
    s.n_taken = (s.n_ends > 1 ? 1 + s.n_ends : 2) * (size_t)p.n_beams;
    set_limit(&s);
    trol_status status = alloc_search(&s);
    if (status == TROL_OK)
        status = run_search(&s);
    free_search(&s);
    if (status == TROL_OK)
        *list = s.list;
    else
        trol_beam_list_free(s.list);
    return status;
}
