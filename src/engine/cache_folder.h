/* cache_folder.h - encoded pictures in files, one each, named by identity. Several processes may share the folder: a
 * file appears whole, is checked when it is read, and may be removed by any process at any time. */
#ifndef ENGINE_CACHE_FOLDER_H
#define ENGINE_CACHE_FOLDER_H

#include "engine/model.h"

typedef struct cache_folder {
    char *path; /* NULL: there is none, and nothing is found or kept */
    int64_t limit_bytes;
    atomic_bool noticed; /* that it cannot be written */
} cache_folder;

trol_status cache_folder_init(cache_folder *folder, const char *path, int64_t limit_bytes, trol_error *error);
void cache_folder_free(cache_folder *folder);

/* NULL where there is no such file, or one that is damaged. The shape of the embeddings must fit the model. */
image_embeds *cache_folder_read(cache_folder *folder, const unsigned char identity[IDENTITY_BYTES],
                                const trol_model *model);
/* The least recently used files make room. Where nothing can be written the model's log gets a warning, once. */
void cache_folder_write(cache_folder *folder, const unsigned char identity[IDENTITY_BYTES], const image_embeds *embeds,
                        const trol_model *model);

#endif
