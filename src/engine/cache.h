/* cache.h - trol_cache as encoding uses it: a caller enters with a picture's identity and holds its entry until it
 * leaves. If the embeddings exist it takes them; otherwise it encodes them, or waits for the caller that does.
 */
#ifndef ENGINE_CACHE_H
#define ENGINE_CACHE_H

#include "engine/model.h"

typedef struct cache_entry cache_entry;

typedef enum cache_state {
    CACHE_READY,  /* cache_embeds has them */
    CACHE_ENCODE, /* the caller encodes, then calls cache_publish or cache_abandon */
    CACHE_WAIT,   /* another caller encodes: cache_wait */
    CACHE_GONE    /* the other caller gave up: leave and enter again */
} cache_state;

/* NULL: nothing happens. */
trol_cache *cache_retain(trol_cache *cache);

/* cannot_wait: the caller encodes what another is encoding rather than wait for it. */
trol_status cache_enter(trol_cache *cache, const unsigned char identity[IDENTITY_BYTES], bool cannot_wait,
                        cache_entry **entry, cache_state *state, trol_error *error);
void cache_leave(trol_cache *cache, cache_entry *entry);

/* After CACHE_ENCODE: looks for the embeddings in the cache's folder; if they are found, the entry is ready. */
bool cache_fetch(trol_cache *cache, cache_entry *entry, const trol_model *model);
/* After CACHE_ENCODE: these are the embeddings. They are put into the folder, too. */
void cache_publish(trol_cache *cache, cache_entry *entry, image_embeds *embeds, const trol_model *model);
void cache_abandon(trol_cache *cache, cache_entry *entry);
/* Waits for a moment: CACHE_READY, CACHE_GONE, or still CACHE_WAIT. */
cache_state cache_wait(trol_cache *cache, cache_entry *entry);
/* Of an entry that is ready; valid while it is held. */
image_embeds *cache_embeds(cache_entry *entry);

#endif
