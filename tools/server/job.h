/* job.h - one request in progress: what the connection's thread asked for, and the events with which the engine's
 * thread answers, in order, through a descriptor that poll() can wait on beside the client's socket. */
#ifndef SERVER_JOB_H
#define SERVER_JOB_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/chat_request.h"
#include "server/image_store.h"

typedef enum event_kind {
    EVENT_GATES,  /* the prompt's gates: comes before the first token */
    EVENT_TOKEN,  /* a chosen token, with the text that may be shown since */
    EVENT_FINISH, /* a choice is complete: the rest of its text, and why */
    EVENT_DONE,   /* all are: the last event */
    EVENT_ERROR   /* the job failed: the last event */
} event_kind;

typedef struct event {
    struct event *next;
    event_kind kind;
    int32_t choice;
    char *text;         /* may be NULL: nothing */
    const char *reason; /* EVENT_FINISH: "stop" or "length" */
    int32_t n_top;
    trol_token_logprob *logprobs; /* [1 + n_top]: of the token, then of the likeliest; NULL: not asked for */
    api_error *error;             /* EVENT_ERROR */
} event;

/* What a job took, valid once its last event has come. */
typedef struct job_usage {
    int64_t prompt_tokens, cached_tokens, completion_tokens;
    double queue_seconds, prompt_seconds, answer_seconds; /* image encoding is part of the queue's */
} job_usage;

/* Gates of the prompt's image tokens: values [n_layers, n_tokens]. */
typedef struct job_gates {
    int32_t n_layers;
    int64_t n_tokens;
    float *values;
    int32_t n_tiles[CHAT_MOST_IMAGES]; /* of each picture */
} job_gates;

typedef struct job {
    atomic_int references; /* the connection's and the engine's */
    chat_request request;
    trol_constraint *constraint; /* that each choice has a clone of; NULL: none */
    int event_fd;
    atomic_bool cancelled;
    pthread_mutex_t mutex; /* guards the events and `running` */
    event *first, **last;
    trol_session *running; /* the session whose prompt is being processed; NULL: none */

    /* the engine's own, until the last event */
    struct job *next;
    image_entry *images[CHAT_MOST_IMAGES]; /* [request.n_images] */
    int32_t *tokens;                       /* [n_tokens] of the prompt, once the pictures are there */
    size_t n_tokens;
    int32_t n_open; /* choices that are not finished */
    double submitted, started, answered;
    job_usage usage;
    job_gates gates;
    event *spare; /* for an error, when there is no memory left for one */
} job;

/* Takes the request over. NULL: there is no memory, or no descriptor, and the request is freed. */
job *job_new(chat_request *request);
job *job_retain(job *j);
void job_release(job *j);

/* The engine's side. Takes the event over. */
void job_put(job *j, event *e);
/* The last event, an error. */
void job_put_error(job *j, const api_error *error);
/* The connection's side: the next event, or NULL. Free with event_free. */
event *job_take(job *j);
void event_free(event *e);

/* The client is gone: the engine drops the job, even in the middle of its prompt. The engine must be woken. */
void job_cancel(job *j);
/* Which session a cancel stops; NULL: none. */
void job_set_running(job *j, trol_session *session);

#endif
