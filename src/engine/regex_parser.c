/* regex_parser.c - patterns to trees, and those to the nodes of one nondeterministic automaton (Thompson 1968). */
#include "engine/regex_parser.h"

#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/memory.h"
#include "base/utf8.h"

enum {
    MAX_NODES = 20000, /* of the patterns */
    MAX_GROUPS = 50,
    MAX_SETS = 512,
    UNBOUNDED = INT32_MAX
};

/* ---- patterns to nodes ----------------------------------------------------------------------- */

#define wrong(p, why)                                                                                                  \
    fail((p)->error, TROL_ERROR_UNSUPPORTED, "the pattern \"%.200s\" at byte %zu: %s", (p)->text, (p)->at + 1, why)

static int peek(const regex_patterns *p) { return p->at < p->n_bytes ? (uint8_t)p->text[p->at] : -1; }

static bool take(regex_patterns *p, char c) {
    const bool found = peek(p) == (uint8_t)c;
    p->at += found;
    return found;
}

static trol_status add_node(regex_patterns *p, regex_node made, uint32_t *index) {
    if (p->n_nodes == MAX_NODES)
        return wrong(p, "it is too large");
    TRY(memory_grow((void **)&p->nodes, &p->nodes_capacity, p->n_nodes + 1, sizeof made, "a pattern", p->error));
    *index = (uint32_t)p->n_nodes;
    p->nodes[p->n_nodes++] = made;
    return TROL_OK;
}

/* Takes the set over, also on failure. */
trol_status regex_add_set(regex_patterns *p, code_points *set, uint32_t *index) {
    trol_status status = p->n_sets < MAX_SETS ? memory_grow((void **)&p->sets, &p->sets_capacity, p->n_sets + 1,
                                                            sizeof *p->sets, "a pattern", p->error)
                                              : wrong(p, "it has too many classes");
    if (status != TROL_OK) {
        code_points_free(set);
        return status;
    }
    for (size_t i = 0; i < p->n_sets; i++)
        if (p->sets[i].n == set->n &&
            (set->n == 0 || memcmp(p->sets[i].ranges, set->ranges, set->n * sizeof *set->ranges) == 0)) {
            code_points_free(set);
            *index = (uint32_t)i;
            return TROL_OK;
        }
    *index = (uint32_t)p->n_sets;
    p->sets[p->n_sets++] = *set;
    return TROL_OK;
}

/* Nodes are made backwards, each with what follows it, so the text is parsed into a tree first. */
typedef enum part_kind {
    PART_EMPTY,
    PART_SET,
    PART_BEGIN,
    PART_END,
    PART_SEQUENCE,
    PART_CHOICE,
    PART_REPEAT,
    PART_LOOK,
    PART_LOOK_NOT
} part_kind;

typedef struct part {
    part_kind kind;
    struct part *left, *right; /* PART_SEQUENCE, PART_CHOICE; PART_REPEAT and look-aheads: left */
    uint32_t set;
    int32_t smallest, largest;
    struct part *made_before; /* for freeing */
} part;

typedef struct part_list {
    part *last;
    size_t n;
} part_list;

static trol_status add_part(regex_patterns *p, part_list *all, part made, part **result) {
    if (++all->n > MAX_NODES)
        return wrong(p, "it is too large");
    *result = malloc(sizeof **result);
    if (!*result)
        return fail_memory(p->error, sizeof **result, "a pattern");
    made.made_before = all->last;
    **result = made;
    all->last = *result;
    return TROL_OK;
}

static trol_status add_ranges(code_points *set, const code_range *ranges, size_t n, trol_error *error) {
    for (size_t i = 0; i < n; i++)
        TRY(code_points_add(set, ranges[i].first, ranges[i].last, error));
    return TROL_OK;
}

#define ADD_RANGES(set, ranges, error) add_ranges(set, ranges, sizeof ranges / sizeof *ranges, error)

/* \d, \s, \w and their opposites. Regex engines differ in what counts as a digit, a space or a letter past ASCII:
 * `outer` gives all characters that count in any of them, from which opposites are made, so that what is written
 * satisfies each. */
static trol_status add_class(regex_patterns *p, code_points *set, char letter, bool outer) {
    static const code_range digits[] = {{'0', '9'}};
    static const code_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const code_range spaces[] = {{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},
                                        {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                                        {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}};
    static const code_range more_spaces[] = {
        {0x1c, 0x1f}, {0x85, 0x85}, {0x180e, 0x180e}, {0x200b, 0x200b}, {0xfeff, 0xfeff}};
    static const code_range more_digits[] = {
        {0x660, 0x669},     {0x6f0, 0x6f9},     {0x7c0, 0x7c9},     {0x966, 0x96f},     {0x9e6, 0x9ef},
        {0xa66, 0xa6f},     {0xae6, 0xaef},     {0xb66, 0xb6f},     {0xbe6, 0xbef},     {0xc66, 0xc6f},
        {0xce6, 0xcef},     {0xd66, 0xd6f},     {0xde6, 0xdef},     {0xe50, 0xe59},     {0xed0, 0xed9},
        {0xf20, 0xf29},     {0x1040, 0x1049},   {0x1090, 0x1099},   {0x17e0, 0x17e9},   {0x1810, 0x1819},
        {0x1946, 0x194f},   {0x19d0, 0x19d9},   {0x1a80, 0x1a89},   {0x1a90, 0x1a99},   {0x1b50, 0x1b59},
        {0x1bb0, 0x1bb9},   {0x1c40, 0x1c49},   {0x1c50, 0x1c59},   {0xa620, 0xa629},   {0xa8d0, 0xa8d9},
        {0xa900, 0xa909},   {0xa9d0, 0xa9d9},   {0xa9f0, 0xa9f9},   {0xaa50, 0xaa59},   {0xabf0, 0xabf9},
        {0xff10, 0xff19},   {0x104a0, 0x104a9}, {0x10d30, 0x10d39}, {0x11066, 0x1106f}, {0x110f0, 0x110f9},
        {0x11136, 0x1113f}, {0x111d0, 0x111d9}, {0x112f0, 0x112f9}, {0x11450, 0x11459}, {0x114d0, 0x114d9},
        {0x11650, 0x11659}, {0x116c0, 0x116c9}, {0x11730, 0x11739}, {0x118e0, 0x118e9}, {0x11950, 0x11959},
        {0x11c50, 0x11c59}, {0x11d50, 0x11d59}, {0x11da0, 0x11da9}, {0x16a60, 0x16a69}, {0x16ac0, 0x16ac9},
        {0x16b50, 0x16b59}, {0x1d7ce, 0x1d7ff}, {0x1e140, 0x1e149}, {0x1e2f0, 0x1e2f9}, {0x1e950, 0x1e959},
        {0x1fbf0, 0x1fbf9}};
    /* Past ASCII: all characters but those that count as letters or digits nowhere. */
    static const code_range more_words[] = {
        {0xaa, 0xaa}, {0xb2, 0xb3},   {0xb5, 0xb5},     {0xb9, 0xba},     {0xbc, 0xbe},     {0xc0, 0xd6},
        {0xd8, 0xf6}, {0xf8, 0x200f}, {0x2060, 0x209f}, {0x20d0, 0x218f}, {0x2300, 0x27ff}, {0x2800, CODE_POINT_LAST}};
    if (letter == 'd') {
        TRY(ADD_RANGES(set, digits, p->error));
        return outer ? ADD_RANGES(set, more_digits, p->error) : TROL_OK;
    }
    if (letter == 'w') {
        TRY(ADD_RANGES(set, words, p->error));
        return outer ? ADD_RANGES(set, more_words, p->error) : TROL_OK;
    }
    TRY(ADD_RANGES(set, spaces, p->error));
    return outer ? ADD_RANGES(set, more_spaces, p->error) : TROL_OK;
}

static trol_status add_opposite(regex_patterns *p, code_points *set, char letter) {
    code_points inverted = {0};
    trol_status status = add_class(p, &inverted, letter, true);
    if (status == TROL_OK)
        status = code_points_normalize(&inverted, p->error);
    if (status == TROL_OK)
        status = code_points_invert(&inverted, p->error);
    if (status == TROL_OK)
        status = code_points_add_all(set, &inverted, p->error);
    code_points_free(&inverted);
    return status;
}

static trol_status parse_hex(regex_patterns *p, int n_digits, uint32_t *value) {
    *value = 0;
    for (int i = 0; i < n_digits; i++, p->at++) {
        const int digit = hex_value(peek(p));
        if (digit < 0)
            return wrong(p, "hexadecimal digits are expected");
        *value = *value << 4 | (uint32_t)digit;
    }
    return TROL_OK;
}

/* \uXXXX, a pair of them, or \u{...}; after the u. */
static trol_status parse_unicode(regex_patterns *p, uint32_t *value) {
    uint32_t low;
    if (take(p, '{')) {
        *value = 0;
        for (int n = 0; !take(p, '}'); n++) {
            TRY(parse_hex(p, 1, &low));
            *value = *value << 4 | low;
            if (n > 5 || *value > CODE_POINT_LAST)
                return wrong(p, "this is not a character");
        }
    } else {
        TRY(parse_hex(p, 4, value));
    }
    if (*value >= 0xd800 && *value <= 0xdbff && p->n_bytes - p->at >= 6 && p->text[p->at] == '\\' &&
        p->text[p->at + 1] == 'u') {
        p->at += 2;
        TRY(parse_hex(p, 4, &low));
        if (low >= 0xdc00 && low <= 0xdfff)
            *value = 0x10000 + ((*value - 0xd800) << 10) + (low - 0xdc00);
    }
    return *value >= 0xd800 && *value <= 0xdfff ? wrong(p, "half of a pair is not a character") : TROL_OK;
}

/* The escape of one character, after the backslash. */
static trol_status parse_escape(regex_patterns *p, bool in_class, uint32_t *value) {
    const int c = peek(p);
    p->at += c >= 0;
    *value = (uint32_t)c;
    switch (c) {
    case 'n':
        *value = '\n';
        return TROL_OK;
    case 'r':
        *value = '\r';
        return TROL_OK;
    case 't':
        *value = '\t';
        return TROL_OK;
    case 'v':
        *value = '\v';
        return TROL_OK;
    case 'f':
        *value = '\f';
        return TROL_OK;
    case 'b':
        *value = '\b';
        return in_class ? TROL_OK : wrong(p, "\\b is not supported");
    case 'x':
        return parse_hex(p, 2, value);
    case 'u':
        return parse_unicode(p, value);
    case '0':
        *value = 0;
        return peek(p) >= '0' && peek(p) <= '9' ? wrong(p, "octal escapes are not supported") : TROL_OK;
    case 'c':
        *value = (uint32_t)(peek(p) & 0x1f);
        if (!((peek(p) | 0x20) >= 'a' && (peek(p) | 0x20) <= 'z'))
            return wrong(p, "a letter is expected after \\c");
        p->at++;
        return TROL_OK;
    default:
        break;
    }
    if (c < 0)
        return wrong(p, "a backslash ends it");
    if (c >= 0x80) {
        p->at--;
        const size_t n = utf8_decode(p->text + p->at, p->n_bytes - p->at, value);
        p->at += n;
        return n ? TROL_OK : wrong(p, "not valid UTF-8");
    }
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return wrong(p, "this escape is not supported");
    return TROL_OK;
}

static trol_status parse_character(regex_patterns *p, uint32_t *value) {
    const size_t n = utf8_decode(p->text + p->at, p->n_bytes - p->at, value);
    p->at += n;
    return n ? TROL_OK : wrong(p, "not valid UTF-8");
}

/* After a backslash: a class such as \d goes into the set (*single: false), or one character into *value. */
static trol_status parse_class_escape(regex_patterns *p, bool in_class, bool negated, code_points *set, bool *single,
                                      uint32_t *value) {
    const int c = peek(p);
    *single = false;
    if (c == 'd' || c == 'w' || c == 's') {
        p->at++;
        return add_class(p, set, (char)c, negated);
    }
    if (c == 'D' || c == 'W' || c == 'S') {
        p->at++;
        if (negated) /* its opposite's opposite: ASCII alone decides */
            return wrong(p, "\\D, \\W and \\S in a negated class are not supported");
        return add_opposite(p, set, (char)(c | 0x20));
    }
    *single = true;
    return parse_escape(p, in_class, value);
}

static trol_status parse_member(regex_patterns *p, bool negated, code_points *set, bool *single, uint32_t *value) {
    *single = true;
    if (take(p, '\\'))
        return parse_class_escape(p, true, negated, set, single, value);
    return parse_character(p, value);
}

/* [...], after the bracket. */
static trol_status parse_class(regex_patterns *p, code_points *set) {
    const bool negated = take(p, '^');
    while (!take(p, ']')) {
        uint32_t first = 0, last = 0;
        bool single, second = false;
        if (peek(p) < 0)
            return wrong(p, "a class is not closed");
        TRY(parse_member(p, negated, set, &single, &first));
        if (!single)
            continue;
        last = first;
        if (peek(p) == '-' && p->at + 1 < p->n_bytes && p->text[p->at + 1] != ']') {
            p->at++;
            TRY(parse_member(p, negated, set, &second, &last));
            if (!second)
                return wrong(p, "a class is not the end of a range");
        }
        if (last < first)
            return wrong(p, "a range is out of order");
        TRY(code_points_add(set, first, last, p->error));
    }
    TRY(code_points_normalize(set, p->error));
    return negated ? code_points_invert(set, p->error) : TROL_OK;
}

static trol_status parse_choices(regex_patterns *p, part_list *all, part **result);

/* What begins a group, after its parenthesis; PART_EMPTY for one that is not a look-ahead. */
static trol_status parse_group_kind(regex_patterns *p, part_kind *kind) {
    *kind = PART_EMPTY;
    if (!take(p, '?') || take(p, ':'))
        return TROL_OK;
    if (take(p, '=') || take(p, '!')) {
        *kind = p->text[p->at - 1] == '=' ? PART_LOOK : PART_LOOK_NOT;
        return p->in_look_not ? wrong(p, "a look-ahead inside of (?!...) is not supported") : TROL_OK;
    }
    if (!take(p, '<') || peek(p) == '=' || peek(p) == '!')
        return wrong(p, "look-behind and flags are not supported");
    while (peek(p) >= 0 && peek(p) != '>')
        p->at++;
    p->at += peek(p) >= 0;
    return TROL_OK;
}

static trol_status parse_group(regex_patterns *p, part_list *all, part **result, bool *repeats) {
    part_kind kind;
    if (++p->depth > MAX_GROUPS)
        return wrong(p, "groups are nested too deep");
    TRY(parse_group_kind(p, &kind));
    p->in_look_not = p->in_look_not || kind == PART_LOOK_NOT;
    TRY(parse_choices(p, all, result));
    if (!take(p, ')'))
        return wrong(p, "a group is not closed");
    p->depth--;
    p->in_look_not = p->in_look_not && kind != PART_LOOK_NOT;
    *repeats = kind == PART_EMPTY;
    return *repeats ? TROL_OK : add_part(p, all, (part){.kind = kind, .left = *result}, result);
}

static trol_status parse_set(regex_patterns *p, int c, part *made) {
    static const code_range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    code_points set = {0};
    uint32_t value;
    bool single = false;
    trol_status status;
    if (c == '[') {
        p->at++;
        status = parse_class(p, &set);
    } else if (c == '.') {
        p->at++;
        status = ADD_RANGES(&set, line_ends, p->error);
        if (status == TROL_OK)
            status = code_points_invert(&set, p->error);
    } else if (c == '\\') {
        p->at++;
        status = parse_class_escape(p, false, false, &set, &single, &value);
    } else {
        single = true;
        status = parse_character(p, &value);
    }
    if (single && status == TROL_OK)
        status = code_points_add(&set, value, value, p->error);
    if (status == TROL_OK)
        status = code_points_normalize(&set, p->error);
    if (status != TROL_OK) {
        code_points_free(&set);
        return status;
    }
    made->kind = PART_SET;
    return regex_add_set(p, &set, &made->set);
}

static trol_status parse_atom(regex_patterns *p, part_list *all, part **result, bool *repeats) {
    part made = {0};
    const int c = peek(p);
    *repeats = c != '^' && c != '$';
    if (take(p, '('))
        return parse_group(p, all, result, repeats);
    if (c == '*' || c == '+' || c == '?' || c == '{')
        return wrong(p, "there is nothing to repeat");
    if (take(p, '^'))
        made.kind = PART_BEGIN;
    else if (take(p, '$'))
        made.kind = PART_END;
    else
        TRY(parse_set(p, c, &made));
    return add_part(p, all, made, result);
}

static trol_status parse_number(regex_patterns *p, int32_t *number) {
    if (peek(p) < '0' || peek(p) > '9')
        return wrong(p, "a number is expected in {}");
    for (*number = 0; peek(p) >= '0' && peek(p) <= '9'; p->at++) {
        *number = 10 * *number + (peek(p) - '0');
        if (*number > MAX_NODES)
            return wrong(p, "so many repetitions are not supported");
    }
    return TROL_OK;
}

static trol_status parse_repeat(regex_patterns *p, part_list *all, bool may, part **result) {
    part made = {.kind = PART_REPEAT, .left = *result, .smallest = 0, .largest = UNBOUNDED};
    if (take(p, '{')) {
        TRY(parse_number(p, &made.smallest));
        made.largest = made.smallest;
        if (take(p, ',')) {
            made.largest = UNBOUNDED;
            if (peek(p) != '}')
                TRY(parse_number(p, &made.largest));
        }
        if (!take(p, '}') || made.largest < made.smallest)
            return wrong(p, "a repetition is {n}, {n,} or {n,m}");
    } else if (take(p, '+')) {
        made.smallest = 1;
    } else if (take(p, '?')) {
        made.largest = 1;
    } else if (!take(p, '*')) {
        return TROL_OK;
    }
    (void)take(p, '?'); /* lazy: which text matches is the same */
    if (!may)
        return wrong(p, "^, $ and a look-ahead cannot be repeated");
    TRY(add_part(p, all, made, result));
    const int c = peek(p);
    return c == '*' || c == '+' || c == '?' || c == '{' ? wrong(p, "a repetition cannot be repeated") : TROL_OK;
}

static trol_status parse_choices(regex_patterns *p, part_list *all, part **result) {
    *result = NULL;
    for (;;) {
        part *sequence;
        TRY(add_part(p, all, (part){.kind = PART_EMPTY}, &sequence));
        while (peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
            part *atom;
            bool repeats;
            TRY(parse_atom(p, all, &atom, &repeats));
            TRY(parse_repeat(p, all, repeats, &atom));
            TRY(add_part(p, all, (part){.kind = PART_SEQUENCE, .left = sequence, .right = atom}, &sequence));
        }
        if (*result)
            TRY(add_part(p, all, (part){.kind = PART_CHOICE, .left = *result, .right = sequence}, &sequence));
        *result = sequence;
        if (!take(p, '|'))
            return TROL_OK;
    }
}

/* Nodes for a part that is followed by `next`. Sequences and choices lean to the left, so that recursion is as deep as
 * groups are. */
static trol_status make_nodes(regex_patterns *p, const part *made, uint32_t next, uint32_t *start) {
    uint32_t choice = NO_NODE, right;
    for (; made->kind == PART_CHOICE; made = made->left) {
        TRY(make_nodes(p, made->right, next, &right));
        if (choice != NO_NODE)
            TRY(add_node(p, (regex_node){NODE_SPLIT, right, choice}, &right));
        choice = right;
    }
    const uint32_t after = next;
    for (; made->kind == PART_SEQUENCE; made = made->left)
        TRY(make_nodes(p, made->right, next, &next));
    *start = next;
    if (made->kind == PART_SET)
        TRY(add_node(p, (regex_node){NODE_SET, next, made->set}, start));
    if (made->kind == PART_BEGIN || made->kind == PART_END)
        TRY(add_node(p, (regex_node){made->kind == PART_BEGIN ? NODE_BEGIN : NODE_END, next, 0}, start));
    if (made->kind == PART_LOOK || made->kind == PART_LOOK_NOT) {
        const regex_node_kind kind = made->kind == PART_LOOK ? NODE_LOOK : NODE_LOOK_NOT;
        uint32_t looked, body;
        TRY(add_node(p, (regex_node){NODE_LOOKED, 0, 0}, &looked));
        TRY(make_nodes(p, made->left, looked, &body));
        TRY(add_node(p, (regex_node){kind, next, body}, start));
    }
    if (made->kind == PART_REPEAT) {
        if (made->largest == UNBOUNDED) {
            uint32_t loop, body;
            TRY(add_node(p, (regex_node){NODE_SPLIT, next, next}, &loop));
            TRY(make_nodes(p, made->left, loop, &body));
            p->nodes[loop].next = body;
            *start = loop;
        }
        for (int32_t i = made->smallest; made->largest != UNBOUNDED && i < made->largest; i++) {
            uint32_t body;
            TRY(make_nodes(p, made->left, *start, &body));
            TRY(add_node(p, (regex_node){NODE_SPLIT, body, after}, start));
        }
        for (int32_t i = 0; i < made->smallest; i++)
            TRY(make_nodes(p, made->left, *start, start));
    }
    return choice != NO_NODE ? add_node(p, (regex_node){NODE_SPLIT, *start, choice}, start) : TROL_OK;
}

/* One pattern, to be found anywhere: any characters before and after it. */
trol_status regex_add_pattern(regex_patterns *p, const char *text, uint32_t *start) {
    part_list all = {0};
    part *whole;
    code_points any = {0};
    uint32_t any_set, matched, loop, body, skip;
    trol_status status;
    p->text = text;
    p->n_bytes = strlen(text);
    p->at = 0;
    p->depth = 0;
    p->in_look_not = false;
    TRY_GOTO(parse_choices(p, &all, &whole), done);
    if (p->at < p->n_bytes)
        TRY_GOTO(wrong(p, "a parenthesis closes nothing"), done);
    TRY_GOTO(add_node(p, (regex_node){NODE_MATCHED, 0, 0}, &matched), done);
    TRY_GOTO(make_nodes(p, whole, matched, &body), done);
    TRY_GOTO(code_points_invert(&any, p->error), done);
    TRY_GOTO(regex_add_set(p, &any, &any_set), done);
    TRY_GOTO(add_node(p, (regex_node){NODE_SPLIT, body, body}, &loop), done);
    TRY_GOTO(add_node(p, (regex_node){NODE_SET, loop, any_set}, &skip), done);
    p->nodes[loop].other = skip;
    *start = loop;
done:
    while (all.last) {
        part *before = all.last->made_before;
        free(all.last);
        all.last = before;
    }
    return status;
}
