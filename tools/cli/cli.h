/* cli.h - what the parts of trol-cli share: the options, and one run of the program. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/arguments.h"
#include "common/logprobs_file.h"
#include "common/npy.h"
#include "common/progress.h"
#include "trol.h"

typedef struct options {
    const char *batch, *output, *model, *prompt, *prompt_file, *system, *tokens, *logits, *prefill_logits, *logprobs;
    const char *json_schema, *grammar, *n_best, *cache_dir, *session;
    argument_texts images, stops, logit_bias;
    int32_t n_predict, n_threads, context_size, traversal, cache_type, weight_type, vision_type, compute, lookup,
        n_top_logprobs, n_beams, parallel;
    float traversal_skip, length_penalty;
    trol_sampler_params sampling; /* except for the bias, which is in logit_bias */
    bool json, chat, context_shift, resume, raw, ignore_eos, exif_rotate, stats, quiet, verbose, version, help;
} options;

typedef struct run {
    const options *chosen;
    char model_path[4096];
    trol_image *images[ARGUMENT_MAX_TEXTS];
    trol_features *features[ARGUMENT_MAX_TEXTS]; /* --tokens and --raw */
    char *prompt;                                /* NULL: --tokens */
    int32_t *tokens;                             /* --tokens */
    int32_t *rendered;                           /* --raw; free with trol_free */
    size_t n_tokens;
    trol_threads *threads; /* --batch */
    trol_cache *cache;
    trol_model *model;
    trol_model_info info;
    trol_session *session;
    trol_sampler *sampler;
    trol_constraint *constraint; /* NULL: none */
    char *constraint_text;       /* [n_constraint_bytes]: of --json-schema or --grammar */
    size_t n_constraint_bytes;
    npy_file *logits, *prefill_logits;
    logprobs_file *logprobs;
    trol_logit_bias logit_bias[ARGUMENT_MAX_TEXTS];
    progress_line progress;
    int64_t n_generated;
    double load_seconds, image_seconds;
    int stopped_by;         /* the signal that ended a batch; 0: none */
    bool wrote;             /* a part of the answer */
    trol_error inner_error; /* of a callback that stopped the library */
    trol_error *error;
} run;

static inline bool is_stdin(const char *text) { return text && strcmp(text, "-") == 0; }

/* A sentence on standard error, but not with --quiet. */
void cli_notice(run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Callbacks of the library; user: the run. */
int cli_show_progress(void *user, trol_stage stage, int64_t done, int64_t total);
int cli_write_answer(void *user, const char *text);
/* A picture in memory, turned upright where --exif-rotate asks for it; `name` is for notices and errors. */
trol_status cli_decode_image(run *r, const char *name, const char *bytes, size_t n_bytes, trol_image **image);
/* Into r->images and r->model. */
trol_status cli_read_images(run *r);
trol_status cli_load_model(run *r);
/* Into r->session and r->sampler. */
trol_status cli_start_session(run *r);
trol_status cli_make_sampler(run *r);
/* The rules of --n-predict, --stop and so on for one answer. */
void cli_generate_params(run *r, trol_generate_params *params);
void cli_print_stats(const run *r);

#endif
