/* weights.c - one loader for all families: every tensor is looked up by the name that family.c gives it, compared with
 * the shape that config.json implies, and marked as used, so that unused ones can be reported. */
#define _DEFAULT_SOURCE /* madvise */
#include "model/weights.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/float16.h"
#include "format/json.h"
#include "format/torch_pickle.h"
#include "kernels/kernels.h"
#include "kernels/ops.h"
#include "kernels/quantize.h"

/* Memory that the weights own, as a list. */
struct owned_memory {
    struct owned_memory *next;
    void *memory;
    size_t mapped_bytes; /* 0: from the heap */
};

typedef struct loader {
    weights *w;
    model_config *config;
    const weights_options *options;
    const model_family *family;
    bool *used;                           /* [tensor_source_count]: which tensors the model took */
    int64_t n_bytes_taken, n_bytes_total; /* of the files, for progress */
    trol_error *error;
} loader;

static trol_status add_owned(weights *w, void *memory, size_t mapped_bytes, const char *what, trol_error *error) {
    struct owned_memory *node = malloc(sizeof *node);
    if (!node)
        return fail_memory(error, sizeof *node, what);
    *node = (struct owned_memory){w->owned, memory, mapped_bytes};
    w->owned = node;
    return TROL_OK;
}

static trol_status own(weights *w, size_t count, size_t size, const char *what, void **memory, trol_error *error) {
    TRY(memory_alloc_zero(count, size, what, memory, error));
    trol_status status = add_owned(w, *memory, 0, what, error);
    if (status != TROL_OK)
        memory_free(*memory);
    return status;
}

/* Memory for a converted matrix: its own pages, large ones where the system has them (decoding reads every byte). */
static trol_status own_pages(weights *w, size_t n_bytes, const char *what, void **memory, trol_error *error) {
    *memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (*memory == MAP_FAILED)
        return fail_memory(error, n_bytes, what);
#ifdef MADV_HUGEPAGE
    madvise(*memory, n_bytes, MADV_HUGEPAGE);
#endif
    trol_status status = add_owned(w, *memory, n_bytes, what, error);
    if (status != TROL_OK)
        munmap(*memory, n_bytes);
    w->n_private_bytes += (int64_t)n_bytes;
    return status;
}

enum { NAME_BYTES = FAMILY_NAME_BYTES };

static bool has(const loader *l, tensor_id id) { return l->family->tensors[id] != NULL; }

static trol_status show_progress(loader *l) {
    const weights_options *o = l->options;
    if (o->progress && o->progress(o->progress_user, TROL_STAGE_LOAD, l->n_bytes_taken, l->n_bytes_total) != 0)
        return fail(l->error, TROL_ERROR_CANCELLED, "the progress callback asked to stop");
    return TROL_OK;
}

/* Marks a tensor as used and reports progress. */
static trol_status take(loader *l, const tensor *t) {
    l->used[tensor_source_index(l->w->source, t->name)] = true;
    l->n_bytes_taken += (int64_t)t->n_bytes;
    return show_progress(l);
}

/* The tensor of that name, which must be there. */
static trol_status find(loader *l, const char *name, const tensor **found) {
    *found = tensor_source_find(l->w->source, name);
    if (!*found)
        return fail(l->error, TROL_ERROR_FORMAT, "%s: tensor %s is missing", tensor_source_file(l->w->source), name);
    return take(l, *found);
}

static trol_status check_type(loader *l, const tensor *t) {
    if (t->type == ELEMENT_OTHER)
        return fail(l->error, TROL_ERROR_UNSUPPORTED, "%s: tensor %s has dtype %s, expected F32, F16 or BF16", t->file,
                    t->name, t->dtype_name);
    return TROL_OK;
}

static trol_status shape_error(loader *l, const tensor *t, const int64_t *expected, int n_dims) {
    char found_text[128], expected_text[128];
    return fail(l->error, TROL_ERROR_FORMAT, "%s: tensor %s has shape %s, expected %s", t->file, t->name,
                tensor_shape_text(t->shape, t->n_dims, found_text, sizeof found_text),
                tensor_shape_text(expected, n_dims, expected_text, sizeof expected_text));
}

static bool same_shape(const tensor *t, const int64_t *shape, int n_dims) {
    return t->n_dims == n_dims && memcmp(t->shape, shape, (size_t)n_dims * sizeof *shape) == 0;
}

/* A tensor's values as float32, owned by the weights. */
static trol_status to_floats(loader *l, const tensor *t, const char *what, const float **values) {
    size_t n = t->n_bytes / element_bytes(t->type);
    void *memory;
    TRY(own(l->w, n, sizeof(float), what, &memory, l->error));
    l->w->n_parameters += (int64_t)n;
    l->w->n_bytes += (int64_t)(n * sizeof(float));
    const run r = {.kernels = l->options->kernels};
    ops_to_float(&r, t->type, t->data, memory, (int64_t)n);
    *values = memory;
    return TROL_OK;
}

/* A vector [n], as float32. */
static trol_status load_vector(loader *l, tensor_id id, int64_t layer, const char *suffix, int64_t n,
                               const float **values) {
    char name[NAME_BYTES];
    const tensor *t;
    family_tensor_name(l->family, id, layer, suffix, name);
    TRY(find(l, name, &t));
    TRY(check_type(l, t));
    if (!same_shape(t, &n, 1))
        return shape_error(l, t, &n, 1);
    return to_floats(l, t, name, values);
}

/* ---- matrices and their types ---------------------------------------------------------------- */

element_type packing_of(tensor_role role, weight_types asked, element_type stored, int64_t columns) {
    static const element_type types[] = {[TROL_WEIGHTS_F32] = ELEMENT_F32,
                                         [TROL_WEIGHTS_F16] = ELEMENT_F16,
                                         [TROL_WEIGHTS_BF16] = ELEMENT_BF16,
                                         [TROL_WEIGHTS_Q8] = ELEMENT_Q8,
                                         [TROL_WEIGHTS_Q4] = ELEMENT_Q4};
    const trol_weight_type part = role == ROLE_VISION ? asked.vision : asked.decoder;
    if (role == ROLE_OTHER || part == TROL_WEIGHTS_AS_STORED)
        return stored;
    const element_type type =
        types[part] == ELEMENT_Q4 && (role == ROLE_OUTPUT || role == ROLE_LORA) ? ELEMENT_Q8 : types[part];
    return element_is_packed(type) && !quantized_columns_fit(columns) ? stored : type;
}

/* One matrix being converted between F32, F16 and BF16, one row per chunk. */
typedef struct conversion {
    const kernels *kernels;
    const matrix *from;
    element_type type;
    unsigned char *to;
    float *rows; /* [threads, columns] */
} conversion;

static void convert_row(void *context, int64_t row, int thread) {
    const conversion *c = context;
    const run r = {.kernels = c->kernels};
    const int64_t columns = c->from->columns;
    float *values = c->rows + thread * columns;
    const unsigned char *source =
        (const unsigned char *)c->from->data + (size_t)(row * columns) * element_bytes(c->from->type);
    unsigned char *target = c->to + (size_t)(row * columns) * element_bytes(c->type);
    ops_to_float(&r, c->from->type, source, values, columns);
    if (c->type != ELEMENT_BF16) {
        ops_from_float(&r, c->type, values, target, columns);
        return;
    }
    for (int64_t i = 0; i < columns; i++) {
        const uint16_t half = bf16_from_float(values[i]);
        memcpy(target + 2 * (size_t)i, &half, sizeof half);
    }
}

static trol_status convert_floats(loader *l, const matrix *from, element_type type, void *to) {
    const weights_options *o = l->options;
    conversion c = {.kernels = o->kernels, .from = from, .type = type, .to = to};
    TRY(memory_alloc((size_t)(threads_count(o->threads) * from->columns), sizeof(float), "a matrix's conversion",
                     (void **)&c.rows, l->error));
    trol_status status = threads_run(o->threads, from->rows, convert_row, &c, NULL);
    memory_free(c.rows);
    return status;
}

/* Converts the matrix to `type`, a few million values at a time, so that the progress callback can stop it: a large
 * matrix takes longer than a cancel may. */
static trol_status convert_values(loader *l, const matrix *from, element_type type, void *to) {
    enum { VALUES_AT_ONCE = 1 << 21 };
    const weights_options *o = l->options;
    const bool packed = element_is_packed(type);
    const int64_t groups = VALUES_AT_ONCE / (QUANTIZED_GROUP * from->columns),
                  step = QUANTIZED_GROUP * (groups > 1 ? groups : 1);
    for (int64_t first = 0; first < from->rows; first += step) {
        matrix rows = *from;
        rows.rows = from->rows - first < step ? from->rows - first : step;
        rows.data = (const unsigned char *)from->data + (size_t)(first * from->columns) * element_bytes(from->type);
        if (first > 0)
            TRY(show_progress(l));
        if (packed)
            TRY(quantize_matrix(
                &o->kernels->quantized, o->threads, NULL, type, rows.type, rows.data, rows.rows, rows.columns,
                (unsigned char *)to + (size_t)(first / QUANTIZED_GROUP) * quantized_group_bytes(type, rows.columns)));
        else
            TRY(convert_floats(l, &rows, type,
                               (unsigned char *)to + (size_t)(first * from->columns) * element_bytes(type)));
    }
    return TROL_OK;
}

/* Converts the matrix to the wanted type, in its own memory. */
static trol_status convert_matrix(loader *l, const char *name, tensor_role role, matrix *m) {
    const element_type type = packing_of(role, l->options->types, m->type, m->columns);
    size_t n_bytes = (size_t)(m->rows * m->columns) * element_bytes(type);
    void *memory;
    if (packing_of(role, l->options->types, m->type, QUANTIZED_BLOCK) != type)
        log_message(l->options->log, TROL_LOG_INFO,
                    "tensor %s has %lld columns, which is not a multiple of 32: it stays %s", name,
                    (long long)m->columns, element_name(m->type));
    if (type == m->type)
        return TROL_OK;
    if (element_is_packed(type) && !quantized_bytes(type, m->rows, m->columns, &n_bytes))
        return fail(l->error, TROL_ERROR_FORMAT, "tensor %s is too large to be packed", name);
    TRY(own_pages(l->w, n_bytes, name, &memory, l->error));
    TRY(convert_values(l, m, type, memory));
    file_forget_pages(m->data, matrix_bytes(m));
    m->type = type;
    m->data = memory;
    return TROL_OK;
}

/* The rows and columns that the files' metadata gives for a packed tensor "name.q8": entries "name rows columns;". */
static bool packed_shape(const loader *l, const char *name, int64_t *rows, int64_t *columns) {
    const char *entry = tensor_source_metadata(l->w->source, "trol.quantized.shapes");
    const size_t length = strlen(name);
    for (; entry; entry = strchr(entry, ';')) {
        entry += *entry == ';';
        if (strncmp(entry, name, length) == 0 && entry[length] == ' ') {
            char *end;
            *rows = strtoll(entry + length + 1, &end, 10);
            *columns = strtoll(end, &end, 10);
            return *rows > 0 && *columns > 0 && *rows <= INT32_MAX && *columns <= INT32_MAX;
        }
    }
    return false;
}

/* A matrix that the checkpoint holds packed, if it does (*found). */
static trol_status load_packed(loader *l, const char *name, tensor_role role, int64_t rows, int64_t columns, matrix *m,
                               bool *found) {
    static const element_type kinds[] = {ELEMENT_Q8, ELEMENT_Q4};
    char full[NAME_BYTES + 4];
    *found = false;
    for (int i = 0; i < 2 && !*found; i++) {
        snprintf(full, sizeof full, "%s.%s", name, element_name(kinds[i]));
        const tensor *t = tensor_source_find(l->w->source, full);
        if (!t)
            continue;
        *found = true;
        const char *version = tensor_source_metadata(l->w->source, "trol.quantized.version");
        if (!version || strcmp(version, QUANTIZED_FORMAT_VERSION) != 0)
            return fail(l->error, TROL_ERROR_UNSUPPORTED,
                        "%s: trol.quantized.version is %s, expected " QUANTIZED_FORMAT_VERSION, t->file,
                        version ? version : "missing");
        *m = (matrix){.type = kinds[i], .data = t->data};
        TRY(take(l, t));
        size_t n_bytes;
        if (!packed_shape(l, full, &m->rows, &m->columns) || !quantized_bytes(m->type, m->rows, m->columns, &n_bytes) ||
            n_bytes != t->n_bytes)
            return fail(l->error, TROL_ERROR_FORMAT,
                        "%s: tensor %s has %zu bytes, which trol.quantized.shapes does not explain", t->file, full,
                        t->n_bytes);
        if ((rows && m->rows != rows) || (columns && m->columns != columns))
            return fail(l->error, TROL_ERROR_FORMAT, "%s: tensor %s has shape [%lld, %lld], expected [%lld, %lld]",
                        t->file, full, (long long)m->rows, (long long)m->columns, (long long)(rows ? rows : m->rows),
                        (long long)(columns ? columns : m->columns));
        const element_type wanted = packing_of(role, l->options->types, m->type, m->columns);
        if (wanted != m->type && !(wanted == ELEMENT_Q4 && m->type == ELEMENT_Q8))
            return fail(l->error, TROL_ERROR_UNSUPPORTED,
                        "%s: tensor %s is packed as %s, it cannot be converted to another type", t->file, full,
                        element_name(m->type));
    }
    return TROL_OK;
}

static void count_matrix(loader *l, const matrix *m) {
    l->w->n_parameters += m->rows * m->columns;
    l->w->n_bytes += (int64_t)matrix_bytes(m);
}

/* A matrix [rows, columns] as stored; a size given as 0 is taken from the tensor. */
static trol_status load_stored(loader *l, const char *name, int64_t rows, int64_t columns, matrix *m) {
    const tensor *t;
    TRY(find(l, name, &t));
    TRY(check_type(l, t));
    int64_t expected[2] = {rows, columns};
    if (t->n_dims == 2 && rows == 0)
        expected[0] = t->shape[0];
    if (t->n_dims == 2 && columns == 0)
        expected[1] = t->shape[1];
    if (!same_shape(t, expected, 2) || t->n_bytes == 0)
        return shape_error(l, t, expected, 2);
    *m = (matrix){.type = t->type, .rows = expected[0], .columns = expected[1], .data = t->data};
    return TROL_OK;
}

/* The same, converted to the type for its role. */
static trol_status load_matrix(loader *l, const char *name, tensor_role role, int64_t rows, int64_t columns,
                               matrix *m) {
    bool packed;
    TRY(load_packed(l, name, role, rows, columns, m, &packed));
    if (!packed) {
        TRY(load_stored(l, name, rows, columns, m));
        TRY(convert_matrix(l, name, role, m));
    }
    count_matrix(l, m);
    return TROL_OK;
}

/* Weight and, if asked for, bias; for the decoder's linears also the LoRA pair if the family has one, whose rank is
 * that of the tensors. */
static trol_status load_linear(loader *l, tensor_id id, int64_t layer, int64_t rows, int64_t columns, bool bias,
                               linear *result) {
    char name[NAME_BYTES];
    const tensor_role role = family_role(id);
    matrix weight;
    const float *bias_values = NULL;
    family_tensor_name(l->family, id, layer, "weight", name);
    TRY(load_matrix(l, name, role, rows, columns, &weight));
    if (bias)
        TRY(load_vector(l, id, layer, "bias", weight.rows, &bias_values));
    *result = linear_of(weight, bias_values);
    if (role != ROLE_DECODER || !l->family->lora)
        return TROL_OK;
    family_tensor_name(l->family, id, layer, "lora_A.weight", name);
    TRY(load_matrix(l, name, ROLE_LORA, 0, columns, &result->lora_a));
    family_tensor_name(l->family, id, layer, "lora_B.weight", name);
    return load_matrix(l, name, ROLE_LORA, rows, result->lora_a.rows, &result->lora_b);
}

/* Weight and, for a LayerNorm, bias. */
static trol_status load_norm(loader *l, tensor_id id, int64_t layer, int64_t n, norm_type type, const float **weight,
                             const float **bias) {
    *bias = NULL;
    TRY(load_vector(l, id, layer, "weight", n, weight));
    return type == NORM_LAYER ? load_vector(l, id, layer, "bias", n, bias) : TROL_OK;
}

/* ---- decoder --------------------------------------------------------------------------------- */

/* Where each head begins in a row of the fused projection. */
static trol_status build_head_offsets(loader *l) {
    const decoder_config *c = &l->config->decoder;
    int32_t n = c->n_heads, n_kv = c->n_kv_heads, d = c->head_dim, group = n / n_kv;
    void *memory;
    TRY(own(l->w, (size_t)(n + 2 * n_kv), sizeof(int32_t), "head offsets", &memory, l->error));
    int32_t *q = memory, *k = q + n, *v = k + n_kv;
    bool grouped = l->family->qkv == QKV_BY_KV_HEAD;
    for (int32_t h = 0; h < n; h++)
        q[h] = grouped ? (h / group * (group + 2) + h % group) * d : h * d;
    for (int32_t g = 0; g < n_kv; g++) {
        k[g] = grouped ? (g * (group + 2) + group) * d : (n + g) * d;
        v[g] = grouped ? k[g] + d : (n + n_kv + g) * d;
    }
    decoder_weights *w = &l->w->decoder;
    w->q_offsets = w->qk_offsets = q;
    w->k_offsets = k;
    w->v_offsets = v;
    return TROL_OK;
}

static trol_status load_decoder_layer(loader *l, int64_t layer, decoder_layer_weights *w) {
    const decoder_config *c = &l->config->decoder;
    const int64_t hidden = c->hidden_size, ffn = c->intermediate_size;
    const int64_t qkv_rows = (c->n_heads + 2 * (int64_t)c->n_kv_heads) * c->head_dim;
    TRY(load_vector(l, TENSOR_ATTENTION_NORM, layer, "", hidden, &w->attention_norm));
    TRY(load_vector(l, TENSOR_FFN_NORM, layer, "", hidden, &w->ffn_norm));
    TRY(load_linear(l, TENSOR_QKV, layer, qkv_rows, hidden, c->attention_bias, &w->qkv));
    TRY(load_linear(l, TENSOR_ATTENTION_OUT, layer, hidden, (int64_t)c->n_heads * c->head_dim, c->attention_bias,
                    &w->attention_out));
    if (has(l, TENSOR_GATE_UP)) {
        linear both;
        TRY(load_linear(l, TENSOR_GATE_UP, layer, 2 * ffn, hidden, false, &both));
        w->gate = linear_view(&both, 0, ffn);
        w->up = linear_view(&both, ffn, ffn);
    } else {
        TRY(load_linear(l, TENSOR_GATE, layer, ffn, hidden, false, &w->gate));
        TRY(load_linear(l, TENSOR_UP, layer, ffn, hidden, false, &w->up));
    }
    return load_linear(l, TENSOR_DOWN, layer, hidden, ffn, false, &w->down);
}

static trol_status load_decoder(loader *l) {
    const decoder_config *c = &l->config->decoder;
    decoder_weights *w = &l->w->decoder;
    void *memory;
    TRY(own(l->w, (size_t)c->n_layers, sizeof *w->layers, "decoder layers", &memory, l->error));
    w->layers = memory;
    TRY(build_head_offsets(l));
    TRY(load_stored(l, l->family->tensors[TENSOR_EMBEDDINGS], 0, c->hidden_size, &w->embeddings));
    count_matrix(l, &w->embeddings);
    if (w->embeddings.rows < c->vocab_size)
        return fail(l->error, TROL_ERROR_FORMAT,
                    "model.safetensors: tensor %s has %lld rows, expected at least vocab_size, which is %lld",
                    l->family->tensors[TENSOR_EMBEDDINGS], (long long)w->embeddings.rows, (long long)c->vocab_size);
    if (w->embeddings.rows > (int64_t)1 << 24)
        return fail(l->error, TROL_ERROR_FORMAT, "model.safetensors: tensor %s has %lld rows, expected at most %d",
                    l->family->tensors[TENSOR_EMBEDDINGS], (long long)w->embeddings.rows, 1 << 24);
    TRY(load_vector(l, TENSOR_NORM, 0, "", c->hidden_size, &w->norm));
    matrix output = w->embeddings;
    output.rows = c->vocab_size;
    if (!c->tie_word_embeddings)
        TRY(load_matrix(l, l->family->tensors[TENSOR_OUTPUT], ROLE_OUTPUT, c->vocab_size, c->hidden_size, &output));
    w->output = linear_of(output, NULL);
    for (int64_t i = 0; i < c->n_layers; i++)
        TRY(load_decoder_layer(l, i, &w->layers[i]));
    return TROL_OK;
}

/* ---- the TroL-Mixer's gate ------------------------------------------------------------------- */

static const char gate_file[] = "trol_gating.pt";

static trol_status find_gate_tensor(const torch_file *file, int64_t layer, const char *part, int64_t n,
                                    const float **values, trol_error *error) {
    char name[NAME_BYTES], shape[128];
    snprintf(name, sizeof name, "%lld.%s", (long long)layer, part);
    const torch_tensor *t = torch_file_find(file, name);
    if (!t)
        return fail(error, TROL_ERROR_FORMAT, "%s: tensor %s is missing", gate_file, name);
    bool weight = strcmp(part, "weight") == 0;
    bool fits = weight ? t->n_dims == 2 && t->shape[0] == 1 && t->shape[1] == n : t->n_dims == 1 && t->shape[0] == 1;
    if (!fits)
        return fail(error, TROL_ERROR_FORMAT,
                    weight ? "%s: tensor %s has shape %s, expected [1, %lld]"
                           : "%s: tensor %s has shape %s, expected [%lld]",
                    gate_file, name, tensor_shape_text(t->shape, t->n_dims, shape, sizeof shape), (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(t->values[i]))
            return fail(error, TROL_ERROR_FORMAT, "%s: tensor %s holds %f at place %lld, expected finite numbers",
                        gate_file, name, (double)t->values[i], (long long)i);
    *values = t->values;
    return TROL_OK;
}

/* A layer whose gate equals the previous layer's shares its memory: the published files repeat one gate for all
 * layers. */
static trol_status take_gates(loader *l, const torch_file *file) {
    const int64_t n = l->config->decoder.hidden_size;
    decoder_layer_weights *layers = l->w->decoder.layers;
    for (int64_t i = 0; i < l->config->decoder.n_layers; i++) {
        const float *weight, *bias;
        TRY(find_gate_tensor(file, i, "weight", n, &weight, l->error));
        TRY(find_gate_tensor(file, i, "bias", 1, &bias, l->error));
        layers[i].mixer_bias = bias[0];
        if (i > 0 && memcmp(layers[i - 1].mixer_weight, weight, (size_t)n * sizeof(float)) == 0) {
            layers[i].mixer_weight = layers[i - 1].mixer_weight;
            continue;
        }
        void *copy;
        TRY(own(l->w, (size_t)n, sizeof(float), "the gate", &copy, l->error));
        memcpy(copy, weight, (size_t)n * sizeof(float));
        layers[i].mixer_weight = copy;
    }
    return TROL_OK;
}

static trol_status load_gates(loader *l, const char *folder) {
    char *path;
    torch_file *file = NULL;
    struct stat info;
    TRY(path_join(folder, gate_file, &path, l->error));
    const bool none = l->options->plain_backbone && lstat(path, &info) != 0 && errno == ENOENT;
    trol_status status = none ? TROL_OK : torch_file_read(path, &file, l->error);
    memory_free(path);
    if (none)
        return TROL_OK;
    if (status == TROL_OK)
        status = take_gates(l, file);
    l->w->decoder.has_gate = status == TROL_OK;
    torch_file_free(file);
    return status;
}

/* ---- vision encoder and projector ------------------------------------------------------------ */

static trol_status load_vision_layer(loader *l, int64_t layer, vision_layer_weights *w) {
    const vision_config *c = &l->config->vision;
    const int64_t hidden = c->hidden_size;
    TRY(load_norm(l, TENSOR_VISION_NORM1, layer, hidden, c->norm, &w->norm1, &w->norm1_bias));
    TRY(load_norm(l, TENSOR_VISION_NORM2, layer, hidden, c->norm, &w->norm2, &w->norm2_bias));
    if (has(l, TENSOR_VISION_QKV)) {
        linear whole;
        TRY(load_linear(l, TENSOR_VISION_QKV, layer, 3 * hidden, hidden, c->qkv_bias, &whole));
        for (int i = 0; i < 3; i++)
            w->qkv[i] = linear_view(&whole, i * hidden, hidden);
    } else {
        TRY(load_linear(l, TENSOR_VISION_Q, layer, hidden, hidden, c->qkv_bias, &w->qkv[0]));
        TRY(load_linear(l, TENSOR_VISION_K, layer, hidden, hidden, c->qkv_bias, &w->qkv[1]));
        TRY(load_linear(l, TENSOR_VISION_V, layer, hidden, hidden, c->qkv_bias, &w->qkv[2]));
    }
    if (c->qk_norm) {
        TRY(load_vector(l, TENSOR_VISION_Q_NORM, layer, "", hidden, &w->q_norm));
        TRY(load_vector(l, TENSOR_VISION_K_NORM, layer, "", hidden, &w->k_norm));
    }
    TRY(load_linear(l, TENSOR_VISION_OUT, layer, hidden, hidden, true, &w->attention_out));
    TRY(load_linear(l, TENSOR_VISION_FC1, layer, c->intermediate_size, hidden, true, &w->fc1));
    TRY(load_linear(l, TENSOR_VISION_FC2, layer, hidden, c->intermediate_size, true, &w->fc2));
    if (has(l, TENSOR_VISION_SCALE1)) {
        TRY(load_vector(l, TENSOR_VISION_SCALE1, layer, "", hidden, &w->scale1));
        TRY(load_vector(l, TENSOR_VISION_SCALE2, layer, "", hidden, &w->scale2));
    }
    return TROL_OK;
}

/* What config.json omits: the tensors' sizes and the number of layers. */
static trol_status complete_vision_config(loader *l) {
    vision_config *c = &l->config->vision;
    char name[NAME_BYTES];
    const tensor *t = tensor_source_find(l->w->source, l->family->tensors[TENSOR_CLASS_EMBEDDING]);
    if (c->hidden_size == 0 && t && t->n_dims == 1)
        c->hidden_size = t->shape[0];
    family_tensor_name(l->family, TENSOR_VISION_FC1, 0, "bias", name); /* the weight may be packed */
    t = tensor_source_find(l->w->source, name);
    if (c->intermediate_size == 0 && t && t->n_dims == 1)
        c->intermediate_size = t->shape[0];
    if (c->intermediate_size == 0)
        return fail(l->error, TROL_ERROR_FORMAT, "%s: tensor %s is missing or not a vector",
                    tensor_source_file(l->w->source), name);
    if (c->n_layers == 0) {
        do
            family_tensor_name(l->family, TENSOR_VISION_NORM1, c->n_layers++, "weight", name);
        while (tensor_source_find(l->w->source, name));
        c->n_layers--;
    }
    if (c->hidden_size == 0)
        return fail(l->error, TROL_ERROR_FORMAT, "%s: tensor %s is missing or not a vector",
                    tensor_source_file(l->w->source), l->family->tensors[TENSOR_CLASS_EMBEDDING]);
    if (c->n_layers == 0)
        return fail(l->error, TROL_ERROR_FORMAT, "%s: the vision encoder's layer 0 is missing (no tensor %s)",
                    tensor_source_file(l->w->source), name);
    if (c->hidden_size % c->n_heads != 0 || c->hidden_size / c->n_heads > CONFIG_MAX_HEAD_DIM)
        return fail(l->error, TROL_ERROR_UNSUPPORTED,
                    "model.safetensors: the vision encoder's hidden_size is %lld, expected a multiple of its %d heads "
                    "with at most %d each",
                    (long long)c->hidden_size, c->n_heads, CONFIG_MAX_HEAD_DIM);
    return TROL_OK;
}

/* A tensor that may have leading dimensions of 1: [1, 1, n] for [n]. */
static trol_status load_table(loader *l, const char *name, int64_t rows, int64_t columns, const float **values) {
    const tensor *t;
    TRY(find(l, name, &t));
    TRY(check_type(l, t));
    tensor flat = *t;
    while (flat.n_dims > 1 && flat.shape[0] == 1) {
        flat.n_dims--;
        memmove(flat.shape, flat.shape + 1, (size_t)flat.n_dims * sizeof *flat.shape);
    }
    int64_t expected[2] = {rows, columns};
    int n_dims = rows == 1 ? 1 : 2;
    if (rows == 0 && flat.n_dims == 2)
        expected[0] = flat.shape[0];
    if (!same_shape(&flat, rows == 1 ? &columns : expected, n_dims))
        return shape_error(l, t, rows == 1 ? &columns : expected, n_dims);
    return to_floats(l, t, name, values);
}

static trol_status load_patch_embedding(loader *l) {
    const vision_config *c = &l->config->vision;
    const tensor *t;
    TRY(find(l, l->family->tensors[TENSOR_PATCH], &t));
    TRY(check_type(l, t));
    int64_t expected[4] = {c->hidden_size, 3, c->patch_size, c->patch_size};
    if (!same_shape(t, expected, 4))
        return shape_error(l, t, expected, 4);
    const float *bias = NULL;
    if (has(l, TENSOR_PATCH_BIAS))
        TRY(load_vector(l, TENSOR_PATCH_BIAS, 0, "", c->hidden_size, &bias));
    matrix m = {.type = t->type,
                .rows = c->hidden_size,
                .columns = 3 * (int64_t)c->patch_size * c->patch_size,
                .data = t->data};
    count_matrix(l, &m);
    l->w->vision.patch = linear_of(m, bias);
    return TROL_OK;
}

/* Position embeddings: one per patch, or those of another square grid. */
static trol_status load_positions(loader *l) {
    const vision_config *c = &l->config->vision;
    vision_weights *w = &l->w->vision;
    int64_t side = c->image_size / c->patch_size;
    TRY(load_table(l, l->family->tensors[TENSOR_POSITIONS], l->family->exact_positions ? 1 + side * side : 0,
                   c->hidden_size, &w->positions));
    const tensor *t = tensor_source_find(l->w->source, l->family->tensors[TENSOR_POSITIONS]);
    w->n_positions = t->shape[t->n_dims - 2] - 1;
    int64_t root = (int64_t)llround(sqrt((double)w->n_positions));
    if (w->n_positions < 1 || root * root != w->n_positions)
        return fail(l->error, TROL_ERROR_FORMAT, "%s: tensor %s has %lld rows, expected a square and one more", t->file,
                    t->name, (long long)w->n_positions + 1);
    return TROL_OK;
}

static trol_status load_vision(loader *l) {
    TRY(complete_vision_config(l));
    const vision_config *c = &l->config->vision;
    vision_weights *w = &l->w->vision;
    void *memory;
    TRY(own(l->w, (size_t)c->n_layers, sizeof *w->layers, "vision layers", &memory, l->error));
    w->layers = memory;
    TRY(load_table(l, l->family->tensors[TENSOR_CLASS_EMBEDDING], 1, c->hidden_size, &w->class_embedding));
    TRY(load_patch_embedding(l));
    TRY(load_positions(l));
    if (has(l, TENSOR_PRE_NORM))
        TRY(load_norm(l, TENSOR_PRE_NORM, 0, c->hidden_size, NORM_LAYER, &w->pre_norm, &w->pre_norm_bias));
    for (int64_t i = 0; i < c->n_layers; i++)
        TRY(load_vision_layer(l, i, &w->layers[i]));
    return TROL_OK;
}

static trol_status load_projector(loader *l) {
    projector_weights *w = &l->w->projector;
    const int64_t hidden = l->config->decoder.hidden_size;
    const int64_t features = config_feature_width(l->config);
    if (has(l, TENSOR_PROJECTOR_NORM))
        TRY(load_norm(l, TENSOR_PROJECTOR_NORM, 0, features, NORM_LAYER, &w->norm, &w->norm_bias));
    TRY(load_linear(l, TENSOR_PROJECTOR_FIRST, 0, 0, features, true, &w->first));
    return load_linear(l, TENSOR_PROJECTOR_SECOND, 0, hidden, w->first.weight.rows, true, &w->second);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool expected_extra(const model_family *family, const char *name) {
    for (const char *const *part = family->idle_tensors; *part; part++)
        if (strstr(name, *part))
            return true;
    return false;
}

static void report_unused(const loader *l) {
    size_t n_unused = 0;
    for (size_t i = 0; i < tensor_source_count(l->w->source); i++) {
        const char *name = tensor_source_at(l->w->source, i)->name;
        if (l->used[i] || expected_extra(l->family, name))
            continue;
        if (n_unused++ < 3)
            log_message(l->options->log, TROL_LOG_WARNING, "%s: tensor %s is not part of the model: skipped",
                        tensor_source_at(l->w->source, i)->file, name);
    }
    if (n_unused > 3)
        log_message(l->options->log, TROL_LOG_WARNING, "%zu tensors in all are not part of the model: skipped",
                    n_unused);
}

static trol_status load_all(loader *l, const char *folder) {
    TRY(load_decoder(l));
    TRY(load_gates(l, folder));
    TRY(load_vision(l));
    TRY(load_projector(l));
    report_unused(l);
    return TROL_OK;
}

trol_status weights_load(const char *folder, model_config *config, const weights_options *options, weights **result,
                         trol_error *error) {
    *result = NULL;
    weights *w = calloc(1, sizeof *w);
    if (!w)
        return fail_memory(error, sizeof *w, "the weights");
    loader l = {.w = w, .config = config, .options = options, .family = config->family, .error = error};
    trol_status status = tensor_source_open(folder, options->log, &w->source, error);
    if (status == TROL_OK) {
        const size_t n = tensor_source_count(w->source);
        for (size_t i = 0; i < n; i++)
            l.n_bytes_total += (int64_t)tensor_source_at(w->source, i)->n_bytes;
        l.used = calloc(n + 1, sizeof *l.used);
        status = l.used ? load_all(&l, folder) : fail_memory(error, n, "the weights");
    }
    free(l.used);
    if (status != TROL_OK) {
        weights_free(w);
        return status;
    }
    *result = w;
    return TROL_OK;
}

void weights_free(weights *w) {
    if (!w)
        return;
    while (w->owned) {
        struct owned_memory *next = w->owned->next;
        if (w->owned->mapped_bytes)
            munmap(w->owned->memory, w->owned->mapped_bytes);
        else
            memory_free(w->owned->memory);
        free(w->owned);
        w->owned = next;
    }
    tensor_source_close(w->source);
    free(w);
}
