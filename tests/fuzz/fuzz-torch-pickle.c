/* fuzz-torch-pickle.c - any bytes as a PyTorch file. The first byte says whether the rest is a whole archive, or a
 * pickle, around which an archive with three storages is made. */
#include <stdlib.h>
#include <string.h>

#include "format/torch_pickle.h"

typedef struct buffer {
    uint8_t *bytes;
    size_t n;
} buffer;

static void put(buffer *b, const void *bytes, size_t n) {
    if (n)
        memcpy(b->bytes + b->n, bytes, n);
    b->n += n;
}

static void put_integer(buffer *b, uint64_t value, int n) {
    for (int i = 0; i < n; i++, value >>= 8)
        b->bytes[b->n++] = (uint8_t)value;
}

/* The header of an entry, in the archive or (with its offset) in the directory. */
static void put_header(buffer *b, const char *name, size_t n_bytes, int64_t offset) {
    put(b, offset < 0 ? "PK\3\4" : "PK\1\2\24\0", offset < 0 ? 4 : 6);
    put_integer(b, 0, 14);
    put_integer(b, n_bytes, 4);
    put_integer(b, n_bytes, 4);
    put_integer(b, strlen(name), 2);
    put_integer(b, 0, offset < 0 ? 2 : 12);
    if (offset >= 0)
        put_integer(b, (uint64_t)offset, 4);
    put(b, name, strlen(name));
}

static void put_archive(buffer *b, const uint8_t *pickle, size_t n_bytes) {
    static const uint8_t numbers[64] = {0, 0x3c, 0x80, 0x3f, 1, 2, 3, 0x7f, 0xc0};
    static const char *const names[] = {"a/data.pkl", "a/data/0", "a/data/1", "a/data/2"};
    size_t sizes[] = {n_bytes, 64, 6, 0}, offsets[4];
    for (int i = 0; i < 4; i++) {
        offsets[i] = b->n;
        put_header(b, names[i], sizes[i], -1);
        put(b, i ? numbers : pickle, sizes[i]);
    }
    size_t directory = b->n;
    for (int i = 0; i < 4; i++)
        put_header(b, names[i], sizes[i], (int64_t)offsets[i]);
    size_t end = b->n;
    put(b, "PK\5\6\0\0\0\0\4\0\4\0", 12);
    put_integer(b, end - directory, 4);
    put_integer(b, directory, 4);
    put_integer(b, 0, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    if (n_bytes == 0)
        return 0;
    buffer b = {malloc(n_bytes + 1000), 0};
    if (bytes[0] % 2)
        put_archive(&b, bytes + 1, n_bytes - 1);
    else
        put(&b, bytes + 1, n_bytes - 1);
    uint8_t *exact = malloc(b.n ? b.n : 1); /* so that a read past the end is seen */
    memcpy(exact, b.bytes, b.n);
    trol_error error = {0};
    torch_file *file;
    trol_status status = torch_file_parse(exact, b.n, "fuzz", &file, &error);
    if (status != TROL_OK && (error.message[0] == '\0' || file))
        abort();
    if (status != TROL_OK && bytes[0] % 2 && strncmp(error.message, "fuzz is not a valid zip", 23) == 0)
        abort(); /* the archive made here is valid */
    free(exact);
    free(b.bytes);
    float sum = 0;
    for (size_t i = 0; file && i < torch_file_count(file); i++)
        for (size_t k = 0; k < torch_file_at(file, i)->n_values; k++)
            sum += torch_file_at(file, i)->values[k];
    if (sum != sum && !file)
        abort(); /* uses the sum, for which all values are read */
    torch_file_free(file);
    return 0;
}
