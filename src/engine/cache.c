/* cache.c - trol_cache: a table of pictures by identity, in order of use.
 *
 * An entry belongs to the table and to the callers that hold it. It comes into the table empty, with the caller that
 * encodes it; when its embeddings are complete it joins the list in order of use, from whose end the oldest are removed
 * when there are too many bytes. Callers that hold a removed entry keep it. */
#include "engine/cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fork_mutex.h"
#include "engine/cache_folder.h"
#include "engine/params.h"

enum { N_BUCKETS = 1024 };

struct cache_entry {
    cache_entry *next;          /* of its bucket */
    cache_entry *newer, *older; /* in order of use; only once the embeddings are there */
    unsigned char identity[IDENTITY_BYTES];
    image_embeds *embeds; /* NULL: being encoded, or given up */
    int n_holders;        /* callers, and the table */
    int n_encoding;       /* callers that encode it */
    pid_t process;        /* whose callers they are */
    bool in_table;
};

struct trol_cache {
    atomic_int references;
    int64_t memory_limit;
    cache_folder folder;
    fork_mutex
        mutex; /* guards what follows, and the entries' fields but the embeddings of one that is ready; see lock */
    pthread_cond_t change;
    pid_t process; /* whose threads wait for changes */
    cache_entry *buckets[N_BUCKETS];
    cache_entry *newest, *oldest;
    trol_cache_stats stats;
};

/* ---- a cache's life -------------------------------------------------------------------------- */

void trol_cache_params_init(trol_cache_params *params) {
    if (params)
        *params = (trol_cache_params){
            .size = sizeof *params, .memory_bytes = (int64_t)256 << 20, .folder_bytes = (int64_t)4 << 30};
}

static void init_change(trol_cache *cache) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cache->change, &attributes);
    pthread_condattr_destroy(&attributes);
    cache->process = getpid();
}

/* In a child of fork nobody waits; if another thread of the parent was changing the table, it is emptied. */
static void lock(trol_cache *cache) {
    const bool whole = fork_mutex_lock(&cache->mutex);
    if (cache->process == getpid())
        return;
    init_change(cache);
    if (whole)
        return;
    memset(cache->buckets, 0, sizeof cache->buckets);
    cache->newest = cache->oldest = NULL;
    cache->stats.memory_bytes = cache->stats.memory_images = 0;
}

static void unlock(trol_cache *cache) { fork_mutex_unlock(&cache->mutex); }

trol_status trol_cache_new(const trol_cache_params *params, trol_cache **result, trol_error *error) {
    TRY_OUT(result, "trol_cache_new", error);
    trol_cache_params p;
    trol_cache_params_init(&p);
    TRY(params_copy(&p, sizeof p, params, "trol_cache_params", error));
    if (p.memory_bytes < 0 || p.folder_bytes < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "a cache's limit is %lld bytes, expected 0 or more",
                    (long long)(p.memory_bytes < 0 ? p.memory_bytes : p.folder_bytes));
    if (p.folder && !*p.folder)
        return fail(error, TROL_ERROR_ARGUMENT, "the name of a cache's folder is empty");
    trol_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return fail_memory(error, sizeof *cache, "a cache");
    cache->memory_limit = p.memory_bytes;
    trol_status status = cache_folder_init(&cache->folder, p.folder, p.folder_bytes, error);
    if (status != TROL_OK) {
        free(cache);
        return status;
    }
    atomic_init(&cache->references, 1);
    fork_mutex_init(&cache->mutex);
    init_change(cache);
    *result = cache;
    return TROL_OK;
}

trol_cache *cache_retain(trol_cache *cache) {
    if (cache)
        atomic_fetch_add(&cache->references, 1);
    return cache;
}

static void entry_free(cache_entry *entry) {
    image_embeds_free(entry->embeds);
    free(entry);
}

void trol_cache_free(trol_cache *cache) {
    if (!cache || atomic_fetch_sub(&cache->references, 1) > 1)
        return;
    for (size_t i = 0; i < N_BUCKETS; i++)
        for (cache_entry *entry = cache->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            entry_free(entry);
        }
    cache_folder_free(&cache->folder);
    pthread_cond_destroy(&cache->change);
    fork_mutex_destroy(&cache->mutex);
    free(cache);
}

void trol_cache_get_stats(trol_cache *cache, trol_cache_stats *stats) {
    trol_cache_stats full = {0};
    if (!stats)
        return;
    if (cache) {
        lock(cache);
        full = cache->stats;
        unlock(cache);
    }
    (void)params_copy_out(stats, &full, sizeof full, "trol_cache_stats", NULL);
}

/* ---- the table; the mutex is held ------------------------------------------------------------ */

/* An identity is a hash already. */
static cache_entry **bucket_of(trol_cache *cache, const unsigned char *identity) {
    uint32_t number;
    memcpy(&number, identity, sizeof number);
    return &cache->buckets[number % N_BUCKETS];
}

static int64_t entry_bytes(const cache_entry *entry) {
    return (int64_t)sizeof *entry + entry->embeds->n_tokens * entry->embeds->width * (int64_t)sizeof(float);
}

static void put_first(trol_cache *cache, cache_entry *entry) {
    entry->older = cache->newest;
    entry->newer = NULL;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void take_out(trol_cache *cache, cache_entry *entry) {
    *(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void release(cache_entry *entry) {
    if (--entry->n_holders == 0)
        entry_free(entry);
}

static void remove_entry(trol_cache *cache, cache_entry *entry) {
    cache_entry **at = bucket_of(cache, entry->identity);
    entry->in_table = false;
    while (*at && *at != entry)
        at = &(*at)->next;
    if (!*at)
        return; /* the table was emptied after a fork, while this was held */
    *at = entry->next;
    if (entry->embeds) {
        take_out(cache, entry);
        cache->stats.memory_bytes -= entry_bytes(entry);
        cache->stats.memory_images--;
    }
    release(entry);
}

/* The embeddings are complete: callers that wait for them get them. */
static void make_ready(trol_cache *cache, cache_entry *entry, image_embeds *embeds) {
    if (!entry->embeds) {
        entry->embeds = image_embeds_retain(embeds);
        if (entry->in_table) {
            put_first(cache, entry);
            cache->stats.memory_bytes += entry_bytes(entry);
            cache->stats.memory_images++;
            while (cache->stats.memory_bytes > cache->memory_limit)
                remove_entry(cache, cache->oldest);
        }
    }
    entry->n_encoding--;
    pthread_cond_broadcast(&cache->change);
}

static cache_entry *find(trol_cache *cache, const unsigned char *identity) {
    cache_entry *entry = *bucket_of(cache, identity);
    while (entry && memcmp(entry->identity, identity, IDENTITY_BYTES) != 0)
        entry = entry->next;
    return entry;
}

/* ---- entries --------------------------------------------------------------------------------- */

trol_status cache_enter(trol_cache *cache, const unsigned char identity[IDENTITY_BYTES], bool cannot_wait,
                        cache_entry **result, cache_state *state, trol_error *error) {
    cache_entry *fresh = calloc(1, sizeof *fresh);
    *result = NULL;
    if (!fresh)
        return fail_memory(error, sizeof *fresh, "a cache");
    memcpy(fresh->identity, identity, IDENTITY_BYTES);
    lock(cache);
    cache_entry *entry = find(cache, identity);
    if (!entry) {
        cache_entry **bucket = bucket_of(cache, identity);
        entry = fresh;
        fresh = NULL;
        entry->next = *bucket;
        entry->n_holders = 1;
        entry->in_table = true;
        *bucket = entry;
    }
    entry->n_holders++;
    if (entry->embeds) {
        take_out(cache, entry);
        put_first(cache, entry);
        cache->stats.from_memory++;
        *state = CACHE_READY;
    } else if (entry->n_encoding > 0 && entry->process == getpid() && !cannot_wait) {
        *state = CACHE_WAIT;
    } else { /* no caller encodes it, or only a thread of the parent process, or one that this caller must not wait for
              */
        entry->n_encoding = entry->process == getpid() ? entry->n_encoding + 1 : 1;
        entry->process = getpid();
        *state = CACHE_ENCODE;
    }
    unlock(cache);
    free(fresh);
    *result = entry;
    return TROL_OK;
}

void cache_leave(trol_cache *cache, cache_entry *entry) {
    lock(cache);
    release(entry);
    unlock(cache);
}

bool cache_fetch(trol_cache *cache, cache_entry *entry, const trol_model *model) {
    image_embeds *embeds = cache_folder_read(&cache->folder, entry->identity, model);
    if (!embeds)
        return false;
    lock(cache);
    cache->stats.from_folder++;
    make_ready(cache, entry, embeds);
    unlock(cache);
    image_embeds_free(embeds);
    return true;
}

void cache_publish(trol_cache *cache, cache_entry *entry, image_embeds *embeds, const trol_model *model) {
    lock(cache);
    cache->stats.encoded++;
    make_ready(cache, entry, embeds);
    unlock(cache);
    cache_folder_write(&cache->folder, entry->identity, embeds, model);
}

void cache_abandon(trol_cache *cache, cache_entry *entry) {
    lock(cache);
    if (--entry->n_encoding == 0 && !entry->embeds && entry->in_table)
        remove_entry(cache, entry);
    pthread_cond_broadcast(&cache->change);
    unlock(cache);
}

cache_state cache_wait(trol_cache *cache, cache_entry *entry) {
    const long moment = 20 * 1000 * 1000, second = 1000 * 1000 * 1000; /* nanoseconds */
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += moment;
    until.tv_sec += until.tv_nsec / second;
    until.tv_nsec %= second;
    lock(cache);
    if (!entry->embeds && entry->n_encoding > 0)
        pthread_cond_timedwait(&cache->change, &cache->mutex.mutex, &until);
    const cache_state state = entry->embeds ? CACHE_READY : entry->n_encoding > 0 ? CACHE_WAIT : CACHE_GONE;
    if (state == CACHE_READY)
        cache->stats.from_memory++;
    unlock(cache);
    return state;
}

image_embeds *cache_embeds(cache_entry *entry) { return entry->embeds; }
