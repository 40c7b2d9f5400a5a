/* regex_subsets.c - classes of characters, and subsets of threads as states; see regex_subsets.h. */
#include "engine/regex_subsets.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum { MAX_SUBSETS = 1 << 16, MAX_MEMBERS = 1 << 24 };
#define NOT_ASKED (UINT32_MAX - 1)

/* ---- classes of characters ------------------------------------------------------------------- */

static int compare_numbers(const void *left, const void *right) {
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static trol_status find_boundaries(const regex_patterns *p, uint32_t **boundaries, size_t *n, trol_error *error) {
    size_t count = 3;
    for (size_t i = 0; i < p->n_sets; i++)
        count += 2 * p->sets[i].n;
    TRY(memory_alloc(count, sizeof **boundaries, "a pattern", (void **)boundaries, error));
    (*boundaries)[0] = 0;
    (*boundaries)[1] = 0xd800;
    (*boundaries)[2] = 0xe000;
    *n = 3;
    for (size_t i = 0; i < p->n_sets; i++)
        for (size_t j = 0; j < p->sets[i].n; j++) {
            (*boundaries)[(*n)++] = p->sets[i].ranges[j].first;
            (*boundaries)[(*n)++] = p->sets[i].ranges[j].last + 1;
        }
    qsort(*boundaries, *n, sizeof **boundaries, compare_numbers);
    return TROL_OK;
}

static trol_status add_to_class(regex_subsets *s, uint32_t first, uint32_t last) {
    const size_t width = s->p.n_sets;
    TRY(memory_grow((void **)&s->in, &s->in_capacity, (s->n_classes + 1) * width + 1, 1, "a pattern", s->error));
    uint8_t *in = s->in + s->n_classes * width;
    for (size_t i = 0; i < width; i++)
        in[i] = code_points_has(&s->p.sets[i], first);
    size_t class = 0;
    while (class < s->n_classes && width > 0 && memcmp(s->in + class * width, in, width) != 0)
        class ++;
    if (class == s->n_classes) {
        TRY(memory_grow((void **)&s->classes, &s->classes_capacity, s->n_classes + 1, sizeof *s->classes, "a pattern",
                        s->error));
        s->classes[s->n_classes++] = (code_points){0};
    }
    return code_points_add(&s->classes[class], first, last, s->error);
}

static trol_status find_classes(regex_subsets *s) {
    uint32_t *boundaries = NULL;
    size_t n;
    trol_status status;
    TRY_GOTO(find_boundaries(&s->p, &boundaries, &n, s->error), done);
    for (size_t i = 0; i < n; i++) {
        const uint32_t first = boundaries[i], end = i + 1 < n ? boundaries[i + 1] : CODE_POINT_LAST + 1;
        if (first < end && first != 0xd800 && first <= CODE_POINT_LAST)
            TRY_GOTO(add_to_class(s, first, end - 1), done);
    }
    for (size_t i = 0; i < s->n_classes; i++)
        TRY_GOTO(code_points_normalize(&s->classes[i], s->error), done);
done:
    memory_free(boundaries);
    return status;
}

/* ---- subsets --------------------------------------------------------------------------------- */

/* The nodes of pattern i are those from its first up to the next one's. */
static size_t pattern_of(const regex_subsets *s, uint32_t thread) {
    const uint32_t node = regex_thread_node(&s->threads, thread);
    size_t pattern = 0;
    while (pattern + 1 < s->n_patterns && node >= s->p.starts[pattern + 1])
        pattern++;
    return pattern;
}

/* The thread in work that has matched a pattern; NO_NODE if none. */
static uint32_t find_matched(const regex_subsets *s, size_t pattern) {
    const regex_threads *t = &s->threads;
    for (size_t i = 0; i < t->n_work; i++)
        if (regex_thread_matched(t, t->work[i]) && pattern_of(s, t->work[i]) == pattern)
            return t->work[i];
    return NO_NODE;
}

static trol_status check_accepts(regex_subsets *s, regex_subset *made, bool at_begin) {
    regex_threads *t = &s->threads;
    regex_threads_begin(t);
    for (uint32_t i = 0; i < made->n; i++)
        TRY(regex_threads_visit(t, s->members[made->first + i]));
    TRY(regex_threads_close(t, at_begin, true));
    made->accepts = true;
    for (size_t pattern = 0; pattern < s->n_patterns; pattern++)
        made->accepts = made->accepts && (find_matched(s, pattern) != NO_NODE) == (pattern < s->n_required);
    return TROL_OK;
}

/* Keeps those of the gathered threads that wait for a character or the end; of a pattern that has matched, the matched
 * thread alone. *dead: a pattern can no longer match, or one has matched that must not. */
static trol_status settle_members(regex_subsets *s, regex_subset *made, bool *dead) {
    const regex_threads *t = &s->threads;
    size_t kept = 0;
    *dead = false;
    for (size_t pattern = 0; pattern < s->n_patterns; pattern++) {
        const bool required = pattern < s->n_required;
        const size_t before = kept;
        const uint32_t matched = find_matched(s, pattern);
        for (size_t i = 0; i < t->n_work; i++) {
            if (pattern_of(s, t->work[i]) != pattern || !regex_thread_rests(t, t->work[i]) ||
                (matched != NO_NODE && t->work[i] != matched))
                continue;
            if (s->n_members + kept >= MAX_MEMBERS)
                return fail(s->error, TROL_ERROR_UNSUPPORTED, "the pattern \"%.200s\" is too complex", s->p.text);
            TRY(memory_grow((void **)&s->members, &s->members_capacity, s->n_members + kept + 1, sizeof *s->members,
                            "a pattern", s->error));
            s->members[s->n_members + kept++] = t->work[i];
        }
        *dead = *dead || (required ? kept == before : matched != NO_NODE);
    }
    *made = (regex_subset){(uint32_t)s->n_members, (uint32_t)kept, false};
    if (kept > 1)
        qsort(s->members + made->first, kept, sizeof *s->members, compare_numbers);
    return TROL_OK;
}

static size_t hash_subset(const regex_subsets *s, const regex_subset *subset) {
    uint64_t hash = subset->n;
    for (uint32_t i = 0; i < subset->n; i++)
        hash = hash_word(hash, s->members[subset->first + i]);
    return (size_t)hash;
}

static trol_status grow_slots(regex_subsets *s) {
    const size_t n = s->n_slots ? 2 * s->n_slots : 256;
    if (2 * (s->n + 1) <= s->n_slots)
        return TROL_OK;
    memory_free(s->slots);
    s->slots = NULL;
    TRY(memory_alloc_zero(n, sizeof *s->slots, "a pattern", (void **)&s->slots, s->error));
    s->n_slots = n;
    for (size_t i = REGEX_START + 1; i < s->n; i++) {
        size_t place = hash_subset(s, &s->subsets[i]) & (n - 1);
        while (s->slots[place])
            place = (place + 1) & (n - 1);
        s->slots[place] = (uint32_t)i + 1;
    }
    return TROL_OK;
}

static trol_status add_subset(regex_subsets *s, regex_subset made, bool at_begin, uint32_t *number) {
    if (s->n == MAX_SUBSETS)
        return fail(s->error, TROL_ERROR_UNSUPPORTED, "the pattern \"%.200s\" is too complex", s->p.text);
    TRY(memory_grow((void **)&s->subsets, &s->capacity, s->n + 1, sizeof *s->subsets, "a pattern", s->error));
    TRY(memory_grow((void **)&s->steps, &s->steps_capacity, (s->n + 1) * s->n_classes, sizeof *s->steps, "a pattern",
                    s->error));
    s->n_members += made.n;
    TRY(check_accepts(s, &made, at_begin));
    for (size_t class = 0; class < s->n_classes; class ++)
        s->steps[s->n * s->n_classes + class] = NOT_ASKED;
    *number = (uint32_t)s->n;
    s->subsets[s->n++] = made;
    return TROL_OK;
}

/* The number of the subset whose members are at the end of members[]. */
static trol_status find_subset(regex_subsets *s, const regex_subset *made, uint32_t *number) {
    TRY(grow_slots(s));
    size_t place = hash_subset(s, made) & (s->n_slots - 1);
    for (; s->slots[place]; place = (place + 1) & (s->n_slots - 1)) {
        const regex_subset *known = &s->subsets[s->slots[place] - 1];
        if (known->n == made->n && (made->n == 0 || memcmp(s->members + known->first, s->members + made->first,
                                                           made->n * sizeof *s->members) == 0)) {
            *number = s->slots[place] - 1;
            return TROL_OK;
        }
    }
    TRY(add_subset(s, *made, false, number));
    s->slots[place] = *number + 1;
    return TROL_OK;
}

trol_status regex_subsets_step(regex_subsets *s, uint32_t subset, size_t class, uint32_t *next) {
    const regex_subset from = s->subsets[subset];
    regex_subset made;
    bool dead;
    *next = s->steps[subset * s->n_classes + class];
    if (*next != NOT_ASKED)
        return TROL_OK;
    regex_threads_begin(&s->threads);
    for (uint32_t i = 0; i < from.n; i++)
        TRY(regex_threads_step(&s->threads, s->members[from.first + i], s->in + class * s->p.n_sets));
    TRY(regex_threads_close(&s->threads, false, false));
    TRY(settle_members(s, &made, &dead));
    *next = REGEX_DEAD;
    if (!dead)
        TRY(find_subset(s, &made, next));
    s->steps[subset * s->n_classes + class] = *next;
    return TROL_OK;
}

/* All patterns' nodes, and the threads that begin them. */
static trol_status add_patterns(regex_subsets *s, const char *const *required, const char *const *refused) {
    uint32_t *begins;
    trol_status status = TROL_OK;
    s->p.text = "";
    s->threads.p = &s->p;
    TRY(memory_alloc(s->n_patterns + 1, sizeof *s->p.starts, "a pattern", (void **)&s->p.starts, s->error));
    TRY(memory_alloc(s->n_patterns + 1, sizeof *begins, "a pattern", (void **)&begins, s->error));
    for (size_t i = 0; i < s->n_patterns && status == TROL_OK; i++) {
        s->p.starts[i] = (uint32_t)s->p.n_nodes;
        status = regex_add_pattern(&s->p, i < s->n_required ? required[i] : refused[i - s->n_required], &begins[i]);
    }
    regex_threads_begin(&s->threads);
    for (size_t i = 0; i < s->n_patterns && status == TROL_OK; i++)
        status = regex_threads_enter(&s->threads, begins[i]);
    memory_free(begins);
    return status;
}

trol_status regex_subsets_start(regex_subsets *s, const char *const *required, size_t n_required,
                                const char *const *refused, size_t n_refused) {
    regex_subset start;
    uint32_t number;
    bool dead;
    s->n_patterns = n_required + n_refused;
    s->n_required = n_required;
    TRY(add_patterns(s, required, refused));
    TRY(find_classes(s));
    TRY(regex_threads_close(&s->threads, true, false));
    TRY(settle_members(s, &start, &dead));
    TRY(add_subset(s, start, true, &number));
    if (!dead)
        return TROL_OK;
    s->subsets[number].accepts = false;
    for (size_t class = 0; class < s->n_classes; class ++)
        s->steps[class] = REGEX_DEAD;
    return TROL_OK;
}

void regex_subsets_free(regex_subsets *s) {
    for (size_t i = 0; i < s->p.n_sets; i++)
        code_points_free(&s->p.sets[i]);
    for (size_t i = 0; i < s->n_classes; i++)
        code_points_free(&s->classes[i]);
    regex_threads_free(&s->threads);
    memory_free(s->p.sets);
    memory_free(s->p.nodes);
    memory_free(s->p.starts);
    memory_free(s->classes);
    memory_free(s->in);
    memory_free(s->subsets);
    memory_free(s->members);
    memory_free(s->steps);
    memory_free(s->slots);
}
