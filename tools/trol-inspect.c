/* trol-inspect - shows what a checkpoint folder holds and whether it is complete, and writes any intermediate value of
 * a run as a NumPy file. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arguments.h"
#include "common/choices.h"
#include "common/fail.h"
#include "common/npy.h"
#include "common/signals.h"
#include "common/standard_output.h"
#include "common/token_file.h"
#include "trol.h"

static const char usage[] =
    "usage: trol-inspect MODEL [--no-tensors]\n"
    "       trol-inspect MODEL --dump STAGE [OPTIONS]\n"
    "\n"
    "The first form prints the architecture, the files, the gate, the tokenizer and all tensors of MODEL (a folder, or "
    "a hub\n"
    "name in the hub's cache), and for everything that is needed whether it is there. The exit status is 0 if it "
    "loads.\n"
    "\n"
    "The second form runs pictures or a prompt through the model and writes an intermediate value as a float32 .npy "
    "file:\n"
    "  pixels           [tiles, 3, side, side]    normalized, what the encoder gets\n"
    "  vision_features  [tiles, tokens, columns]  what the projector gets\n"
    "  image_embeds     [tiles, tokens, hidden]   what replaces the image tokens\n"
    "  embeddings       [tokens, hidden]          input of the first layer\n"
    "  pass1, pass2     [layers, tokens, hidden]  output of each layer's passes\n"
    "  gate             [layers, tokens]          the share of pass 2\n"
    "  layer            [layers, tokens, hidden]  output of each layer\n"
    "  logits           [tokens, vocabulary]      of every prompt token\n"
    "\n"
    "  --image FILE        a picture; may be repeated\n"
    "  -p, --prompt TEXT   a question, put through the model's template\n"
    "  --tokens FILE       raw token ids instead, image tokens included (\"-\": standard input)\n"
    "  --layer N           only that layer, counted from 0\n"
    "  -o, --output FILE   where to (default: STAGE.npy)\n"
    "  --traversal MODE    prompt (default), all or off\n"
    "  --cache-type TYPE   of keys and values: f32 (default), f16 or q8\n"
    "  -t, --threads N     (default: one for each core)\n"
    "  --help, --version\n";

typedef struct options {
    const char *model, *output, *prompt, *tokens;
    int32_t stage_index; /* -1: none */
    const char *stage;   /* its name; NULL: none */
    argument_texts images;
    int32_t layer; /* -1: all */
    int32_t n_threads, traversal, cache_type;
    bool no_tensors, help, version;
} options;

#define AT(member) offsetof(options, member)

static const argument_flag flags[] = {
    {"MODEL", NULL, ARGUMENT_PLACE, AT(model), 1, 0, {0}},
    {"--model", "-m", ARGUMENT_TEXT, AT(model), 1, 0, {0}},
    {"--no-tensors", NULL, ARGUMENT_SWITCH, AT(no_tensors), 0, 0, {0}},
    {.name = "--dump",
     .kind = ARGUMENT_CHOICE,
     .offset = AT(stage_index),
     .choices = {"pixels", "vision_features", "image_embeds", "embeddings", "pass1", "pass2", "gate", "layer",
                 "logits"}},
    {"--image", NULL, ARGUMENT_TEXTS, AT(images), 1, 0, {0}},
    {"--prompt", "-p", ARGUMENT_TEXT, AT(prompt), 0, 0, {0}},
    {"--tokens", NULL, ARGUMENT_TEXT, AT(tokens), 1, 0, {0}},
    {"--layer", NULL, ARGUMENT_INTEGER, AT(layer), 0, 1000000, {0}},
    {"--output", "-o", ARGUMENT_TEXT, AT(output), 1, 0, {0}},
    {"--traversal", NULL, ARGUMENT_CHOICE, AT(traversal), 0, 0, {TRAVERSAL_MODES}},
    {"--cache-type", NULL, ARGUMENT_CHOICE, AT(cache_type), 0, 0, {CACHE_TYPES}},
    {"--threads", "-t", ARGUMENT_INTEGER, AT(n_threads), 1, 256, {0}},
    {"--help", "-h", ARGUMENT_SWITCH, AT(help), 0, 0, {0}},
    {"--version", NULL, ARGUMENT_SWITCH, AT(version), 0, 0, {0}},
};

static const char *stage_name(int32_t index) {
    for (size_t i = 0; index >= 0 && i < sizeof flags / sizeof *flags; i++)
        if (flags[i].offset == AT(stage_index))
            return flags[i].choices[index];
    return NULL;
}

/* ---- collecting a stage --------------------------------------------------------------------------------------------
 */

/* The values of one stage, in the engine's order: by layer and token. */
typedef struct collection {
    const options *chosen;
    float *values;
    size_t count, capacity;
    int64_t n_tiles;                     /* seen in stage "pixels" */
    int64_t n_columns, n_rows, n_layers; /* rows: of all layers together */
    int32_t last_layer;
    int64_t next_row; /* of the last layer */
    trol_error error; /* why collecting stopped; status 0: it did not */
} collection;

static int stop(collection *c, trol_status status, const char *message) {
    fail_sentence(&c->error, status, "%s", message);
    return 1;
}

static int collect(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows, int64_t n_columns,
                   const float *values) {
    collection *c = user;
    if (strcmp(stage, "pixels") == 0)
        c->n_tiles += n_rows;
    if (strcmp(stage, c->chosen->stage) != 0 || (c->chosen->layer >= 0 && layer >= 0 && layer != c->chosen->layer))
        return 0;
    const bool image = c->n_tiles > 0 && layer < 0 && strcmp(stage, "embeddings") != 0;
    if (c->n_layers == 0 || (layer != c->last_layer && !image)) {
        c->n_layers++;
        c->next_row = 0;
    }
    if (!image && first != c->next_row)
        return stop(c, TROL_ERROR_STATE, "the rows of a stage are out of order");
    const size_t added = (size_t)(n_rows * n_columns);
    if (c->count + added > c->capacity) {
        size_t capacity = 2 * (c->count + added);
        float *grown = realloc(c->values, capacity * sizeof *grown);
        if (!grown)
            return stop(c, TROL_ERROR_MEMORY, "out of memory; --layer N takes less");
        c->values = grown;
        c->capacity = capacity;
    }
    memcpy(c->values + c->count, values, added * sizeof *values);
    c->count += added;
    c->n_columns = n_columns;
    c->n_rows += n_rows;
    c->last_layer = layer;
    c->next_row += n_rows;
    return 0;
}

static trol_status write_collection(const collection *c, const char *path, int32_t image_size, trol_error *error) {
    const char *stage = c->chosen->stage;
    if (c->n_rows == 0)
        return fail(error, TROL_ERROR_STATE, "the run has no %s%s", stage,
                    c->chosen->layer >= 0 ? " of that layer" : "");
    int64_t shape[4] = {c->n_rows, c->n_columns};
    int n_dims = 2;
    if (strcmp(stage, "pixels") == 0) {
        memcpy(shape, (int64_t[4]){c->n_rows, 3, image_size, image_size}, sizeof shape);
        n_dims = 4;
    } else if (strcmp(stage, "vision_features") == 0 || strcmp(stage, "image_embeds") == 0) {
        memcpy(shape, (int64_t[3]){c->n_tiles, c->n_rows / c->n_tiles, c->n_columns}, 3 * sizeof *shape);
        n_dims = 3;
    } else if (strcmp(stage, "embeddings") != 0) {
        memcpy(shape, (int64_t[3]){c->n_layers, c->n_rows / c->n_layers, c->n_columns}, 3 * sizeof *shape);
        n_dims = strcmp(stage, "gate") == 0 ? 2 : 3;
    }
    trol_status status = npy_write(path, c->values, shape, n_dims, error);
    if (status == TROL_OK) {
        printf("%s: [", path);
        for (int i = 0; i < n_dims; i++)
            printf("%s%" PRId64, i ? ", " : "", shape[i]);
        printf("]\n");
    }
    return status;
}

/* Logits are written immediately: those of a long prompt may not fit in memory. */
typedef struct logits_file {
    npy_file *file;
    const char *path;
    int64_t n_rows;
    trol_error error;
} logits_file;

static int write_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    logits_file *f = user;
    (void)position;
    const int64_t columns = vocab_size;
    if (!f->file && npy_open(f->path, &columns, 1, &f->file, &f->error) != TROL_OK)
        return 1;
    f->n_rows++;
    return npy_append(f->file, logits, 1, &f->error) != TROL_OK;
}

/* ---- running -------------------------------------------------------------------------------------------------------
 */

typedef struct runner {
    const options *chosen;
    trol_model *model;
    trol_session *session;
    trol_image *images[ARGUMENT_MAX_TEXTS];
    trol_features *features[ARGUMENT_MAX_TEXTS];
    int32_t *tokens;
    size_t n_tokens;
    trol_error *error;
} runner;

static bool is_image_stage(const char *stage) {
    return strcmp(stage, "pixels") == 0 || strcmp(stage, "vision_features") == 0 || strcmp(stage, "image_embeds") == 0;
}

static trol_status run_prompt(runner *r) {
    const options *o = r->chosen;
    if (!o->tokens)
        return trol_session_ask(r->session, o->prompt, (const trol_image *const *)r->images, o->images.count, r->error);
    trol_model_info info = {.size = sizeof info};
    trol_status status = token_file_read(o->tokens, &r->tokens, &r->n_tokens, r->error);
    if (status == TROL_OK)
        status = trol_model_get_info(r->model, &info, r->error);
    if (status == TROL_OK)
        status = token_file_check(o->tokens, r->tokens, r->n_tokens, info.n_tokens, r->error);
    for (size_t i = 0; status == TROL_OK && i < o->images.count; i++)
        status = trol_encode_image(r->model, r->images[i], &r->features[i], r->error);
    return status == TROL_OK
               ? trol_session_prefill(r->session, r->tokens, r->n_tokens, r->features, o->images.count, r->error)
               : status;
}

static trol_status dump_logits(runner *r, const char *path) {
    logits_file f = {.path = path};
    trol_session_set_logits_callback(r->session, write_logits, &f);
    trol_status status = run_prompt(r);
    if (status != TROL_OK && f.error.status != TROL_OK)
        *r->error = f.error;
    trol_status closed = npy_close(f.file, status == TROL_OK, r->error);
    if (status == TROL_OK && closed == TROL_OK)
        printf("%s: [%" PRId64 ", vocabulary]\n", path, f.n_rows);
    return status == TROL_OK ? closed : status;
}

static trol_status dump_collected(runner *r, const char *path) {
    collection c = {.chosen = r->chosen};
    trol_status status = TROL_OK;
    trol_model_info info = {.size = sizeof info};
    if (is_image_stage(r->chosen->stage)) {
        for (size_t i = 0; status == TROL_OK && i < r->chosen->images.count; i++)
            status = trol_observe_image(r->model, r->images[i], collect, &c, r->error);
    } else {
        trol_session_set_observer(r->session, collect, &c);
        status = run_prompt(r);
    }
    if (status != TROL_OK && c.error.status != TROL_OK)
        *r->error = c.error;
    if (status == TROL_OK)
        status = trol_model_get_info(r->model, &info, r->error);
    if (status == TROL_OK)
        status = write_collection(&c, path, info.image_size, r->error);
    free(c.values);
    return status;
}

static void show_image_log(void *user, trol_log_level level, const char *message) {
    (void)user;
    if (level == TROL_LOG_WARNING)
        tool_say("trol-inspect", "%s", message);
}

static trol_status dump(runner *r) {
    const options *o = r->chosen;
    char path[64];
    snprintf(path, sizeof path, "%s.npy", o->stage);
    trol_model_params params;
    trol_model_params_init(&params);
    params.n_threads = o->n_threads;
    trol_image_params image;
    trol_image_params_init(&image);
    image.log = show_image_log;
    trol_session_params session;
    trol_session_params_init(&session);
    session.traversal = (trol_traversal)o->traversal;
    session.cache_type = (trol_cache_type)o->cache_type;
    params.plain_backbone = o->traversal == TROL_TRAVERSAL_OFF;
    trol_status status = trol_model_load(o->model, &params, &r->model, r->error);
    for (size_t i = 0; status == TROL_OK && i < o->images.count; i++)
        status = trol_image_load_file(o->images.items[i], &image, &r->images[i], r->error);
    if (status == TROL_OK)
        status = trol_session_new(r->model, &session, &r->session, r->error);
    if (status != TROL_OK)
        return status;
    const char *output = o->output ? o->output : path;
    return strcmp(o->stage, "logits") == 0 ? dump_logits(r, output) : dump_collected(r, output);
}

static int run_dump(const options *chosen) {
    trol_error error = {TROL_OK, ""};
    runner r = {.chosen = chosen, .error = &error};
    trol_status status = dump(&r);
    if (status != TROL_OK)
        tool_say("trol-inspect", "%s", error.message);
    trol_session_free(r.session);
    for (size_t i = 0; i < chosen->images.count; i++) {
        trol_features_free(r.features[i]);
        trol_image_free(r.images[i]);
    }
    trol_model_free(r.model);
    free(r.tokens);
    return standard_output_end("trol-inspect", status == TROL_OK ? 0 : 1);
}

static int print_line(void *user, const char *text) {
    (void)user;
    return !standard_output_line(text);
}

static int run_inspect(const options *chosen) {
    trol_error error;
    const trol_status status = trol_inspect(chosen->model, !chosen->no_tensors, print_line, NULL, &error);
    const int exit_status = standard_output_end("trol-inspect", status == TROL_OK ? 0 : 1);
    if (status != TROL_OK && status != TROL_ERROR_CANCELLED) /* cancelled when printing failed, which was reported */
        tool_say("trol-inspect", "%s", error.message);
    return exit_status;
}

/* ---- the command line ----------------------------------------------------------------------------------------------
 */

static int bad_usage(const char *what, const char *more) {
    tool_say("trol-inspect", "%s%s (trol-inspect --help lists the options)", what, more);
    return 2;
}

/* Checks the combination of options. The exit status, or -1 to continue. */
static int check_options(const options *chosen) {
    if (!chosen->model)
        return fputs(usage, stderr), 2;
    if (!chosen->stage)
        return chosen->prompt || chosen->tokens || chosen->images.count
                   ? bad_usage("pictures and prompts need --dump STAGE", "")
                   : -1;
    if (is_image_stage(chosen->stage))
        return chosen->images.count ? -1 : bad_usage("--image FILE is missing for the stage ", chosen->stage);
    if (!chosen->prompt == !chosen->tokens)
        return bad_usage("either -p TEXT or --tokens FILE is needed for the stage ", chosen->stage);
    return -1;
}

int main(int argc, char **argv) {
    options chosen = {.layer = -1, .stage_index = -1, .cache_type = TROL_CACHE_F32};
    trol_error error;
    if (!arguments_parse(argc, argv, flags, sizeof flags / sizeof *flags, &chosen, &error))
        return bad_usage(error.message, "");
    if (chosen.help)
        return standard_output_text("trol-inspect", usage);
    if (chosen.version)
        return standard_output_version("trol-inspect");
    chosen.stage = stage_name(chosen.stage_index);
    const int exit_status = check_options(&chosen);
    if (exit_status >= 0)
        return exit_status;
    if (!chosen.stage)
        return run_inspect(&chosen);
    signals_catch(signals_end_at_once);
    return run_dump(&chosen);
}
