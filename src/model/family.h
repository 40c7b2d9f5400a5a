/* family.h - what distinguishes the families of models, as one row of data each. Nothing outside family.c tests which
 * family a model belongs to: a new family is a new row. */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H

#include <stddef.h>

#include "model/config.h"

/* A family's prompt template. A conversation is
 *
 *     begin (system_open SYSTEM system_close)? (user_open USER user_close assistant_open ANSWER assistant_close)*
 *     user_open USER user_close assistant_open
 *
 * and each image is image_open, its image tokens, image_close. */
typedef struct prompt_template {
    const char *begin; /* "<s>" */
    const char *system_open, *system_close;
    const char *user_open, *user_close;
    const char *assistant_open, *assistant_close;
    const char *image_open, *image_close; /* around an image's tokens: "<img>", "</img>", or "" */
    const char *image_token;              /* "<image>" or "<IMG_CONTEXT>" */
    const char *const *end_tokens;        /* that end an answer, NULL-terminated */
    const char *const *special_tokens;    /* all special tokens in the texts above, NULL-terminated */
} prompt_template;

/* The tensors of a model. */
typedef enum tensor_id {
    TENSOR_EMBEDDINGS,
    TENSOR_NORM,
    TENSOR_OUTPUT,
    /* of a decoder layer; GATE_UP is both in one matrix, or there are GATE and UP */
    TENSOR_ATTENTION_NORM,
    TENSOR_FFN_NORM,
    TENSOR_QKV,
    TENSOR_ATTENTION_OUT,
    TENSOR_GATE,
    TENSOR_UP,
    TENSOR_GATE_UP,
    TENSOR_DOWN,
    /* of the encoder */
    TENSOR_CLASS_EMBEDDING,
    TENSOR_POSITIONS,
    TENSOR_PATCH,
    TENSOR_PATCH_BIAS,
    TENSOR_PRE_NORM,
    /* of an encoder layer; VISION_QKV is all three in one matrix, or there are Q, K and V */
    TENSOR_VISION_NORM1,
    TENSOR_VISION_NORM2,
    TENSOR_VISION_Q,
    TENSOR_VISION_K,
    TENSOR_VISION_V,
    TENSOR_VISION_QKV,
    TENSOR_VISION_Q_NORM,
    TENSOR_VISION_K_NORM,
    TENSOR_VISION_OUT,
    TENSOR_VISION_FC1,
    TENSOR_VISION_FC2,
    TENSOR_VISION_SCALE1,
    TENSOR_VISION_SCALE2,
    /* of the projector */
    TENSOR_PROJECTOR_NORM,
    TENSOR_PROJECTOR_FIRST,
    TENSOR_PROJECTOR_SECOND,
    N_TENSORS
} tensor_id;

/* The purpose of a tensor, which decides how it is packed. */
typedef enum tensor_role {
    ROLE_OTHER,   /* embeddings, norms, the convolution: stays as stored */
    ROLE_DECODER, /* a matrix of a decoder layer */
    ROLE_OUTPUT,  /* the output head */
    ROLE_LORA,    /* either matrix of a LoRA pair */
    ROLE_VISION   /* a matrix of the encoder's layers or of the projector */
} tensor_role;

/* The order of heads in the rows of the fused query, key and value projection. */
typedef enum qkv_order {
    QKV_BY_KIND,   /* all queries, all keys, all values */
    QKV_BY_KV_HEAD /* for each key head its queries, its key, its value */
} qkv_order;

/* How an image becomes pixels. */
typedef struct image_recipe {
    bool tiled;      /* a grid of tiles and a thumbnail, resized like Pillow; else one square, resized like torch */
    bool unit_range; /* (p / 255 - mean) / std; else (p - 255 mean) / (255 std) */
    float mean[3], std[3];
} image_recipe;

struct model_family {
    const char *name;                /* "internlm2-clip" */
    const char *model_type;          /* config.json's own */
    const char *decoder_model_type;  /* in llm_config or text_config, which must be present; NULL: the whole file */
    decoder_config decoder;          /* defaults for config.json; sizes of 0 must be given */
    vision_config vision;            /* likewise */
    bool vision_from_tensors;        /* sizes that config.json does not give are those of the tensors */
    const char *bias_key;            /* of the attention's biases; NULL: none */
    const char *image_size_key;      /* at the top, takes precedence over vision_config.image_size */
    bool image_size_required;        /* at the top; vision_config's is ignored */
    unsigned rope_types;             /* a bit 1 << ROPE_... for each type that the family may have */
    int32_t image_token;             /* of the published model; 0: the one after the vocabulary */
    const char *tensors[N_TENSORS];  /* names, %d is the layer; with a '.' at the end: weight or bias follows */
    const char *const *idle_tensors; /* parts of the names of unused tensors that files may have, NULL-terminated */
    const char *linear_suffix;       /* between a decoder linear's name and "weight" */
    bool lora;                       /* on the decoder's linears, for image tokens */
    qkv_order qkv;
    bool exact_positions; /* as many position embeddings as patches; else they are resized */
    bool pixel_shuffle;   /* four neighbouring tokens become one */
    image_recipe image;
    bool dummy_prefix; /* of the tokenizer: each run of text gets a leading space */
    prompt_template prompt;
};

/* The row for config.json's model_type; NULL: none. */
const model_family *family_find(const char *model_type);
/* Row i; NULL past the last. */
const model_family *family_at(size_t i);

enum { FAMILY_NAME_BYTES = 256 };

/* The name of a tensor, `suffix` appended: one of "", "weight", "bias", "lora_A.weight", "lora_B.weight". */
void family_tensor_name(const model_family *family, tensor_id id, int64_t layer, const char *suffix,
                        char name[FAMILY_NAME_BYTES]);
/* The role of a tensor by its id or its name; ROLE_OTHER for names that the family does not have. */
tensor_role family_role(tensor_id id);
tensor_role family_role_of_name(const model_family *family, const char *name);

#endif
