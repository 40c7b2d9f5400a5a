/* Two ways through attention, chosen by a job's kind:
 *
 * Tiles (prompts, pictures): a chunk of work is a tile of query rows and a group of query heads that share a key
 * head. Their rows fill panels of lanes; a tile of keys and values is converted to float32 once and multiplied with all
 * panels. Each lane carries its own running maximum and sum, so that its result is the same whatever is beside it and
 * however a prompt is cut into calls.
 *
 * Spans (answer rows): a chunk is a span of keys of one key head, for up to FEW_ROWS rows; spans begin at multiples of
 * SPAN_KEYS and are merged in ascending order, so results do not depend on threads or on other rows. Jobs whose keys
 * begin with the same blocks (beams, forks) go together: a span that they share is gone through once for all their
 * rows, and one that they share in part by the same thread, so that it comes from memory once. */
#include "kernels/attention.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    FEW_ROWS = 16,        /* answer rows that are decoded together, at most */
    CHUNK_LANES = 480,    /* query rows times heads in a chunk of a prompt, about; fewer where chunks would be few */
    SPAN_KEYS = 512,      /* keys in a chunk of decoding */
    SMALL_WORK = 1 << 17, /* multiplications below which decoding wakes no other thread */
    MAX_HEAD_DIM = 256,
    MAX_PANEL_LANES = 64
};

static const float log2_e = 1.44269504088896341f;

static int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

/* The keys that a row sees: first .. end - 1. */
static int64_t first_key(const attention_shape *shape, const attention_job *job, int64_t row) {
    return job->positions ? max_of(0, job->positions[row] - shape->window) : 0;
}

static int64_t end_key(const attention_job *job, int64_t row) {
    return job->positions ? (int64_t)job->positions[row] + 1 : job->n_keys;
}

/* rows[i] = the address of token first + i of a key head, for tokens first .. end - 1. */
static void find_tokens(const attention_source *source, const void *const *blocks, int64_t head, int64_t first,
                        int64_t end, const void **rows) {
    for (int64_t token = first; token < end;) {
        int64_t block = token / source->block_tokens, within = token % source->block_tokens;
        int64_t block_end = min_of(end, (block + 1) * source->block_tokens);
        const unsigned char *at = (const unsigned char *)blocks[block];
        at += within * source->token_stride + head * source->head_stride;
        for (; token < block_end; token++, at += source->token_stride)
            rows[token - first] = at;
    }
}

/* ---- Tiles ----------------------------------------------------------------------------------- */

/* Scratch of one thread. Sizes in floats or int32. */
typedef struct tile_scratch {
    float *q;             /* [panels][head_dim, lanes of the panel] */
    float *out;           /* [panels][value dimensions, lanes of the panel] */
    float *keys;          /* [ATTENTION_TILE_KEYS, key_stride] */
    float *values;        /* [value strips, ATTENTION_TILE_KEYS, ATTENTION_STRIP] */
    float *scores;        /* [ATTENTION_TILE_KEYS, panel lanes] */
    float *max, *sum;     /* [lanes] */
    int32_t *first, *end; /* [panel lanes] */
} tile_scratch;

typedef struct tile_work {
    const run *run;
    const attention_shape *shape;
    const attention_job *jobs;
    int64_t n_jobs;
    int64_t group;          /* query heads to a key head */
    int64_t rows_per_chunk; /* query rows */
    int64_t panel_lanes;    /* lanes of a full panel */
    bool bf16;              /* queries, keys and values go in pairs of bfloat16 */
    int64_t key_stride, n_value_strips;
    int64_t *first_chunk; /* [n_jobs + 1]; a job of answer rows has none */
    float *scratch;       /* [threads, scratch_floats] */
    int64_t chunk_lanes, scratch_floats;
} tile_work;

/* One chunk: rows row .. row + n_rows - 1 of a job, key head kv_head. */
typedef struct tile_chunk {
    const tile_work *work;
    const attention_job *job;
    int64_t row, n_rows, kv_head;
    int64_t n_lanes; /* padded to whole vectors */
    tile_scratch scratch;
} tile_chunk;

static tile_scratch divide_scratch(const tile_work *work, float *memory) {
    tile_scratch s;
    int64_t value_dims = work->n_value_strips * ATTENTION_STRIP;
    s.q = memory;
    s.out = s.q + work->chunk_lanes * work->shape->head_dim;
    s.keys = s.out + work->chunk_lanes * value_dims;
    s.values = s.keys + ATTENTION_TILE_KEYS * work->key_stride;
    s.scores = s.values + ATTENTION_TILE_KEYS * value_dims;
    s.max = s.scores + ATTENTION_TILE_KEYS * work->panel_lanes;
    s.sum = s.max + work->chunk_lanes;
    s.first = (int32_t *)(void *)(s.sum + work->chunk_lanes);
    s.end = s.first + work->panel_lanes;
    return s;
}

static int64_t scratch_floats(const tile_work *work) {
    int64_t value_dims = work->n_value_strips * ATTENTION_STRIP;
    return work->chunk_lanes * (work->shape->head_dim + value_dims + 2) +
           ATTENTION_TILE_KEYS * (work->key_stride + value_dims + work->panel_lanes) + 2 * work->panel_lanes;
}

/* Lanes in the panel that begins at lane `first`. */
static int64_t panel_width(const tile_chunk *chunk, int64_t first) {
    return min_of(chunk->work->panel_lanes, chunk->n_lanes - first);
}

/* Row of a lane, counted within the chunk. Lanes run over the heads of a row, then over rows; those that only fill up
 * the last vector see what the last row sees. */
static int64_t lane_row(const tile_chunk *chunk, int64_t lane) {
    return min_of(lane / chunk->work->group, chunk->n_rows - 1);
}

/* Query rows and result rows of the lanes of a panel; lanes after the last row read it once more and write nothing. */
typedef struct panel_rows {
    const float *q[MAX_PANEL_LANES];
    float *out[MAX_PANEL_LANES];
    float factors[MAX_PANEL_LANES]; /* 1 / sum */
    int64_t n_rows;                 /* lanes that have one */
} panel_rows;

static void find_panel_rows(const tile_chunk *chunk, int64_t panel, panel_rows *rows) {
    const attention_shape *shape = chunk->work->shape;
    int64_t group = chunk->work->group, width = panel_width(chunk, panel);
    rows->n_rows = min_of(width, chunk->n_rows * group - panel);
    for (int64_t lane = 0; lane < width; lane++) {
        int64_t index = panel + min_of(lane, rows->n_rows - 1);
        int64_t row = chunk->row + index / group, head = chunk->kv_head * group + index % group;
        rows->q[lane] = chunk->job->q + row * chunk->job->q_stride + shape->q_offsets[head];
        rows->out[lane] = chunk->job->out + row * chunk->job->out_stride + head * shape->head_dim;
    }
}

static void load_queries(const tile_chunk *chunk) {
    const tile_work *work = chunk->work;
    panel_rows rows;
    const attention_kernels *table = &work->run->kernels->attention;
    int64_t head_dim = work->shape->head_dim;
    for (int64_t panel = 0; panel < chunk->n_lanes; panel += work->panel_lanes) {
        float *q = chunk->scratch.q + panel * head_dim;
        find_panel_rows(chunk, panel, &rows);
        table->load_lanes(rows.q, panel_width(chunk, panel), head_dim, work->shape->scale * log2_e, q);
        if (work->bf16)
            table->pair_up_rows(q, head_dim, panel_width(chunk, panel));
    }
}

static void store_results(const tile_chunk *chunk) {
    const tile_work *work = chunk->work;
    panel_rows rows;
    for (int64_t panel = 0; panel < chunk->n_lanes; panel += work->panel_lanes) {
        find_panel_rows(chunk, panel, &rows);
        for (int64_t lane = 0; lane < rows.n_rows; lane++) {
            float sum = chunk->scratch.sum[panel + lane];
            rows.factors[lane] = sum > 0 ? 1.0f / sum : 0.0f;
        }
        work->run->kernels->attention.store_lanes(chunk->scratch.out + panel * work->n_value_strips * ATTENTION_STRIP,
                                                  panel_width(chunk, panel), work->shape->head_dim, rows.factors,
                                                  rows.n_rows, rows.out);
    }
}

/* One value to its place in the strips: the strips of dimensions d .. d + 7 have a stride of ATTENTION_TILE_KEYS. */
static void store_value(float *strips, const float *value, int64_t value_dims) {
    for (int64_t d = 0; d < value_dims; d += ATTENTION_STRIP)
        memcpy(strips + d * ATTENTION_TILE_KEYS, value + d, ATTENTION_STRIP * sizeof(float));
}

/* Keys begin .. end - 1, none before `first`, to float32 or pairs of bfloat16; zeros fill up the last strip and the
 * place of skipped ones. */
static void load_tile(const tile_chunk *chunk, int64_t begin, int64_t first, int64_t end) {
    const tile_work *work = chunk->work;
    const attention_source *source = &chunk->job->source;
    int64_t dims = work->shape->head_dim, value_dims = work->n_value_strips * ATTENTION_STRIP;
    const kv_codec *codec = &work->run->kernels->kv[source->type];
    static const float zeros[MAX_HEAD_DIM];
    float converted[MAX_HEAD_DIM];
    const void *keys[ATTENTION_TILE_KEYS], *values[ATTENTION_TILE_KEYS];
    int64_t skipped = max_of(0, first - begin);
    find_tokens(source, source->key_blocks, chunk->kv_head, begin + skipped, end, keys);
    find_tokens(source, source->value_blocks, chunk->kv_head, begin + skipped, end, values);
    if (dims < value_dims)
        memset(converted + dims, 0, (size_t)(value_dims - dims) * sizeof(float));
    for (int64_t i = 0; i < round_up(end - begin, ATTENTION_STRIP); i++) {
        float *key = chunk->scratch.keys + i * work->key_stride, *strips = chunk->scratch.values + i * ATTENTION_STRIP;
        if (i < skipped || begin + i >= end) {
            memcpy(key, zeros, (size_t)dims * sizeof(float));
            store_value(strips, zeros, value_dims);
            continue;
        }
        codec->load(keys[i - skipped], key, dims);
        codec->load(values[i - skipped], converted, dims);
        store_value(strips, converted, value_dims);
    }
    if (!work->bf16)
        return;
    const attention_kernels *table = &work->run->kernels->attention;
    int64_t n_keys = round_up(end - begin, ATTENTION_STRIP);
    table->pair_up_keys(chunk->scratch.keys, n_keys, work->key_stride, dims);
    for (int64_t strip = 0; strip < work->n_value_strips; strip++)
        table->pair_up_rows(chunk->scratch.values + strip * ATTENTION_TILE_KEYS * ATTENTION_STRIP, n_keys,
                            ATTENTION_STRIP);
}

/* The panel that begins at lane `panel` by the tile of keys begin .. end - 1. */
static void apply_tile(const tile_chunk *chunk, int64_t panel, int64_t begin, int64_t end) {
    const tile_work *work = chunk->work;
    const attention_shape *shape = work->shape;
    const tile_scratch *s = &chunk->scratch;
    int64_t width = panel_width(chunk, panel);
    int64_t first_row = chunk->row + lane_row(chunk, panel), last_row = chunk->row + lane_row(chunk, panel + width - 1);
    int64_t seen_end = min_of(end, end_key(chunk->job, last_row));
    if (seen_end <= begin || first_key(shape, chunk->job, first_row) >= seen_end)
        return;
    bool all = first_key(shape, chunk->job, last_row) <= begin && end_key(chunk->job, first_row) >= seen_end &&
               (seen_end - begin) % ATTENTION_STRIP == 0;
    if (!all)
        for (int64_t lane = 0; lane < width; lane++) {
            int64_t row = chunk->row + lane_row(chunk, panel + lane);
            int64_t lane_end = max_of(0, min_of(end, end_key(chunk->job, row)) - begin);
            s->first[lane] = (int32_t)min_of(lane_end, max_of(0, first_key(shape, chunk->job, row) - begin));
            s->end[lane] = (int32_t)lane_end;
        }
    attention_tile tile = {.n_lanes = width,
                           .n_keys = round_up(seen_end - begin, ATTENTION_STRIP),
                           .head_dim = shape->head_dim,
                           .n_value_strips = work->n_value_strips,
                           .q = s->q + panel * shape->head_dim,
                           .keys = s->keys,
                           .key_stride = work->key_stride,
                           .values = s->values,
                           .first = all ? NULL : s->first,
                           .end = all ? NULL : s->end,
                           .scores = s->scores,
                           .max = s->max + panel,
                           .sum = s->sum + panel,
                           .out = s->out + panel * work->n_value_strips * ATTENTION_STRIP};
    const attention_kernels *table = &work->run->kernels->attention;
    (work->bf16 ? table->tile_bf16 : table->tile)(&tile);
}

static bool is_cancelled(const run *r) { return r->cancel && atomic_load_explicit(r->cancel, memory_order_relaxed); }

static void tile_task(void *context, int64_t index, int thread) {
    const tile_work *work = context;
    int64_t job_index = 0;
    while (index >= work->first_chunk[job_index + 1])
        job_index++;
    const attention_job *job = &work->jobs[job_index];
    index -= work->first_chunk[job_index];
    /* The last rows see the most keys: they go first, so that no thread is left with them at the end. */
    int64_t n_row_tiles = (job->n_rows + work->rows_per_chunk - 1) / work->rows_per_chunk;
    int64_t row = (n_row_tiles - 1 - index / work->shape->n_kv_heads) * work->rows_per_chunk;
    tile_chunk chunk = {.work = work,
                        .job = job,
                        .row = row,
                        .n_rows = min_of(work->rows_per_chunk, job->n_rows - row),
                        .kv_head = index % work->shape->n_kv_heads,
                        .scratch = divide_scratch(work, work->scratch + thread * work->scratch_floats)};
    chunk.n_lanes = round_up(chunk.n_rows * work->group, work->run->kernels->attention.vector_lanes);
    load_queries(&chunk);
    memset(chunk.scratch.out, 0, (size_t)(chunk.n_lanes * work->n_value_strips * ATTENTION_STRIP) * sizeof(float));
    for (int64_t lane = 0; lane < chunk.n_lanes; lane++) {
        chunk.scratch.max[lane] = -FLT_MAX;
        chunk.scratch.sum[lane] = 0;
    }
    int64_t first = first_key(work->shape, job, row), last_end = end_key(job, row + chunk.n_rows - 1);
    for (int64_t begin = first / ATTENTION_TILE_KEYS * ATTENTION_TILE_KEYS; begin < last_end;
         begin += ATTENTION_TILE_KEYS) {
        int64_t end = min_of(begin + ATTENTION_TILE_KEYS, last_end);
        if (is_cancelled(work->run))
            return;
        load_tile(&chunk, begin, first, end);
        for (int64_t panel = 0; panel < chunk.n_lanes; panel += work->panel_lanes)
            apply_tile(&chunk, panel, begin, end);
    }
    store_results(&chunk);
}

/* Rows of a chunk. The more there are, the more often a converted key is used; but threads must not go idle at the end.
 * Lanes do not influence each other, so that this may well depend on the number of threads. */
static int64_t rows_in_chunk(const run *r, const attention_shape *shape, const attention_job *jobs, int64_t n_jobs) {
    int64_t group = shape->n_heads / shape->n_kv_heads, lanes = 0;
    for (int64_t i = 0; i < n_jobs; i++)
        if (!jobs[i].answer)
            lanes += jobs[i].n_rows * shape->n_heads;
    int64_t largest = shape->head_dim > 128 ? CHUNK_LANES / 2 : CHUNK_LANES;
    while (largest > CHUNK_LANES / 5 && lanes / largest < 8 * threads_count(r->threads))
        largest -= CHUNK_LANES / 10;
    return max_of(1, largest / group);
}

static trol_status apply_tiles(const run *r, const attention_shape *shape, const attention_job *jobs, int64_t n_jobs) {
    const attention_kernels *table = &r->kernels->attention;
    tile_work work = {.run = r, .shape = shape, .jobs = jobs, .n_jobs = n_jobs};
    work.group = shape->n_heads / shape->n_kv_heads;
    work.panel_lanes = (int64_t)table->vector_lanes * table->panel_vectors;
    work.rows_per_chunk = rows_in_chunk(r, shape, jobs, n_jobs);
    work.chunk_lanes = round_up(work.rows_per_chunk * work.group, 16);
    work.bf16 = shape->bf16 && table->tile_bf16;
    work.key_stride = round_up(shape->head_dim, 16);
    work.n_value_strips = (shape->head_dim + ATTENTION_STRIP - 1) / ATTENTION_STRIP;
    work.scratch_floats = round_up(scratch_floats(&work), 16);
    TRY(run_alloc(r, (size_t)n_jobs + 1, sizeof(int64_t), (void **)&work.first_chunk));
    work.first_chunk[0] = 0;
    for (int64_t i = 0; i < n_jobs; i++) {
        int64_t rows = jobs[i].answer ? 0 : jobs[i].n_rows;
        work.first_chunk[i + 1] =
            work.first_chunk[i] + (rows + work.rows_per_chunk - 1) / work.rows_per_chunk * shape->n_kv_heads;
    }
    if (work.first_chunk[n_jobs] == 0)
        return TROL_OK;
    TRY(run_alloc(r, (size_t)threads_count(r->threads), (size_t)work.scratch_floats * sizeof(float),
                  (void **)&work.scratch));
    return run_chunks(r, work.first_chunk[n_jobs], tile_task, &work);
}

/* ---- Spans ----------------------------------------------------------------------------------- */

/* The softmax over one span of keys for one row and head. `out` [head_dim] is stored elsewhere. */
typedef struct span_result {
    float max, sum; /* sum 0: the row sees nothing of this span */
} span_result;

typedef struct span_job {
    attention_job job;           /* up to FEW_ROWS rows of the caller's */
    int64_t first_span, n_spans; /* which hold the keys of its rows */
    span_result *results;        /* [n_rows, n_heads, n_spans] */
    float *out;                  /* [n_rows, n_heads, n_spans, head_dim] */
} span_job;

typedef struct span_work {
    const run *run;
    const attention_shape *shape;
    span_job *jobs;
    int64_t n_jobs, max_spans, group;
    int64_t *clusters; /* [n_clusters + 1]: the first job of each, up to FEW_ROWS rows whose keys begin alike */
    int64_t n_clusters;
    int64_t items, items_per_chunk; /* (key head, span, cluster) each */
    float *scratch;                 /* [threads, scratch_floats]: scores, scaled queries, results of all rows' heads */
    int64_t scratch_floats;
} span_work;

/* A row in one span, of which it sees keys first .. end - 1. */
typedef struct span_row {
    const span_job *job;
    int64_t row, first, end;
} span_row;

/* Where the spans of a row and head begin in results and out. */
static int64_t span_slot(const span_work *work, const span_job *job, int64_t row, int64_t head) {
    return (row * work->shape->n_heads + head) * job->n_spans;
}

/* Where the results of query i of some rows are, in a span that is counted from the key 0. */
static int64_t query_slot(const span_work *work, const span_row *rows, int64_t i, int64_t kv_head, int64_t span) {
    const span_row *r = &rows[i / work->group];
    return span_slot(work, r->job, r->row, kv_head * work->group + i % work->group) + span - r->job->first_span;
}

/* One span for the query heads of rows that all see the same keys of it. A row's results are those of a call for this
 * row alone. */
static void apply_span(const span_work *work, const span_row *rows, int64_t n_rows, int64_t kv_head, int64_t span,
                       float *scratch) {
    const attention_kernels *table = &work->run->kernels->attention;
    const attention_shape *shape = work->shape;
    const attention_source *source = &rows[0].job->job.source;
    const kv_codec *codec = &work->run->kernels->kv[source->type];
    const int64_t first = rows[0].first, n_keys = rows[0].end - first;
    int64_t dims = shape->head_dim, group = work->group, n_queries = n_rows * group;
    float *scores = scratch, *q = scores + FEW_ROWS * group * SPAN_KEYS, *out = q + FEW_ROWS * group * dims;
    for (int64_t i = 0; i < n_queries; i++) {
        const attention_job *job = &rows[i / group].job->job;
        const float *from = job->q + rows[i / group].row * job->q_stride;
        from += shape->q_offsets[kv_head * group + i % group];
        for (int64_t d = 0; d < dims; d++)
            q[i * dims + d] = from[d] * (shape->scale * log2_e);
    }
    const void *tokens[SPAN_KEYS];
    find_tokens(source, source->key_blocks, kv_head, first, first + n_keys, tokens);
    codec->dot(tokens, n_keys, q, n_queries, dims, scores, SPAN_KEYS, table->prefetch_l2);
    for (int64_t i = 0; i < n_queries; i++) {
        span_result *result = &rows[i / group].job->results[query_slot(work, rows, i, kv_head, span)];
        table->softmax(scores + i * SPAN_KEYS, n_keys, &result->max, &result->sum);
    }
    find_tokens(source, source->value_blocks, kv_head, first, first + n_keys, tokens);
    codec->axpy(tokens, n_keys, scores, SPAN_KEYS, n_queries, dims, out, dims, table->prefetch_l2);
    for (int64_t i = 0; i < n_queries; i++)
        memcpy(rows[i / group].job->out + query_slot(work, rows, i, kv_head, span) * dims, out + i * dims,
               (size_t)dims * sizeof(float));
}

/* Whether both jobs have keys first .. end - 1 in the same blocks. */
static bool share_keys(const span_job *left, const span_job *right, int64_t first, int64_t end) {
    const attention_source *a = &left->job.source, *b = &right->job.source;
    if (a->block_tokens != b->block_tokens || a->type != b->type || a->token_stride != b->token_stride ||
        a->head_stride != b->head_stride)
        return false;
    for (int64_t block = first / a->block_tokens; block * a->block_tokens < end; block++)
        if (a->key_blocks[block] != b->key_blocks[block] || a->value_blocks[block] != b->value_blocks[block])
            return false;
    return true;
}

static bool see_the_same(const span_row *a, const span_row *b) {
    return a->first == b->first && a->end == b->end &&
           (a->job == b->job || share_keys(a->job, b->job, a->first, a->end));
}

/* One span of a key head for all rows of a cluster. */
static void apply_cluster(const span_work *work, int64_t cluster, int64_t kv_head, int64_t span, float *scratch) {
    span_row rows[FEW_ROWS];
    int64_t n_rows = 0;
    for (int64_t i = work->clusters[cluster]; i < work->clusters[cluster + 1]; i++) {
        const span_job *job = &work->jobs[i];
        if (span < job->first_span || span >= job->first_span + job->n_spans)
            continue;
        for (int64_t row = 0; row < job->job.n_rows; row++)
            rows[n_rows++] = (span_row){job, row, max_of(span * SPAN_KEYS, first_key(work->shape, &job->job, row)),
                                        min_of((span + 1) * SPAN_KEYS, end_key(&job->job, row))};
    }
    for (int64_t i = 0, next; i < n_rows; i = next) {
        for (next = i + 1; next < n_rows && see_the_same(&rows[next - 1], &rows[next]);)
            next++;
        if (rows[i].first < rows[i].end)
            apply_span(work, rows + i, next - i, kv_head, span, scratch);
        else
            for (int64_t k = i * work->group; k < next * work->group; k++)
                rows[k / work->group].job->results[query_slot(work, rows, k, kv_head, span)] =
                    (span_result){.max = -FLT_MAX, .sum = 0};
    }
}

static void span_task(void *context, int64_t chunk, int thread) {
    const span_work *work = context;
    float *scratch = work->scratch + thread * work->scratch_floats;
    int64_t end = min_of((chunk + 1) * work->items_per_chunk, work->items);
    for (int64_t item = chunk * work->items_per_chunk; item < end; item++) {
        int64_t cluster = item % work->n_clusters, kv_head = item / work->n_clusters / work->max_spans;
        int64_t first_span = work->jobs[work->clusters[cluster]].first_span;
        apply_cluster(work, cluster, kv_head, first_span + item / work->n_clusters % work->max_spans, scratch);
    }
}

/* Adds up the spans of one row and head, in ascending order. */
static void merge_spans(const span_work *work, const span_job *job, int64_t row, int64_t head) {
    int64_t dims = work->shape->head_dim, slot = span_slot(work, job, row, head);
    const span_result *results = job->results + slot;
    float *out = job->job.out + row * job->job.out_stride + head * dims;
    float max = -FLT_MAX, sum = 0;
    for (int64_t span = 0; span < job->n_spans; span++)
        max = fmaxf(max, results[span].max);
    memset(out, 0, (size_t)dims * sizeof(float));
    for (int64_t span = 0; span < job->n_spans; span++) {
        if (results[span].sum == 0)
            continue;
        const float *part = job->out + (slot + span) * dims;
        float weight = exp2f(results[span].max - max);
        sum += weight * results[span].sum;
        for (int64_t d = 0; d < dims; d++)
            out[d] += weight * part[d];
    }
    float factor = sum > 0 ? 1.0f / sum : 0.0f;
    for (int64_t d = 0; d < dims; d++)
        out[d] *= factor;
}

static void merge_task(void *context, int64_t chunk, int thread) {
    const span_work *work = context;
    const span_job *job = &work->jobs[chunk];
    (void)thread;
    for (int64_t row = 0; row < job->job.n_rows; row++)
        for (int64_t head = 0; head < work->shape->n_heads; head++)
            merge_spans(work, job, row, head);
}

/* Rows row .. row + n_rows - 1 of a job. */
static trol_status prepare_span_job(const run *r, const attention_shape *shape, const attention_job *whole, int64_t row,
                                    int64_t n_rows, span_job *result) {
    attention_job *job = &result->job;
    *job = *whole;
    job->n_rows = n_rows;
    job->q += row * job->q_stride;
    job->out += row * job->out_stride;
    if (job->positions)
        job->positions += row;
    int64_t first = first_key(shape, job, 0), end = end_key(job, n_rows - 1);
    result->first_span = first / SPAN_KEYS;
    result->n_spans = end > first ? (end - 1) / SPAN_KEYS - result->first_span + 1 : 0;
    size_t slots = (size_t)(n_rows * shape->n_heads * result->n_spans);
    TRY(run_alloc(r, slots, sizeof(span_result), (void **)&result->results));
    return run_alloc(r, slots * (size_t)shape->head_dim, sizeof(float), (void **)&result->out);
}

/* Jobs that follow each other and whose keys begin in the same block form a cluster. */
static trol_status find_clusters(const run *r, span_work *work) {
    int64_t n_rows = 0;
    TRY(run_alloc(r, (size_t)work->n_jobs + 1, sizeof *work->clusters, (void **)&work->clusters));
    for (int64_t i = 0; i < work->n_jobs; i++) {
        const span_job *job = &work->jobs[i], *last = job - (i > 0);
        const int64_t first = job->first_span * SPAN_KEYS;
        n_rows += job->job.n_rows;
        if (i > 0 && n_rows <= FEW_ROWS && job->n_spans > 0 && last->n_spans > 0 &&
            job->first_span == last->first_span && share_keys(last, job, first, first + 1))
            continue;
        work->clusters[work->n_clusters++] = i;
        n_rows = job->job.n_rows;
    }
    work->clusters[work->n_clusters] = work->n_jobs;
    return TROL_OK;
}

static trol_status apply_spans(const run *r, const attention_shape *shape, const attention_job *jobs, int64_t n_jobs) {
    span_work work = {.run = r, .shape = shape, .group = shape->n_heads / shape->n_kv_heads};
    int64_t work_size = 0, n_parts = 0; /* in keys, and then in multiplications */
    for (int64_t i = 0; i < n_jobs; i++)
        n_parts += jobs[i].answer ? (jobs[i].n_rows + FEW_ROWS - 1) / FEW_ROWS : 0;
    if (n_parts == 0)
        return TROL_OK;
    TRY(run_alloc(r, (size_t)n_parts, sizeof(span_job), (void **)&work.jobs));
    for (int64_t i = 0; i < n_jobs; i++)
        for (int64_t row = 0; jobs[i].answer && row < jobs[i].n_rows; row += FEW_ROWS) {
            span_job *job = &work.jobs[work.n_jobs++];
            int64_t n_rows = min_of(FEW_ROWS, jobs[i].n_rows - row);
            TRY(prepare_span_job(r, shape, &jobs[i], row, n_rows, job));
            work.max_spans = max_of(work.max_spans, job->n_spans);
            work_size += (end_key(&job->job, n_rows - 1) - job->first_span * SPAN_KEYS) * n_rows;
        }
    work.scratch_floats = FEW_ROWS * work.group * (SPAN_KEYS + 2 * (int64_t)shape->head_dim);
    TRY(run_alloc(r, (size_t)threads_count(r->threads), (size_t)work.scratch_floats * sizeof(float),
                  (void **)&work.scratch));
    TRY(find_clusters(r, &work));
    work.items = shape->n_kv_heads * work.max_spans * work.n_clusters;
    work.items_per_chunk = work_size * shape->n_heads * shape->head_dim <= SMALL_WORK ? max_of(work.items, 1) : 1;
    TRY(run_chunks(r, (work.items + work.items_per_chunk - 1) / work.items_per_chunk, span_task, &work));
    return run_chunks(r, work.n_jobs, merge_task, &work);
}

trol_status attention_apply(const run *r, const attention_shape *shape, const attention_job *jobs, int64_t n_jobs) {
    if (n_jobs <= 0)
        return TROL_OK;
    size_t mark = workspace_mark(r->space);
    trol_status status = apply_tiles(r, shape, jobs, n_jobs);
    if (status == TROL_OK)
        status = apply_spans(r, shape, jobs, n_jobs);
    workspace_release(r->space, mark);
    return status;
}
