/* Each unit is fed with enough independent accumulators to hide its latency. The loops are written with intrinsics
 * under target attributes, one function a unit, so that this is one file; the CPU's flags decide which of them may
 * run. */
#define _DEFAULT_SOURCE /* madvise */
#include "kernels/peaks.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "kernels/kernels.h"

/* Runs a unit for `rounds` rounds; returns something that depends on the results, so that they are not optimized away.
 */
typedef float (*unit_loop)(int64_t rounds);

typedef struct unit {
    unit_loop loop;
    double operations; /* of one round */
} unit;

static float float32_scalar(int64_t rounds) {
    float sums[32];
    for (int i = 0; i < 32; i++)
        sums[i] = (float)i;
    float factor = rounds < 0 ? 2.0f : 0.5f;
    for (int64_t n = 0; n < rounds; n++)
        for (int i = 0; i < 32; i++)
            sums[i] = sums[i] * factor + 1.0f;
    float sum = 0;
    for (int i = 0; i < 32; i++)
        sum += sums[i];
    return sum;
}

#if defined(__x86_64__)
#include <immintrin.h>

enum { ACCUMULATORS = 12 };

/* A function that applies `step` to 12 accumulators in every round. The empty asm keeps the compiler from seeing that
 * the operands never change. */
#define UNIT_LOOP(name, features, vector, start, step, to_float)                                                       \
    __attribute__((target(features))) static float name(int64_t rounds) {                                              \
        vector sums[ACCUMULATORS], a = start, b = start;                                                               \
        for (int i = 0; i < ACCUMULATORS; i++)                                                                         \
            sums[i] = start;                                                                                           \
        for (int64_t n = 0; n < rounds; n++) {                                                                         \
            __asm__ volatile("" : "+v"(a), "+v"(b));                                                                   \
            _Pragma("GCC unroll 12") for (int i = 0; i < ACCUMULATORS; i++) sums[i] = step(sums[i], a, b);             \
        }                                                                                                              \
        float sum = 0;                                                                                                 \
        for (int i = 0; i < ACCUMULATORS; i++)                                                                         \
            sum += to_float(sums[i]);                                                                                  \
        return sum;                                                                                                    \
    }

#define FMA_256(sum, a, b)    _mm256_fmadd_ps(a, b, sum)
#define FMA_512(sum, a, b)    _mm512_fmadd_ps(a, b, sum)
#define DOT_AVX2(sum, a, b)   _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
#define DOT_AVX512(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)))
#define DOT_BF16(sum, a, b)   _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#define FIRST_256(v)          _mm256_cvtss_f32(v)
#define FIRST_512(v)          _mm512_cvtss_f32(v)
#define FIRST_INT_256(v)      (float)_mm_cvtsi128_si32(_mm256_castsi256_si128(v))
#define FIRST_INT_512(v)      (float)_mm_cvtsi128_si32(_mm512_castsi512_si128(v))

/* gcc 12 puts a move beside each intrinsic of vpdpbusd. */
__attribute__((target("avx512f,avx512vnni"))) static inline __m512i dot_vnni_512(__m512i sum, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

__attribute__((target("avx2,avxvnni"))) static inline __m256i dot_vnni_256(__m256i sum, __m256i a, __m256i b) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}

UNIT_LOOP(float32_avx2, "avx2,fma", __m256, _mm256_set1_ps(0.5f), FMA_256, FIRST_256)
UNIT_LOOP(float32_avx512, "avx512f", __m512, _mm512_set1_ps(0.5f), FMA_512, FIRST_512)
UNIT_LOOP(int8_avx2, "avx2", __m256i, _mm256_set1_epi8(1), DOT_AVX2, FIRST_INT_256)
UNIT_LOOP(int8_avxvnni, "avx2,avxvnni", __m256i, _mm256_set1_epi8(1), dot_vnni_256, FIRST_INT_256)
UNIT_LOOP(int8_avx512, "avx512f,avx512bw", __m512i, _mm512_set1_epi8(1), DOT_AVX512, FIRST_INT_512)
UNIT_LOOP(int8_avx512vnni, "avx512f,avx512vnni", __m512i, _mm512_set1_epi8(1), dot_vnni_512, FIRST_INT_512)
UNIT_LOOP(bfloat16_avx512bf16, "avx512f,avx512bf16", __m512, _mm512_set1_ps(0.5f), DOT_BF16, FIRST_512)

typedef struct tile_configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t columns_bytes[16];
    uint8_t rows[16];
} tile_configuration;

/* gcc 12 believes that ldtilecfg reads only the first 8 bytes, and would drop the other stores. */
#define STORE_ALL(memory) __asm__ volatile("" : : "r"(memory) : "memory")

/* Eight tiles of 16 x 64 bytes, all zero: speed does not depend on the values. Four accumulate, two and two are
 * multiplied. */
#define TILE_LOOP(name, features, multiply)                                                                            \
    __attribute__((target(features))) static float name(int64_t rounds) {                                              \
        tile_configuration configuration;                                                                              \
        memset(&configuration, 0, sizeof configuration);                                                               \
        configuration.palette = 1;                                                                                     \
        for (int i = 0; i < 8; i++) {                                                                                  \
            configuration.columns_bytes[i] = 64;                                                                       \
            configuration.rows[i] = 16;                                                                                \
        }                                                                                                              \
        STORE_ALL(&configuration);                                                                                     \
        _tile_loadconfig(&configuration);                                                                              \
        _tile_zero(4);                                                                                                 \
        _tile_zero(5);                                                                                                 \
        _tile_zero(6);                                                                                                 \
        _tile_zero(7);                                                                                                 \
        for (int64_t n = 0; n < rounds; n++) {                                                                         \
            multiply(0, 4, 6);                                                                                         \
            multiply(1, 4, 7);                                                                                         \
            multiply(2, 5, 6);                                                                                         \
            multiply(3, 5, 7);                                                                                         \
        }                                                                                                              \
        _tile_release();                                                                                               \
        return 0;                                                                                                      \
    }

TILE_LOOP(tile_int8, "amx-tile,amx-int8", _tile_dpbusd)
TILE_LOOP(tile_bfloat16, "amx-tile,amx-bf16", _tile_dpbf16ps)

/* The sum of n_bytes (a multiple of 512 * streams) read as `streams` sequential streams side by side. */
__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *bytes, int64_t n_bytes, int streams) {
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    int64_t stream_bytes = n_bytes / streams;
    for (int64_t offset = 0; offset < stream_bytes; offset += 128)
        for (int s = 0; s < streams; s++) {
            const uint8_t *from = bytes + s * stream_bytes + offset;
            _mm_prefetch((const char *)from + 1024, _MM_HINT_T0);
            _mm_prefetch((const char *)from + 1088, _MM_HINT_T0);
            for (int i = 0; i < 4; i++)
                sums[i] = _mm256_add_epi64(sums[i], _mm256_loadu_si256((const __m256i *)(from + 32 * i)));
        }
    __m256i sum = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
    return (uint64_t)_mm256_extract_epi64(sum, 0) + (uint64_t)_mm256_extract_epi64(sum, 2);
}

#endif

static uint64_t read_scalar(const uint8_t *bytes, int64_t n_bytes, int streams) {
    uint64_t sum = 0;
    int64_t stream_words = n_bytes / streams / 8;
    for (int64_t i = 0; i < stream_words; i += 8)
        for (int s = 0; s < streams; s++)
            for (int j = 0; j < 8; j++) {
                uint64_t word;
                memcpy(&word, bytes + (s * stream_words + i + j) * 8, sizeof word);
                sum += word;
            }
    return sum;
}

/* ---- measuring ------------------------------------------------------------------------------- */

enum { REPEATS = 5, CHUNKS_A_THREAD = 8 };

typedef struct measurement {
    unit_loop loop;
    int64_t rounds; /* of a chunk */

    uint64_t (*read)(const uint8_t *bytes, int64_t n_bytes, int streams);
    const uint8_t *bytes;
    int64_t chunk_bytes;
    int streams;

    _Atomic uint64_t sink;
} measurement;

static void run_unit(void *context, int64_t chunk, int thread) {
    measurement *m = context;
    (void)chunk;
    (void)thread;
    m->sink += m->loop(m->rounds) > 0;
}

static void run_read(void *context, int64_t chunk, int thread) {
    measurement *m = context;
    (void)thread;
    m->sink += m->read(m->bytes + chunk * m->chunk_bytes, m->chunk_bytes, m->streams);
}

/* Seconds of the fastest of several runs. */
static double fastest(trol_threads *threads, int64_t n_chunks, threads_task task, measurement *m) {
    double best = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        double start = clock_seconds();
        if (threads_run(threads, n_chunks, task, m, NULL) != TROL_OK)
            return best;
        double seconds = clock_seconds() - start;
        if (seconds < best)
            best = seconds;
    }
    return best;
}

/* Billions of operations a second of a unit on all threads. */
static double measure_unit(trol_threads *threads, unit u) {
    if (!u.loop)
        return 0;
    measurement m = {.loop = u.loop, .rounds = 1000};
    double start = clock_seconds();
    run_unit(&m, 0, 0);
    double seconds = clock_seconds() - start;
    if (seconds <= 0)
        seconds = 1e-9;
    m.rounds = (int64_t)(1000 * 0.004 / seconds) + 1; /* a chunk takes some 4 ms */
    int64_t n_chunks = CHUNKS_A_THREAD * (int64_t)threads_count(threads);
    return 1e-9 * u.operations * (double)m.rounds * (double)n_chunks / fastest(threads, n_chunks, run_unit, &m);
}

/* 512 MiB, or 64 MiB a thread if that is more: beyond the L3 of the machine that one program gets to
 * use. */
static trol_status measure_reading(trol_threads *threads, peaks *result, trol_error *error) {
    enum { HUGE_PAGE = 2 << 20 };
    int64_t n_chunks = threads_count(threads), chunk_bytes = (int64_t)64 << 20;
    if (n_chunks * chunk_bytes < (int64_t)512 << 20)
        chunk_bytes = ((int64_t)512 << 20) / n_chunks / HUGE_PAGE * HUGE_PAGE;
    size_t n_bytes = (size_t)(n_chunks * chunk_bytes);
    void *bytes = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return fail_memory(error, n_bytes, "measuring the read bandwidth");
    (void)madvise(bytes, n_bytes, MADV_HUGEPAGE); /* without huge pages it is slower, and that is then the truth */
    memset(bytes, 1, n_bytes);
    measurement m = {.read = read_scalar, .bytes = bytes, .chunk_bytes = chunk_bytes};
#if defined(__x86_64__)
    if (cpu_has_level(CPU_AVX2))
        m.read = read_avx2;
#endif
    for (m.streams = 1; m.streams <= 16; m.streams *= 2) {
        double speed = 1e-9 * (double)n_bytes / fastest(threads, n_chunks, run_read, &m);
        if (speed > result->read_gbytes) {
            result->read_gbytes = speed;
            result->read_streams = m.streams;
        }
    }
    munmap(bytes, n_bytes);
    return TROL_OK;
}

trol_status peaks_measure(trol_threads *threads, peaks *result, trol_error *error) {
    unit float32 = {float32_scalar, 64}, int8 = {NULL, 0}, bfloat16 = {NULL, 0};
    *result = (peaks){0};
#if defined(__x86_64__)
    double lane_operations = 2.0 * ACCUMULATORS; /* times lanes of the register */
    unit tiles8 = {NULL, 0}, tiles16 = {NULL, 0};
    if (cpu_has_level(CPU_AVX2)) {
        float32 = (unit){float32_avx2, 8 * lane_operations};
        int8 = (unit){int8_avx2, 32 * lane_operations};
    }
    if (cpu_has_level(CPU_AVXVNNI))
        int8 = (unit){int8_avxvnni, 32 * lane_operations};
    if (cpu_has_level(CPU_AVX512)) {
        float32 = (unit){float32_avx512, 16 * lane_operations};
        if (!cpu_has_level(CPU_AVXVNNI))
            int8 = (unit){int8_avx512, 64 * lane_operations};
    }
    if (cpu_has_level(CPU_AVX512VNNI))
        int8 = (unit){int8_avx512vnni, 64 * lane_operations};
    if (cpu_has_level(CPU_AVX512BF16))
        bfloat16 = (unit){bfloat16_avx512bf16, 32 * lane_operations};
    if (cpu_has_level(CPU_AMX)) {
        tiles8 = (unit){tile_int8, 4 * 2.0 * 16 * 16 * 64};
        tiles16 = (unit){tile_bfloat16, 4 * 2.0 * 16 * 16 * 32};
    }
    result->tile_int8_gops = measure_unit(threads, tiles8);
    result->tile_bfloat16_gflops = measure_unit(threads, tiles16);
#endif
    result->float32_gflops = measure_unit(threads, float32);
    result->int8_gops = measure_unit(threads, int8);
    result->bfloat16_gflops = measure_unit(threads, bfloat16);
    return measure_reading(threads, result, error);
}
