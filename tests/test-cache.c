/* test-cache.c - trol_cache: a hit gives what would have been computed, from memory and from a folder, with several
 * threads and processes at once, within its limits, whatever happens to the folder's files. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "changed_checkpoint.h"
#include "engine/cache.h"
#include "engine/identity.h"
#include "session_cases.h"

enum { N_IMAGES = 6 };

static trol_image *all_images[N_IMAGES];
static float *expected[N_IMAGES]; /* their embeddings, without a cache */
static size_t row_bytes;          /* of one image's embeddings */
static char folder[600], reference_folder[1024];
static atomic_int n_warnings;

static void count_warning(void *user, trol_log_level level, const char *message) {
    (void)user;
    if (level == TROL_LOG_WARNING && strstr(message, "kept in memory alone"))
        atomic_fetch_add(&n_warnings, 1);
}

static trol_cache *new_cache(int64_t memory_bytes, const char *path, int64_t folder_bytes) {
    trol_error error = {0};
    trol_cache *cache = NULL;
    trol_cache_params params;
    trol_cache_params_init(&params);
    params.memory_bytes = memory_bytes;
    params.folder = path;
    params.folder_bytes = folder_bytes;
    CHECK_OK(trol_cache_new(&params, &cache, &error), error);
    return cache;
}

static trol_model *open_model(const char *path, trol_cache *cache, trol_weight_type vision_type) {
    trol_error error = {0};
    trol_model *model = NULL;
    trol_model_params params;
    trol_model_params_init(&params);
    params.n_threads = 2;
    params.cache = cache;
    params.vision_type = vision_type;
    params.log = count_warning;
    if (trol_model_load(path, &params, &model, &error) != TROL_OK) {
        printf("%s\n", error.message);
        exit(1);
    }
    return model;
}

static trol_cache_stats stats_of_cache(trol_cache *cache) {
    trol_cache_stats stats = {.size = sizeof stats};
    trol_cache_get_stats(cache, &stats);
    return stats;
}

static void check_counts(trol_cache *cache, const char *what, int64_t encoded, int64_t memory, int64_t from_folder) {
    const trol_cache_stats s = stats_of_cache(cache);
    CHECK(s.encoded == encoded && s.from_memory == memory && s.from_folder == from_folder,
          "%s: %lld encoded, %lld from memory, %lld from the folder, expected %lld, %lld, %lld", what,
          (long long)s.encoded, (long long)s.from_memory, (long long)s.from_folder, (long long)encoded,
          (long long)memory, (long long)from_folder);
}

static bool is_right(const trol_features *features, int which) {
    return features && memcmp(trol_features_data(features), expected[which], row_bytes) == 0;
}

static void ask(trol_model *model, const char *what, int which) {
    trol_error error = {0};
    trol_features *features = NULL;
    CHECK_OK(trol_encode_image(model, all_images[which], &features, &error), error);
    CHECK(is_right(features, which), "%s: picture %d has other embeddings", what, which);
    trol_features_free(features);
}

/* The pictures' files in the folder, their bytes, and whether others are there. */
static int count_files(int64_t *n_bytes, int *n_others) {
    DIR *stream = opendir(folder);
    int n = 0;
    *n_bytes = *n_others = 0;
    for (struct dirent *item; stream && (item = readdir(stream));) {
        struct stat info;
        if (item->d_name[0] == '.')
            continue;
        const size_t length = strlen(item->d_name);
        if (length == 72 && strcmp(item->d_name + 64, ".trolpic") == 0 &&
            fstatat(dirfd(stream), item->d_name, &info, 0) == 0) {
            n++;
            *n_bytes += info.st_size;
        } else {
            ++*n_others;
        }
    }
    if (stream)
        closedir(stream);
    return n;
}

static void file_of(trol_model *model, int which, char path[700]) {
    unsigned char identity[IDENTITY_BYTES];
    trol_error error = {0};
    CHECK_OK(identity_of_image(model, all_images[which], identity, &error), error);
    int n = snprintf(path, 700, "%s/", folder);
    for (int i = 0; i < IDENTITY_BYTES; i++)
        n += snprintf(path + n, (size_t)(700 - n), "%02x", identity[i]);
    snprintf(path + n, (size_t)(700 - n), ".trolpic");
}

static void empty_folder(void) {
    DIR *stream = opendir(folder);
    for (struct dirent *item; stream && (item = readdir(stream));)
        if (item->d_name[0] != '.')
            unlinkat(dirfd(stream), item->d_name, 0);
    if (stream)
        closedir(stream);
    rmdir(folder);
}

/* ---- in memory ------------------------------------------------------------------------------- */

static void check_memory(void) {
    trol_error error = {0};
    const int64_t entry = (int64_t)row_bytes + 256;
    trol_cache *cache = new_cache(2 * entry, NULL, 0);
    trol_model *model = open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED);
    trol_cache_free(cache); /* the model keeps it */
    ask(model, "new", 0);
    ask(model, "again", 0);
    check_counts(cache, "one picture twice", 1, 1, 0);
    ask(model, "new", 1);
    ask(model, "again", 0);
    ask(model, "new", 2); /* there is room for two: 1 goes, which was used before 0 */
    check_counts(cache, "three pictures", 3, 2, 0);
    ask(model, "still there", 0);
    check_counts(cache, "the one that was used", 3, 3, 0);
    ask(model, "gone", 1);
    check_counts(cache, "the one that was not", 4, 3, 0);
    CHECK(stats_of_cache(cache).memory_bytes <= 2 * entry && stats_of_cache(cache).memory_images == 2,
          "%lld bytes, %lld pictures", (long long)stats_of_cache(cache).memory_bytes,
          (long long)stats_of_cache(cache).memory_images);
    /* Several in one call: some in the cache, some twice, more than are encoded together. */
    const int order[] = {1, 3, 3, 0, 4, 5, 4, 2, 1, 0, 5, 3};
    enum { N = sizeof order / sizeof *order };
    const trol_image *images[N];
    trol_features *features[N];
    for (int i = 0; i < N; i++)
        images[i] = all_images[order[i]];
    CHECK_OK(trol_encode_images(model, images, N, NULL, NULL, features, &error), error);
    for (int i = 0; i < N; i++) {
        CHECK(features[i] && memcmp(trol_features_data(features[i]), expected[order[i]], row_bytes) == 0,
              "picture %d of a call", i);
        trol_features_free(features[i]);
    }
    CHECK(stats_of_cache(cache).encoded == 4 + 4, "%lld encoded, expected 4 more than 4",
          (long long)stats_of_cache(cache).encoded);
    trol_model_free(model);
    /* A limit of 0 bytes: nothing is kept, and everything works. */
    cache = new_cache(0, NULL, 0);
    model = open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED);
    ask(model, "no memory", 0);
    ask(model, "no memory", 0);
    check_counts(cache, "no memory", 2, 0, 0);
    trol_model_free(model);
    trol_cache_free(cache);
    trol_cache *none = (trol_cache *)&error;
    trol_cache_params params;
    trol_cache_params_init(&params);
    params.memory_bytes = -1;
    CHECK(trol_cache_new(&params, &none, &error) == TROL_ERROR_ARGUMENT && !none, "%s", error.message);
    trol_cache_params_init(&params);
    params.folder = "";
    CHECK(trol_cache_new(&params, &none, &error) == TROL_ERROR_ARGUMENT && !none, "%s", error.message);
    trol_cache_free(NULL);
    trol_cache_get_stats(NULL, NULL);
}

/* ---- in a folder ----------------------------------------------------------------------------- */

static void check_folder(void) {
    int64_t n_bytes;
    int n_others;
    for (int again = 0; again < 2; again++) {
        trol_cache *cache = new_cache(1 << 20, folder, 1 << 24);
        trol_model *model = open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED);
        ask(model, "folder", 0);
        ask(model, "folder", 1);
        ask(model, "folder", 0);
        check_counts(cache, "folder", again ? 0 : 2, 1, again ? 2 : 0);
        trol_model_free(model);
        trol_cache_free(cache);
        CHECK(count_files(&n_bytes, &n_others) == 2 && n_others == 0, "%d other files", n_others);
    }
    /* The least recently used is removed first; a read is a use. */
    trol_cache *cache = new_cache(0, folder, n_bytes);
    trol_model *model = open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED);
    const struct timespec long_ago[2] = {{1000, 0}, {1000, 0}}, later[2] = {{2000, 0}, {2000, 0}};
    char path[700], second[700];
    file_of(model, 0, path);
    file_of(model, 1, second);
    CHECK(utimensat(AT_FDCWD, path, long_ago, 0) == 0 && utimensat(AT_FDCWD, second, later, 0) == 0, "utimensat");
    ask(model, "a use", 0);
    ask(model, "a third", 2);
    CHECK(access(path, F_OK) == 0 && access(second, F_OK) != 0, "another than the oldest was removed");
    CHECK(count_files(&n_bytes, &n_others) == 2 && n_others == 0, "%d other files", n_others);
    trol_model_free(model);
    trol_cache_free(cache);
    empty_folder();
}

/* Every kind of damage is noticed and repaired. */
static void check_damage(void) {
    trol_error error = {0};
    char path[700], *good, *again;
    size_t n, n_again;
    trol_cache *cache = new_cache(0, folder, 1 << 24);
    trol_model *model = open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED);
    int64_t n_encoded = 1;
    ask(model, "first", 0);
    file_of(model, 0, path);
    CHECK_OK(file_read(path, 1 << 24, &good, &n, &error), error);
    char *bad = malloc(n + 1);
    for (size_t i = 0; i <= n + 1; i += i < 80 ? 1 : n / 7 + 1) {
        for (int kind = 0; kind < 2; kind++) { /* a bit that changed, a file of i bytes */
            memcpy(bad, good, n);
            bad[n] = 0;
            if (kind == 0 && i >= n)
                continue;
            bad[i % n] = (char)(bad[i % n] ^ (kind == 0 ? 1 << i % 8 : 0));
            const size_t length = kind == 0 ? n : i == n ? n + 1 : i < n ? i : 0;
            unlink(path);
            FILE *file = fopen(path, "wb");
            CHECK(file && fwrite(bad, 1, length, file) == length && fclose(file) == 0, "%s", path);
            ask(model, "damaged", 0);
            n_encoded++;
            CHECK(stats_of_cache(cache).encoded == n_encoded, "kind %d at %zu: the damaged file was used", kind, i);
            n_encoded = stats_of_cache(cache).encoded;
            CHECK_OK(file_read(path, 1 << 24, &again, &n_again, &error), error);
            CHECK(n == n_again && memcmp(good, again, n) == 0, "kind %d at %zu: the file is not mended", kind, i);
            memory_free(again);
        }
    }
    free(bad);
    memory_free(good);
    trol_model_free(model);
    trol_cache_free(cache);
    empty_folder();
}

/* A folder that cannot be created, a full disk (a limit on file sizes), a limit without room: the same answers, and one
 * warning; nothing is left behind. */
static void check_no_room(void) {
    int64_t n_bytes;
    int n_others;
    test_write("plain", "x", 1);
    char under_a_file[700];
    snprintf(under_a_file, sizeof under_a_file, "%s/folder", test_path("plain"));
    for (int kind = 0; kind < 3; kind++) {
        struct rlimit before, small;
        getrlimit(RLIMIT_FSIZE, &before);
        small = before;
        trol_cache *cache = new_cache(0, kind == 0 ? under_a_file : folder, kind == 2 ? 100 : 1 << 24);
        trol_model *model = open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED);
        atomic_store(&n_warnings, 0);
        if (kind == 1) {
            small.rlim_cur = row_bytes / 2;
            setrlimit(RLIMIT_FSIZE, &small);
        }
        for (int i = 0; i < 3; i++)
            ask(model, "no room", i % 2);
        setrlimit(RLIMIT_FSIZE, &before);
        CHECK(atomic_load(&n_warnings) == (kind < 2), "kind %d: %d warnings", kind, atomic_load(&n_warnings));
        CHECK(count_files(&n_bytes, &n_others) == 0 && n_others == 0, "kind %d: files are left", kind);
        trol_model_free(model);
        trol_cache_free(cache);
    }
    unlink(test_path("plain"));
    empty_folder();
}

/* ---- at once --------------------------------------------------------------------------------- */

typedef struct asking {
    trol_model *model;
    int first, step;
    bool together, fine;
} asking;

static void *ask_many(void *user) {
    asking *a = user;
    const trol_image *images[N_IMAGES];
    trol_features *features[N_IMAGES] = {NULL};
    a->fine = true;
    for (int i = 0; i < N_IMAGES; i++)
        images[i] = all_images[(a->first + i * a->step) % N_IMAGES];
    if (a->together)
        a->fine = trol_encode_images(a->model, images, N_IMAGES, NULL, NULL, features, NULL) == TROL_OK;
    for (int i = 0; i < N_IMAGES; i++) {
        if (!a->together)
            a->fine &= trol_encode_image(a->model, images[i], &features[i], NULL) == TROL_OK;
        a->fine &= is_right(features[i], (a->first + i * a->step) % N_IMAGES);
        trol_features_free(features[i]);
    }
    return NULL;
}

/* Each picture is encoded once, whichever thread asks for it first and in whatever order; by two models of the same
 * weights. */
static void check_threads(void) {
    enum { N_THREADS = 6, N_ROUNDS = 8 };
    for (int round = 0; round < N_ROUNDS; round++) {
        pthread_t threads[N_THREADS];
        asking work[N_THREADS];
        trol_cache *cache = new_cache(1 << 24, round % 4 == 3 ? folder : NULL, 1 << 24);
        trol_model *models[2] = {open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED),
                                 open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED)};
        for (int i = 0; i < N_THREADS; i++) {
            work[i] = (asking){models[i % 2], i % N_IMAGES, i % 3 == 1 ? N_IMAGES - 1 : 1, i % 2 == round % 2, false};
            pthread_create(&threads[i], NULL, ask_many, &work[i]);
        }
        for (int i = 0; i < N_THREADS; i++) {
            pthread_join(threads[i], NULL);
            CHECK(work[i].fine, "round %d, thread %d", round, i);
        }
        const trol_cache_stats s = stats_of_cache(cache);
        CHECK(s.encoded + s.from_folder == N_IMAGES && s.from_memory == (N_THREADS - 1) * N_IMAGES,
              "round %d: %lld encoded, %lld from memory", round, (long long)s.encoded, (long long)s.from_memory);
        trol_model_free(models[0]);
        trol_model_free(models[1]);
        trol_cache_free(cache);
    }
    empty_folder();
}

/* Several processes with a folder for three of six pictures. */
static void check_processes(void) {
    enum { N_PROCESSES = 4, N_ROUNDS = 5 };
    const int64_t limit = 3 * ((int64_t)row_bytes + 100);
    pid_t children[N_PROCESSES];
    int64_t n_bytes;
    int n_others;
    for (int i = 0; i < N_PROCESSES; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        trol_cache *cache = new_cache(0, folder, limit);
        trol_model *model = open_model(reference_folder, cache, TROL_WEIGHTS_AS_STORED);
        asking work = {model, i, i % 2 ? 1 : N_IMAGES - 1, false, false};
        bool fine = true;
        for (int round = 0; round < N_ROUNDS; round++) {
            ask_many(&work);
            fine &= work.fine;
        }
        trol_model_free(model);
        trol_cache_free(cache);
        _exit(fine && atomic_load(&n_warnings) == 0 ? 0 : 1);
    }
    for (int i = 0; i < N_PROCESSES; i++) {
        int status = -1;
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0, "process %d: status %d", i, status);
    }
    const int n_files = count_files(&n_bytes, &n_others);
    CHECK(n_files >= 1 && n_bytes <= limit && n_others == 0, "%d files of %lld bytes, limit %lld, and %d others",
          n_files, (long long)n_bytes, (long long)limit, n_others);
    empty_folder();
}

/* ---- callers that wait ----------------------------------------------------------------------- */

/* A thread that encodes picture 0 and waits within its callback until it is released. */
typedef struct slow {
    trol_model *model;
    atomic_bool inside, go;
    bool cancel;
    trol_status status;
} slow;

static void nap(void) { nanosleep(&(struct timespec){0, 1000 * 1000}, NULL); }

static int hold_up(void *user, trol_stage stage, int64_t done, int64_t total) {
    slow *s = user;
    (void)stage;
    (void)done;
    (void)total;
    atomic_store(&s->inside, true);
    while (!atomic_load(&s->go))
        nap();
    return s->cancel;
}

static void *encode_slowly(void *user) {
    slow *s = user;
    trol_features *features;
    s->status = trol_encode_images(s->model, (const trol_image *const *)&all_images[0], 1, hold_up, s, &features, NULL);
    trol_features_free(features);
    return NULL;
}

static pthread_t start_slow(slow *s, trol_model *model, bool cancel) {
    pthread_t thread;
    *s = (slow){.model = model, .cancel = cancel};
    pthread_create(&thread, NULL, encode_slowly, s);
    while (!atomic_load(&s->inside))
        nap();
    return thread;
}

static int stop_third(void *user, trol_stage stage, int64_t done, int64_t total) {
    (void)stage;
    CHECK(done >= 0 && done <= total && total > 0, "progress %lld of %lld", (long long)done, (long long)total);
    return ++*(int *)user == 3;
}

static void *ask_first(void *user) {
    ask(user, "after the other one gave up", 0);
    return NULL;
}

static void check_waiting(void) {
    trol_error error = {0};
    trol_cache *cache = new_cache(1 << 20, NULL, 0);
    trol_threads *pool = NULL;
    trol_model_params params;
    trol_model *model = NULL;
    trol_features *features = NULL;
    trol_model_params_init(&params);
    CHECK_OK(trol_threads_new(2, &pool, &error), error);
    params.threads = pool;
    params.cache = cache;
    CHECK_OK(trol_model_load(reference_folder, &params, &model, &error), error);
    slow s;
    int n_calls = 0;
    /* A caller that waits can be cancelled. */
    pthread_t thread = start_slow(&s, model, true), other;
    CHECK(trol_encode_images(model, (const trol_image *const *)&all_images[0], 1, stop_third, &n_calls, &features,
                             &error) == TROL_ERROR_CANCELLED &&
              !features,
          "%s", error.message);
    /* If the caller that encodes gives up, a waiting one encodes. */
    pthread_create(&other, NULL, ask_first, model);
    for (int i = 0; i < 50; i++)
        nap();
    atomic_store(&s.go, true);
    pthread_join(thread, NULL);
    pthread_join(other, NULL);
    CHECK(s.status == TROL_ERROR_CANCELLED, "status %d", (int)s.status);
    check_counts(cache, "after a cancel", 1, 0, 0);
    trol_model_free(model);
    trol_cache_free(cache);
    /* A caller that holds the pool does not wait for one that needs it; nor does a child of fork for a thread that it
     * does not have. Here this test is the caller that encodes, and it never does. */
    unsigned char identity[IDENTITY_BYTES];
    cache_entry *entry;
    cache_state state;
    cache = new_cache(1 << 20, NULL, 0);
    params.cache = cache;
    CHECK_OK(trol_model_load(reference_folder, &params, &model, &error), error);
    CHECK_OK(identity_of_image(model, all_images[0], identity, &error), error);
    CHECK_OK(cache_enter(cache, identity, false, &entry, &state, &error), error);
    CHECK(state == CACHE_ENCODE, "state %d", (int)state);
#ifndef __SANITIZE_THREAD__
    const pid_t child = fork();
    if (child == 0) {
        alarm(200);
        _exit(trol_encode_image(model, all_images[0], &features, NULL) == TROL_OK && is_right(features, 0) ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %d", status);
#endif
    trol_threads_hold(pool);
    ask(model, "with the pool held", 0);
    trol_threads_release(pool);
    cache_abandon(cache, entry);
    cache_leave(cache, entry);
    ask(model, "after that", 0);
    check_counts(cache, "with the pool held", 1, 1, 0);
    trol_model_free(model);
    trol_cache_free(cache);
    trol_threads_free(pool);
}

/* ---- whose pictures they are ------------------------------------------------------------------ */

/* Another tensor of the encoder or the projector, another arithmetic: nothing is shared. Of the decoder: all is. */
static void check_models(const char *name) {
    trol_cache *cache = new_cache(1 << 24, NULL, 0);
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, name);
    trol_model *model = open_model(path, cache, TROL_WEIGHTS_AS_STORED);
    unsigned char own[IDENTITY_BYTES], found[IDENTITY_BYTES];
    trol_error error = {0};
    int n_vision = 0, n_decoder = 0;
    CHECK_OK(identity_of_image(model, all_images[0], own, &error), error);
    changed_checkpoint copy = changed_checkpoint_copy(name, "copy");
    for (const cJSON *item = copy.header->child;; item = item->next) {
        if (item && strcmp(item->string, "__metadata__") == 0)
            continue;
        const bool encodes =
            item && strstr(item->string, "vision") && !strstr(item->string, "post_layernorm"); /* idle */
        changed_checkpoint_write(&copy, item);
        trol_model *other = open_model(copy.folder, cache, TROL_WEIGHTS_AS_STORED);
        CHECK_OK(identity_of_image(other, all_images[0], found, &error), error);
        CHECK((memcmp(own, found, sizeof own) == 0) == !encodes, "%s: %s", name, item ? item->string : "an equal copy");
        trol_model_free(other);
        n_vision += encodes;
        n_decoder += !encodes;
        if (!item)
            break;
    }
    CHECK(n_vision > 10 && n_decoder > 5, "%d tensors of the encoder, %d of the decoder", n_vision, n_decoder);
    trol_model *other = open_model(path, cache, TROL_WEIGHTS_Q8);
    CHECK_OK(identity_of_image(other, all_images[0], found, &error), error);
    CHECK(memcmp(own, found, sizeof own) != 0, "%s: an encoder in 8 bits", name);
    trol_model_free(other);
    changed_checkpoint_remove(&copy);
    trol_model_free(model);
    trol_cache_free(cache);
}

/* A session's own pictures, and its stats. */
static void check_session(void) {
    trol_error error = {0};
    trol_cache *cache = new_cache(1 << 20, NULL, 0);
    char path[1024];
    snprintf(path, sizeof path, "%s/e2e-phi3", TEST_REFERENCE);
    trol_model *model = open_model(path, cache, TROL_WEIGHTS_AS_STORED);
    trol_session *sessions[2];
    trol_model_info info = {.size = sizeof info};
    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    for (int i = 0; i < 2; i++) {
        const trol_image *images[2] = {all_images[0], all_images[1]};
        CHECK_OK(trol_session_new(model, NULL, &sessions[i], &error), error);
        CHECK_OK(trol_session_ask(sessions[i], "What is this?", images, 2, &error), error);
        const trol_session_stats stats = stats_of(sessions[i]);
        CHECK(stats.images_encoded == (i ? 0 : 2) && stats.images_from_cache == (i ? 2 : 0),
              "%lld encoded, %lld from the cache", (long long)stats.images_encoded, (long long)stats.images_from_cache);
    }
    CHECK(memcmp(logits_of(sessions[0]), logits_of(sessions[1]), (size_t)info.vocab_size * sizeof(float)) == 0,
          "other logits with the cache");
    trol_session_free(sessions[0]);
    trol_session_free(sessions[1]);
    trol_model_free(model);
    trol_cache_free(cache);
}

static void make_images(void) {
    trol_error error = {0};
    uint64_t random = 5;
    trol_model *model = open_model(reference_folder, NULL, TROL_WEIGHTS_AS_STORED);
    trol_model_info info = {.size = sizeof info};
    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    for (int i = 0; i < N_IMAGES; i++) {
        uint8_t rgb[24 * 16 * 3];
        for (size_t k = 0; k < sizeof rgb; k++)
            rgb[k] = (uint8_t)(test_random(&random) >> 40);
        CHECK_OK(trol_image_load_rgb(rgb, 24, 16, 72, &all_images[i], &error), error);
        trol_features *features = NULL;
        CHECK_OK(trol_encode_image(model, all_images[i], &features, &error), error);
        row_bytes = (size_t)trol_features_n_tokens(features) * (size_t)info.hidden_size * sizeof(float);
        expected[i] = malloc(row_bytes);
        memcpy(expected[i], trol_features_data(features), row_bytes);
        trol_features_free(features);
    }
    trol_model_free(model);
}

int main(void) {
    test_make_folder();
    signal(SIGXFSZ, SIG_IGN);
    snprintf(folder, sizeof folder, "%s", test_path("pictures"));
    snprintf(reference_folder, sizeof reference_folder, "%s/internlm2-clip", TEST_REFERENCE);
    make_images();
#ifndef __SANITIZE_THREAD__
    check_processes();
#endif
    check_memory();
    check_folder();
    check_damage();
    check_no_room();
    check_threads();
    check_waiting();
    check_models("internlm2-clip");
    check_models("phi3-internvit");
    check_session();
    for (int i = 0; i < N_IMAGES; i++) {
        trol_image_free(all_images[i]);
        free(expected[i]);
    }
    test_remove_folder();
    return test_summary("test-cache");
}
