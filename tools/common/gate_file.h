/* gate_file.h - writes trol_gating.pt as torch.save does: a zip of a pickle and two storages. */
#ifndef TOOLS_GATE_FILE_H
#define TOOLS_GATE_FILE_H

#include "common/checkpoint_writer.h"

/* One gate for all layers: weight [hidden] and bias [1] in BF16, little-endian bytes. hidden is below 65,536. */
bool gate_file_write(checkpoint_writer *writer, int n_layers, int hidden, const unsigned char *weight,
                     const unsigned char *bias);

#endif
