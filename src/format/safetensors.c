/* safetensors.c - opening, checking and looking up the tensors of safetensors files.
 *
 * A file is 8 bytes of header length (little-endian), a JSON object and the data. The object's members are tensors by
 * name, for example {"dtype": "F16", "shape": [64, 60], "data_offsets": [0, 7680]}, offsets counted from the start of
 * the data; only "__metadata__" is an object of strings.
 *
 * Source: the format's own description, https://github.com/huggingface/safetensors. */
#define _DEFAULT_SOURCE /* madvise */
#include "format/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/download.h"
#include "format/json.h"

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100 * 1000 * 1000, MAX_INDEX_BYTES = 100 * 1000 * 1000 };

/* A tensor and its strings, in one allocation. */
typedef struct entry {
    tensor tensor;
    char texts[];
} entry;

typedef struct mapped_file {
    char *name; /* without the folder */
    void *bytes;
    size_t n_bytes;
} mapped_file;

typedef struct metadata_entry {
    char *key, *value;
} metadata_entry;

struct tensor_source {
    void *entries; /* entry *[n_entries], sorted by name once the source is open */
    size_t n_entries, entry_capacity;
    void *files; /* mapped_file[n_files] */
    size_t n_files, file_capacity;
    void *metadata; /* metadata_entry[n_metadata] */
    size_t n_metadata, metadata_capacity;
    bool sharded; /* files named by an index */
};

static entry **entries_of(const tensor_source *source) { return source->entries; }

/* ---- dtypes ---------------------------------------------------------------------------------- */

typedef struct dtype {
    const char *name;
    unsigned bits;
    element_type type;
} dtype;

/* 0 bits and ELEMENT_OTHER for unknown names. */
static dtype dtype_of(const char *name) {
    static const dtype known[] = {
        {"F64", 64, ELEMENT_OTHER},    {"F32", 32, ELEMENT_F32},          {"F16", 16, ELEMENT_F16},
        {"BF16", 16, ELEMENT_BF16},    {"C64", 64, ELEMENT_OTHER},        {"I64", 64, ELEMENT_OTHER},
        {"I32", 32, ELEMENT_OTHER},    {"I16", 16, ELEMENT_OTHER},        {"I8", 8, ELEMENT_OTHER},
        {"U64", 64, ELEMENT_OTHER},    {"U32", 32, ELEMENT_OTHER},        {"U16", 16, ELEMENT_OTHER},
        {"U8", 8, ELEMENT_OTHER},      {"BOOL", 8, ELEMENT_OTHER},        {"F8_E4M3", 8, ELEMENT_OTHER},
        {"F8_E5M2", 8, ELEMENT_OTHER}, {"F8_E4M3FNUZ", 8, ELEMENT_OTHER}, {"F8_E5M2FNUZ", 8, ELEMENT_OTHER},
        {"F8_E8M0", 8, ELEMENT_OTHER}, {"F6_E2M3", 6, ELEMENT_OTHER},     {"F6_E3M2", 6, ELEMENT_OTHER},
        {"F4", 4, ELEMENT_OTHER},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i];
    return (dtype){name, 0, ELEMENT_OTHER};
}

const char *tensor_shape_text(const int64_t *shape, int n_dims, char *text, size_t bytes) {
    size_t used = 0;
    for (int i = 0; i <= n_dims && used < bytes; i++) {
        int wrote = i < n_dims ? snprintf(text + used, bytes - used, i ? ", %lld" : "[%lld", (long long)shape[i])
                               : snprintf(text + used, bytes - used, n_dims ? "]" : "[]");
        used += (size_t)(wrote > 0 ? wrote : 0);
    }
    return text;
}

/* Checks the size against dtype and shape, where the dtype's size is known. */
static trol_status check_size(const tensor *t, unsigned bits, trol_error *error) {
    char shape[200];
    uint64_t total = bits;
    bool empty = false, overflow = false;
    for (int i = 0; i < t->n_dims; i++)
        empty |= t->shape[i] == 0;
    for (int i = 0; i < t->n_dims && !empty; i++)
        overflow |= __builtin_mul_overflow(total, (uint64_t)t->shape[i], &total);
    if (empty)
        total = 0;
    if (overflow)
        return fail(error, TROL_ERROR_FORMAT, "%s: tensor %s has the shape %s, which is larger than any memory",
                    t->file, t->name, tensor_shape_text(t->shape, t->n_dims, shape, sizeof shape));
    if (bits != 0 && (total % 8 != 0 || total / 8 != t->n_bytes))
        return fail(error, TROL_ERROR_FORMAT, "%s: tensor %s has %zu bytes of data, expected %llu for %s of shape %s",
                    t->file, t->name, t->n_bytes, (unsigned long long)(total / 8), t->dtype_name,
                    tensor_shape_text(t->shape, t->n_dims, shape, sizeof shape));
    return TROL_OK;
}

/* ---- the source ------------------------------------------------------------------------------ */

trol_status tensor_source_new(tensor_source **source, trol_error *error) {
    void *memory;
    *source = NULL;
    TRY(memory_alloc_zero(1, sizeof **source, "a list of tensors", &memory, error));
    *source = memory;
    return TROL_OK;
}

void tensor_source_close(tensor_source *source) {
    if (!source)
        return;
    for (size_t i = 0; i < source->n_entries; i++)
        memory_free(entries_of(source)[i]);
    mapped_file *files = source->files;
    for (size_t i = 0; i < source->n_files; i++) {
        munmap(files[i].bytes, files[i].n_bytes);
        memory_free(files[i].name);
    }
    metadata_entry *metadata = source->metadata;
    for (size_t i = 0; i < source->n_metadata; i++) {
        memory_free(metadata[i].key);
        memory_free(metadata[i].value);
    }
    memory_free(source->entries);
    memory_free(source->files);
    memory_free(source->metadata);
    memory_free(source);
}

/* Copies text to *end and advances *end. */
static const char *put_text(char **end, const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = memcpy(*end, text, bytes);
    *end += bytes;
    return copy;
}

/* Appends a copy of a tensor, unsorted. */
static trol_status append_entry(tensor_source *source, const tensor *added, trol_error *error) {
    void *memory;
    size_t texts = strlen(added->name) + strlen(added->file) + strlen(added->dtype_name) + 3;
    TRY(memory_grow(&source->entries, &source->entry_capacity, source->n_entries + 1, sizeof(entry *),
                    "a list of tensors", error));
    TRY(memory_alloc(1, sizeof(entry) + texts, "a list of tensors", &memory, error));
    entry *copy = memory;
    char *end = copy->texts;
    copy->tensor = *added;
    copy->tensor.name = put_text(&end, added->name);
    copy->tensor.file = put_text(&end, added->file);
    copy->tensor.dtype_name = put_text(&end, added->dtype_name);
    entries_of(source)[source->n_entries++] = copy;
    return TROL_OK;
}

/* Index of the first tensor whose name is not before `name`. */
static size_t lower_bound(const tensor_source *source, const char *name) {
    size_t low = 0, high = source->n_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(entries_of(source)[middle]->tensor.name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

trol_status tensor_source_add(tensor_source *source, const tensor *added, trol_error *error) {
    if (added->n_dims < 0 || added->n_dims > TENSOR_MAX_DIMS)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: tensor %s has %d dimensions, expected 0 to %d", added->file,
                    added->name, added->n_dims, TENSOR_MAX_DIMS);
    for (int i = 0; i < added->n_dims; i++)
        if (added->shape[i] < 0)
            return fail(error, TROL_ERROR_ARGUMENT, "%s: tensor %s has a dimension of %lld", added->file, added->name,
                        (long long)added->shape[i]);
    TRY(check_size(added, (unsigned)element_bytes(added->type) * 8, error));
    size_t at = lower_bound(source, added->name);
    if (at < source->n_entries && strcmp(entries_of(source)[at]->tensor.name, added->name) == 0)
        return fail(error, TROL_ERROR_ARGUMENT, "tensor %s is added twice", added->name);
    TRY(append_entry(source, added, error));
    entry **entries = entries_of(source), *moved = entries[source->n_entries - 1];
    memmove(entries + at + 1, entries + at, (source->n_entries - 1 - at) * sizeof *entries);
    entries[at] = moved;
    return TROL_OK;
}

size_t tensor_source_count(const tensor_source *source) { return source->n_entries; }

const tensor *tensor_source_at(const tensor_source *source, size_t index) {
    return index < source->n_entries ? &entries_of(source)[index]->tensor : NULL;
}

size_t tensor_source_index(const tensor_source *source, const char *name) { return lower_bound(source, name); }

const tensor *tensor_source_find(const tensor_source *source, const char *name) {
    size_t at = lower_bound(source, name);
    const tensor *found = tensor_source_at(source, at);
    return found && strcmp(found->name, name) == 0 ? found : NULL;
}

const char *tensor_source_metadata(const tensor_source *source, const char *key) {
    const metadata_entry *metadata = source->metadata;
    for (size_t i = 0; i < source->n_metadata; i++)
        if (strcmp(metadata[i].key, key) == 0)
            return metadata[i].value;
    return NULL;
}

const char *tensor_source_file(const tensor_source *source) {
    return source->sharded ? "model.safetensors.index.json" : "model.safetensors";
}

/* All bits of the exponent are set in what is infinite or not a number. */
int64_t tensor_find_not_finite(const tensor *t) {
    const unsigned char *bytes = t->data;
    const size_t size = element_bytes(t->type);
    const uint32_t exponent = t->type == ELEMENT_F32 ? 0x7f800000 : t->type == ELEMENT_F16 ? 0x7c00 : 0x7f80;
    for (size_t at = 0; size > 0 && at < t->n_bytes; at += size) {
        uint32_t bits = 0;
        memcpy(&bits, bytes + at, size);
        if ((bits & exponent) == exponent)
            return (int64_t)(at / size);
    }
    return -1;
}

static int compare_entries(const void *a, const void *b) {
    const entry *left = *(entry *const *)a, *right = *(entry *const *)b;
    return strcmp(left->tensor.name, right->tensor.name);
}

/* Sorts the tensors of all files; each name may be there only once. */
static trol_status sort_entries(tensor_source *source, trol_error *error) {
    entry **entries = entries_of(source);
    if (source->n_entries > 1)
        qsort(entries, source->n_entries, sizeof *entries, compare_entries);
    for (size_t i = 1; i < source->n_entries; i++)
        if (strcmp(entries[i - 1]->tensor.name, entries[i]->tensor.name) == 0)
            return fail(error, TROL_ERROR_FORMAT, "tensor %s is in two files, %s and %s", entries[i]->tensor.name,
                        entries[i - 1]->tensor.file, entries[i]->tensor.file);
    return TROL_OK;
}

/* ---- one file's header ----------------------------------------------------------------------- */

static trol_status add_metadata(tensor_source *source, const cJSON *object, const char *file, trol_error *error) {
    if (!cJSON_IsObject(object))
        return fail(error, TROL_ERROR_FORMAT, "%s: __metadata__ is not an object", file);
    for (const cJSON *member = object->child; member; member = member->next) {
        if (!cJSON_IsString(member))
            return fail(error, TROL_ERROR_FORMAT, "%s: %.200s in __metadata__ is not a string", file, member->string);
        TRY(memory_grow(&source->metadata, &source->metadata_capacity, source->n_metadata + 1, sizeof(metadata_entry),
                        file, error));
        metadata_entry added = {0};
        TRY(memory_copy_text(member->string, strlen(member->string), &added.key, error));
        trol_status status = memory_copy_text(member->valuestring, strlen(member->valuestring), &added.value, error);
        if (status != TROL_OK) {
            memory_free(added.key);
            return status;
        }
        ((metadata_entry *)source->metadata)[source->n_metadata++] = added;
    }
    return TROL_OK;
}

/* Reads an array of exactly `n`, or (exact false) at most `n`, non-negative whole numbers. Returns how many, or -1. */
static int read_integers(const cJSON *array, int n, bool exact, int64_t *values) {
    if (!cJSON_IsArray(array))
        return -1;
    int count = 0;
    for (const cJSON *item = array->child; item; item = item->next, count++)
        if (count == n || !json_exact_integer(item, &values[count]) || values[count] < 0)
            return -1;
    return exact && count != n ? -1 : count;
}

/* Reads one member of the header. data: the file's data, data_bytes long. */
static trol_status add_tensor(tensor_source *source, const cJSON *member, const char *file, const unsigned char *data,
                              size_t data_bytes, trol_error *error) {
    const char *name = member->string;
    int64_t offsets[2];
    if (!cJSON_IsObject(member))
        return fail(error, TROL_ERROR_FORMAT, "%s: tensor %.200s is not described by an object", file, name);
    const cJSON *dtype_name = cJSON_GetObjectItemCaseSensitive(member, "dtype");
    if (!cJSON_IsString(dtype_name))
        return fail(error, TROL_ERROR_FORMAT, "%s: tensor %.200s has no dtype", file, name);
    dtype type = dtype_of(dtype_name->valuestring);
    tensor t = {.name = name, .file = file, .dtype_name = type.name, .type = type.type};
    t.n_dims = read_integers(cJSON_GetObjectItemCaseSensitive(member, "shape"), TENSOR_MAX_DIMS, false, t.shape);
    if (t.n_dims < 0)
        return fail(error, TROL_ERROR_FORMAT,
                    "%s: tensor %.200s has no valid shape, expected an array of at most %d whole numbers", file, name,
                    TENSOR_MAX_DIMS);
    if (read_integers(cJSON_GetObjectItemCaseSensitive(member, "data_offsets"), 2, true, offsets) < 0 ||
        offsets[0] > offsets[1])
        return fail(error, TROL_ERROR_FORMAT, "%s: tensor %.200s has no valid data_offsets, expected [begin, end]",
                    file, name);
    if ((uint64_t)offsets[1] > data_bytes)
        return fail(error, TROL_ERROR_FORMAT,
                    "%s: tensor %.200s ends at byte %lld of the data, but the file holds %zu: is it cut short?", file,
                    name, (long long)offsets[1], data_bytes);
    t.data = data + offsets[0];
    t.n_bytes = (size_t)(offsets[1] - offsets[0]);
    TRY(check_size(&t, type.bits, error));
    return append_entry(source, &t, error);
}

static int compare_data(const void *a, const void *b) {
    const tensor *left = &(*(entry *const *)a)->tensor, *right = &(*(entry *const *)b)->tensor;
    if (left->data != right->data)
        return (const char *)left->data < (const char *)right->data ? -1 : 1;
    return left->n_bytes < right->n_bytes ? -1 : left->n_bytes > right->n_bytes;
}

/* Checks that no two tensors from entry `first` on, all of one file, share a byte. Logs how many bytes belong to
 * none. */
static trol_status check_overlaps(tensor_source *source, size_t first, size_t data_bytes, const logger *log,
                                  trol_error *error) {
    size_t n = source->n_entries - first, used = 0;
    if (n == 0)
        return TROL_OK;
    entry **entries = entries_of(source) + first;
    if (n > 1)
        qsort(entries, n, sizeof *entries, compare_data);
    const tensor *last = NULL; /* of those that have data */
    for (size_t i = 0; i < n; i++) {
        const tensor *t = &entries[i]->tensor;
        if (t->n_bytes == 0)
            continue;
        if (last && (const char *)last->data + last->n_bytes > (const char *)t->data)
            return fail(error, TROL_ERROR_FORMAT, "%s: the data of tensors %.200s and %.200s overlap", t->file,
                        last->name, t->name);
        used += t->n_bytes;
        last = t;
    }
    if (used < data_bytes)
        log_message(log, TROL_LOG_WARNING, "%s: %zu bytes of its data belong to no tensor", entries[0]->tensor.file,
                    data_bytes - used);
    return TROL_OK;
}

static trol_status read_header(tensor_source *source, const mapped_file *file, const logger *log, trol_error *error) {
    const unsigned char *bytes = file->bytes;
    uint64_t header_bytes = 0;
    TRY(download_check(file->name, bytes, file->n_bytes, error));
    for (int i = LENGTH_BYTES; i-- > 0;)
        header_bytes = header_bytes << 8 | bytes[i];
    if (header_bytes > MAX_HEADER_BYTES)
        return fail(
            error, TROL_ERROR_FORMAT,
            "%s: its header is %llu bytes long according to the file, expected at most %d: is it a safetensors file?",
            file->name, (unsigned long long)header_bytes, MAX_HEADER_BYTES);
    if (header_bytes > file->n_bytes - LENGTH_BYTES)
        return fail(
            error, TROL_ERROR_FORMAT,
            "%s: its header is %llu bytes long according to the file, but the file has only %zu: is it cut short?",
            file->name, (unsigned long long)header_bytes, file->n_bytes);
    if (header_bytes == 0 || bytes[LENGTH_BYTES] != '{')
        return fail(error, TROL_ERROR_FORMAT, "%s: its header does not begin with {", file->name);

    cJSON *header;
    size_t first = source->n_entries, data_bytes = file->n_bytes - LENGTH_BYTES - (size_t)header_bytes;
    TRY(json_parse((const char *)bytes + LENGTH_BYTES, (size_t)header_bytes, file->name, &header, error));
    trol_status status = TROL_OK;
    for (const cJSON *member = header->child; member && status == TROL_OK; member = member->next)
        status = strcmp(member->string, "__metadata__") == 0
                     ? add_metadata(source, member, file->name, error)
                     : add_tensor(source, member, file->name, bytes + LENGTH_BYTES + header_bytes, data_bytes, error);
    cJSON_Delete(header);
    return status == TROL_OK ? check_overlaps(source, first, data_bytes, log, error) : status;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Maps a whole file. Nothing is read before it is used. */
static trol_status map_file(int descriptor, const char *path, mapped_file *file, trol_error *error) {
    struct stat info;
    if (fstat(descriptor, &info) != 0)
        return fail(error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return fail(error, TROL_ERROR_IO, "%s is a %s, expected a safetensors file", path,
                    S_ISDIR(info.st_mode) ? "folder" : "device or pipe");
    if (info.st_size < LENGTH_BYTES)
        return fail(error, TROL_ERROR_FORMAT, "%s is %lld bytes long, too short for a safetensors file", path,
                    (long long)info.st_size);
    if ((uint64_t)info.st_size > PTRDIFF_MAX)
        return fail(error, TROL_ERROR_MEMORY, "%s is %lld bytes long, more than the address space holds", path,
                    (long long)info.st_size);
    file->n_bytes = (size_t)info.st_size;
    file->bytes = mmap(NULL, file->n_bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (file->bytes == MAP_FAILED)
        return fail(error, TROL_ERROR_IO, "%s cannot be mapped into memory: %s", path, strerror(errno));
#ifdef MADV_HUGEPAGE
    (void)madvise(file->bytes, file->n_bytes, MADV_HUGEPAGE); /* where the file system can: read and mapped faster */
#endif
    return TROL_OK;
}

/* Adds the tensors of one file, unsorted. */
static trol_status add_file(tensor_source *source, const char *path, const logger *log, trol_error *error) {
    int descriptor;
    mapped_file file = {0};
    const char *name = path_name(path);
    TRY(memory_grow(&source->files, &source->file_capacity, source->n_files + 1, sizeof(mapped_file), "a list of files",
                    error));
    TRY(memory_copy_text(name, strlen(name), &file.name, error));
    descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    trol_status status =
        descriptor >= 0 ? map_file(descriptor, path, &file, error) : download_fail_open(path, errno, error);
    if (descriptor >= 0)
        close(descriptor);
    if (status != TROL_OK) {
        memory_free(file.name);
        return status;
    }
    mapped_file *kept = (mapped_file *)source->files + source->n_files++;
    *kept = file;
    return read_header(source, kept, log, error);
}

/* ---- shards ---------------------------------------------------------------------------------- */

static int compare_members(const void *a, const void *b) {
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static int compare_values(const void *a, const void *b) {
    return strcmp((*(const cJSON *const *)a)->valuestring, (*(const cJSON *const *)b)->valuestring);
}

/* Shards are stored next to the index: a name with a folder in it could lead anywhere. */
static bool is_plain_name(const char *name) {
    return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens each file that the index names, once. listed: the members of weight_map, sorted by file. */
static trol_status add_shards(tensor_source *source, const char *folder, const char *index, const cJSON *const *listed,
                              size_t n, const logger *log, trol_error *error) {
    for (size_t i = 0; i < n; i++) {
        const char *shard = listed[i]->valuestring;
        if (i > 0 && strcmp(shard, listed[i - 1]->valuestring) == 0)
            continue;
        if (!is_plain_name(shard))
            return fail(error, TROL_ERROR_FORMAT,
                        "%s: tensor %.200s is in \"%.200s\", expected the plain name of a file beside it", index,
                        listed[i]->string, shard);
        char *path;
        TRY(path_join(folder, shard, &path, error));
        trol_status status = add_file(source, path, log, error);
        memory_free(path);
        TRY(status);
    }
    return TROL_OK;
}

static int compare_name(const void *name, const void *member) {
    return strcmp(name, (*(const cJSON *const *)member)->string);
}

/* Drops what the shards hold and the index does not list. listed: sorted by name. */
static void drop_unlisted(tensor_source *source, const char *index, const cJSON *const *listed, size_t n,
                          const logger *log) {
    enum { MAX_NAMED = 3 };
    entry **entries = entries_of(source);
    size_t n_kept = 0, n_dropped = 0;
    for (size_t i = 0; i < source->n_entries; i++) {
        const tensor *held = &entries[i]->tensor;
        if (bsearch(held->name, listed, n, sizeof *listed, compare_name)) {
            entries[n_kept++] = entries[i];
            continue;
        }
        if (n_dropped++ < MAX_NAMED)
            log_message(log, TROL_LOG_WARNING, "%s: tensor %.200s is not listed in %s: skipped", held->file, held->name,
                        path_name(index));
        memory_free(entries[i]);
    }
    source->n_entries = n_kept;
    if (n_dropped > MAX_NAMED)
        log_message(log, TROL_LOG_WARNING, "%zu tensors in all are not listed in %s: skipped", n_dropped,
                    path_name(index));
}

/* Checks that each tensor of the index is where it says. listed: sorted by name, as the source is; the source holds no
 * others. */
static trol_status check_index(const tensor_source *source, const char *index, const cJSON *const *listed, size_t n,
                               trol_error *error) {
    for (size_t i = 0; i < n; i++) {
        const tensor *held = tensor_source_at(source, i);
        if (!held || strcmp(listed[i]->string, held->name) != 0)
            return fail(error, TROL_ERROR_FORMAT, "%s lists tensor %.200s in %.200s, which does not hold it", index,
                        listed[i]->string, listed[i]->valuestring);
        if (strcmp(listed[i]->valuestring, held->file) != 0)
            return fail(error, TROL_ERROR_FORMAT, "%s lists tensor %.200s in %.200s, but it is in %.200s", index,
                        held->name, listed[i]->valuestring, held->file);
    }
    return TROL_OK;
}

/* The members of weight_map as an array, so that they can be sorted. */
static trol_status list_members(const cJSON *map, const char *index, const cJSON ***listed, size_t *n,
                                trol_error *error) {
    void *members;
    *n = 0;
    for (const cJSON *member = map->child; member; member = member->next) {
        ++*n;
        if (!cJSON_IsString(member))
            return fail(error, TROL_ERROR_FORMAT, "%s: weight_map does not give a file name for tensor %.200s", index,
                        member->string);
    }
    if (*n == 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: weight_map is empty", index);
    TRY(memory_alloc(*n, sizeof **listed, index, &members, error));
    *listed = members;
    size_t i = 0;
    for (const cJSON *member = map->child; member; member = member->next)
        (*listed)[i++] = member;
    return TROL_OK;
}

static trol_status open_sharded(tensor_source *source, const char *folder, const char *index, const logger *log,
                                trol_error *error) {
    cJSON *json;
    const cJSON *map, **listed = NULL;
    size_t n;
    TRY(json_read_file(index, MAX_INDEX_BYTES, &json, error));
    trol_status status;
    TRY_GOTO(json_object_or_null(json, index, "weight_map", &map, error), done);
    if (!map) {
        status = fail(error, TROL_ERROR_FORMAT, "%s has no weight_map", index);
        goto done;
    }
    TRY_GOTO(list_members(map, index, &listed, &n, error), done);
    qsort(listed, n, sizeof *listed, compare_values);
    TRY_GOTO(add_shards(source, folder, index, listed, n, log, error), done);
    qsort(listed, n, sizeof *listed, compare_members);
    drop_unlisted(source, index, listed, n, log);
    TRY_GOTO(sort_entries(source, error), done);
    TRY_GOTO(check_index(source, index, listed, n, error), done);
done:
    memory_free(listed);
    cJSON_Delete(json);
    return status;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Whether there is anything of that name, dangling links included. */
static bool exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

static trol_status open_single(tensor_source *source, const char *path, const logger *log, trol_error *error) {
    TRY(add_file(source, path, log, error));
    return sort_entries(source, error);
}

/* The single file if it is there, else the shards. */
static trol_status open_folder(tensor_source *source, const char *folder, const logger *log, trol_error *error) {
    char *single = NULL, *index = NULL, name[256];
    bool unfinished;
    trol_status status;
    TRY_GOTO(path_join(folder, "model.safetensors", &single, error), done);
    TRY_GOTO(path_join(folder, "model.safetensors.index.json", &index, error), done);
    unfinished = download_unfinished(single, name, sizeof name);
    if (exists(single))
        status = open_single(source, single, log, error);
    else if (exists(index)) {
        source->sharded = true;
        status = open_sharded(source, folder, index, log, error);
    } else
        status = fail(error, TROL_ERROR_IO, "%s has neither model.safetensors nor model.safetensors.index.json%s%s%s",
                      folder, unfinished ? "; a download was not finished: " : "", name, unfinished ? " is there" : "");
done:
    memory_free(single);
    memory_free(index);
    return status;
}

/* Makes a source and fills it with `fill`, completely or not at all. */
static trol_status open_source(const char *path, const logger *log, tensor_source **source, trol_error *error,
                               trol_status (*fill)(tensor_source *, const char *, const logger *, trol_error *)) {
    tensor_source *opened;
    *source = NULL;
    TRY(tensor_source_new(&opened, error));
    trol_status status = fill(opened, path, log, error);
    if (status != TROL_OK) {
        tensor_source_close(opened);
        return status;
    }
    *source = opened;
    return TROL_OK;
}

trol_status tensor_source_open(const char *folder, const logger *log, tensor_source **source, trol_error *error) {
    return open_source(folder, log, source, error, open_folder);
}

trol_status tensor_source_open_file(const char *path, const logger *log, tensor_source **source, trol_error *error) {
    return open_source(path, log, source, error, open_single);
}
