/* test-threads.c - the pool of threads: chunks, several callers, order and making way, the float mode, fork. */
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/float_mode.h"
#include "base/fork_mutex.h"
#include "base/threads.h"
#include "test.h"

/* ---- the pool -------------------------------------------------------------------------------- */

enum { CHUNKS = 1000 };

typedef struct counting {
    atomic_int done[CHUNKS];
    atomic_int threads_seen[257], wrong_thread, stop_after;
    atomic_int after_cancel; /* chunks that began when the region had been cancelled */
    atomic_int *cancel;
    int n_threads;
} counting;

static void count_chunk(void *context, int64_t chunk, int thread) {
    counting *c = context;
    if (c->cancel && atomic_load(c->cancel))
        atomic_fetch_add(&c->after_cancel, 1);
    atomic_fetch_add(&c->done[chunk], 1);
    if (thread < 0 || thread >= c->n_threads) {
        atomic_fetch_add(&c->wrong_thread, 1);
        return;
    }
    /* A thread's number is its own while a chunk runs. */
    if (atomic_fetch_add(&c->threads_seen[thread], 1) != 0)
        atomic_fetch_add(&c->wrong_thread, 1);
    for (volatile int spin = 0; spin < 50; spin++)
        ;
    atomic_fetch_sub(&c->threads_seen[thread], 1);
    if (c->cancel && atomic_fetch_sub(&c->stop_after, 1) == 1)
        atomic_store(c->cancel, 1);
}

static void test_pool(int n_threads) {
    static counting c;
    trol_error error = {0};
    trol_threads *threads;
    CHECK_OK(trol_threads_new(n_threads, &threads, &error), error);
    if (!threads)
        return;
    CHECK(threads_count(threads) == n_threads, "%d threads", threads_count(threads));
    int wrong = 0;
    for (int round = 0; round < 300; round++) {
        int64_t n = round % 7 == 0 ? round % 3 : 1 + round * 37 % CHUNKS;
        memset(&c, 0, sizeof c);
        c.n_threads = n_threads;
        CHECK(threads_run(threads, n, count_chunk, &c, NULL) == TROL_OK, "round %d", round);
        for (int64_t i = 0; i < CHUNKS; i++)
            wrong += atomic_load(&c.done[i]) != (i < n);
        wrong += atomic_load(&c.wrong_thread);
        if (round % 100 == 99) { /* long enough for the workers to fall asleep */
            struct timespec pause = {0, 5000000};
            nanosleep(&pause, NULL);
        }
    }
    CHECK(wrong == 0, "%d chunks of %d threads not done exactly once, by a thread of its own", wrong, n_threads);

    atomic_int cancel = 0;
    memset(&c, 0, sizeof c);
    c.n_threads = n_threads;
    c.cancel = &cancel;
    c.stop_after = 10;
    CHECK(threads_run(threads, CHUNKS, count_chunk, &c, &cancel) == TROL_ERROR_CANCELLED, "cancelled");
    int done = 0;
    for (int i = 0; i < CHUNKS; i++)
        done += atomic_load(&c.done[i]);
    CHECK(done >= 10, "%d chunks were done", done);
    CHECK(atomic_load(&c.after_cancel) <= n_threads, "%d chunks began after the cancel, one a thread may have",
          atomic_load(&c.after_cancel));
    CHECK(threads_run(threads, 5, count_chunk, &c, &cancel) == TROL_ERROR_CANCELLED, "cancelled before it begins");
    CHECK(threads_run(threads, -1, count_chunk, &c, NULL) == TROL_OK, "no chunks");
    cancel = 0;
    c.cancel = NULL;
    memset(c.done, 0, sizeof c.done);
    CHECK(threads_run(threads, CHUNKS, count_chunk, &c, &cancel) == TROL_OK && c.done[CHUNKS - 1] == 1,
          "it works after a cancel");

    threads_retain(threads);
    trol_threads_free(threads);
    CHECK(threads_run(threads, 10, count_chunk, &c, NULL) == TROL_OK, "alive while somebody holds it");
    trol_threads_free(threads);
}

/* ---- float mode ------------------------------------------------------------------------------ */

static void count_subnormals(void *context, int64_t chunk, int thread) {
    (void)chunk;
    (void)thread;
    volatile float tiny = 1e-39f, small = 1e-30f, third = 1.0f / 3.0f;
    volatile float from_subnormal = tiny * 1e10f, to_subnormal = small * 1e-9f, nearest = third * 3.0f;
    atomic_fetch_add((atomic_int *)context, (from_subnormal != 0) + (to_subnormal != 0) + (nearest != 1.0f));
}

/* Tasks flush subnormals on every thread, whatever the caller's mode is, which it has again afterwards. */
static void test_float_mode(int n_threads) {
    trol_threads *threads;
    trol_error error;
    CHECK_OK(trol_threads_new(n_threads, &threads, &error), error);
    const float_mode own = float_mode_current();
#if defined(__x86_64__)
    const float_mode modes[] = {own, 0x1f80, 0x7f80 /* rounds to zero */, 0xffc0, 0x1f80 | 0x3f /* flags are set */};
#else
    const float_mode modes[] = {own};
#endif
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        atomic_int kept = 0;
        float_mode_restore(modes[i]);
        trol_status status = threads_run(threads, 64, count_subnormals, &kept, NULL);
        const float_mode after = float_mode_current();
        float_mode_restore(own);
        CHECK(status == TROL_OK && after == modes[i], "mode %llx became %llx", (unsigned long long)modes[i],
              (unsigned long long)after);
#if defined(__x86_64__) || defined(__aarch64__)
        CHECK(kept == 0, "%d threads, mode %llx: %d subnormals are kept", n_threads, (unsigned long long)modes[i],
              kept);
#endif
    }
    trol_threads_free(threads);
}

/* Several threads call at once: their regions do not mix. */
typedef struct caller {
    trol_threads *threads;
    atomic_int *inside;  /* callers within a region */
    atomic_int *regions; /* done by all */
    atomic_int mixed;
    int n_regions;
    atomic_llong total;
} caller;

static void add_chunk(void *context, int64_t chunk, int thread) {
    caller *c = context;
    (void)thread;
    if (chunk == 0 && atomic_fetch_add(c->inside, 1) != 0)
        atomic_fetch_add(&c->mixed, 1);
    atomic_fetch_add(&c->total, chunk);
    for (volatile int spin = 0; spin < 200; spin++)
        ;
    if (chunk == 0)
        atomic_fetch_sub(c->inside, 1);
}

static void *call(void *argument) {
    caller *c = argument;
    for (int i = 0; i < c->n_regions; i++) {
        atomic_store(&c->total, 0);
        if (threads_run(c->threads, 20, add_chunk, c, NULL) != TROL_OK || atomic_load(&c->total) != 190)
            atomic_fetch_add(&c->mixed, 1);
        atomic_fetch_add(c->regions, 1);
    }
    return NULL;
}

static void test_callers(int n_threads) {
    enum { CALLERS = 4 };
    trol_error error = {0};
    trol_threads *threads;
    atomic_int inside = 0, regions = 0;
    pthread_t started[CALLERS];
    caller callers[CALLERS];
    CHECK_OK(trol_threads_new(n_threads, &threads, &error), error);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.threads = threads, .inside = &inside, .regions = &regions, .n_regions = 500};
        CHECK(pthread_create(&started[i], NULL, call, &callers[i]) == 0, "caller %d", i);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(started[i], NULL);
        CHECK(atomic_load(&callers[i].mixed) == 0, "%d regions of caller %d mixed", atomic_load(&callers[i].mixed), i);
    }
    CHECK(atomic_load(&regions) == CALLERS * 500, "%d regions", atomic_load(&regions));
    trol_threads_free(threads);
}

/* ---- fork ----------------------------------------------------------------------------------------------------------
 */

static bool adds_up(trol_threads *threads) {
    atomic_int inside = 0;
    caller c = {.inside = &inside};
    for (int i = 0; i < 200; i++) {
        atomic_store(&c.total, 0);
        if (threads_run(threads, 20, add_chunk, &c, NULL) != TROL_OK || atomic_load(&c.total) != 190)
            return false;
    }
    return true;
}

static int count_own_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;
    for (struct dirent *entry; tasks && (entry = readdir(tasks));)
        n += entry->d_name[0] != '.';
    if (tasks)
        closedir(tasks);
    return n;
}

/* The status of a child that runs regions (or none), with workers of its own, has a child that does the same, and
 * frees the pool; SIGALRM ends one that hangs. */
static int forked(trol_threads *threads, bool runs, int depth) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        bool good = !runs || (adds_up(threads) && count_own_threads() == threads_count(threads));
        good = good && (depth == 0 || forked(threads, runs, depth - 1) == 0) && (!runs || adds_up(threads));
        trol_threads_free(threads);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static void *call_until_stopped(void *context) {
    caller *c = context;
    while (!atomic_load(c->regions))
        if (threads_run(c->threads, 20, add_chunk, c, NULL) != TROL_OK)
            atomic_fetch_add(&c->mixed, 1);
    return NULL;
}

static void test_fork(int n_threads) {
    trol_error error = {0};
    trol_threads *threads;
    CHECK_OK(trol_threads_new(n_threads, &threads, &error), error);
    CHECK(forked(threads, false, 0) == 0, "a child that only frees the pool, %d threads", n_threads);
    CHECK(forked(threads, true, 1) == 0, "a child of a pool that has not run, %d threads", n_threads);
    CHECK(adds_up(threads), "before a fork");
    CHECK(forked(threads, true, 1) == 0 && adds_up(threads), "between regions, %d threads", n_threads);
    /* The parent's other threads are in the middle of regions, and hold its locks. */
    atomic_int stop = 0, inside = 0;
    pthread_t started[2];
    caller callers[2];
    for (int i = 0; i < 2; i++) {
        callers[i] = (caller){.threads = threads, .regions = &stop, .inside = &inside};
        CHECK(pthread_create(&started[i], NULL, call_until_stopped, &callers[i]) == 0, "caller %d", i);
    }
    for (int i = 0; i < 10; i++)
        CHECK(forked(threads, i % 3 > 0, 0) == 0, "fork %d under callers, %d threads", i, n_threads);
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(started[i], NULL);
    trol_threads_free(threads);
}

typedef struct keeper {
    fork_mutex mutex;
    atomic_int locked, stop;
} keeper;

static void *keep_locked(void *context) {
    keeper *k = context;
    CHECK(fork_mutex_lock(&k->mutex), "the first lock");
    atomic_store(&k->locked, 1);
    while (!atomic_load(&k->stop))
        sched_yield();
    fork_mutex_unlock(&k->mutex);
    return NULL;
}

/* What the lock returned in a child, twice; -1: it hangs. */
static int lock_in_child(keeper *k) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        const bool first = fork_mutex_lock(&k->mutex);
        fork_mutex_unlock(&k->mutex);
        const bool second = fork_mutex_lock(&k->mutex);
        _exit((first ? 1 : 0) | (second ? 2 : 0));
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_fork_mutex(void) {
    keeper k = {.locked = 0};
    pthread_t thread;
    fork_mutex_init(&k.mutex);
    CHECK(lock_in_child(&k) == 3, "a free mutex in a child");
    pthread_create(&thread, NULL, keep_locked, &k);
    while (!atomic_load(&k.locked))
        sched_yield();
    CHECK(lock_in_child(&k) == 2, "a mutex that another thread holds, in a child");
    atomic_store(&k.stop, 1);
    pthread_join(thread, NULL);
    CHECK(fork_mutex_lock(&k.mutex), "in the parent");
    fork_mutex_unlock(&k.mutex);
    fork_mutex_destroy(&k.mutex);
}

/* One caller's region runs while another comes; the first then calls again at once: the other is served before. */
typedef struct meeting {
    trol_threads *threads;
    atomic_int other_came, order;
    int first_order, other_order;
} meeting;

static void wait_for_other(void *context, int64_t chunk, int thread) {
    meeting *m = context;
    const struct timespec pause = {0, 5000000}; /* from "came" to waiting in threads_run */
    (void)chunk, (void)thread;
    while (!atomic_load(&m->other_came))
        sched_yield();
    nanosleep(&pause, NULL);
}

static void note_first(void *context, int64_t chunk, int thread) {
    meeting *m = context;
    (void)chunk, (void)thread;
    m->first_order = atomic_fetch_add(&m->order, 1);
}

static void note_other(void *context, int64_t chunk, int thread) {
    meeting *m = context;
    (void)chunk, (void)thread;
    m->other_order = atomic_fetch_add(&m->order, 1);
}

static void *come(void *argument) {
    meeting *m = argument;
    atomic_store(&m->other_came, 1);
    return threads_run(m->threads, 1, note_other, m, NULL) == TROL_OK ? NULL : m;
}

static void test_order(void) {
    trol_error error = {0};
    meeting m = {0};
    pthread_t other;
    int in_order = 0;
    CHECK_OK(trol_threads_new(2, &m.threads, &error), error);
    for (int i = 0; i < 20; i++) {
        atomic_store(&m.other_came, 0);
        CHECK(pthread_create(&other, NULL, come, &m) == 0, "a thread");
        bool ran = threads_run(m.threads, 1, wait_for_other, &m, NULL) == TROL_OK;
        ran &= threads_run(m.threads, 1, note_first, &m, NULL) == TROL_OK;
        pthread_join(other, NULL);
        CHECK(ran, "round %d", i);
        in_order += m.other_order < m.first_order;
    }
    CHECK(in_order >= 15, "%d of 20 callers were served in the order of arrival",
          in_order); /* on a busy machine, not all */
    trol_threads_free(m.threads);
}

static void count_own(void *context, int64_t chunk, int thread) {
    (void)chunk, (void)thread;
    atomic_fetch_add((atomic_int *)context, 1);
}

/* A long region pauses for a caller that wants the pool for itself, and continues afterwards. */
enum { LONG_REGION = 400 };

typedef struct long_region {
    trol_threads *threads;
    atomic_int counts[LONG_REGION], n_done;
} long_region;

static void take_long(void *context, int64_t chunk, int thread) {
    long_region *l = context;
    const struct timespec pause = {0, 1000000};
    (void)thread;
    nanosleep(&pause, NULL);
    atomic_fetch_add(&l->counts[chunk], 1);
    atomic_fetch_add(&l->n_done, 1);
}

static void *run_long(void *argument) {
    long_region *l = argument;
    return threads_run(l->threads, LONG_REGION, take_long, l, NULL) == TROL_OK ? NULL : l;
}

static void test_making_way(int n_threads) {
    trol_error error = {0};
    long_region l = {0};
    pthread_t other;
    void *failed;
    CHECK_OK(trol_threads_new(n_threads, &l.threads, &error), error);
    CHECK(pthread_create(&other, NULL, run_long, &l) == 0, "a thread");
    for (int i = 1; i <= 3; i++) {
        while (atomic_load(&l.n_done) < 10 * i)
            sched_yield();
        trol_threads_hold(l.threads);
        const int n_done = atomic_load(&l.n_done);
        CHECK(n_done < LONG_REGION, "the pool was only given once all of the region was done");
        atomic_int own = 0;
        CHECK(threads_run(l.threads, 20, count_own, &own, NULL) == TROL_OK && own == 20, "the holder's own region");
        CHECK(atomic_load(&l.n_done) == n_done, "the region went on while the pool was held");
        trol_threads_release(l.threads);
    }
    pthread_join(other, &failed);
    CHECK(!failed, "the long region");
    for (int i = 0; i < LONG_REGION; i++)
        CHECK(atomic_load(&l.counts[i]) == 1, "chunk %d was done %d times", i, atomic_load(&l.counts[i]));
    trol_threads_free(l.threads);
}

static void test_limits(void) {
    trol_error error = {0};
    trol_threads *threads;
    CHECK(trol_threads_new(-1, &threads, &error) == TROL_ERROR_ARGUMENT && !threads && strstr(error.message, "-1"),
          "%s", error.message);
    CHECK(trol_threads_new(257, &threads, &error) == TROL_ERROR_ARGUMENT && !threads && strstr(error.message, "257"),
          "%s", error.message);
    CHECK(trol_threads_new(1, NULL, &error) == TROL_ERROR_ARGUMENT, "no out-pointer");
    CHECK_OK(trol_threads_new(0, &threads, &error), error);
    CHECK(threads && threads_count(threads) >= 1, "one for each core");
    trol_threads_free(threads);
    trol_threads_free(NULL);
    for (int i = 0; i < 50; i++) { /* made and freed at once, before the workers have begun */
        CHECK_OK(trol_threads_new(4, &threads, &error), error);
        trol_threads_free(threads);
    }
}

int main(void) {
    const int counts[] = {1, 2, 3, 8};
    for (size_t i = 0; i < 4; i++)
        test_pool(counts[i]);
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        test_callers(n_threads);
        test_making_way(n_threads);
        test_float_mode(n_threads);
    }
    test_order();
#ifndef __SANITIZE_ADDRESS__ /* gcc 12's allocator lets a child inherit a lock that a worker held at the fork */
    test_fork(1);
    test_fork(2);
    test_fork(4);
#else
    (void)test_fork;
#endif
    test_fork_mutex();
    test_limits();
    return test_summary("test-threads");
}
