/* zip.h - the entries of a zip archive in memory, as PyTorch writes it: stored, not compressed. */
#ifndef FORMAT_ZIP_H
#define FORMAT_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct zip_entry {
    const char *name; /* name_bytes long, not NUL-terminated */
    size_t name_bytes;
    const unsigned char *data; /* n_bytes long, any alignment */
    size_t n_bytes;
} zip_entry;

typedef struct zip_archive {
    zip_entry *entries; /* sorted by name */
    size_t n_entries;
} zip_archive;

/* Reads the central directory, zip64 included, and finds each entry's data; compressed and encrypted entries are
 * refused. Names and data point into bytes[0 .. n_bytes-1]. Checksums are not compared: PyTorch can leave them out.
 * Messages name `file`. Release with zip_close, which accepts an archive that is all zeros. */
trol_status zip_open(const unsigned char *bytes, size_t n_bytes, const char *file, zip_archive *archive,
                     trol_error *error);
void zip_close(zip_archive *archive);

/* The entry whose name is prefix and name joined; NULL if there is none. */
const zip_entry *zip_find(const zip_archive *archive, const char *prefix, size_t prefix_bytes, const char *name,
                          size_t name_bytes);

#endif
