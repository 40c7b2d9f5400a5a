/* checkpoint_writer.h - writes the files of a checkpoint folder all together or not at all: each is first written next
 * to its final name, and all are renamed at the end. */
#ifndef TOOLS_CHECKPOINT_WRITER_H
#define TOOLS_CHECKPOINT_WRITER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/output.h"
#include "common/fail.h"
#include "trol.h"

enum { WRITER_MAX_FILES = 16 };

typedef struct checkpoint_writer {
    const char *folder;
    bool force;                          /* overwrite files that exist */
    const volatile sig_atomic_t *cancel; /* non-zero stops; may be NULL */
    trol_error *error;
    output files[WRITER_MAX_FILES];
    size_t n_files;
} checkpoint_writer;

/* Each returns false with the error set (tool_fail returns a non-zero status, so !fail(...) is false). One file is
 * open at a time, from writer_open to writer_close. */
bool writer_open(checkpoint_writer *writer, const char *name);
bool writer_write(checkpoint_writer *writer, const void *data, size_t n_bytes);
bool writer_close(checkpoint_writer *writer);
/* A whole file. */
bool writer_put(checkpoint_writer *writer, const char *name, const void *data, size_t n_bytes);
/* Copies a file from another folder; a missing one is skipped if `optional`. */
bool writer_copy(checkpoint_writer *writer, const char *from_folder, const char *name, bool optional);
/* Renames all files if `ok`, else removes them. Returns whether everything succeeded. */
bool writer_finish(checkpoint_writer *writer, bool ok);

#endif
