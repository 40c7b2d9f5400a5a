#include "server/image_store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "common/fail.h"
#include "base/clock.h"

struct image_entry {
    image_entry *next;
    uint64_t hash;
    uint8_t *bytes; /* [n_bytes], the file */
    size_t n_bytes;
    image_state state;
    atomic_int n_users;
    uint64_t wanted; /* its number in the queue; 0: not in it */
    uint64_t used;   /* when it was released last */
    trol_features *features;
    size_t feature_bytes;
    trol_error error;
};

struct image_store {
    trol_model *model;
    int32_t hidden_size;
    size_t limit_bytes;
    void (*wake)(void *user);
    void *user;

    pthread_t thread;
    pthread_mutex_t mutex; /* guards all that follows, and the entries' fields but n_users */
    pthread_cond_t work;
    image_entry *entries;
    uint64_t clock; /* counts requests and releases */
    bool busy;
    image_store_stats stats;
    atomic_bool stop;
};

/* ---- the list -------------------------------------------------------------------------------- */

static size_t entry_bytes(const image_entry *entry) { return sizeof *entry + entry->n_bytes + entry->feature_bytes; }

static void entry_free(image_entry *entry) {
    trol_features_free(entry->features);
    free(entry->bytes);
    free(entry);
}

static void remove_entry(image_store *store, image_entry *entry) {
    image_entry **at = &store->entries;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    store->stats.bytes -= (int64_t)entry_bytes(entry);
    store->stats.n_entries--;
    entry_free(entry);
}

/* Removes entries without users, the least recently used first, until the rest is within the limit; one that failed or
 * was not encoded yet in any case. */
static void evict(image_store *store) {
    for (;;) {
        image_entry *oldest = NULL, *useless = NULL;
        size_t unused_bytes = 0;
        for (image_entry *entry = store->entries; entry; entry = entry->next) {
            if (atomic_load(&entry->n_users) > 0)
                continue;
            unused_bytes += entry_bytes(entry);
            if (entry->state != IMAGE_READY)
                useless = entry;
            if (!oldest || entry->used < oldest->used)
                oldest = entry;
        }
        if (!useless && unused_bytes <= store->limit_bytes)
            return;
        remove_entry(store, useless ? useless : oldest);
    }
}

image_entry *image_store_get(image_store *store, chat_image *image) {
    const uint64_t hash =
        fnv_bytes(FNV_START, image->bytes, image->n_bytes); /* finds candidates; the bytes are compared */
    pthread_mutex_lock(&store->mutex);
    image_entry *entry = store->entries;
    while (entry && !(entry->hash == hash && entry->n_bytes == image->n_bytes &&
                      memcmp(entry->bytes, image->bytes, image->n_bytes) == 0))
        entry = entry->next;
    if (entry) {
        store->stats.hits++;
        free(image->bytes);
        image->bytes = NULL;
    } else if ((entry = calloc(1, sizeof *entry)) != NULL) {
        *entry = (image_entry){.next = store->entries, .hash = hash, .bytes = image->bytes, .n_bytes = image->n_bytes};
        image->bytes = NULL;
        store->entries = entry;
        store->stats.bytes += (int64_t)entry_bytes(entry);
        store->stats.n_entries++;
    }
    if (entry)
        atomic_fetch_add(&entry->n_users, 1);
    pthread_mutex_unlock(&store->mutex);
    return entry;
}

void image_store_want(image_store *store, image_entry *entry) {
    pthread_mutex_lock(&store->mutex);
    if (entry->state == IMAGE_WAITS && entry->wanted == 0) {
        entry->wanted = ++store->clock;
        pthread_cond_signal(&store->work);
    }
    pthread_mutex_unlock(&store->mutex);
}

image_state image_store_look(image_store *store, const image_entry *entry) {
    pthread_mutex_lock(&store->mutex);
    const image_state state = entry->state;
    pthread_mutex_unlock(&store->mutex);
    return state;
}

trol_features *image_entry_features(const image_entry *entry) { return entry->features; }
const trol_error *image_entry_error(const image_entry *entry) { return &entry->error; }

void image_store_release(image_store *store, image_entry *entry) {
    if (!entry)
        return;
    pthread_mutex_lock(&store->mutex);
    entry->used = ++store->clock;
    atomic_fetch_sub(&entry->n_users, 1);
    evict(store);
    pthread_mutex_unlock(&store->mutex);
}

/* ---- the thread ------------------------------------------------------------------------------ */

typedef struct encoding {
    image_store *store;
    const image_entry *entry;
} encoding;

/* The thread counts as a user. */
static int is_unwanted(void *user, trol_stage stage, int64_t done, int64_t total) {
    const encoding *e = user;
    (void)stage;
    (void)done;
    (void)total;
    return atomic_load(&e->store->stop) || atomic_load(&e->entry->n_users) <= 1;
}

static trol_status encode(image_store *store, const image_entry *entry, trol_features **features, trol_error *error) {
    trol_image *image, *upright = NULL;
    encoding e = {store, entry};
    trol_status status = trol_image_load_memory(entry->bytes, entry->n_bytes, NULL, &image, error);
    if (status == TROL_OK)
        status = trol_image_upright(image, &upright, error);
    trol_image_free(image);
    if (status == TROL_OK) {
        const trol_image *images[] = {upright};
        status = trol_encode_images(store->model, images, 1, is_unwanted, &e, features, error);
    }
    trol_image_free(upright);
    return status;
}

static image_entry *next_wanted(image_store *store) {
    image_entry *first = NULL;
    for (image_entry *entry = store->entries; entry; entry = entry->next)
        if (entry->wanted && entry->state == IMAGE_WAITS && atomic_load(&entry->n_users) > 0 &&
            (!first || entry->wanted < first->wanted))
            first = entry;
    return first;
}

/* With the mutex held, which is released while the picture is encoded. */
static void serve(image_store *store, image_entry *entry) {
    trol_features *features = NULL;
    trol_error error = {0};
    atomic_fetch_add(&entry->n_users, 1);
    store->busy = true;
    pthread_mutex_unlock(&store->mutex);
    const double start = clock_seconds();
    const trol_status status = encode(store, entry, &features, &error);
    const double seconds = clock_seconds() - start;
    pthread_mutex_lock(&store->mutex);
    store->busy = false;
    if (status == TROL_OK) {
        entry->features = features;
        entry->feature_bytes = (size_t)trol_features_n_tokens(features) * (size_t)store->hidden_size * sizeof(float);
        entry->state = IMAGE_READY;
        store->stats.bytes += (int64_t)entry->feature_bytes;
        store->stats.encoded++;
        store->stats.seconds += seconds;
    } else if (status == TROL_ERROR_CANCELLED) {
        /* A request for the same picture may have come since: then it waits for its turn again. */
        entry->wanted = atomic_load(&entry->n_users) > 1 ? ++store->clock : 0;
    } else {
        entry->error = error;
        entry->state = IMAGE_FAILED;
    }
    entry->used = ++store->clock;
    atomic_fetch_sub(&entry->n_users, 1);
    evict(store);
    pthread_mutex_unlock(&store->mutex);
    store->wake(store->user);
    pthread_mutex_lock(&store->mutex);
}

static void *store_main(void *argument) {
    image_store *store = argument;
    pthread_mutex_lock(&store->mutex);
    while (!atomic_load(&store->stop)) {
        image_entry *entry = next_wanted(store);
        if (entry)
            serve(store, entry);
        else
            pthread_cond_wait(&store->work, &store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

/* ---- the whole ------------------------------------------------------------------------------- */

bool image_store_new(trol_model *model, size_t limit_bytes, void (*wake)(void *user), void *user, image_store **result,
                     trol_error *error) {
    trol_model_info info = {.size = sizeof info};
    *result = NULL;
    if (trol_model_get_info(model, &info, error) != TROL_OK)
        return false;
    image_store *store = calloc(1, sizeof *store);
    if (!store) {
        fail_sentence(error, TROL_ERROR_MEMORY, "there is no memory for the pictures' store");
        return false;
    }
    *store = (image_store){
        .model = model, .hidden_size = info.hidden_size, .limit_bytes = limit_bytes, .wake = wake, .user = user};
    pthread_mutex_init(&store->mutex, NULL);
    pthread_cond_init(&store->work, NULL);
    if (pthread_create(&store->thread, NULL, store_main, store) != 0) {
        fail_sentence(error, TROL_ERROR_MEMORY, "the thread for pictures could not be started");
        free(store);
        return false;
    }
    *result = store;
    return true;
}

void image_store_free(image_store *store) {
    if (!store)
        return;
    pthread_mutex_lock(&store->mutex);
    atomic_store(&store->stop, true);
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->thread, NULL);
    for (image_entry *entry = store->entries, *next; entry; entry = next) {
        next = entry->next;
        entry_free(entry);
    }
    pthread_cond_destroy(&store->work);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

bool image_store_is_busy(image_store *store) {
    pthread_mutex_lock(&store->mutex);
    const bool busy = store->busy;
    pthread_mutex_unlock(&store->mutex);
    return busy;
}

image_store_stats image_store_get_stats(image_store *store) {
    pthread_mutex_lock(&store->mutex);
    const image_store_stats stats = store->stats;
    pthread_mutex_unlock(&store->mutex);
    return stats;
}
