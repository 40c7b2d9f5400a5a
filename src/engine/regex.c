/* regex.c - patterns to one nondeterministic automaton (Thompson 1968), and that, with lengths and taken names, to a
 * deterministic one by the construction of subsets. */
#include "engine/regex.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

enum {
    MAX_NODES = 20000, /* of the patterns */
    MAX_STATES = 1 << 17,
    MAX_ARCS = 1 << 19,
    MAX_SET_MEMBERS = 1 << 24, /* nodes of all subsets */
    MAX_GROUPS = 50,
    MAX_SETS = 512,
    UNBOUNDED = INT32_MAX
};

/* ---- patterns to nodes ----------------------------------------------------------------------- */

typedef enum node_kind { NODE_SPLIT, NODE_SET, NODE_BEGIN, NODE_END, NODE_MATCHED } node_kind;

typedef struct node {
    node_kind kind;
    uint32_t next, other; /* other: NODE_SPLIT; for NODE_SET the set */
} node;

typedef struct patterns {
    node *nodes;
    size_t n_nodes, nodes_capacity;
    code_points *sets;
    size_t n_sets, sets_capacity;
    uint32_t *starts; /* [n]: of each pattern */
    const char *text; /* of the pattern in progress */
    size_t n_bytes, at;
    int depth;
    trol_error *error;
} patterns;

#define wrong(p, why)                                                                                                  \
    fail((p)->error, TROL_ERROR_UNSUPPORTED, "the pattern \"%.200s\" at byte %zu: %s", (p)->text, (p)->at + 1, why)

static int peek(const patterns *p) { return p->at < p->n_bytes ? (uint8_t)p->text[p->at] : -1; }

static bool take(patterns *p, char c) {
    const bool found = peek(p) == (uint8_t)c;
    p->at += found;
    return found;
}

static trol_status add_node(patterns *p, node made, uint32_t *index) {
    if (p->n_nodes == MAX_NODES)
        return wrong(p, "it is too large");
    TRY(memory_grow((void **)&p->nodes, &p->nodes_capacity, p->n_nodes + 1, sizeof made, "a pattern", p->error));
    *index = (uint32_t)p->n_nodes;
    p->nodes[p->n_nodes++] = made;
    return TROL_OK;
}

/* Takes the set over, also on failure. */
static trol_status add_set(patterns *p, code_points *set, uint32_t *index) {
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

#define NO_NODE UINT32_MAX

/* Nodes are made backwards, each with what follows it, so the text is parsed into a tree first. */
typedef enum part_kind { PART_EMPTY, PART_SET, PART_BEGIN, PART_END, PART_ROW, PART_CHOICE, PART_REPEAT } part_kind;

typedef struct part {
    part_kind kind;
    struct part *left, *right; /* PART_ROW, PART_CHOICE; PART_REPEAT: left */
    uint32_t set;
    int32_t smallest, largest;
    struct part *made_before; /* for freeing */
} part;

typedef struct part_list {
    part *last;
    size_t n;
} part_list;

static trol_status add_part(patterns *p, part_list *all, part made, part **result) {
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

/* \d, \s, \w and their opposites. Readers of patterns differ in what they take for a digit, a space or a letter past
 * ASCII: `outer` gives all that any of them does, from which opposites are made, so that what is written suits each. */
static trol_status add_class(patterns *p, code_points *set, char letter, bool outer) {
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
    /* Past ASCII: all but signs that nobody takes for letters or digits. */
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

static trol_status add_opposite(patterns *p, code_points *set, char letter) {
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

static trol_status parse_hex(patterns *p, int n_digits, uint32_t *value) {
    *value = 0;
    for (int i = 0; i < n_digits; i++, p->at++) {
        const int c = peek(p), lower = c | 0x20;
        if (!((c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'f')))
            return wrong(p, "hexadecimal digits are expected");
        *value = *value << 4 | (uint32_t)(c <= '9' ? c - '0' : lower - 'a' + 10);
    }
    return TROL_OK;
}

/* \uXXXX, a pair of them, or \u{...}; behind the u. */
static trol_status parse_unicode(patterns *p, uint32_t *value) {
    uint32_t low;
    if (take(p, '{')) {
        *value = 0;
        for (int n = 0; !take(p, '}'); n++) {
            TRY(parse_hex(p, 1, &low));
            *value = *value << 4 | low;
            if (n > 5 || *value > CODE_POINT_LAST)
                return wrong(p, "that is not a character");
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

/* The escape of one character, behind the backslash. */
static trol_status parse_escape(patterns *p, bool in_class, uint32_t *value) {
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

static trol_status parse_character(patterns *p, uint32_t *value) {
    const size_t n = utf8_decode(p->text + p->at, p->n_bytes - p->at, value);
    p->at += n;
    return n ? TROL_OK : wrong(p, "not valid UTF-8");
}

/* Behind a backslash: a class such as \d goes into the set (*single: false), or one character into *value. */
static trol_status parse_class_escape(patterns *p, bool in_class, bool negated, code_points *set, bool *single,
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

static trol_status parse_member(patterns *p, bool negated, code_points *set, bool *single, uint32_t *value) {
    *single = true;
    if (take(p, '\\'))
        return parse_class_escape(p, true, negated, set, single, value);
    return parse_character(p, value);
}

/* [...], behind the bracket. */
static trol_status parse_class(patterns *p, code_points *set) {
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

static trol_status parse_choices(patterns *p, part_list *all, part **result);

static trol_status parse_group(patterns *p, part_list *all, part **result) {
    if (++p->depth > MAX_GROUPS)
        return wrong(p, "groups are nested too deep");
    if (take(p, '?')) {
        if (take(p, '<') && peek(p) != '=' && peek(p) != '!') {
            while (peek(p) >= 0 && peek(p) != '>')
                p->at++;
            p->at += peek(p) >= 0;
        } else if (!take(p, ':')) {
            return wrong(p, "look-around and flags are not supported");
        }
    }
    TRY(parse_choices(p, all, result));
    if (!take(p, ')'))
        return wrong(p, "a group is not closed");
    p->depth--;
    return TROL_OK;
}

static trol_status parse_set(patterns *p, int c, part *made) {
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
    return add_set(p, &set, &made->set);
}

static trol_status parse_atom(patterns *p, part_list *all, part **result, bool *repeats) {
    part made = {0};
    const int c = peek(p);
    *repeats = c != '^' && c != '$';
    if (take(p, '('))
        return parse_group(p, all, result);
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

static trol_status parse_number(patterns *p, int32_t *number) {
    if (peek(p) < '0' || peek(p) > '9')
        return wrong(p, "a number is expected in {}");
    for (*number = 0; peek(p) >= '0' && peek(p) <= '9'; p->at++) {
        *number = 10 * *number + (peek(p) - '0');
        if (*number > MAX_NODES)
            return wrong(p, "so many repetitions are not supported");
    }
    return TROL_OK;
}

static trol_status parse_repeat(patterns *p, part_list *all, bool may, part **result) {
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
        return wrong(p, "^ and $ can not be repeated");
    TRY(add_part(p, all, made, result));
    const int c = peek(p);
    return c == '*' || c == '+' || c == '?' || c == '{' ? wrong(p, "a repetition can not be repeated") : TROL_OK;
}

static trol_status parse_choices(patterns *p, part_list *all, part **result) {
    *result = NULL;
    for (;;) {
        part *row;
        TRY(add_part(p, all, (part){.kind = PART_EMPTY}, &row));
        while (peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
            part *atom;
            bool repeats;
            TRY(parse_atom(p, all, &atom, &repeats));
            TRY(parse_repeat(p, all, repeats, &atom));
            TRY(add_part(p, all, (part){.kind = PART_ROW, .left = row, .right = atom}, &row));
        }
        if (*result)
            TRY(add_part(p, all, (part){.kind = PART_CHOICE, .left = *result, .right = row}, &row));
        *result = row;
        if (!take(p, '|'))
            return TROL_OK;
    }
}

/* Nodes for a part that is followed by `next`. Rows and choices lean to the left, so that recursion is as deep as
 * groups are. */
static trol_status make_nodes(patterns *p, const part *made, uint32_t next, uint32_t *start) {
    uint32_t choice = NO_NODE, right;
    for (; made->kind == PART_CHOICE; made = made->left) {
        TRY(make_nodes(p, made->right, next, &right));
        if (choice != NO_NODE)
            TRY(add_node(p, (node){NODE_SPLIT, right, choice}, &right));
        choice = right;
    }
    const uint32_t after = next;
    for (; made->kind == PART_ROW; made = made->left)
        TRY(make_nodes(p, made->right, next, &next));
    *start = next;
    if (made->kind == PART_SET)
        TRY(add_node(p, (node){NODE_SET, next, made->set}, start));
    if (made->kind == PART_BEGIN || made->kind == PART_END)
        TRY(add_node(p, (node){made->kind == PART_BEGIN ? NODE_BEGIN : NODE_END, next, 0}, start));
    if (made->kind == PART_REPEAT) {
        if (made->largest == UNBOUNDED) {
            uint32_t loop, body;
            TRY(add_node(p, (node){NODE_SPLIT, next, next}, &loop));
            TRY(make_nodes(p, made->left, loop, &body));
            p->nodes[loop].next = body;
            *start = loop;
        }
        for (int32_t i = made->smallest; made->largest != UNBOUNDED && i < made->largest; i++) {
            uint32_t body;
            TRY(make_nodes(p, made->left, *start, &body));
            TRY(add_node(p, (node){NODE_SPLIT, body, after}, start));
        }
        for (int32_t i = 0; i < made->smallest; i++)
            TRY(make_nodes(p, made->left, *start, start));
    }
    return choice != NO_NODE ? add_node(p, (node){NODE_SPLIT, *start, choice}, start) : TROL_OK;
}

/* One pattern, to be found anywhere: any characters before and after it. */
static trol_status add_pattern(patterns *p, const char *text, uint32_t *start) {
    part_list all = {0};
    part *whole;
    code_points any = {0};
    uint32_t any_set, matched, loop, body, skip;
    trol_status status;
    p->text = text;
    p->n_bytes = strlen(text);
    p->at = 0;
    p->depth = 0;
    TRY_GOTO(parse_choices(p, &all, &whole), done);
    if (p->at < p->n_bytes)
        TRY_GOTO(wrong(p, "a parenthesis closes nothing"), done);
    TRY_GOTO(add_node(p, (node){NODE_MATCHED, 0, 0}, &matched), done);
    TRY_GOTO(make_nodes(p, whole, matched, &body), done);
    TRY_GOTO(code_points_invert(&any, p->error), done);
    TRY_GOTO(add_set(p, &any, &any_set), done);
    TRY_GOTO(add_node(p, (node){NODE_SPLIT, body, body}, &loop), done);
    TRY_GOTO(add_node(p, (node){NODE_SET, loop, any_set}, &skip), done);
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

/* ---- classes of characters ------------------------------------------------------------------- */

/* Characters that no set tells apart. */
typedef struct classes {
    code_points *sets; /* [n] */
    size_t n, capacity;
    uint8_t *in; /* [n, n_sets]: whether the class is in the pattern's set */
    size_t in_capacity;
} classes;

static int compare_numbers(const void *left, const void *right) {
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static trol_status find_borders(const patterns *p, uint32_t **borders, size_t *n, trol_error *error) {
    size_t count = 3;
    for (size_t i = 0; i < p->n_sets; i++)
        count += 2 * p->sets[i].n;
    TRY(memory_alloc(count, sizeof **borders, "a pattern", (void **)borders, error));
    (*borders)[0] = 0;
    (*borders)[1] = 0xd800;
    (*borders)[2] = 0xe000;
    *n = 3;
    for (size_t i = 0; i < p->n_sets; i++)
        for (size_t j = 0; j < p->sets[i].n; j++) {
            (*borders)[(*n)++] = p->sets[i].ranges[j].first;
            (*borders)[(*n)++] = p->sets[i].ranges[j].last + 1;
        }
    qsort(*borders, *n, sizeof **borders, compare_numbers);
    return TROL_OK;
}

static trol_status add_to_class(const patterns *p, classes *c, uint32_t first, uint32_t last, trol_error *error) {
    const size_t width = p->n_sets;
    TRY(memory_grow((void **)&c->in, &c->in_capacity, (c->n + 1) * width + 1, 1, "a pattern", error));
    uint8_t *in = c->in + c->n * width;
    for (size_t i = 0; i < width; i++)
        in[i] = code_points_has(&p->sets[i], first);
    size_t class = 0;
    while (class < c->n && width > 0 && memcmp(c->in + class * width, in, width) != 0)
        class ++;
    if (class == c->n) {
        TRY(memory_grow((void **)&c->sets, &c->capacity, c->n + 1, sizeof *c->sets, "a pattern", error));
        c->sets[c->n++] = (code_points){0};
    }
    return code_points_add(&c->sets[class], first, last, error);
}

static trol_status find_classes(const patterns *p, classes *c, trol_error *error) {
    uint32_t *borders = NULL;
    size_t n;
    trol_status status;
    TRY_GOTO(find_borders(p, &borders, &n, error), done);
    for (size_t i = 0; i < n; i++) {
        const uint32_t first = borders[i], end = i + 1 < n ? borders[i + 1] : CODE_POINT_LAST + 1;
        if (first < end && first != 0xd800 && first <= CODE_POINT_LAST)
            TRY_GOTO(add_to_class(p, c, first, end - 1, error), done);
    }
    for (size_t i = 0; i < c->n; i++)
        TRY_GOTO(code_points_normalize(&c->sets[i], error), done);
done:
    memory_free(borders);
    return status;
}

/* ---- subsets --------------------------------------------------------------------------------- */

/* What a state stands for: nodes of the patterns, how long the text is, and where in the taken names it is. */
typedef struct subset {
    uint32_t first, n; /* in members[], sorted */
    uint32_t length;   /* up to where it makes a difference */
    uint32_t name;     /* node of the tree of taken names; NO_NODE: in none */
} subset;

typedef struct name_node {
    uint32_t character, parent;
    bool taken;
} name_node;

typedef struct construction {
    const text_rules *rules;
    patterns p;
    classes classes;
    name_node *names; /* the tree of taken names; node 0 is the root */
    size_t n_names, names_capacity;
    subset *subsets; /* [automaton->n_states] */
    size_t subsets_capacity;
    uint32_t *members;
    size_t n_members, members_capacity;
    uint32_t *slots; /* hash table of states + 1 */
    size_t n_slots;
    uint32_t *work; /* of the closure in progress: [n_work] */
    size_t n_work, work_capacity;
    uint32_t *seen; /* [n_nodes]: stamp */
    uint32_t stamp;
    text_automaton *a;
    trol_error *error;
} construction;

static trol_status visit(construction *c, uint32_t index) {
    if (c->seen[index] == c->stamp)
        return TROL_OK;
    c->seen[index] = c->stamp;
    TRY(memory_grow((void **)&c->work, &c->work_capacity, c->n_work + 1, sizeof *c->work, "a pattern", c->error));
    c->work[c->n_work++] = index;
    return TROL_OK;
}

/* Follows what consumes nothing; BEGIN only at the beginning, END only with `at_end`. */
static trol_status close_subset(construction *c, bool at_begin, bool at_end) {
    for (size_t i = 0; i < c->n_work; i++) {
        const node n = c->p.nodes[c->work[i]];
        if (n.kind == NODE_SPLIT) {
            TRY(visit(c, n.next));
            TRY(visit(c, n.other));
        }
        if ((n.kind == NODE_BEGIN && at_begin) || (n.kind == NODE_END && at_end))
            TRY(visit(c, n.next));
    }
    return TROL_OK;
}

static void begin_subset(construction *c) {
    c->n_work = 0;
    c->stamp++;
}

/* The nodes of pattern i are those from its first up to the next one's: all of them but MATCHED may go once it has. */
static uint32_t first_node(const construction *c, size_t pattern) {
    return pattern < c->rules->n_patterns ? c->p.starts[pattern] : (uint32_t)c->p.n_nodes;
}

static size_t pattern_of(const construction *c, uint32_t index) {
    size_t pattern = 0;
    while (index >= first_node(c, pattern + 1))
        pattern++;
    return pattern;
}

static trol_status check_accepts(construction *c, const subset *s, bool at_begin, bool *accepts) {
    *accepts = s->length >= c->rules->min_length && (s->name == NO_NODE || !c->names[s->name].taken);
    begin_subset(c);
    for (uint32_t i = 0; i < s->n; i++)
        TRY(visit(c, c->members[s->first + i]));
    TRY(close_subset(c, at_begin, true));
    size_t n_matched = 0;
    for (size_t i = 0; i < c->n_work; i++)
        n_matched += c->p.nodes[c->work[i]].kind == NODE_MATCHED;
    *accepts = *accepts && n_matched == c->rules->n_patterns;
    return TROL_OK;
}

static size_t hash_subset(const construction *c, const subset *s) {
    uint64_t hash = (uint64_t)s->length << 32 | s->name;
    for (uint32_t i = 0; i < s->n; i++)
        hash = (hash ^ c->members[s->first + i]) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
    hash *= 0x9e3779b97f4a7c15u;
    return (size_t)(hash >> 20);
}

static trol_status grow_slots(construction *c) {
    const size_t n = c->n_slots ? 2 * c->n_slots : 256;
    if (2 * (c->a->n_states + 1) <= c->n_slots)
        return TROL_OK;
    memory_free(c->slots);
    c->slots = NULL;
    TRY(memory_alloc_zero(n, sizeof *c->slots, "a pattern", (void **)&c->slots, c->error));
    c->n_slots = n;
    for (size_t i = 0; i < c->a->n_states; i++) {
        size_t place = hash_subset(c, &c->subsets[i]) & (n - 1);
        while (c->slots[place])
            place = (place + 1) & (n - 1);
        c->slots[place] = (uint32_t)i + 1;
    }
    return TROL_OK;
}

/* Keeps of the closed subset in `work` what consumes, and what has matched; *dead if a pattern can match no more. */
static trol_status settle_members(construction *c, subset *s, bool *dead) {
    size_t kept = 0;
    *dead = false;
    for (size_t pattern = 0; pattern < c->rules->n_patterns; pattern++) {
        const size_t before = kept;
        uint32_t matched = NO_NODE;
        for (size_t i = 0; i < c->n_work; i++)
            if (c->p.nodes[c->work[i]].kind == NODE_MATCHED && pattern_of(c, c->work[i]) == pattern)
                matched = c->work[i];
        for (size_t i = 0; i < c->n_work; i++) {
            const node_kind kind = c->p.nodes[c->work[i]].kind;
            if (pattern_of(c, c->work[i]) != pattern || kind == NODE_SPLIT || kind == NODE_BEGIN ||
                (matched != NO_NODE && c->work[i] != matched))
                continue;
            if (c->n_members + kept >= MAX_SET_MEMBERS)
                return fail(c->error, TROL_ERROR_UNSUPPORTED, "the pattern \"%.200s\" is too complex",
                            c->rules->patterns[0]);
            TRY(memory_grow((void **)&c->members, &c->members_capacity, c->n_members + kept + 1, sizeof *c->members,
                            "a pattern", c->error));
            c->members[c->n_members + kept++] = c->work[i];
        }
        *dead = *dead || kept == before;
    }
    s->first = (uint32_t)c->n_members;
    s->n = (uint32_t)kept;
    if (kept > 1)
        qsort(c->members + s->first, kept, sizeof *c->members, compare_numbers);
    return TROL_OK;
}

/* The state of the subset whose members lie at the end of members[]. */
static trol_status find_state(construction *c, const subset *s, bool at_begin, uint32_t *state) {
    TRY(grow_slots(c));
    size_t place = hash_subset(c, s) & (c->n_slots - 1);
    for (; c->slots[place]; place = (place + 1) & (c->n_slots - 1)) {
        const subset *known = &c->subsets[c->slots[place] - 1];
        if (!at_begin && c->slots[place] > 1 && known->n == s->n && known->length == s->length &&
            known->name == s->name &&
            (s->n == 0 || memcmp(c->members + known->first, c->members + s->first, s->n * sizeof *c->members) == 0)) {
            *state = c->slots[place] - 1;
            return TROL_OK;
        }
    }
    text_automaton *a = c->a;
    if (a->n_states == MAX_STATES)
        return fail(c->error, TROL_ERROR_UNSUPPORTED,
                    "a string's lengths and patterns together take more than %d states", MAX_STATES);
    TRY(memory_grow((void **)&c->subsets, &c->subsets_capacity, a->n_states + 1, sizeof *c->subsets, "a pattern",
                    c->error));
    TRY(memory_grow((void **)&a->states, &a->states_capacity, a->n_states + 1, sizeof *a->states, "a pattern",
                    c->error));
    c->n_members += s->n;
    c->subsets[a->n_states] = *s;
    text_state made = {0};
    TRY(check_accepts(c, s, at_begin, &made.accepts));
    *state = (uint32_t)a->n_states;
    c->slots[place] = *state + 1;
    a->states[a->n_states++] = made;
    return TROL_OK;
}

static uint32_t find_name(const construction *c, uint32_t parent, const code_points *class) {
    for (size_t i = 1; i < c->n_names && parent != NO_NODE; i++)
        if (c->names[i].parent == parent && code_points_has(class, c->names[i].character))
            return (uint32_t)i;
    return NO_NODE;
}

static trol_status add_arc(construction *c, uint32_t from, size_t class, uint32_t target) {
    text_automaton *a = c->a;
    text_state *s = &a->states[from];
    for (uint32_t i = 0; i < s->n_arcs; i++)
        if (a->arcs[s->first_arc + i].target == target)
            return code_points_add_all(&a->arcs[s->first_arc + i].set, &c->classes.sets[class], c->error);
    if (a->n_arcs == MAX_ARCS)
        return fail(c->error, TROL_ERROR_UNSUPPORTED, "a string's lengths and patterns together take more than %d arcs",
                    MAX_ARCS);
    TRY(memory_grow((void **)&a->arcs, &a->arcs_capacity, a->n_arcs + 1, sizeof *a->arcs, "a pattern", c->error));
    if (s->n_arcs++ == 0)
        s->first_arc = (uint32_t)a->n_arcs;
    a->arcs[a->n_arcs++] = (text_arc){{0}, target};
    return code_points_add_all(&a->arcs[a->n_arcs - 1].set, &c->classes.sets[class], c->error);
}

static trol_status expand(construction *c, uint32_t state) {
    const text_rules *rules = c->rules;
    const bool bounded = rules->max_length != UINT32_MAX;
    const subset from = c->subsets[state];
    if (bounded && from.length == rules->max_length)
        return TROL_OK;
    for (size_t class = 0; class < c->classes.n; class ++) {
        subset next = {.length = bounded || from.length < rules->min_length ? from.length + 1 : from.length};
        uint32_t target;
        bool dead;
        next.name = find_name(c, from.name, &c->classes.sets[class]);
        begin_subset(c);
        for (uint32_t i = 0; i < from.n; i++) {
            const uint32_t member = c->members[from.first + i];
            const node n = c->p.nodes[member];
            if (n.kind == NODE_MATCHED)
                TRY(visit(c, member));
            if (n.kind == NODE_SET && c->classes.in[class * c->p.n_sets + n.other])
                TRY(visit(c, n.next));
        }
        TRY(close_subset(c, false, false));
        TRY(settle_members(c, &next, &dead));
        if (dead)
            continue;
        TRY(find_state(c, &next, false, &target));
        TRY(add_arc(c, state, class, target));
    }
    for (uint32_t i = 0; i < c->a->states[state].n_arcs; i++)
        TRY(code_points_normalize(&c->a->arcs[c->a->states[state].first_arc + i].set, c->error));
    return TROL_OK;
}

/* The tree of taken names; their characters become classes of their own. */
static trol_status add_name(construction *c, const char *text) {
    uint32_t at = 0, character;
    const size_t n_bytes = strlen(text);
    for (size_t i = 0, n; i < n_bytes; i += n) {
        n = utf8_decode(text + i, n_bytes - i, &character);
        if (n == 0)
            return fail(c->error, TROL_ERROR_FORMAT, "a name is not valid UTF-8");
        uint32_t next = 1;
        while (next < c->n_names && !(c->names[next].parent == at && c->names[next].character == character))
            next++;
        if (next >= c->n_names) {
            code_points single = {0};
            uint32_t set;
            TRY(memory_grow((void **)&c->names, &c->names_capacity, c->n_names + 1, sizeof *c->names, "a pattern",
                            c->error));
            next = (uint32_t)c->n_names;
            c->names[c->n_names++] = (name_node){character, at, false};
            TRY(code_points_add(&single, character, character, c->error));
            TRY(add_set(&c->p, &single, &set));
        }
        at = next;
    }
    c->names[at].taken = true;
    return TROL_OK;
}

static trol_status construct(construction *c) {
    const text_rules *rules = c->rules;
    subset start = {.name = rules->n_taken ? 0 : NO_NODE};
    uint32_t state;
    bool dead;
    c->p.text = "";
    TRY(memory_alloc(rules->n_patterns + 1, sizeof *c->p.starts, "a pattern", (void **)&c->p.starts, c->error));
    uint32_t *begins;
    TRY(memory_alloc(rules->n_patterns + 1, sizeof *begins, "a pattern", (void **)&begins, c->error));
    trol_status status = TROL_OK;
    for (size_t i = 0; i < rules->n_patterns && status == TROL_OK; i++) {
        c->p.starts[i] = (uint32_t)c->p.n_nodes;
        status = add_pattern(&c->p, rules->patterns[i], &begins[i]);
    }
    if (status == TROL_OK)
        status = memory_grow((void **)&c->names, &c->names_capacity, 1, sizeof *c->names, "a pattern", c->error);
    if (status == TROL_OK)
        c->names[c->n_names++] = (name_node){0};
    for (size_t i = 0; i < rules->n_taken && status == TROL_OK; i++)
        status = add_name(c, rules->taken[i]);
    if (status == TROL_OK)
        status = find_classes(&c->p, &c->classes, c->error);
    if (status == TROL_OK)
        status = memory_alloc_zero(c->p.n_nodes, sizeof *c->seen, "a pattern", (void **)&c->seen, c->error);
    begin_subset(c);
    for (size_t i = 0; i < rules->n_patterns && status == TROL_OK; i++)
        status = visit(c, begins[i]);
    memory_free(begins);
    TRY(status);
    TRY(close_subset(c, true, false));
    TRY(settle_members(c, &start, &dead));
    TRY(find_state(c, &start, true, &state));
    for (size_t i = 0; i < c->a->n_states; i++)
        TRY(expand(c, (uint32_t)i));
    return TROL_OK;
}

trol_status text_automaton_new(const text_rules *rules, text_automaton **result, trol_error *error) {
    construction c = {.rules = rules, .error = error, .p = {.error = error}};
    *result = NULL;
    c.a = calloc(1, sizeof *c.a);
    trol_status status = c.a ? construct(&c) : fail_memory(error, sizeof *c.a, "a pattern");
    if (status == TROL_OK) {
        *result = c.a;
        c.a = NULL;
    }
    text_automaton_free(c.a);
    for (size_t i = 0; i < c.p.n_sets; i++)
        code_points_free(&c.p.sets[i]);
    for (size_t i = 0; i < c.classes.n; i++)
        code_points_free(&c.classes.sets[i]);
    memory_free(c.p.sets);
    memory_free(c.p.nodes);
    memory_free(c.p.starts);
    memory_free(c.classes.sets);
    memory_free(c.classes.in);
    memory_free(c.names);
    memory_free(c.subsets);
    memory_free(c.members);
    memory_free(c.slots);
    memory_free(c.work);
    memory_free(c.seen);
    return status;
}

bool text_automaton_accepts(const text_automaton *a, const char *text) {
    uint32_t state = 0, character;
    const size_t n_bytes = strlen(text);
    for (size_t i = 0, n; i < n_bytes; i += n) {
        const text_state *s = &a->states[state];
        n = utf8_decode(text + i, n_bytes - i, &character);
        uint32_t arc = 0;
        while (n > 0 && arc < s->n_arcs && !code_points_has(&a->arcs[s->first_arc + arc].set, character))
            arc++;
        if (n == 0 || arc == s->n_arcs)
            return false;
        state = a->arcs[s->first_arc + arc].target;
    }
    return a->states[state].accepts;
}

void text_automaton_free(text_automaton *a) {
    if (!a)
        return;
    for (size_t i = 0; i < a->n_arcs; i++)
        code_points_free(&a->arcs[i].set);
    memory_free(a->arcs);
    memory_free(a->states);
    free(a);
}
