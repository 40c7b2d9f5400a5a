/* weights.h - a checkpoint's tensors by their place in the model, each checked for shape and type.
 *
 * Matrices stay in the file (mapped); vectors are small and become float32. Names are data, in family.c. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "format/safetensors.h"
#include "kernels/linear.h"
#include "model/config.h"
#include "model/family.h"

/* H hidden_size, I intermediate_size, D head_dim; of the decoder here, of the encoder below. */
typedef struct decoder_layer_weights {
    const float *attention_norm; /* [H] */
    const float *ffn_norm;       /* [H] */
    linear qkv;                  /* [(n_heads + 2 n_kv_heads) D, H], rows at decoder_weights.q_offsets ... */
    linear attention_out;        /* [H, n_heads D] */
    linear gate, up;             /* [I, H] each, w1 and w3; or views of one matrix */
    linear down;                 /* [H, I] */
    const float *mixer_weight;   /* [H]: the TroL-Mixer's gate; layers with equal gates share it; NULL: none */
    float mixer_bias;
} decoder_layer_weights;

typedef struct decoder_weights {
    matrix embeddings;                    /* [n_tokens, H] */
    const float *norm;                    /* [H] */
    linear output;                        /* [vocab_size, H] */
    decoder_layer_weights *layers;        /* [n_layers] */
    bool has_gate;                        /* otherwise only the plain backbone can be computed */
    const int32_t *q_offsets;             /* [n_heads]: where query head h begins in a row of qkv */
    const int32_t *k_offsets, *v_offsets; /* [n_kv_heads] */
    const int32_t *qk_offsets;            /* [n_heads + n_kv_heads]: q_offsets, then k_offsets: the heads that rope
                                           * rotates */
} decoder_weights;

typedef struct vision_layer_weights {
    const float *norm1, *norm1_bias, *norm2, *norm2_bias; /* [H]; biases NULL with RMS norm */
    linear qkv[3];                                        /* [H, H] each: q, k, v; or views of one matrix */
    const float *q_norm, *k_norm;                         /* [H]; NULL: none */
    linear attention_out;                                 /* [H, H] */
    linear fc1, fc2;                                      /* [I, H], [H, I] */
    const float *scale1, *scale2;                         /* [H], ls1 and ls2; NULL: none */
} vision_layer_weights;

typedef struct vision_weights {
    linear patch;                          /* [H, 3 * patch * patch], columns channel by channel, row by row */
    const float *class_embedding;          /* [H] */
    const float *positions;                /* [1 + n_positions, H], the class token's first */
    int64_t n_positions;                   /* a square */
    const float *pre_norm, *pre_norm_bias; /* [H]; NULL: none */
    vision_layer_weights *layers;          /* [n_layers] */
} vision_weights;

typedef struct projector_weights {
    const float *norm, *norm_bias; /* [4 * vision H]; NULL: none */
    linear first, second;          /* [H, vision features], [H, H] */
} projector_weights;

typedef struct weights {
    decoder_weights decoder;
    vision_weights vision;
    projector_weights projector;
    tensor_source *source;
    int64_t n_parameters, n_bytes; /* of the tensors in use, bytes in memory or mapped */
    int64_t n_private_bytes;       /* of these in their own memory */
    struct owned_memory *owned;    /* vectors and tables, freed with the weights */
} weights;

/* The types asked for. TROL_WEIGHTS_AS_STORED: used as stored in the file. */
typedef struct weight_types {
    trol_weight_type decoder;
    trol_weight_type vision; /* of the encoder and the projector */
} weight_types;

/* The type that a matrix [rows, columns] of a role becomes, by the loader and by trol_quantize alike. With Q8 or Q4 the
 * matrices of the layers are packed (kernels/quantize.h); LoRA and the output head are at least Q8; embeddings, norms
 * and the gate are not packed, nor is a matrix whose columns are not a multiple of 32. */
element_type packing_of(tensor_role role, weight_types asked, element_type stored, int64_t columns);

/* How matrices are converted when loaded. The weights own converted ones. */
typedef struct weights_options {
    weight_types types;
    bool plain_backbone; /* a folder without a gate file loads as well */
    const kernels *kernels;
    trol_threads *threads;
    const logger *log;
    trol_progress_callback progress; /* stage LOAD, in bytes of the files; may be NULL */
    void *progress_user;
} weights_options;

/* Opens the folder's tensors and gate. Fills in sizes of `config` that only the tensors give. Packed matrices are used
 * as stored. */
trol_status weights_load(const char *folder, model_config *config, const weights_options *options, weights **result,
                         trol_error *error);
void weights_free(weights *w);

#endif
