/* engine.c - the engine's thread.
 *
 * Each round: requests whose clients disconnected are dropped, waiting requests whose pictures are encoded get slots,
 * and one step is run: a token of each answer, and as many tokens of the waiting prompts as a piece's time allows
 * (pace.h). Pictures are encoded on the store's thread with the same pool; a step of answers holds the pool, which the
 * encoder gets for a piece's time after each step, so neither an answer nor a picture waits long. */
#include "server/engine.h"

#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "base/clock.h"
#include "server/gates.h"
#include "server/pace.h"
#include "server/request_check.h"
#include "server/slot_choice.h"

/* Forwards a failure. */
#define SERVER_TRY(call)                                                                                               \
    do {                                                                                                               \
        trol_status status_ = (call);                                                                                  \
        if (status_ != TROL_OK)                                                                                        \
            return status_;                                                                                            \
    } while (0)

struct engine {
    engine_params params;
    trol_model_info info;
    request_limits limits;
    image_store *images;
    slot *slots;           /* [n_slots] */
    trol_step_item *items; /* [n_slots], of a step */
    trol_error *errors;    /* [n_slots] */
    slot **item_slots;     /* [n_slots] */
    job *jobs;             /* admitted, in the order in which they came; the engine's references */
    uint64_t clock;        /* counts uses of slots */
    pace pace;

    pthread_t thread;
    pthread_mutex_t mutex; /* guards all that follows */
    pthread_cond_t wake;
    uint64_t n_wakes;
    job *waiting, **last_waiting; /* for a slot */
    int32_t n_waiting, n_admitted;
    size_t n_running;     /* items of the step that is being computed; 0: none is */
    double running_until; /* as far as can be foreseen */
    bool stopped;         /* the last step was, and none has been complete since */
    engine_metrics metrics;
    bool draining, ending, stop;
};

/* ---- waking and counting --------------------------------------------------------------------- */

static void wake(void *user) {
    engine *e = user;
    pthread_mutex_lock(&e->mutex);
    e->n_wakes++;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->mutex);
}

typedef enum outcome { OUTCOME_FINISHED, OUTCOME_FAILED, OUTCOME_CANCELLED } outcome;

/* The job leaves the engine; it is in no list and no slot any more. */
static void let_go(engine *e, job *j, outcome how) {
    for (size_t i = 0; i < j->request.n_images; i++)
        image_store_release(e->images, j->images[i]);
    pthread_mutex_lock(&e->mutex);
    e->metrics.finished += how == OUTCOME_FINISHED;
    e->metrics.failed += how == OUTCOME_FAILED;
    e->metrics.cancelled += how == OUTCOME_CANCELLED;
    e->metrics.answer_tokens += j->usage.completion_tokens;
    pthread_mutex_unlock(&e->mutex);
    job_release(j);
}

/* Closes the job's slots and takes it off the list. */
static void close_job(engine *e, job *j, bool keep) {
    job_set_running(j, NULL);
    for (int32_t i = 0; i < e->params.n_slots; i++) {
        slot *s = &e->slots[i];
        if (s->job != j)
            continue;
        /* A cancel may be pending in a session whose prompt was running: it must not stop the next job. */
        slot_close(s, keep && s->state == SLOT_ANSWER && !s->search);
        s->used = ++e->clock;
    }
    job **at = &e->jobs;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    pthread_mutex_lock(&e->mutex);
    e->n_admitted--;
    pthread_mutex_unlock(&e->mutex);
}

static void fail_job(engine *e, job *j, const trol_error *cause) {
    api_error error;
    api_fail_library(&error, NULL, cause);
    close_job(e, j, false);
    job_put_error(j, &error);
    let_go(e, j, OUTCOME_FAILED);
}

static void finish_job(engine *e, job *j) {
    event *done = calloc(1, sizeof *done);
    j->usage.answer_seconds = clock_seconds() - j->answered;
    close_job(e, j, j->request.cache_prompt);
    if (done) {
        done->kind = EVENT_DONE;
        job_put(j, done);
    } else {
        api_error error;
        api_fail_memory(&error);
        job_put_error(j, &error);
    }
    let_go(e, j, OUTCOME_FINISHED);
}

/* ---- admission ------------------------------------------------------------------------------- */

/* The job's prompt from its first token on, of which the slot's session may hold some. */
static trol_status begin_prompt(slot *s, trol_features *const *features, trol_error *error) {
    job *j = s->job;
    s->state = SLOT_PROMPT;
    s->n_prompt_done = 0;
    s->n_reusable = trol_session_reusable(s->session, j->tokens, j->n_tokens, features, j->request.n_images);
    SERVER_TRY(trol_session_prompt_begin(s->session, j->n_tokens, features, j->request.n_images, error));
    job_set_running(j, s->session);
    return TROL_OK;
}

static void collect_features(const job *j, trol_features **features) {
    for (size_t i = 0; i < j->request.n_images; i++)
        features[i] = image_entry_features(j->images[i]);
}

static trol_status open_slots(engine *e, job *j, trol_error *error) {
    trol_features *features[CHAT_MOST_IMAGES];
    slot *s;
    collect_features(j, features);
    const trol_status status = slot_take(&e->params, e->slots, j, features, &s, error);
    s->job = j;
    s->choice = 0;
    s->state = SLOT_RESERVED;
    for (int32_t choice = 1; choice < j->request.n; choice++) {
        slot *other = slot_find_idle(&e->params, e->slots, NULL);
        other->job = j;
        other->choice = choice;
        other->state = SLOT_RESERVED;
    }
    return status == TROL_OK ? begin_prompt(s, features, error) : status;
}

static void count_prompt(engine *e, job *j, const slot *s) {
    j->usage.prompt_tokens = (int64_t)j->n_tokens;
    j->usage.cached_tokens = (int64_t)s->n_reusable;
    pthread_mutex_lock(&e->mutex);
    e->metrics.prompt_tokens += (int64_t)j->n_tokens;
    e->metrics.reused_tokens += (int64_t)s->n_reusable;
    pthread_mutex_unlock(&e->mutex);
}

/* Gives the job its slots, of which enough are idle. It is in no list yet. */
static void admit(engine *e, job *j) {
    trol_error cause = {0};
    api_error error = {0};
    pthread_mutex_lock(&e->mutex);
    e->n_admitted++;
    pthread_mutex_unlock(&e->mutex);
    j->next = NULL;
    job **last = &e->jobs;
    while (*last)
        last = &(*last)->next;
    *last = j;
    j->started = clock_seconds();
    j->usage.queue_seconds = j->started - j->submitted;
    if (request_render(&e->limits, j, true, &j->tokens, &j->n_tokens, &cause) != TROL_OK) {
        fail_job(e, j, &cause);
    } else if (!request_fits(&e->limits, j->n_tokens, false, &error)) {
        close_job(e, j, false);
        job_put_error(j, &error);
        let_go(e, j, OUTCOME_FAILED);
    } else if (open_slots(e, j, &cause) != TROL_OK) {
        fail_job(e, j, &cause);
    } else {
        for (int32_t i = 0; i < e->params.n_slots; i++)
            if (e->slots[i].job == j && e->slots[i].state == SLOT_PROMPT)
                count_prompt(e, j, &e->slots[i]);
    }
}

/* Whether all pictures of the job are there; those that are not are asked for. *failed: one never will be. */
static bool has_images(engine *e, job *j, const image_entry **failed) {
    bool all = true;
    for (size_t i = 0; i < j->request.n_images; i++) {
        const image_state state = image_store_look(e->images, j->images[i]);
        if (state == IMAGE_FAILED)
            *failed = j->images[i];
        else if (state == IMAGE_WAITS)
            image_store_want(e->images, j->images[i]);
        all = all && state == IMAGE_READY;
    }
    return all;
}

static int32_t count_slots(const engine *e, slot_state state) {
    int32_t n = 0;
    for (int32_t i = 0; i < e->params.n_slots; i++)
        n += e->slots[i].state == state;
    return n;
}

/* Takes the job after *at off the queue. */
static job *unlink_waiting(engine *e, job **at) {
    job *j = *at;
    *at = j->next;
    if (!j->next)
        e->last_waiting = at;
    e->n_waiting--;
    return j;
}

static void fail_image(engine *e, job *j, const image_entry *image) {
    api_error error;
    api_fail_library(&error, "messages", image_entry_error(image));
    if (error.status == 400) /* the fault is in the picture's bytes */
        error.status = 422;
    job_put_error(j, &error);
    let_go(e, j, OUTCOME_FAILED);
}

/* First come, first served, except that a job whose pictures are still being encoded lets others pass. Pictures of as
 * many requests as there are slots are encoded ahead. */
static void serve_queue(engine *e) {
    bool blocked = false;
    int32_t place = 0;
    pthread_mutex_lock(&e->mutex);
    for (job **at = &e->waiting; *at;) {
        job *j = *at;
        const image_entry *failed = NULL;
        const bool cancelled = atomic_load(&j->cancelled);
        const bool ready = !cancelled && place < e->params.n_slots && has_images(e, j, &failed);
        place++;
        if (cancelled || failed) {
            unlink_waiting(e, at);
            pthread_mutex_unlock(&e->mutex);
            if (failed)
                fail_image(e, j, failed);
            else
                let_go(e, j, OUTCOME_CANCELLED);
            pthread_mutex_lock(&e->mutex);
            at = &e->waiting; /* it may have grown */
            place = 0;
        } else if (ready && !blocked && count_slots(e, SLOT_IDLE) >= j->request.n) {
            unlink_waiting(e, at);
            pthread_mutex_unlock(&e->mutex);
            admit(e, j);
            pthread_mutex_lock(&e->mutex);
            at = &e->waiting;
            place = 0;
        } else {
            blocked = blocked || ready;
            at = &j->next;
        }
    }
    pthread_mutex_unlock(&e->mutex);
}

/* ---- a step ---------------------------------------------------------------------------------- */

static void add_item(engine *e, size_t *n, slot *s, const int32_t *tokens, size_t n_tokens) {
    e->errors[*n] = (trol_error){0};
    e->items[*n] =
        (trol_step_item){.session = s->session, .tokens = tokens, .n_tokens = n_tokens, .error = &e->errors[*n]};
    e->item_slots[(*n)++] = s;
}

/* The answers' tokens, then pieces of the prompts in the order in which they came. */
static size_t collect_items(engine *e, size_t *n_rows, size_t *room) {
    size_t n = 0;
    for (int32_t i = 0; i < e->params.n_slots; i++)
        if (e->slots[i].state == SLOT_ANSWER)
            add_item(e, &n, &e->slots[i], &e->slots[i].token, 1);
    *room = pace_rows(&e->pace, n);
    *n_rows = 0;
    for (const job *j = e->jobs; j && *n_rows < *room; j = j->next)
        for (int32_t i = 0; i < e->params.n_slots; i++) {
            slot *s = &e->slots[i];
            if (s->job != j || s->state != SLOT_PROMPT)
                continue;
            const size_t left = j->n_tokens - s->n_prompt_done;
            const size_t free_rows = s->n_prompt_done < s->n_reusable ? s->n_reusable - s->n_prompt_done : 0;
            const size_t rows = left - free_rows < *room - *n_rows ? left - free_rows : *room - *n_rows;
            add_item(e, &n, s, j->tokens + s->n_prompt_done, free_rows + rows);
            *n_rows += rows;
        }
    return n;
}

static void take_token(engine *e, slot *s) {
    job *j = s->job;
    trol_error error = {0};
    bool finished;
    s->state = SLOT_ANSWER;
    if (slot_take_token(s, &e->info, e->params.context_size, &finished, &error) != TROL_OK) {
        fail_job(e, j, &error);
    } else if (finished) {
        slot_close(s, j->request.cache_prompt);
        s->used = ++e->clock;
        if (--j->n_open == 0)
            finish_job(e, j);
    }
}

static trol_status start_search(engine *e, slot *s, trol_error *error) {
    s->state = SLOT_SEARCH;
    SERVER_TRY(search_start(s->session, &s->job->request, s->max_tokens, wake, e, &s->search, error));
    job_set_running(s->job, s->session);
    return TROL_OK;
}

/* The prompt is complete: each choice gets a session of its own that continues from here. */
static trol_status open_choices(engine *e, slot *first, trol_error *error) {
    job *j = first->job;
    const int32_t room = e->params.context_size - (int32_t)j->n_tokens;
    job_set_running(j, NULL);
    SERVER_TRY(trol_session_prompt_end(first->session, error));
    if (j->request.gates) {
        SERVER_TRY(gates_copy(j, first->session, &e->info, error));
        event *gates = calloc(1, sizeof *gates);
        if (!gates)
            return fail(error, TROL_ERROR_MEMORY, "there is no memory for gates");
        gates->kind = EVENT_GATES;
        job_put(j, gates);
    }
    for (int32_t i = 0; i < e->params.n_slots; i++) {
        slot *s = &e->slots[i];
        if (s->job != j)
            continue;
        if (s != first) {
            trol_session_free(s->session);
            s->session = NULL;
            SERVER_TRY(trol_session_fork(first->session, &s->session, error));
            s->traversal = first->traversal;
            s->traversal_skip = first->traversal_skip;
            s->gates = first->gates;
        }
        s->max_tokens = j->request.max_tokens && j->request.max_tokens < room ? j->request.max_tokens : room;
        if (j->request.n_beams > 0) {
            SERVER_TRY(start_search(e, s, error));
            continue;
        }
        SERVER_TRY(slot_open_answer(s, e->params.model, e->info.vocab_size, error));
    }
    j->n_open = j->request.n;
    j->answered = clock_seconds();
    j->usage.prompt_seconds = j->answered - j->started;
    return TROL_OK;
}

static void end_prompt(engine *e, slot *first) {
    job *j = first->job;
    trol_error error = {0};
    if (open_choices(e, first, &error) != TROL_OK) {
        fail_job(e, j, &error);
        return;
    }
    for (int32_t i = 0; i < e->params.n_slots; i++) /* a choice that fails ends the job in all of its slots */
        if (e->slots[i].job == j && e->slots[i].state != SLOT_SEARCH)
            take_token(e, &e->slots[i]);
}

/* Takes the results of searches that have ended. */
static void take_searches(engine *e) {
    for (int32_t i = 0; i < e->params.n_slots; i++) {
        slot *s = &e->slots[i];
        job *j = s->job;
        trol_error error = {0};
        if (s->state != SLOT_SEARCH || !search_is_over(s->search))
            continue;
        job_set_running(j, NULL);
        const trol_status status = slot_take_search(s, &error);
        if (status == TROL_OK) {
            finish_job(e, j);
        } else if (status == TROL_ERROR_CANCELLED && !atomic_load(&j->cancelled) &&
                   start_search(e, s, &error) == TROL_OK) {
            continue; /* what stopped it was meant for the step before */
        } else if (atomic_load(&j->cancelled)) {
            close_job(e, j, false);
            let_go(e, j, OUTCOME_CANCELLED);
        } else {
            fail_job(e, j, &error);
        }
    }
}

/* Another job ended and stopped the step: an answer's token is fed again, a prompt continues from what is held of
 * it. */
static trol_status repeat(slot *s, trol_error *error) {
    trol_features *features[CHAT_MOST_IMAGES];
    if (s->state == SLOT_ANSWER)
        return TROL_OK;
    collect_features(s->job, features);
    return begin_prompt(s, features, error);
}

static void take_result(engine *e, size_t i) {
    slot *s = e->item_slots[i];
    job *j = s->job;
    if (!j) /* another choice of the same job failed in this round */
        return;
    if (e->items[i].status != TROL_OK) {
        if (atomic_load(&j->cancelled)) {
            close_job(e, j, false);
            let_go(e, j, OUTCOME_CANCELLED);
        } else if (e->items[i].status != TROL_ERROR_CANCELLED || repeat(s, &e->errors[i]) != TROL_OK) {
            fail_job(e, j, &e->errors[i]);
        }
    } else if (s->state == SLOT_ANSWER) {
        take_token(e, s);
    } else {
        s->n_prompt_done += e->items[i].n_tokens;
        if (s->n_prompt_done == j->n_tokens)
            end_prompt(e, s);
    }
}

/* With the mutex held. */
static void count_use(engine *e) {
    e->metrics.answering = count_slots(e, SLOT_ANSWER) + count_slots(e, SLOT_SEARCH);
    e->metrics.busy_slots = e->params.n_slots - count_slots(e, SLOT_IDLE);
}

static void count_step(engine *e, double seconds, size_t n_answers, size_t n_rows) {
    int64_t bytes = 0;
    for (int32_t i = 0; i < e->params.n_slots; i++) {
        trol_session_stats stats = {.size = sizeof stats};
        if (e->slots[i].state == SLOT_SEARCH) /* the session is its thread's */
            continue;
        trol_session_get_stats(e->slots[i].session, &stats);
        bytes += stats.cache_bytes;
    }
    pthread_mutex_lock(&e->mutex);
    engine_metrics *m = &e->metrics;
    m->steps++;
    m->answer_rows += (int64_t)n_answers;
    m->prompt_rows += (int64_t)n_rows;
    *(n_rows ? &m->prompt_seconds : &m->answer_seconds) += seconds;
    count_use(e);
    if (n_answers && (int32_t)n_rows > m->largest_piece)
        m->largest_piece = (int32_t)n_rows;
    m->cache_bytes = bytes;
    pthread_mutex_unlock(&e->mutex);
}

/* Whether pictures or searches wait for the pool. */
static bool others_compute(engine *e) { return count_slots(e, SLOT_SEARCH) > 0 || image_store_is_busy(e->images); }

static bool any_cancelled(const engine *e) {
    for (const job *j = e->jobs; j; j = j->next)
        if (atomic_load(&j->cancelled))
            return true;
    return false;
}

/* Gives the pool to them for as long as a piece of a prompt may take. */
static void yield_pool(engine *e) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const double end = (double)until.tv_nsec * 1e-9 + e->pace.piece_seconds;
    until.tv_sec += (time_t)end;
    until.tv_nsec = (long)((end - (double)(time_t)end) * 1e9);
    pthread_mutex_lock(&e->mutex);
    while (!e->stop && !e->ending && pthread_cond_timedwait(&e->wake, &e->mutex, &until) == 0) {
        pthread_mutex_unlock(&e->mutex);
        const bool over = !others_compute(e) || any_cancelled(e);
        pthread_mutex_lock(&e->mutex);
        if (over)
            break;
    }
    pthread_mutex_unlock(&e->mutex);
}

/* From here on a client that leaves stops the step. false: one has left already. */
static bool begin_step(engine *e, size_t n, double seconds) {
    bool all_here = true;
    pthread_mutex_lock(&e->mutex);
    for (size_t i = 0; i < n; i++)
        all_here = all_here && !atomic_load(&e->item_slots[i]->job->cancelled);
    e->n_running = all_here ? n : 0;
    e->running_until = clock_seconds() + seconds;
    pthread_mutex_unlock(&e->mutex);
    return all_here;
}

/* With the mutex held. */
static void cancel_step(engine *e) {
    for (size_t i = 0; i < e->n_running; i++)
        trol_session_cancel(e->items[i].session);
}

/* A step that would run on for long for a job whose client left is stopped; the others' parts of it are repeated. Not
 * two in a row: clients that come only to leave would keep the others from getting on. With the mutex held. */
static void stop_step(engine *e, const job *j) {
    const double soon = 0.1;
    bool is_part = false;
    for (size_t i = 0; i < e->n_running; i++)
        is_part = is_part || e->item_slots[i]->job == j;
    if (!is_part || e->stopped || clock_seconds() + soon > e->running_until)
        return;
    e->stopped = true;
    cancel_step(e);
}

/* Whether each item did what it was to do. */
static bool all_done(const engine *e, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (e->items[i].status != TROL_OK)
            return false;
    return true;
}

/* What the items say, with the pool for itself where answers wait. */
static trol_status run_items(engine *e, size_t n, bool alone) {
    trol_error error = {0};
    if (alone)
        trol_threads_hold(e->params.threads);
    const trol_status status = trol_step(e->items, n, &error);
    if (alone)
        trol_threads_release(e->params.threads);
    for (size_t i = 0; status != TROL_OK && i < n; i++)
        e->errors[i] = error;
    pthread_mutex_lock(&e->mutex);
    e->n_running = 0;
    e->stopped = e->stopped && !(status == TROL_OK && all_done(e, n));
    pthread_mutex_unlock(&e->mutex);
    return status;
}

/* false: there is nothing to do. */
static bool step(engine *e) {
    size_t n_rows, room;
    const size_t n = collect_items(e, &n_rows, &room), n_answers = (size_t)count_slots(e, SLOT_ANSWER);
    if (n == 0)
        return false;
    if (!begin_step(e, n, pace_expect(&e->pace, n_answers, n_rows)))
        return true;
    const double start = clock_seconds();
    const trol_status status = run_items(e, n, n_answers > 0);
    const double seconds = clock_seconds() - start;
    const bool undisturbed = n_answers || !others_compute(e); /* else they had a share of the time */
    if (status == TROL_OK && undisturbed && all_done(e, n))
        pace_measure(&e->pace, seconds, n_answers, n_rows, room);
    for (size_t i = 0; i < n; i++)
        take_result(e, i);
    count_step(e, seconds, n_answers, n_rows);
    if (n_answers && pace_give_turn(&e->pace, others_compute(e), n_rows))
        yield_pool(e);
    return true;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void drop_cancelled(engine *e) {
    for (job *j = e->jobs, *next; j; j = next) {
        next = j->next;
        if (!atomic_load(&j->cancelled))
            continue;
        close_job(e, j, j->request.cache_prompt);
        let_go(e, j, OUTCOME_CANCELLED);
    }
}

/* The job, which is in no list and no slot, is not answered any more. */
static void turn_away(engine *e, job *j) {
    api_error error;
    api_fail(&error, 503, NULL, "shutting_down", "the server is being shut down");
    job_put_error(j, &error);
    let_go(e, j, OUTCOME_FAILED);
}

static void end_jobs(engine *e) {
    while (e->jobs) {
        job *j = e->jobs;
        close_job(e, j, false);
        turn_away(e, j);
    }
    pthread_mutex_lock(&e->mutex);
    while (e->waiting) {
        job *j = unlink_waiting(e, &e->waiting);
        pthread_mutex_unlock(&e->mutex);
        turn_away(e, j);
        pthread_mutex_lock(&e->mutex);
    }
    pthread_mutex_unlock(&e->mutex);
}

static void *engine_main(void *argument) {
    engine *e = argument;
    pthread_mutex_lock(&e->mutex);
    while (!e->stop) {
        const uint64_t seen = e->n_wakes;
        const bool ending = e->ending;
        pthread_mutex_unlock(&e->mutex);
        take_searches(e);
        drop_cancelled(e);
        if (ending)
            end_jobs(e);
        serve_queue(e);
        const bool ran = step(e);
        pthread_mutex_lock(&e->mutex);
        if (ran)
            continue;
        count_use(e);
        while (!e->stop && e->n_wakes == seen)
            pthread_cond_wait(&e->wake, &e->mutex);
    }
    pthread_mutex_unlock(&e->mutex);
    return NULL;
}

/* ---- the other threads' side ----------------------------------------------------------------- */

static bool refuse(engine *e, int status, const char *code, const char *sentence, api_error *error) {
    e->metrics.refused++;
    api_fail(error, status, NULL, code, "%s", sentence);
    error->retry_after = 2;
    return false;
}

static bool enqueue(engine *e, job *j, api_error *error) {
    if (e->draining)
        return refuse(e, 503, "shutting_down", "the server is being shut down", error);
    if (e->n_waiting >= e->params.queue_limit)
        return refuse(e, 429, "queue_full", "too many requests are waiting, please try again in a moment", error);
    job_retain(j);
    j->next = NULL;
    j->submitted = clock_seconds();
    *e->last_waiting = j;
    e->last_waiting = &j->next;
    e->n_waiting++;
    e->metrics.requests++;
    e->n_wakes++;
    pthread_cond_signal(&e->wake);
    return true;
}

bool engine_submit(engine *e, job *j, api_error *error) {
    if (!request_check(&e->limits, j, error))
        return false;
    for (size_t i = 0; i < j->request.n_images; i++) {
        j->images[i] = image_store_get(e->images, &j->request.images[i]);
        if (!j->images[i]) {
            while (i-- > 0)
                image_store_release(e->images, j->images[i]);
            return api_fail_memory(error);
        }
    }
    pthread_mutex_lock(&e->mutex);
    const bool accepted = enqueue(e, j, error);
    pthread_mutex_unlock(&e->mutex);
    for (size_t i = 0; !accepted && i < j->request.n_images; i++)
        image_store_release(e->images, j->images[i]);
    return accepted;
}

void engine_cancel(engine *e, job *j) {
    job_cancel(j);
    pthread_mutex_lock(&e->mutex);
    stop_step(e, j);
    pthread_mutex_unlock(&e->mutex);
    wake(e);
}

void engine_drain(engine *e) {
    pthread_mutex_lock(&e->mutex);
    e->draining = true;
    pthread_mutex_unlock(&e->mutex);
}

void engine_end(engine *e) {
    pthread_mutex_lock(&e->mutex);
    e->draining = e->ending = true;
    cancel_step(e);
    e->n_wakes++;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->mutex);
}

int32_t engine_count_open(engine *e) {
    pthread_mutex_lock(&e->mutex);
    const int32_t n = e->n_waiting + e->n_admitted;
    pthread_mutex_unlock(&e->mutex);
    return n;
}

engine_metrics engine_get_metrics(engine *e) {
    pthread_mutex_lock(&e->mutex);
    engine_metrics m = e->metrics;
    m.queued = e->n_waiting;
    pthread_mutex_unlock(&e->mutex);
    m.images = image_store_get_stats(e->images);
    return m;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool start(engine *e, trol_error *error) {
    pthread_condattr_t attributes;
    pthread_mutex_init(&e->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    e->last_waiting = &e->waiting;
    if (!image_store_new(e->params.model, e->params.image_cache_bytes, wake, e, &e->images, error))
        return false;
    if (pthread_create(&e->thread, NULL, engine_main, e) == 0)
        return true;
    image_store_free(e->images);
    fail_sentence(error, TROL_ERROR_MEMORY, "the engine's thread could not be started");
    return false;
}

bool engine_new(const engine_params *params, engine **result, trol_error *error) {
    const size_t n = (size_t)params->n_slots;
    engine *e = calloc(1, sizeof *e);
    *result = NULL;
    if (e) {
        e->params = *params;
        e->info.size = sizeof e->info;
        e->slots = calloc(n, sizeof *e->slots);
        e->items = calloc(n, sizeof *e->items);
        e->errors = calloc(n, sizeof *e->errors);
        e->item_slots = calloc(n, sizeof *e->item_slots);
    }
    bool fine =
        e && pace_init(&e->pace, params->piece_seconds, n) && e->slots && e->items && e->errors && e->item_slots;
    if (!fine)
        fail_sentence(error, TROL_ERROR_MEMORY, "there is no memory for %zu sessions", n);
    fine = fine && trol_model_get_info(params->model, &e->info, error) == TROL_OK &&
           request_limits_find(params, &e->info, &e->limits, error) == TROL_OK && start(e, error);
    if (fine) {
        *result = e;
        return true;
    }
    if (e) {
        pace_free(&e->pace);
        free(e->slots);
        free(e->items);
        free(e->errors);
        free(e->item_slots);
    }
    free(e);
    return false;
}

void engine_free(engine *e) {
    if (!e)
        return;
    pthread_mutex_lock(&e->mutex);
    e->stop = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->mutex);
    pthread_join(e->thread, NULL);
    while (e->jobs) {
        job *j = e->jobs;
        close_job(e, j, false);
        let_go(e, j, OUTCOME_CANCELLED);
    }
    while (e->waiting)
        let_go(e, unlink_waiting(e, &e->waiting), OUTCOME_CANCELLED);
    for (int32_t i = 0; i < e->params.n_slots; i++)
        slot_close(&e->slots[i], false);
    image_store_free(e->images);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->mutex);
    pace_free(&e->pace);
    free(e->slots);
    free(e->items);
    free(e->errors);
    free(e->item_slots);
    free(e);
}
