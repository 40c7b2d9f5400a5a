/* vision.h - images to features: one encoder for CLIP and InternViT, then the projector. */
#ifndef MODEL_VISION_H
#define MODEL_VISION_H

#include "kernels/linear.h"
#include "model/config.h"
#include "model/weights.h"
#include "trol.h"

/* An encoder with its projector and the arithmetic of its large products. */
typedef struct vision {
    const model_config *config;
    const vision_weights *weights;
    const projector_weights *projector;
    linear_arithmetic arithmetic;
} vision;

/* The tiles of an image as the model's family cuts, resizes and normalizes them: *pixels [n_tiles, 3, S, S], S the
 * config's image_size. Free with memory_free. */
trol_status vision_pixels(const model_config *config, const trol_image *image, float **pixels, int32_t *n_tiles,
                          trol_error *error);

/* Encodes tiles: pixels [n_tiles, 3, S, S], features [n_tiles * tokens_per_tile, feature width]. */
trol_status vision_encode(const run *r, const vision *v, const float *pixels, int32_t n_tiles, float *features,
                          atomic_llong *progress);
/* What one call of vision_encode adds to *progress. */
int64_t vision_progress_units(const model_config *config, int32_t n_tiles);

/* embeddings [n_rows, decoder hidden_size] from features [n_rows, feature width]. */
trol_status vision_project(const run *r, const vision *v, const float *features, int64_t n_rows, float *embeddings);

#endif
