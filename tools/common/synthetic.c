#include "common/synthetic.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/gate_file.h"

/* ---- the published models ------------------------------------------------------------------------------------------
 */

typedef struct model_sizes model_sizes;

/* What is written for a family: tensors of the decoder and the encoder, and the text of config.json. */
typedef struct writer_family {
    void (*list_decoder)(random_tensor_list *list, const model_sizes *m);
    void (*list_vision)(random_tensor_list *list, const model_sizes *m);
    int (*config)(char *text, size_t bytes, const model_sizes *m);
} writer_family;

struct model_sizes {
    const char *name;
    const writer_family *family;
    int n_layers, n_vision_layers, hidden, intermediate, n_heads, n_kv_heads, vocab;
    double ntk_factor; /* InternLM2's rope_scaling */
};

enum {
    MAX_HIDDEN = 4096,
    LORA_RANK = 256,
    VISION_HIDDEN = 1024,
    VISION_INTERMEDIATE = 4096,
    PATCH = 14,
    CLIP_IMAGE = 490,
    INTERNVIT_IMAGE = 448,
};

/* ---- the tensors ---------------------------------------------------------------------------------------------------
 */

#define SHAPE(...) ((const int64_t[4]){__VA_ARGS__})

/* prefix.weight [out, in] whose output has `gain` times the deviation of its input, and with `bias` prefix.bias [out].
 */
static void add_linear(random_tensor_list *list, const char *prefix, int64_t out, int64_t in, double gain, bool bias) {
    random_tensor_add(list, 0, gain / sqrt((double)in), SHAPE(out, in), "%s.weight", prefix);
    if (bias)
        random_tensor_add(list, 0, 0.02, SHAPE(out), "%s.bias", prefix);
}

/* prefix.weight [size] near 1, and with `bias` prefix.bias near 0. */
static void add_norm(random_tensor_list *list, const char *prefix, int64_t size, bool bias) {
    random_tensor_add(list, 1, 0.05, SHAPE(size), "%s.weight", prefix);
    if (bias)
        random_tensor_add(list, 0, 0.02, SHAPE(size), "%s.bias", prefix);
}

/* InternLM2's linear with partial LoRA. */
static void add_lora_linear(random_tensor_list *list, int layer, const char *name, int64_t out, int64_t in,
                            double gain) {
    char prefix[80];
    snprintf(prefix, sizeof prefix, "model.layers.%d.%s", layer, name);
    random_tensor_add(list, 0, gain / sqrt((double)in), SHAPE(out, in), "%s.ffn.weight", prefix);
    random_tensor_add(list, 0, 1 / sqrt((double)in), SHAPE(LORA_RANK, in), "%s.lora_A.weight", prefix);
    random_tensor_add(list, 0, 0.3 * gain / sqrt(LORA_RANK), SHAPE(out, LORA_RANK), "%s.lora_B.weight", prefix);
}

/* Gain of the two linears of a layer that add to the residual stream: it grows about fourfold over 64 half layers. */
static const double branch_gain = 0.5;
/* Logits with a deviation of about 3. */
static const double head_gain = 3.0;

static void list_internlm2(random_tensor_list *list, const model_sizes *m) {
    int64_t hidden = m->hidden, ffn = m->intermediate, head_dim = hidden / m->n_heads;
    random_tensor_add(list, 0, 0.5, SHAPE(m->vocab + 1, hidden), "model.tok_embeddings.weight");
    add_linear(list, "output", m->vocab, hidden, head_gain, false);
    add_norm(list, "model.norm", hidden, false);
    for (int layer = 0; layer < m->n_layers; layer++) {
        char prefix[64];
        add_lora_linear(list, layer, "attention.wqkv", hidden + 2 * m->n_kv_heads * head_dim, hidden, 1);
        add_lora_linear(list, layer, "attention.wo", hidden, hidden, branch_gain);
        add_lora_linear(list, layer, "feed_forward.w1", ffn, hidden, 1);
        add_lora_linear(list, layer, "feed_forward.w3", ffn, hidden, 1);
        add_lora_linear(list, layer, "feed_forward.w2", hidden, ffn, branch_gain);
        snprintf(prefix, sizeof prefix, "model.layers.%d.attention_norm", layer);
        add_norm(list, prefix, hidden, false);
        snprintf(prefix, sizeof prefix, "model.layers.%d.ffn_norm", layer);
        add_norm(list, prefix, hidden, false);
    }
    add_linear(list, "vision_proj.0", hidden, VISION_HIDDEN, 1, true);
    add_linear(list, "vision_proj.2", hidden, hidden, 0.5, true);
}

static void list_clip(random_tensor_list *list, const model_sizes *m) {
    const char *top = "vit.vision_tower.vision_model";
    const int64_t size = VISION_HIDDEN, side = CLIP_IMAGE / PATCH;
    char prefix[96];
    random_tensor_add(list, 0, 0.5, SHAPE(size), "%s.embeddings.class_embedding", top);
    random_tensor_add(list, 0, 1 / sqrt(3.0 * PATCH * PATCH), SHAPE(size, 3, PATCH, PATCH),
                      "%s.embeddings.patch_embedding.weight", top);
    random_tensor_add(list, 0, 0.5, SHAPE(side * side + 1, size), "%s.embeddings.position_embedding.weight", top);
    snprintf(prefix, sizeof prefix, "%s.pre_layrnorm", top);
    add_norm(list, prefix, size, true);
    snprintf(prefix, sizeof prefix, "%s.post_layernorm", top);
    add_norm(list, prefix, size, true);
    static const char *const attention[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    for (int layer = 0; layer < m->n_vision_layers; layer++) {
        for (int i = 0; i < 4; i++) {
            snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.self_attn.%s", top, layer, attention[i]);
            add_linear(list, prefix, size, size, i == 3 ? branch_gain : 1, true);
        }
        snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.mlp.fc1", top, layer);
        add_linear(list, prefix, VISION_INTERMEDIATE, size, 1, true);
        snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.mlp.fc2", top, layer);
        add_linear(list, prefix, size, VISION_INTERMEDIATE, branch_gain, true);
        for (int i = 1; i <= 2; i++) {
            snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.layer_norm%d", top, layer, i);
            add_norm(list, prefix, size, true);
        }
    }
}

static void list_phi3(random_tensor_list *list, const model_sizes *m) {
    int64_t hidden = m->hidden, ffn = m->intermediate, head_dim = hidden / m->n_heads;
    const char *top = "language_model.model";
    char prefix[96];
    random_tensor_add(list, 0, 0.5, SHAPE(m->vocab, hidden), "%s.embed_tokens.weight", top);
    add_linear(list, "language_model.lm_head", m->vocab, hidden, head_gain, false);
    add_norm(list, "language_model.model.norm", hidden, false);
    for (int layer = 0; layer < m->n_layers; layer++) {
        snprintf(prefix, sizeof prefix, "%s.layers.%d.self_attn.qkv_proj", top, layer);
        add_linear(list, prefix, hidden + 2 * m->n_kv_heads * head_dim, hidden, 1, false);
        snprintf(prefix, sizeof prefix, "%s.layers.%d.self_attn.o_proj", top, layer);
        add_linear(list, prefix, hidden, hidden, branch_gain, false);
        snprintf(prefix, sizeof prefix, "%s.layers.%d.mlp.gate_up_proj", top, layer);
        add_linear(list, prefix, 2 * ffn, hidden, 1, false);
        snprintf(prefix, sizeof prefix, "%s.layers.%d.mlp.down_proj", top, layer);
        add_linear(list, prefix, hidden, ffn, branch_gain, false);
        snprintf(prefix, sizeof prefix, "%s.layers.%d.input_layernorm", top, layer);
        add_norm(list, prefix, hidden, false);
        snprintf(prefix, sizeof prefix, "%s.layers.%d.post_attention_layernorm", top, layer);
        add_norm(list, prefix, hidden, false);
    }
    add_norm(list, "vision_proj.0", 4 * VISION_HIDDEN, true);
    add_linear(list, "vision_proj.1", hidden, 4 * VISION_HIDDEN, 1, true);
    add_linear(list, "vision_proj.3", hidden, hidden, 0.5, true);
}

static void list_internvit(random_tensor_list *list, const model_sizes *m) {
    const char *top = "vision_model";
    const int64_t size = VISION_HIDDEN, side = INTERNVIT_IMAGE / PATCH;
    char prefix[96];
    random_tensor_add(list, 0, 0.5, SHAPE(1, 1, size), "%s.embeddings.class_embedding", top);
    random_tensor_add(list, 0, 1 / sqrt(3.0 * PATCH * PATCH), SHAPE(size, 3, PATCH, PATCH),
                      "%s.embeddings.patch_embedding.weight", top);
    random_tensor_add(list, 0, 0.02, SHAPE(size), "%s.embeddings.patch_embedding.bias", top);
    random_tensor_add(list, 0, 0.5, SHAPE(1, side * side + 1, size), "%s.embeddings.position_embedding", top);
    for (int layer = 0; layer < m->n_vision_layers; layer++) {
        snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.attn.qkv", top, layer);
        add_linear(list, prefix, 3 * size, size, 1, true);
        snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.attn.proj", top, layer);
        add_linear(list, prefix, size, size, 1, true);
        snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.mlp.fc1", top, layer);
        add_linear(list, prefix, VISION_INTERMEDIATE, size, 1, true);
        snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.mlp.fc2", top, layer);
        add_linear(list, prefix, size, VISION_INTERMEDIATE, 1, true);
        for (int i = 1; i <= 2; i++) {
            snprintf(prefix, sizeof prefix, "%s.encoder.layers.%d.norm%d", top, layer, i);
            add_norm(list, prefix, size, true);
            random_tensor_add(list, 0.4f, 0.05, SHAPE(size), "%s.encoder.layers.%d.ls%d", top, layer, i);
        }
    }
}

/* ---- config.json ---------------------------------------------------------------------------------------------------
 */

/* "[a, b, ...]": n factors that rise from `first` to `last`, as LongRoPE's do. */
static void factors_text(char *text, size_t bytes, int n, double first, double last) {
    size_t used = (size_t)snprintf(text, bytes, "[");
    for (int i = 0; i < n && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%.4f", i ? ", " : "",
                                 first * pow(last / first, (double)i / (n - 1)));
    if (used < bytes)
        snprintf(text + used, bytes - used, "]");
}

static int internlm2_config(char *text, size_t bytes, const model_sizes *m) {
    return snprintf(
        text, bytes,
        "{\n"
        "  \"bias\": false,\n  \"bos_token_id\": 1,\n  \"eos_token_id\": 2,\n  \"pad_token_id\": 2,\n"
        "  \"hidden_act\": \"silu\",\n  \"hidden_size\": %d,\n  \"img_size\": %d,\n"
        "  \"initializer_range\": 0.02,\n  \"intermediate_size\": %d,\n  \"max_length\": 4096,\n"
        "  \"max_position_embeddings\": 32768,\n  \"model_type\": \"internlm\",\n"
        "  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n  \"num_key_value_heads\": %d,\n"
        "  \"rms_norm_eps\": 1e-05,\n  \"rope_scaling\": {\n    \"factor\": %.1f,\n    \"type\": \"dynamic\"\n  },\n"
        "  \"rope_theta\": 1000000,\n  \"tie_word_embeddings\": false,\n  \"torch_dtype\": \"float32\",\n"
        "  \"vocab_size\": %d\n}\n",
        m->hidden, CLIP_IMAGE, m->intermediate, m->n_heads, m->n_layers, m->n_kv_heads, m->ntk_factor, m->vocab);
}

static int phi3_config(char *text, size_t bytes, const model_sizes *m) {
    int n_factors = m->hidden / m->n_heads / 2;
    char short_factor[1024], long_factor[1024];
    factors_text(short_factor, sizeof short_factor, n_factors, 1.05, 2.85);
    factors_text(long_factor, sizeof long_factor, n_factors, 1.03, 64.8);
    return snprintf(text, bytes,
                    "{\n  \"model_type\": \"trol\",\n  \"torch_dtype\": \"float16\",\n  \"llm_config\": {\n"
                    "    \"model_type\": \"phi3\",\n    \"vocab_size\": %d,\n    \"hidden_size\": %d,\n"
                    "    \"intermediate_size\": %d,\n    \"num_hidden_layers\": %d,\n    \"num_attention_heads\": %d,\n"
                    "    \"num_key_value_heads\": %d,\n    \"max_position_embeddings\": 131072,\n"
                    "    \"original_max_position_embeddings\": 4096,\n    \"rms_norm_eps\": 1e-05,\n"
                    "    \"rope_theta\": 10000.0,\n    \"rope_scaling\": {\n      \"type\": \"su\",\n"
                    "      \"short_factor\": %s,\n      \"long_factor\": %s\n    },\n    \"sliding_window\": 262144,\n"
                    "    \"hidden_act\": \"silu\",\n    \"bos_token_id\": 1,\n    \"eos_token_id\": 2,\n"
                    "    \"pad_token_id\": 2,\n    \"tie_word_embeddings\": false\n  },\n"
                    "  \"vision_config\": {\n    \"model_type\": \"intern_vit_6b\",\n    \"hidden_size\": %d,\n"
                    "    \"intermediate_size\": %d,\n    \"num_hidden_layers\": %d,\n    \"num_attention_heads\": 16,\n"
                    "    \"image_size\": %d,\n    \"patch_size\": %d,\n    \"norm_type\": \"layer_norm\",\n"
                    "    \"qkv_bias\": true,\n    \"qk_normalization\": false,\n    \"layer_norm_eps\": 1e-06,\n"
                    "    \"hidden_act\": \"gelu\",\n    \"use_flash_attn\": false\n  },\n"
                    "  \"select_layer\": -1,\n  \"force_image_size\": %d,\n  \"downsample_ratio\": 0.5,\n"
                    "  \"dynamic_image_size\": true,\n  \"use_thumbnail\": true,\n  \"ps_version\": \"v1\",\n"
                    "  \"min_dynamic_patch\": 1,\n  \"max_dynamic_patch\": 6\n}\n",
                    m->vocab, m->hidden, m->intermediate, m->n_layers, m->n_heads, m->n_kv_heads, short_factor,
                    long_factor, VISION_HIDDEN, VISION_INTERMEDIATE, m->n_vision_layers, INTERNVIT_IMAGE, PATCH,
                    INTERNVIT_IMAGE);
}

static const writer_family internlm2 = {list_internlm2, list_clip, internlm2_config},
                           phi3 = {list_phi3, list_internvit, phi3_config};

static const model_sizes published[] = {
    {"TroL-1.8B", &internlm2, 24, 24, 2048, 8192, 16, 8, 92544, 2.0},
    {"TroL-3.8B", &phi3, 32, 24, 3072, 8192, 32, 32, 32020, 0.0},
    {"TroL-7B", &internlm2, 32, 24, 4096, 14336, 32, 8, 92544, 1.0},
};

/* ---- the folder ----------------------------------------------------------------------------------------------------
 */

static bool write_config(checkpoint_writer *writer, const model_sizes *m) {
    char text[8192];
    int length = m->family->config(text, sizeof text, m);
    return writer_put(writer, "config.json", text, (size_t)length);
}

/* Activations have a deviation of 1 to 4, so tanh(w . y1 + b) spreads without saturating. */
static bool write_gate(checkpoint_writer *writer, const model_sizes *m, uint64_t seed) {
    unsigned char weight[2 * MAX_HIDDEN], bias[2];
    random_bf16(seed, "gate.weight", 0, 0.25 / sqrt(m->hidden), (size_t)m->hidden, weight);
    random_bf16(seed, "gate.bias", -0.25, 0, 1, bias);
    return gate_file_write(writer, m->n_layers, m->hidden, weight, bias);
}

static bool copy_tokenizer(checkpoint_writer *writer, const char *folder) {
    static const char *const optional[] = {"tokenizer_config.json", "added_tokens.json", "special_tokens_map.json",
                                           "tokenizer.json"};
    bool ok = writer_copy(writer, folder, "tokenizer.model", false);
    for (size_t i = 0; ok && i < sizeof optional / sizeof *optional; i++)
        ok = writer_copy(writer, folder, optional[i], true);
    return ok;
}

static bool check_space(const char *folder, int64_t needed, trol_error *error) {
    struct statvfs space;
    if (statvfs(folder, &space) != 0)
        return true;
    double free_bytes = (double)space.f_bavail * (double)space.f_frsize;
    return free_bytes >= (double)needed ||
           !fail(error, TROL_ERROR_IO, "the weights need %.2f GB, but the disk of %s has %.2f GB left",
                 (double)needed / 1e9, folder, free_bytes / 1e9);
}

static bool choose_model(const synthetic_options *options, model_sizes *m, trol_error *error) {
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (strcmp(options->model, published[i].name) == 0) {
            *m = published[i];
            m->n_layers = options->n_layers ? options->n_layers : m->n_layers;
            m->n_vision_layers = options->n_vision_layers ? options->n_vision_layers : m->n_vision_layers;
            return true;
        }
    return !fail(error, TROL_ERROR_ARGUMENT, "the model is %s, expected TroL-1.8B, TroL-3.8B or TroL-7B",
                 options->model);
}

bool synthetic_write(const synthetic_options *options, synthetic_result *result, trol_error *error) {
    model_sizes m;
    if (!choose_model(options, &m, error))
        return false;
    if (mkdir(options->folder, 0777) != 0 && errno != EEXIST)
        return !fail(error, TROL_ERROR_IO, "the folder %s cannot be made: %s", options->folder, strerror(errno));
    random_tensor_list list = {0};
    m.family->list_decoder(&list, &m);
    m.family->list_vision(&list, &m);
    bool ok = !list.failed || !fail(error, TROL_ERROR_MEMORY, "out of memory");
    checkpoint_writer *writer = calloc(1, sizeof *writer);
    ok = ok && (writer || !fail(error, TROL_ERROR_MEMORY, "out of memory"));
    if (ok) {
        *result = (synthetic_result){m.n_layers, list.count, random_tensor_list_bytes(&list, options->type)};
        writer->folder = options->folder;
        writer->force = options->force;
        writer->cancel = options->cancel;
        writer->error = error;
        ok = check_space(options->folder, result->weight_bytes, error) && write_config(writer, &m) &&
             write_gate(writer, &m, options->seed) &&
             (!options->tokenizer || copy_tokenizer(writer, options->tokenizer)) &&
             random_weights_write(writer, &list, options->type, options->seed, options->progress);
        ok = writer_finish(writer, ok);
    }
    free(writer);
    free(list.tensors);
    return ok;
}
