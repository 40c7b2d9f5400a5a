#include "base/fork_mutex.h"

#include <sched.h>
#include <unistd.h>

void fork_mutex_init(fork_mutex *m) {
    pthread_mutex_init(&m->mutex, NULL);
    atomic_init(&m->process, getpid());
}

void fork_mutex_destroy(fork_mutex *m) { pthread_mutex_destroy(&m->mutex); }

/* Called by one thread of a child. */
static bool take_over(fork_mutex *m) {
    const bool was_free = pthread_mutex_trylock(&m->mutex) == 0;
    if (!was_free) {
        pthread_mutex_init(&m->mutex, NULL);
        pthread_mutex_lock(&m->mutex);
    }
    return was_free;
}

bool fork_mutex_lock(fork_mutex *m) {
    const long self = getpid();
    long process;
    while ((process = atomic_load(&m->process)) != self) {
        if (process == -self) {
            sched_yield();
        } else if (atomic_compare_exchange_strong(&m->process, &process, -self)) {
            const bool whole = take_over(m);
            atomic_store(&m->process, self);
            return whole;
        }
    }
    pthread_mutex_lock(&m->mutex);
    return true;
}

void fork_mutex_unlock(fork_mutex *m) { pthread_mutex_unlock(&m->mutex); }
