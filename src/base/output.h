/* output.h - a file that appears whole or not at all: written beside its place, then renamed. Through a link, its
 * target is replaced; a device or a pipe is written as it is. */
#ifndef BASE_OUTPUT_H
#define BASE_OUTPUT_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

typedef struct output {
    FILE *file;
    char *buffer;    /* the file's */
    char *path;      /* as it was asked for */
    char *place;     /* where it will be, links followed */
    char *temporary; /* where it is until then; NULL: a device or a pipe */
} output;

trol_status output_open(const char *path, output *out, trol_error *error);
trol_status output_write(output *out, const void *bytes, size_t n_bytes, trol_error *error);
/* Sets the error for a write to out->file that has just failed, from errno. */
trol_status output_failed(const output *out, trol_error *error);
/* Flushes what was written to the disk and closes the file, which does not appear yet. */
trol_status output_finish(output *out, trol_error *error);
/* Makes the file appear under its name, finished before or not. On failure nothing is left, as after output_discard. */
trol_status output_commit(output *out, trol_error *error);
/* Removes what was written. Safe after a commit and for an output of zeros. */
void output_discard(output *out);

#endif
