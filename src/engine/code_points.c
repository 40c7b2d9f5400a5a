/* code_points.c - ranges of code points as ranges of digit strings: UTF-8 is a number in base 64 with marked digits,
 * \uXXXX one in base 16. */
#include "engine/code_points.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- sets ------------------------------------------------------------------------------------ */

trol_status code_points_add(code_points *set, uint32_t first, uint32_t last, trol_error *error) {
    TRY(memory_grow((void **)&set->ranges, &set->capacity, set->n + 1, sizeof *set->ranges, "a set of characters",
                    error));
    set->ranges[set->n++] = (code_range){first, last};
    return TROL_OK;
}

trol_status code_points_add_all(code_points *set, const code_points *added, trol_error *error) {
    for (size_t i = 0; i < added->n; i++)
        TRY(code_points_add(set, added->ranges[i].first, added->ranges[i].last, error));
    return TROL_OK;
}

static int compare_ranges(const void *left, const void *right) {
    const code_range *a = left, *b = right;
    return a->first < b->first ? -1 : a->first > b->first;
}

static void join_ranges(code_points *set) {
    size_t kept = 0;
    for (size_t i = 0; i < set->n; i++) {
        const code_range range = set->ranges[i];
        if (range.first > range.last)
            continue;
        if (kept > 0 && range.first <= set->ranges[kept - 1].last + 1) {
            if (range.last > set->ranges[kept - 1].last)
                set->ranges[kept - 1].last = range.last;
        } else {
            set->ranges[kept++] = range;
        }
    }
    set->n = kept;
}

trol_status code_points_normalize(code_points *set, trol_error *error) {
    const size_t n = set->n;
    for (size_t i = 0; i < n; i++) { /* a range across the surrogates becomes two */
        code_range *range = &set->ranges[i];
        if (range->last < 0xd800 || range->first > 0xdfff)
            continue;
        const uint32_t first = range->first, last = range->last;
        *range = first < 0xd800 ? (code_range){first, 0xd7ff} : (code_range){0xe000, last};
        if (first < 0xd800 && last > 0xdfff)
            TRY(code_points_add(set, 0xe000, last, error));
    }
    if (set->n > 1)
        qsort(set->ranges, set->n, sizeof *set->ranges, compare_ranges);
    join_ranges(set);
    return TROL_OK;
}

trol_status code_points_invert(code_points *set, trol_error *error) {
    code_points inverted = {0};
    trol_status status = TROL_OK;
    uint32_t next = 0;
    for (size_t i = 0; i < set->n; i++) {
        if (set->ranges[i].first > next)
            TRY_GOTO(code_points_add(&inverted, next, set->ranges[i].first - 1, error), done);
        next = set->ranges[i].last + 1;
    }
    if (next <= CODE_POINT_LAST)
        TRY_GOTO(code_points_add(&inverted, next, CODE_POINT_LAST, error), done);
    TRY_GOTO(code_points_normalize(&inverted, error), done);
    code_points_free(set);
    *set = inverted;
    return TROL_OK;
done:
    code_points_free(&inverted);
    return status;
}

trol_status code_points_intersect(const code_points *a, const code_points *b, code_points *common, trol_error *error) {
    for (size_t i = 0, j = 0; i < a->n && j < b->n;) {
        const code_range x = a->ranges[i], y = b->ranges[j];
        const uint32_t first = x.first > y.first ? x.first : y.first, last = x.last < y.last ? x.last : y.last;
        if (first <= last)
            TRY(code_points_add(common, first, last, error));
        if (x.last < y.last)
            i++;
        else
            j++;
    }
    return TROL_OK;
}

bool code_points_has(const code_points *set, uint32_t code_point) {
    for (size_t i = 0; i < set->n; i++)
        if (code_point >= set->ranges[i].first && code_point <= set->ranges[i].last)
            return true;
    return false;
}

void code_points_free(code_points *set) {
    memory_free(set->ranges);
    memset(set, 0, sizeof *set);
}

/* ---- ranges of digit strings ----------------------------------------------------------------- */

enum { MAX_DIGITS = 6 };

/* How a digit is written. */
typedef enum digit_kind {
    DIGIT_HEX,
    DIGIT_CONTINUATION,
    DIGIT_LEAD_2,
    DIGIT_LEAD_3,
    DIGIT_LEAD_4,
    DIGIT_HIGH_SURROGATE,
    DIGIT_LOW_SURROGATE
} digit_kind;

typedef struct digit_place {
    uint8_t base, kind;
} digit_place;

static const digit_place utf8_2[] = {{32, DIGIT_LEAD_2}, {64, DIGIT_CONTINUATION}};
static const digit_place utf8_3[] = {{16, DIGIT_LEAD_3}, {64, DIGIT_CONTINUATION}, {64, DIGIT_CONTINUATION}};
static const digit_place utf8_4[] = {
    {8, DIGIT_LEAD_4}, {64, DIGIT_CONTINUATION}, {64, DIGIT_CONTINUATION}, {64, DIGIT_CONTINUATION}};
static const digit_place hex_4[] = {{16, DIGIT_HEX}, {16, DIGIT_HEX}, {16, DIGIT_HEX}, {16, DIGIT_HEX}};
static const digit_place hex_pair[] = {{4, DIGIT_HIGH_SURROGATE}, {16, DIGIT_HEX}, {16, DIGIT_HEX},
                                       {4, DIGIT_LOW_SURROGATE},  {16, DIGIT_HEX}, {16, DIGIT_HEX}};

/* Texts of n digits, between two texts of as many, from a state to another one. */
typedef struct digit_writer {
    grammar *g;
    const digit_place *places; /* [n] */
    size_t n;
    uint32_t to;
    uint32_t
        any_rest[MAX_DIGITS]; /* [i]: the state from which any digits at places i .. n-1 lead to `to`; 0: none yet */
} digit_writer;

static trol_status add_digit(grammar *g, digit_kind kind, uint32_t from, uint32_t to, unsigned low, unsigned high,
                             trol_error *error) {
    static const uint8_t offset[] = {0, 0x80, 0xc0, 0xe0, 0xf0, 0, 0};
    byte_set set = {{0}};
    if (kind == DIGIT_HIGH_SURROGATE || kind == DIGIT_LOW_SURROGATE) {
        uint32_t next;
        const bool second = kind == DIGIT_LOW_SURROGATE;
        if (second) {
            TRY(grammar_add_state(g, &next, error));
            TRY(grammar_add_text(g, from, next, "\\u", error));
            from = next;
        }
        TRY(grammar_add_state(g, &next, error));
        byte_set_add(&set, 'd', 'd');
        byte_set_add(&set, 'D', 'D');
        TRY(grammar_add_set(g, from, next, &set, error));
        from = next;
        low += second ? 12 : 8;
        high += second ? 12 : 8;
        set = (byte_set){{0}};
        kind = DIGIT_HEX;
    }
    if (kind != DIGIT_HEX)
        return grammar_add_range(g, from, to, offset[kind] + low, offset[kind] + high, error);
    for (unsigned digit = low; digit <= high; digit++) {
        byte_set_add(&set, (uint8_t) "0123456789abcdef"[digit], (uint8_t) "0123456789abcdef"[digit]);
        byte_set_add(&set, (uint8_t) "0123456789ABCDEF"[digit], (uint8_t) "0123456789ABCDEF"[digit]);
    }
    return grammar_add_set(g, from, to, &set, error);
}

static trol_status any_rest(digit_writer *w, size_t place, uint32_t *state, trol_error *error) {
    if (place == w->n) {
        *state = w->to;
        return TROL_OK;
    }
    if (!w->any_rest[place]) {
        uint32_t next, made;
        TRY(any_rest(w, place + 1, &next, error));
        TRY(grammar_add_state(w->g, &made, error));
        TRY(add_digit(w->g, w->places[place].kind, made, next, 0, w->places[place].base - 1u, error));
        w->any_rest[place] = made;
    }
    *state = w->any_rest[place];
    return TROL_OK;
}

/* Texts from low[place ..] to high[place ..]. */
static trol_status add_digits(digit_writer *w, size_t place, uint32_t from, const uint8_t *low, const uint8_t *high,
                              trol_error *error) {
    static const uint8_t zeros[MAX_DIGITS];
    uint8_t nines[MAX_DIGITS];
    bool low_free = true, high_free = true;
    for (size_t i = 0; i < w->n && i < MAX_DIGITS; i++)
        nines[i] = w->places[i].base - 1;
    for (size_t i = place + 1; i < w->n; i++) {
        low_free = low_free && low[i] == 0;
        high_free = high_free && high[i] == nines[i];
    }
    unsigned first = low[place], last = high[place];
    const digit_kind kind = w->places[place].kind;
    uint32_t next;
    if (first == last && !(low_free && high_free)) {
        TRY(grammar_add_state(w->g, &next, error));
        TRY(add_digit(w->g, kind, from, next, first, first, error));
        return add_digits(w, place + 1, next, low, high, error);
    }
    if (!low_free) {
        TRY(grammar_add_state(w->g, &next, error));
        TRY(add_digit(w->g, kind, from, next, first, first, error));
        TRY(add_digits(w, place + 1, next, low, nines, error));
        first++;
    }
    if (!high_free) {
        TRY(grammar_add_state(w->g, &next, error));
        TRY(add_digit(w->g, kind, from, next, last, last, error));
        TRY(add_digits(w, place + 1, next, zeros, high, error));
        if (last-- == 0)
            return TROL_OK;
    }
    if (first > last)
        return TROL_OK;
    TRY(any_rest(w, place + 1, &next, error));
    return add_digit(w->g, kind, from, next, first, last, error);
}

static void to_digits(const digit_writer *w, uint32_t number, uint8_t *digits) {
    for (size_t i = w->n; i-- > 0; number /= w->places[i].base)
        digits[i] = (uint8_t)(number % w->places[i].base);
}

/* The part of a set within smallest .. largest, less `offset`, in digits. */
static trol_status add_part(grammar *g, const code_points *set, uint32_t smallest, uint32_t largest, uint32_t offset,
                            const digit_place *places, size_t n, uint32_t from, uint32_t to, trol_error *error) {
    digit_writer w = {.g = g, .places = places, .n = n, .to = to};
    for (size_t i = 0; i < set->n; i++) {
        const uint32_t first = set->ranges[i].first > smallest ? set->ranges[i].first : smallest;
        const uint32_t last = set->ranges[i].last < largest ? set->ranges[i].last : largest;
        uint8_t low[MAX_DIGITS], high[MAX_DIGITS];
        if (first > last)
            continue;
        to_digits(&w, first - offset, low);
        to_digits(&w, last - offset, high);
        TRY(add_digits(&w, 0, from, low, high, error));
    }
    return TROL_OK;
}

/* ---- characters ------------------------------------------------------------------------------ */

typedef enum writing { WRITING_PLAIN, WRITING_JSON } writing;

typedef struct code_point_rule {
    code_points set;
    writing how;
    uint32_t rule;
} code_point_rule;

void code_point_rules_free(code_point_rules *rules) {
    for (size_t i = 0; i < rules->n; i++)
        code_points_free(&rules->rules[i].set);
    memory_free(rules->rules);
    memset(rules, 0, sizeof *rules);
}

static trol_status add_utf8(grammar *g, const code_points *set, uint32_t from, uint32_t to, trol_error *error) {
    TRY(add_part(g, set, 0x80, 0x7ff, 0, utf8_2, 2, from, to, error));
    TRY(add_part(g, set, 0x800, 0xffff, 0, utf8_3, 3, from, to, error));
    return add_part(g, set, 0x10000, 0x10ffff, 0, utf8_4, 4, from, to, error);
}

static trol_status add_escapes(grammar *g, const code_points *set, uint32_t from, uint32_t to, trol_error *error) {
    static const char escaped[] = "\"\\/\b\f\n\r\t", letters[] = "\"\\/bfnrt";
    byte_set simple = {{0}};
    uint32_t backslash, digits;
    TRY(grammar_add_state(g, &backslash, error));
    TRY(grammar_add_state(g, &digits, error));
    TRY(grammar_add_range(g, from, backslash, '\\', '\\', error));
    for (size_t i = 0; i < sizeof escaped - 1; i++)
        if (code_points_has(set, (uint8_t)escaped[i]))
            byte_set_add(&simple, (uint8_t)letters[i], (uint8_t)letters[i]);
    TRY(grammar_add_set(g, backslash, to, &simple, error));
    TRY(grammar_add_range(g, backslash, digits, 'u', 'u', error));
    TRY(add_part(g, set, 0, 0xffff, 0, hex_4, 4, digits, to, error));
    return add_part(g, set, 0x10000, 0x10ffff, 0x10000, hex_pair, 6, digits, to, error);
}

/* The rule for one character of a set whose bytes of ASCII are written elsewhere. */
static trol_status find_rule(grammar *g, code_point_rules *rules, const code_points *set, writing how, uint32_t *rule,
                             trol_error *error) {
    for (size_t i = 0; i < rules->n; i++) {
        const code_point_rule *known = &rules->rules[i];
        if (known->how == how && known->set.n == set->n &&
            memcmp(known->set.ranges, set->ranges, set->n * sizeof *set->ranges) == 0) {
            *rule = known->rule;
            return TROL_OK;
        }
    }
    code_point_rule made = {.how = how};
    TRY(memory_grow((void **)&rules->rules, &rules->capacity, rules->n + 1, sizeof *rules->rules, "a grammar", error));
    TRY(grammar_add_rule(g, rule, error));
    made.rule = *rule;
    trol_status status = code_points_add_all(&made.set, set, error);
    if (status != TROL_OK) {
        code_points_free(&made.set);
        return status;
    }
    rules->rules[rules->n++] = made;
    TRY(add_utf8(g, set, g->rules[*rule].start, g->rules[*rule].end, error));
    return how == WRITING_JSON ? add_escapes(g, set, g->rules[*rule].start, g->rules[*rule].end, error) : TROL_OK;
}

/* The characters of ASCII in a set. */
static byte_set ascii_of(const code_points *set) {
    byte_set ascii = {{0}};
    for (size_t i = 0; i < set->n && set->ranges[i].first < 0x80; i++)
        byte_set_add(&ascii, set->ranges[i].first, set->ranges[i].last < 0x7f ? set->ranges[i].last : 0x7f);
    return ascii;
}

/* What one rule can be made of: all but the ASCII that `without` names. */
static trol_status add_through_rule(grammar *g, code_point_rules *rules, uint32_t from, uint32_t to,
                                    const code_points *set, const code_range *without, size_t n_without, writing how,
                                    trol_error *error) {
    code_points left_out = {0}, rest = {0};
    uint32_t rule;
    trol_status status = TROL_OK;
    for (size_t i = 0; i < n_without; i++)
        TRY_GOTO(code_points_add(&left_out, without[i].first, without[i].last, error), done);
    TRY_GOTO(code_points_invert(&left_out, error), done);
    TRY_GOTO(code_points_intersect(set, &left_out, &rest, error), done);
    if (rest.n == 0)
        goto done;
    TRY_GOTO(find_rule(g, rules, &rest, how, &rule, error), done);
    status = grammar_add_call(g, from, to, rule, error);
done:
    code_points_free(&left_out);
    code_points_free(&rest);
    return status;
}

trol_status grammar_add_characters(grammar *g, code_point_rules *rules, uint32_t from, uint32_t to,
                                   const code_points *set, trol_error *error) {
    static const code_range without[] = {{0, 0x7f}};
    const byte_set ascii = ascii_of(set);
    TRY(grammar_add_set(g, from, to, &ascii, error));
    return add_through_rule(g, rules, from, to, set, without, 1, WRITING_PLAIN, error);
}

trol_status grammar_add_json_characters(grammar *g, code_point_rules *rules, uint32_t from, uint32_t to,
                                        const code_points *set, trol_error *error) {
    static const code_range without[] = {{0x20, '!'}, {'#', '%'}, {'(', '.'}, {'0', ';'},
                                         {'=', '='},  {'?', '['}, {']', '~'}};
    byte_set ascii = ascii_of(set);
    ascii.bits[0] &= ~(uint64_t)0xffffffff; /* control characters */
    ascii.bits['"' / 64] &= ~((uint64_t)1 << '"' % 64);
    ascii.bits['\\' / 64] &= ~((uint64_t)1 << '\\' % 64);
    TRY(grammar_add_set(g, from, to, &ascii, error));
    return add_through_rule(g, rules, from, to, set, without, sizeof without / sizeof *without, WRITING_JSON, error);
}
