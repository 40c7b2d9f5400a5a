/* json.c - a strict check of the text first, then cJSON builds the tree.
 *
 * cJSON alone is too lenient for untrusted files: it accepts control characters and broken UTF-8 in strings, numbers
 * such as 01 and a tree of a thousand levels, and cuts a string at \u0000. So one pass over the text checks the whole
 * grammar first; what cJSON is then given, it reads as the standard says. */
#include "format/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "base/download.h"

enum {
    MAX_DEPTH = 64,
    MAX_VALUES = 4 << 20,      /* cJSON needs about 80 bytes for each: 320 MB at most */
    MAX_NUMBER_CHARACTERS = 60 /* cJSON cuts longer ones */
};

/* Integers up to this are exact in a double, and no other integer is rounded to one of them. */
static const double LARGEST_EXACT = 9007199254740991.0;

/* ---- the grammar ----------------------------------------------------------------------------- */

typedef struct scanner {
    const char *text;
    size_t n_bytes, at, n_values;
    const char *problem; /* what is wrong at `at`; set once */
} scanner;

static bool wrong(scanner *s, const char *problem) {
    s->problem = problem;
    return false;
}

static void skip_space(scanner *s) {
    while (s->at < s->n_bytes && strchr(" \t\n\r", s->text[s->at]) && s->text[s->at] != '\0')
        s->at++;
}

static char next_character(const scanner *s) { return s->at < s->n_bytes ? s->text[s->at] : '\0'; }

static bool skip_digits(scanner *s) {
    size_t begin = s->at;
    while (next_character(s) >= '0' && next_character(s) <= '9')
        s->at++;
    return s->at > begin || wrong(s, "a digit is expected");
}

static bool scan_number(scanner *s) {
    size_t begin = s->at;
    if (next_character(s) == '-')
        s->at++;
    if (next_character(s) == '0')
        s->at++;
    else if (!skip_digits(s))
        return false;
    if (next_character(s) == '.') {
        s->at++;
        if (!skip_digits(s))
            return false;
    }
    if (next_character(s) == 'e' || next_character(s) == 'E') {
        s->at++;
        if (next_character(s) == '+' || next_character(s) == '-')
            s->at++;
        if (!skip_digits(s))
            return false;
    }
    return s->at - begin <= MAX_NUMBER_CHARACTERS || wrong(s, "a number has more than 60 characters");
}

/* The four hexadecimal digits of a \u escape; -1 if they are not. */
static int32_t scan_hexadecimal(scanner *s) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        const int digit = hex_value(next_character(s));
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool scan_unicode_escape(scanner *s) {
    int32_t unit = scan_hexadecimal(s);
    if (unit < 0)
        return wrong(s, "\\u is not followed by four hexadecimal digits");
    if (unit == 0)
        return wrong(s, "a string holds a NUL character");
    if (unit >= 0xdc00 && unit < 0xe000)
        return wrong(s, "a low surrogate has no high one before it");
    if (unit < 0xd800 || unit >= 0xe000)
        return true;
    if (s->n_bytes - s->at >= 2 && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u') {
        s->at += 2;
        unit = scan_hexadecimal(s);
        if (unit >= 0xdc00 && unit < 0xe000)
            return true;
    }
    return wrong(s, "a high surrogate has no low one after it");
}

static bool scan_string(scanner *s) {
    s->at++; /* the opening quote */
    for (;;) {
        if (s->at >= s->n_bytes)
            return wrong(s, "a string is not closed");
        unsigned char c = (unsigned char)s->text[s->at];
        uint32_t code_point;
        if (c == '"') {
            s->at++;
            return true;
        }
        if (c < 0x20)
            return wrong(s, "a string holds a control character");
        if (c == '\\') {
            s->at++;
            char escape = next_character(s);
            if (escape == '\0' || !strchr("\"\\/bfnrtu", escape))
                return wrong(s, "a backslash is not followed by a known escape");
            s->at++;
            if (escape == 'u' && !scan_unicode_escape(s))
                return false;
            continue;
        }
        size_t bytes = utf8_decode(s->text + s->at, s->n_bytes - s->at, &code_point);
        if (bytes == 0)
            return wrong(s, "a string is not valid UTF-8");
        s->at += bytes;
    }
}

static bool scan_word(scanner *s, const char *word) {
    size_t length = strlen(word);
    if (s->n_bytes - s->at < length || memcmp(s->text + s->at, word, length) != 0)
        return wrong(s, "a value is expected");
    s->at += length;
    return true;
}

static bool scan_value(scanner *s, int depth);

/* An object or an array: `close` is its last character. */
static bool scan_collection(scanner *s, int depth, char close) {
    if (depth > MAX_DEPTH)
        return wrong(s, "values are nested more than 64 deep");
    s->at++; /* the opening bracket */
    skip_space(s);
    if (next_character(s) == close) {
        s->at++;
        return true;
    }
    for (;;) {
        skip_space(s);
        if (close == '}') {
            if (next_character(s) != '"')
                return wrong(s, "a key in double quotes is expected");
            if (!scan_string(s))
                return false;
            skip_space(s);
            if (next_character(s) != ':')
                return wrong(s, "a colon is expected");
            s->at++;
            skip_space(s);
        }
        if (!scan_value(s, depth))
            return false;
        skip_space(s);
        char c = next_character(s);
        if (c != ',' && c != close)
            return wrong(s, close == '}' ? "a comma or } is expected" : "a comma or ] is expected");
        s->at++;
        if (c == close)
            return true;
    }
}

static bool scan_value(scanner *s, int depth) {
    if (++s->n_values > MAX_VALUES)
        return wrong(s, "there are more than 4194304 values");
    switch (next_character(s)) {
    case '{':
        return scan_collection(s, depth + 1, '}');
    case '[':
        return scan_collection(s, depth + 1, ']');
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        if (next_character(s) == '-' || (next_character(s) >= '0' && next_character(s) <= '9'))
            return scan_number(s);
        return wrong(s, s->at < s->n_bytes ? "a value is expected" : "the text ends where a value is expected");
    }
}

static trol_status check_grammar(const char *text, size_t n_bytes, const char *name, trol_error *error) {
    scanner s = {.text = text, .n_bytes = n_bytes};
    skip_space(&s);
    bool valid = scan_value(&s, 0);
    if (valid) {
        skip_space(&s);
        valid = s.at == n_bytes || wrong(&s, "more text follows the value");
    }
    if (valid)
        return TROL_OK;
    size_t line = 1, line_begin = 0;
    for (size_t i = 0; i < s.at; i++)
        if (text[i] == '\n') {
            line++;
            line_begin = i + 1;
        }
    return fail(error, TROL_ERROR_FORMAT, "%s is not valid JSON: %s (line %zu, byte %zu)", name, s.problem, line,
                s.at - line_begin + 1);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

typedef struct key_list {
    void *keys; /* const char *[capacity] */
    size_t capacity;
} key_list;

/* Checks that no object below `value` (at most 64 levels, as the grammar was checked) has a key twice. `list` is
 * scratch. */
static trol_status check_keys(const cJSON *value, const char *name, key_list *list, trol_error *error) {
    if (cJSON_IsObject(value)) {
        size_t n_keys = 0;
        for (const cJSON *member = value->child; member; member = member->next) {
            TRY(memory_grow(&list->keys, &list->capacity, n_keys + 1, sizeof(char *), name, error));
            ((const char **)list->keys)[n_keys++] = member->string;
        }
        const char **keys = list->keys;
        if (n_keys > 1)
            qsort(keys, n_keys, sizeof *keys, compare_texts);
        for (size_t i = 1; i < n_keys; i++)
            if (strcmp(keys[i - 1], keys[i]) == 0)
                return fail(error, TROL_ERROR_FORMAT, "%s has the key \"%.200s\" twice in one object", name, keys[i]);
    }
    if (cJSON_IsObject(value) || cJSON_IsArray(value))
        for (const cJSON *member = value->child; member; member = member->next)
            if (member->child)
                TRY(check_keys(member, name, list, error));
    return TROL_OK;
}

trol_status json_parse(const char *text, size_t n_bytes, const char *name, cJSON **json, trol_error *error) {
    *json = NULL;
    TRY(check_grammar(text, n_bytes, name, error));
    cJSON *parsed = cJSON_ParseWithLength(text, n_bytes);
    if (!parsed) /* the grammar is right, so it can only be out of memory */
        return fail_memory(error, n_bytes, name);
    key_list list = {0};
    trol_status status = check_keys(parsed, name, &list, error);
    memory_free(list.keys);
    if (status == TROL_OK)
        *json = parsed;
    else
        cJSON_Delete(parsed);
    return status;
}

trol_status json_read_file(const char *path, size_t max_bytes, cJSON **json, trol_error *error) {
    char *text;
    size_t n_bytes;
    *json = NULL;
    TRY(file_read(path, max_bytes, &text, &n_bytes, error));
    trol_status status = download_check(path, text, n_bytes, error);
    if (status == TROL_OK)
        status = json_parse(text, n_bytes, path, json, error);
    memory_free(text);
    return status;
}

/* ---- members --------------------------------------------------------------------------------- */

/* What a value is, for "is ..., expected ...". Returns text. */
static const char *describe(const cJSON *value, char *text, size_t bytes) {
    if (cJSON_IsNumber(value))
        snprintf(text, bytes, "%.17g", value->valuedouble);
    else if (cJSON_IsString(value))
        snprintf(text, bytes, "the string \"%.60s\"", value->valuestring);
    else
        snprintf(text, bytes, "%s",
                 cJSON_IsBool(value)     ? cJSON_IsTrue(value) ? "true" : "false"
                 : cJSON_IsArray(value)  ? "an array"
                 : cJSON_IsObject(value) ? "an object"
                                         : "null");
    return text;
}

static trol_status fail_member(const cJSON *value, const char *file, const char *key, const char *expected,
                               trol_error *error) {
    char found[128];
    return fail(error, TROL_ERROR_FORMAT, "%s: \"%s\" is %s, expected %s", file, key,
                value ? describe(value, found, sizeof found) : "missing", expected);
}

/* *member is NULL where it is absent or null. */
static trol_status find_member(const cJSON *object, const char *file, const char *key, const cJSON **member,
                               trol_error *error) {
    char found[128];
    *member = NULL;
    if (!cJSON_IsObject(object))
        return fail(error, TROL_ERROR_FORMAT, "%s: where \"%s\" is looked for is %s, expected an object", file, key,
                    object ? describe(object, found, sizeof found) : "nothing");
    const char *dot = strrchr(key, '.');
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, dot ? dot + 1 : key);
    if (value && !cJSON_IsNull(value))
        *member = value;
    return TROL_OK;
}

bool json_exact_integer(const cJSON *value, int64_t *integer) {
    if (!cJSON_IsNumber(value))
        return false;
    double number = value->valuedouble;
    if (!(fabs(number) <= LARGEST_EXACT) || number != floor(number))
        return false;
    *integer = (int64_t)number;
    return true;
}

static trol_status integer_of(const cJSON *member, const char *file, const char *key, int64_t smallest, int64_t largest,
                              int64_t *value, trol_error *error) {
    int64_t integer;
    if (json_exact_integer(member, &integer) && integer >= smallest && integer <= largest) {
        *value = integer;
        return TROL_OK;
    }
    char expected[96];
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)smallest, (long long)largest);
    return fail_member(member, file, key, expected, error);
}

trol_status json_integer(const cJSON *object, const char *file, const char *key, int64_t smallest, int64_t largest,
                         int64_t *value, trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    return integer_of(member, file, key, smallest, largest, value, error);
}

trol_status json_integer_or(const cJSON *object, const char *file, const char *key, int64_t otherwise, int64_t smallest,
                            int64_t largest, int64_t *value, trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    if (member)
        return integer_of(member, file, key, smallest, largest, value, error);
    *value = otherwise;
    return TROL_OK;
}

static trol_status number_of(const cJSON *member, const char *file, const char *key, double smallest, double largest,
                             double *value, trol_error *error) {
    if (cJSON_IsNumber(member) && member->valuedouble >= smallest && member->valuedouble <= largest) {
        *value = member->valuedouble;
        return TROL_OK;
    }
    char expected[96];
    snprintf(expected, sizeof expected, "a number from %g to %g", smallest, largest);
    return fail_member(member, file, key, expected, error);
}

trol_status json_number(const cJSON *object, const char *file, const char *key, double smallest, double largest,
                        double *value, trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    return number_of(member, file, key, smallest, largest, value, error);
}

trol_status json_number_or(const cJSON *object, const char *file, const char *key, double otherwise, double smallest,
                           double largest, double *value, trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    if (member)
        return number_of(member, file, key, smallest, largest, value, error);
    *value = otherwise;
    return TROL_OK;
}

trol_status json_bool_or(const cJSON *object, const char *file, const char *key, bool otherwise, bool *value,
                         trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    if (member && !cJSON_IsBool(member))
        return fail_member(member, file, key, "true or false", error);
    *value = member ? cJSON_IsTrue(member) : otherwise;
    return TROL_OK;
}

trol_status json_string(const cJSON *object, const char *file, const char *key, const char **value, trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    if (!cJSON_IsString(member))
        return fail_member(member, file, key, "a string", error);
    *value = member->valuestring;
    return TROL_OK;
}

trol_status json_string_or(const cJSON *object, const char *file, const char *key, const char *otherwise,
                           const char **value, trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    if (member && !cJSON_IsString(member))
        return fail_member(member, file, key, "a string", error);
    *value = member ? member->valuestring : otherwise;
    return TROL_OK;
}

trol_status json_object_or_null(const cJSON *object, const char *file, const char *key, const cJSON **value,
                                trol_error *error) {
    const cJSON *member;
    TRY(find_member(object, file, key, &member, error));
    if (member && !cJSON_IsObject(member))
        return fail_member(member, file, key, "an object", error);
    *value = member;
    return TROL_OK;
}
