/* fork_mutex.h - a mutex that a child of fork can lock, even where another thread of the parent, which the child does
 * not have, held it at the time of the fork. */
#ifndef BASE_FORK_MUTEX_H
#define BASE_FORK_MUTEX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct fork_mutex {
    pthread_mutex_t mutex;
    atomic_long process; /* whose threads lock it; negative: of the child that is about to take it over */
} fork_mutex;

void fork_mutex_init(fork_mutex *m);
void fork_mutex_destroy(fork_mutex *m);

/* Locks in any case. False, once in a child: the parent's other thread held it at the time of the fork, and what it
 * guards may be half changed. */
bool fork_mutex_lock(fork_mutex *m);
void fork_mutex_unlock(fork_mutex *m);

#endif
