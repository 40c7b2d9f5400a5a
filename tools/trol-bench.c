/* trol-bench - how fast a model runs here: loading, pictures, prompts in each traversal mode, and answers, for lists of
 * weight types, threads and lengths.
 *
 * Operations are those of the layers' matrices (two per weight and token, twice that for a traversed token); the output
 * head, attention and LoRA are left out, so that figures compare with those of other engines. Work that the engine
 * avoids exactly counts as done. Bytes are those of the layers' and the head's matrices and of the keys and values.
 *
 * The speed of a shared machine changes within minutes, so --peaks measures it before and after each repeat; a row
 * shows the median of the repeats' shares. */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "common/arguments.h"
#include "common/choices.h"
#include "common/bench_report.h"
#include "common/fail.h"
#include "common/signals.h"
#include "common/standard_output.h"
#include "common/synthetic.h"
#include "trol.h"

static const char usage[] =
    "usage: trol-bench [-m MODEL | --synth NAME] [OPTIONS]\n"
    "\n"
    "  -m, --model DIR        a checkpoint folder\n"
    "  --synth NAME           random weights of TroL-1.8B, TroL-3.8B or TroL-7B, made in memory\n"
    "  --layers N             decoder layers of --synth (default: all)\n"
    "  --vision-layers N      layers of its vision encoder (default: all)\n"
    "  --peaks                measures the machine's peaks, first and around each repeat; rows show their share\n"
    "                         (alone: nothing else)\n"
    "\n"
    "  Lists, separated by commas:\n"
    "  --type LIST            as-stored (default), f32, f16, bf16, q8, q4\n"
    "  -t, --threads LIST     0: one per core (default)\n"
    "  --prompt LIST          tokens of a prompt (default 512); 0: none\n"
    "  --traversal LIST       of the prompts: prompt, all, off (default: all three)\n"
    "  --context LIST         tokens before the answer's (default 64); 0: no answers\n"
    "\n"
    "  -n, --n-predict N      tokens of an answer (default 16)\n"
    "  --picture              measures the encoder, and adds a picture (LoRA) to prompts with room for it\n"
    "  --picture-size WxH     its pixels (default 490x490); InternViT cuts 1344x896 into seven tiles\n"
    "  --vision-type TYPE     as --type (default as-stored)\n"
    "  --compute TYPE         exact (default) or bf16\n"
    "  --cache-type TYPE      of keys and values: f16 (default), q8 or f32\n"
    "  --repeats N            of which the median is taken (default 5), after one to warm up\n"
    "  --format FORMAT        table (default), json or csv\n"
    "  --help, --version\n";

enum { MAX_LIST = 16, MAX_REPEATS = 1000, MAX_IMAGE_SIDE = 20000 };

typedef struct options {
    const char *model, *synth, *types, *threads, *prompts, *traversals, *contexts, *image_size;
    int32_t layers, vision_layers, n_predict, repeats, vision_type, compute, cache_type, format;
    bool peaks, image, help, version;
} options;

#define PLACE(member) offsetof(options, member)
static const argument_flag flags[] = {
    {"--model", "-m", ARGUMENT_TEXT, PLACE(model), 0, 0, {0}},
    {"--synth", NULL, ARGUMENT_TEXT, PLACE(synth), 0, 0, {0}},
    {"--layers", NULL, ARGUMENT_INTEGER, PLACE(layers), 1, 1000, {0}},
    {"--vision-layers", NULL, ARGUMENT_INTEGER, PLACE(vision_layers), 1, 1000, {0}},
    {"--peaks", NULL, ARGUMENT_SWITCH, PLACE(peaks), 0, 0, {0}},
    {"--type", NULL, ARGUMENT_TEXT, PLACE(types), 0, 0, {0}},
    {"--threads", "-t", ARGUMENT_TEXT, PLACE(threads), 0, 0, {0}},
    {"--prompt", "-p", ARGUMENT_TEXT, PLACE(prompts), 0, 0, {0}},
    {"--traversal", NULL, ARGUMENT_TEXT, PLACE(traversals), 0, 0, {0}},
    {"--context", NULL, ARGUMENT_TEXT, PLACE(contexts), 0, 0, {0}},
    {"--n-predict", "-n", ARGUMENT_INTEGER, PLACE(n_predict), 1, 100000, {0}},
    {"--picture", NULL, ARGUMENT_SWITCH, PLACE(image), 0, 0, {0}},
    {"--picture-size", NULL, ARGUMENT_TEXT, PLACE(image_size), 0, 0, {0}},
    {"--vision-type", NULL, ARGUMENT_CHOICE, PLACE(vision_type), 0, 0, {WEIGHT_TYPES}},
    {"--compute", NULL, ARGUMENT_CHOICE, PLACE(compute), 0, 0, {COMPUTE_KINDS}},
    {"--cache-type", NULL, ARGUMENT_CHOICE, PLACE(cache_type), 0, 0, {CACHE_TYPES}},
    {"--repeats", NULL, ARGUMENT_INTEGER, PLACE(repeats), 1, MAX_REPEATS, {0}},
    {"--format", NULL, ARGUMENT_CHOICE, PLACE(format), 0, 0, {"table", "json", "csv"}},
    {"--help", "-h", ARGUMENT_SWITCH, PLACE(help), 0, 0, {0}},
    {"--version", NULL, ARGUMENT_SWITCH, PLACE(version), 0, 0, {0}},
};

static const char *const weight_types[] = {WEIGHT_TYPES, NULL};
static const char *const traversal_modes[] = {TRAVERSAL_MODES, NULL};

typedef struct number_list {
    int32_t items[MAX_LIST];
    size_t count;
} number_list;

/* ---- lists ---------------------------------------------------------------------------------------------------------
 */

/* Comma-separated items: indices of names if there are names, else whole numbers 0 .. 1,000,000. */
static trol_status parse_list(const char *flag, const char *text, const char *const *names, number_list *list,
                              trol_error *error) {
    for (const char *item = text; list->count < MAX_LIST;) {
        const size_t length = strcspn(item, ",");
        char copy[32] = "", *end = NULL;
        int32_t value = -1;
        if (length > 0 && length < sizeof copy) {
            memcpy(copy, item, length);
            for (int32_t i = 0; names && names[i]; i++)
                if (strcmp(copy, names[i]) == 0)
                    value = i;
            if (!names && strspn(copy, "0123456789") == length && length < 8)
                value = (int32_t)strtol(copy, &end, 10);
        }
        if (value < 0 || value > 1000000)
            return fail(error, TROL_ERROR_ARGUMENT, "%s: '%.*s' is not a valid item", flag, (int)length, item);
        list->items[list->count++] = value;
        if (!item[length])
            return TROL_OK;
        item += length + 1;
    }
    return fail(error, TROL_ERROR_ARGUMENT, "%s: more than %d items", flag, MAX_LIST);
}

/* ---- one model -----------------------------------------------------------------------------------------------------
 */

typedef struct bench {
    const options *chosen;
    const char *folder;
    number_list types, threads, prompts, traversals, contexts;
    bench_report report;
    trol_error *error;

    trol_model *model; /* of one type and number of threads */
    trol_model_info info;
    int32_t image_width, image_height;
    trol_features *features;           /* NULL: none */
    bench_row row;                     /* what all rows of this model share */
    trol_peaks peaks[MAX_REPEATS + 1]; /* before each repeat of a row, and after the last; only with --peaks */
} bench;

/* Weights of one decoder layer's matrices. */
static double layer_weights(const trol_model_info *info) {
    const double hidden = info->hidden_size, heads = (double)info->n_heads * info->head_dim,
                 kv = (double)info->n_kv_heads * info->head_dim;
    return hidden * (heads + 2 * kv) + heads * hidden + 3 * hidden * info->intermediate_size;
}

static double bytes_per_weight(const char *type) {
    return strcmp(type, "f32") == 0  ? 4
           : strcmp(type, "q8") == 0 ? 1 + 2.0 / 32
           : strcmp(type, "q4") == 0 ? 0.5 + 2.0 / 32
                                     : 2;
}

/* What an answer token reads: matrices once or twice, and the keys and values of `context` tokens. */
static double decode_bytes(const bench *b, double context, bool traversed) {
    const trol_model_info *info = &b->info;
    const double passes = traversed ? 2 : 1;
    const int32_t block = 64;
    const double kv =
        (double)trol_model_cache_bytes(b->model, (trol_cache_type)b->chosen->cache_type, block) / block; /* a token */
    return bytes_per_weight(info->weight_type) *
               (passes * info->n_layers * layer_weights(info) + (double)info->vocab_size * info->hidden_size) +
           passes * kv * context;
}

/* Matrices and attention of the encoder, and the projector. */
static double vision_operations(const bench *b, int32_t n_tiles, int32_t n_tokens) {
    const trol_model_info *info = &b->info;
    const double side = info->image_size / info->vision_patch_size, tokens = side * side + 1,
                 hidden = info->vision_hidden_size, patch = info->vision_patch_size, wide = info->vision_feature_size;
    const double layer =
        2 * tokens * (4 * hidden * hidden + 2 * hidden * info->vision_intermediate_size) + 4 * tokens * tokens * hidden;
    return n_tiles * (info->vision_layers * layer + 2 * tokens * 3 * patch * patch * hidden) +
           2.0 * n_tokens * (wide * info->hidden_size + (double)info->hidden_size * info->hidden_size);
}

/* Random text tokens, with the picture's in the middle if there is room for them. */
static int32_t *make_tokens(const bench *b, int32_t n, bool with_image) {
    int32_t *tokens = malloc((size_t)n * sizeof *tokens);
    uint64_t state = 88172645463325252u;
    for (int32_t i = 0; tokens && i < n; i++) {
        do {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17; /* xorshift64 */
            tokens[i] = (int32_t)(state % (uint64_t)b->info.vocab_size);
        } while (tokens[i] == b->info.image_token);
    }
    const int32_t n_image = with_image ? trol_features_n_tokens(b->features) : 0;
    for (int32_t i = 0; tokens && i < n_image; i++)
        tokens[(n - n_image) / 2 + i] = b->info.image_token;
    return tokens;
}

static trol_status load_model(bench *b, int32_t type, int32_t n_threads) {
    trol_model_params params;
    trol_model_params_init(&params);
    params.weight_type = (trol_weight_type)type;
    params.vision_type = (trol_weight_type)b->chosen->vision_type;
    params.compute = (trol_compute)b->chosen->compute;
    params.n_threads = n_threads;
    params.plain_backbone = 1;
    for (size_t i = 0; i < b->traversals.count; i++)
        params.plain_backbone &= b->traversals.items[i] == TROL_TRAVERSAL_OFF;
    const double start = clock_seconds();
    trol_status status = trol_model_load(b->folder, &params, &b->model, b->error);
    double seconds = clock_seconds() - start;
    b->info.size = sizeof b->info;
    if (status == TROL_OK)
        status = trol_model_get_info(b->model, &b->info, b->error);
    if (status != TROL_OK)
        return status;
    b->row = (bench_row){.n_threads = n_threads ? n_threads : (int32_t)sysconf(_SC_NPROCESSORS_ONLN)};
    snprintf(b->row.weights, sizeof b->row.weights, "%.15s", b->info.weight_type);
    snprintf(b->row.vision, sizeof b->row.vision, "%s", weight_types[b->chosen->vision_type]);
    b->report.cpu_level = b->info.cpu_level;
    b->report.compute = b->info.compute;
    bench_row row = b->row;
    snprintf(row.test, sizeof row.test, "load");
    row.times = bench_summary(&seconds, 1);
    bench_report_row(&b->report, &row);
    return TROL_OK;
}

/* With --peaks: measures the machine before repeat i of a row; repeat -1 only warms up. */
static trol_status measure_peaks(bench *b, int32_t i) {
    if (!b->chosen->peaks || i < 0)
        return TROL_OK;
    b->peaks[i] = (trol_peaks){.size = sizeof b->peaks[i]};
    return trol_measure_peaks(b->row.n_threads, &b->peaks[i], b->error);
}

/* The limit of a row: bytes a second for a row with bytes, otherwise operations a second of the units that multiply
 * weights of a type. */
static double limit_of(const bench *b, const trol_peaks *p, const bench_row *row, const char *type) {
    if (row->bytes > 0)
        return 1e9 * p->read_gbytes;
    if (strcmp(type, "q8") == 0 || strcmp(type, "q4") == 0)
        return 1e9 * p->int8_gops;
    if (strcmp(b->info.compute, "bf16") != 0)
        return 1e9 * p->float32_gflops;
    return 1e9 * (p->tile_bfloat16_gflops > 0 ? p->tile_bfloat16_gflops : p->bfloat16_gflops);
}

/* Writes a row whose repeats took seconds[i]. `type` is that of the weights measured. */
static trol_status end_row(bench *b, bench_row *row, const char *type, double *seconds) {
    static double shares[MAX_REPEATS];
    const size_t repeats = (size_t)b->chosen->repeats;
    trol_status status = measure_peaks(b, b->chosen->repeats);
    for (size_t i = 0; i < repeats; i++) {
        const double limit = limit_of(b, &b->peaks[i], row, type) + limit_of(b, &b->peaks[i + 1], row, type);
        shares[i] = limit > 0 ? (row->bytes > 0 ? row->bytes : row->operations) / seconds[i] / (limit / 2) : 0;
    }
    row->peak_share = bench_summary(shares, repeats).median;
    row->times = bench_summary(seconds, repeats);
    if (status == TROL_OK)
        bench_report_row(&b->report, row);
    return status;
}

/* ---- what is measured ----------------------------------------------------------------------------------------------
 */

static trol_status bench_image(bench *b) {
    const size_t width = (size_t)b->image_width, n_bytes = width * (size_t)b->image_height * 3;
    uint8_t *pixels = malloc(n_bytes);
    trol_image *image = NULL;
    if (!pixels)
        return fail(b->error, TROL_ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < n_bytes; i++)
        pixels[i] = (uint8_t)((i * 2654435761u) >> 13);
    trol_status status = trol_image_load_rgb(pixels, b->image_width, b->image_height, 3 * width, &image, b->error);
    free(pixels);
    double seconds[MAX_REPEATS];
    for (int32_t i = -1; status == TROL_OK && i < b->chosen->repeats; i++) {
        trol_features_free(b->features);
        b->features = NULL;
        status = measure_peaks(b, i);
        const double start = clock_seconds();
        if (status == TROL_OK)
            status = trol_encode_image(b->model, image, &b->features, b->error);
        if (i >= 0)
            seconds[i] = clock_seconds() - start;
    }
    trol_image_free(image);
    if (status != TROL_OK)
        return status;
    bench_row row = b->row;
    snprintf(row.test, sizeof row.test, "picture");
    row.n_tokens = trol_features_n_tokens(b->features);
    row.operations = vision_operations(b, trol_features_n_tiles(b->features), (int32_t)row.n_tokens);
    return end_row(b, &row, row.vision, seconds);
}

static trol_status new_session(bench *b, trol_traversal traversal, int32_t context, trol_session **session) {
    trol_session_params params;
    trol_session_params_init(&params);
    params.traversal = traversal;
    params.context_size = context;
    params.cache_type = (trol_cache_type)b->chosen->cache_type;
    return trol_session_new(b->model, &params, session, b->error);
}

static trol_status bench_prefill(bench *b, int32_t n, trol_traversal traversal) {
    const bool with_image = b->features && n > trol_features_n_tokens(b->features);
    int32_t *tokens = make_tokens(b, n, with_image);
    trol_status status = tokens ? TROL_OK : fail(b->error, TROL_ERROR_MEMORY, "out of memory");
    double seconds[MAX_REPEATS];
    for (int32_t i = -1; status == TROL_OK && i < b->chosen->repeats; i++) {
        trol_session *session = NULL;
        status = measure_peaks(b, i);
        if (status == TROL_OK)
            status = new_session(b, traversal, n, &session);
        const double start = clock_seconds();
        if (status == TROL_OK)
            status = trol_session_prefill(session, tokens, (size_t)n, &b->features, with_image, b->error);
        if (i >= 0)
            seconds[i] = clock_seconds() - start;
        trol_session_free(session);
    }
    free(tokens);
    if (status != TROL_OK)
        return status;
    bench_row row = b->row;
    snprintf(row.test, sizeof row.test, "%s", with_image ? "prompt+img" : "prompt");
    snprintf(row.traversal, sizeof row.traversal, "%s", traversal_modes[traversal]);
    row.n_tokens = n;
    row.operations = (traversal == TROL_TRAVERSAL_OFF ? 2.0 : 4.0) * b->info.n_layers * layer_weights(&b->info) * n;
    return end_row(b, &row, row.weights, seconds);
}

/* Repeated answers after a context; each is preceded by one token that restores the logits.
 */
static trol_status time_answers(bench *b, trol_session *session, int32_t context, double *seconds) {
    trol_status status = TROL_OK;
    for (int32_t i = -1; status == TROL_OK && i < b->chosen->repeats; i++) {
        status = measure_peaks(b, i);
        const double start = clock_seconds();
        for (int32_t k = 0; status == TROL_OK && k < b->chosen->n_predict; k++) {
            const int32_t token = trol_sampler_choose(NULL, trol_session_logits(session), b->info.vocab_size);
            status = trol_session_decode(session, token == b->info.image_token ? 1 : token, b->error);
        }
        if (i >= 0)
            seconds[i] = clock_seconds() - start;
        if (status == TROL_OK)
            status = trol_session_truncate(session, (size_t)context, b->error);
        if (status == TROL_OK)
            status = trol_session_decode(session, 1, b->error);
        context++;
    }
    return status;
}

static trol_status bench_decode(bench *b, int32_t context, trol_traversal traversal) {
    const int32_t room = context + b->chosen->n_predict + b->chosen->repeats + 2;
    int32_t *tokens = make_tokens(b, context, false);
    trol_session *session = NULL;
    double seconds[MAX_REPEATS];
    trol_status status =
        tokens ? new_session(b, traversal, room, &session) : fail(b->error, TROL_ERROR_MEMORY, "out of memory");
    if (status == TROL_OK)
        status = trol_session_prefill(session, tokens, (size_t)context, NULL, 0, b->error);
    if (status == TROL_OK)
        status = time_answers(b, session, context, seconds);
    trol_session_free(session);
    free(tokens);
    if (status != TROL_OK)
        return status;
    const bool traversed = traversal == TROL_TRAVERSAL_ALL;
    const int32_t n = b->chosen->n_predict;
    bench_row row = b->row;
    snprintf(row.test, sizeof row.test, "answer");
    snprintf(row.traversal, sizeof row.traversal, "%s", traversal_modes[traversal]);
    row.context = context;
    row.n_tokens = n;
    row.operations = n * ((traversed ? 4.0 : 2.0) * b->info.n_layers * layer_weights(&b->info) +
                          2.0 * b->info.vocab_size * b->info.hidden_size);
    row.bytes = n * decode_bytes(b, context + 0.5 * n, traversed);
    return end_row(b, &row, row.weights, seconds);
}

/* A closed pipe or a full disk ends the measurements. */
static trol_status check_output(bench *b) {
    const int reason = b->report.write_error;
    return reason ? fail(b->error, TROL_ERROR_IO, "standard output cannot be written: %s", strerror(reason)) : TROL_OK;
}

static trol_status bench_model(bench *b) {
    trol_status status = b->chosen->image ? bench_image(b) : TROL_OK;
    bool all = false;
    for (size_t i = 0; i < b->traversals.count; i++)
        all |= b->traversals.items[i] == TROL_TRAVERSAL_ALL;
    for (size_t i = 0; i < b->prompts.count; i++)
        for (size_t k = 0; status == TROL_OK && b->prompts.items[i] && k < b->traversals.count; k++)
            if ((status = check_output(b)) == TROL_OK)
                status = bench_prefill(b, b->prompts.items[i], (trol_traversal)b->traversals.items[k]);
    /* An answer costs the same in the modes prompt and off. */
    for (size_t i = 0; i < b->contexts.count; i++) {
        if (status == TROL_OK && b->contexts.items[i])
            status = bench_decode(b, b->contexts.items[i], TROL_TRAVERSAL_OFF);
        if (status == TROL_OK && b->contexts.items[i] && all)
            status = bench_decode(b, b->contexts.items[i], TROL_TRAVERSAL_ALL);
        if (status == TROL_OK)
            status = check_output(b);
    }
    return status;
}

static trol_status bench_all(bench *b) {
    trol_status status = TROL_OK;
    for (size_t i = 0; status == TROL_OK && i < b->types.count; i++)
        for (size_t k = 0; status == TROL_OK && k < b->threads.count; k++) {
            status = load_model(b, b->types.items[i], b->threads.items[k]);
            if (status == TROL_OK)
                status = bench_model(b);
            trol_features_free(b->features);
            b->features = NULL;
            trol_model_free(b->model);
            b->model = NULL;
        }
    bench_report_end(&b->report);
    return status;
}

/* ---- random weights ------------------------------------------------------------------------------------------------
 */

/* The folder of random weights, and its files once written; empty: none. Set before signals are caught. */
static char temporary[4096], temporary_files[3][4200];
static volatile sig_atomic_t weights_ready, interrupted;

static void remove_temporary(void) {
    for (int i = 0; *temporary && i < 3; i++)
        unlink(temporary_files[i]);
    if (*temporary)
        rmdir(temporary);
}

/* While the weights are written, the writer stops and cleans up; later nothing needs to be finished. */
static void on_interrupt(int number) {
    interrupted = 1;
    if (!weights_ready)
        return;
    remove_temporary();
    _exit(128 + number);
}

/* A folder in a file system in memory, or else the one for temporary files. */
static trol_status make_weights(const options *chosen, trol_error *error) {
    static const char *const names[] = {"config.json", "trol_gating.pt", "model.safetensors"};
    const char *parent = getenv("TMPDIR");
    if (!parent || !*parent)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(temporary, sizeof temporary, "%s/trol-bench-%ld", parent, (long)getpid());
    for (int i = 0; i < 3; i++)
        snprintf(temporary_files[i], sizeof temporary_files[i], "%s/%s", temporary, names[i]);
    signals_catch(on_interrupt);
    const synthetic_options synthetic = {.model = chosen->synth,
                                         .folder = temporary,
                                         .n_layers = chosen->layers,
                                         .n_vision_layers = chosen->vision_layers,
                                         .seed = 1,
                                         .cancel = &interrupted};
    synthetic_result result;
    fprintf(stderr, "making random weights of %s in %s\n", chosen->synth, parent);
    const bool ok = synthetic_write(&synthetic, &result, error);
    weights_ready = 1;
    return ok ? TROL_OK : error->status;
}

/* ---- the program ---------------------------------------------------------------------------------------------------
 */

static trol_status show_peaks(const options *chosen, int32_t n_threads, trol_error *error) {
    trol_peaks p = {.size = sizeof p};
    trol_status status = trol_measure_peaks(n_threads, &p, error);
    if (status != TROL_OK)
        return status;
    FILE *out = chosen->format == BENCH_TABLE ? stdout : stderr;
    fprintf(out, "peaks of %" PRId32 " threads: float32 %.0f GFLOP/s, int8 %.0f GOP/s, bf16 %.0f GFLOP/s", p.n_threads,
            p.float32_gflops, p.int8_gops, p.bfloat16_gflops);
    fprintf(out, ", tiles int8 %.0f GOP/s, tiles bf16 %.0f GFLOP/s, reading %.1f GB/s (%" PRId32 " streams)\n",
            p.tile_int8_gops, p.tile_bfloat16_gflops, p.read_gbytes, p.read_streams);
    return TROL_OK;
}

/* "490x490" */
static trol_status parse_image_size(const char *text, bench *b) {
    int length = 0;
    if (sscanf(text, "%5" SCNd32 "x%5" SCNd32 "%n", &b->image_width, &b->image_height, &length) == 2 && !text[length] &&
        b->image_width >= 1 && b->image_width <= MAX_IMAGE_SIDE && b->image_height >= 1 &&
        b->image_height <= MAX_IMAGE_SIDE)
        return TROL_OK;
    return fail(b->error, TROL_ERROR_ARGUMENT, "--picture-size: '%s' is not WxH, each from 1 to %d", text,
                MAX_IMAGE_SIDE);
}

static trol_status parse_lists(const options *chosen, bench *b) {
    trol_status status = parse_list("--type", chosen->types, weight_types, &b->types, b->error);
    if (status == TROL_OK)
        status = parse_list("--threads", chosen->threads, NULL, &b->threads, b->error);
    if (status == TROL_OK)
        status = parse_list("--prompt", chosen->prompts, NULL, &b->prompts, b->error);
    if (status == TROL_OK)
        status = parse_list("--traversal", chosen->traversals, traversal_modes, &b->traversals, b->error);
    if (status == TROL_OK)
        status = parse_image_size(chosen->image_size, b);
    return status == TROL_OK ? parse_list("--context", chosen->contexts, NULL, &b->contexts, b->error) : status;
}

static trol_status run(const options *chosen, bench *b) {
    trol_status status = TROL_OK;
    for (size_t i = 0; status == TROL_OK && chosen->peaks && i < b->threads.count; i++)
        status = show_peaks(chosen, b->threads.items[i], b->error);
    if (status != TROL_OK || (!chosen->model && !chosen->synth))
        return status;
    if (chosen->synth)
        status = make_weights(chosen, b->error);
    b->folder = chosen->synth ? temporary : chosen->model;
    if (status == TROL_OK)
        status = bench_all(b);
    remove_temporary();
    return status;
}

int main(int argc, char **argv) {
    options chosen = {.types = "as-stored",
                      .threads = "0",
                      .prompts = "512",
                      .traversals = "prompt,all,off",
                      .contexts = "64",
                      .image_size = "490x490",
                      .n_predict = 16,
                      .repeats = 5};
    trol_error error = {TROL_OK, ""};
    static bench b;
    b.chosen = &chosen, b.error = &error;
    bool understood = arguments_parse(argc, argv, flags, sizeof flags / sizeof *flags, &chosen, &error);
    if (understood && chosen.help)
        return standard_output_text("trol-bench", usage);
    if (understood && chosen.version)
        return standard_output_version("trol-bench");
    if (understood && chosen.model && chosen.synth)
        understood = !fail(&error, TROL_ERROR_ARGUMENT, "both --model and --synth are given");
    if (!understood || parse_lists(&chosen, &b) != TROL_OK)
        return tool_say("trol-bench", "%s (trol-bench --help lists the options)", error.message), 2;
    if (!chosen.model && !chosen.synth && !chosen.peaks)
        return fputs(usage, stderr), 2;
    b.report = (bench_report){
        .format = (bench_format)chosen.format, .model = chosen.synth ? chosen.synth : chosen.model, .stream = stdout};
    signal(SIGPIPE,
           SIG_IGN); /* writing to a closed pipe then fails, which is reported, and the random weights are removed */
    if (run(&chosen, &b) != TROL_OK)
        return tool_say("trol-bench", "%s", error.message), 1;
    return standard_output_end("trol-bench", 0);
}
