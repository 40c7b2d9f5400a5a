/* quantize.c - writes a copy of a checkpoint with its matrices packed to 8 or 4 bits, as documented in
 * kernels/quantize.h.
 *
 * Packed tensors come first: their sizes are multiples of 64, so each of them is aligned without a hole in the file.
 * Only a few groups of rows are held; the source is mapped and read once. */
#define _DEFAULT_SOURCE /* madvise */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/output.h"
#include "engine/locate.h"
#include "engine/params.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"
#include "model/config.h"
#include "model/weights.h"

enum {
    GROUPS_AT_ONCE = 64,           /* rows / 16 that are packed, then written */
    COPY_AT_ONCE = 1 << 20,        /* bytes of a tensor that is copied */
    LARGEST_SIDE_FILE = 256 << 20, /* config, tokenizer, gate ... */
    DATA_ALIGNMENT = 64
};

static const char weights_name[] = "model.safetensors";

/* A tensor of the new file. */
typedef struct entry {
    const tensor *source;
    element_type type; /* ELEMENT_Q8, ELEMENT_Q4: packed; else the source's, copied */
    size_t n_bytes;
} entry;

typedef struct packer {
    const trol_quantize_params *params;
    const quantized_kernels *kernels;
    trol_threads *threads;
    const model_family *family;
    tensor_source *source;
    entry *entries; /* packed ones first, each part sorted by name */
    size_t n_entries;
    output out;
    int64_t n_bytes_done, n_bytes_total; /* of the source's tensors */
    trol_error *error;
} packer;

void trol_quantize_params_init(trol_quantize_params *params) {
    if (params)
        *params = (trol_quantize_params){.size = sizeof *params, .weight_type = TROL_WEIGHTS_Q8};
}

static trol_status check_params(const trol_quantize_params *p, trol_error *error) {
    if (p->weight_type != TROL_WEIGHTS_Q8 && p->weight_type != TROL_WEIGHTS_Q4)
        return fail(error, TROL_ERROR_ARGUMENT, "weight_type is %d, expected TROL_WEIGHTS_Q8 or TROL_WEIGHTS_Q4",
                    (int)p->weight_type);
    if (p->vision_type != TROL_WEIGHTS_AS_STORED && p->vision_type != TROL_WEIGHTS_Q8 &&
        p->vision_type != TROL_WEIGHTS_Q4)
        return fail(error, TROL_ERROR_ARGUMENT, "vision_type is %d, expected TROL_WEIGHTS_AS_STORED, _Q8 or _Q4",
                    (int)p->vision_type);
    return TROL_OK;
}

/* ---- what is packed -------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end) {
    const size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* The same choice as when a checkpoint is loaded with these types. */
static element_type packed_type(const packer *p, const tensor *t) {
    if (element_bytes(t->type) == 0 || t->n_dims != 2)
        return t->type;
    const weight_types asked = {p->params->weight_type, p->params->vision_type};
    return packing_of(family_role_of_name(p->family, t->name), asked, t->type, t->shape[1]);
}

static bool is_packed(const entry *e) { return element_is_packed(e->type); }

static trol_status plan(packer *p) {
    const size_t n = tensor_source_count(p->source);
    TRY(memory_alloc(n, sizeof *p->entries, "the list of tensors", (void **)&p->entries, p->error));
    for (int packed = 1; packed >= 0; packed--)
        for (size_t i = 0; i < n; i++) {
            const tensor *t = tensor_source_at(p->source, i);
            entry e = {t, packed_type(p, t), t->n_bytes};
            if (is_packed(&e) != packed)
                continue;
            if (packed && !quantized_bytes(e.type, t->shape[0], t->shape[1], &e.n_bytes))
                return fail(p->error, TROL_ERROR_FORMAT, "%s: tensor %s is too large to be packed", t->file, t->name);
            p->entries[p->n_entries++] = e;
            p->n_bytes_total += (int64_t)t->n_bytes;
        }
    if (p->n_entries == 0 || !is_packed(&p->entries[0]))
        return fail(p->error, TROL_ERROR_FORMAT, "model.safetensors: there is no matrix to pack");
    return TROL_OK;
}

/* ---- the header ------------------------------------------------------------------------------ */

/* FNV-1a over every tensor's name, dtype, shape and first bytes: distinguishes checkpoints without reading all of
 * them. */
static uint64_t fingerprint(const tensor_source *source) {
    uint64_t hash = FNV_START;
    for (size_t i = 0; i < tensor_source_count(source); i++) {
        const tensor *t = tensor_source_at(source, i);
        const struct {
            const void *bytes;
            size_t n_bytes;
        } parts[] = {{t->name, strlen(t->name)},
                     {t->dtype_name, strlen(t->dtype_name)},
                     {t->shape, (size_t)t->n_dims * sizeof *t->shape},
                     {t->data, t->n_bytes < 64 ? t->n_bytes : 64}};
        for (size_t j = 0; j < sizeof parts / sizeof parts[0]; j++)
            hash = fnv_bytes(hash, parts[j].bytes, parts[j].n_bytes);
    }
    return hash;
}

static bool add_text(cJSON *object, const char *key, const char *text) {
    return cJSON_AddStringToObject(object, key, text) != NULL;
}

/* "name rows columns;name rows columns" of the packed tensors, allocated. */
static char *shapes_text(const packer *p) {
    size_t capacity = 1, used = 0;
    for (size_t i = 0; i < p->n_entries; i++)
        capacity += strlen(p->entries[i].source->name) + 64;
    char *text = malloc(capacity);
    if (!text)
        return NULL;
    text[0] = '\0';
    for (size_t i = 0; i < p->n_entries && is_packed(&p->entries[i]); i++) {
        const tensor *t = p->entries[i].source;
        used += (size_t)snprintf(text + used, capacity - used, "%s%s.%s %lld %lld", i ? ";" : "", t->name,
                                 element_name(p->entries[i].type), (long long)t->shape[0], (long long)t->shape[1]);
    }
    return text;
}

static bool add_metadata(const packer *p, cJSON *root) {
    cJSON *metadata = cJSON_AddObjectToObject(root, "__metadata__");
    char source[64], *shapes = shapes_text(p);
    snprintf(source, sizeof source, "%lld %016" PRIx64, (long long)p->n_bytes_total, fingerprint(p->source));
    const bool good = metadata && shapes && add_text(metadata, "format", "pt") &&
                      add_text(metadata, "trol.quantized.version", QUANTIZED_FORMAT_VERSION) &&
                      add_text(metadata, "trol.quantized.source", source) &&
                      add_text(metadata, "trol.quantized.shapes", shapes);
    free(shapes);
    return good;
}

/* The tensor's member of the header, still empty; a packed one is called "name.q8" or "name.q4". */
static cJSON *add_member(cJSON *root, const entry *e) {
    const size_t capacity = strlen(e->source->name) + 8;
    char *name = malloc(capacity);
    if (!name)
        return NULL;
    snprintf(name, capacity, "%s%s%s", e->source->name, is_packed(e) ? "." : "",
             is_packed(e) ? element_name(e->type) : "");
    cJSON *object = cJSON_AddObjectToObject(root, name);
    free(name);
    return object;
}

static bool add_tensor(cJSON *root, const entry *e, size_t offset) {
    const int64_t bytes = (int64_t)e->n_bytes;
    cJSON *object = add_member(root, e);
    if (!object || !add_text(object, "dtype", is_packed(e) ? "U8" : e->source->dtype_name))
        return false;
    cJSON *shape = cJSON_AddArrayToObject(object, "shape"), *offsets = cJSON_AddArrayToObject(object, "data_offsets");
    if (!shape || !offsets)
        return false;
    for (int i = 0; i < (is_packed(e) ? 1 : e->source->n_dims); i++)
        if (!cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)(is_packed(e) ? bytes : e->source->shape[i]))))
            return false;
    return cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)offset)) &&
           cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)offset + (double)bytes));
}

/* The length, the JSON, and spaces up to the next multiple of 64, where the data begins. */
static trol_status write_header(packer *p) {
    cJSON *root = cJSON_CreateObject();
    bool good = root && add_metadata(p, root);
    size_t offset = 0;
    for (size_t i = 0; good && i < p->n_entries; i++) {
        good = add_tensor(root, &p->entries[i], offset);
        offset += p->entries[i].n_bytes;
    }
    char *text = good ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (!text)
        return fail_memory(p->error, p->n_entries * 256, "the header of model.safetensors");
    static const char spaces[DATA_ALIGNMENT + 1] = "                                                                ";
    const size_t length = strlen(text), padding = (DATA_ALIGNMENT - (length + 8) % DATA_ALIGNMENT) % DATA_ALIGNMENT;
    unsigned char header_bytes[8];
    for (int i = 0; i < 8; i++)
        header_bytes[i] = (unsigned char)((uint64_t)(length + padding) >> (8 * i));
    trol_status status = output_write(&p->out, header_bytes, sizeof header_bytes, p->error);
    if (status == TROL_OK)
        status = output_write(&p->out, text, length, p->error);
    if (status == TROL_OK)
        status = output_write(&p->out, spaces, padding, p->error);
    cJSON_free(text);
    return status;
}

/* ---- the data -------------------------------------------------------------------------------- */

static trol_status progressed(packer *p, size_t n_bytes) {
    p->n_bytes_done += (int64_t)n_bytes;
    if (p->params->progress &&
        p->params->progress(p->params->progress_user, TROL_STAGE_LOAD, p->n_bytes_done, p->n_bytes_total) != 0)
        return fail(p->error, TROL_ERROR_CANCELLED, "the progress callback asked to stop");
    return TROL_OK;
}

static trol_status write_packed(packer *p, const entry *e) {
    const int64_t rows = e->source->shape[0], columns = e->source->shape[1], step = GROUPS_AT_ONCE * QUANTIZED_GROUP;
    const size_t row_bytes = (size_t)columns * element_bytes(e->source->type),
                 group_bytes = quantized_group_bytes(e->type, columns);
    void *packed;
    TRY(memory_alloc(GROUPS_AT_ONCE, group_bytes, "packed weights", &packed, p->error));
    trol_status status = TROL_OK;
    for (int64_t first = 0; first < rows && status == TROL_OK; first += step) {
        const int64_t n_rows = rows - first < step ? rows - first : step;
        const unsigned char *source = (const unsigned char *)e->source->data + (size_t)first * row_bytes;
        TRY_GOTO(
            quantize_matrix(p->kernels, p->threads, NULL, e->type, e->source->type, source, n_rows, columns, packed),
            done);
        TRY_GOTO(output_write(&p->out, packed, (size_t)quantized_groups(n_rows) * group_bytes, p->error), done);
        status = progressed(p, (size_t)n_rows * row_bytes);
    }
done:
    memory_free(packed);
    return status;
}

static trol_status write_copy(packer *p, const entry *e) {
    for (size_t offset = 0; offset < e->n_bytes; offset += COPY_AT_ONCE) {
        const size_t n = e->n_bytes - offset < COPY_AT_ONCE ? e->n_bytes - offset : COPY_AT_ONCE;
        TRY(output_write(&p->out, (const unsigned char *)e->source->data + offset, n, p->error));
        TRY(progressed(p, n));
    }
    return TROL_OK;
}

static trol_status write_tensors(packer *p, const char *path) {
    TRY(output_open(path, &p->out, p->error));
    trol_status status = write_header(p);
    for (size_t i = 0; i < p->n_entries && status == TROL_OK; i++) {
        const entry *e = &p->entries[i];
        status = is_packed(e) ? write_packed(p, e) : write_copy(p, e);
        file_forget_pages(e->source->data, e->source->n_bytes);
    }
    return status == TROL_OK ? output_finish(&p->out, p->error) : status;
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* The files beside the weights: config, tokenizer, gate, licence. */
typedef struct side_files {
    void *names; /* char *[n_names] */
    size_t n_names, name_capacity;
    output *copies; /* [n_names]; of zeros where there is none yet */
} side_files;

static char **names_of(const side_files *files) { return files->names; }

static void side_files_free(side_files *files) {
    for (size_t i = 0; i < files->n_names; i++) {
        if (files->copies)
            output_discard(&files->copies[i]);
        memory_free(names_of(files)[i]);
    }
    memory_free(files->names);
    memory_free(files->copies);
}

static bool is_weights(const char *name) {
    return ends_with(name, ".safetensors") || ends_with(name, ".safetensors.index.json") || ends_with(name, ".bin");
}

static trol_status add_name(side_files *files, const char *folder, const char *name, trol_error *error) {
    char *path;
    struct stat info;
    TRY(path_join(folder, name, &path, error));
    const bool is_file = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    memory_free(path);
    if (!is_file)
        return TROL_OK;
    TRY(memory_grow(&files->names, &files->name_capacity, files->n_names + 1, sizeof(char *), "a list of files",
                    error));
    TRY(memory_copy_text(name, strlen(name), &names_of(files)[files->n_names], error));
    files->n_names++;
    return TROL_OK;
}

static bool has_name(const side_files *files, const char *name) {
    bool found = false;
    for (size_t i = 0; i < files->n_names; i++)
        found |= strcmp(names_of(files)[i], name) == 0;
    return found;
}

static trol_status list_side_files(side_files *files, const char *from, trol_error *error) {
    DIR *folder = opendir(from);
    if (!folder)
        return fail(error, TROL_ERROR_IO, "%s: the folder cannot be read: %s", from, strerror(errno));
    trol_status status = TROL_OK;
    const struct dirent *file;
    while (status == TROL_OK && (file = readdir(folder)))
        if (file->d_name[0] != '.' && !is_weights(file->d_name))
            status = add_name(files, from, file->d_name, error);
    closedir(folder);
    TRY(status);
    void *copies;
    TRY(memory_alloc_zero(files->n_names, sizeof *files->copies, "a list of files", &copies, error));
    files->copies = copies;
    return TROL_OK;
}

/* A copy that is not visible yet. */
static trol_status copy_file(const char *from_folder, const char *to_folder, const char *name, output *out,
                             trol_error *error) {
    char *from = NULL, *to = NULL, *bytes = NULL;
    size_t n_bytes;
    trol_status status;
    TRY_GOTO(path_join(from_folder, name, &from, error), done);
    TRY_GOTO(path_join(to_folder, name, &to, error), done);
    TRY_GOTO(file_read(from, LARGEST_SIDE_FILE, &bytes, &n_bytes, error), done);
    TRY_GOTO(output_open(to, out, error), done);
    TRY_GOTO(output_write(out, bytes, n_bytes, error), done);
    status = output_finish(out, error);
done:
    memory_free(bytes);
    memory_free(from);
    memory_free(to);
    return status;
}

static trol_status check_absent(const char *folder, const char *name, trol_error *error) {
    char *path;
    struct stat info;
    TRY(path_join(folder, name, &path, error));
    const trol_status status =
        lstat(path, &info) == 0 ? fail(error, TROL_ERROR_IO, "%s: the file exists already", path) : TROL_OK;
    memory_free(path);
    return status;
}

/* Creates the folder if necessary; refuses the source itself, and a folder that already holds any of the files. */
static trol_status open_folder(packer *p, const char *from, const char *to, const side_files *files, bool *made) {
    struct stat source, target;
    *made = mkdir(to, 0777) == 0;
    if (!*made && errno != EEXIST)
        return fail(p->error, TROL_ERROR_IO, "%s: the folder cannot be made: %s", to, strerror(errno));
    if (stat(from, &source) != 0 || stat(to, &target) != 0 || !S_ISDIR(target.st_mode))
        return fail(p->error, TROL_ERROR_IO, "%s: this is not a folder", to);
    if (source.st_dev == target.st_dev && source.st_ino == target.st_ino)
        return fail(p->error, TROL_ERROR_ARGUMENT, "%s: the packed checkpoint cannot replace its source", to);
    if (p->params->overwrite)
        return TROL_OK;
    TRY(check_absent(to, weights_name, p->error));
    for (size_t i = 0; i < files->n_names; i++)
        TRY(check_absent(to, names_of(files)[i], p->error));
    return TROL_OK;
}

/* Everything is written before any file appears, the weights last. */
static trol_status write_folder(packer *p, const char *from, const char *to, const side_files *files) {
    char *path;
    TRY(path_join(to, weights_name, &path, p->error));
    trol_status status = write_tensors(p, path);
    memory_free(path);
    for (size_t i = 0; i < files->n_names && status == TROL_OK; i++)
        status = copy_file(from, to, names_of(files)[i], &files->copies[i], p->error);
    for (size_t i = 0; i < files->n_names && status == TROL_OK; i++)
        status = output_commit(&files->copies[i], p->error);
    return status == TROL_OK ? output_commit(&p->out, p->error) : status;
}

static trol_status pack_folder(packer *p, const char *from, const char *to) {
    const logger log = {p->params->log, p->params->log_user};
    side_files files = {0};
    model_config config;
    bool made = false;
    trol_status status;
    TRY(config_load(from, &log, &config, p->error));
    p->family = config.family;
    TRY(tensor_source_open(from, &log, &p->source, p->error));
    if (tensor_source_metadata(p->source, "trol.quantized.version")) {
        status =
            fail(p->error, TROL_ERROR_ARGUMENT, "%s: this checkpoint is packed already; pack its source instead", from);
        goto done;
    }
    TRY_GOTO(plan(p), done);
    TRY_GOTO(list_side_files(&files, from, p->error), done);
    if (!has_name(&files, "trol_gating.pt")) {
        status = fail(p->error, TROL_ERROR_IO, "%s: the file trol_gating.pt is missing", from);
        goto done;
    }
    TRY_GOTO(open_folder(p, from, to, &files, &made), done);
    status = write_folder(p, from, to, &files);
done:
    output_discard(&p->out);
    side_files_free(&files);
    if (status != TROL_OK && made)
        rmdir(to);
    tensor_source_close(p->source);
    memory_free(p->entries);
    return status;
}

trol_status trol_quantize(const char *input, const char *output_folder, const trol_quantize_params *params,
                          trol_error *error) {
    if (!input || !*input || !output_folder || !*output_folder)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_quantize: a path is NULL or empty");
    trol_quantize_params p;
    trol_quantize_params_init(&p);
    TRY(params_copy(&p, sizeof p, params, "trol_quantize_params", error));
    TRY(check_params(&p, error));
    const kernels *table;
    TRY(kernels_get(&table, error));
    packer work = {.params = &p, .kernels = &table->quantized, .error = error};
    char *folder;
    TRY(locate_checkpoint(input, &folder, error));
    trol_status status = TROL_OK;
    if (p.threads)
        work.threads = threads_retain(p.threads);
    else
        status = trol_threads_new(p.n_threads, &work.threads, error);
    if (status == TROL_OK)
        status = pack_folder(&work, folder, output_folder);
    trol_threads_free(work.threads);
    memory_free(folder);
    return status;
}
