/* engine.h - one thread that answers all requests: it drives trol_step with the answers that are being decoded and,
 * beside them, pieces of waiting prompts. */
#ifndef SERVER_ENGINE_H
#define SERVER_ENGINE_H

#include "server/job.h"

typedef struct engine engine;

typedef struct engine_params {
    trol_model *model;
    trol_threads *threads; /* the model's */
    int32_t n_slots;       /* sessions, so answers at once */
    int32_t context_size;  /* tokens of each */
    int32_t queue_limit;   /* requests that wait for a slot */
    trol_cache_type cache_type;
    size_t image_cache_bytes;
    double piece_seconds; /* what a piece of a prompt may add to a step while answers wait for it */
} engine_params;

/* Counters since the start, and the current state. */
typedef struct engine_metrics {
    int64_t requests, finished, failed, cancelled, refused;
    int64_t prompt_tokens, reused_tokens, answer_tokens;
    int64_t steps, answer_rows, prompt_rows; /* rows of all steps together */
    double prompt_seconds, answer_seconds;   /* of steps with a piece of a prompt, and without */
    int32_t queued, busy_slots, answering, largest_piece;
    int64_t cache_bytes; /* keys and values held now */
    image_store_stats images;
} engine_metrics;

/* Upper bounds of memory that follow from the parameters, in bytes. */
typedef struct engine_memory {
    int64_t sessions; /* keys and values of both passes, all slots full */
    int64_t images;   /* the cache, and pictures in use beyond it */
    int64_t scratch;  /* of a step and of encoding a picture; an estimate */
} engine_memory;

engine_memory engine_compute_memory(const trol_model_info *info, const engine_params *params);

bool engine_new(const engine_params *params, engine **result, trol_error *error);
/* Cancels what runs. */
void engine_free(engine *e);

/* Checks the request as far as it can be checked without its pictures' contents and queues the job, which the engine
 * retains. false with the error: 400, 429 for a full queue, 503 after engine_drain. */
bool engine_submit(engine *e, job *j, api_error *error);
/* The job's client is gone. */
void engine_cancel(engine *e, job *j);

/* From now on no request is accepted. */
void engine_drain(engine *e);
/* Requests that are queued or run are answered 503: the server is being shut down. */
void engine_end(engine *e);
/* Requests that are queued or run. */
int32_t engine_count_open(engine *e);
engine_metrics engine_get_metrics(engine *e);

#endif
