#include "common/gate_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- growing bytes -------------------------------------------------------------------------------------------------
 */

typedef struct bytes {
    unsigned char *data;
    size_t count, capacity;
    bool failed;
} bytes;

static void put(bytes *b, const void *data, size_t count) {
    if (b->count + count > b->capacity) {
        size_t capacity = 2 * (b->count + count) + 4096;
        unsigned char *grown = realloc(b->data, capacity);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->count, data, count);
    b->count += count;
}

/* The low n_bytes bytes of value, little-endian. */
static void put_number(bytes *b, uint32_t value, int n_bytes) {
    unsigned char little[4];
    for (int i = 0; i < n_bytes; i++)
        little[i] = (unsigned char)(value >> 8 * i);
    put(b, little, (size_t)n_bytes);
}

static void put_text(bytes *b, const char *text) { put(b, text, strlen(text)); }

/* ---- the pickle ----------------------------------------------------------------------------------------------------
 */

static void pickle_string(bytes *b, const char *text) {
    put_text(b, "X"); /* BINUNICODE */
    put_number(b, (uint32_t)strlen(text), 4);
    put_text(b, text);
}

static void pickle_integer(bytes *b, uint32_t value) {
    put_text(b, value < 256 ? "K" : "M"); /* BININT1, BININT2 */
    put_number(b, value, value < 256 ? 1 : 2);
}

/* "name": a tensor of n_dims (1 or 2: [1, size]) over all of storage `key`, as torch.save writes it. */
static void pickle_tensor(bytes *b, const char *name, const char *key, uint32_t size, int n_dims) {
    pickle_string(b, name);
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n(("); /* GLOBAL, MARK, MARK */
    pickle_string(b, "storage");
    put_text(b, "ctorch\nBFloat16Storage\n");
    pickle_string(b, key);
    pickle_string(b, "cpu");
    pickle_integer(b, size);
    put_text(b, "tQ");    /* TUPLE, BINPERSID */
    pickle_integer(b, 0); /* offset */
    if (n_dims == 2)
        pickle_integer(b, 1);
    pickle_integer(b, size);
    put_text(b, n_dims == 2 ? "\x86" : "\x85"); /* TUPLE2 or TUPLE1: the shape */
    if (n_dims == 2)
        pickle_integer(b, size);
    pickle_integer(b, 1);
    put_text(b, n_dims == 2 ? "\x86" : "\x85"); /* the strides */
    put_text(b, "\x89"
                "ccollections\nOrderedDict\n)RtR"); /* NEWFALSE, GLOBAL, EMPTY_TUPLE, REDUCE, TUPLE, REDUCE */
}

/* An OrderedDict of N.weight and N.bias for each layer, all weights on storage 0 and all biases on storage 1. */
static void pickle_gate(bytes *b, int n_layers, int hidden) {
    put_text(b, "\x80\x02"
                "ccollections\nOrderedDict\n)R("); /* PROTO 2, GLOBAL, EMPTY_TUPLE, REDUCE, MARK */
    for (int layer = 0; layer < n_layers; layer++) {
        char name[32];
        snprintf(name, sizeof name, "%d.weight", layer);
        pickle_tensor(b, name, "0", (uint32_t)hidden, 2);
        snprintf(name, sizeof name, "%d.bias", layer);
        pickle_tensor(b, name, "1", 1, 1);
    }
    put_text(b, "u."); /* SETITEMS, STOP */
}

/* ---- the zip -------------------------------------------------------------------------------------------------------
 */

static uint32_t crc32_of(const bytes *b) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < b->count; i++) {
        crc ^= b->data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* The fields shared by a zip's local header and its directory entry, from "version needed" on. */
static void zip_fields(bytes *b, const char *name, const bytes *content) {
    put_number(b, 20, 2);         /* version needed: 2.0 */
    put_number(b, 0, 4);          /* no flags; stored */
    put_number(b, 0x00210000, 4); /* 1980-01-01 00:00 */
    put_number(b, crc32_of(content), 4);
    put_number(b, (uint32_t)content->count, 4);
    put_number(b, (uint32_t)content->count, 4);
    put_number(b, (uint32_t)strlen(name), 2);
    put_number(b, 0, 2); /* no extra field */
}

/* Appends a stored file to the archive and its entry to the directory; empties `content`. */
static void zip_add(bytes *archive, bytes *directory, const char *name, bytes *content) {
    uint32_t offset = (uint32_t)archive->count;
    put_text(archive, "PK\x03\x04");
    zip_fields(archive, name, content);
    put_text(archive, name);
    put(archive, content->data, content->count);
    put_text(directory, "PK\x01\x02");
    put_number(directory, 20, 2); /* version made by */
    zip_fields(directory, name, content);
    for (int i = 0; i < 5; i++) /* no comment, disk 0, no attributes */
        put_number(directory, 0, 2);
    put_number(directory, offset, 4);
    put_text(directory, name);
    archive->failed |= directory->failed | content->failed;
    content->count = 0;
}

/* The end of central directory record, after the directory. */
static void zip_end(bytes *archive, const bytes *directory, uint32_t entries) {
    uint32_t offset = (uint32_t)archive->count;
    put(archive, directory->data, directory->count);
    put_text(archive, "PK\x05\x06");
    put_number(archive, 0, 4); /* disk 0 of one */
    put_number(archive, entries, 2);
    put_number(archive, entries, 2);
    put_number(archive, (uint32_t)directory->count, 4);
    put_number(archive, offset, 4);
    put_number(archive, 0, 2); /* no comment */
}

bool gate_file_write(checkpoint_writer *writer, int n_layers, int hidden, const unsigned char *weight,
                     const unsigned char *bias) {
    bytes archive = {0}, directory = {0}, content = {0};
    pickle_gate(&content, n_layers, hidden);
    zip_add(&archive, &directory, "trol_gating/data.pkl", &content);
    put_text(&content, "little");
    zip_add(&archive, &directory, "trol_gating/byteorder", &content);
    put(&content, weight, 2 * (size_t)hidden);
    zip_add(&archive, &directory, "trol_gating/data/0", &content);
    put(&content, bias, 2);
    zip_add(&archive, &directory, "trol_gating/data/1", &content);
    put_text(&content, "3\n");
    zip_add(&archive, &directory, "trol_gating/version", &content);
    zip_end(&archive, &directory, 5);
    bool ok = !archive.failed || !fail(writer->error, TROL_ERROR_MEMORY, "out of memory");
    ok = ok && writer_put(writer, "trol_gating.pt", archive.data, archive.count);
    free(archive.data);
    free(directory.data);
    free(content.data);
    return ok;
}
