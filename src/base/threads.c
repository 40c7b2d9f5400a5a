/* Workers spin for a short while after a region (the next one usually follows within microseconds: a decode step has
 * hundreds), then sleep on a condition variable. They watch one word: the region's number, whether it is closed, and
 * how many have joined it. The caller closes a region once no chunk is left, so a worker that has lost its CPU to
 * another program, or wakes late, is not waited for unless it is in the middle of a chunk.
 *
 * A child of fork has the pool's memory but none of its workers: the first region there starts new ones. */
#define _GNU_SOURCE
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/error.h"
#include "base/float_mode.h"

enum { MAX_THREADS = 256, SPIN_ROUNDS = 4000 };

#define REGION_CLOSED    ((uint64_t)1 << 31)
#define REGION_JOINED    (REGION_CLOSED - 1)
#define REGION_NUMBER(s) ((uint32_t)((s) >> 32))

struct trol_threads {
    int n_threads;
    int n_workers; /* started; n_threads - 1 once all are */
    atomic_int references;
    atomic_long process; /* whose workers they are; negative: of the process that is about to start its own */

    bool pinned;            /* the workers, to all places but the first */
    cpu_set_t *first_place; /* [place_bytes], NULL: not pinned */
    size_t place_bytes;
    double last_return; /* of a caller to the first CPU, on the monotonic clock */

    /* one parallel region at a time, in the order of arrival: a mutex alone lets a busy caller overtake the others */
    pthread_mutex_t callers;
    pthread_cond_t turn;
    uint64_t next_ticket, served_ticket;
    bool held; /* by `holder`: all its regions are one turn */
    pthread_t holder;
    atomic_int n_holders_waiting; /* others' regions pause for them between two chunks, and continue afterwards */

    pthread_mutex_t mutex; /* guards sleeping and waking */
    pthread_cond_t wake;

    /* the current region; written while all workers are idle */
    threads_task task;
    void *context;
    const atomic_int *cancel;
    bool makes_way; /* its caller does not hold the pool */
    int64_t n_chunks;
    atomic_llong next_chunk;
    atomic_uint_least64_t region; /* its number << 32 | REGION_CLOSED | workers that have joined and not left */
    atomic_int n_sleeping;
    atomic_bool stop;

    struct worker {
        trol_threads *threads;
        pthread_t thread;
        int index;
    } workers[];
};

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_chunks(trol_threads *threads, int thread) {
    for (;;) {
        if (threads->cancel && atomic_load_explicit(threads->cancel, memory_order_relaxed))
            return;
        if (threads->makes_way && atomic_load_explicit(&threads->n_holders_waiting, memory_order_relaxed) > 0)
            return;
        int64_t chunk = atomic_fetch_add_explicit(&threads->next_chunk, 1, memory_order_relaxed);
        if (chunk >= threads->n_chunks)
            return;
        threads->task(threads->context, chunk, thread);
    }
}

/* Returns once the region's number is another than `seen`: at once, after some spinning, or after a sleep. */
static uint32_t wait_for_region(trol_threads *threads, uint32_t seen) {
    for (int spins = 0; spins < SPIN_ROUNDS; spins++) {
        const uint64_t region = atomic_load_explicit(&threads->region, memory_order_acquire);
        if (REGION_NUMBER(region) != seen)
            return REGION_NUMBER(region);
        pause_cpu();
    }
    uint64_t region;
    pthread_mutex_lock(&threads->mutex);
    atomic_fetch_add(&threads->n_sleeping, 1);
    while (region = atomic_load(&threads->region), REGION_NUMBER(region) == seen)
        pthread_cond_wait(&threads->wake, &threads->mutex);
    atomic_fetch_sub(&threads->n_sleeping, 1);
    pthread_mutex_unlock(&threads->mutex);
    return REGION_NUMBER(region);
}

/* Joins the region unless it is closed or over. */
static bool join_region(trol_threads *threads, uint32_t number) {
    uint64_t region = atomic_load(&threads->region);
    while (REGION_NUMBER(region) == number && !(region & REGION_CLOSED))
        if (atomic_compare_exchange_weak(&threads->region, &region, region + 1))
            return true;
    return false;
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    trol_threads *threads = worker->threads;
    uint32_t seen = 0;
    (void)float_mode_enter();
    for (;;) {
        seen = wait_for_region(threads, seen);
        if (atomic_load(&threads->stop))
            return NULL;
        if (join_region(threads, seen)) {
            take_chunks(threads, worker->index);
            atomic_fetch_sub(&threads->region, 1);
        }
    }
}

static void start_region(trol_threads *threads) {
    const uint32_t number = REGION_NUMBER(atomic_load(&threads->region)) + 1;
    atomic_store(&threads->region, (uint64_t)number << 32);
    /* A worker counts itself as sleeping before it looks at the region a last time, so it cannot be missed here. */
    if (atomic_load(&threads->n_sleeping) > 0) {
        pthread_mutex_lock(&threads->mutex);
        pthread_cond_broadcast(&threads->wake);
        pthread_mutex_unlock(&threads->mutex);
    }
}

/* Lets no more workers in and waits for those that are inside. */
static void end_region(trol_threads *threads) {
    atomic_fetch_or(&threads->region, REGION_CLOSED);
    for (int spins = 0; (atomic_load(&threads->region) & REGION_JOINED) > 0; spins++) {
        pause_cpu();
        if (spins > SPIN_ROUNDS) /* a worker lost its CPU to another program: yield this one to it */
            sched_yield();
    }
}

/* With `callers` locked. */
static bool is_holder(const trol_threads *threads) {
    return threads->held && pthread_equal(threads->holder, pthread_self());
}

static void wait_for_ticket(trol_threads *threads) {
    uint64_t ticket = threads->next_ticket++;
    while (threads->served_ticket != ticket)
        pthread_cond_wait(&threads->turn, &threads->callers);
}

static void serve_next_ticket(trol_threads *threads) {
    threads->served_ticket++;
    if (threads->served_ticket != threads->next_ticket)
        pthread_cond_broadcast(&threads->turn);
}

static void wait_for_turn(trol_threads *threads) {
    pthread_mutex_lock(&threads->callers);
    const bool holder = is_holder(threads);
    if (!holder)
        wait_for_ticket(threads);
    threads->makes_way = !holder;
    pthread_mutex_unlock(&threads->callers);
}

static void end_turn(trol_threads *threads) {
    pthread_mutex_lock(&threads->callers);
    if (!is_holder(threads))
        serve_next_ticket(threads);
    pthread_mutex_unlock(&threads->callers);
}

static void follow_fork(trol_threads *threads);

void trol_threads_hold(trol_threads *threads) {
    if (!threads)
        return;
    follow_fork(threads);
    pthread_mutex_lock(&threads->callers);
    atomic_fetch_add(&threads->n_holders_waiting, 1);
    wait_for_ticket(threads);
    atomic_fetch_sub(&threads->n_holders_waiting, 1);
    threads->held = true;
    threads->holder = pthread_self();
    pthread_mutex_unlock(&threads->callers);
}

void trol_threads_release(trol_threads *threads) {
    if (!threads)
        return;
    follow_fork(threads);
    pthread_mutex_lock(&threads->callers);
    if (is_holder(threads)) {
        threads->held = false;
        serve_next_ticket(threads);
    }
    pthread_mutex_unlock(&threads->callers);
}

bool threads_held_here(trol_threads *threads) {
    follow_fork(threads);
    pthread_mutex_lock(&threads->callers);
    const bool here = is_holder(threads);
    pthread_mutex_unlock(&threads->callers);
    return here;
}

/* A caller that finds itself on a worker's place goes to the first one, which is free: a scheduler may leave both on
 * one CPU for many regions, at half the speed. Its own mask is put back at once, so it may be moved again; not too
 * often, for the first place may be another program's by now. */
static void leave_worker_alone(trol_threads *threads) {
    const double seldom = 0.02;
    if (!threads->pinned || CPU_ISSET_S((size_t)sched_getcpu(), threads->place_bytes, threads->first_place) ||
        clock_seconds() - threads->last_return < seldom)
        return;
    threads->last_return = clock_seconds();
    cpu_set_t *own = malloc(threads->place_bytes), *both = malloc(threads->place_bytes);
    if (own && both && sched_getaffinity(0, threads->place_bytes, own) == 0) {
        CPU_AND_S(threads->place_bytes, both, own, threads->first_place);
        if (CPU_EQUAL_S(threads->place_bytes, both, threads->first_place) &&
            sched_setaffinity(0, threads->place_bytes, both) == 0)
            (void)sched_setaffinity(0, threads->place_bytes, own);
    }
    free(own);
    free(both);
}

/* ---- after fork ----------------------------------------------------------------------------------------------------
 */

static trol_status start_workers(trol_threads *threads, trol_error *error);
static void pin_workers(trol_threads *threads);

/* Locks, turns and regions of the parent's other threads do not exist here. */
static void forget_parent(trol_threads *threads) {
    pthread_mutex_init(&threads->callers, NULL);
    pthread_cond_init(&threads->turn, NULL);
    pthread_mutex_init(&threads->mutex, NULL);
    pthread_cond_init(&threads->wake, NULL);
    threads->held = threads->held && pthread_equal(threads->holder, pthread_self()); /* by the thread that forked */
    threads->next_ticket = threads->held ? 1 : 0;
    threads->served_ticket = 0;
    atomic_store(&threads->n_holders_waiting, 0);
    threads->n_workers = 0;
    threads->pinned = false;
    atomic_store(&threads->region, REGION_CLOSED);
    atomic_store(&threads->n_sleeping, 0);
}

/* In a child of fork: the first caller starts new workers, others wait for it. Fewer threads than there were, where no
 * more can be started, are only slower. */
static void follow_fork(trol_threads *threads) {
    const long self = getpid();
    long process;
    while ((process = atomic_load(&threads->process)) != self) {
        if (process == -self) {
            sched_yield();
        } else if (atomic_compare_exchange_strong(&threads->process, &process, -self)) {
            forget_parent(threads);
            (void)start_workers(threads, NULL);
            pin_workers(threads);
            atomic_store(&threads->process, self);
        }
    }
}

/* Runs chunks from *next_chunk on until all are done, or the region is cancelled, or has to make way. */
static void run_turn(trol_threads *threads, int64_t n_chunks, threads_task task, void *context,
                     const atomic_int *cancel, int64_t *next_chunk) {
    wait_for_turn(threads);
    threads->task = task;
    threads->context = context;
    threads->cancel = cancel;
    threads->n_chunks = n_chunks;
    atomic_store(&threads->next_chunk, *next_chunk);
    if (n_chunks - *next_chunk > 1 && threads->n_workers > 0) {
        leave_worker_alone(threads);
        start_region(threads);
        take_chunks(threads, 0);
        end_region(threads);
    } else {
        take_chunks(threads, 0);
    }
    *next_chunk = atomic_load(&threads->next_chunk);
    end_turn(threads);
}

trol_status threads_run(trol_threads *threads, int64_t n_chunks, threads_task task, void *context,
                        const atomic_int *cancel) {
    if (n_chunks <= 0)
        return TROL_OK;
    follow_fork(threads);
    const float_mode callers_mode = float_mode_enter();
    int64_t next_chunk = 0;
    bool cancelled = false;
    while (next_chunk < n_chunks && !cancelled) {
        run_turn(threads, n_chunks, task, context, cancel, &next_chunk);
        cancelled = cancel && atomic_load(cancel);
    }
    float_mode_restore(callers_mode);
    return cancelled ? TROL_ERROR_CANCELLED : TROL_OK;
}

int threads_count(const trol_threads *threads) { return threads->n_threads; }

trol_threads *threads_retain(trol_threads *threads) {
    atomic_fetch_add(&threads->references, 1);
    return threads;
}

/* With one thread for each CPU or each core, unpinned workers at times share one while another idles. So the workers
 * are kept on all places but the first, one each; the calling thread, which is the program's own, keeps its mask and
 * finds the first free (leave_worker_alone). With fewer threads the scheduler has room enough. */
static void pin_workers(trol_threads *threads) {
    cpu_list list = cpus_allowed("");
    const bool each_cpu = threads->n_threads == list.n_cpus, each_core = threads->n_threads == list.n_cores;
    if ((!each_cpu && !each_core) || threads->n_workers == 0) {
        cpus_free(&list);
        return;
    }
    const size_t bytes = CPU_ALLOC_SIZE(list.cpus[list.n_cpus - 1] + 1);
    cpu_set_t *place = malloc(bytes), *first = malloc(bytes);
    int n_places = 0;
    for (int i = 0; place && first && i < list.n_cpus && n_places <= threads->n_workers; i++) {
        if (!each_cpu && list.core_of[i] != list.cpus[i])
            continue; /* its core has had its turn */
        CPU_ZERO_S(bytes, place);
        for (int k = i; k < list.n_cpus; k++)
            if (k == i || (!each_cpu && list.core_of[k] == list.cpus[i]))
                CPU_SET_S((size_t)list.cpus[k], bytes, place);
        if (n_places == 0)
            memcpy(first, place, bytes);
        else
            pthread_setaffinity_np(threads->workers[n_places - 1].thread, bytes, place);
        n_places++;
    }
    threads->pinned = n_places > 0;
    free(threads->first_place);
    threads->first_place = first;
    threads->place_bytes = bytes;
    free(place);
    cpus_free(&list);
}

static trol_status start_workers(trol_threads *threads, trol_error *error) {
    for (int i = 0; i + 1 < threads->n_threads; i++) {
        struct worker *worker = &threads->workers[i];
        *worker = (struct worker){.threads = threads, .index = i + 1};
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
            return fail(error, TROL_ERROR_MEMORY, "thread %d of %d could not be started", i + 2, threads->n_threads);
        threads->n_workers++;
    }
    return TROL_OK;
}

static int default_threads(void) {
    cpu_list list = cpus_allowed("");
    const int n = cpus_default_threads(&list, cpus_quota(""));
    cpus_free(&list);
    return n < MAX_THREADS ? n : MAX_THREADS;
}

trol_status trol_threads_new(int32_t n_threads, trol_threads **result, trol_error *error) {
    if (!result)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_threads_new: the out-pointer is NULL");
    *result = NULL;
    if (n_threads < 0 || n_threads > MAX_THREADS)
        return fail(error, TROL_ERROR_ARGUMENT, "number of threads is %d, expected 0 (one for each core) to %d",
                    n_threads, MAX_THREADS);
    if (n_threads == 0)
        n_threads = default_threads();
    size_t bytes = sizeof(trol_threads) + (size_t)n_threads * sizeof(struct worker);
    trol_threads *threads = calloc(1, bytes);
    if (!threads)
        return fail_memory(error, bytes, "a pool of threads");
    threads->n_threads = n_threads;
    atomic_init(&threads->references, 1);
    atomic_init(&threads->process, getpid());
    pthread_mutex_init(&threads->callers, NULL);
    pthread_cond_init(&threads->turn, NULL);
    pthread_mutex_init(&threads->mutex, NULL);
    pthread_cond_init(&threads->wake, NULL);
    trol_status status = start_workers(threads, error);
    if (status != TROL_OK) {
        trol_threads_free(threads);
        return status;
    }
    pin_workers(threads);
    *result = threads;
    return TROL_OK;
}

void trol_threads_free(trol_threads *threads) {
    if (!threads || atomic_fetch_sub(&threads->references, 1) > 1)
        return;
    if (atomic_load(&threads->process) ==
        getpid()) { /* or else there are none to stop, and what they waited on is theirs */
        atomic_store(&threads->stop, true);
        start_region(threads);
        for (int i = 0; i < threads->n_workers; i++)
            pthread_join(threads->workers[i].thread, NULL);
        pthread_cond_destroy(&threads->wake);
        pthread_cond_destroy(&threads->turn);
        pthread_mutex_destroy(&threads->mutex);
        pthread_mutex_destroy(&threads->callers);
    }
    free(threads->first_place);
    free(threads);
}
