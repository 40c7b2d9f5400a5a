/* arguments.h - command-line flags from a table: each row names a flag, what its value must be, and where it goes. */
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
    ARGUMENT_PLACE    /* const char *: no flag but what comes at its place among the others, the first of them first */
} argument_kind;

typedef struct argument_flag {
    const char *name, *short_name; /* "--threads", "-t" or NULL */
    argument_kind kind;
    size_t offset;            /* of the member that takes the value, in the options */
    double smallest, largest; /* of texts: 1 for a name, which is not empty */
    const char *choices[12];  /* NULL-terminated */
} argument_flag;

/* Reads argv[1 ..] into the struct at options: "--flag value", "--flag=value" or "-f value", and at their places,
 * before, between or behind the flags, what is no flag; behind "--" nothing is one. Members of places must be NULL.
 * false, with the flag named and what was expected in *error, for anything else. Texts point into argv. */
bool arguments_parse(int argc, char **argv, const argument_flag *flags, size_t n_flags, void *options,
                     trol_error *error);

#endif
