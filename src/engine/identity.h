/* identity.h - what distinguishes images and models: BLAKE2b, so that nobody can make a second one of equal identity.
 *
 * A model is known by what is computed with, as it is in memory: a checkpoint that is packed while it is loaded and one
 * that trol_quantize packed before are the same model. Of each tensor the type, the shape and a fixed sample of the
 * bytes count (all of them, where they are few), so it takes milliseconds, once for a model. */
#ifndef ENGINE_IDENTITY_H
#define ENGINE_IDENTITY_H

#include <stddef.h>

#include "engine/model.h"

/* Of a model: config.json, every tensor in use, the gate, the tokenizer. */
trol_status identity_of_model(const trol_model *model, unsigned char identity[IDENTITY_BYTES], trol_error *error);

/* Of an encoded picture: the picture's size and pixels, the encoder and the projector, and how they are computed. */
trol_status identity_of_image(const trol_model *model, const trol_image *image, unsigned char identity[IDENTITY_BYTES],
                              trol_error *error);

enum { ARITHMETIC_BYTES = 256 };

/* How a model is computed here, as a line of text: the same line, the same bits. Zeros follow it. */
void identity_of_arithmetic(const trol_model *model, char text[ARITHMETIC_BYTES]);

#endif
