/* inspect.c - a description of a checkpoint folder, line by line, that continues after errors. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "engine/locate.h"
#include "engine/prompt.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/tokenizer.h"
#include "format/torch_pickle.h"
#include "model/config.h"
#include "model/weights.h"

/* Where the lines go, and the first error. */
typedef struct report {
    trol_line_callback callback;
    void *user;
    bool cancelled;
    trol_status first; /* TROL_OK so far */
    trol_error *error; /* of the first; may be NULL */
} report;

static void line(report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line(report *r, const char *format, ...) {
    char text[1400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!r->cancelled)
        r->cancelled = r->callback(r->user, text) != 0;
}

/* "config.json            ok: ..." */
static void good(report *r, const char *thing, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void good(report *r, const char *thing, const char *format, ...) {
    char text[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    line(r, "%-22s ok: %s", thing, text);
}

/* "config.json            NOT OK: ..." */
static void bad(report *r, const char *thing, trol_status status, const trol_error *error) {
    line(r, "%-22s NOT OK: %s", thing, error->message);
    if (r->first != TROL_OK)
        return;
    r->first = status;
    if (r->error)
        *r->error = *error;
}

/* The readers' warnings go among the lines. */
static void log_line(void *user, trol_log_level level, const char *message) {
    if (level == TROL_LOG_WARNING)
        line(user, "%-22s note: %s", "", message);
}

/* "4.902 G", "633.7 k". Returns text. */
static const char *short_number(double number, char text[16]) {
    static const char *const units[] = {"", " k", " M", " G", " T"};
    int unit = 0;
    for (; number >= 1000 && unit < 4; unit++)
        number /= 1000;
    snprintf(text, 16, "%.4g%s", number, units[unit]);
    return text;
}

static void describe_rope(report *r, const decoder_config *d) {
    static const char *const names[] = {
        [ROPE_PLAIN] = "plain", [ROPE_DYNAMIC_NTK] = "dynamic NTK", [ROPE_SU] = "su (LongRoPE)", [ROPE_YARN] = "yarn"};
    char extra[96] = "";
    if (d->rope.type == ROPE_DYNAMIC_NTK)
        snprintf(extra, sizeof extra, ", factor %g", d->rope.factor);
    else if (d->rope.type != ROPE_PLAIN)
        snprintf(extra, sizeof extra, ", long factors past %lld", (long long)d->rope.original_max_positions);
    line(r, "%-22s     rope %s, theta %g%s; %lld positions", "", names[d->rope.type], d->rope.theta, extra,
         (long long)d->max_positions);
    if (d->sliding_window != INT64_MAX)
        line(r, "%-22s     a query sees %lld keys before its own", "", (long long)d->sliding_window);
}

static bool inspect_config(report *r, const char *folder, const logger *log, model_config *config) {
    trol_error error;
    trol_status status = config_load(folder, log, config, &error);
    if (status != TROL_OK) {
        bad(r, "config.json", status, &error);
        return false;
    }
    const decoder_config *d = &config->decoder;
    good(r, "config.json",
         "%s: %lld decoder layers, hidden %lld, intermediate %lld, %d heads of %d, %d KV heads, vocabulary %lld",
         config->family->name, (long long)d->n_layers, (long long)d->hidden_size, (long long)d->intermediate_size,
         d->n_heads, d->head_dim, d->n_kv_heads, (long long)d->vocab_size);
    describe_rope(r, d);
    return true;
}

/* How many tensors and bytes there are of each dtype. */
static void describe_dtypes(report *r, const tensor_source *source) {
    const size_t n = tensor_source_count(source);
    char number[16];
    for (size_t i = 0; i < n; i++) {
        const char *dtype = tensor_source_at(source, i)->dtype_name;
        size_t count = 0;
        double bytes = 0;
        bool seen = false;
        for (size_t k = 0; k < n; k++) {
            const tensor *t = tensor_source_at(source, k);
            if (strcmp(t->dtype_name, dtype) != 0)
                continue;
            seen |= k < i;
            count++;
            bytes += (double)t->n_bytes;
        }
        if (!seen)
            line(r, "%-22s     %zu tensors of %s, %sB", "", count, dtype, short_number(bytes, number));
    }
}

static void list_all(report *r, const tensor_source *source) {
    line(r, "%s", "");
    line(r, "dtype         bytes  shape                  tensor (file)");
    for (size_t i = 0; i < tensor_source_count(source) && !r->cancelled; i++) {
        const tensor *t = tensor_source_at(source, i);
        char shape[128];
        line(r, "%-5s  %12zu  %-21s  %s (%s)", t->dtype_name, t->n_bytes,
             tensor_shape_text(t->shape, t->n_dims, shape, sizeof shape), t->name, t->file);
    }
}

/* NULL if the files are not there or broken. */
static tensor_source *inspect_files(report *r, const char *folder, const logger *log) {
    trol_error error;
    tensor_source *source = NULL;
    trol_status status = tensor_source_open(folder, log, &source, &error);
    if (status != TROL_OK) {
        bad(r, "safetensors files", status, &error);
        return NULL;
    }
    double n_values = 0;
    char number[16];
    for (size_t i = 0; i < tensor_source_count(source); i++) {
        double values = 1; /* a tensor that the model does not have may have any shape */
        for (int k = 0; k < tensor_source_at(source, i)->n_dims; k++)
            values *= (double)tensor_source_at(source, i)->shape[k];
        n_values += values;
    }
    good(r, "safetensors files", "%zu tensors, %s values", tensor_source_count(source), short_number(n_values, number));
    describe_dtypes(r, source);
    return source;
}

/* NULL if a file cannot be read. */
static torch_file *inspect_gate_file(report *r, const char *folder) {
    trol_error error;
    char *path = NULL;
    torch_file *file = NULL;
    trol_status status = path_join(folder, "trol_gating.pt", &path, &error);
    if (status == TROL_OK)
        status = torch_file_read(path, &file, &error);
    memory_free(path);
    if (status != TROL_OK) {
        bad(r, "trol_gating.pt", status, &error);
        return NULL;
    }
    const torch_tensor *weight = torch_file_find(file, "0.weight"), *bias = torch_file_find(file, "0.bias");
    char shape[128] = "none";
    if (weight)
        tensor_shape_text(weight->shape, weight->n_dims, shape, sizeof shape);
    good(r, "trol_gating.pt", "%zu tensors, 0.weight %s", torch_file_count(file), shape);
    if (bias && bias->n_values == 1)
        line(r, "%-22s     0.bias %g", "", (double)bias->values[0]);
    return file;
}

/* Checks config, tensors and gate together, as the loader does: every tensor of the model, with its shape. */
static weights *inspect_weights(report *r, const char *folder, const logger *log, model_config *config) {
    trol_error error;
    weights *w = NULL;
    const weights_options options = {.kernels = kernels_at(CPU_SCALAR), .log = log};
    trol_status status = weights_load(folder, config, &options, &w, &error);
    if (status != TROL_OK) {
        bad(r, "what the model needs", status, &error);
        return NULL;
    }
    char parameters[16], bytes[16];
    good(r, "what the model needs", "every tensor is there in its shape: %s parameters, %sB",
         short_number((double)w->n_parameters, parameters), short_number((double)w->n_bytes, bytes));
    const decoder_config *d = &config->decoder;
    const vision_config *v = &config->vision;
    bool same = true;
    double square = 0;
    for (int64_t i = 0; i < d->n_layers; i++)
        same &= w->decoder.layers[i].mixer_weight == w->decoder.layers[0].mixer_weight &&
                w->decoder.layers[i].mixer_bias == w->decoder.layers[0].mixer_bias;
    for (int64_t i = 0; i < d->hidden_size; i++)
        square += (double)w->decoder.layers[0].mixer_weight[i] * w->decoder.layers[0].mixer_weight[i];
    line(r, "%-22s     gate: %s, |w| %.4g, b %.4g in the first layer", "",
         same ? "one for all layers" : "layers differ", sqrt(square), (double)w->decoder.layers[0].mixer_bias);
    line(r, "%-22s     LoRA: %s", "", w->decoder.layers[0].qkv.lora_a.rows ? "on image tokens" : "none");
    line(r,
         "%-22s     vision: %lld layers, hidden %lld, intermediate %lld, %d heads, pictures of %d pixels in patches of "
         "%d",
         "", (long long)v->n_layers, (long long)v->hidden_size, (long long)v->intermediate_size, v->n_heads,
         v->image_size, v->patch_size);
    line(r, "%-22s     %lld image tokens a tile, %d tiles a picture at most", "",
         (long long)config_tokens_per_tile(config), config_max_tiles(config));
    return w;
}

/* A dangling link counts: reading it reports what is wrong. */
static bool has_file(const char *folder, const char *name) {
    char *path = NULL;
    struct stat info;
    bool found = path_join(folder, name, &path, NULL) == TROL_OK && lstat(path, &info) == 0;
    memory_free(path);
    return found;
}

static void inspect_tokenizer(report *r, const char *folder, const logger *log, const model_config *config,
                              int64_t n_tokens) {
    if (!has_file(folder, "tokenizer.model")) {
        line(r, "%-22s missing: only raw token ids can be used", "tokenizer.model");
        return;
    }
    trol_error error;
    tokenizer *t = NULL;
    const prompt_template *family = &config->family->prompt;
    const tokenizer_options options = {.dummy_prefix = config->family->dummy_prefix, .n_tokens = n_tokens};
    trol_status status = tokenizer_load(folder, &options, log, &t, &error);
    if (status != TROL_OK) {
        bad(r, "tokenizer", status, &error);
        return;
    }
    int32_t image = tokenizer_id(t, family->image_token), ends[8];
    size_t n_ends = prompt_end_tokens(family, t, ends, sizeof ends / sizeof *ends);
    status = prompt_check(family, t, &error);
    if (status != TROL_OK)
        bad(r, "tokenizer", status, &error);
    else
        good(r, "tokenizer", "%d tokens, %s is %d", tokenizer_count(t), family->image_token, image);
    for (size_t i = 0; i < n_ends; i++)
        line(r, "%-22s     %s (%d) ends an answer", "", tokenizer_spelling(t, ends[i]), ends[i]);
    tokenizer_free(t);
}

static void inspect_folder(report *r, const char *folder, bool list_tensors) {
    const logger log = {log_line, r};
    model_config config;
    line(r, "%-22s     %s", "folder", folder);
    bool has_config = inspect_config(r, folder, &log, &config);
    tensor_source *source = inspect_files(r, folder, &log);
    torch_file *gate = inspect_gate_file(r, folder);
    weights *w = NULL;
    if (has_config && source && gate)
        w = inspect_weights(r, folder, &log, &config);
    if (has_config)
        inspect_tokenizer(r, folder, &log, &config, w ? w->decoder.embeddings.rows : config.decoder.vocab_size + 1);
    line(r, "%-22s     %s", "the model", r->first == TROL_OK ? "loads" : "does not load");
    if (source && list_tensors)
        list_all(r, source);
    weights_free(w);
    torch_file_free(gate);
    tensor_source_close(source);
}

trol_status trol_inspect(const char *path, int32_t list_tensors, trol_line_callback callback, void *user,
                         trol_error *error) {
    if (!path || !*path || !callback)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_inspect: the path or the callback is NULL or empty");
    char *folder = NULL;
    TRY(locate_checkpoint(path, &folder, error));
    report r = {.callback = callback, .user = user, .error = error};
    inspect_folder(&r, folder, list_tensors != 0);
    memory_free(folder);
    return r.cancelled ? fail(error, TROL_ERROR_CANCELLED, "the callback of trol_inspect asked to stop") : r.first;
}
