/* server.h - what the server's parts share: its options, its state, and a request in progress. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <microhttpd.h>
#include <semaphore.h>

#include "common/arguments.h"
#include "server/engine.h"

typedef struct server_options {
    const char *model, *host, *alias, *api_key, *api_key_file, *cors, *cache_dir;
    argument_texts allowed_hosts;
    int32_t port, n_slots, context_size, queue_limit, n_threads, weight_type, vision_type, compute, cache_type;
    int32_t image_cache_mib, max_body_mib, max_connections, idle_seconds, drain_seconds, piece_ms;
    bool verbose, quiet, version, help;
} server_options;

/* One client's connection, as the watchdog sees it. */
typedef struct http_client {
    struct http_client *next, **previous;
    int fd;
    bool receiving; /* a request is awaited, or arriving */
    double since;   /* when that began */
} http_client;

typedef enum server_state { SERVER_LOADING, SERVER_READY, SERVER_DRAINING } server_state;

typedef struct server {
    server_options options;
    char model_id[256];
    char **keys; /* [n_keys]; none: no key is needed */
    size_t n_keys;
    bool loopback;
    int32_t port; /* as bound */
    atomic_int state;
    trol_threads *threads;
    trol_model *model;
    trol_model_info info;
    engine *engine;
    engine_memory memory;
    struct MHD_Daemon *daemon;
    sem_t parsing;           /* requests whose JSON is being read at once */
    atomic_llong body_bytes; /* of all requests in progress */
    atomic_int n_connections;
    atomic_llong n_replies[6]; /* by the first digit of their status */
    pthread_mutex_t mutex;     /* guards the clients */
    http_client *clients;
    pthread_t watchdog;
    atomic_bool stop;
    double started;
} server;

struct route;

/* A request and its answer. */
typedef struct exchange {
    server *server;
    struct MHD_Connection *mhd;
    http_client *client; /* may be NULL: there was no memory for its entry */
    int fd;
    const struct route *route;
    const char *path;  /* while `route` answers */
    buffer body;       /* of the request */
    size_t n_received; /* of the body, with what was dropped */
    size_t n_reserved; /* of server->body_bytes */
    api_error error;   /* status 0: none so far */

    int status; /* of the reply */
    const char *content_type;
    buffer reply;
    char nonce[33];
    job *job;          /* of a chat request */
    bool over;         /* its last event has come */
    bool gone;         /* the client has disconnected */
    bool closes;       /* the connection, after the reply */
    bool stream;       /* the reply is written while the job runs */
    bool stream_ended; /* all of it is in `reply` */
    char id[40];
    int64_t created;
    double started;
} exchange;

/* An endpoint. */
typedef struct route {
    const char *method, *path;
    bool open;        /* needs no key */
    bool needs_model; /* 503 while it is being loaded */
    void (*answer)(exchange *x);
} route;

/* The route of a path and method; NULL with the error (404, 405). */
const route *routes_find(const char *method, const char *path, api_error *error);

/* Chat completions (chat.c). */
void chat_answer(exchange *x);
/* Waits until a part of a streamed reply is in x->reply, at most `bytes` of which are copied. Returns how many; 0 at
 * the end, -1 where the client is gone. */
ssize_t chat_read_stream(exchange *x, char *out, size_t bytes);
/* The exchange is over, successful or not. */
void chat_close(exchange *x);

/* The embedded page (made by embed.cmake). */
extern const unsigned char page_html[];
extern const size_t page_html_bytes;

bool http_start(server *s, trol_error *error);
/* No new connections. */
void http_quiesce(server *s);
/* Ends the open connections. */
void http_stop(server *s);

#endif
