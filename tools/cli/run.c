/* run.c - what trol-cli's questions, chats and batches share: notices and answers, pictures, the model, a session, a
 * sampler, the table of --stats. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "common/bundled_model.h"
#include "common/fail.h"
#include "common/input_file.h"
#include "common/memory_usage.h"
#include "common/terminal.h"

/* ---- what is shown --------------------------------------------------------------------------- */

int cli_show_progress(void *user, trol_stage stage, int64_t done, int64_t total) {
    run *r = user;
    progress_show(&r->progress, stage, done, total);
    return 0;
}

void cli_notice(run *r, const char *format, ...) {
    if (r->chosen->quiet)
        return;
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    progress_clear(&r->progress);
    tool_say("trol-cli", "%s", text);
}

static void show_log(void *user, trol_log_level level, const char *message) {
    run *r = user;
    if (r->chosen->verbose || level == TROL_LOG_WARNING)
        cli_notice(r, "%s", message);
}

/* The callbacks below return non-zero, and keep the reason, if something cannot be written. */
int cli_write_answer(void *user, const char *text) {
    run *r = user;
    progress_clear(&r->progress);
    r->wrote = true;
    if (!terminal_write(text))
        return fail(&r->inner_error, TROL_ERROR_IO, "the answer cannot be written: %s", strerror(errno)) != TROL_OK;
    return 0;
}

static int keep_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    run *r = user;
    (void)position;
    (void)vocab_size;
    r->n_generated++;
    return r->logits && npy_append(r->logits, logits, 1, &r->inner_error) != TROL_OK;
}

static int keep_logprobs(void *user, const trol_token_info *info) {
    run *r = user;
    return logprobs_file_append(r->logprobs, info, &r->inner_error) != TROL_OK;
}

static int keep_prefill_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    run *r = user;
    (void)position;
    (void)vocab_size;
    return npy_append(r->prefill_logits, logits, 1, &r->inner_error) != TROL_OK;
}

/* ---- pictures -------------------------------------------------------------------------------- */

/* Warnings of an image's decoder, which names the file if there is one. */
static void show_image_log(void *user, trol_log_level level, const char *message) {
    if (level == TROL_LOG_WARNING)
        cli_notice(user, "%s", message);
}

static void show_standard_input_log(void *user, trol_log_level level, const char *message) {
    if (level == TROL_LOG_WARNING)
        cli_notice(user, "standard input: %s", message);
}

static void image_params(run *r, bool standard_input, trol_image_params *params) {
    trol_image_params_init(params);
    params->log = standard_input ? show_standard_input_log : show_image_log;
    params->log_user = r;
}

/* The image, turned as the options ask. */
static trol_status turn_image(run *r, const char *name, trol_image **image) {
    int32_t orientation = trol_image_orientation(*image);
    if (orientation == 1)
        return TROL_OK;
    if (!r->chosen->exif_rotate) {
        cli_notice(r, "%s is not stored upright (EXIF orientation %d) and is taken as stored; --exif-rotate turns it",
                   name, orientation);
        return TROL_OK;
    }
    trol_image *upright;
    trol_status status = trol_image_upright(*image, &upright, r->error);
    if (status == TROL_OK) {
        trol_image_free(*image);
        *image = upright;
    }
    return status;
}

trol_status cli_decode_image(run *r, const char *name, const char *bytes, size_t n_bytes, trol_image **image) {
    trol_image_params params;
    trol_error inner;
    image_params(r, strcmp(name, "standard input") == 0, &params);
    trol_status status = trol_image_load_memory(bytes, n_bytes, &params, image, &inner);
    return status == TROL_OK ? turn_image(r, name, image) : fail(r->error, status, "%s: %s", name, inner.message);
}

static trol_status read_image(run *r, const char *path, trol_image **image) {
    trol_image_params params;
    image_params(r, is_stdin(path), &params);
    if (!is_stdin(path)) {
        trol_status status = trol_image_load_file(path, &params, image, r->error);
        return status == TROL_OK ? turn_image(r, path, image) : status;
    }
    char *bytes;
    size_t n;
    trol_status status = input_file_read(path, (size_t)params.max_bytes, &bytes, &n, r->error);
    if (status != TROL_OK)
        return status;
    status = cli_decode_image(r, "standard input", bytes, n, image);
    free(bytes);
    return status;
}

trol_status cli_read_images(run *r) {
    const argument_texts *paths = &r->chosen->images;
    trol_status status = TROL_OK;
    for (size_t i = 0; i < paths->count && status == TROL_OK; i++)
        status = read_image(r, paths->items[i], &r->images[i]);
    return status;
}

/* ---- the model and a session ----------------------------------------------------------------- */

trol_status cli_load_model(run *r) {
    const options *o = r->chosen;
    if (o->model)
        snprintf(r->model_path, sizeof r->model_path, "%s", o->model);
    else if (bundled_model_find(r->model_path, sizeof r->model_path))
        cli_notice(r, "no -m: using %s", r->model_path);
    else
        return fail(r->error, TROL_ERROR_ARGUMENT, "no -m, no $TROL_MODEL, and no bundled model is installed");
    trol_model_params params;
    trol_model_params_init(&params);
    params.threads = r->threads;
    params.n_threads = o->n_threads;
    params.weight_type = (trol_weight_type)o->weight_type;
    params.vision_type = (trol_weight_type)o->vision_type;
    params.compute = (trol_compute)o->compute;
    params.plain_backbone = o->traversal == TROL_TRAVERSAL_OFF;
    params.log = show_log;
    params.progress = cli_show_progress;
    params.log_user = params.progress_user = r;
    trol_cache_params cache;
    trol_cache_params_init(&cache);
    cache.folder = o->cache_dir;
    trol_status status = trol_cache_new(&cache, &r->cache, r->error);
    if (status != TROL_OK)
        return status;
    params.cache = r->cache;
    double start = clock_seconds();
    status = trol_model_load(r->model_path, &params, &r->model, r->error);
    r->load_seconds = clock_seconds() - start;
    r->info.size = sizeof r->info;
    return status == TROL_OK ? trol_model_get_info(r->model, &r->info, r->error) : status;
}

trol_status cli_start_session(run *r) {
    const options *o = r->chosen;
    trol_session_params params;
    trol_session_params_init(&params);
    params.context_size = o->context_size;
    params.traversal = (trol_traversal)o->traversal;
    params.cache_type = (trol_cache_type)o->cache_type;
    params.traversal_skip = o->traversal_skip;
    params.keep_pass2 = o->chat || o->session; /* the next turn, or run, reuses what this one computed */
    params.progress = cli_show_progress;
    params.progress_user = r;
    trol_status status = TROL_OK;
    if (!o->session || access(o->session, F_OK) != 0 ||
        trol_session_load(r->model, o->session, &params, &r->session, NULL, r->error) != TROL_OK) {
        if (r->error->message[0])
            cli_notice(r, "%s; it will be replaced", r->error->message);
        status = trol_session_new(r->model, &params, &r->session, r->error);
    }
    if (status != TROL_OK)
        return status;
    const int64_t columns = r->info.vocab_size;
    if (o->logits)
        status = npy_open(o->logits, &columns, 1, &r->logits, r->error);
    if (o->logprobs && status == TROL_OK)
        status = logprobs_file_open(o->logprobs, r->model, r->info.has_tokenizer != 0, &r->logprobs, r->error);
    if (o->prefill_logits && status == TROL_OK) {
        status = npy_open(o->prefill_logits, &columns, 1, &r->prefill_logits, r->error);
        trol_session_set_logits_callback(r->session, keep_prefill_logits, r);
    }
    return status;
}

trol_status cli_make_sampler(run *r) {
    const options *o = r->chosen;
    trol_sampler_params sampling = o->sampling;
    sampling.bias = r->logit_bias;
    sampling.n_bias = o->logit_bias.count;
    return trol_sampler_new(&sampling, &r->sampler, r->error);
}

void cli_generate_params(run *r, trol_generate_params *params) {
    const options *o = r->chosen;
    trol_generate_params_init(params);
    params->max_tokens = o->n_predict;
    params->ignore_eos = o->ignore_eos;
    params->sampler = r->sampler;
    params->lookup = o->lookup;
    params->constraint = r->constraint;
    if (r->constraint)
        (void)!trol_constraint_reset(r->constraint, NULL); /* fails only for custom ones */
    params->logits = keep_logits;
    params->token = r->logprobs ? keep_logprobs : NULL;
    params->n_top_logprobs = o->n_top_logprobs;
    params->stops = o->stops.items;
    params->n_stops = o->stops.count;
    params->show_all = 1;
    params->logits_user = params->token_user = r;
}

/* ---- --stats --------------------------------------------------------------------------------- */

static void print_speed(const char *what, int64_t tokens, double seconds) {
    if (tokens > 0)
        fprintf(stderr, "%-10s %8" PRId64 " %9.2f %9.1f\n", what, tokens, seconds,
                seconds > 0 ? (double)tokens / seconds : 0);
}

void cli_print_stats(const run *r) {
    trol_session_stats s = {.size = sizeof s};
    trol_session_get_stats(r->session, &s);
    memory_usage memory = memory_usage_read();
    fprintf(stderr, "%s, %.1f million parameters, weights %s, cpu %s, compute %s\n", r->info.family,
            1e-6 * (double)r->info.n_parameters, r->info.weight_type, r->info.cpu_level, r->info.compute);
    fprintf(stderr, "%-10s %8s %9s %9s\n", "", "tokens", "seconds", "tokens/s");
    fprintf(stderr, "%-10s %8s %9.2f\n", "load", "", r->load_seconds);
    print_speed("pictures", s.image_tokens, s.image_seconds + r->image_seconds);
    print_speed("prompt", s.prompt_tokens, s.prompt_seconds);
    if (s.reused_tokens > 0)
        fprintf(stderr, "%-10s %8" PRId64 "\n", "reused", s.reused_tokens);
    print_speed("answer", s.decoded_tokens, s.decode_seconds);
    trol_cache_stats cache = {.size = sizeof cache};
    trol_cache_get_stats(r->cache, &cache);
    const int64_t found = cache.from_memory + cache.from_folder;
    if (cache.encoded + found > 0)
        fprintf(stderr, "%" PRId64 " picture%s encoded, %" PRId64 " from the cache\n", cache.encoded,
                cache.encoded == 1 ? "" : "s", found);
    fprintf(stderr, "generated %" PRId64 " tokens", r->n_generated);
    if (s.proposed_tokens > 0)
        fprintf(stderr, ", %" PRId64 " of %" PRId64 " looked-up tokens accepted", s.accepted_tokens, s.proposed_tokens);
    if (s.skipped_tokens > 0) {
        fprintf(stderr, "\n%" PRId64 " second passes skipped; by layer:", s.skipped_tokens);
        for (int32_t layer = 0; layer < r->info.n_layers; layer++)
            fprintf(stderr, " %" PRId64, trol_session_skipped_in_layer(r->session, layer));
    }
    fprintf(
        stderr,
        "\nmemory: keys and values %.1f MB, scratch at most %.1f MB, private %.1f MB, peak with mapped files %.1f MB\n",
        1e-6 * (double)s.cache_bytes, 1e-6 * (double)s.workspace_bytes, 1e-6 * (double)memory.private_now,
        1e-6 * (double)memory.peak_resident);
}
