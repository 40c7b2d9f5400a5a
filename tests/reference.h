/* reference.h - the reference cases as the tests read them: tensors that the authors' code computed, and comparisons
 * that report the largest error and where it is. */
#ifndef TESTS_REFERENCE_H
#define TESTS_REFERENCE_H

#include <stdbool.h>

#include "base/memory.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "test.h"
#include "trol.h"

/* One tensor of reference.safetensors as float32, [shape[0], ...]; freed with the case. */
typedef struct reference_tensor {
    int64_t shape[8], n_values;
    int n_dims;
    const float *values;
} reference_tensor;

/* A tensor of a source: F32 only. false if it is not there. */
static inline bool reference_find(const tensor_source *source, const char *name, reference_tensor *found) {
    const tensor *t = tensor_source_find(source, name);
    if (!t || t->type != ELEMENT_F32)
        return false;
    memcpy(found->shape, t->shape, sizeof found->shape);
    found->n_dims = t->n_dims;
    found->n_values = (int64_t)(t->n_bytes / sizeof(float));
    found->values = t->data; /* the files that the tests read are aligned */
    return true;
}

/* The safetensors file folder/name.safetensors as a source. A source opens a folder's model.safetensors or its own
 * file. */
static inline tensor_source *reference_open(const char *folder, const char *name) {
    trol_error error = {0};
    tensor_source *source = NULL;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_OK(tensor_source_open_file(path, NULL, &source, &error), error);
    return source;
}

static inline double reference_largest(const float *values, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabs((double)values[i]) > largest)
            largest = fabs((double)values[i]);
    return largest;
}

/* |found - expected| of n values at most `tolerance` times the largest |expected| (`scale`, if not 0). Returns the
 * error. */
static inline double reference_compare(const char *what, const float *found, const float *expected, int64_t n,
                                       double scale, double tolerance) {
    double worst = 0, largest = scale > 0 ? scale : reference_largest(expected, n);
    int64_t where = 0;
    for (int64_t i = 0; i < n; i++) {
        double difference = fabs((double)found[i] - (double)expected[i]);
        if (!(difference <= worst)) { /* NaN too */
            worst = difference;
            where = i;
        }
    }
    if (largest == 0)
        largest = 1;
    CHECK(worst / largest <= tolerance,
          "%s: error %.3g of the largest magnitude %.4g, at value %lld of %lld: %.7g, expected %.7g", what,
          worst / largest, largest, (long long)where, (long long)n, (double)found[where], (double)expected[where]);
    return worst / largest;
}

/* A list of whole numbers of a JSON object: [*n], free with free(). NULL if there is none. */
static inline int32_t *reference_integers(const cJSON *object, const char *key, size_t *n) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key), *item;
    *n = 0;
    if (!cJSON_IsArray(list))
        return NULL;
    int32_t *values = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *values);
    cJSON_ArrayForEach(item, list) values[(*n)++] = (int32_t)item->valuedouble;
    return values;
}

#endif
