/* regex_threads.h - where a text so far has led to in patterns: threads through the nodes of regex_parser.h.
 *
 * A thread is one way of reading the text: the node that it has come to, the nodes of look-aheads that must match as
 * well, and those of look-aheads that must not. Threads are sets of nodes, each kept once, with a number. */
#ifndef ENGINE_REGEX_THREADS_H
#define ENGINE_REGEX_THREADS_H

#include "engine/regex_parser.h"

typedef struct regex_thread {
    uint32_t first, n; /* in elements[]: sorted nodes, those that must not match last */
} regex_thread;

/* Zeros at first but for p and error; free with regex_threads_free. */
typedef struct regex_threads {
    const regex_patterns *p; /* complete */
    regex_thread *threads;
    size_t n, capacity;
    uint32_t *elements;
    size_t n_elements, elements_capacity;
    uint32_t *slots; /* hash table of numbers + 1 */
    size_t n_slots;
    uint32_t *work; /* [n_work]: the threads gathered since regex_threads_begin, each once */
    size_t n_work, work_capacity;
    uint32_t *seen; /* [capacity of threads]: stamp */
    size_t seen_capacity;
    uint32_t stamp;
    uint32_t *made; /* elements of the thread being built */
    size_t n_made, made_capacity;
    uint32_t *waiting; /* nodes of a closure in progress */
    size_t n_waiting, waiting_capacity;
    uint32_t *node_seen, node_stamp; /* [n_nodes]: stamp */
    trol_error *error;
} regex_threads;

void regex_threads_free(regex_threads *t);

/* Starts gathering anew. */
void regex_threads_begin(regex_threads *t);
/* Each gathers a thread: that of one node; a known one; the one that a character leads to, where in[set] says whether
 * the set contains it. */
trol_status regex_threads_enter(regex_threads *t, uint32_t node);
trol_status regex_threads_visit(regex_threads *t, uint32_t thread);
trol_status regex_threads_step(regex_threads *t, uint32_t thread, const uint8_t *in);
/* Follows nodes that consume nothing (the epsilon closure); BEGIN only at the beginning, END only at the end. */
trol_status regex_threads_close(regex_threads *t, bool at_begin, bool at_end);

/* Whether a thread waits for a character or for the end. */
bool regex_thread_rests(const regex_threads *t, uint32_t thread);
/* Whether its pattern has matched, whatever follows; at the end, after regex_threads_close: whether it has. */
bool regex_thread_matched(const regex_threads *t, uint32_t thread);
/* A node of its pattern. */
uint32_t regex_thread_node(const regex_threads *t, uint32_t thread);

#endif
