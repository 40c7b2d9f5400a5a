/* identity.h - what distinguishes images and models: BLAKE2b, so that nobody can make another one with the same
 * identity.
 *
 * A model's identity is that of its weights as they are in memory: a checkpoint that is packed while it is loaded and
 * one that trol_quantize packed before are the same model. It covers each tensor's type, shape and a fixed sample of
 * its bytes (all of a small tensor), and takes milliseconds, once for a model. */
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

/* How a model is computed here, as a line of text padded with zeros: the same line, the same bits. */
void identity_of_arithmetic(const trol_model *model, char text[ARITHMETIC_BYTES]);

#endif
