/* trol-server - the OpenAI API and a page to drop pictures on, for many users of one model. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "common/bundled_model.h"
#include "common/choices.h"
#include "common/fail.h"
#include "common/standard_output.h"
#include "server/server.h"

static const char usage[] =
    "usage: trol-server -m MODEL [OPTIONS]\n"
    "\n"
    "Answers the OpenAI API's chat completions with a TroL vision-language model, and shows a page for it.\n"
    "\n"
    "  -m, --model DIR          checkpoint folder, or a hub name (BK-Lee/TroL-1.8B) in the hub's cache; without it\n"
    "                           $TROL_MODEL, or else the bundled model\n"
    "      --alias NAME         what the model is called in the API (the last part of -m)\n"
    "      --host ADDRESS       to listen on (127.0.0.1: this machine alone)\n"
    "      --port N             (8080; 0: any free one)\n"
    "      --parallel N         answers at once, a session each (4)\n"
    "  -c, --ctx-size N         tokens that prompt and answer may have together (4096, or the model's limit)\n"
    "      --queue N            requests that may wait for a session; more are answered 429 (64)\n"
    "      --piece-ms N         what a piece of a prompt, or a picture, may delay the answers that are being written "
    "(250)\n"
    "\n"
    "who may ask\n"
    "      --api-key KEY        ask for this key; it shows in the list of processes, a file does not\n"
    "      --api-key-file FILE  a key on each line\n"
    "      --cors ORIGIN        let pages of this origin use the API (*: of all)\n"
    "      --allow-host NAME    also answer under this name when listening on a loopback address; may be repeated\n"
    "\n"
    "limits\n"
    "      --max-body MIB       of a request (20)\n"
    "      --max-connections N  (256)\n"
    "      --timeout SECONDS    for a request to arrive, and for a client to take its answer (60)\n"
    "      --image-cache MIB    of encoded pictures that are kept (256)\n"
    "      --cache-dir DIR      encoded pictures that are kept on disk, 4 GiB at most\n"
    "      --drain SECONDS      for what runs, after SIGTERM or ^C (30); a second signal ends at once\n"
    "\n"
    "how it is computed\n"
    "  -t, --threads N          (one per core)\n"
    "      --cache-type TYPE    of keys and values: f16 (default), q8 (half the memory) or f32\n"
    "      --type TYPE          of the weights: as-stored (default), f32, f16, bf16, q8 or q4\n"
    "      --vision-type TYPE   the same for the picture encoder\n"
    "      --compute KIND       exact (default), or bf16 where the CPU has it\n"
    "\n"
    "  -q, --quiet              no line for each request\n"
    "  -v, --verbose            the library's log, and libmicrohttpd's\n"
    "      --version, -h, --help\n"
    "\n"
    "Prints its address on standard output once it listens. GET /health answers 200 once the model is there.\n";

#define AT(member) offsetof(server_options, member)

static const argument_flag flags[] = {
    {"--model", "-m", ARGUMENT_TEXT, AT(model), 1, 0, {0}},
    {"--alias", NULL, ARGUMENT_TEXT, AT(alias), 1, 0, {0}},
    {"--host", NULL, ARGUMENT_TEXT, AT(host), 1, 0, {0}},
    {"--port", NULL, ARGUMENT_INTEGER, AT(port), 0, 65535, {0}},
    {"--parallel", NULL, ARGUMENT_INTEGER, AT(n_slots), 1, 256, {0}},
    {"--ctx-size", "-c", ARGUMENT_INTEGER, AT(context_size), 16, 1000000000, {0}},
    {"--queue", NULL, ARGUMENT_INTEGER, AT(queue_limit), 0, 100000, {0}},
    {"--piece-ms", NULL, ARGUMENT_INTEGER, AT(piece_ms), 1, 100000, {0}},
    {"--api-key", NULL, ARGUMENT_TEXT, AT(api_key), 1, 0, {0}},
    {"--api-key-file", NULL, ARGUMENT_TEXT, AT(api_key_file), 1, 0, {0}},
    {"--cors", NULL, ARGUMENT_TEXT, AT(cors), 1, 0, {0}},
    {"--allow-host", NULL, ARGUMENT_TEXTS, AT(allowed_hosts), 1, 0, {0}},
    {"--max-body", NULL, ARGUMENT_INTEGER, AT(max_body_mib), 1, 1024, {0}},
    {"--max-connections", NULL, ARGUMENT_INTEGER, AT(max_connections), 1, 100000, {0}},
    {"--timeout", NULL, ARGUMENT_INTEGER, AT(idle_seconds), 1, 86400, {0}},
    {"--image-cache", NULL, ARGUMENT_INTEGER, AT(image_cache_mib), 0, 1000000, {0}},
    {"--cache-dir", NULL, ARGUMENT_TEXT, AT(cache_dir), 1, 0, {0}},
    {"--drain", NULL, ARGUMENT_INTEGER, AT(drain_seconds), 0, 86400, {0}},
    {"--threads", "-t", ARGUMENT_INTEGER, AT(n_threads), 1, 256, {0}},
    {"--cache-type", NULL, ARGUMENT_CHOICE, AT(cache_type), 0, 0, {CACHE_TYPES}},
    {"--type", NULL, ARGUMENT_CHOICE, AT(weight_type), 0, 0, {WEIGHT_TYPES}},
    {"--vision-type", NULL, ARGUMENT_CHOICE, AT(vision_type), 0, 0, {WEIGHT_TYPES}},
    {"--compute", NULL, ARGUMENT_CHOICE, AT(compute), 0, 0, {COMPUTE_KINDS}},
    {"--quiet", "-q", ARGUMENT_SWITCH, AT(quiet), 0, 0, {0}},
    {"--verbose", "-v", ARGUMENT_SWITCH, AT(verbose), 0, 0, {0}},
    {"--version", NULL, ARGUMENT_SWITCH, AT(version), 0, 0, {0}},
    {"--help", "-h", ARGUMENT_SWITCH, AT(help), 0, 0, {0}},
};

static const char tool[] = "trol-server";

/* ---- signals --------------------------------------------------------------------------------- */

/* Signals are blocked in all threads and waited for in the main one. */
static sigset_t ending_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

/* The number of a signal that comes within the time, or 0. */
static int wait_for_signal(double seconds) {
    const sigset_t set = ending_signals();
    const struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    const int number = sigtimedwait(&set, NULL, &time);
    return number > 0 ? number : 0;
}

/* ---- the model ------------------------------------------------------------------------------- */

static void print_log(void *user, trol_log_level level, const char *message) {
    const server *s = user;
    if (s->options.verbose || (level == TROL_LOG_WARNING && !s->options.quiet))
        tool_say(tool, "%s", message);
}

static int stop_loading(void *user, trol_stage stage, int64_t done, int64_t total) {
    server *s = user;
    (void)stage;
    (void)done;
    (void)total;
    if (wait_for_signal(0))
        atomic_store(&s->stop, true);
    return atomic_load(&s->stop);
}

static bool load_model(server *s, const char *path, trol_error *error) {
    const server_options *o = &s->options;
    trol_model_params params;
    trol_model_params_init(&params);
    params.threads = s->threads;
    params.weight_type = (trol_weight_type)o->weight_type;
    params.vision_type = (trol_weight_type)o->vision_type;
    params.compute = (trol_compute)o->compute;
    params.log = print_log;
    params.log_user = s;
    params.progress = stop_loading;
    params.progress_user = s;
    trol_cache *cache = NULL;
    trol_cache_params kept;
    trol_cache_params_init(&kept);
    kept.memory_bytes = 0; /* in memory they are kept by their files' bytes (image_store.h) */
    kept.folder = o->cache_dir;
    if (o->cache_dir && trol_cache_new(&kept, &cache, error) != TROL_OK)
        return false;
    params.cache = cache;
    s->info.size = sizeof s->info;
    const trol_status status = trol_model_load(path, &params, &s->model, error);
    trol_cache_free(cache); /* the model keeps it */
    if (status != TROL_OK || trol_model_get_info(s->model, &s->info, error) != TROL_OK)
        return false;
    if (s->info.has_tokenizer)
        return true;
    fail_sentence(error, TROL_ERROR_UNSUPPORTED, "%s has no tokenizer.model, which a server needs", path);
    return false;
}

static void print_memory(const server *s) {
    const double mib = 1.0 / (1 << 20);
    const engine_memory *m = &s->memory;
    const int64_t bodies = (int64_t)s->options.max_body_mib * 16 << 20;
    if (s->options.quiet)
        return;
    tool_say(
        tool,
        "memory at most: weights %.0f MiB, %d sessions of %d tokens %.0f MiB, pictures %.0f MiB, requests %.0f MiB, "
        "scratch about %.0f MiB: %.0f MiB in all",
        (double)s->info.weight_bytes * mib, s->options.n_slots, s->options.context_size, (double)m->sessions * mib,
        (double)m->images * mib, (double)bodies * mib, (double)m->scratch * mib,
        (double)(s->info.weight_bytes + m->sessions + m->images + bodies + m->scratch) * mib);
}

static bool start_engine(server *s, trol_error *error) {
    server_options *o = &s->options;
    const int32_t least = 4096; /* as in the library */
    if (o->context_size == 0)
        o->context_size = s->info.max_positions > least ? s->info.max_positions : least;
    const engine_params params = {.model = s->model,
                                  .threads = s->threads,
                                  .n_slots = o->n_slots,
                                  .context_size = o->context_size,
                                  .queue_limit = o->queue_limit,
                                  .cache_type = (trol_cache_type)o->cache_type,
                                  .image_cache_bytes = (size_t)o->image_cache_mib << 20,
                                  .piece_seconds = 1e-3 * o->piece_ms};
    s->memory = engine_compute_memory(&s->info, &params);
    print_memory(s);
    return engine_new(&params, &s->engine, error);
}

/* ---- options --------------------------------------------------------------------------------- */

static bool add_key(server *s, const char *key, trol_error *error) {
    const size_t most = 255;
    if (strlen(key) == 0 || strlen(key) > most) {
        fail_sentence(error, TROL_ERROR_ARGUMENT, "a key has %zu bytes, expected 1 to %zu", strlen(key), most);
        return false;
    }
    char **keys = realloc(s->keys, (s->n_keys + 1) * sizeof *keys);
    char *copy = strdup(key);
    if (keys)
        s->keys = keys;
    if (!keys || !copy) {
        free(copy);
        fail_sentence(error, TROL_ERROR_MEMORY, "there is no memory for the keys");
        return false;
    }
    s->keys[s->n_keys++] = copy;
    return true;
}

static bool read_keys(server *s, trol_error *error) {
    const char *path = s->options.api_key_file;
    char line[1024];
    if (s->options.api_key && !add_key(s, s->options.api_key, error))
        return false;
    if (!path)
        return true;
    FILE *file = fopen(path, "r");
    if (!file) {
        fail_sentence(error, TROL_ERROR_IO, "%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    bool fine = true;
    while (fine && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = '\0';
        fine = line[0] == '\0' || add_key(s, line, error);
    }
    fclose(file);
    if (fine && s->n_keys == 0) {
        fail_sentence(error, TROL_ERROR_ARGUMENT, "%s holds no key", path);
        return false;
    }
    return fine;
}

/* The last part of a folder's name or a hub name. */
static void name_model(server *s, const char *path) {
    size_t end = strlen(path), begin;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/'; begin--) {
    }
    snprintf(s->model_id, sizeof s->model_id, "%.*s", (int)(end - begin), path + begin);
    if (s->options.alias)
        snprintf(s->model_id, sizeof s->model_id, "%s", s->options.alias);
}

static void print_address(const server *s) {
    const bool six = strchr(s->options.host, ':') != NULL;
    char line[512];
    snprintf(line, sizeof line, "http://%s%s%s:%d/", six ? "[" : "", s->options.host, six ? "]" : "", s->port);
    standard_output_line(line);
    fflush(stdout);
    if (!s->loopback && s->n_keys == 0 && !s->options.quiet)
        tool_say(tool, "this address can be reached from other machines, and no key is asked for (--api-key-file)");
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Waits until no request is open, and a moment longer for idle connections. false: that took longer than `seconds`, or
 * a signal came. */
static bool wait_for_requests(server *s, double seconds) {
    const double start = clock_seconds(), moment = 1;
    while (clock_seconds() < start + seconds) {
        const bool open = engine_count_open(s->engine) > 0;
        if (atomic_load(&s->n_connections) == 0 || (!open && clock_seconds() > start + moment))
            return true;
        if (wait_for_signal(0.05))
            return false;
    }
    return engine_count_open(s->engine) == 0;
}

/* Lets running requests finish, unless that takes too long or a second signal comes: then their clients get an error.
 */
static void drain(server *s) {
    const double farewell = 2;
    atomic_store(&s->state, SERVER_DRAINING);
    engine_drain(s->engine);
    http_quiesce(s);
    if (wait_for_requests(s, s->options.drain_seconds))
        return;
    engine_end(s->engine);
    (void)wait_for_requests(s, farewell);
}

static int run(server *s, const char *path, trol_error *error) {
    if (trol_threads_new(s->options.n_threads, &s->threads, error) != TROL_OK || !read_keys(s, error) ||
        !http_start(s, error))
        return 1;
    print_address(s);
    if (!load_model(s, path, error) || !start_engine(s, error))
        return atomic_load(&s->stop) ? 0 : 1;
    atomic_store(&s->state, SERVER_READY);
    if (!s->options.quiet)
        tool_say(tool, "%s is ready after %.2f s", s->model_id, clock_seconds() - s->started);
    while (!wait_for_signal(3600)) {
    }
    drain(s);
    return 0;
}

static void clean_up(server *s) {
    http_stop(s);
    engine_free(s->engine);
    trol_model_free(s->model);
    trol_threads_free(s->threads);
    for (size_t i = 0; i < s->n_keys; i++)
        free(s->keys[i]);
    free(s->keys);
    sem_destroy(&s->parsing);
}

int main(int argc, char **argv) {
    server s = {.options = {.host = "127.0.0.1",
                            .port = 8080,
                            .n_slots = 4,
                            .queue_limit = 64,
                            .piece_ms = 250,
                            .max_body_mib = 20,
                            .max_connections = 256,
                            .idle_seconds = 60,
                            .image_cache_mib = 256,
                            .drain_seconds = 30}};
    const sigset_t set = ending_signals();
    trol_error error = {0};
    char path[4096];
    s.started = clock_seconds();
    if (!arguments_parse(argc, argv, flags, sizeof flags / sizeof *flags, &s.options, &error)) {
        tool_say(tool, "%s", error.message);
        return 2;
    }
    if (s.options.help)
        return standard_output_text(tool, usage);
    if (s.options.version)
        return standard_output_version(tool);
    if (s.options.model)
        snprintf(path, sizeof path, "%s", s.options.model);
    else if (!bundled_model_find(path, sizeof path)) {
        tool_say(tool, "no model is named (-m MODEL), and the bundled one is not found");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sem_init(&s.parsing, 0, 2);
    name_model(&s, path);
    const int status = run(&s, path, &error);
    if (status != 0)
        tool_say(tool, "%s", error.message);
    clean_up(&s);
    return standard_output_end(tool, status);
}
