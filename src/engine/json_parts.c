/* json_parts.c - strings, numbers and white space of JSON as automata. */
#include "engine/json_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

void json_parts_free(json_parts *parts) { code_point_rules_free(&parts->characters); }

/* ---- white space ----------------------------------------------------------------------------- */

static trol_status add_up_to(grammar *g, uint32_t from, uint32_t to, char c, int most, trol_error *error) {
    for (int i = 0; i < most; i++) {
        uint32_t next;
        TRY(grammar_add_state(g, &next, error));
        TRY(grammar_add_range(g, from, next, (uint8_t)c, (uint8_t)c, error));
        TRY(grammar_add_empty(g, next, to, error));
        from = next;
    }
    return TROL_OK;
}

trol_status json_add_space(json_parts *parts, uint32_t from, uint32_t to, trol_error *error) {
    enum { MAX_SPACES = 64, MAX_TABS = 16 };
    grammar *g = parts->g;
    if (!parts->space) {
        uint32_t rule, line;
        TRY(grammar_add_rule(g, &rule, error));
        const uint32_t start = g->rules[rule].start, end = g->rules[rule].end;
        TRY(grammar_add_state(g, &line, error));
        TRY(grammar_add_empty(g, start, end, error));
        TRY(grammar_add_range(g, start, end, ' ', ' ', error));
        TRY(grammar_add_range(g, start, line, '\n', '\n', error));
        TRY(grammar_add_empty(g, line, end, error));
        TRY(add_up_to(g, line, end, ' ', MAX_SPACES, error));
        TRY(add_up_to(g, line, end, '\t', MAX_TABS, error));
        parts->space = rule + 1;
    }
    return grammar_add_call(g, from, to, parts->space - 1, error);
}

/* ---- strings --------------------------------------------------------------------------------- */

static trol_status add_character(json_parts *parts, uint32_t from, uint32_t to, uint32_t character, trol_error *error) {
    code_range range = {character, character};
    const code_points single = {&range, 1, 1};
    return grammar_add_json_characters(parts->g, &parts->characters, from, to, &single, error);
}

trol_status json_add_literal(json_parts *parts, uint32_t from, uint32_t to, const char *text, trol_error *error) {
    const size_t n_bytes = strlen(text);
    uint32_t next, character;
    TRY(grammar_add_state(parts->g, &next, error));
    TRY(grammar_add_range(parts->g, from, next, '"', '"', error));
    for (size_t i = 0, n; i < n_bytes; i += n) {
        from = next;
        n = utf8_decode(text + i, n_bytes - i, &character);
        if (n == 0)
            return fail(error, TROL_ERROR_FORMAT, "a string is not valid UTF-8");
        TRY(grammar_add_state(parts->g, &next, error));
        TRY(add_character(parts, from, next, character, error));
    }
    return grammar_add_range(parts->g, next, to, '"', '"', error);
}

trol_status json_add_any_string(json_parts *parts, uint32_t from, uint32_t to, trol_error *error) {
    grammar *g = parts->g;
    if (!parts->string) {
        uint32_t rule, loop;
        code_points any = {0};
        TRY(grammar_add_rule(g, &rule, error));
        TRY(grammar_add_state(g, &loop, error));
        TRY(grammar_add_range(g, g->rules[rule].start, loop, '"', '"', error));
        TRY(grammar_add_range(g, loop, g->rules[rule].end, '"', '"', error));
        trol_status status = code_points_invert(&any, error);
        if (status == TROL_OK)
            status = grammar_add_json_characters(g, &parts->characters, loop, loop, &any, error);
        code_points_free(&any);
        TRY(status);
        parts->string = rule + 1;
    }
    return grammar_add_call(g, from, to, parts->string - 1, error);
}

trol_status json_add_string(json_parts *parts, uint32_t from, uint32_t to, const text_automaton *a, trol_error *error) {
    grammar *g = parts->g;
    const uint32_t first = (uint32_t)g->n_states;
    for (size_t i = 0; i < a->n_states; i++) {
        uint32_t state;
        TRY(grammar_add_state(g, &state, error));
    }
    TRY(grammar_add_range(g, from, first, '"', '"', error));
    for (size_t i = 0; i < a->n_states; i++) {
        const text_state *s = &a->states[i];
        const uint32_t here = first + (uint32_t)i;
        if (s->accepts)
            TRY(grammar_add_range(g, here, to, '"', '"', error));
        for (uint32_t arc = s->first_arc; arc < s->first_arc + s->n_arcs; arc++)
            TRY(grammar_add_json_characters(g, &parts->characters, here, first + a->arcs[arc].target,
                                            &a->sets[a->arcs[arc].set], error));
    }
    return TROL_OK;
}

/* ---- numbers --------------------------------------------------------------------------------- */

enum { DIGITS_BEFORE = 18, DIGITS_AFTER = 20, DIGITS = DIGITS_BEFORE + DIGITS_AFTER };

static trol_status add_digits(grammar *g, uint32_t from, uint32_t to, int most, trol_error *error) {
    for (int i = 0; i < most; i++) {
        uint32_t next;
        TRY(grammar_add_state(g, &next, error));
        TRY(grammar_add_range(g, from, next, '0', '9', error));
        TRY(grammar_add_empty(g, next, to, error));
        from = next;
    }
    return TROL_OK;
}

/* e, a sign, and an exponent that keeps a number of 18 digits finite: 0 to 289; down to -308. */
static trol_status add_exponent(grammar *g, uint32_t from, uint32_t to, trol_error *error) {
    byte_set e = {{0}};
    uint32_t sign, up, down, first, second;
    byte_set_add(&e, 'e', 'e');
    byte_set_add(&e, 'E', 'E');
    TRY(grammar_add_state(g, &sign, error));
    TRY(grammar_add_state(g, &up, error));
    TRY(grammar_add_state(g, &down, error));
    TRY(grammar_add_set(g, from, sign, &e, error));
    TRY(grammar_add_empty(g, sign, up, error));
    TRY(grammar_add_range(g, sign, up, '+', '+', error));
    TRY(grammar_add_range(g, sign, down, '-', '-', error));
    TRY(add_digits(g, up, to, 2, error));
    TRY(add_digits(g, down, to, 2, error));
    TRY(grammar_add_state(g, &first, error));
    TRY(grammar_add_state(g, &second, error));
    TRY(grammar_add_range(g, down, first, '1', '2', error));
    TRY(grammar_add_range(g, up, first, '1', '1', error));
    TRY(grammar_add_range(g, first, second, '0', '9', error));
    TRY(grammar_add_range(g, second, to, '0', '9', error));
    TRY(grammar_add_state(g, &first, error));
    TRY(grammar_add_state(g, &second, error));
    TRY(grammar_add_range(g, up, first, '2', '2', error));
    TRY(grammar_add_range(g, first, second, '0', '8', error));
    return grammar_add_range(g, second, to, '0', '9', error);
}

/* A number in any notation. */
static trol_status add_plain_number(grammar *g, uint32_t from, uint32_t to, bool negative, bool fraction,
                                    trol_error *error) {
    uint32_t whole, after, point;
    TRY(grammar_add_state(g, &whole, error));
    TRY(grammar_add_state(g, &after, error));
    TRY(grammar_add_empty(g, from, whole, error));
    if (negative)
        TRY(grammar_add_range(g, from, whole, '-', '-', error));
    TRY(grammar_add_range(g, whole, after, '0', '0', error));
    TRY(grammar_add_state(g, &point, error));
    TRY(grammar_add_range(g, whole, point, '1', '9', error));
    TRY(grammar_add_empty(g, point, after, error));
    TRY(add_digits(g, point, after, DIGITS_BEFORE - 1, error));
    TRY(grammar_add_empty(g, after, to, error));
    if (!fraction)
        return TROL_OK;
    uint32_t digits, done;
    TRY(grammar_add_state(g, &digits, error));
    TRY(grammar_add_state(g, &done, error));
    TRY(grammar_add_range(g, after, digits, '.', '.', error));
    TRY(add_digits(g, digits, done, DIGITS_AFTER, error));
    TRY(grammar_add_empty(g, done, to, error));
    TRY(add_exponent(g, done, to, error));
    return add_exponent(g, after, to, error);
}

/* Magnitudes from low to high as digits: what comes before the point, then what comes after it. A state is a place,
 * whether the digits so far are low's or high's, and the remainder by multiple_of; made when it is reached. */
typedef struct magnitudes {
    grammar *g;
    uint8_t low[DIGITS], high[DIGITS];
    int n_places; /* DIGITS_BEFORE, or up to DIGITS with a fraction */
    uint32_t to;
    uint32_t multiple;
    int multiple_places; /* after the point, that the remainder counts */
    uint32_t *states;    /* [n_places + 1, 2, 2, multiple]: 0: not made yet */
    uint32_t *queue;     /* indices of new states, to be continued from */
    size_t n_queue, queue_capacity;
} magnitudes;

static trol_status find_place(magnitudes *m, int place, bool low, bool high, uint32_t remainder, uint32_t *state,
                              trol_error *error) {
    const size_t index = ((size_t)place * 4 + 2 * low + high) * m->multiple + remainder;
    if (!m->states[index]) {
        TRY(grammar_add_state(m->g, &m->states[index], error));
        TRY(memory_grow((void **)&m->queue, &m->queue_capacity, m->n_queue + 1, sizeof *m->queue, "a number", error));
        m->queue[m->n_queue++] = (uint32_t)index;
    }
    *state = m->states[index];
    return TROL_OK;
}

static bool is_zero(const uint8_t *digits, int first, int end) {
    while (first < end && digits[first] == 0)
        first++;
    return first >= end;
}

/* The digits that may stand at a place, one edge each. */
static trol_status add_places(magnitudes *m, uint32_t from, int place, bool low, bool high, uint32_t remainder,
                              unsigned smallest, trol_error *error) {
    unsigned first = low ? m->low[place] : 0, last = high ? m->high[place] : 9;
    first = first < smallest ? smallest : first;
    for (unsigned digit = first; digit <= last && digit <= 9; digit++) {
        uint32_t next;
        TRY(find_place(m, place + 1, low && digit == m->low[place], high && digit == m->high[place],
                       (10 * remainder + digit) % m->multiple, &next, error));
        TRY(grammar_add_range(m->g, from, next, '0' + digit, '0' + digit, error));
    }
    return TROL_OK;
}

/* Whether what comes after a place, all zeros, makes a multiple. */
static bool divides(const magnitudes *m, int place, uint32_t remainder) {
    uint64_t rest = remainder;
    for (int i = place; i < DIGITS_BEFORE + m->multiple_places; i++)
        rest = 10 * rest % m->multiple;
    return rest == 0;
}

static trol_status expand_place(magnitudes *m, uint32_t index, trol_error *error) {
    const uint32_t state = m->states[index], remainder = index % m->multiple;
    const int place = (int)(index / m->multiple / 4);
    const bool low = index / m->multiple / 2 % 2, high = index / m->multiple % 2;
    const bool may_end =
        place >= DIGITS_BEFORE && divides(m, place, remainder) && (!low || is_zero(m->low, place, m->n_places));
    if (may_end)
        TRY(grammar_add_empty(m->g, state, m->to, error));
    if (place == m->n_places)
        return TROL_OK;
    uint32_t from = state;
    if (place == DIGITS_BEFORE) {
        TRY(grammar_add_state(m->g, &from, error));
        TRY(grammar_add_range(m->g, state, from, '.', '.', error));
    }
    return add_places(m, from, place, low, high, remainder, 0, error);
}

static trol_status add_magnitudes(magnitudes *m, uint32_t from, trol_error *error) {
    trol_status status = memory_alloc_zero((size_t)(m->n_places + 1) * 4 * m->multiple, sizeof *m->states, "a number",
                                           (void **)&m->states, error);
    for (int first = DIGITS_BEFORE - 1; first >= 0 && status == TROL_OK; first--) { /* by the number of digits */
        const bool single = first == DIGITS_BEFORE - 1;
        if (is_zero(m->low, 0, first))
            status = add_places(m, from, first, true, is_zero(m->high, 0, first), 0, single ? 0 : 1, error);
    }
    for (size_t i = 0; i < m->n_queue && status == TROL_OK; i++)
        status = expand_place(m, m->queue[i], error);
    memory_free(m->states);
    memory_free(m->queue);
    return status;
}

/* The digits of x >= 0, which is below 1e18; of what has more than 20 places after the point, the next larger or
 * smaller one that has not. */
static void to_digits(double x, bool up, uint8_t *digits) {
    char text[40];
    bool more = false;
    int precision = 15;
    do
        snprintf(text, sizeof text, "%.*e", precision - 1, x);
    while (strtod(text, NULL) != x && precision++ < 17);
    const int exponent = atoi(strchr(text, 'e') + 1);
    memset(digits, 0, DIGITS);
    int place = DIGITS_BEFORE - 1 - exponent;
    for (const char *c = text; *c != 'e'; c++) {
        if (*c < '0' || *c > '9')
            continue;
        if (place >= 0 && place < DIGITS)
            digits[place] = (uint8_t)(*c - '0');
        else
            more = more || *c != '0';
        place++;
    }
    for (int i = DIGITS - 1; more && up && i >= 0; i--) {
        more = digits[i] == 9;
        digits[i] = (uint8_t)((digits[i] + 1) % 10);
    }
}

/* One sign's part of a range: magnitudes from `low` to `high`. */
static trol_status add_part(json_parts *parts, uint32_t from, uint32_t to, double low, double high,
                            const number_range *range, trol_error *error) {
    magnitudes m = {
        .g = parts->g, .to = to, .multiple = (uint32_t)range->multiple_of, .multiple_places = range->multiple_places};
    m.n_places = range->integer ? DIGITS_BEFORE : range->multiple_any ? DIGITS : DIGITS_BEFORE + range->multiple_places;
    to_digits(low, true, m.low);
    to_digits(high, false, m.high);
    if (high > 999999999999999999.0 || high >= 1e18)
        memset(m.high, 9, sizeof m.high);
    /* What comes after the last place that is written counts for the bounds alone. */
    memset(m.high + m.n_places, 0, (size_t)(DIGITS - m.n_places));
    if (!is_zero(m.low, m.n_places, DIGITS))
        for (int i = m.n_places - 1, carry = 1; carry && i >= 0; i--) {
            carry = m.low[i] == 9;
            m.low[i] = (uint8_t)((m.low[i] + 1) % 10);
        }
    memset(m.low + m.n_places, 0, (size_t)(DIGITS - m.n_places));
    return memcmp(m.low, m.high, sizeof m.low) <= 0 ? add_magnitudes(&m, from, error) : TROL_OK;
}

trol_status json_add_number(json_parts *parts, uint32_t from, uint32_t to, const number_range *range,
                            trol_error *error) {
    grammar *g = parts->g;
    const bool free_above = range->largest == (double)INFINITY, free_below = range->smallest == -(double)INFINITY;
    if (free_above && (range->multiple_any || (range->integer && range->multiple_of == 1)) &&
        (free_below || range->smallest == 0))
        return add_plain_number(g, from, to, free_below, !range->integer, error);
    if (range->smallest > range->largest)
        return TROL_OK;
    if (range->smallest >= 1e18 || range->largest <= -1e18)
        return fail(error, TROL_ERROR_UNSUPPORTED, "numbers of more than 18 digits are not supported");
    if (range->largest >= 0) {
        const double low = range->smallest > 0 ? range->smallest : 0;
        TRY(add_part(parts, from, to, low, fmin(range->largest, 1e18), range, error));
    }
    if (range->smallest < 0) {
        uint32_t minus;
        const double low = range->largest < 0 ? -range->largest : (range->integer ? 1 : 1e-20);
        TRY(grammar_add_state(g, &minus, error));
        TRY(grammar_add_range(g, from, minus, '-', '-', error));
        TRY(add_part(parts, minus, to, low, fmin(-range->smallest, 1e18), range, error));
    }
    return TROL_OK;
}
