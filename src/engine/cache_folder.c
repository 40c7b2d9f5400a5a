/* cache_folder.c - a file is a header, the embeddings, and in the header a checksum of both. When it was used last is
 * its time of modification, which reading sets, too: times of access are not kept everywhere. */
#include "engine/cache_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/output.h"

static const char magic[8] = "TROLPIC1", suffix[] = ".trolpic";
enum { BYTE_ORDER_MARK = 0x01020304, NAME_BYTES = 2 * IDENTITY_BYTES + sizeof suffix };

typedef struct image_header {
    char magic[8];
    uint32_t byte_order, header_bytes;
    unsigned char identity[IDENTITY_BYTES];
    int32_t n_tokens, n_tiles;
    int64_t width;
    uint64_t checksum; /* of the header before it, and of the embeddings */
} image_header;

_Static_assert(sizeof(image_header) == 72, "no bytes between the fields");

static uint64_t checksum_of(const image_header *h, const float *data) {
    const size_t n_bytes = (size_t)h->n_tokens * (size_t)h->width * sizeof *data;
    return XXH3_64bits_withSeed(data, n_bytes, XXH3_64bits(h, offsetof(image_header, checksum)));
}

trol_status cache_folder_init(cache_folder *folder, const char *path, int64_t limit_bytes, trol_error *error) {
    *folder = (cache_folder){.limit_bytes = limit_bytes};
    atomic_init(&folder->noticed, false);
    return path ? memory_copy_text(path, strlen(path), &folder->path, error) : TROL_OK;
}

void cache_folder_free(cache_folder *folder) {
    memory_free(folder->path);
    folder->path = NULL;
}

static void name_of(const unsigned char identity[IDENTITY_BYTES], char name[NAME_BYTES]) {
    for (size_t i = 0; i < IDENTITY_BYTES; i++)
        snprintf(name + 2 * i, 3, "%02x", identity[i]);
    memcpy(name + 2 * IDENTITY_BYTES, suffix, sizeof suffix);
}

/* A picture's file, or the temporary one that base/output.c renames to it. */
static bool is_ours(const char *name, bool *unfinished) {
    const size_t n_digits = strspn(name, "0123456789abcdef"), n_suffix = sizeof suffix - 1;
    if (n_digits != 2 * IDENTITY_BYTES || strncmp(name + n_digits, suffix, n_suffix) != 0)
        return false;
    *unfinished = name[n_digits + n_suffix] == '.';
    return *unfinished || name[n_digits + n_suffix] == '\0';
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool read_all(int descriptor, void *bytes, size_t n_bytes) {
    for (size_t done = 0; done < n_bytes;) {
        const ssize_t n = read(descriptor, (char *)bytes + done, n_bytes - done);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Whether a file of n_bytes can hold what the header says, and the model can use it. */
static bool header_fits(const image_header *h, const unsigned char *identity, const trol_model *model,
                        int64_t n_bytes) {
    return memcmp(h->magic, magic, sizeof magic) == 0 && h->byte_order == BYTE_ORDER_MARK &&
           h->header_bytes == sizeof *h && memcmp(h->identity, identity, IDENTITY_BYTES) == 0 &&
           h->width == model->config.decoder.hidden_size && h->n_tiles >= 1 &&
           h->n_tiles <= config_max_tiles(&model->config) &&
           h->n_tokens == h->n_tiles * config_tokens_per_tile(&model->config) &&
           n_bytes == (int64_t)sizeof *h + h->n_tokens * h->width * (int64_t)sizeof(float);
}

static image_embeds *read_embeds(int descriptor, const unsigned char *identity, const trol_model *model) {
    struct stat info;
    image_header h;
    float *data;
    image_embeds *embeds;
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode) || !read_all(descriptor, &h, sizeof h) ||
        !header_fits(&h, identity, model, info.st_size))
        return NULL;
    const size_t n = (size_t)h.n_tokens * (size_t)h.width;
    if (memory_alloc(n, sizeof *data, "a picture", (void **)&data, NULL) != TROL_OK)
        return NULL;
    if (!read_all(descriptor, data, n * sizeof *data) || checksum_of(&h, data) != h.checksum) {
        memory_free(data);
        return NULL;
    }
    return image_embeds_new(data, h.n_tokens, h.n_tiles, h.width, &embeds, NULL) == TROL_OK ? embeds : NULL;
}

image_embeds *cache_folder_read(cache_folder *folder, const unsigned char identity[IDENTITY_BYTES],
                                const trol_model *model) {
    char name[NAME_BYTES], *path;
    if (!folder->path)
        return NULL;
    name_of(identity, name);
    if (path_join(folder->path, name, &path, NULL) != TROL_OK)
        return NULL;
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is not waited for */
    image_embeds *embeds = descriptor >= 0 ? read_embeds(descriptor, identity, model) : NULL;
    if (embeds)
        (void)futimens(descriptor, NULL); /* used now; not where only others may write */
    else if (descriptor >= 0)
        log_message(&model->log, TROL_LOG_INFO, "%s: the file is damaged, the picture is encoded again", path);
    if (descriptor >= 0)
        close(descriptor);
    memory_free(path);
    return embeds;
}

/* ---- making room ----------------------------------------------------------------------------- */

typedef struct cached_file {
    char name[NAME_BYTES];
    int64_t n_bytes;
    struct timespec used;
} cached_file;

static int compare_use(const void *a, const void *b) {
    const struct timespec *x = &((const cached_file *)a)->used, *y = &((const cached_file *)b)->used;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* Lists all pictures' files and adds up their bytes, including files that are being written. A file that has been in
 * writing for an hour has lost its process and is removed. */
static trol_status list_files(DIR *stream, cached_file **files, size_t *n_files, int64_t *total) {
    const time_t too_old = time(NULL) - 3600;
    size_t capacity = 0;
    const struct dirent *item;
    while ((item = readdir(stream))) {
        struct stat info;
        bool unfinished;
        if (!is_ours(item->d_name, &unfinished) || fstatat(dirfd(stream), item->d_name, &info, 0) != 0 ||
            !S_ISREG(info.st_mode))
            continue;
        if (unfinished && info.st_mtim.tv_sec < too_old) {
            (void)unlinkat(dirfd(stream), item->d_name, 0);
            continue;
        }
        *total += info.st_size;
        if (unfinished)
            continue;
        TRY(memory_grow((void **)files, &capacity, *n_files + 1, sizeof **files, "a folder's files", NULL));
        cached_file *file = &(*files)[(*n_files)++];
        memcpy(file->name, item->d_name, NAME_BYTES);
        file->n_bytes = info.st_size;
        file->used = info.st_mtim;
    }
    return TROL_OK;
}

/* Removes the files that were not used for the longest time until n_bytes more are within the limit. Other processes
 * may do the same at once: a file that is already gone is no error. */
static void make_room(const cache_folder *folder, int64_t n_bytes) {
    cached_file *files = NULL;
    size_t n_files = 0;
    int64_t total = n_bytes;
    DIR *stream = opendir(folder->path);
    if (!stream)
        return;
    if (list_files(stream, &files, &n_files, &total) == TROL_OK && total > folder->limit_bytes) {
        qsort(files, n_files, sizeof *files, compare_use);
        for (size_t i = 0; i < n_files && total > folder->limit_bytes; i++)
            if (unlinkat(dirfd(stream), files[i].name, 0) == 0 || errno == ENOENT)
                total -= files[i].n_bytes;
    }
    memory_free(files);
    closedir(stream);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The folder and those above it. A failure here is reported when a file is opened. */
static void make_folder(const char *path) {
    char part[PATH_MAX];
    const size_t n = strlen(path);
    if (n >= sizeof part || mkdir(path, 0777) == 0 || errno != ENOENT)
        return;
    for (size_t i = 1; i <= n; i++)
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(part, path, i);
            part[i] = '\0';
            (void)mkdir(part, 0777);
        }
}

static trol_status write_file(const char *path, const image_header *h, const float *data, trol_error *error) {
    output out;
    TRY(output_open(path, &out, error));
    trol_status status = output_write(&out, h, sizeof *h, error);
    if (status == TROL_OK)
        status = output_write(&out, data, (size_t)h->n_tokens * (size_t)h->width * sizeof *data, error);
    if (status == TROL_OK)
        return output_commit(&out, error);
    output_discard(&out);
    return status;
}

void cache_folder_write(cache_folder *folder, const unsigned char identity[IDENTITY_BYTES], const image_embeds *embeds,
                        const trol_model *model) {
    image_header h = {.byte_order = BYTE_ORDER_MARK,
                      .header_bytes = sizeof h,
                      .n_tokens = embeds->n_tokens,
                      .n_tiles = embeds->n_tiles,
                      .width = embeds->width};
    const int64_t n_bytes = (int64_t)sizeof h + embeds->n_tokens * embeds->width * (int64_t)sizeof(float);
    char name[NAME_BYTES], *path;
    trol_error error;
    if (!folder->path || n_bytes > folder->limit_bytes)
        return;
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.identity, identity, IDENTITY_BYTES);
    h.checksum = checksum_of(&h, embeds->data);
    name_of(identity, name);
    make_folder(folder->path);
    make_room(folder, n_bytes);
    trol_status status = path_join(folder->path, name, &path, &error);
    if (status == TROL_OK) {
        status = write_file(path, &h, embeds->data, &error);
        memory_free(path);
    }
    if (status == TROL_OK)
        make_room(folder, 0); /* what others wrote meanwhile */
    else if (!atomic_exchange(&folder->noticed, true))
        log_message(&model->log, TROL_LOG_WARNING, "%s; encoded pictures are kept in memory alone", error.message);
}
