/* gbnf.c - a GBNF file to a tree of expressions, and the tree to a network, with repetitions written out. */
#include "engine/gbnf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "engine/code_points.h"

enum {
    MAX_TEXT_BYTES = 1 << 18,
    MAX_NAMES = 4096,
    MAX_GROUPS = 100, /* parentheses in parentheses */
    MAX_REPEATS = 1 << 20,
    MAX_RULES_IN_RULES = 1 << 14,
    UNBOUNDED = INT32_MAX
};

/* ---- the tree -------------------------------------------------------------------------------- */

typedef enum expression_kind { IS_TEXT, IS_CLASS, IS_RULE, IS_SEQUENCE, IS_CHOICE, IS_REPEAT } expression_kind;

typedef struct expression {
    expression_kind kind;
    size_t first, n;           /* IS_TEXT: bytes in `texts`; IS_SEQUENCE, IS_CHOICE: of `children`; IS_REPEAT: one */
    code_points set;           /* IS_CLASS */
    size_t rule;               /* IS_RULE: in `names` */
    int32_t smallest, largest; /* IS_REPEAT */
} expression;

typedef struct name {
    const char *text;
    size_t n_bytes, at; /* at: of its first use */
    size_t body;        /* expression + 1; 0: not defined yet */
    uint32_t rule;      /* of the grammar */
} name;

typedef struct parser {
    const char *text;
    size_t n_bytes, at;
    int depth;
    expression *expressions;
    size_t n_expressions, expressions_capacity;
    size_t *children;
    size_t n_children, children_capacity;
    char *literals;
    size_t n_literals, literals_capacity;
    name *names;
    size_t n_names, names_capacity;
    grammar *g;
    code_point_rules character_rules;
    trol_error *error;
} parser;

/* The error at a place of the text. */
static trol_status wrong_at(const parser *p, size_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));

static trol_status wrong_at(const parser *p, size_t at, const char *format, ...) {
    char what[400];
    size_t line = 1;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < at && i < p->n_bytes; i++)
        line += p->text[i] == '\n';
    return fail(p->error, TROL_ERROR_FORMAT, "the grammar's line %zu: %s", line, what);
}

#define wrong(p, ...) wrong_at(p, (p)->at, __VA_ARGS__)

static int peek(const parser *p) { return p->at < p->n_bytes ? (uint8_t)p->text[p->at] : -1; }

static bool is_name(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static void skip_space(parser *p, bool lines) {
    for (;;) {
        const int c = peek(p);
        if (c == '#')
            while (peek(p) != '\n' && peek(p) != '\r' && peek(p) >= 0)
                p->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            p->at++;
        else
            return;
    }
}

static trol_status add_expression(parser *p, expression made, size_t *index) {
    TRY(memory_grow((void **)&p->expressions, &p->expressions_capacity, p->n_expressions + 1, sizeof made, "a grammar",
                    p->error));
    *index = p->n_expressions;
    p->expressions[p->n_expressions++] = made;
    return TROL_OK;
}

/* Makes an expression of the n listed ones; a single one is returned as it is. */
static trol_status add_list(parser *p, expression_kind kind, const size_t *list, size_t n, size_t *index) {
    if (n == 1) {
        *index = list[0];
        return TROL_OK;
    }
    expression made = {.kind = kind, .first = p->n_children, .n = n};
    TRY(memory_grow((void **)&p->children, &p->children_capacity, p->n_children + n, sizeof *p->children, "a grammar",
                    p->error));
    for (size_t i = 0; i < n; i++)
        p->children[p->n_children++] = list[i];
    return add_expression(p, made, index);
}

/* A growing list that a function owns while it parses. */
typedef struct index_list {
    size_t *items;
    size_t n, capacity;
} index_list;

static trol_status list_add(parser *p, index_list *list, size_t item) {
    TRY(memory_grow((void **)&list->items, &list->capacity, list->n + 1, sizeof *list->items, "a grammar", p->error));
    list->items[list->n++] = item;
    return TROL_OK;
}

/* For %.*s */
#define SHOWN(name) (int)((name)->n_bytes < 100 ? (name)->n_bytes : 100), (name)->text

/* ---- characters ------------------------------------------------------------------------------ */

static trol_status parse_hex(parser *p, int n_digits, uint32_t *code_point) {
    *code_point = 0;
    for (int i = 0; i < n_digits; i++) {
        const int digit = hex_value(peek(p));
        if (digit < 0)
            return wrong(p, "an escape with x, u or U needs %d hexadecimal digits", n_digits);
        *code_point = *code_point << 4 | (uint32_t)digit;
        p->at++;
    }
    if (*code_point > CODE_POINT_LAST || (*code_point >= 0xd800 && *code_point <= 0xdfff))
        return wrong(p, "U+%04X is not a character", (unsigned)*code_point);
    return TROL_OK;
}

static trol_status parse_character(parser *p, uint32_t *code_point) {
    if (peek(p) == '\\') {
        p->at++;
        const int c = peek(p);
        p->at += c >= 0;
        switch (c) {
        case 'n':
            *code_point = '\n';
            return TROL_OK;
        case 'r':
            *code_point = '\r';
            return TROL_OK;
        case 't':
            *code_point = '\t';
            return TROL_OK;
        case 'x':
            return parse_hex(p, 2, code_point);
        case 'u':
            return parse_hex(p, 4, code_point);
        case 'U':
            return parse_hex(p, 8, code_point);
        case '\\':
        case '"':
        case '[':
        case ']':
        case '-':
        case '^':
            *code_point = (uint32_t)c;
            return TROL_OK;
        default:
            return wrong(p, "the escape \\%c is not known", c > ' ' && c < 0x7f ? c : '?');
        }
    }
    const size_t n = utf8_decode(p->text + p->at, p->n_bytes - p->at, code_point);
    if (n == 0)
        return wrong(p, "not valid UTF-8");
    p->at += n;
    return TROL_OK;
}

static trol_status parse_literal(parser *p, size_t *index) {
    expression made = {.kind = IS_TEXT, .first = p->n_literals};
    p->at++;
    while (peek(p) != '"') {
        uint32_t c;
        if (peek(p) < 0 || peek(p) == '\n')
            return wrong(p, "a literal is not closed: a second \" is expected");
        TRY(parse_character(p, &c));
        TRY(memory_grow((void **)&p->literals, &p->literals_capacity, p->n_literals + 4, 1, "a grammar", p->error));
        p->n_literals += utf8_encode(c, p->literals + p->n_literals);
    }
    p->at++;
    made.n = p->n_literals - made.first;
    return add_expression(p, made, index);
}

static trol_status parse_class_members(parser *p, code_points *set) {
    const bool negated = peek(p) == '^';
    p->at += negated;
    while (peek(p) != ']') {
        uint32_t first, last;
        if (peek(p) < 0 || peek(p) == '\n')
            return wrong(p, "a class is not closed: ] is expected");
        TRY(parse_character(p, &first));
        last = first;
        if (peek(p) == '-' && p->at + 1 < p->n_bytes && p->text[p->at + 1] != ']') {
            p->at++;
            TRY(parse_character(p, &last));
        }
        if (last < first)
            return wrong(p, "a class has a range from U+%04X down to U+%04X", (unsigned)first, (unsigned)last);
        TRY(code_points_add(set, first, last, p->error));
    }
    p->at++;
    TRY(code_points_normalize(set, p->error));
    return negated ? code_points_invert(set, p->error) : TROL_OK;
}

static trol_status parse_class(parser *p, size_t *index) {
    TRY(add_expression(p, (expression){.kind = IS_CLASS}, index));
    code_points set = {0};
    const bool any = peek(p) == '.';
    p->at++;
    trol_status status = any ? code_points_invert(&set, p->error) : parse_class_members(p, &set);
    p->expressions[*index].set = set;
    return status;
}

/* ---- sequences, alternates, rules ----------------------------------------------------------------- */

static trol_status find_name(parser *p, size_t *index) {
    const size_t begin = p->at;
    while (is_name(peek(p)))
        p->at++;
    for (size_t i = 0; i < p->n_names; i++)
        if (p->names[i].n_bytes == p->at - begin && memcmp(p->names[i].text, p->text + begin, p->at - begin) == 0) {
            *index = i;
            return TROL_OK;
        }
    if (p->n_names == MAX_NAMES)
        return wrong(p, "the grammar has more than %d rules", MAX_NAMES);
    TRY(memory_grow((void **)&p->names, &p->names_capacity, p->n_names + 1, sizeof *p->names, "a grammar", p->error));
    name made = {.text = p->text + begin, .n_bytes = p->at - begin, .at = begin};
    TRY(grammar_add_rule(p->g, &made.rule, p->error));
    *index = p->n_names;
    p->names[p->n_names++] = made;
    return TROL_OK;
}

static trol_status parse_count(parser *p, int32_t *count) {
    if (peek(p) < '0' || peek(p) > '9')
        return wrong(p, "a number is expected in {}");
    *count = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        *count = 10 * *count + (peek(p) - '0');
        if (*count > MAX_REPEATS)
            return wrong(p, "an element is repeated more than %d times", MAX_REPEATS);
        p->at++;
    }
    return TROL_OK;
}

/* {n}, {n,} or {n,m} */
static trol_status parse_counts(parser *p, bool lines, int32_t *smallest, int32_t *largest) {
    p->at++;
    skip_space(p, lines);
    TRY(parse_count(p, smallest));
    *largest = *smallest;
    skip_space(p, lines);
    if (peek(p) == ',') {
        p->at++;
        skip_space(p, lines);
        *largest = UNBOUNDED;
        if (peek(p) != '}')
            TRY(parse_count(p, largest));
        skip_space(p, lines);
    }
    if (peek(p) != '}')
        return wrong(p, "a repetition is {n}, {n,} or {n,m}");
    p->at++;
    return *largest < *smallest ? wrong(p, "{%d,%d} has a maximum below its minimum", *smallest, *largest) : TROL_OK;
}

static trol_status parse_repeats(parser *p, bool lines, size_t *index) {
    for (int n = 0;; n++) {
        expression made = {.kind = IS_REPEAT, .first = *index, .n = 1, .smallest = 0, .largest = UNBOUNDED};
        const int c = peek(p);
        if (c == '{')
            TRY(parse_counts(p, lines, &made.smallest, &made.largest));
        else if (c != '*' && c != '+' && c != '?')
            return TROL_OK;
        else
            p->at++;
        if (n >= MAX_GROUPS)
            return wrong(p, "more than %d repetitions of repetitions", MAX_GROUPS);
        made.smallest = c == '+' ? 1 : made.smallest;
        made.largest = c == '?' ? 1 : made.largest;
        TRY(add_expression(p, made, index));
        skip_space(p, lines);
    }
}

static trol_status parse_alternates(parser *p, bool grouped, size_t *index);

static trol_status parse_group(parser *p, size_t *index) {
    if (++p->depth > MAX_GROUPS)
        return wrong(p, "parentheses are nested more than %d deep", MAX_GROUPS);
    p->at++;
    skip_space(p, true);
    TRY(parse_alternates(p, true, index));
    if (peek(p) != ')')
        return wrong(p, "a group is not closed: ) is expected");
    p->at++;
    p->depth--;
    return TROL_OK;
}

static trol_status parse_sequence(parser *p, bool grouped, index_list *sequence) {
    for (;;) {
        size_t index = 0;
        const int c = peek(p);
        if (c == '"')
            TRY(parse_literal(p, &index));
        else if (c == '[' || c == '.')
            TRY(parse_class(p, &index));
        else if (c == '(')
            TRY(parse_group(p, &index));
        else if (is_name(c)) {
            size_t rule;
            TRY(find_name(p, &rule));
            TRY(add_expression(p, (expression){.kind = IS_RULE, .rule = rule}, &index));
        } else
            return TROL_OK;
        skip_space(p, grouped);
        TRY(parse_repeats(p, grouped, &index));
        TRY(list_add(p, sequence, index));
    }
}

/* Whether the rule continues with | on a later line; if so, the line breaks are skipped. */
static bool goes_on(parser *p) {
    const size_t before = p->at;
    skip_space(p, true);
    if (peek(p) == '|')
        return true;
    p->at = before;
    return false;
}

static trol_status parse_alternates(parser *p, bool grouped, size_t *index) {
    index_list choices = {0}, sequence = {0};
    trol_status status = TROL_OK;
    do {
        size_t made;
        sequence.n = 0;
        TRY_GOTO(parse_sequence(p, grouped, &sequence), done);
        TRY_GOTO(add_list(p, IS_SEQUENCE, sequence.items, sequence.n, &made), done);
        TRY_GOTO(list_add(p, &choices, made), done);
        if (!goes_on(p))
            break;
        p->at++;
        skip_space(p, true);
    } while (true);
    status = add_list(p, IS_CHOICE, choices.items, choices.n, index);
done:
    memory_free(choices.items);
    memory_free(sequence.items);
    return status;
}

static trol_status parse_rule(parser *p) {
    size_t rule, body;
    if (!is_name(peek(p)))
        return wrong(p, "a rule's name is expected");
    TRY(find_name(p, &rule));
    const name *named = &p->names[rule];
    if (named->body)
        return wrong(p, "rule %.*s is defined a second time", SHOWN(named));
    skip_space(p, false);
    if (p->n_bytes - p->at < 3 || memcmp(p->text + p->at, "::=", 3) != 0)
        return wrong(p, "::= is expected after %.*s", SHOWN(named));
    p->at += 3;
    skip_space(p, true);
    TRY(parse_alternates(p, false, &body));
    if (peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r')
        return wrong(p, "a literal, a class, a rule's name, a group or the line's end is expected");
    p->names[rule].body = body + 1;
    return TROL_OK;
}

/* ---- the network ----------------------------------------------------------------------------- */

static trol_status emit(parser *p, size_t index, uint32_t from, uint32_t to);

static trol_status emit_repeat(parser *p, const expression *e, uint32_t from, uint32_t to) {
    uint32_t next;
    for (int32_t i = 0; i < e->smallest; i++, from = next) {
        TRY(grammar_add_state(p->g, &next, p->error));
        TRY(emit(p, e->first, from, next));
    }
    if (e->largest == UNBOUNDED) {
        uint32_t loop;
        TRY(grammar_add_state(p->g, &loop, p->error));
        TRY(grammar_add_empty(p->g, from, loop, p->error));
        TRY(emit(p, e->first, loop, loop));
        return grammar_add_empty(p->g, loop, to, p->error);
    }
    for (int32_t i = e->smallest; i < e->largest; i++, from = next) {
        TRY(grammar_add_empty(p->g, from, to, p->error));
        TRY(grammar_add_state(p->g, &next, p->error));
        TRY(emit(p, e->first, from, next));
    }
    return grammar_add_empty(p->g, from, to, p->error);
}

/* Recursion is as deep as groups are. */
static trol_status emit(parser *p, size_t index, uint32_t from, uint32_t to) {
    const expression *e = &p->expressions[index];
    switch (e->kind) {
    case IS_TEXT:
        return grammar_add_bytes(p->g, from, to, p->literals + e->first, e->n, p->error);
    case IS_CLASS:
        return grammar_add_characters(p->g, &p->character_rules, from, to, &e->set, p->error);
    case IS_RULE:
        return grammar_add_call(p->g, from, to, p->names[e->rule].rule, p->error);
    case IS_REPEAT:
        return emit_repeat(p, e, from, to);
    case IS_CHOICE:
        for (size_t i = 0; i < e->n; i++)
            TRY(emit(p, p->children[e->first + i], from, to));
        return TROL_OK;
    case IS_SEQUENCE:
        for (size_t i = 0; i < e->n; i++) {
            uint32_t next = to;
            if (i + 1 < e->n)
                TRY(grammar_add_state(p->g, &next, p->error));
            TRY(emit(p, p->children[e->first + i], from, next));
            from = next;
        }
        return e->n == 0 ? grammar_add_empty(p->g, from, to, p->error) : TROL_OK;
    }
    return TROL_OK;
}

static trol_status parse_file(parser *p) {
    for (skip_space(p, true); peek(p) >= 0; skip_space(p, true))
        TRY(parse_rule(p));
    for (size_t i = 0; i < p->n_names; i++)
        if (!p->names[i].body)
            return wrong_at(p, p->names[i].at, "rule %.*s is not defined", SHOWN(&p->names[i]));
    return TROL_OK;
}

static trol_status finish(parser *p) {
    size_t root = p->n_names;
    for (size_t i = 0; i < p->n_names; i++) {
        const grammar_rule *rule = &p->g->rules[p->names[i].rule];
        TRY(emit(p, p->names[i].body - 1, rule->start, rule->end));
        if (p->names[i].n_bytes == 4 && memcmp(p->names[i].text, "root", 4) == 0)
            root = i;
    }
    if (root == p->n_names)
        return fail(p->error, TROL_ERROR_FORMAT, "the grammar has no rule named root");
    grammar_flaw flaw;
    uint32_t rule;
    TRY(grammar_finish(p->g, p->names[root].rule, &flaw, &rule, p->error));
    size_t named = root;
    for (size_t i = 0; i < p->n_names; i++)
        if (p->names[i].rule == rule)
            named = i;
    const name *n = &p->names[named];
    switch (flaw) {
    case GRAMMAR_SOUND:
        return TROL_OK;
    case GRAMMAR_LEFT_RECURSIVE:
        return wrong_at(p, n->at, "rule %.*s is left-recursive: it may begin with itself, which is not supported",
                        SHOWN(n));
    case GRAMMAR_EMPTY:
        return fail(p->error, TROL_ERROR_FORMAT, "the grammar matches no text: its root never comes to an end");
    case GRAMMAR_TOO_LONG:
        return fail(p->error, TROL_ERROR_UNSUPPORTED, "all that the grammar matches is longer than a million bytes");
    }
    return TROL_OK;
}

trol_status gbnf_compile(const char *text, size_t n_bytes, grammar **result, trol_error *error) {
    parser p = {.text = text, .n_bytes = n_bytes, .error = error};
    trol_status status;
    *result = NULL;
    if (n_bytes > MAX_TEXT_BYTES)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the grammar has %zu bytes, expected at most %d", n_bytes,
                    MAX_TEXT_BYTES);
    TRY_GOTO(grammar_new(MAX_RULES_IN_RULES, &p.g, error), done);
    TRY_GOTO(parse_file(&p), done);
    TRY_GOTO(finish(&p), done);
    *result = p.g;
    p.g = NULL;
done:
    for (size_t i = 0; i < p.n_expressions; i++)
        code_points_free(&p.expressions[i].set);
    memory_free(p.expressions);
    memory_free(p.children);
    memory_free(p.literals);
    memory_free(p.names);
    code_point_rules_free(&p.character_rules);
    grammar_free(p.g);
    return status;
}
