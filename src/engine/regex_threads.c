/* regex_threads.c - steps and closures of threads; see regex_threads.h.
 *
 * What must match branches: each branch is a thread of its own. What must not match stays together: all the branches of
 * it are in one thread, and the thread is given up when one of them matches. */
#include "engine/regex_threads.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum { MAX_THREADS = 1 << 18, MAX_ELEMENTS = 1 << 22 };
#define MUST_NOT 0x80000000u /* marks an element that must not match */

void regex_threads_free(regex_threads *t) {
    memory_free(t->threads);
    memory_free(t->elements);
    memory_free(t->slots);
    memory_free(t->work);
    memory_free(t->seen);
    memory_free(t->made);
    memory_free(t->waiting);
    memory_free(t->node_seen);
}

/* ---- the table of threads -------------------------------------------------------------------- */

static int compare_numbers(const void *left, const void *right) {
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static size_t hash_elements(const uint32_t *elements, size_t n) {
    uint64_t hash = n;
    for (size_t i = 0; i < n; i++)
        hash = hash_word(hash, elements[i]);
    return (size_t)hash;
}

static trol_status grow_slots(regex_threads *t) {
    const size_t n = t->n_slots ? 2 * t->n_slots : 256;
    if (2 * (t->n + 1) <= t->n_slots)
        return TROL_OK;
    memory_free(t->slots);
    t->slots = NULL;
    TRY(memory_alloc_zero(n, sizeof *t->slots, "a pattern", (void **)&t->slots, t->error));
    t->n_slots = n;
    for (size_t i = 0; i < t->n; i++) {
        size_t place = hash_elements(t->elements + t->threads[i].first, t->threads[i].n) & (n - 1);
        while (t->slots[place])
            place = (place + 1) & (n - 1);
        t->slots[place] = (uint32_t)i + 1;
    }
    return TROL_OK;
}

static trol_status too_complex(const regex_threads *t) {
    return fail(t->error, TROL_ERROR_UNSUPPORTED, "the pattern \"%.200s\" is too complex", t->p->text);
}

/* The number of the thread in made[], whose elements are sorted here. */
static trol_status find_thread(regex_threads *t, uint32_t *thread) {
    size_t kept = 0;
    if (t->n_made > 1)
        qsort(t->made, t->n_made, sizeof *t->made, compare_numbers);
    for (size_t i = 0; i < t->n_made; i++)
        if (i == 0 || t->made[i] != t->made[kept - 1])
            t->made[kept++] = t->made[i];
    TRY(grow_slots(t));
    size_t place = hash_elements(t->made, kept) & (t->n_slots - 1);
    for (; t->slots[place]; place = (place + 1) & (t->n_slots - 1)) {
        const regex_thread *known = &t->threads[t->slots[place] - 1];
        if (known->n == kept && memcmp(t->elements + known->first, t->made, kept * sizeof *t->made) == 0) {
            *thread = t->slots[place] - 1;
            return TROL_OK;
        }
    }
    if (t->n == MAX_THREADS || t->n_elements + kept > MAX_ELEMENTS)
        return too_complex(t);
    TRY(memory_grow((void **)&t->threads, &t->capacity, t->n + 1, sizeof *t->threads, "a pattern", t->error));
    TRY(memory_grow((void **)&t->elements, &t->elements_capacity, t->n_elements + kept, sizeof *t->elements,
                    "a pattern", t->error));
    TRY(memory_grow((void **)&t->seen, &t->seen_capacity, t->n + 1, sizeof *t->seen, "a pattern", t->error));
    memcpy(t->elements + t->n_elements, t->made, kept * sizeof *t->made);
    t->threads[t->n] = (regex_thread){(uint32_t)t->n_elements, (uint32_t)kept};
    t->seen[t->n] = 0;
    t->n_elements += kept;
    *thread = (uint32_t)t->n++;
    t->slots[place] = *thread + 1;
    return TROL_OK;
}

static trol_status add_element(regex_threads *t, uint32_t element) {
    TRY(memory_grow((void **)&t->made, &t->made_capacity, t->n_made + 1, sizeof *t->made, "a pattern", t->error));
    t->made[t->n_made++] = element;
    return TROL_OK;
}

static regex_node node_of(const regex_threads *t, uint32_t element) { return t->p->nodes[element & ~MUST_NOT]; }

/* ---- gathering ------------------------------------------------------------------------------- */

void regex_threads_begin(regex_threads *t) {
    t->n_work = 0;
    t->stamp++;
}

trol_status regex_threads_visit(regex_threads *t, uint32_t thread) {
    if (t->seen[thread] == t->stamp)
        return TROL_OK;
    t->seen[thread] = t->stamp;
    TRY(memory_grow((void **)&t->work, &t->work_capacity, t->n_work + 1, sizeof *t->work, "a pattern", t->error));
    t->work[t->n_work++] = thread;
    return TROL_OK;
}

static trol_status visit_made(regex_threads *t) {
    uint32_t thread;
    TRY(find_thread(t, &thread));
    return regex_threads_visit(t, thread);
}

trol_status regex_threads_enter(regex_threads *t, uint32_t node) {
    t->n_made = 0;
    TRY(add_element(t, node));
    return visit_made(t);
}

/* Adds to made[] what must not match from waiting[] on; *matched if it does. */
static trol_status close_refused(regex_threads *t, bool at_begin, bool at_end, bool *matched) {
    if (!t->node_seen)
        TRY(memory_alloc_zero(t->p->n_nodes, sizeof *t->node_seen, "a pattern", (void **)&t->node_seen, t->error));
    t->node_stamp++;
    *matched = false;
    while (t->n_waiting > 0) {
        const uint32_t at = t->waiting[--t->n_waiting];
        const regex_node node = t->p->nodes[at];
        if (t->node_seen[at] == t->node_stamp)
            continue;
        t->node_seen[at] = t->node_stamp;
        *matched = *matched || node.kind == NODE_LOOKED;
        if (!at_end && (node.kind == NODE_SET || node.kind == NODE_END))
            TRY(add_element(t, at | MUST_NOT));
        TRY(memory_grow((void **)&t->waiting, &t->waiting_capacity, t->n_waiting + 2, sizeof *t->waiting, "a pattern",
                        t->error));
        if (node.kind == NODE_SPLIT || (node.kind == NODE_BEGIN && at_begin) || (node.kind == NODE_END && at_end))
            t->waiting[t->n_waiting++] = node.next;
        if (node.kind == NODE_SPLIT)
            t->waiting[t->n_waiting++] = node.other;
    }
    return TROL_OK;
}

static trol_status refuse(regex_threads *t, uint32_t node) {
    TRY(memory_grow((void **)&t->waiting, &t->waiting_capacity, t->n_waiting + 1, sizeof *t->waiting, "a pattern",
                    t->error));
    t->waiting[t->n_waiting++] = node;
    return TROL_OK;
}

trol_status regex_threads_step(regex_threads *t, uint32_t thread, const uint8_t *in) {
    const regex_thread from = t->threads[thread];
    bool matched;
    t->n_made = t->n_waiting = 0;
    for (uint32_t i = 0; i < from.n; i++) {
        const uint32_t element = t->elements[from.first + i];
        const regex_node node = node_of(t, element);
        const bool goes = node.kind == NODE_SET && in[node.other];
        if (node.kind == NODE_MATCHED)
            TRY(add_element(t, element));
        else if (element & MUST_NOT && goes)
            TRY(refuse(t, node.next));
        else if (!(element & MUST_NOT) && !goes)
            return TROL_OK;
        else if (goes)
            TRY(add_element(t, node.next));
    }
    TRY(close_refused(t, false, false, &matched));
    return matched ? TROL_OK : visit_made(t);
}

/* ---- closure --------------------------------------------------------------------------------- */

static bool waits(regex_node_kind kind) { return kind == NODE_SET || kind == NODE_END || kind == NODE_MATCHED; }

/* The index of an element that consumes nothing; n if all wait. */
static uint32_t first_moving(const regex_threads *t, const regex_thread *thread, bool at_end) {
    uint32_t i = 0;
    while (i < thread->n) {
        const uint32_t element = t->elements[thread->first + i];
        const regex_node_kind kind = node_of(t, element).kind;
        if (!waits(kind) || (at_end && (kind == NODE_END || element & MUST_NOT)))
            break;
        i++;
    }
    return i;
}

/* made[] becomes the thread without element i; at the end, also without those that must not match. */
static trol_status without(regex_threads *t, const regex_thread *thread, uint32_t i, bool at_end) {
    t->n_made = t->n_waiting = 0;
    for (uint32_t j = 0; j < thread->n; j++) {
        const uint32_t element = t->elements[thread->first + j];
        if (element & MUST_NOT && at_end)
            TRY(refuse(t, element & ~MUST_NOT));
        else if (j != i)
            TRY(add_element(t, element));
    }
    return TROL_OK;
}

/* The threads that follow when element i moves. */
static trol_status move(regex_threads *t, const regex_thread *thread, uint32_t i, bool at_begin, bool at_end) {
    const uint32_t element = t->elements[thread->first + i];
    const regex_node node = node_of(t, element);
    bool matched;
    TRY(without(t, thread, i, at_end));
    if (node.kind == NODE_BEGIN && !at_begin)
        return TROL_OK;
    if (!(element & MUST_NOT)) {
        if (node.kind != NODE_LOOKED)
            TRY(add_element(t, node.next));
        if (node.kind == NODE_LOOK)
            TRY(add_element(t, node.other));
        if (node.kind == NODE_LOOK_NOT)
            TRY(refuse(t, node.other));
    }
    TRY(close_refused(t, at_begin, at_end, &matched));
    if (matched)
        return TROL_OK;
    TRY(visit_made(t));
    if (node.kind != NODE_SPLIT)
        return TROL_OK;
    TRY(without(t, thread, i, at_end));
    TRY(add_element(t, node.other));
    t->n_waiting = 0; /* found not to match just now */
    return visit_made(t);
}

trol_status regex_threads_close(regex_threads *t, bool at_begin, bool at_end) {
    for (size_t i = 0; i < t->n_work; i++) {
        const regex_thread thread = t->threads[t->work[i]];
        const uint32_t moving = first_moving(t, &thread, at_end);
        if (moving < thread.n)
            TRY(move(t, &thread, moving, at_begin, at_end));
    }
    return TROL_OK;
}

bool regex_thread_rests(const regex_threads *t, uint32_t thread) {
    return first_moving(t, &t->threads[thread], false) == t->threads[thread].n;
}

bool regex_thread_matched(const regex_threads *t, uint32_t thread) {
    const regex_thread *own = &t->threads[thread];
    return own->n == 1 && node_of(t, t->elements[own->first]).kind == NODE_MATCHED;
}

uint32_t regex_thread_node(const regex_threads *t, uint32_t thread) { return t->elements[t->threads[thread].first]; }
