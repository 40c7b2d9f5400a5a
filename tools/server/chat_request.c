#include "server/chat_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/choices.h"
#include "server/data_url.h"
#include "server/json_body.h"

/* A request that is being read. */
typedef struct reader {
    chat_request *out;
    const char *model_id;
    api_error *error;
} reader;

static char *copy_text(const char *text, api_error *error) {
    char *copy = strdup(text);
    if (!copy)
        api_fail_memory(error);
    return copy;
}

/* ---- messages -------------------------------------------------------------------------------- */

static size_t trailing_backslashes(const buffer *out) {
    size_t n = 0;
    while (n < out->n_bytes && out->bytes[out->n_bytes - 1 - n] == '\\')
        n++;
    return n;
}

static void put_backslashes(buffer *out, size_t n) {
    while (n-- > 0)
        buffer_put(out, "\\", 1);
}

/* Escapes text for trol_message, where "<image>" in a user's text places a picture, and backslashes before it are
 * halved, an odd one making it text. */
static void put_literal(buffer *out, const char *text, bool user) {
    static const char marker[] = "<image>";
    const char *at;
    for (; user && (at = strstr(text, marker)); text = at + sizeof marker - 1) {
        buffer_put(out, text, (size_t)(at - text));
        put_backslashes(out, trailing_backslashes(out) + 1);
        buffer_text(out, marker);
    }
    buffer_text(out, text);
}

static void put_image(buffer *out) {
    put_backslashes(out, trailing_backslashes(out));
    buffer_text(out, "<image>\n");
}

static bool add_image(reader *r, const cJSON *part, const char *param) {
    static const char *const details[] = {"auto", "low", "high", NULL};
    chat_request *out = r->out;
    const cJSON *source = NULL, *url = NULL;
    int detail;
    for (const cJSON *field = part->child; field; field = field->next)
        if (strcmp(field->string, "image_url") == 0)
            source = field;
        else if (strcmp(field->string, "type") != 0)
            return api_fail(r->error, 400, field->string, "unknown_field",
                            "%s has the field %.100s, which is not known", param, field->string);
    if (!cJSON_IsObject(source))
        return api_fail(r->error, 400, param, "invalid_type", "%s.image_url is %s, expected an object with a url",
                        param, source ? json_type_name(source) : "missing");
    for (const cJSON *field = source->child; field; field = field->next)
        if (strcmp(field->string, "url") == 0)
            url = field;
        else if (strcmp(field->string, "detail") != 0)
            return api_fail(r->error, 400, field->string, "unknown_field",
                            "%s.image_url has the field %.100s, which is not known", param, field->string);
        else if (!cJSON_IsNull(field) && !json_read_choice(field, "image_url.detail", details, &detail, r->error))
            return false;
    if (!cJSON_IsString(url))
        return api_fail(r->error, 400, param, "invalid_type", "%s.image_url.url is %s, expected a string", param,
                        url ? json_type_name(url) : "missing");
    if (out->n_images == CHAT_MOST_IMAGES)
        return api_fail(r->error, 400, param, "too_many_images", "the messages have more than %d pictures",
                        CHAT_MOST_IMAGES);
    char url_param[160];
    snprintf(url_param, sizeof url_param, "%.120s.image_url.url", param);
    chat_image *image = &out->images[out->n_images];
    if (!data_url_read(url->valuestring, url_param, &image->bytes, &image->n_bytes, r->error))
        return false;
    out->n_images++;
    return true;
}

static bool read_text_part(reader *r, const cJSON *part, const char *param, const char **text) {
    *text = NULL;
    for (const cJSON *field = part->child; field; field = field->next)
        if (strcmp(field->string, "text") == 0 && cJSON_IsString(field))
            *text = field->valuestring;
        else if (strcmp(field->string, "text") == 0)
            return json_fail_type(field, "text", "a string", r->error);
        else if (strcmp(field->string, "type") != 0)
            return api_fail(r->error, 400, field->string, "unknown_field",
                            "%s has the field %.100s, which is not known", param, field->string);
    return *text || api_fail(r->error, 400, param, "missing_field", "%s has no text", param);
}

/* The parts of a message as one text. Where there is one text its pictures go in front, each on a line of its own, as
 * the authors' prompts have them; pictures between several texts stay there. */
static bool read_parts(reader *r, const cJSON *parts, const char *param, trol_role role, buffer *out) {
    size_t n_texts = 0, number = 0;
    const bool user = role == TROL_ROLE_USER;
    for (const cJSON *part = parts->child; part; part = part->next) {
        const cJSON *type = cJSON_IsObject(part) ? cJSON_GetObjectItemCaseSensitive(part, "type") : NULL;
        n_texts += cJSON_IsString(type) && strcmp(type->valuestring, "text") == 0;
    }
    buffer text = {0};
    bool fine = true;
    for (const cJSON *part = parts->child; part && fine; part = part->next, number++) {
        char name[96];
        const char *words;
        snprintf(name, sizeof name, "%.60s[%zu]", param, number);
        const cJSON *type = cJSON_IsObject(part) ? cJSON_GetObjectItemCaseSensitive(part, "type") : NULL;
        if (!cJSON_IsString(type)) {
            fine = api_fail(r->error, 400, name, "invalid_type", "%s is not an object with a type", name);
        } else if (strcmp(type->valuestring, "text") == 0) {
            fine = read_text_part(r, part, name, &words);
            if (fine)
                put_literal(&text, words, user);
        } else if (strcmp(type->valuestring, "image_url") == 0 && user) {
            fine = add_image(r, part, name);
            put_image(n_texts > 1 ? &text : out);
        } else {
            fine = api_fail(r->error, 400, name, "unsupported_part", "%s is of type \"%.60s\", expected %s", name,
                            type->valuestring, user ? "text or image_url" : "text");
        }
    }
    if (fine && text.n_bytes)
        buffer_put(out, text.bytes, text.n_bytes);
    out->failed |= text.failed;
    buffer_free(&text);
    return fine;
}

static bool read_content(reader *r, const cJSON *content, const char *param, trol_message *message) {
    buffer text = {0};
    bool fine = true;
    buffer_text(&text, "");
    if (cJSON_IsString(content))
        put_literal(&text, content->valuestring, message->role == TROL_ROLE_USER);
    else if (cJSON_IsArray(content))
        fine = read_parts(r, content, param, message->role, &text);
    else
        fine = api_fail(r->error, 400, param, "invalid_type", "%s is %s, expected a string or an array of parts", param,
                        content ? json_type_name(content) : "missing");
    if (fine && text.failed)
        fine = api_fail_memory(r->error);
    if (fine)
        message->text = text.bytes;
    else
        buffer_free(&text);
    return fine;
}

static bool read_message(reader *r, const cJSON *value, size_t number) {
    static const char *const roles[] = {"system", "user", "assistant", "developer", NULL};
    static const char *const empty_fields[] = {"annotations", "tool_calls", NULL};
    const cJSON *content = NULL, *role_value = NULL;
    char param[64], role_param[80], content_param[80];
    int role = 0;
    snprintf(param, sizeof param, "messages[%zu]", number);
    snprintf(role_param, sizeof role_param, "%s.role", param);
    snprintf(content_param, sizeof content_param, "%s.content", param);
    if (!cJSON_IsObject(value))
        return json_fail_type(value, param, "an object", r->error);
    for (const cJSON *field = value->child; field; field = field->next) {
        bool known = cJSON_IsNull(field) || strcmp(field->string, "role") == 0 || strcmp(field->string, "content") == 0;
        if (strcmp(field->string, "role") == 0)
            role_value = field;
        else if (strcmp(field->string, "content") == 0)
            content = field;
        /* Fields that clients copy from an answer's message into the next request, where they have no effect. */
        for (const char *const *name = empty_fields; *name && !known; name++)
            known = strcmp(field->string, *name) == 0 && cJSON_IsArray(field) && !field->child;
        if (!known)
            return api_fail(r->error, 400, field->string, "unsupported_field",
                            "%s has the field %.100s, which is not supported", param, field->string);
    }
    if (!role_value)
        return api_fail(r->error, 400, role_param, "missing_field", "%s has no role", param);
    if (!json_read_choice(role_value, role_param, roles, &role, r->error))
        return false;
    trol_message *message = &r->out->messages[r->out->n_messages];
    message->role = role == 1 ? TROL_ROLE_USER : role == 2 ? TROL_ROLE_ASSISTANT : TROL_ROLE_SYSTEM;
    if (!read_content(r, content, content_param, message))
        return false;
    r->out->n_messages++;
    return true;
}

static bool read_messages(reader *r, const cJSON *value, const char *param) {
    if (!cJSON_IsArray(value))
        return json_fail_type(value, param, "an array", r->error);
    const size_t n = (size_t)cJSON_GetArraySize(value);
    if (n == 0)
        return api_fail(r->error, 400, param, "invalid_value", "messages is empty, expected at least one message");
    r->out->messages = calloc(n, sizeof *r->out->messages);
    r->out->images = calloc(CHAT_MOST_IMAGES, sizeof *r->out->images);
    if (!r->out->messages || !r->out->images)
        return api_fail_memory(r->error);
    size_t number = 0;
    for (const cJSON *message = value->child; message; message = message->next)
        if (!read_message(r, message, number++))
            return false;
    return true;
}

/* ---- the other fields ------------------------------------------------------------------------ */

static bool read_integer(reader *r, const cJSON *value, const char *param, int32_t smallest, int32_t largest,
                         int32_t *result) {
    int64_t number;
    if (!json_read_integer(value, param, smallest, largest, &number, r->error))
        return false;
    *result = (int32_t)number;
    return true;
}

static bool read_float(reader *r, const cJSON *value, const char *param, double smallest, double largest,
                       float *result) {
    double number;
    if (!json_read_number(value, param, smallest, largest, &number, r->error))
        return false;
    *result = (float)number;
    return true;
}

static bool read_model(reader *r, const cJSON *value, const char *param) {
    const char *name;
    if (!json_read_string(value, param, &name, r->error))
        return false;
    return strcmp(name, r->model_id) == 0 || api_fail_model(r->error, name, r->model_id);
}

static bool read_max_tokens(reader *r, const cJSON *value, const char *param) {
    int32_t most;
    if (!read_integer(r, value, param, 1, 1000000000, &most))
        return false;
    if (r->out->max_tokens && r->out->max_tokens != most)
        return api_fail(r->error, 400, param, "invalid_value",
                        "max_tokens and max_completion_tokens are both given, and differ");
    r->out->max_tokens = most;
    return true;
}

static bool read_n(reader *r, const cJSON *value, const char *param) {
    return read_integer(r, value, param, 1, CHAT_MOST_CHOICES, &r->out->n);
}

static bool read_stream(reader *r, const cJSON *value, const char *param) {
    return json_read_bool(value, param, &r->out->stream, r->error);
}

static bool read_stream_options(reader *r, const cJSON *value, const char *param) {
    bool ignored;
    if (!cJSON_IsObject(value))
        return json_fail_type(value, param, "an object", r->error);
    for (const cJSON *field = value->child; field; field = field->next) {
        const bool usage = strcmp(field->string, "include_usage") == 0;
        if (!usage && strcmp(field->string, "include_obfuscation") != 0)
            return api_fail(r->error, 400, field->string, "unknown_field",
                            "stream_options has the field %.100s, which is not known", field->string);
        if (!json_read_bool(field, usage ? "stream_options.include_usage" : "stream_options.include_obfuscation",
                            usage ? &r->out->include_usage : &ignored, r->error))
            return false;
    }
    return true;
}

static bool read_logprobs(reader *r, const cJSON *value, const char *param) {
    return json_read_bool(value, param, &r->out->logprobs, r->error);
}

static bool read_top_logprobs(reader *r, const cJSON *value, const char *param) {
    return read_integer(r, value, param, 0, CHAT_MOST_TOP_LOGPROBS, &r->out->top_logprobs);
}

static bool add_stop(reader *r, const cJSON *value, const char *param) {
    if (!cJSON_IsString(value))
        return json_fail_type(value, param, "a string or an array of strings", r->error);
    if (value->valuestring[0] == '\0')
        return api_fail(r->error, 400, param, "invalid_value", "a stop string is empty");
    if (r->out->n_stops == CHAT_MOST_STOPS)
        return api_fail(r->error, 400, param, "invalid_value", "stop has more than %d strings", CHAT_MOST_STOPS);
    char *copy = copy_text(value->valuestring, r->error);
    if (copy)
        r->out->stops[r->out->n_stops++] = copy;
    return copy != NULL;
}

static bool read_stop(reader *r, const cJSON *value, const char *param) {
    if (!cJSON_IsArray(value))
        return add_stop(r, value, param);
    for (const cJSON *stop = value->child; stop; stop = stop->next)
        if (!add_stop(r, stop, param))
            return false;
    return true;
}

static bool read_temperature(reader *r, const cJSON *value, const char *param) {
    return read_float(r, value, param, 0, 1000, &r->out->sampler.temperature);
}

static bool read_top_p(reader *r, const cJSON *value, const char *param) {
    const float least = 1e-6f; /* with 0, too, the likeliest token is left */
    if (!read_float(r, value, param, 0, 1, &r->out->sampler.top_p))
        return false;
    if (r->out->sampler.top_p < least)
        r->out->sampler.top_p = least;
    return true;
}

static bool read_top_k(reader *r, const cJSON *value, const char *param) {
    return read_integer(r, value, param, 0, 1000000000, &r->out->sampler.top_k);
}

static bool read_min_p(reader *r, const cJSON *value, const char *param) {
    return read_float(r, value, param, 0, 1, &r->out->sampler.min_p);
}

static bool read_repeat_penalty(reader *r, const cJSON *value, const char *param) {
    return read_float(r, value, param, 0.001, 1000, &r->out->sampler.repeat_penalty);
}

static bool read_repeat_last_n(reader *r, const cJSON *value, const char *param) {
    return read_integer(r, value, param, -1, 1000000000, &r->out->sampler.repeat_last_n);
}

static bool read_presence_penalty(reader *r, const cJSON *value, const char *param) {
    return read_float(r, value, param, -2, 2, &r->out->sampler.presence_penalty);
}

static bool read_frequency_penalty(reader *r, const cJSON *value, const char *param) {
    return read_float(r, value, param, -2, 2, &r->out->sampler.frequency_penalty);
}

static bool read_seed(reader *r, const cJSON *value, const char *param) {
    const int64_t largest = (int64_t)1 << 53; /* every JSON parser reads integers up to this exactly */
    int64_t seed;
    if (!json_read_integer(value, param, -largest, largest, &seed, r->error))
        return false;
    r->out->sampler.seed = (uint64_t)seed;
    r->out->has_seed = true;
    return true;
}

static bool read_logit_bias(reader *r, const cJSON *value, const char *param) {
    if (!cJSON_IsObject(value))
        return json_fail_type(value, param, "an object", r->error);
    const size_t n = (size_t)cJSON_GetArraySize(value);
    r->out->bias = calloc(n + 1, sizeof *r->out->bias);
    if (!r->out->bias)
        return api_fail_memory(r->error);
    for (const cJSON *field = value->child; field; field = field->next) {
        char *end;
        const long token = strtol(field->string, &end, 10);
        if (field->string[0] < '0' || field->string[0] > '9' || *end || token > INT32_MAX)
            return api_fail(r->error, 400, param, "invalid_value",
                            "logit_bias has the key \"%.40s\", expected a token id", field->string);
        trol_logit_bias *bias = &r->out->bias[r->out->sampler.n_bias++];
        bias->token = (int32_t)token;
        if (!read_float(r, field, param, -100, 100, &bias->bias))
            return false;
        if (bias->bias == -100) /* the API's value for never */
            bias->bias = -INFINITY;
    }
    r->out->sampler.bias = r->out->bias;
    return true;
}

static bool read_traversal(reader *r, const cJSON *value, const char *param) {
    static const char *const modes[] = {TRAVERSAL_MODES, NULL};
    int mode;
    if (!json_read_choice(value, param, modes, &mode, r->error))
        return false;
    r->out->traversal = (trol_traversal)mode;
    return true;
}

static bool read_traversal_skip(reader *r, const cJSON *value, const char *param) {
    return read_float(r, value, param, 0, 1, &r->out->traversal_skip);
}

static bool read_gates(reader *r, const cJSON *value, const char *param) {
    return json_read_bool(value, param, &r->out->gates, r->error);
}

static bool read_cache_prompt(reader *r, const cJSON *value, const char *param) {
    return json_read_bool(value, param, &r->out->cache_prompt, r->error);
}

/* ---- answers that follow a form -------------------------------------------------------------- */

static bool set_format(reader *r, const char *param, chat_format format, char *text) {
    if (format != CHAT_FORMAT_TEXT && r->out->format != CHAT_FORMAT_TEXT) {
        cJSON_free(text);
        return api_fail(r->error, 400, param, "invalid_value", "%s and %s are both given, only one can be followed",
                        r->out->format_param, param);
    }
    if (format == CHAT_FORMAT_TEXT)
        return true;
    r->out->format_param = param;
    r->out->format = format;
    r->out->format_text = text;
    return true;
}

static bool set_schema(reader *r, const cJSON *schema, const char *param) {
    if (!cJSON_IsObject(schema) && !cJSON_IsBool(schema))
        return api_fail(r->error, 400, param, "invalid_type", "%s is %s, expected a JSON Schema", param,
                        schema ? json_type_name(schema) : "missing");
    char *text = cJSON_PrintUnformatted(schema);
    return text ? set_format(r, param, CHAT_FORMAT_SCHEMA, text) : api_fail_memory(r->error);
}

static bool read_schema_format(reader *r, const cJSON *value) {
    static const char param[] = "response_format.json_schema";
    const cJSON *schema = NULL;
    if (!cJSON_IsObject(value))
        return api_fail(r->error, 400, param, "invalid_type", "%s is %s, expected an object with a schema", param,
                        value ? json_type_name(value) : "missing");
    for (const cJSON *field = value->child; field; field = field->next)
        if (strcmp(field->string, "schema") == 0)
            schema = field;
        else if (strcmp(field->string, "name") != 0 && strcmp(field->string, "strict") != 0 &&
                 strcmp(field->string, "description") != 0)
            return api_fail(r->error, 400, field->string, "unknown_field",
                            "response_format.json_schema has the field %.100s, which is not known", field->string);
    return set_schema(r, schema, "response_format.json_schema.schema");
}

static bool read_response_format(reader *r, const cJSON *value, const char *param) {
    static const char *const types[] = {"text", "json_object", "json_schema", NULL};
    const cJSON *type_value = NULL, *schema = NULL;
    int type;
    if (!cJSON_IsObject(value))
        return json_fail_type(value, param, "an object", r->error);
    for (const cJSON *field = value->child; field; field = field->next)
        if (strcmp(field->string, "type") == 0)
            type_value = field;
        else if (strcmp(field->string, "json_schema") == 0)
            schema = field;
        else
            return api_fail(r->error, 400, field->string, "unknown_field",
                            "response_format has the field %.100s, which is not known", field->string);
    if (!type_value)
        return api_fail(r->error, 400, "response_format.type", "missing_field", "response_format has no type");
    if (!json_read_choice(type_value, "response_format.type", types, &type, r->error))
        return false;
    return type == 0   ? set_format(r, param, CHAT_FORMAT_TEXT, NULL)
           : type == 1 ? set_format(r, param, CHAT_FORMAT_JSON, NULL)
                       : read_schema_format(r, schema);
}

static bool read_json_schema(reader *r, const cJSON *value, const char *param) { return set_schema(r, value, param); }

static bool read_grammar(reader *r, const cJSON *value, const char *param) {
    const char *text;
    if (!json_read_string(value, param, &text, r->error))
        return false;
    char *copy = copy_text(text, r->error);
    return copy && set_format(r, param, CHAT_FORMAT_GRAMMAR, copy);
}

static bool read_beams(reader *r, const cJSON *value, const char *param) {
    return read_integer(r, value, param, 1, 64, &r->out->n_beams);
}

/* ---- the whole ------------------------------------------------------------------------------- */

typedef bool (*read_field)(reader *r, const cJSON *value, const char *param);

/* Fields without a function do not affect the answer: they are accepted and ignored. */
static const struct {
    const char *name;
    read_field read;
} fields[] = {
    {"model", read_model},
    {"messages", read_messages},
    {"max_tokens", read_max_tokens},
    {"max_completion_tokens", read_max_tokens},
    {"n", read_n},
    {"stream", read_stream},
    {"stream_options", read_stream_options},
    {"logprobs", read_logprobs},
    {"top_logprobs", read_top_logprobs},
    {"stop", read_stop},
    {"temperature", read_temperature},
    {"top_p", read_top_p},
    {"top_k", read_top_k},
    {"min_p", read_min_p},
    {"repeat_penalty", read_repeat_penalty},
    {"repeat_last_n", read_repeat_last_n},
    {"presence_penalty", read_presence_penalty},
    {"frequency_penalty", read_frequency_penalty},
    {"seed", read_seed},
    {"logit_bias", read_logit_bias},
    {"response_format", read_response_format},
    {"json_schema", read_json_schema},
    {"grammar", read_grammar},
    {"traversal", read_traversal},
    {"traversal_skip", read_traversal_skip},
    {"gates", read_gates},
    {"beams", read_beams},
    {"cache_prompt", read_cache_prompt},
    {"user", NULL},
    {"metadata", NULL},
    {"store", NULL},
    {"service_tier", NULL},
};

static bool read_known_field(reader *r, const cJSON *value) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(value->string, fields[i].name) == 0)
            return !fields[i].read || cJSON_IsNull(value) || fields[i].read(r, value, fields[i].name);
    return cJSON_IsNull(value) ||
           api_fail(r->error, 400, value->string, "unsupported_field",
                    "the field %.100s is not supported, and ignoring it could make the answer wrong", value->string);
}

static bool check_together(const chat_request *out, api_error *error) {
    if (!out->messages)
        return api_fail(error, 400, "messages", "missing_field", "messages is missing");
    if (out->top_logprobs > 0 && !out->logprobs)
        return api_fail(error, 400, "top_logprobs", "invalid_value", "top_logprobs needs \"logprobs\": true");
    if (out->include_usage && !out->stream)
        return api_fail(error, 400, "stream_options", "invalid_value", "stream_options needs \"stream\": true");
    if (out->gates && out->traversal == TROL_TRAVERSAL_OFF)
        return api_fail(error, 400, "gates", "invalid_value", "without traversal there are no gates");
    const trol_sampler_params *s = &out->sampler;
    if (out->n_beams > 0 &&
        (out->stream || out->n > 1 || out->logprobs || out->format != CHAT_FORMAT_TEXT || s->temperature > 0 ||
         s->n_bias > 0 || s->repeat_penalty != 1 || s->presence_penalty != 0 || s->frequency_penalty != 0))
        return api_fail(
            error, 400, "beams", "invalid_value",
            "beams are searched without stream, n, logprobs, a form, temperature, penalties and logit_bias");
    return true;
}

bool chat_request_read(const cJSON *root, const char *model_id, chat_request *request, api_error *error) {
    *request = (chat_request){.n = 1, .cache_prompt = true};
    trol_sampler_params_init(&request->sampler);
    reader r = {.out = request, .model_id = model_id, .error = error};
    for (const cJSON *field = root->child; field; field = field->next)
        if (!read_known_field(&r, field)) {
            chat_request_free(request);
            return false;
        }
    if (check_together(request, error))
        return true;
    chat_request_free(request);
    return false;
}

void chat_request_free(chat_request *request) {
    for (size_t i = 0; i < request->n_messages; i++)
        free((char *)request->messages[i].text);
    for (size_t i = 0; i < request->n_images; i++)
        free(request->images[i].bytes);
    for (size_t i = 0; i < request->n_stops; i++)
        free(request->stops[i]);
    free(request->messages);
    free(request->images);
    free(request->bias);
    cJSON_free(request->format_text);
    *request = (chat_request){0};
}
