/* zip.c - the central directory at a zip archive's end. Source: PKWARE's APPNOTE.TXT 6.3, sections 4.3 to 4.5. */
#include "format/zip.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

enum {
    LOCAL_BYTES = 30,     /* of a local file header without name and extra field */
    CENTRAL_BYTES = 46,   /* of a central directory header, the same */
    END_BYTES = 22,       /* of the end record without its comment */
    LOCATOR_BYTES = 20,   /* of the zip64 locator */
    ZIP64_END_BYTES = 56, /* of the zip64 end record */
    MAX_ENTRIES = 1 << 16,
    MAX_COMMENT_BYTES = 65535
};

static const uint32_t LOCAL_SIGNATURE = 0x04034b50, CENTRAL_SIGNATURE = 0x02014b50, END_SIGNATURE = 0x06054b50,
                      ZIP64_END_SIGNATURE = 0x06064b50, LOCATOR_SIGNATURE = 0x07064b50;

static uint64_t read_integer(const unsigned char *bytes, int n) {
    uint64_t value = 0;
    for (int i = n; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

static uint32_t read16(const unsigned char *bytes) { return (uint32_t)read_integer(bytes, 2); }
static uint32_t read32(const unsigned char *bytes) { return (uint32_t)read_integer(bytes, 4); }
static uint64_t read64(const unsigned char *bytes) { return read_integer(bytes, 8); }

/* Whether `length` bytes at `offset` are within `n_bytes`. */
static bool within(uint64_t offset, uint64_t length, uint64_t n_bytes) {
    return offset <= n_bytes && length <= n_bytes - offset;
}

static trol_status broken(const char *file, const char *what, trol_error *error) {
    return fail(error, TROL_ERROR_FORMAT, "%s is not a valid zip archive: %s", file, what);
}

/* Where the central directory is, how long, and of how many entries. */
typedef struct directory {
    uint64_t offset, n_bytes, n_entries;
} directory;

/* Offset of the end record, after which only a comment may follow; n_bytes if there is none. */
static size_t find_end_record(const unsigned char *bytes, size_t n_bytes) {
    for (size_t distance = END_BYTES; distance <= n_bytes && distance <= END_BYTES + MAX_COMMENT_BYTES; distance++) {
        const unsigned char *end = bytes + n_bytes - distance;
        if (read32(end) == END_SIGNATURE && read16(end + 20) == distance - END_BYTES)
            return n_bytes - distance;
    }
    return n_bytes;
}

static trol_status find_directory(const unsigned char *bytes, size_t n_bytes, const char *file, directory *found,
                                  trol_error *error) {
    size_t at = find_end_record(bytes, n_bytes);
    if (at == n_bytes)
        return broken(file, "it has no end record, so it is cut short or something else", error);
    const unsigned char *end = bytes + at;
    if (read16(end + 4) != 0 && read16(end + 4) != 0xffff)
        return broken(file, "it is one of several volumes", error);
    *found = (directory){.n_entries = read16(end + 10), .n_bytes = read32(end + 12), .offset = read32(end + 16)};
    if (found->n_entries == 0xffff || found->n_bytes == 0xffffffff || found->offset == 0xffffffff) {
        if (at < LOCATOR_BYTES || read32(end - LOCATOR_BYTES) != LOCATOR_SIGNATURE)
            return broken(file, "its zip64 locator is missing", error);
        uint64_t zip64 = read64(end - LOCATOR_BYTES + 8);
        if (!within(zip64, ZIP64_END_BYTES, at) || read32(bytes + zip64) != ZIP64_END_SIGNATURE)
            return broken(file, "its zip64 end record is missing", error);
        *found = (directory){.n_entries = read64(bytes + zip64 + 32),
                             .n_bytes = read64(bytes + zip64 + 40),
                             .offset = read64(bytes + zip64 + 48)};
    }
    if (!within(found->offset, found->n_bytes, at))
        return broken(file, "its directory is outside the file", error);
    if (found->n_entries > MAX_ENTRIES || found->n_entries * CENTRAL_BYTES > found->n_bytes)
        return broken(file, "its directory has no room for its entries", error);
    return TROL_OK;
}

/* Sizes and offset of an entry: 32 bits in the header, or all ones there and 64 bits in the extra field 1. */
typedef struct extent {
    uint64_t n_bytes, n_stored_bytes, offset;
} extent;

static bool read_extent(const unsigned char *header, const unsigned char *extra, size_t extra_bytes, extent *e) {
    *e = (extent){.n_bytes = read32(header + 24), .n_stored_bytes = read32(header + 20), .offset = read32(header + 42)};
    uint64_t *const fields[] = {&e->n_bytes, &e->n_stored_bytes, &e->offset}; /* in the extra field's order */
    const unsigned char *values = NULL;
    size_t n_value_bytes = 0;
    for (size_t at = 0; extra_bytes - at >= 4;) {
        size_t length = read16(extra + at + 2);
        if (length > extra_bytes - at - 4)
            break; /* other writers pad the field: anything else is ignored */
        if (read16(extra + at) == 1) {
            values = extra + at + 4;
            n_value_bytes = length;
            break;
        }
        at += 4 + length;
    }
    for (int i = 0; i < 3; i++) {
        if (*fields[i] != 0xffffffff)
            continue;
        if (n_value_bytes < 8)
            return false;
        *fields[i] = read64(values);
        values += 8;
        n_value_bytes -= 8;
    }
    return true;
}

/* Reads the directory's header of one entry, `room` bytes at most, and finds its data. *header_bytes: its length. */
static trol_status read_entry(const unsigned char *bytes, size_t n_bytes, const unsigned char *header, size_t room,
                              const char *file, zip_entry *entry, size_t *header_bytes, trol_error *error) {
    if (room < CENTRAL_BYTES || read32(header) != CENTRAL_SIGNATURE)
        return broken(file, "its directory is broken", error);
    size_t name_bytes = read16(header + 28), extra_bytes = read16(header + 30), comment_bytes = read16(header + 32);
    if (room - CENTRAL_BYTES < name_bytes + extra_bytes + comment_bytes)
        return broken(file, "an entry runs past its directory", error);
    const char *name = (const char *)header + CENTRAL_BYTES;
    int shown = name_bytes < 200 ? (int)name_bytes : 200;
    extent e;
    if (name_bytes == 0 || memchr(name, '\0', name_bytes) || utf8_valid_prefix(name, name_bytes) != name_bytes)
        return broken(file, "an entry's name is empty or not UTF-8", error);
    if (!read_extent(header, (const unsigned char *)name + name_bytes, extra_bytes, &e))
        return broken(file, "an entry's zip64 field is missing", error);
    if (read16(header + 8) & 1)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: its entry %.*s is encrypted", file, shown, name);
    uint32_t method = read16(header + 10);
    if (method != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: its entry %.*s is compressed (method %u%s), expected stored, as PyTorch writes", file, shown,
                    name, method, method == 8 ? ", deflate" : "");
    if (e.n_bytes != e.n_stored_bytes)
        return broken(file, "a stored entry has two sizes", error);
    const unsigned char *local = bytes + (e.offset < n_bytes ? e.offset : 0);
    if (!within(e.offset, LOCAL_BYTES, n_bytes) || read32(local) != LOCAL_SIGNATURE)
        return broken(file, "an entry's header is not where the directory says", error);
    size_t local_name_bytes = read16(local + 26), local_extra_bytes = read16(local + 28);
    uint64_t data = e.offset + LOCAL_BYTES + local_name_bytes + local_extra_bytes;
    if (!within(data, e.n_bytes, n_bytes))
        return broken(file, "an entry runs past the end of the file", error);
    if (local_name_bytes != name_bytes || memcmp(local + LOCAL_BYTES, name, name_bytes) != 0)
        return broken(file, "an entry has two names", error);
    *entry = (zip_entry){name, name_bytes, bytes + data, (size_t)e.n_bytes};
    *header_bytes = CENTRAL_BYTES + name_bytes + extra_bytes + comment_bytes;
    return TROL_OK;
}

static int compare_names(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

static int compare_entries(const void *a, const void *b) {
    const zip_entry *left = a, *right = b;
    return compare_names(left->name, left->name_bytes, right->name, right->name_bytes);
}

static trol_status read_entries(const unsigned char *bytes, size_t n_bytes, const char *file, zip_archive *archive,
                                trol_error *error) {
    directory found = {0};
    void *entries;
    TRY(find_directory(bytes, n_bytes, file, &found, error));
    if (found.n_entries == 0)
        return broken(file, "it has no entries", error);
    TRY(memory_alloc((size_t)found.n_entries, sizeof(zip_entry), file, &entries, error));
    archive->entries = entries;
    size_t at = 0, header_bytes = 0;
    for (; archive->n_entries < found.n_entries; archive->n_entries++, at += header_bytes)
        TRY(read_entry(bytes, n_bytes, bytes + found.offset + at, (size_t)found.n_bytes - at, file,
                       &archive->entries[archive->n_entries], &header_bytes, error));
    qsort(archive->entries, archive->n_entries, sizeof *archive->entries, compare_entries);
    for (size_t i = 1; i < archive->n_entries; i++)
        if (compare_entries(&archive->entries[i - 1], &archive->entries[i]) == 0)
            return broken(file, "two entries have the same name", error);
    return TROL_OK;
}

trol_status zip_open(const unsigned char *bytes, size_t n_bytes, const char *file, zip_archive *archive,
                     trol_error *error) {
    *archive = (zip_archive){0};
    trol_status status = read_entries(bytes, n_bytes, file, archive, error);
    if (status != TROL_OK)
        zip_close(archive);
    return status;
}

void zip_close(zip_archive *archive) {
    memory_free(archive->entries);
    *archive = (zip_archive){0};
}

const zip_entry *zip_find(const zip_archive *archive, const char *prefix, size_t prefix_bytes, const char *name,
                          size_t name_bytes) {
    size_t low = 0, high = archive->n_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const zip_entry *e = &archive->entries[middle];
        int order = compare_names(e->name, e->name_bytes, prefix, prefix_bytes);
        if (e->name_bytes >= prefix_bytes && memcmp(e->name, prefix, prefix_bytes) == 0)
            order = compare_names(e->name + prefix_bytes, e->name_bytes - prefix_bytes, name, name_bytes);
        if (order == 0)
            return e;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
