#include "cli/batch.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "cli/batch_line.h"
#include "common/fail.h"
#include "common/signals.h"
#include "server/answer_form.h"
#include "server/buffer.h"
#include "base/clock.h"
#include "server/engine.h"

enum { MOST_LINE_BYTES = 256 << 20, WINDOW_A_SESSION = 4, DEFAULT_CONTEXT = 4096 };

/* A line of the input until its answer is written. */
typedef struct entry {
    int64_t line; /* counted from 1 */
    uint64_t fingerprint;
    char *id; /* JSON; NULL: none */
    job *job; /* NULL: *error says why */
    api_error error;
    buffer text, logprobs;
    const char *reason;
    double began;
} entry;

typedef struct batch {
    run *r;
    engine *engine;
    FILE *input, *output;
    const char *output_name;
    char *line; /* [capacity] */
    size_t capacity;
    entry *window; /* [n_window]: a ring, those from first to next - 1 */
    size_t n_window;
    int64_t first, next; /* entries, counted from 0 */
    int64_t n_read;      /* lines read */
    int64_t n_total;     /* lines of the input; 0: unknown */
    uint64_t *done;      /* [n_done]: fingerprints of the lines that the output already answers; 0: none */
    int64_t n_done, n_skipped;
    int64_t n_errors, n_tokens;
    double began, next_progress;
    trol_constraint *form; /* of the last line that asked for one; lines with the same text get clones of it */
    chat_format form_format;
    char *form_text; /* NULL: none */
    bool at_end;
} batch;

static volatile sig_atomic_t stopped;

/* The first signal ends the run after the line that is being written; a second one ends it at once. */
static void stop_batch(int number) {
    if (stopped)
        signals_end_at_once(number);
    stopped = number;
}

/* ---- which lines are done -------------------------------------------------------------------- */

/* FNV-1a: shows whether a line or an option differs from those that an output was made with. */
static uint64_t hash_text(uint64_t hash, const char *text) {
    return fnv_bytes(hash, text ? text : "", text ? strlen(text) + 1 : 1);
}

/* Of a line and all that its answer depends on. */
static uint64_t line_fingerprint(const batch *b, const char *line, size_t n_bytes) {
    const options *o = b->r->chosen;
    const int32_t integers[] = {o->n_predict,    o->traversal,  o->cache_type,     o->weight_type,
                                o->vision_type,  o->compute,    o->sampling.top_k, o->sampling.repeat_last_n,
                                o->context_size, o->exif_rotate};
    const float numbers[] = {o->traversal_skip,
                             o->sampling.temperature,
                             o->sampling.top_p,
                             o->sampling.min_p,
                             o->sampling.repeat_penalty,
                             o->sampling.presence_penalty,
                             o->sampling.frequency_penalty};
    uint64_t hash = hash_text(FNV_START, trol_version());
    hash = hash_text(hash, b->r->model_path);
    hash = hash_text(hash, o->system);
    hash = fnv_bytes(hash, integers, sizeof integers);
    hash = fnv_bytes(hash, numbers, sizeof numbers);
    hash = fnv_bytes(hash, &o->sampling.seed, sizeof o->sampling.seed);
    for (size_t i = 0; i < o->stops.count; i++)
        hash = hash_text(hash, o->stops.items[i]);
    if (b->r->constraint) {
        hash = hash_text(hash, o->json ? "json" : o->grammar ? "grammar" : "json_schema");
        hash = fnv_bytes(hash, b->r->constraint_text, b->r->n_constraint_bytes);
        hash = hash_text(hash, NULL);
    }
    hash = fnv_bytes(hash, line, n_bytes);
    return hash ? hash : 1;
}

static trol_status read_done_line(batch *b, const char *line, size_t n_bytes, const char *path) {
    cJSON *root = cJSON_ParseWithLength(line, n_bytes);
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(root, "line");
    const char *fingerprint = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "input"));
    char *end = NULL;
    const uint64_t value = fingerprint ? strtoull(fingerprint, &end, 16) : 0;
    const bool fine = cJSON_IsNumber(number) && number->valuedouble == (double)(b->n_done + 1) && value && !*end;
    cJSON_Delete(root);
    if (!fine)
        return fail(b->r->error, TROL_ERROR_FORMAT, "%s: line %" PRId64 " is not an answer of --batch to line %" PRId64,
                    path, b->n_done + 1, b->n_done + 1);
    uint64_t *larger = realloc(b->done, (size_t)(b->n_done + 1) * sizeof *larger);
    if (!larger)
        return fail(b->r->error, TROL_ERROR_MEMORY, "there is no memory for the lines of %s", path);
    b->done = larger;
    b->done[b->n_done++] = value;
    return TROL_OK;
}

/* --resume: reads the answers that exist; an incomplete last line is cut off. */
static trol_status read_output(batch *b, const char *path) {
    FILE *file = fopen(path, "r+b");
    if (!file && errno == ENOENT)
        return TROL_OK;
    if (!file)
        return fail(b->r->error, TROL_ERROR_IO, "%s cannot be opened: %s", path, strerror(errno));
    off_t whole = 0;
    ssize_t n;
    trol_status status = TROL_OK;
    while (status == TROL_OK && (n = getline(&b->line, &b->capacity, file)) > 0 && b->line[n - 1] == '\n') {
        status = read_done_line(b, b->line, (size_t)n - 1, path);
        whole += n;
    }
    if (status == TROL_OK && (ferror(file) || ftruncate(fileno(file), whole) != 0))
        status = fail(b->r->error, TROL_ERROR_IO, "%s cannot be read and cut: %s", path, strerror(errno));
    fclose(file);
    return status;
}

/* ---- files ----------------------------------------------------------------------------------- */

static trol_status open_output(batch *b) {
    const char *path = b->r->chosen->output;
    struct stat info;
    b->output_name = path ? path : "standard output";
    if (!path || strcmp(path, "-") == 0) {
        b->output = stdout;
        return TROL_OK;
    }
    const bool exists = stat(path, &info) == 0;
    if (exists && S_ISREG(info.st_mode) && info.st_size > 0 && !b->r->chosen->resume)
        return fail(b->r->error, TROL_ERROR_ARGUMENT, "%s exists already: --resume continues it", path);
    trol_status status = b->r->chosen->resume && (!exists || S_ISREG(info.st_mode)) ? read_output(b, path) : TROL_OK;
    if (status != TROL_OK)
        return status;
    b->output = fopen(path, "ab");
    return b->output ? TROL_OK : fail(b->r->error, TROL_ERROR_IO, "%s cannot be opened: %s", path, strerror(errno));
}

static trol_status open_input(batch *b) {
    const char *path = b->r->chosen->batch;
    struct stat info;
    b->input = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!b->input)
        return fail(b->r->error, TROL_ERROR_IO, "%s cannot be opened: %s", path, strerror(errno));
    if (fstat(fileno(b->input), &info) != 0 || !S_ISREG(info.st_mode))
        return TROL_OK;
    char bytes[1 << 14], last = '\n';
    size_t n;
    const long start = ftell(b->input);
    while ((n = fread(bytes, 1, sizeof bytes, b->input)) > 0) {
        for (size_t i = 0; i < n; i++)
            b->n_total += bytes[i] == '\n';
        last = bytes[n - 1];
    }
    b->n_total += last != '\n';
    if (ferror(b->input) || fseek(b->input, start < 0 ? 0 : start, SEEK_SET) != 0)
        return fail(b->r->error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
    return TROL_OK;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* The constraint of a line. Lines that ask for the same as the one before share its automaton. */
static bool make_constraint(batch *b, const chat_request *request, trol_constraint **constraint, api_error *error) {
    const char *text = request->format_text ? request->format_text : "";
    trol_error cause;
    *constraint = NULL;
    if (request->format == CHAT_FORMAT_TEXT)
        return true;
    if (!b->form || b->form_format != request->format || strcmp(b->form_text, text) != 0) {
        trol_constraint_free(b->form);
        free(b->form_text);
        b->form = NULL;
        b->form_format = request->format;
        b->form_text = strdup(text);
        if (!b->form_text)
            return api_fail_memory(error);
        if (!answer_form_new(b->r->model, request, &b->form, error))
            return false;
    }
    if (!answer_form_fits(b->form, request, error))
        return false;
    return trol_constraint_clone(b->form, constraint, &cause) == TROL_OK ||
           api_fail_library(error, request->format_param, &cause);
}

/* Puts a line into the window and its request to the engine. */
static void ask(batch *b, size_t n_bytes) {
    entry *e = &b->window[b->next % (int64_t)b->n_window];
    chat_request request;
    trol_constraint *constraint;
    *e = (entry){.line = b->n_read, .fingerprint = line_fingerprint(b, b->line, n_bytes), .began = clock_seconds()};
    b->next++;
    if (n_bytes > MOST_LINE_BYTES) {
        api_fail(&e->error, 413, NULL, NULL, "the line has %zu bytes, expected at most %d", n_bytes, MOST_LINE_BYTES);
        return;
    }
    if (!batch_line_read(b->r, b->line, n_bytes, &request, &e->id, &e->error))
        return;
    if (!make_constraint(b, &request, &constraint, &e->error)) {
        chat_request_free(&request);
        return;
    }
    e->job = job_new(&request);
    if (!e->job) {
        trol_constraint_free(constraint);
        api_fail_memory(&e->error);
        return;
    }
    e->job->constraint = constraint;
    if (!engine_submit(b->engine, e->job, &e->error)) {
        job_release(e->job);
        e->job = NULL;
    }
}

static trol_status read_line(batch *b, bool *asked) {
    const ssize_t n = getline(&b->line, &b->capacity, b->input);
    *asked = false;
    if (n < 0) {
        b->at_end = true;
        return ferror(b->input) && !stopped
                   ? fail(b->r->error, TROL_ERROR_IO, "%s cannot be read: %s", b->r->chosen->batch, strerror(errno))
                   : TROL_OK;
    }
    size_t n_bytes = (size_t)n;
    while (n_bytes > 0 && (b->line[n_bytes - 1] == '\n' || b->line[n_bytes - 1] == '\r'))
        b->line[--n_bytes] = '\0';
    b->n_read++;
    if (b->n_read <= b->n_done) {
        if (b->done[b->n_read - 1] != line_fingerprint(b, b->line, n_bytes))
            return fail(b->r->error, TROL_ERROR_ARGUMENT,
                        "line %" PRId64 " of %s was made from another line, another model or with other options: "
                        "--resume needs the same ones",
                        b->n_read, b->output_name);
        b->n_skipped++;
        return TROL_OK;
    }
    ask(b, n_bytes);
    *asked = true;
    return TROL_OK;
}

/* Lines until the window is full. */
static trol_status fill_window(batch *b) {
    trol_status status = TROL_OK;
    while (status == TROL_OK && !b->at_end && !stopped && b->next - b->first < (int64_t)b->n_window) {
        bool asked;
        status = read_line(b, &asked);
    }
    return status;
}

/* ---- answering ------------------------------------------------------------------------------- */

static void put_logprob(buffer *out, const event *e) {
    if (out->n_bytes)
        buffer_text(out, ",");
    buffer_format(out, "{\"token\":%d,\"logprob\":%.9g,\"top\":[", e->logprobs[0].token,
                  (double)e->logprobs[0].logprob);
    for (int32_t i = 1; i <= e->n_top && e->logprobs[i].token >= 0; i++)
        buffer_format(out, "%s{\"token\":%d,\"logprob\":%.9g}", i > 1 ? "," : "", e->logprobs[i].token,
                      (double)e->logprobs[i].logprob);
    buffer_text(out, "]}");
}

/* Takes the entry's events that have come. true: it is complete. */
static bool take_events(entry *e) {
    if (!e->job)
        return true;
    for (event *v; (v = job_take(e->job)); event_free(v)) {
        if (v->text)
            buffer_text(&e->text, v->text);
        if (v->logprobs)
            put_logprob(&e->logprobs, v);
        if (v->kind == EVENT_FINISH)
            e->reason = v->reason;
        if (v->kind == EVENT_ERROR)
            e->error = *v->error;
        if (v->kind == EVENT_ERROR || v->kind == EVENT_DONE) {
            event_free(v);
            return true;
        }
    }
    return false;
}

static void show_progress(batch *b) {
    const double now = clock_seconds(), seconds = now - b->began;
    if (!b->r->progress.enabled || now < b->next_progress)
        return;
    b->next_progress = now + 0.5;
    const int64_t n = b->first, left = b->n_total - b->n_skipped - n;
    fprintf(stderr, "\r\033[K%" PRId64, b->n_skipped + n);
    if (b->n_total > 0)
        fprintf(stderr, " of %" PRId64, b->n_total);
    fprintf(stderr, " lines, %.2f a second, %.1f tokens a second", (double)n / seconds, (double)b->n_tokens / seconds);
    if (b->n_total > 0 && n > 0) {
        const long rest = lround((double)left * seconds / (double)n);
        fprintf(stderr, ", %ld:%02ld:%02ld left", rest / 3600, rest / 60 % 60, rest % 60);
    }
    fflush(stderr);
    b->r->progress.shown = true;
}

/* Until the first entry of the window is complete; false: a signal came. */
static bool wait_for_first(batch *b) {
    entry *e = &b->window[b->first % (int64_t)b->n_window];
    while (!take_events(e)) {
        struct pollfd fd = {e->job->event_fd, POLLIN, 0};
        if (stopped)
            return false;
        poll(&fd, 1, 500);
        show_progress(b);
    }
    return true;
}

static void put_entry(batch *b, const entry *e, buffer *out) {
    buffer_text(out, "{");
    if (e->id)
        buffer_format(out, "\"id\":%s,", e->id);
    buffer_format(out, "\"line\":%" PRId64 ",\"input\":\"%016" PRIx64 "\",", e->line, e->fingerprint);
    if (e->error.status) {
        buffer_text(out, "\"error\":");
        buffer_string(out, e->error.message);
        buffer_text(out, "}\n");
        b->n_errors++;
        return;
    }
    const job_usage *u = &e->job->usage;
    buffer_text(out, "\"answer\":");
    buffer_string(out, e->text.bytes ? e->text.bytes : "");
    buffer_format(out, ",\"stop\":\"%s\"", e->reason ? e->reason : "stop");
    if (e->logprobs.n_bytes) {
        buffer_text(out, ",\"logprobs\":[");
        buffer_put(out, e->logprobs.bytes, e->logprobs.n_bytes);
        buffer_text(out, "]");
    }
    buffer_format(out,
                  ",\"prompt_tokens\":%" PRId64 ",\"reused_tokens\":%" PRId64 ",\"answer_tokens\":%" PRId64
                  ",\"seconds\":{\"queue\":%.3f,\"prompt\":%.3f,\"answer\":%.3f}}\n",
                  u->prompt_tokens, u->cached_tokens, u->completion_tokens, u->queue_seconds, u->prompt_seconds,
                  u->answer_seconds);
    b->n_tokens += u->completion_tokens;
}

static void free_entry(entry *e) {
    job_release(e->job);
    free(e->id);
    buffer_free(&e->text);
    buffer_free(&e->logprobs);
    *e = (entry){0};
}

/* The first entry's line, in one piece. */
static trol_status write_first(batch *b) {
    entry *e = &b->window[b->first % (int64_t)b->n_window];
    buffer out = {0};
    put_entry(b, e, &out);
    trol_status status = TROL_OK;
    if (out.failed || e->text.failed || e->logprobs.failed)
        status = fail(b->r->error, TROL_ERROR_MEMORY, "there is no memory for the answer to line %" PRId64, e->line);
    else if (fwrite(out.bytes, 1, out.n_bytes, b->output) != out.n_bytes || fflush(b->output) != 0)
        status = fail(b->r->error, TROL_ERROR_IO, "%s cannot be written: %s", b->output_name, strerror(errno));
    buffer_free(&out);
    free_entry(e);
    b->first++;
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static trol_status start(batch *b) {
    const options *o = b->r->chosen;
    const engine_params params = {.model = b->r->model,
                                  .threads = b->r->threads,
                                  .n_slots = o->parallel,
                                  .context_size = o->context_size ? o->context_size : DEFAULT_CONTEXT,
                                  .queue_limit = WINDOW_A_SESSION * o->parallel,
                                  .cache_type = (trol_cache_type)o->cache_type,
                                  .image_cache_bytes = (size_t)256 << 20,
                                  .piece_seconds = 2}; /* nobody waits for single tokens: large pieces of prompts */
    b->n_window = (size_t)(WINDOW_A_SESSION * o->parallel);
    b->window = calloc(b->n_window, sizeof *b->window);
    if (!b->window)
        return fail(b->r->error, TROL_ERROR_MEMORY, "there is no memory for %zu lines", b->n_window);
    trol_status status = open_input(b);
    if (status == TROL_OK)
        status = open_output(b);
    if (status == TROL_OK && !engine_new(&params, &b->engine, b->r->error))
        status = b->r->error->status;
    return status;
}

static trol_status answer_all(batch *b) {
    b->began = clock_seconds();
    for (;;) {
        trol_status status = fill_window(b);
        if (status != TROL_OK || stopped || b->first == b->next)
            return status;
        if (!wait_for_first(b))
            return TROL_OK;
        status = write_first(b);
        if (status != TROL_OK)
            return status;
        show_progress(b);
    }
}

trol_status batch_run(run *r) {
    batch b = {.r = r};
    signals_catch(stop_batch);
    trol_status status = start(&b);
    if (status == TROL_OK)
        status = answer_all(&b);
    progress_clear(&r->progress);
    for (int64_t i = b.first; i < b.next; i++) { /* what a signal or an error left */
        entry *e = &b.window[i % (int64_t)b.n_window];
        if (e->job)
            engine_cancel(b.engine, e->job);
        free_entry(e);
    }
    engine_free(b.engine);
    if (status == TROL_OK && !stopped) {
        const double seconds = clock_seconds() - b.began;
        cli_notice(r,
                   "%" PRId64 " lines answered, %" PRId64 " of them with an error, %" PRId64
                   " skipped; %.1f s, %.1f tokens a second",
                   b.first, b.n_errors, b.n_skipped, seconds, seconds > 0 ? (double)b.n_tokens / seconds : 0);
    }
    if (b.output && b.output != stdout && fclose(b.output) != 0 && status == TROL_OK)
        status = fail(r->error, TROL_ERROR_IO, "%s cannot be written: %s", b.output_name, strerror(errno));
    if (b.input && b.input != stdin)
        fclose(b.input);
    trol_constraint_free(b.form);
    free(b.form_text);
    free(b.window);
    free(b.done);
    free(b.line);
    if (status == TROL_OK && stopped) {
        r->stopped_by = (int)stopped;
        return fail(r->error, TROL_ERROR_CANCELLED, "stopped; --resume continues");
    }
    return status;
}
