/* image_store.h - pictures, each decoded and encoded once, on a thread of its own, and kept for later requests.
 *
 * An entry is found by its file's bytes, all of them compared: no crafted picture can be taken for another. */
#ifndef SERVER_IMAGE_STORE_H
#define SERVER_IMAGE_STORE_H

#include "server/chat_request.h"

typedef struct image_store image_store;
typedef struct image_entry image_entry;

typedef enum image_state { IMAGE_WAITS, IMAGE_READY, IMAGE_FAILED } image_state;

typedef struct image_store_stats {
    int64_t encoded, hits, bytes, n_entries;
    double seconds; /* of encoding */
} image_store_stats;

/* `wake` is called, from the store's thread, whenever an entry has become ready or failed. limit_bytes: of entries that
 * no request uses; those in use are held in any case. */
bool image_store_new(trol_model *model, size_t limit_bytes, void (*wake)(void *user), void *user, image_store **result,
                     trol_error *error);
/* Stops the thread; no entry may be in use. */
void image_store_free(image_store *store);

/* The entry for a picture, counted as used once more until it is released. Takes image->bytes over. NULL: no memory. */
image_entry *image_store_get(image_store *store, chat_image *image);
/* Queues it to be encoded, unless it is, or was. */
void image_store_want(image_store *store, image_entry *entry);
image_state image_store_look(image_store *store, const image_entry *entry);
/* Once it is ready: owned by the entry. */
trol_features *image_entry_features(const image_entry *entry);
/* Once it has failed. */
const trol_error *image_entry_error(const image_entry *entry);
/* If no other request waits for it, its encoding stops. */
void image_store_release(image_store *store, image_entry *entry);

/* Whether a picture is being encoded right now. */
bool image_store_is_busy(image_store *store);
image_store_stats image_store_get_stats(image_store *store);

#endif
