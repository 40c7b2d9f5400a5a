/* Workers spin for a short while after a section (the next one usually follows within microseconds: a decode step has
 * hundreds), then sleep on a condition variable. They watch one word: the section's number, whether it is closed, and
 * how many have joined it. The caller closes a section once no chunk is left, so a worker that has lost its CPU to
 * another program, or wakes late, is not waited for unless it is in the middle of a chunk. */
#define _GNU_SOURCE
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/float_mode.h"

enum { MAX_THREADS = 256, SPIN_ROUNDS = 4000 };

#define SECTION_CLOSED    ((uint64_t)1 << 31)
#define SECTION_JOINED    (SECTION_CLOSED - 1)
#define SECTION_NUMBER(s) ((uint32_t)((s) >> 32))

struct trol_threads {
    int n_threads;
    int n_workers; /* started; n_threads - 1 once all are */
    atomic_int references;
    bool pinned; /* the workers, to all CPUs but the first */
    int first_cpu;
    double last_return; /* of a caller to the first CPU, on the monotonic clock */

    /* one parallel section at a time, in the order of arrival: a mutex alone lets a busy caller overtake the others */
    pthread_mutex_t callers;
    pthread_cond_t turn;
    uint64_t next_ticket, served_ticket;
    bool held; /* by `holder`: all its sections are one turn */
    pthread_t holder;

    pthread_mutex_t mutex; /* guards sleeping and waking */
    pthread_cond_t wake;

    /* the current section; written while all workers are idle */
    threads_task task;
    void *context;
    const atomic_int *cancel;
    int64_t n_chunks;
    atomic_llong next_chunk;
    atomic_uint_least64_t section; /* its number << 32 | SECTION_CLOSED | workers that have joined and not left */
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
        int64_t chunk = atomic_fetch_add_explicit(&threads->next_chunk, 1, memory_order_relaxed);
        if (chunk >= threads->n_chunks)
            return;
        threads->task(threads->context, chunk, thread);
    }
}

/* Returns once the section's number is another than `seen`: at once, after some spinning, or after a sleep. */
static uint32_t wait_for_section(trol_threads *threads, uint32_t seen) {
    for (int spins = 0; spins < SPIN_ROUNDS; spins++) {
        const uint64_t section = atomic_load_explicit(&threads->section, memory_order_acquire);
        if (SECTION_NUMBER(section) != seen)
            return SECTION_NUMBER(section);
        pause_cpu();
    }
    uint64_t section;
    pthread_mutex_lock(&threads->mutex);
    atomic_fetch_add(&threads->n_sleeping, 1);
    while (section = atomic_load(&threads->section), SECTION_NUMBER(section) == seen)
        pthread_cond_wait(&threads->wake, &threads->mutex);
    atomic_fetch_sub(&threads->n_sleeping, 1);
    pthread_mutex_unlock(&threads->mutex);
    return SECTION_NUMBER(section);
}

/* Joins the section unless it is closed or over. */
static bool join_section(trol_threads *threads, uint32_t number) {
    uint64_t section = atomic_load(&threads->section);
    while (SECTION_NUMBER(section) == number && !(section & SECTION_CLOSED))
        if (atomic_compare_exchange_weak(&threads->section, &section, section + 1))
            return true;
    return false;
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    trol_threads *threads = worker->threads;
    uint32_t seen = 0;
    (void)float_mode_enter();
    for (;;) {
        seen = wait_for_section(threads, seen);
        if (atomic_load(&threads->stop))
            return NULL;
        if (join_section(threads, seen)) {
            take_chunks(threads, worker->index);
            atomic_fetch_sub(&threads->section, 1);
        }
    }
}

static void start_section(trol_threads *threads) {
    const uint32_t number = SECTION_NUMBER(atomic_load(&threads->section)) + 1;
    atomic_store(&threads->section, (uint64_t)number << 32);
    /* A worker counts itself as sleeping before it looks at the section a last time, so it cannot be missed here. */
    if (atomic_load(&threads->n_sleeping) > 0) {
        pthread_mutex_lock(&threads->mutex);
        pthread_cond_broadcast(&threads->wake);
        pthread_mutex_unlock(&threads->mutex);
    }
}

/* Lets nobody in any more and waits for those that are inside. */
static void end_section(trol_threads *threads) {
    atomic_fetch_or(&threads->section, SECTION_CLOSED);
    for (int spins = 0; (atomic_load(&threads->section) & SECTION_JOINED) > 0; spins++) {
        pause_cpu();
        if (spins > SPIN_ROUNDS) /* a worker lost its CPU to somebody else: let it have this one */
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
    if (!is_holder(threads))
        wait_for_ticket(threads);
    pthread_mutex_unlock(&threads->callers);
}

static void end_turn(trol_threads *threads) {
    pthread_mutex_lock(&threads->callers);
    if (!is_holder(threads))
        serve_next_ticket(threads);
    pthread_mutex_unlock(&threads->callers);
}

void trol_threads_hold(trol_threads *threads) {
    if (!threads)
        return;
    pthread_mutex_lock(&threads->callers);
    wait_for_ticket(threads);
    threads->held = true;
    threads->holder = pthread_self();
    pthread_mutex_unlock(&threads->callers);
}

void trol_threads_release(trol_threads *threads) {
    if (!threads)
        return;
    pthread_mutex_lock(&threads->callers);
    if (is_holder(threads)) {
        threads->held = false;
        serve_next_ticket(threads);
    }
    pthread_mutex_unlock(&threads->callers);
}

/* A caller that finds itself on a worker's CPU goes to the first one, which is free: a scheduler may leave both on one
 * CPU for many sections, at half the speed. Its own mask is put back at once, so it may be moved again; not too often,
 * for the first CPU may be another program's by now. */
static void leave_worker_alone(trol_threads *threads) {
    const double seldom = 0.02;
    cpu_set_t own, first;
    if (!threads->pinned || sched_getcpu() == threads->first_cpu || clock_seconds() - threads->last_return < seldom)
        return;
    threads->last_return = clock_seconds();
    CPU_ZERO(&first);
    CPU_SET(threads->first_cpu, &first);
    if (sched_getaffinity(0, sizeof own, &own) == 0 && CPU_ISSET(threads->first_cpu, &own) &&
        sched_setaffinity(0, sizeof first, &first) == 0)
        (void)sched_setaffinity(0, sizeof own, &own);
}

trol_status threads_run(trol_threads *threads, int64_t n_chunks, threads_task task, void *context,
                        const atomic_int *cancel) {
    if (n_chunks <= 0)
        return TROL_OK;
    wait_for_turn(threads);
    threads->task = task;
    threads->context = context;
    threads->cancel = cancel;
    threads->n_chunks = n_chunks;
    atomic_store(&threads->next_chunk, 0);
    const float_mode callers_mode = float_mode_enter();
    if (n_chunks > 1 && threads->n_workers > 0) {
        leave_worker_alone(threads);
        start_section(threads);
        take_chunks(threads, 0);
        end_section(threads);
    } else {
        take_chunks(threads, 0);
    }
    float_mode_restore(callers_mode);
    bool cancelled = cancel && atomic_load(cancel);
    end_turn(threads);
    return cancelled ? TROL_ERROR_CANCELLED : TROL_OK;
}

int threads_count(const trol_threads *threads) { return threads->n_threads; }

trol_threads *threads_retain(trol_threads *threads) {
    atomic_fetch_add(&threads->references, 1);
    return threads;
}

/* With one thread for each CPU, unpinned workers at times share a CPU while another idles. So the workers are kept on
 * all CPUs but the first, one each; the calling thread, which is the program's own, keeps its mask and finds the first
 * free (leave_worker_alone). */
static void pin_workers(trol_threads *threads, const cpu_set_t *allowed) {
    if (threads->n_threads != CPU_COUNT(allowed))
        return;
    int cpu = -1;
    for (int i = 0; i <= threads->n_workers; i++) {
        do
            cpu++;
        while (!CPU_ISSET(cpu, allowed));
        if (i == 0) {
            threads->first_cpu = cpu;
            continue;
        }
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(threads->workers[i - 1].thread, sizeof one, &one);
    }
    threads->pinned = threads->n_workers > 0;
}

trol_status trol_threads_new(int32_t n_threads, trol_threads **result, trol_error *error) {
    if (!result)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_threads_new: the out-pointer is NULL");
    *result = NULL;
    if (n_threads < 0 || n_threads > MAX_THREADS)
        return fail(error, TROL_ERROR_ARGUMENT, "number of threads is %d, expected 0 (one for each CPU) to %d",
                    n_threads, MAX_THREADS);
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) > 0;
    if (n_threads == 0)
        n_threads = known ? CPU_COUNT(&allowed) : 1;
    if (n_threads > MAX_THREADS)
        n_threads = MAX_THREADS;
    size_t bytes = sizeof(trol_threads) + (size_t)n_threads * sizeof(struct worker);
    trol_threads *threads = calloc(1, bytes);
    if (!threads)
        return fail_memory(error, bytes, "a pool of threads");
    threads->n_threads = n_threads;
    atomic_init(&threads->references, 1);
    pthread_mutex_init(&threads->callers, NULL);
    pthread_cond_init(&threads->turn, NULL);
    pthread_mutex_init(&threads->mutex, NULL);
    pthread_cond_init(&threads->wake, NULL);
    for (int i = 0; i + 1 < n_threads; i++) {
        struct worker *worker = &threads->workers[i];
        *worker = (struct worker){.threads = threads, .index = i + 1};
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            trol_threads_free(threads);
            return fail(error, TROL_ERROR_MEMORY, "thread %d of %d could not be started", i + 2, n_threads);
        }
        threads->n_workers++;
    }
    if (known)
        pin_workers(threads, &allowed);
    *result = threads;
    return TROL_OK;
}

void trol_threads_free(trol_threads *threads) {
    if (!threads || atomic_fetch_sub(&threads->references, 1) > 1)
        return;
    atomic_store(&threads->stop, true);
    start_section(threads);
    for (int i = 0; i < threads->n_workers; i++)
        pthread_join(threads->workers[i].thread, NULL);
    pthread_cond_destroy(&threads->wake);
    pthread_mutex_destroy(&threads->mutex);
    pthread_mutex_destroy(&threads->callers);
    pthread_cond_destroy(&threads->turn);
    free(threads);
}
