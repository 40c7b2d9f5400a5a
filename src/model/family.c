#include "model/family.h"

#include <stdio.h>
#include <string.h>

#define CLIP            "vit.vision_tower.vision_model."
#define CLIP_LAYER      CLIP "encoder.layers.%d."
#define PHI3            "language_model.model."
#define PHI3_LAYER      PHI3 "layers.%d."
#define INTERNVIT       "vision_model."
#define INTERNVIT_LAYER INTERNVIT "encoder.layers.%d."

static const model_family families[] = {
    {.name = "internlm2-clip",
     .model_type = "internlm",
     .decoder = {.rms_norm_eps = 1e-6f,
                 .attention_bias = true,
                 .sliding_window = INT64_MAX,
                 .max_positions = 2048,
                 .rope = {.theta = 10000, .factor = 1},
                 .bos_token = 1,
                 .eos_tokens = {2},
                 .image_token = -1},
     .vision = {.n_heads = 16,
                .patch_size = 14,
                .norm = NORM_LAYER,
                .norm_eps = 1e-5f,
                .quick_gelu = true,
                .qkv_bias = true,
                .max_tiles = 1},
     .vision_from_tensors = true,
     .bias_key = "bias",
     .image_size_key = "img_size",
     .image_size_required = true,
     .rope_types = 1 << ROPE_PLAIN | 1 << ROPE_DYNAMIC_NTK,
     .tensors = {[TENSOR_EMBEDDINGS] = "model.tok_embeddings.weight",
                 [TENSOR_NORM] = "model.norm.weight",
                 [TENSOR_OUTPUT] = "output.weight",
                 [TENSOR_ATTENTION_NORM] = "model.layers.%d.attention_norm.weight",
                 [TENSOR_FFN_NORM] = "model.layers.%d.ffn_norm.weight",
                 [TENSOR_QKV] = "model.layers.%d.attention.wqkv.",
                 [TENSOR_ATTENTION_OUT] = "model.layers.%d.attention.wo.",
                 [TENSOR_GATE] = "model.layers.%d.feed_forward.w1.",
                 [TENSOR_UP] = "model.layers.%d.feed_forward.w3.",
                 [TENSOR_DOWN] = "model.layers.%d.feed_forward.w2.",
                 [TENSOR_CLASS_EMBEDDING] = CLIP "embeddings.class_embedding",
                 [TENSOR_POSITIONS] = CLIP "embeddings.position_embedding.weight",
                 [TENSOR_PATCH] = CLIP "embeddings.patch_embedding.weight",
                 [TENSOR_PRE_NORM] = CLIP "pre_layrnorm.",
                 [TENSOR_VISION_NORM1] = CLIP_LAYER "layer_norm1.",
                 [TENSOR_VISION_NORM2] = CLIP_LAYER "layer_norm2.",
                 [TENSOR_VISION_Q] = CLIP_LAYER "self_attn.q_proj.",
                 [TENSOR_VISION_K] = CLIP_LAYER "self_attn.k_proj.",
                 [TENSOR_VISION_V] = CLIP_LAYER "self_attn.v_proj.",
                 [TENSOR_VISION_OUT] = CLIP_LAYER "self_attn.out_proj.",
                 [TENSOR_VISION_FC1] = CLIP_LAYER "mlp.fc1.",
                 [TENSOR_VISION_FC2] = CLIP_LAYER "mlp.fc2.",
                 [TENSOR_PROJECTOR_FIRST] = "vision_proj.0.",
                 [TENSOR_PROJECTOR_SECOND] = "vision_proj.2."},
     .idle_tensors = (const char *const[]){"post_layernorm.", "position_ids", "rotary_emb.inv_freq", NULL},
     .linear_suffix = "ffn.",
     .lora = true,
     .qkv = QKV_BY_KV_HEAD,
     .exact_positions = true,
     .image = {.mean = {0.48145466f, 0.4578275f, 0.40821073f}, .std = {0.26862954f, 0.26130258f, 0.27577711f}},
     .prompt = {.begin = "<s>",
                .system_open = "[UNUSED_TOKEN_146]system\n",
                .system_close = "[UNUSED_TOKEN_145]\n",
                .user_open = "[UNUSED_TOKEN_146]user\n",
                .user_close = "[UNUSED_TOKEN_145]\n",
                .assistant_open = "[UNUSED_TOKEN_146]assistant\n",
                .assistant_close = "[UNUSED_TOKEN_145]\n",
                .image_open = "",
                .image_close = "",
                .image_token = "<image>",
                .end_tokens = (const char *const[]){"[UNUSED_TOKEN_145]", "</s>", NULL},
                .special_tokens =
                    (const char *const[]){"<s>", "[UNUSED_TOKEN_146]", "[UNUSED_TOKEN_145]", "<image>", NULL}}},

    {.name = "phi3-internvit",
     .model_type = "trol",
     .decoder_model_type = "phi3",
     .decoder = {.rms_norm_eps = 1e-5f,
                 .sliding_window = INT64_MAX,
                 .max_positions = 4096,
                 .rope = {.theta = 10000, .factor = 1, .original_max_positions = 4096},
                 .bos_token = 1,
                 .eos_tokens = {32000},
                 .image_token = -1},
     .vision = {.patch_size = 14, .norm = NORM_RMS, .norm_eps = 1e-6f, .qk_norm = true, .max_tiles = 6},
     .image_size_key = "force_image_size",
     .rope_types = 1 << ROPE_PLAIN | 1 << ROPE_SU | 1 << ROPE_YARN,
     .image_token = 32013,
     .tensors = {[TENSOR_EMBEDDINGS] = PHI3 "embed_tokens.weight",
                 [TENSOR_NORM] = PHI3 "norm.weight",
                 [TENSOR_OUTPUT] = "language_model.lm_head.weight",
                 [TENSOR_ATTENTION_NORM] = PHI3_LAYER "input_layernorm.weight",
                 [TENSOR_FFN_NORM] = PHI3_LAYER "post_attention_layernorm.weight",
                 [TENSOR_QKV] = PHI3_LAYER "self_attn.qkv_proj.",
                 [TENSOR_ATTENTION_OUT] = PHI3_LAYER "self_attn.o_proj.",
                 [TENSOR_GATE_UP] = PHI3_LAYER "mlp.gate_up_proj.",
                 [TENSOR_DOWN] = PHI3_LAYER "mlp.down_proj.",
                 [TENSOR_CLASS_EMBEDDING] = INTERNVIT "embeddings.class_embedding",
                 [TENSOR_POSITIONS] = INTERNVIT "embeddings.position_embedding",
                 [TENSOR_PATCH] = INTERNVIT "embeddings.patch_embedding.weight",
                 [TENSOR_PATCH_BIAS] = INTERNVIT "embeddings.patch_embedding.bias",
                 [TENSOR_VISION_NORM1] = INTERNVIT_LAYER "norm1.",
                 [TENSOR_VISION_NORM2] = INTERNVIT_LAYER "norm2.",
                 [TENSOR_VISION_QKV] = INTERNVIT_LAYER "attn.qkv.",
                 [TENSOR_VISION_Q_NORM] = INTERNVIT_LAYER "attn.q_norm.weight",
                 [TENSOR_VISION_K_NORM] = INTERNVIT_LAYER "attn.k_norm.weight",
                 [TENSOR_VISION_OUT] = INTERNVIT_LAYER "attn.proj.",
                 [TENSOR_VISION_FC1] = INTERNVIT_LAYER "mlp.fc1.",
                 [TENSOR_VISION_FC2] = INTERNVIT_LAYER "mlp.fc2.",
                 [TENSOR_VISION_SCALE1] = INTERNVIT_LAYER "ls1",
                 [TENSOR_VISION_SCALE2] = INTERNVIT_LAYER "ls2",
                 [TENSOR_PROJECTOR_NORM] = "vision_proj.0.",
                 [TENSOR_PROJECTOR_FIRST] = "vision_proj.1.",
                 [TENSOR_PROJECTOR_SECOND] = "vision_proj.3."},
     .idle_tensors = (const char *const[]){"position_ids", "rotary_emb.inv_freq", NULL},
     .linear_suffix = "",
     .qkv = QKV_BY_KIND,
     .pixel_shuffle = true,
     .image = {.tiled = true, .unit_range = true, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}},
     .dummy_prefix = true,
     .prompt = {.begin = "<s>",
                .system_open = "<|system|>\n",
                .system_close = "<|end|>\n",
                .user_open = "<|user|>\n",
                .user_close = "<|end|>\n",
                .assistant_open = "<|assistant|>\n",
                .assistant_close = "<|end|>\n",
                .image_open = "<img>",
                .image_close = "</img>",
                .image_token = "<IMG_CONTEXT>",
                .end_tokens = (const char *const[]){"<|end|>", "<|endoftext|>", "</s>", NULL},
                .special_tokens = (const char *const[]){"<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
                                                        "<img>", "</img>", "<IMG_CONTEXT>", NULL}}}};

const model_family *family_at(size_t i) { return i < sizeof families / sizeof *families ? &families[i] : NULL; }

const model_family *family_find(const char *model_type) {
    const model_family *family;
    for (size_t i = 0; (family = family_at(i)); i++)
        if (strcmp(family->model_type, model_type) == 0)
            return family;
    return NULL;
}

/* ---- names of tensors ------------------------------------------------------------------------ */

static const char *suffix_of_linear(const model_family *family, tensor_id id) {
    return family_role(id) == ROLE_DECODER ? family->linear_suffix : "";
}

void family_tensor_name(const model_family *family, tensor_id id, int64_t layer, const char *suffix,
                        char name[FAMILY_NAME_BYTES]) {
    const char *pattern = family->tensors[id], *hole = strstr(pattern, "%d");
    const char *middle = strncmp(suffix, "lora_", 5) == 0 || !*suffix ? "" : suffix_of_linear(family, id);
    if (hole)
        snprintf(name, FAMILY_NAME_BYTES, "%.*s%lld%s%s%s", (int)(hole - pattern), pattern, (long long)layer, hole + 2,
                 middle, suffix);
    else
        snprintf(name, FAMILY_NAME_BYTES, "%s%s%s", pattern, middle, suffix);
}

tensor_role family_role(tensor_id id) {
    switch (id) {
    case TENSOR_QKV:
    case TENSOR_ATTENTION_OUT:
    case TENSOR_GATE:
    case TENSOR_UP:
    case TENSOR_GATE_UP:
    case TENSOR_DOWN:
        return ROLE_DECODER;
    case TENSOR_OUTPUT:
        return ROLE_OUTPUT;
    case TENSOR_VISION_Q:
    case TENSOR_VISION_K:
    case TENSOR_VISION_V:
    case TENSOR_VISION_QKV:
    case TENSOR_VISION_OUT:
    case TENSOR_VISION_FC1:
    case TENSOR_VISION_FC2:
    case TENSOR_PROJECTOR_FIRST:
    case TENSOR_PROJECTOR_SECOND:
        return ROLE_VISION;
    default:
        return ROLE_OTHER;
    }
}

/* What follows the pattern in the name (%d stands for a layer's number); NULL: the name does not match. */
static const char *after_pattern(const char *pattern, const char *name) {
    const char *hole = strstr(pattern, "%d");
    const size_t head = hole ? (size_t)(hole - pattern) : strlen(pattern);
    if (strncmp(name, pattern, head) != 0)
        return NULL;
    name += head;
    if (!hole)
        return name;
    const size_t digits = strspn(name, "0123456789"), tail = strlen(hole + 2);
    return digits > 0 && strncmp(name + digits, hole + 2, tail) == 0 ? name + digits + tail : NULL;
}

tensor_role family_role_of_name(const model_family *family, const char *name) {
    for (int id = 0; id < N_TENSORS; id++) {
        const char *rest = family->tensors[id] ? after_pattern(family->tensors[id], name) : NULL;
        const tensor_role role = family_role((tensor_id)id);
        if (!rest || role == ROLE_OTHER)
            continue;
        const char *middle = suffix_of_linear(family, (tensor_id)id);
        if (role == ROLE_OUTPUT
                ? !*rest
                : strncmp(rest, middle, strlen(middle)) == 0 && strcmp(rest + strlen(middle), "weight") == 0)
            return role;
        if (family->lora && role == ROLE_DECODER &&
            (strcmp(rest, "lora_A.weight") == 0 || strcmp(rest, "lora_B.weight") == 0))
            return ROLE_LORA;
    }
    return ROLE_OTHER;
}
