/* changed_checkpoint.h - copies of a small checkpoint in the test's folder with one tensor replaced. */
#ifndef TESTS_CHANGED_CHECKPOINT_H
#define TESTS_CHANGED_CHECKPOINT_H

#include "files.h"
#include "reference.h"

typedef struct changed_checkpoint {
    char folder[600];
    char *bytes; /* [n_bytes], the original model.safetensors */
    size_t n_bytes;
    cJSON *header;
} changed_checkpoint;

static inline void copy_file(const char *from, const char *folder, const char *name, char **bytes, size_t *n) {
    char path[1200];
    trol_error error = {0};
    snprintf(path, sizeof path, "%s/%s/%s", TEST_REFERENCE, from, name);
    CHECK_OK(file_read(path, 1 << 26, bytes, n, &error), error);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(*bytes, 1, *n, file) == *n, "%s cannot be written", path);
    if (file)
        fclose(file);
}

/* The checkpoint, copied to `name` in the test's folder. */
static inline changed_checkpoint changed_checkpoint_copy(const char *reference, const char *name) {
    static const char *const others[] = {"config.json", "trol_gating.pt"};
    changed_checkpoint c;
    uint64_t header_bytes;
    snprintf(c.folder, sizeof c.folder, "%s", test_path(name));
    mkdir(c.folder, 0777);
    for (int i = 0; i < 2; i++) {
        char *bytes;
        size_t n;
        copy_file(reference, c.folder, others[i], &bytes, &n);
        memory_free(bytes);
    }
    copy_file(reference, c.folder, "model.safetensors", &c.bytes, &c.n_bytes);
    memcpy(&header_bytes, c.bytes, sizeof header_bytes);
    c.header = cJSON_ParseWithLength(c.bytes + 8, header_bytes);
    return c;
}

/* Each byte of the tensor gets another lowest bit: no number becomes NaN or infinite. `changed` NULL: none is changed.
 */
static inline void changed_checkpoint_write(const changed_checkpoint *c, const cJSON *changed) {
    char path[640], *copy = malloc(c->n_bytes);
    uint64_t header_bytes;
    memcpy(copy, c->bytes, c->n_bytes);
    memcpy(&header_bytes, c->bytes, sizeof header_bytes);
    if (changed) {
        const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(changed, "data_offsets");
        const size_t first = 8 + header_bytes + (size_t)cJSON_GetArrayItem(offsets, 0)->valuedouble,
                     last = 8 + header_bytes + (size_t)cJSON_GetArrayItem(offsets, 1)->valuedouble;
        for (size_t i = first; i < last; i++)
            copy[i] = (char)(copy[i] ^ 1);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", c->folder);
    unlink(path); /* a new file: the old one may be mapped */
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(copy, 1, c->n_bytes, file) == c->n_bytes, "%s cannot be written", path);
    if (file)
        fclose(file);
    free(copy);
}

static inline void changed_checkpoint_remove(changed_checkpoint *c) {
    static const char *const names[] = {"config.json", "trol_gating.pt", "model.safetensors"};
    char path[640];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", c->folder, names[i]);
        unlink(path);
    }
    rmdir(c->folder);
    memory_free(c->bytes);
    cJSON_Delete(c->header);
}

#endif
