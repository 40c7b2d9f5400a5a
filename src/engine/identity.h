/* identity.h - what tells pictures and models apart: BLAKE2b, so that nobody can make a second one of equal identity.
 */
#ifndef ENGINE_IDENTITY_H
#define ENGINE_IDENTITY_H

#include <stddef.h>

#include "engine/model.h"

/* Of a model: its sizes, and the norms and gate of each layer. */
trol_status identity_of_model(const trol_model *model, unsigned char identity[IDENTITY_BYTES], trol_error *error);

/* Of an encoded picture: the picture's size and pixels, the model, and the arithmetic of its encoder. */
trol_status identity_of_image(const trol_model *model, const trol_image *image, unsigned char identity[IDENTITY_BYTES],
                              trol_error *error);

#endif
