#include "kernels/quantize.h"

#include <string.h>

#include "base/float16.h"
#include "base/memory.h"

enum { TILE_ROWS = 16, TILE_COLUMNS = 32, ALIGNMENT = 64 };

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* ---- weights --------------------------------------------------------------------------------- */

bool quantized_bytes(element_type type, int64_t rows, int64_t columns, size_t *bytes) {
    *bytes = 0;
    if ((type != ELEMENT_Q8 && type != ELEMENT_Q4) || rows <= 0 || rows > INT64_MAX - QUANTIZED_GROUP ||
        !quantized_columns_fit(columns) || columns > INT32_MAX)
        return false;
    return multiply_size((size_t)quantized_groups(rows), quantized_group_bytes(type, columns), bytes);
}

void quantize_group(const quantized_kernels *kernels, element_type type, element_type source_type, const void *source,
                    int64_t source_stride, int64_t n_rows, int64_t columns, void *group) {
    kernels->pack_group(type, source_type, source, (size_t)source_stride * element_bytes(source_type), n_rows, columns,
                        group);
}

typedef struct packing {
    const quantized_kernels *kernels;
    element_type type, source_type;
    const uint8_t *source;
    int64_t rows, columns;
    uint8_t *packed;
} packing;

static void pack_chunk(void *context, int64_t chunk, int thread) {
    const packing *p = context;
    (void)thread;
    int64_t first = chunk * QUANTIZED_GROUP,
            n_rows = p->rows - first < QUANTIZED_GROUP ? p->rows - first : QUANTIZED_GROUP;
    size_t row_bytes = (size_t)p->columns * element_bytes(p->source_type);
    p->kernels->pack_group(p->type, p->source_type, p->source + (size_t)first * row_bytes, row_bytes, n_rows,
                           p->columns, p->packed + (size_t)chunk * quantized_group_bytes(p->type, p->columns));
}

trol_status quantize_matrix(const quantized_kernels *kernels, trol_threads *threads, const atomic_int *cancel,
                            element_type type, element_type source_type, const void *source, int64_t rows,
                            int64_t columns, void *packed) {
    packing p = {kernels, type, source_type, source, rows, columns, packed};
    return threads_run(threads, quantized_groups(rows), pack_chunk, &p, cancel);
}

void dequantize_row(element_type type, const void *packed, int64_t columns, int64_t row, float *out) {
    const uint8_t *pair =
        (const uint8_t *)packed + (size_t)(row / QUANTIZED_GROUP) * quantized_group_bytes(type, columns);
    int64_t r = row % QUANTIZED_GROUP;
    for (int64_t first = 0; first < columns; first += 2 * QUANTIZED_BLOCK) {
        const uint8_t *scales = pair + 4 * r, *lines = pair + QUANTIZED_SCALE_BYTES + 4 * r;
        for (int64_t k = 0; k < 2 * QUANTIZED_BLOCK && first + k < columns; k++) {
            const uint8_t *half = scales + 2 * (k / QUANTIZED_BLOCK);
            float scale = bf16_to_float((uint16_t)(half[0] | half[1] << 8));
            int u = type == ELEMENT_Q8 ? lines[k / 4 * 64 + k % 4] : lines[k / 8 * 64 + k % 4];
            if (type == ELEMENT_Q4)
                u = k / 4 % 2 ? u & 0xf0 : u << 4 & 0xf0;
            out[first + k] = (float)(u - 128) * scale;
        }
        pair += type == ELEMENT_Q8 ? QUANTIZED_PAIR_BYTES_Q8 : QUANTIZED_PAIR_BYTES_Q4;
    }
}

/* ---- input rows ------------------------------------------------------------------------------ */

size_t quantized_input_bytes(const quantized_kernels *kernels, int64_t n_rows, int64_t n_columns, bool prompt) {
    size_t pairs = (size_t)quantized_pairs(n_columns), rows = (size_t)n_rows;
    if (prompt && kernels->multiply_tiles)
        return (rows + TILE_ROWS - 1) / TILE_ROWS * pairs * 2 * TILE_ROWS * TILE_COLUMNS * sizeof(uint16_t);
    return aligned(rows * pairs * 2 * QUANTIZED_BLOCK) + 2 * aligned(rows * pairs * 2 * sizeof(float));
}

quantized_input quantized_input_in(const quantized_kernels *kernels, void *memory, int64_t n_rows, int64_t n_columns,
                                   bool prompt) {
    quantized_input input = {.n_rows = n_rows,
                             .n_columns = n_columns,
                             .n_pairs = quantized_pairs(n_columns),
                             .tiles = prompt && kernels->multiply_tiles,
                             .tile_rows = kernels->tile_rows};
    if (input.tiles) {
        input.tile_rows = TILE_ROWS;
        input.bf16 = memory;
        return input;
    }
    size_t n_values = (size_t)n_rows * (size_t)input.n_pairs * 2 * QUANTIZED_BLOCK;
    size_t n_scales = (size_t)n_rows * (size_t)input.n_pairs * 2;
    char *bytes = memory;
    input.values = (int8_t *)bytes;
    input.scales = (float *)(void *)(bytes + aligned(n_values));
    input.offsets = (int32_t *)(void *)(bytes + aligned(n_values) + aligned(n_scales * sizeof(float)));
    return input;
}

int64_t quantized_input_chunks(const quantized_input *input) { return divide_up(input->n_rows, input->tile_rows); }

/* Rows of tile `tile`: all but the last are full. */
static int64_t rows_of_tile(const quantized_input *input, int64_t tile) {
    int64_t rest = input->n_rows - tile * input->tile_rows;
    return rest < input->tile_rows ? rest : input->tile_rows;
}

void quantized_input_fill(const quantized_kernels *kernels, const quantized_input *input, const float *x,
                          int64_t stride, int64_t chunk) {
    int64_t first = chunk * input->tile_rows, n_rows = rows_of_tile(input, chunk);
    if (input->tiles) {
        kernels->round_rows(x + first * stride, stride, n_rows, input->n_columns, input->n_pairs,
                            input->bf16 + chunk * input->n_pairs * 2 * TILE_ROWS * TILE_COLUMNS);
        return;
    }
    for (int64_t i = 0; i < n_rows; i++)
        kernels->quantize_row(x + (first + i) * stride, input->n_columns, input->n_pairs, n_rows,
                              input->values + first * input->n_pairs * 2 * QUANTIZED_BLOCK + 4 * i,
                              input->scales + first * input->n_pairs * 2 + i,
                              input->offsets + first * input->n_pairs * 2 + i);
}

/* ---- product --------------------------------------------------------------------------------- */

/* A panel of weights stays in L2 while all rows of the input pass by: 256 KiB of 8-bit weights, or
 * as much as the tiles' own panel (see quantized_amx.c). */
int64_t quantized_chunk_rows(int64_t rows, const quantized_input *input) {
    int64_t chunk = input->tiles ? 256 : ((int64_t)256 << 10) / (input->n_pairs * 2 * QUANTIZED_BLOCK);
    chunk = chunk < 32 ? 32 : chunk > 512 ? 512 : chunk / 32 * 32;
    /* at least some 16 chunks, so that uneven cores and larger machines have something to share */
    while (chunk > 32 && rows / chunk < 16)
        chunk = chunk / 2 / 32 * 32;
    return chunk < 32 ? 32 : chunk;
}

static bool unpacks(const quantized_kernels *kernels, element_type type, int64_t n_tokens) {
    return type == ELEMENT_Q4 && kernels->unpack_q4 && n_tokens > QUANTIZED_FEW_ROWS;
}

size_t quantized_scratch_bytes(const quantized_kernels *kernels, element_type type, int64_t n_rows,
                               const quantized_input *input) {
    int64_t n_groups = quantized_groups(n_rows) + 1; /* one more where first_row is inside a group */
    if (input->tiles)
        return kernels->tiles_scratch_bytes(n_groups, input->n_pairs, input->n_rows);
    if (unpacks(kernels, type, input->n_rows))
        return (size_t)n_groups * quantized_group_bytes(ELEMENT_Q8, input->n_columns);
    return 0;
}

/* A run of groups of which rows skip .. skip + n_rows - 1 are wanted. */
typedef struct group_run {
    const uint8_t *groups;
    int64_t n_groups, skip, n_rows;
} group_run;

/* One tile of the input against a run of groups; input rows begin .. end - 1 of the tile are wanted. */
static void multiply_run(quantized_tile_kernel kernel, size_t group_bytes, const group_run *run,
                         const quantized_input *input, int64_t tile, int64_t begin, int64_t end, float *out,
                         int64_t out_stride) {
    enum { PART = 4 }; /* groups at a time where the result has to be cut out */
    int64_t first = tile * input->tile_rows, n_tokens = rows_of_tile(input, tile);
    const int8_t *values = input->values + first * input->n_pairs * 2 * QUANTIZED_BLOCK;
    const float *scales = input->scales + first * input->n_pairs * 2;
    const int32_t *offsets = input->offsets + first * input->n_pairs * 2;
    if (run->n_rows == run->n_groups * QUANTIZED_GROUP && begin == 0 && end == n_tokens) {
        kernel(run->groups, run->n_groups, input->n_pairs, values, scales, offsets, n_tokens, out, out_stride);
        return;
    }
    float part[QUANTIZED_MAX_TILE_ROWS][PART * QUANTIZED_GROUP];
    for (int64_t g = 0; g < run->n_groups; g += PART) {
        int64_t n_groups = run->n_groups - g < PART ? run->n_groups - g : PART;
        kernel(run->groups + (size_t)g * group_bytes, n_groups, input->n_pairs, values, scales, offsets, n_tokens,
               part[0], PART * QUANTIZED_GROUP);
        int64_t from = g * QUANTIZED_GROUP, to = (g + n_groups) * QUANTIZED_GROUP;
        from = from < run->skip ? run->skip : from;
        to = to > run->skip + run->n_rows ? run->skip + run->n_rows : to;
        for (int64_t t = begin; t < end; t++)
            memcpy(out + (t - begin) * out_stride + from - run->skip, &part[t][from - g * QUANTIZED_GROUP],
                   (size_t)(to - from) * sizeof(float));
    }
}

/* Cuts rows first_row .. first_row + n_rows - 1 into a first group that begins inside, whole groups, and a last group
 * that ends inside. Returns how many runs there are. */
static int cut_runs(const uint8_t *packed, size_t group_bytes, int64_t first_row, int64_t n_rows, group_run *runs) {
    int count = 0;
    int64_t group = first_row / QUANTIZED_GROUP, skip = first_row % QUANTIZED_GROUP;
    while (n_rows > 0) {
        int64_t n_groups = skip > 0 || n_rows < QUANTIZED_GROUP ? 1 : n_rows / QUANTIZED_GROUP;
        int64_t taken = n_groups * QUANTIZED_GROUP - skip;
        taken = taken > n_rows ? n_rows : taken;
        runs[count++] = (group_run){packed + (size_t)group * group_bytes, n_groups, skip, taken};
        group += n_groups;
        n_rows -= taken;
        skip = 0;
    }
    return count;
}

static void multiply_int8(const quantized_kernels *kernels, element_type type, const uint8_t *packed, int64_t first_row,
                          int64_t n_rows, const quantized_input *input, int64_t first_token, int64_t n_tokens,
                          float *out, int64_t out_stride, void *scratch) {
    size_t group_bytes = quantized_group_bytes(type, input->n_columns);
    if (unpacks(kernels, type, input->n_rows) && n_tokens > QUANTIZED_FEW_ROWS) {
        int64_t group = first_row / QUANTIZED_GROUP, skip = first_row % QUANTIZED_GROUP;
        kernels->unpack_q4(packed + (size_t)group * group_bytes, quantized_groups(skip + n_rows), input->n_pairs,
                           scratch);
        packed = scratch;
        first_row = skip;
        type = ELEMENT_Q8;
        group_bytes = quantized_group_bytes(type, input->n_columns);
    }
    group_run runs[3];
    int n_runs = cut_runs(packed, group_bytes, first_row, n_rows, runs);
    quantized_tile_kernel kernel = type == ELEMENT_Q8 ? kernels->multiply_q8 : kernels->multiply_q4;
    for (int64_t tile = first_token / input->tile_rows; tile * input->tile_rows < first_token + n_tokens; tile++) {
        int64_t first = tile * input->tile_rows, begin = first < first_token ? first_token - first : 0;
        int64_t end = rows_of_tile(input, tile);
        end = end > first_token + n_tokens - first ? first_token + n_tokens - first : end;
        float *row = out + (first + begin - first_token) * out_stride;
        for (int i = 0; i < n_runs; i++) {
            multiply_run(kernel, group_bytes, &runs[i], input, tile, begin, end, row, out_stride);
            row += runs[i].n_rows;
        }
    }
}

void quantized_multiply(const quantized_kernels *kernels, element_type type, const void *packed, int64_t first_row,
                        int64_t n_rows, const quantized_input *input, int64_t first_token, int64_t n_tokens, float *out,
                        int64_t out_stride, void *scratch) {
    if (n_rows <= 0 || n_tokens <= 0)
        return;
    if (!input->tiles) {
        multiply_int8(kernels, type, packed, first_row, n_rows, input, first_token, n_tokens, out, out_stride, scratch);
        return;
    }
    int64_t group = first_row / QUANTIZED_GROUP, skip_rows = first_row % QUANTIZED_GROUP;
    int64_t tile = first_token / TILE_ROWS;
    kernels->multiply_tiles(type,
                            (const uint8_t *)packed + (size_t)group * quantized_group_bytes(type, input->n_columns),
                            quantized_groups(skip_rows + n_rows), input->n_pairs,
                            input->bf16 + tile * input->n_pairs * 2 * TILE_ROWS * TILE_COLUMNS, first_token % TILE_ROWS,
                            n_tokens, out, out_stride, skip_rows, n_rows, scratch);
}
