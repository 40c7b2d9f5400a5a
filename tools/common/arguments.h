/* arguments.h - command-line flags from a table: each row names a flag, the kind of its value, and where to store
 * it. */
#ifndef TOOLS_ARGUMENTS_H
#define TOOLS_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trol.h"

enum { ARGUMENT_MAX_TEXTS = 64 };

/* The values of a flag that may be repeated. */
typedef struct argument_texts {
    const char *items[ARGUMENT_MAX_TEXTS];
    size_t count;
} argument_texts;

typedef enum argument_kind {
    ARGUMENT_SWITCH,  /* no value; bool */
    ARGUMENT_TEXT,    /* const char * */
    ARGUMENT_TEXTS,   /* argument_texts */
    ARGUMENT_INTEGER, /* int32_t, smallest .. largest */
    ARGUMENT_SEED,    /* uint64_t */
    ARGUMENT_NUMBER,  /* float, smallest .. largest */
    ARGUMENT_CHOICE,  /* int32_t: the index among `choices` */
    ARGUMENT_PLACE    /* const char *: not a flag but a positional argument, in order */
} argument_kind;

typedef struct argument_flag {
    const char *name, *short_name; /* "--threads", "-t" or NULL */
    argument_kind kind;
    size_t offset;            /* of the member for the value, in the options */
    double smallest, largest; /* of texts: 1 for a name, which must not be empty */
    const char *choices[12];  /* NULL-terminated */
} argument_flag;

/* Reads argv[1 ..] into the struct at options: "--flag value", "--flag=value" or "-f value", and positional arguments
 * before, between or after the flags; after "--" nothing is a flag. Members for positional arguments must be NULL.
 * Returns false for anything else, with the flag and what was expected in *error. Texts point into argv. */
bool arguments_parse(int argc, char **argv, const argument_flag *flags, size_t n_flags, void *options,
                     trol_error *error);
/* Whether arguments that arguments_parse has read give a flag, also with its default as the value. */
bool arguments_given(int argc, char **argv, const argument_flag *flags, size_t n_flags, const char *name);

#endif
