#include "common/arguments.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

/* Each returns whether the whole text is a value of its kind. */
static bool read_integer(const char *text, double smallest, double largest, int32_t *value) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (!strchr("-0123456789", text[0]) || *end || end == text || errno || (double)number < smallest ||
        (double)number > largest)
        return false;
    *value = (int32_t)number;
    return true;
}

static bool read_seed(const char *text, uint64_t *value) {
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && !errno;
}

static bool read_number(const char *text, double smallest, double largest, float *value) {
    char *end;
    double number = strtod(text, &end);
    if (!strchr("-.0123456789", text[0]) || *end || end == text || !isfinite(number) || number < smallest ||
        number > largest)
        return false;
    *value = (float)number;
    return true;
}

static bool read_choice(const char *text, const char *const *choices, int32_t *value) {
    for (int32_t i = 0; choices[i]; i++)
        if (strcmp(text, choices[i]) == 0) {
            *value = i;
            return true;
        }
    return false;
}

static bool store(const argument_flag *flag, const char *text, void *place) {
    switch (flag->kind) {
    case ARGUMENT_SWITCH:
        *(bool *)place = true;
        return true;
    case ARGUMENT_TEXT:
    case ARGUMENT_PLACE:
        *(const char **)place = text;
        return (double)strlen(text) >= flag->smallest;
    case ARGUMENT_TEXTS: {
        argument_texts *texts = place;
        if (texts->count == ARGUMENT_MAX_TEXTS || (double)strlen(text) < flag->smallest)
            return false;
        texts->items[texts->count++] = text;
        return true;
    }
    case ARGUMENT_INTEGER:
        return read_integer(text, flag->smallest, flag->largest, place);
    case ARGUMENT_SEED:
        return read_seed(text, place);
    case ARGUMENT_NUMBER:
        return read_number(text, flag->smallest, flag->largest, place);
    case ARGUMENT_CHOICE:
        return read_choice(text, flag->choices, place);
    }
    return false;
}

/* Describes the expected value. */
static const char *expectation(const argument_flag *flag, char *text, size_t bytes) {
    size_t used = 0;
    switch (flag->kind) {
    case ARGUMENT_INTEGER:
        snprintf(text, bytes, "a whole number from %.0f to %.0f", flag->smallest, flag->largest);
        break;
    case ARGUMENT_NUMBER:
        snprintf(text, bytes, "a number from %g to %g", flag->smallest, flag->largest);
        break;
    case ARGUMENT_SEED:
        snprintf(text, bytes, "a whole number from 0 to 18446744073709551615");
        break;
    case ARGUMENT_CHOICE:
        for (int i = 0; flag->choices[i] && used < bytes; i++)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? flag->choices[i + 1] ? ", " : " or " : "",
                                     flag->choices[i]);
        break;
    case ARGUMENT_TEXTS:
        snprintf(text, bytes, "a name, and at most %d of them", ARGUMENT_MAX_TEXTS);
        break;
    default:
        snprintf(text, bytes, "a name");
    }
    return text;
}

/* The flag that an argument spells, up to its '='. */
static const argument_flag *find_flag(const char *argument, const argument_flag *flags, size_t n_flags) {
    size_t length = strcspn(argument, "=");
    for (size_t i = 0; i < n_flags; i++) {
        const argument_flag *flag = &flags[i];
        if (flag->kind == ARGUMENT_PLACE)
            continue;
        if ((strncmp(flag->name, argument, length) == 0 && !flag->name[length]) ||
            (flag->short_name && strcmp(flag->short_name, argument) == 0))
            return flag;
    }
    return NULL;
}

/* The first place that is still empty. */
static const argument_flag *find_place(const argument_flag *flags, size_t n_flags, void *options) {
    for (size_t i = 0; i < n_flags; i++)
        if (flags[i].kind == ARGUMENT_PLACE && !*(const char **)(void *)((char *)options + flags[i].offset))
            return &flags[i];
    return NULL;
}

bool arguments_parse(int argc, char **argv, const argument_flag *flags, size_t n_flags, void *options,
                     trol_error *error) {
    bool only_places = false;
    for (int i = 1; i < argc; i++) {
        const bool is_flag = argv[i][0] == '-' && !only_places;
        if (is_flag && strcmp(argv[i], "--") == 0) {
            only_places = true;
            continue;
        }
        const argument_flag *flag = is_flag ? find_flag(argv[i], flags, n_flags) : find_place(flags, n_flags, options);
        const char *equals = strchr(argv[i], '='), *value = NULL;
        char expected[160];
        if (!flag)
            return !fail(error, TROL_ERROR_ARGUMENT, is_flag ? "unknown option %s" : "unexpected argument %s", argv[i]);
        if (flag->kind == ARGUMENT_SWITCH && equals)
            return !fail(error, TROL_ERROR_ARGUMENT, "%s takes no value", flag->name);
        if (flag->kind == ARGUMENT_PLACE) {
            value = argv[i];
        } else if (flag->kind != ARGUMENT_SWITCH) {
            value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
            if (!value)
                return !fail(error, TROL_ERROR_ARGUMENT, "%s needs a value", argv[i]);
        }
        if (!store(flag, value, (char *)options + flag->offset))
            return !fail(error, TROL_ERROR_ARGUMENT, "%s is \"%s\", expected %s", flag->name, value,
                         expectation(flag, expected, sizeof expected));
    }
    return true;
}

bool arguments_given(int argc, char **argv, const argument_flag *flags, size_t n_flags, const char *name) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const argument_flag *flag = argv[i][0] == '-' ? find_flag(argv[i], flags, n_flags) : NULL;
        if (flag && strcmp(flag->name, name) == 0)
            return true;
        if (flag && flag->kind != ARGUMENT_SWITCH && !strchr(argv[i], '='))
            i++; /* its value */
    }
    return false;
}
