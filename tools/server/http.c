/* http.c - connections, limits and headers: all of a request but its content.
 *
 * libmicrohttpd gives each connection a thread, which may simply wait: for the engine's events and, with the same
 * poll(), for its client to go away. A watchdog closes connections whose requests do not arrive. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fail.h"
#include "base/clock.h"
#include "server/server.h"

enum {
    THREAD_STACK_BYTES = 1 << 20,
    CONNECTION_POOL_BYTES = 1 << 16, /* a request's headers must fit */
    MOST_DISCARDED_BODIES = 4,       /* times the limit: so much of a body is read only to answer that it is too long */
    MOST_KEY_BYTES = 256
};

/* ---- who may ask ----------------------------------------------------------------------------- */

/* Takes the same time whatever the key is: it compares a fixed number of bytes with every key. */
static bool is_key(const server *s, const char *given) {
    unsigned char padded[MOST_KEY_BYTES] = {0};
    const size_t length = strlen(given);
    unsigned found = 0;
    memcpy(padded, given, length < MOST_KEY_BYTES ? length : MOST_KEY_BYTES - 1);
    for (size_t k = 0; k < s->n_keys; k++) {
        unsigned char key[MOST_KEY_BYTES] = {0};
        volatile unsigned difference = length >= MOST_KEY_BYTES;
        strncpy((char *)key, s->keys[k], MOST_KEY_BYTES - 1);
        for (size_t i = 0; i < MOST_KEY_BYTES; i++)
            difference |= (unsigned)(key[i] ^ padded[i]);
        found |= difference == 0;
    }
    return found;
}

static const char *header(const exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

static bool check_key(exchange *x) {
    static const char scheme[] = "Bearer ";
    const char *given = header(x, "Authorization");
    if (x->server->n_keys == 0 || x->route->open)
        return true;
    if (!given || strncasecmp(given, scheme, sizeof scheme - 1) != 0)
        return api_fail(&x->error, 401, NULL, "missing_api_key",
                        "this server asks for a key, expected the header \"Authorization: Bearer KEY\"");
    return is_key(x->server, given + sizeof scheme - 1) ||
           api_fail(&x->error, 401, NULL, "invalid_api_key", "the key is not one of this server's");
}

/* "name", "name:port" or "[address]:port" without the port. */
static void host_of(const char *text, char *host, size_t bytes) {
    const char *end = text[0] == '[' ? strchr(text, ']') : strchr(text, ':');
    const size_t length = !end ? strlen(text) : (size_t)(end - text) + (text[0] == '[');
    snprintf(host, bytes, "%.*s", (int)(length < bytes ? length : bytes - 1), text);
}

static bool is_allowed_host(const server *s, const char *host) {
    static const char *const own[] = {"localhost", "127.0.0.1", "[::1]", NULL};
    for (const char *const *name = own; *name; name++)
        if (strcasecmp(host, *name) == 0)
            return true;
    for (size_t i = 0; i < s->options.allowed_hosts.count; i++)
        if (strcasecmp(host, s->options.allowed_hosts.items[i]) == 0)
            return true;
    return strcasecmp(host, s->options.host) == 0;
}

/* A page of another site must not use a server on its visitor's machine: neither through a host name of its own that
 * resolves to this machine, nor from its own origin. */
static bool check_origin(exchange *x) {
    const server *s = x->server;
    const char *host = header(x, "Host"), *origin = header(x, "Origin");
    char name[256];
    if (s->loopback && host) {
        host_of(host, name, sizeof name);
        if (!is_allowed_host(s, name))
            return api_fail(&x->error, 403, NULL, "host_not_allowed",
                            "this server is not known as \"%s\" (--allow-host NAME allows a name)", name);
    }
    if (!origin || (s->options.cors && (strcmp(s->options.cors, "*") == 0 || strcmp(s->options.cors, origin) == 0)))
        return true;
    const char *authority = strstr(origin, "://");
    return (authority && host && strcasecmp(authority + 3, host) == 0) ||
           api_fail(&x->error, 403, NULL, "origin_not_allowed",
                    "pages from \"%.200s\" may not use this server (--cors ORIGIN allows one)", origin);
}

/* ---- replies --------------------------------------------------------------------------------- */

static void add_headers(const exchange *x, struct MHD_Response *response) {
    const server *s = x->server;
    const char *origin = header(x, "Origin");
    char text[512];
    MHD_add_response_header(response, "Content-Type", x->content_type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    if (x->stream)
        MHD_add_response_header(response, "X-Accel-Buffering", "no");
    if (x->nonce[0]) {
        snprintf(text, sizeof text,
                 "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; img-src data: blob:; "
                 "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                 x->nonce, x->nonce);
        MHD_add_response_header(response, "Content-Security-Policy", text);
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    }
    if (x->status == 401)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (x->error.retry_after) {
        snprintf(text, sizeof text, "%d", x->error.retry_after);
        MHD_add_response_header(response, "Retry-After", text);
    }
    if (x->status == 405 && x->error.param[0])
        MHD_add_response_header(response, "Allow", x->error.param);
    if (origin && s->options.cors) {
        MHD_add_response_header(response, "Access-Control-Allow-Origin",
                                strcmp(s->options.cors, "*") == 0 ? "*" : s->options.cors);
        MHD_add_response_header(response, "Vary", "Origin");
        MHD_add_response_header(response, "Access-Control-Allow-Headers", "Authorization, Content-Type");
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    }
    if (x->closes || atomic_load(&s->state) == SERVER_DRAINING)
        MHD_add_response_header(response, "Connection", "close");
}

static ssize_t read_stream(void *user, uint64_t position, char *out, size_t bytes) {
    (void)position;
    const ssize_t n = chat_read_stream(user, out, bytes);
    return n > 0 ? n : n == 0 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result send_reply(exchange *x) {
    struct MHD_Response *response;
    if (x->gone)
        return MHD_NO;
    if (x->error.status) {
        buffer_free(&x->reply);
        api_error_json(&x->error, &x->reply);
        x->status = x->error.status;
        x->content_type = "application/json";
    }
    if (x->stream)
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1 << 14, read_stream, x, NULL);
    else
        response = MHD_create_response_from_buffer(x->reply.n_bytes, x->reply.bytes, MHD_RESPMEM_MUST_COPY);
    if (!response || (x->reply.failed && !x->stream)) { /* no memory for an answer: the connection is closed */
        if (response)
            MHD_destroy_response(response);
        return MHD_NO;
    }
    add_headers(x, response);
    atomic_fetch_add(&x->server->n_replies[x->status / 100 % 6], 1);
    const enum MHD_Result result = MHD_queue_response(x->mhd, (unsigned)x->status, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- a request comes in ---------------------------------------------------------------------- */

static size_t body_limit(const server *s) { return (size_t)s->options.max_body_mib << 20; }

static bool fail_too_long(exchange *x) {
    return api_fail(&x->error, 413, NULL, "body_too_long", "the body is longer than %d MiB",
                    x->server->options.max_body_mib);
}

static enum MHD_Result count_lengths(void *user, enum MHD_ValueKind kind, const char *name, const char *value) {
    int *n = user;
    (void)kind;
    (void)value;
    *n += strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0;
    return MHD_YES;
}

/* A body whose end could be read in two ways may hide a second request from a proxy; one that is compressed is not
 * read. */
static bool check_framing(exchange *x) {
    const char *encoding = header(x, "Content-Encoding");
    int n_lengths = 0;
    MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, count_lengths, &n_lengths);
    x->closes = n_lengths > 1;
    if (n_lengths > 1)
        return api_fail(&x->error, 400, NULL, "invalid_request",
                        "the request gives the length of its body in two ways, expected one Content-Length or "
                        "Transfer-Encoding");
    return !encoding || strcasecmp(encoding, "identity") == 0 ||
           api_fail(&x->error, 415, "Content-Encoding", "unsupported_encoding",
                    "the body comes in the encoding %.40s, expected none", encoding);
}

/* All checks that need no body. */
static void check_headers(exchange *x, const char *method, const char *path) {
    const char *length = header(x, "Content-Length");
    x->route = routes_find(method, path, &x->error);
    if (!check_framing(x) || !x->route || !check_origin(x) || !check_key(x))
        return;
    if (length && strtoull(length, NULL, 10) > body_limit(x->server)) {
        fail_too_long(x);
    } else if (x->route->needs_model && atomic_load(&x->server->state) == SERVER_LOADING) {
        api_fail(&x->error, 503, NULL, "loading", "the model is still being loaded");
        x->error.retry_after = 1;
    }
}

/* Whether the server has room for this many more bytes of bodies. */
static bool reserve_body(exchange *x, size_t n_bytes) {
    server *s = x->server;
    const long long limit = (long long)body_limit(s) * 16;
    if (atomic_fetch_add(&s->body_bytes, (long long)n_bytes) + (long long)n_bytes > limit) {
        atomic_fetch_sub(&s->body_bytes, (long long)n_bytes);
        api_fail(&x->error, 503, NULL, "busy", "too many large requests are being received, please try again");
        x->error.retry_after = 5;
        return false;
    }
    x->n_reserved += n_bytes;
    return true;
}

/* false: enough of it was dropped, the connection is to end. */
static bool take_body(exchange *x, const char *bytes, size_t n_bytes) {
    x->n_received += n_bytes;
    if (x->error.status == 0 && x->n_received > body_limit(x->server))
        fail_too_long(x);
    if (x->error.status == 0 && reserve_body(x, n_bytes)) {
        buffer_put(&x->body, bytes, n_bytes);
        if (x->body.failed)
            api_fail_memory(&x->error);
    }
    return x->n_received <= body_limit(x->server) * MOST_DISCARDED_BODIES;
}

static void make_nonce(char *hex, size_t bytes) {
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        memset(random, 0, sizeof random);
    for (size_t i = 0; i < sizeof random && 2 * i + 2 < bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", random[i]);
}

static void set_receiving(exchange *x, bool receiving) {
    if (!x->client)
        return;
    pthread_mutex_lock(&x->server->mutex);
    x->client->receiving = receiving;
    x->client->since = clock_seconds();
    pthread_mutex_unlock(&x->server->mutex);
}

static exchange *exchange_new(server *s, struct MHD_Connection *mhd) {
    exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    char random[33];
    make_nonce(random, sizeof random);
    *x = (exchange){.server = s, .mhd = mhd, .status = 200};
    x->content_type = "application/json";
    x->started = clock_seconds();
    x->created = (int64_t)time(NULL);
    snprintf(x->id, sizeof x->id, "chatcmpl-%.24s", random);
    x->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    x->client = info ? info->socket_context : NULL;
    return x;
}

static enum MHD_Result handle(void *user, struct MHD_Connection *mhd, const char *path, const char *method,
                              const char *version, const char *upload, size_t *n_upload, void **context) {
    (void)version;
    exchange *x = *context;
    if (!x) {
        x = *context = exchange_new(user, mhd);
        if (!x)
            return MHD_NO;
        set_receiving(x, true); /* its body's time limit starts here */
        check_headers(x, method, path);
        /* A client that asks first is answered before it sends the body. */
        return x->error.status && header(x, "Expect") ? send_reply(x) : MHD_YES;
    }
    if (*n_upload) {
        const bool go_on = take_body(x, upload, *n_upload);
        *n_upload = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    set_receiving(x, false);
    if (x->error.status == 0) {
        if (strcmp(path, "/") == 0)
            make_nonce(x->nonce, sizeof x->nonce);
        x->path = path;
        x->route->answer(x);
    }
    return send_reply(x);
}

static void log_request(const exchange *x) {
    const server *s = x->server;
    if (s->options.quiet || !x->route)
        return;
    char usage[128] = "";
    if (x->job && x->over)
        snprintf(usage, sizeof usage, ", %lld + %lld tokens, %lld reused", (long long)x->job->usage.prompt_tokens,
                 (long long)x->job->usage.completion_tokens, (long long)x->job->usage.cached_tokens);
    fprintf(stderr, "%s %s: %d in %.3f s%s\n", x->route->method, x->route->path, x->gone ? 499 : x->status,
            clock_seconds() - x->started, usage);
}

static void complete(void *user, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode reason) {
    (void)mhd;
    (void)reason;
    server *s = user;
    exchange *x = *context;
    if (!x)
        return;
    log_request(x);
    chat_close(x);
    set_receiving(x, true);
    atomic_fetch_sub(&s->body_bytes, (long long)x->n_reserved);
    buffer_free(&x->body);
    buffer_free(&x->reply);
    free(x);
    *context = NULL;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void notify(void *user, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code) {
    server *s = user;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        atomic_fetch_add(&s->n_connections, 1);
        http_client *client = *context = calloc(1, sizeof *client);
        if (!client)
            return;
        client->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        client->receiving = true;
        client->since = clock_seconds();
        pthread_mutex_lock(&s->mutex);
        client->next = s->clients;
        client->previous = &s->clients;
        if (client->next)
            client->next->previous = &client->next;
        s->clients = client;
        pthread_mutex_unlock(&s->mutex);
        return;
    }
    atomic_fetch_sub(&s->n_connections, 1);
    http_client *client = *context;
    if (!client)
        return;
    pthread_mutex_lock(&s->mutex);
    *client->previous = client->next;
    if (client->next)
        client->next->previous = client->previous;
    pthread_mutex_unlock(&s->mutex);
    free(client);
    *context = NULL;
}

/* A request that trickles in avoids libmicrohttpd's own timeout; not this one. */
static void *watch(void *argument) {
    server *s = argument;
    const struct timespec pause = {0, 200000000};
    while (!atomic_load(&s->stop)) {
        nanosleep(&pause, NULL);
        const double late = clock_seconds() - s->options.idle_seconds;
        pthread_mutex_lock(&s->mutex);
        for (http_client *client = s->clients; client; client = client->next)
            if (client->receiving && client->since < late)
                shutdown(client->fd, SHUT_RDWR);
        pthread_mutex_unlock(&s->mutex);
    }
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------------- */

static bool resolve(const server_options *o, struct sockaddr_storage *address, trol_error *error) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", o->port);
    const int code = getaddrinfo(o->host, port, &hints, &found);
    if (code != 0 || !found || found->ai_addrlen > sizeof *address) {
        if (found)
            freeaddrinfo(found);
        fail_sentence(error, TROL_ERROR_ARGUMENT, "--host %s is not an address of this machine: %s", o->host,
                      code ? gai_strerror(code) : "it has none");
        return false;
    }
    memcpy(address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static bool is_loopback(const struct sockaddr_storage *address) {
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    return address->ss_family == AF_INET ? ntohl(four->sin_addr.s_addr) >> 24 == 127
                                         : IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

/* libmicrohttpd's own messages, mostly about clients. */
static void log_http(void *user, const char *format, va_list arguments) {
    const server *s = user;
    if (s->options.verbose)
        vfprintf(stderr, format, arguments);
}

bool http_start(server *s, trol_error *error) {
    struct sockaddr_storage address;
    if (!resolve(&s->options, &address, error))
        return false;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC |
                     MHD_USE_ERROR_LOG;
    if (address.ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    s->loopback = is_loopback(&address);
    pthread_mutex_init(&s->mutex, NULL);
    s->daemon = MHD_start_daemon(
        flags, (uint16_t)s->options.port, NULL, NULL, handle, s, MHD_OPTION_EXTERNAL_LOGGER, log_http, s,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, MHD_OPTION_NOTIFY_COMPLETED, complete, s,
        MHD_OPTION_NOTIFY_CONNECTION, notify, s, MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->options.max_connections,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->options.idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_POOL_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)THREAD_STACK_BYTES, MHD_OPTION_END);
    if (!s->daemon) {
        fail_sentence(error, TROL_ERROR_IO, "cannot listen on %s port %d: the port is in use, or may not be used",
                      s->options.host, s->options.port);
        return false;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    s->port = info && info->port ? info->port : s->options.port;
    if (pthread_create(&s->watchdog, NULL, watch, s) == 0)
        return true;
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
    fail_sentence(error, TROL_ERROR_MEMORY, "the thread that watches connections could not be started");
    return false;
}

void http_quiesce(server *s) {
    const MHD_socket listening = MHD_quiesce_daemon(s->daemon);
    if (listening != MHD_INVALID_SOCKET)
        close(listening);
}

void http_stop(server *s) {
    if (!s->daemon)
        return;
    atomic_store(&s->stop, true);
    MHD_stop_daemon(s->daemon);
    pthread_join(s->watchdog, NULL);
    pthread_mutex_destroy(&s->mutex);
    s->daemon = NULL;
}
