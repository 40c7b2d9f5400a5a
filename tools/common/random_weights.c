#include "common/random_weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

const char *random_dtype_name(random_dtype type) {
    static const char *const names[] = {"F16", "BF16", "F32"};
    return names[type];
}

size_t random_dtype_bytes(random_dtype type) { return type == RANDOM_F32 ? 4 : 2; }

/* ---- the list of tensors -------------------------------------------------------------------------------------------
 */

void random_tensor_add(random_tensor_list *list, float mean, double deviation, const int64_t shape[4],
                       const char *format, ...) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 256;
        random_tensor *grown = realloc(list->tensors, capacity * sizeof *grown);
        if (!grown) {
            list->failed = true;
            return;
        }
        list->tensors = grown;
        list->capacity = capacity;
    }
    random_tensor *t = &list->tensors[list->count++];
    memset(t, 0, sizeof *t);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(t->name, sizeof t->name, format, arguments);
    va_end(arguments);
    t->n_values = 1;
    for (; t->n_dims < 4 && shape[t->n_dims]; t->n_dims++) {
        t->shape[t->n_dims] = shape[t->n_dims];
        t->n_values *= shape[t->n_dims];
    }
    t->mean = mean;
    t->deviation = (float)deviation;
}

int64_t random_tensor_list_bytes(const random_tensor_list *list, random_dtype type) {
    int64_t total = 0;
    for (size_t i = 0; i < list->count; i++)
        total += list->tensors[i].n_values * (int64_t)random_dtype_bytes(type);
    return total;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const random_tensor *)a)->name, ((const random_tensor *)b)->name);
}

/* ---- random numbers ------------------------------------------------------------------------------------------------
 */

enum { QUANTILES = 65536 };

/* The value below which a share p of the normal distribution is: Newton's method on erfc. */
static double normal_quantile(double p) {
    double z = 0;
    for (int step = 0; step < 30; step++) {
        double excess = 0.5 * erfc(-z / sqrt(2.0)) - p;
        double change = excess / (exp(-z * z / 2) / sqrt(2 * 3.14159265358979323846));
        z -= change;
        if (fabs(change) < 1e-9)
            break;
    }
    return z;
}

/* Quantile (i + 1/2) / 65536 for each i: 16 random bits pick one. */
static void fill_quantiles(float quantiles[QUANTILES]) {
    for (int i = QUANTILES / 2; i < QUANTILES; i++) {
        quantiles[i] = (float)normal_quantile((i + 0.5) / QUANTILES);
        quantiles[QUANTILES - 1 - i] = -quantiles[i];
    }
}

static uint16_t to_f16(float value) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    int exponent;
    float magnitude = fabsf(value);
    (void)frexpf(magnitude, &exponent); /* magnitude in [2^(exponent-1), 2^exponent) */
    if (exponent < -13)
        return (uint16_t)(sign | (uint16_t)lrintf(ldexpf(magnitude, 24))); /* steps of 2^-24 */
    if (exponent > 15)
        return sign | 0x7bff;                                 /* 65504, the largest */
    long mantissa = lrintf(ldexpf(magnitude, 11 - exponent)); /* 1024 .. 2048 */
    return (uint16_t)(sign | ((exponent + 13) * 1024 + mantissa));
}

static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The start of a tensor's random numbers: seed and FNV-1a of the name. */
static uint64_t tensor_seed(uint64_t seed, const char *name) {
    return next_random(&seed) ^ fnv_bytes(FNV_START, name, strlen(name));
}

/* Table of a tensor's possible values, in its dtype. */
typedef union value_table {
    uint16_t half[QUANTILES];
    float full[QUANTILES];
} value_table;

static void fill_table(value_table *table, const float quantiles[QUANTILES], const random_tensor *t,
                       random_dtype type) {
    for (int i = 0; i < QUANTILES; i++) {
        float value = t->mean + t->deviation * quantiles[i];
        if (type == RANDOM_F32)
            table->full[i] = value;
        else
            table->half[i] = type == RANDOM_F16 ? to_f16(value) : to_bf16(value);
    }
}

static void fill_random(void *out, size_t count, const value_table *table, random_dtype type, uint64_t *state) {
    uint16_t *half = out;
    float *full = out;
    for (size_t i = 0; i < count; i += 4) {
        uint64_t bits = next_random(state);
        for (size_t k = i; k < i + 4 && k < count; k++, bits >>= 16)
            if (type == RANDOM_F32)
                full[k] = table->full[bits & 0xffff];
            else
                half[k] = table->half[bits & 0xffff];
    }
}

void random_bf16(uint64_t seed, const char *name, float mean, double deviation, size_t count, unsigned char *out) {
    uint64_t state = tensor_seed(seed, name);
    for (size_t i = 0; i < count; i++) {
        double z = normal_quantile(((double)(next_random(&state) >> 48) + 0.5) / QUANTILES);
        uint16_t value = to_bf16((float)(mean + deviation * z));
        out[2 * i] = (unsigned char)value;
        out[2 * i + 1] = (unsigned char)(value >> 8);
    }
}

/* ---- model.safetensors ---------------------------------------------------------------------------------------------
 */

/* The JSON header, padded with spaces so that the data starts at a multiple of 8. NULL: out of memory. */
static char *header_text(const random_tensor_list *list, random_dtype type, uint64_t *length) {
    size_t capacity = 256 + list->count * 256, used = 0;
    char *text = malloc(capacity);
    if (!text)
        return NULL;
    used += (size_t)snprintf(text, capacity, "{\"__metadata__\":{\"format\":\"pt\"}");
    int64_t offset = 0;
    for (size_t i = 0; i < list->count; i++) {
        const random_tensor *t = &list->tensors[i];
        int64_t end = offset + t->n_values * (int64_t)random_dtype_bytes(type);
        used += (size_t)snprintf(text + used, capacity - used, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name,
                                 random_dtype_name(type));
        for (int d = 0; d < t->n_dims; d++)
            used += (size_t)snprintf(text + used, capacity - used, "%s%" PRId64, d ? "," : "", t->shape[d]);
        used += (size_t)snprintf(text + used, capacity - used, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", offset,
                                 end);
        offset = end;
    }
    text[used++] = '}';
    while (used % 8)
        text[used++] = ' ';
    *length = used;
    return text;
}

/* Working memory of random_weights_write. */
typedef struct generator {
    float quantiles[QUANTILES];
    value_table table;
    char chunk[1 << 20];
    int64_t done, total; /* bytes */
} generator;

static bool write_tensor(checkpoint_writer *writer, const random_tensor *t, random_dtype type, uint64_t seed,
                         generator *g, random_progress progress) {
    const size_t size = random_dtype_bytes(type);
    const int64_t chunk_values = (int64_t)(sizeof g->chunk / size);
    uint64_t state = tensor_seed(seed, t->name);
    fill_table(&g->table, g->quantiles, t, type);
    for (int64_t first = 0; first < t->n_values; first += chunk_values) {
        size_t count = (size_t)(t->n_values - first < chunk_values ? t->n_values - first : chunk_values);
        fill_random(g->chunk, count, &g->table, type, &state);
        if (!writer_write(writer, g->chunk, count * size))
            return false;
        g->done += (int64_t)(count * size);
        if (progress)
            progress(g->done, g->total);
    }
    return true;
}

bool random_weights_write(checkpoint_writer *writer, random_tensor_list *list, random_dtype type, uint64_t seed,
                          random_progress progress) {
    qsort(list->tensors, list->count, sizeof *list->tensors, by_name);
    uint64_t length = 0;
    char *header = header_text(list, type, &length);
    generator *g = malloc(sizeof *g);
    bool ok = (header && g) || !fail(writer->error, TROL_ERROR_MEMORY, "out of memory");
    if (ok) {
        unsigned char prefix[8]; /* the header's length, little-endian */
        for (int i = 0; i < 8; i++)
            prefix[i] = (unsigned char)(length >> 8 * i);
        g->done = 0;
        g->total = random_tensor_list_bytes(list, type);
        fill_quantiles(g->quantiles);
        ok = writer_open(writer, "model.safetensors") && writer_write(writer, prefix, 8) &&
             writer_write(writer, header, length);
        for (size_t i = 0; ok && i < list->count; i++)
            ok = write_tensor(writer, &list->tensors[i], type, seed, g, progress);
        ok = ok && writer_close(writer);
    }
    free(g);
    free(header);
    return ok;
}
