/* routes.c - the endpoints other than chat completions. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/json_body.h"
#include "server/server.h"

/* ---- the page, and what the server is -------------------------------------------------------- */

/* Each "NONCE" in the page becomes this reply's own. */
static void answer_page(exchange *x) {
    static const char marker[] = "@NONCE@";
    const char *at = (const char *)page_html, *end = at + page_html_bytes;
    x->content_type = "text/html; charset=utf-8";
    for (const char *found; (found = memmem(at, (size_t)(end - at), marker, sizeof marker - 1)) != NULL;
         at = found + sizeof marker - 1) {
        buffer_put(&x->reply, at, (size_t)(found - at));
        buffer_text(&x->reply, x->nonce);
    }
    buffer_put(&x->reply, at, (size_t)(end - at));
}

static void answer_health(exchange *x) {
    const int state = atomic_load(&x->server->state);
    if (state == SERVER_READY)
        buffer_text(&x->reply, "{\"status\":\"ok\"}");
    else
        api_fail(&x->error, 503, NULL, state == SERVER_LOADING ? "loading" : "shutting_down", "%s",
                 state == SERVER_LOADING ? "the model is still being loaded" : "the server is being shut down");
}

static void put_model(exchange *x) {
    const server *s = x->server;
    buffer_text(&x->reply, "{\"id\":");
    buffer_string(&x->reply, s->model_id);
    buffer_format(&x->reply,
                  ",\"object\":\"model\",\"created\":%" PRId64
                  ",\"owned_by\":\"libtrol\",\"meta\":{\"n_params\":%" PRId64 ",\"size\":%" PRId64
                  ",\"n_vocab\":%" PRId32 ",\"n_ctx\":%" PRId32 "}}",
                  x->created, s->info.n_parameters, s->info.weight_bytes, s->info.vocab_size, s->options.context_size);
}

static void answer_models(exchange *x) {
    buffer_text(&x->reply, "{\"object\":\"list\",\"data\":[");
    put_model(x);
    buffer_text(&x->reply, "]}");
}

static const char model_prefix[] = "/v1/models/";

static void answer_model(exchange *x) {
    const char *name = x->path + sizeof model_prefix - 1;
    if (strcmp(name, x->server->model_id) == 0)
        put_model(x);
    else
        api_fail_model(&x->error, name, x->server->model_id);
}

static void answer_props(exchange *x) {
    const server *s = x->server;
    const trol_model_info *i = &s->info;
    buffer_text(&x->reply, "{\"model\":");
    buffer_string(&x->reply, s->model_id);
    buffer_format(&x->reply,
                  ",\"version\":\"%s\",\"family\":\"%s\",\"weights\":\"%s\",\"compute\":\"%s\",\"cpu\":\"%s\","
                  "\"total_slots\":%" PRId32 ",\"n_ctx\":%" PRId32 ",\"queue\":%" PRId32 ",\"max_body_bytes\":%" PRId64
                  ",\"layers\":%" PRId32 ",\"image_size\":%" PRId32 ",\"tokens_per_tile\":%" PRId32
                  ",\"max_tiles\":%" PRId32 ",\"modalities\":{\"vision\":true,\"audio\":false}}",
                  trol_version(), i->family, i->weight_type, i->compute, i->cpu_level, s->options.n_slots,
                  s->options.context_size, s->options.queue_limit, (int64_t)s->options.max_body_mib << 20, i->n_layers,
                  i->image_size, i->tokens_per_tile, i->max_tiles);
}

/* ---- metrics --------------------------------------------------------------------------------- */

static void put_metric(buffer *out, const char *name, const char *kind, const char *help, double value) {
    buffer_format(out, "# HELP trol_%s %s\n# TYPE trol_%s %s\ntrol_%s %.17g\n", name, help, name, kind, name, value);
}

static void put_count(buffer *out, const char *name, const char *help, double value) {
    put_metric(out, name, "counter", help, value);
}

static void put_gauge(buffer *out, const char *name, const char *help, double value) {
    put_metric(out, name, "gauge", help, value);
}

static void put_requests(buffer *out, const engine_metrics *m) {
    const struct {
        const char *name;
        int64_t value;
    } outcomes[] = {
        {"finished", m->finished}, {"failed", m->failed}, {"cancelled", m->cancelled}, {"refused", m->refused}};
    buffer_text(out, "# HELP trol_requests_total Chat requests by outcome.\n# TYPE trol_requests_total counter\n");
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++)
        buffer_format(out, "trol_requests_total{outcome=\"%s\"} %" PRId64 "\n", outcomes[i].name, outcomes[i].value);
}

static void put_replies(buffer *out, server *s) {
    buffer_text(out, "# HELP trol_http_replies_total HTTP replies by class of status.\n"
                     "# TYPE trol_http_replies_total counter\n");
    for (int i = 2; i < 6; i++)
        buffer_format(out, "trol_http_replies_total{status=\"%dxx\"} %lld\n", i,
                      (long long)atomic_load(&s->n_replies[i]));
}

static void answer_metrics(exchange *x) {
    server *s = x->server;
    const engine_metrics m = engine_get_metrics(s->engine);
    buffer *out = &x->reply;
    x->content_type = "text/plain; version=0.0.4; charset=utf-8";
    put_requests(out, &m);
    put_replies(out, s);
    put_count(out, "prompt_tokens_total", "Tokens of prompts, reused ones included.", (double)m.prompt_tokens);
    put_count(out, "reused_tokens_total", "Tokens of prompts that a session held already.", (double)m.reused_tokens);
    put_count(out, "answer_tokens_total", "Tokens of answers that ended.", (double)m.answer_tokens);
    put_count(out, "steps_total", "Batches through the model.", (double)m.steps);
    put_count(out, "answer_rows_total", "Answer tokens in all batches.", (double)m.answer_rows);
    put_count(out, "prompt_rows_total", "Prompt tokens in all batches.", (double)m.prompt_rows);
    put_count(out, "prompt_seconds_total", "Seconds of batches with a piece of a prompt.", m.prompt_seconds);
    put_count(out, "answer_seconds_total", "Seconds of batches of answers alone.", m.answer_seconds);
    put_count(out, "image_seconds_total", "Seconds of encoding pictures.", m.images.seconds);
    put_count(out, "images_encoded_total", "Pictures encoded.", (double)m.images.encoded);
    put_count(out, "image_hits_total", "Pictures found in the cache.", (double)m.images.hits);
    put_gauge(out, "requests_waiting", "Requests in the queue.", m.queued);
    put_gauge(out, "slots", "Sessions.", s->options.n_slots);
    put_gauge(out, "slots_busy", "Sessions in use.", m.busy_slots);
    put_gauge(out, "answers_running", "Answers being decoded.", m.answering);
    put_gauge(out, "largest_piece", "Most prompt tokens in a batch beside answers so far.", m.largest_piece);
    put_gauge(out, "cache_bytes", "Keys and values held.", (double)m.cache_bytes);
    put_gauge(out, "image_cache_bytes", "Pictures held, files and features.", (double)m.images.bytes);
    put_gauge(out, "connections", "Open connections.", atomic_load(&s->n_connections));
    put_gauge(out, "uptime_seconds", "Seconds since the start.", clock_seconds() - s->started);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void put_tokens(buffer *out, const int32_t *tokens, size_t n) {
    buffer_text(out, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++)
        buffer_format(out, i ? ",%" PRId32 : "%" PRId32, tokens[i]);
    buffer_text(out, "]}");
}

static void answer_tokenize(exchange *x) {
    const char *text = NULL;
    bool special = false, fine = true;
    cJSON *root = json_body_parse(x->body.bytes, x->body.n_bytes, &x->error);
    for (const cJSON *field = root ? root->child : NULL; field && fine; field = field->next)
        fine = strcmp(field->string, "content") == 0 ? json_read_string(field, "content", &text, &x->error)
               : strcmp(field->string, "parse_special") == 0
                   ? json_read_bool(field, "parse_special", &special, &x->error)
                   : api_fail(&x->error, 400, field->string, "unsupported_field",
                              "this server does not support the field %.100s here", field->string);
    if (root && fine && !text)
        fine = api_fail(&x->error, 400, "content", "missing_field", "content is missing");
    if (root && fine) {
        int32_t *tokens;
        size_t n;
        trol_error error;
        if (trol_tokenize(x->server->model, text, strlen(text), special, &tokens, &n, &error) == TROL_OK)
            put_tokens(&x->reply, tokens, n);
        else
            api_fail_library(&x->error, "content", &error);
        trol_free(tokens);
    }
    cJSON_Delete(root);
}

/* Free *tokens. */
static bool read_tokens(const cJSON *array, int32_t vocabulary, int32_t **tokens, size_t *n, api_error *error) {
    if (!cJSON_IsArray(array))
        return json_fail_type(array, "tokens", "an array", error);
    *tokens = malloc(((size_t)cJSON_GetArraySize(array) + 1) * sizeof **tokens);
    if (!*tokens)
        return api_fail_memory(error);
    for (const cJSON *item = array->child; item; item = item->next) {
        int64_t token;
        if (!json_read_integer(item, "tokens", 0, vocabulary - 1, &token, error))
            return false;
        (*tokens)[(*n)++] = (int32_t)token;
    }
    return true;
}

static void answer_detokenize(exchange *x) {
    int32_t *tokens = NULL;
    size_t n = 0;
    bool special = true, fine = true, any = false;
    cJSON *root = json_body_parse(x->body.bytes, x->body.n_bytes, &x->error);
    for (const cJSON *field = root ? root->child : NULL; field && fine; field = field->next) {
        any = any || strcmp(field->string, "tokens") == 0;
        fine = strcmp(field->string, "tokens") == 0
                   ? read_tokens(field, x->server->info.n_tokens, &tokens, &n, &x->error)
               : strcmp(field->string, "special") == 0
                   ? json_read_bool(field, "special", &special, &x->error)
                   : api_fail(&x->error, 400, field->string, "unsupported_field",
                              "this server does not support the field %.100s here", field->string);
    }
    if (root && fine && !any)
        fine = api_fail(&x->error, 400, "tokens", "missing_field", "tokens is missing");
    if (root && fine) {
        char *text;
        trol_error error;
        if (trol_detokenize(x->server->model, tokens, n, special, &text, &error) == TROL_OK) {
            buffer_text(&x->reply, "{\"content\":");
            buffer_string(&x->reply, text);
            buffer_text(&x->reply, "}");
        } else {
            api_fail_library(&x->error, "tokens", &error);
        }
        trol_free(text);
    }
    free(tokens);
    cJSON_Delete(root);
}

/* ---- the table ------------------------------------------------------------------------------- */

static void answer_options(exchange *x) { x->status = 204; }

static const route routes[] = {
    {"GET", "/", true, false, answer_page},
    {"GET", "/health", true, false, answer_health},
    {"GET", "/v1/models", false, true, answer_models},
    {"GET", "/props", false, true, answer_props},
    {"GET", "/metrics", false, true, answer_metrics},
    {"POST", "/v1/chat/completions", false, true, chat_answer},
    {"POST", "/chat/completions", false, true, chat_answer},
    {"POST", "/tokenize", false, true, answer_tokenize},
    {"POST", "/detokenize", false, true, answer_detokenize},
};

static const route model_route = {"GET", "/v1/models/ID", false, true, answer_model};
static const route options_route = {"OPTIONS", "*", true, false, answer_options};

static const route *route_at(const char *path) {
    const size_t prefix = sizeof model_prefix - 1;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(path, routes[i].path) == 0)
            return &routes[i];
    return strncmp(path, model_prefix, prefix) == 0 && path[prefix] ? &model_route : NULL;
}

const route *routes_find(const char *method, const char *path, api_error *error) {
    const route *other = route_at(path);
    if (other && strcmp(strcmp(method, "HEAD") == 0 ? "GET" : method, other->method) == 0)
        return other;
    if (other && strcmp(method, "OPTIONS") == 0)
        return &options_route;
    if (other) {
        api_fail(error, 405, NULL, "method_not_allowed", "%.40s is not a method of %s, expected %s", method,
                 other->path, other->method);
        snprintf(error->param, sizeof error->param, "%s", other->method);
    } else {
        api_fail(error, 404, NULL, "not_found", "there is nothing at %.200s", path);
    }
    return NULL;
}
