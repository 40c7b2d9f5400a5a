/* config.c - from config.json to numbers. The keys that are read are listed in tables; defaults for what a family's
 * config.json may omit are in its row of family.c; keys that are not read are judged in config_keys.c. The limits are
 * far above any model of these families and far below overflow: the product of any three sizes fits an int64_t.
 *
 * Files from several versions of transformers are read: rope_scaling (4.x) and rope_parameters (5.x), `type` and
 * `rope_type`, llm_config and text_config. Where a file gives the same thing in two places, both must agree. */
#include "model/config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/download.h"
#include "format/json.h"
#include "model/config_keys.h"
#include "model/family.h"
#include "model/rope.h"

enum {
    MAX_CONFIG_BYTES = 16 << 20,
    MAX_SIZE = 1 << 20,
    MAX_LAYERS = 1024,
    MAX_HEADS = 4096,
    MAX_IMAGE_SIZE = 8192,
    MAX_TOKEN = 1 << 24
};

static const char file[] = "config.json";

int64_t config_tokens_per_tile(const model_config *config) {
    const int64_t side = config->vision.image_size / config->vision.patch_size;
    return config->family->pixel_shuffle ? (side / 2) * (side / 2) : side * side;
}

int64_t config_feature_width(const model_config *config) {
    return config->vision.hidden_size * (config->family->pixel_shuffle ? 4 : 1);
}

int32_t config_max_tiles(const model_config *config) {
    const int32_t tiles = config->vision.max_tiles;
    return tiles > 1 ? tiles + 1 : 1;
}

int32_t config_image_token(const model_config *config) {
    const int64_t vocab = config->decoder.vocab_size, published = config->family->image_token;
    if (config->decoder.image_token >= 0)
        return (int32_t)config->decoder.image_token;
    return (int32_t)(published == 0 ? vocab : published < vocab ? published : vocab - 1);
}

int64_t config_trained_positions(const decoder_config *config) {
    const double factor = config->rope.type == ROPE_DYNAMIC_NTK ? config->rope.factor : 1;
    return (int64_t)((double)config->max_positions * factor);
}

/* ---- where a key is given -------------------------------------------------------------------- */

enum { PATH_BYTES = 160, PREFIX_BYTES = 96 };

/* An object of the file and the keys of the objects around it: "llm_config.". */
typedef struct place {
    const cJSON *object;
    char prefix[PREFIX_BYTES];
} place;

/* The places where a group of keys may be given, the most usual first. */
typedef struct section {
    place places[6];
    int n_places;
} section;

static const cJSON *member(const cJSON *object, const char *key) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(value) ? NULL : value;
}

static void add_place(section *s, const cJSON *object, const char *prefix) {
    place *p = &s->places[s->n_places++];
    p->object = object;
    snprintf(p->prefix, sizeof p->prefix, "%s", prefix);
}

/* Adds the object that the key gives in each place of `around`. */
static trol_status add_objects(section *s, const section *around, const char *key, trol_error *error) {
    for (int i = 0; i < around->n_places; i++) {
        char path[PREFIX_BYTES];
        const cJSON *object;
        snprintf(path, sizeof path, "%.60s%s", around->places[i].prefix, key);
        TRY(json_object_or_null(around->places[i].object, file, path, &object, error));
        snprintf(path, sizeof path, "%.60s%s.", around->places[i].prefix, key);
        if (object)
            add_place(s, object, path);
    }
    return TROL_OK;
}

/* The object that gives the key, and the key's path; all objects that give it must agree. If none does: the first
 * place. */
static trol_status find_place(const section *s, const char *key, const cJSON **object, char path[PATH_BYTES],
                              trol_error *error) {
    const cJSON *value = NULL;
    *object = s->places[0].object;
    snprintf(path, PATH_BYTES, "%s%s", s->places[0].prefix, key);
    for (int i = 0; i < s->n_places; i++) {
        const cJSON *other = member(s->places[i].object, key);
        if (other && value && !cJSON_Compare(value, other, true))
            return fail(error, TROL_ERROR_FORMAT, "%s: %s and %s%s contradict each other", file, path,
                        s->places[i].prefix, key);
        if (!other || value)
            continue;
        value = other;
        *object = s->places[i].object;
        snprintf(path, PATH_BYTES, "%s%s", s->places[i].prefix, key);
    }
    return TROL_OK;
}

/* ---- tables of keys -------------------------------------------------------------------------- */

typedef enum field_type { FIELD_INT64, FIELD_INT32, FIELD_FLOAT, FIELD_DOUBLE, FIELD_BOOL } field_type;

/* A member of a config struct, which keeps its value where the key is absent or null. */
typedef struct field {
    const char *key;
    field_type type;
    size_t offset;
    int64_t smallest, largest;
    bool required; /* unless the struct holds more than 0 */
} field;

#define DECODER(member) offsetof(decoder_config, member)
static const field decoder_fields[] = {
    {"vocab_size", FIELD_INT64, DECODER(vocab_size), 1, MAX_TOKEN, true},
    {"hidden_size", FIELD_INT64, DECODER(hidden_size), 1, MAX_SIZE, true},
    {"intermediate_size", FIELD_INT64, DECODER(intermediate_size), 1, MAX_SIZE, true},
    {"num_hidden_layers", FIELD_INT64, DECODER(n_layers), 1, MAX_LAYERS, true},
    {"num_attention_heads", FIELD_INT32, DECODER(n_heads), 1, MAX_HEADS, true},
    {"num_key_value_heads", FIELD_INT32, DECODER(n_kv_heads), 1, MAX_HEADS, false},
    {"head_dim", FIELD_INT32, DECODER(head_dim), 1, MAX_SIZE, false},
    {"rms_norm_eps", FIELD_FLOAT, DECODER(rms_norm_eps), 0, 1, false},
    {"tie_word_embeddings", FIELD_BOOL, DECODER(tie_word_embeddings), 0, 1, false},
    {"max_position_embeddings", FIELD_INT64, DECODER(max_positions), 1, (int64_t)1 << 31, false},
    {"sliding_window", FIELD_INT64, DECODER(sliding_window), 1, (int64_t)1 << 40, false},
    {"image_token_index", FIELD_INT64, DECODER(image_token), 0, MAX_TOKEN, false},
    {"image_token_id", FIELD_INT64, DECODER(image_token), 0, MAX_TOKEN, false},
    {NULL}};

/* Also of the decoder; a file of several parts has its own at the top. */
static const field token_fields[] = {{"bos_token_id", FIELD_INT32, DECODER(bos_token), 0, MAX_TOKEN, false}, {NULL}};

/* Of the rope_config, next to the scaling or, since transformers 5, in it. */
static const field rope_fields[] = {{"rope_theta", FIELD_DOUBLE, offsetof(rope_config, theta), 1, 1000000000000, false},
                                    {"original_max_position_embeddings", FIELD_INT64,
                                     offsetof(rope_config, original_max_positions), 1, (int64_t)1 << 31, false},
                                    {NULL}};

#define VISION(member) offsetof(vision_config, member)
static const field vision_fields[] = {{"hidden_size", FIELD_INT64, VISION(hidden_size), 1, MAX_SIZE, true},
                                      {"intermediate_size", FIELD_INT64, VISION(intermediate_size), 1, MAX_SIZE, true},
                                      {"num_hidden_layers", FIELD_INT64, VISION(n_layers), 1, MAX_LAYERS, true},
                                      {"num_attention_heads", FIELD_INT32, VISION(n_heads), 1, MAX_HEADS, true},
                                      {"patch_size", FIELD_INT32, VISION(patch_size), 1, 1024, true},
                                      {"layer_norm_eps", FIELD_FLOAT, VISION(norm_eps), 0, 1, false},
                                      {"qkv_bias", FIELD_BOOL, VISION(qkv_bias), 0, 1, false},
                                      {"qk_normalization", FIELD_BOOL, VISION(qk_norm), 0, 1, false},
                                      {NULL}};

static trol_status read_field(const section *s, const field *f, bool may_be_absent, void *config, trol_error *error) {
    void *value = (char *)config + f->offset;
    int64_t *int64 = value, integer;
    int32_t *int32 = value;
    float *float32 = value;
    double number;
    char path[PATH_BYTES];
    const cJSON *object;
    TRY(find_place(s, f->key, &object, path, error));
    switch (f->type) {
    case FIELD_INT64:
    case FIELD_INT32:
        integer = f->type == FIELD_INT64 ? *int64 : *int32;
        if (f->required && integer == 0 && !may_be_absent)
            TRY(json_integer(object, file, path, f->smallest, f->largest, &integer, error));
        else
            TRY(json_integer_or(object, file, path, integer, f->smallest, f->largest, &integer, error));
        if (f->type == FIELD_INT64)
            *int64 = integer;
        else
            *int32 = (int32_t)integer;
        return TROL_OK;
    case FIELD_FLOAT:
        TRY(json_number_or(object, file, path, *float32, (double)f->smallest, (double)f->largest, &number, error));
        *float32 = (float)number;
        return TROL_OK;
    case FIELD_DOUBLE:
        return json_number_or(object, file, path, *(double *)value, (double)f->smallest, (double)f->largest, value,
                              error);
    case FIELD_BOOL:
        break;
    }
    return json_bool_or(object, file, path, *(bool *)value, value, error);
}

static trol_status read_fields(const section *s, const field *fields, bool may_be_absent, void *config,
                               trol_error *error) {
    for (const field *f = fields; f->key; f++)
        TRY(read_field(s, f, may_be_absent, config, error));
    return TROL_OK;
}

/* ---- rope ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    rope_type type;
} rope_names[] = {{"default", ROPE_PLAIN},
                  {"dynamic", ROPE_DYNAMIC_NTK},
                  {"su", ROPE_SU},
                  {"longrope", ROPE_SU},
                  {"yarn", ROPE_YARN}};

static trol_status rope_type_of(const model_family *family, const char *path, const cJSON *value, rope_type *type,
                                trol_error *error) {
    char expected[96] = "";
    for (size_t i = 0; i < sizeof rope_names / sizeof *rope_names; i++) {
        if (!(family->rope_types >> rope_names[i].type & 1))
            continue;
        *type = rope_names[i].type;
        if (cJSON_IsString(value) && strcmp(value->valuestring, rope_names[i].name) == 0)
            return TROL_OK;
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s\"%s\"", *expected ? ", " : "",
                 rope_names[i].name);
    }
    return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is \"%.80s\", expected one of %s", file, path,
                cJSON_IsString(value) ? value->valuestring : "not a text", expected);
}

/* `type` or `rope_type` of all places that scale. Without one, rope_parameters may hold only theta. */
static trol_status read_rope_type(const section *scaling, const model_family *family, rope_type *type,
                                  trol_error *error) {
    static const char *const keys[] = {"type", "rope_type"};
    char path[PATH_BYTES], first[PATH_BYTES] = "";
    for (int i = 0; i < 2 * scaling->n_places; i++) {
        const place *p = &scaling->places[i / 2];
        const cJSON *value = member(p->object, keys[i % 2]);
        rope_type found;
        if (!value)
            continue;
        snprintf(path, sizeof path, "%s%s", p->prefix, keys[i % 2]);
        TRY(rope_type_of(family, path, value, &found, error));
        if (*first && found != *type)
            return fail(error, TROL_ERROR_FORMAT, "%s: %s and %s contradict each other", file, first, path);
        *type = found;
        snprintf(first, sizeof first, "%s", path);
    }
    bool scales = false;
    const cJSON *item;
    cJSON_ArrayForEach(item, scaling->places[0].object) scales |= strcmp(item->string, "rope_theta") != 0;
    if (*first || (!scales && scaling->places[0].object->child))
        return TROL_OK;
    return fail(error, TROL_ERROR_FORMAT, "%s: \"%s%s\" is missing", file, scaling->places[0].prefix,
                strstr(scaling->places[0].prefix, "parameters") ? "rope_type" : "type");
}

/* [head_dim / 2] positive numbers. */
static trol_status read_factors(const section *scaling, const char *key, int32_t head_dim, float *factors,
                                trol_error *error) {
    char path[PATH_BYTES];
    const cJSON *object, *item;
    TRY(find_place(scaling, key, &object, path, error));
    const cJSON *list = member(object, key);
    if (!cJSON_IsArray(list))
        return fail(error, TROL_ERROR_FORMAT, "%s: %s is missing or not a list, expected %d numbers", file, path,
                    head_dim / 2);
    if (cJSON_GetArraySize(list) != head_dim / 2)
        return fail(error, TROL_ERROR_FORMAT, "%s: %s has %d numbers, expected %d (half of head_dim)", file, path,
                    cJSON_GetArraySize(list), head_dim / 2);
    int i = 0;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble > 0) || item->valuedouble > 1e6)
            return fail(error, TROL_ERROR_FORMAT, "%s: %s[%d] is not a number between 0 and 1000000", file, path, i);
        factors[i++] = (float)item->valuedouble;
    }
    return TROL_OK;
}

/* A number that other keys already determine: if given, it must be that one. */
static trol_status check_number(const section *s, const char *key, double expected, trol_error *error) {
    char path[PATH_BYTES];
    const cJSON *object;
    double value;
    TRY(find_place(s, key, &object, path, error));
    TRY(json_number_or(object, file, path, expected, -1e12, 1e12, &value, error));
    if (fabs(value - expected) > 1e-5 * fabs(expected))
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is %.9g, expected %.9g", file, path, value, expected);
    return TROL_OK;
}

static trol_status read_long_rope(const section *scaling, decoder_config *c, trol_error *error) {
    rope_config *rope = &c->rope;
    if (rope->original_max_positions < 2)
        return fail(error, TROL_ERROR_FORMAT, "%s: original_max_position_embeddings is %lld, expected at least 2", file,
                    (long long)rope->original_max_positions);
    TRY(read_factors(scaling, "short_factor", c->head_dim, rope->short_factor, error));
    TRY(read_factors(scaling, "long_factor", c->head_dim, rope->long_factor, error));
    TRY(check_number(scaling, "factor", (double)c->max_positions / (double)rope->original_max_positions, error));
    return check_number(scaling, "attention_factor", rope_attention_scale(rope), error);
}

/* Keys of the scaling that its type does not use are refused: they were meant to have an effect. */
static trol_status refuse_factors(const section *scaling, trol_error *error) {
    static const char *const keys[] = {"short_factor", "long_factor", "attention_factor"};
    for (int i = 0; i < scaling->n_places; i++)
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            if (member(scaling->places[i].object, keys[k]))
                return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s%s is given, which this type of rope does not use",
                            file, scaling->places[i].prefix, keys[k]);
    return TROL_OK;
}

static trol_status read_dynamic_rope(const section *scaling, decoder_config *c, trol_error *error) {
    char path[PATH_BYTES];
    const cJSON *object;
    if (c->head_dim < 4)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: head_dim is %d, expected at least 4 with dynamic rope_scaling",
                    file, c->head_dim);
    if (c->rope.original_max_positions && c->rope.original_max_positions != c->max_positions)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: original_max_position_embeddings is %lld, expected max_position_embeddings, which is %lld",
                    file, (long long)c->rope.original_max_positions, (long long)c->max_positions);
    TRY(find_place(scaling, "factor", &object, path, error));
    return json_number(object, file, path, 1, 1e6, &c->rope.factor, error);
}

static trol_status read_rope(const section *decoder, const model_family *family, decoder_config *c, const logger *log,
                             trol_error *error) {
    section scaling = {0};
    TRY(add_objects(&scaling, decoder, "rope_scaling", error));
    TRY(add_objects(&scaling, decoder, "rope_parameters", error));
    section all = scaling;
    for (int i = 0; i < decoder->n_places; i++)
        add_place(&all, decoder->places[i].object, decoder->places[i].prefix);
    TRY(read_fields(&all, rope_fields, true, &c->rope, error));
    c->rope.max_positions = c->max_positions;
    for (int i = 0; i < scaling.n_places; i++)
        TRY(config_check_keys(scaling.places[i].object, scaling.places[i].prefix, CONFIG_ROPE, log, error));
    if (scaling.n_places == 0)
        return TROL_OK;
    TRY(read_rope_type(&scaling, family, &c->rope.type, error));
    if (c->rope.type == ROPE_SU || c->rope.type == ROPE_YARN)
        return read_long_rope(&scaling, c, error);
    TRY(refuse_factors(&scaling, error));
    return c->rope.type == ROPE_DYNAMIC_NTK ? read_dynamic_rope(&scaling, c, error)
                                            : check_number(&scaling, "factor", 1, error);
}

/* ---- the language model ---------------------------------------------------------------------- */

/* One token, or a list of those that end an answer. */
static trol_status read_eos(const section *s, decoder_config *c, trol_error *error) {
    char path[PATH_BYTES];
    const cJSON *object, *item;
    int64_t token;
    TRY(find_place(s, "eos_token_id", &object, path, error));
    const cJSON *list = member(object, "eos_token_id");
    if (!cJSON_IsArray(list)) {
        TRY(json_integer_or(object, file, path, c->eos_tokens[0], 0, MAX_TOKEN, &token, error));
        c->eos_tokens[c->n_eos_tokens++] = (int32_t)token;
        return TROL_OK;
    }
    cJSON_ArrayForEach(item, list) {
        if (!json_exact_integer(item, &token) || token < 0 || token > MAX_TOKEN ||
            c->n_eos_tokens == CONFIG_MAX_EOS_TOKENS)
            return fail(error, TROL_ERROR_FORMAT, "%s: %s is not a list of at most %d whole numbers from 0 to %d", file,
                        path, CONFIG_MAX_EOS_TOKENS, MAX_TOKEN);
        c->eos_tokens[c->n_eos_tokens++] = (int32_t)token;
    }
    if (c->n_eos_tokens == 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: %s is an empty list, expected at least one token", file, path);
    return TROL_OK;
}

/* Sizes that must match, and those that follow from others. */
static trol_status check_heads(decoder_config *c, const char *prefix, trol_error *error) {
    if (c->n_kv_heads == 0)
        c->n_kv_heads = c->n_heads;
    if (c->n_heads % c->n_kv_heads != 0)
        return fail(error, TROL_ERROR_FORMAT,
                    "%s: %snum_attention_heads is %d, expected a multiple of num_key_value_heads, which is %d", file,
                    prefix, c->n_heads, c->n_kv_heads);
    if (c->hidden_size % c->n_heads != 0)
        return fail(error, TROL_ERROR_FORMAT,
                    "%s: %shidden_size is %lld, expected a multiple of num_attention_heads, which is %d", file, prefix,
                    (long long)c->hidden_size, c->n_heads);
    const int64_t head_dim = c->hidden_size / c->n_heads;
    if (head_dim > CONFIG_MAX_HEAD_DIM || head_dim % 2 != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: %shidden_size / num_attention_heads is %lld, expected an even number of at most %d", file,
                    prefix, (long long)head_dim, CONFIG_MAX_HEAD_DIM);
    if (c->head_dim && c->head_dim != head_dim)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %shead_dim is %d, expected %lld", file, prefix, c->head_dim,
                    (long long)head_dim);
    c->head_dim = (int32_t)head_dim;
    return TROL_OK;
}

/* use_sliding_window, layer_types and max_window_layers (the layers before it have full attention) say whether the
 * window applies: to all layers or to none. */
static trol_status read_window(const section *s, decoder_config *c, trol_error *error) {
    char path[PATH_BYTES];
    const cJSON *object, *item;
    bool used = true;
    TRY(find_place(s, "use_sliding_window", &object, path, error));
    TRY(json_bool_or(object, file, path, true, &used, error));
    TRY(find_place(s, "layer_types", &object, path, error));
    const cJSON *types = member(object, "layer_types");
    int n_full = 0, n_sliding = 0;
    cJSON_ArrayForEach(item, types) {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        n_full += strcmp(type, "full_attention") == 0;
        n_sliding += strcmp(type, "sliding_attention") == 0;
    }
    if (types && n_full != c->n_layers && (n_sliding != c->n_layers || c->sliding_window == INT64_MAX || !used))
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: %s has %d times \"full_attention\" and %d times \"sliding_attention\", expected one of them "
                    "for all %lld layers (and sliding_window with the latter)",
                    file, path, n_full, n_sliding, (long long)c->n_layers);
    int64_t n_without = 0;
    TRY(find_place(s, "max_window_layers", &object, path, error));
    TRY(json_integer_or(object, file, path, 0, 0, INT32_MAX, &n_without, error));
    if (!used || (types && n_full > 0) || n_without >= c->n_layers)
        c->sliding_window = INT64_MAX;
    if (c->sliding_window != INT64_MAX && n_without > 0 && !types)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: %s is %lld, expected 0 or at least num_hidden_layers with a "
                    "sliding_window",
                    file, path, (long long)n_without);
    return TROL_OK;
}

/* llm_config or text_config, NULL if there is none; with both, they must be equal. */
static trol_status find_nested(const section *root, const model_family *family, section *nested, trol_error *error) {
    TRY(add_objects(nested, root, "llm_config", error));
    TRY(add_objects(nested, root, "text_config", error));
    if (nested->n_places == 0 && family->decoder_model_type)
        return fail(error, TROL_ERROR_FORMAT, "%s: llm_config is missing", file);
    if (nested->n_places == 2 && !cJSON_Compare(nested->places[0].object, nested->places[1].object, true))
        return fail(error, TROL_ERROR_FORMAT, "%s: llm_config and text_config contradict each other", file);
    if (nested->n_places == 0)
        return TROL_OK;
    nested->n_places = 1;
    char path[PATH_BYTES];
    const char *type, *expected = family->decoder_model_type ? family->decoder_model_type : family->model_type;
    snprintf(path, sizeof path, "%smodel_type", nested->places[0].prefix);
    TRY(json_string_or(nested->places[0].object, file, path, expected, &type, error));
    if (strncmp(type, expected, strlen(expected)) != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is \"%s\", expected \"%s\"", file, path, type, expected);
    return TROL_OK;
}

static trol_status read_decoder(const section *root, model_config *config, const logger *log, trol_error *error) {
    const model_family *family = config->family;
    decoder_config *c = &config->decoder;
    section own = {0};
    TRY(find_nested(root, family, &own, error));
    TRY(config_check_keys(root->places[0].object, "", CONFIG_TOP | CONFIG_DECODER, log, error));
    for (int i = 0; i < own.n_places; i++)
        TRY(config_check_keys(own.places[i].object, own.places[i].prefix, CONFIG_DECODER, log, error));
    section all = own;
    add_place(&all, root->places[0].object, "");
    const section *tokens = own.n_places ? &own : &all;
    *c = family->decoder;
    TRY(read_fields(&all, decoder_fields, false, c, error));
    TRY(read_fields(tokens, token_fields, false, c, error));
    TRY(read_eos(tokens, c, error));
    TRY(check_heads(c, all.places[0].prefix, error));
    TRY(read_window(&all, c, error));
    if (family->bias_key) {
        const field bias = {family->bias_key, FIELD_BOOL, DECODER(attention_bias), 0, 1, false};
        TRY(read_field(&all, &bias, false, c, error));
    }
    return read_rope(&all, family, c, log, error);
}

/* ---- the encoder ----------------------------------------------------------------------------- */

static trol_status read_image_size(const section *root, const section *vision, model_config *config,
                                   trol_error *error) {
    const model_family *family = config->family;
    vision_config *c = &config->vision;
    char path[PATH_BYTES];
    const cJSON *object;
    int64_t size = 0, multiple = c->patch_size * (family->pixel_shuffle ? 2 : 1);
    snprintf(path, sizeof path, "%s", family->image_size_key);
    if (family->image_size_required)
        TRY(json_integer(root->places[0].object, file, path, 1, MAX_IMAGE_SIZE, &size, error));
    else
        TRY(json_integer_or(root->places[0].object, file, path, 0, 0, MAX_IMAGE_SIZE, &size, error));
    if (size == 0) {
        TRY(find_place(vision, "image_size", &object, path, error));
        TRY(json_integer(object, file, path, 1, MAX_IMAGE_SIZE, &size, error));
    }
    if (size % multiple != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is %lld, expected a multiple of %lld", file, path,
                    (long long)size, (long long)multiple);
    c->image_size = (int32_t)size;
    return TROL_OK;
}

/* A string that is one of two. */
static trol_status read_choice(const section *s, const char *key, const char *no, const char *yes, bool *chosen,
                               trol_error *error) {
    char path[PATH_BYTES];
    const cJSON *object;
    const char *value;
    TRY(find_place(s, key, &object, path, error));
    TRY(json_string_or(object, file, path, *chosen ? yes : no, &value, error));
    *chosen = strcmp(value, yes) == 0;
    if (!*chosen && strcmp(value, no) != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: %s is \"%s\", expected \"%s\" or \"%s\"", file, path, value, no,
                    yes);
    return TROL_OK;
}

static trol_status read_vision(const section *root, model_config *config, const logger *log, trol_error *error) {
    const model_family *family = config->family;
    vision_config *c = &config->vision;
    section vision = {0};
    TRY(add_objects(&vision, root, "vision_config", error));
    *c = family->vision;
    if (vision.n_places == 0 && !family->vision_from_tensors)
        return fail(error, TROL_ERROR_FORMAT, "%s: vision_config is missing", file);
    if (vision.n_places) {
        bool rms = c->norm == NORM_RMS;
        TRY(config_check_keys(vision.places[0].object, vision.places[0].prefix, CONFIG_VISION, log, error));
        TRY(read_fields(&vision, vision_fields, family->vision_from_tensors, c, error));
        TRY(read_choice(&vision, "hidden_act", "gelu", "quick_gelu", &c->quick_gelu, error));
        TRY(read_choice(&vision, "norm_type", "layer_norm", "rms_norm", &rms, error));
        c->norm = rms ? NORM_RMS : NORM_LAYER;
    }
    if (c->hidden_size % c->n_heads != 0 || c->hidden_size / c->n_heads > CONFIG_MAX_HEAD_DIM)
        return fail(
            error, TROL_ERROR_UNSUPPORTED,
            "%s: vision_config.hidden_size is %lld with %d heads, expected a multiple with at most %d for each head",
            file, (long long)c->hidden_size, c->n_heads, CONFIG_MAX_HEAD_DIM);
    return read_image_size(root, &vision, config, error);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static trol_status read_config(const cJSON *json, model_config *config, const logger *log, trol_error *error) {
    if (!cJSON_IsObject(json))
        return fail(error, TROL_ERROR_FORMAT, "%s: the file does not hold a JSON object", file);
    const char *model_type;
    TRY(json_string(json, file, "model_type", &model_type, error));
    config->family = family_find(model_type);
    if (!config->family) {
        char expected[256] = "";
        for (size_t i = 0; family_at(i); i++)
            snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s\"%s\"", i ? " or " : "",
                     family_at(i)->model_type);
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: model_type is \"%.80s\", expected %s", file, model_type,
                    expected);
    }
    section root = {0};
    add_place(&root, json, "");
    TRY(read_decoder(&root, config, log, error));
    return read_vision(&root, config, log, error);
}

trol_status config_parse(const char *text, size_t n_bytes, const logger *log, model_config *config, trol_error *error) {
    cJSON *json;
    memset(config, 0, sizeof *config);
    TRY(json_parse(text, n_bytes, file, &json, error));
    trol_status status = read_config(json, config, log, error);
    cJSON_Delete(json);
    if (status == TROL_OK)
        log_message(log, TROL_LOG_DEBUG, "%s: %s, %lld layers, hidden_size %lld", file, config->family->name,
                    (long long)config->decoder.n_layers, (long long)config->decoder.hidden_size);
    return status;
}

trol_status config_load(const char *folder, const logger *log, model_config *config, trol_error *error) {
    char *path, *text = NULL;
    size_t n_bytes;
    TRY(path_join(folder, file, &path, error));
    trol_status status = file_read(path, MAX_CONFIG_BYTES, &text, &n_bytes, error);
    if (status == TROL_OK)
        status = download_check(path, text, n_bytes, error);
    if (status == TROL_OK)
        status = config_parse(text, n_bytes, log, config, error);
    memory_free(text);
    memory_free(path);
    return status;
}
