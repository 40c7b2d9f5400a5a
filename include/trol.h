/* trol.h - the public interface of libtrol, a CPU inference engine for TroL (Traversal of Layers) vision-language
 * models.
 *
 * Rules that hold for every call:
 *  - A call that can fail returns a trol_status: TROL_OK (0) or one of the negative codes below. Where it takes a
 *    trol_error, the caller owns it; NULL is allowed; on failure it holds the status and one sentence that says what
 *    was found and what was expected. On success it is not touched.
 *  - Results come through out-pointers, which are set to NULL on failure. Every *_free function accepts NULL.
 *  - A parameter struct is filled by its *_params_init function and then changed; NULL means all defaults. Its `size`
 *    field lets later versions add fields without breaking programs compiled against earlier ones.
 *  - The library never prints, exits or aborts. Text goes to the log callback of the model's parameters.
 *  - A callback that returns non-zero cancels the call in progress, which then returns TROL_ERROR_CANCELLED within
 *    200 ms.
 *  - All text is UTF-8. All logits are float32.
 *
 * Threads: a trol_model, trol_image or trol_features is immutable and may be used by any number of threads. A
 * trol_session may be used by one thread at a time (only trol_session_cancel may be called from any thread at any
 * time). A callback may use everything else; of the session whose call it runs in, it may read tokens, logits, gates
 * and stats and cancel it; whatever would change or copy it is refused with TROL_ERROR_STATE, and it must not be freed.
 */
#ifndef TROL_H
#define TROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TROL_API       __attribute__((visibility("default")))
#define TROL_NODISCARD __attribute__((warn_unused_result))
#else
#define TROL_API
#define TROL_NODISCARD
#endif

#define TROL_VERSION_MAJOR 0
#define TROL_VERSION_MINOR 1
#define TROL_VERSION_PATCH 0

/* ---- status and errors ----------------------------------------------------------------------- */

typedef enum trol_status {
    TROL_OK = 0,
    TROL_ERROR_ARGUMENT = -1,    /* the caller passed something that no model could accept */
    TROL_ERROR_MEMORY = -2,      /* an allocation failed */
    TROL_ERROR_IO = -3,          /* a file could not be opened, read or written */
    TROL_ERROR_FORMAT = -4,      /* a file's contents are broken */
    TROL_ERROR_UNSUPPORTED = -5, /* well-formed, but not something this library computes */
    TROL_ERROR_CONTEXT = -6,     /* the tokens do not fit in the session's context */
    TROL_ERROR_CANCELLED = -7,   /* a callback or trol_session_cancel asked to stop */
    TROL_ERROR_STATE = -8        /* calls in an order that makes no sense, for example decode before any prompt */
} trol_status;

typedef struct trol_error {
    trol_status status;
    char message[1020]; /* one sentence, NUL-terminated, cut between characters if longer */
} trol_error;

/* A short text for a status code, never NULL, static storage. */
TROL_API const char *trol_status_text(trol_status status);

/* "0.1.0", static storage. */
TROL_API const char *trol_version(void);

/* ---- log and progress ------------------------------------------------------------------------ */

typedef enum trol_log_level { TROL_LOG_DEBUG, TROL_LOG_INFO, TROL_LOG_WARNING } trol_log_level;

/* One line of text without a line break. May be called from the thread that made the call, never from another. */
typedef void (*trol_log_callback)(void *user, trol_log_level level, const char *message);

typedef enum trol_stage { TROL_STAGE_LOAD, TROL_STAGE_IMAGE, TROL_STAGE_PREFILL } trol_stage;

/* `done` of `total` units of a stage are finished (0 < total). Called from the calling thread; non-zero cancels. */
typedef int (*trol_progress_callback)(void *user, trol_stage stage, int64_t done, int64_t total);

/* ---- threads --------------------------------------------------------------------------------- */

/* A pool of threads that several models may share. Work is cut the same way for every number of threads, so results are
 * bit-identical for any of them. With several callers, one parallel region runs at a time, in order of arrival; the
 * calling thread works too. Idle threads sleep.
 *
 * fork: a child may continue to use what the parent has loaded, models and sessions included; its threads are started
 * again by the first call that needs them, and freeing always returns. A session in which another thread of the parent
 * was making a call at that moment is left half done in the child: the child may only free it. So is a constraint (with
 * its clones) that was in use then: the child gets TROL_ERROR_STATE and makes a new one. */
typedef struct trol_threads trol_threads;

/* n_threads: 1 to 256, or 0 for one per physical core (not per hyperthread) among the CPUs that this process may use,
 * limited by the CPU quota of its container (control groups version 1 and 2, rounded up). The pool is
 * reference-counted: models keep it alive. */
TROL_API TROL_NODISCARD trol_status trol_threads_new(int32_t n_threads, trol_threads **threads, trol_error *error);
TROL_API void trol_threads_free(trol_threads *threads);
/* Keeps the pool for the calling thread: other callers wait until it is released, even those that came first. What they
 * are computing is interrupted within milliseconds and continues afterwards, with the same result. For a program that
 * does several things at once and wants several calls, or all of a long one, to run without interruption. Not nested.
 */
TROL_API void trol_threads_hold(trol_threads *threads);
TROL_API void trol_threads_release(trol_threads *threads);

/* ---- encoded pictures that are kept ---------------------------------------------------------- */

/* Encoded pictures, for the next question about them: trol_encode_images, trol_session_set_prompt and so on do not
 * encode again what they find here. A picture is known by its size, its pixels, the encoder's and projector's weights,
 * and how they are computed, so one cache serves any number of models. What is kept in a folder serves other processes,
 * too, at the same time and later. Any number of threads; two that want the same picture at once encode it once. */
typedef struct trol_cache trol_cache;

typedef struct trol_cache_params {
    size_t size;
    int64_t memory_bytes; /* at most; the least recently used pictures make room; default 256 MiB; 0: none */
    const char *folder;   /* NULL: memory alone. It is made when the first picture is put there */
    int64_t folder_bytes; /* at most, of the folder's files; default 4 GiB */
} trol_cache_params;

TROL_API void trol_cache_params_init(trol_cache_params *params);
/* No call fails because the folder cannot be read or written, the disk is full or files there are damaged: pictures are
 * encoded instead, and the model's log gets one warning. */
TROL_API TROL_NODISCARD trol_status trol_cache_new(const trol_cache_params *params, trol_cache **cache,
                                                   trol_error *error);
/* Models keep their cache alive: it may be freed before them. */
TROL_API void trol_cache_free(trol_cache *cache);

typedef struct trol_cache_stats {
    size_t size;
    int64_t encoded;                     /* pictures not found in the cache */
    int64_t from_memory, from_folder;    /* pictures that were found */
    int64_t memory_images, memory_bytes; /* held now */
} trol_cache_stats;

/* Fills *stats; stats->size must be set by the caller. */
TROL_API void trol_cache_get_stats(trol_cache *cache, trol_cache_stats *stats);

/* ---- models ---------------------------------------------------------------------------------- */

typedef struct trol_model trol_model;

/* How the big matrices are held in memory. */
typedef enum trol_weight_type {
    TROL_WEIGHTS_AS_STORED = 0, /* mapped and used as stored in the file */
    TROL_WEIGHTS_F32,
    TROL_WEIGHTS_F16,
    TROL_WEIGHTS_BF16,
    TROL_WEIGHTS_Q8, /* 8 bits, a scale for each block of inputs */
    TROL_WEIGHTS_Q4  /* 4 bits, a scale for each block of inputs */
} trol_weight_type;

/* The arithmetic of prefill and vision for 16- and 32-bit weights. (Q8 and Q4 weights are multiplied by 8-bit
 * activations, with float32 sums over blocks.) Where arithmetic is not exact, by this choice or because of such
 * weights, the attention of prefill and vision also multiplies in BF16 on CPUs where that is faster. */
typedef enum trol_compute {
    TROL_COMPUTE_EXACT = 0, /* float32 activations and sums */
    TROL_COMPUTE_BF16 /* BF16 products with float32 sums are allowed, and used where they are faster than float32 */
} trol_compute;

typedef struct trol_model_params {
    size_t size;
    trol_threads *threads; /* shared pool; NULL: the model makes one of n_threads */
    int32_t n_threads;     /* used when threads is NULL; 0: one per core */
    trol_weight_type weight_type;
    trol_weight_type vision_type; /* the same for the vision encoder and the projector */
    trol_compute compute;
    trol_log_callback log; /* may be NULL */
    void *log_user;
    trol_progress_callback progress; /* may be NULL */
    void *progress_user;
    int32_t plain_backbone; /* non-zero: a checkpoint without trol_gating.pt loads as well; its sessions can only use
                             * TROL_TRAVERSAL_OFF */
    trol_cache *cache;      /* keeps encoded pictures; may be NULL, and shared by models */
} trol_model_params;

TROL_API void trol_model_params_init(trol_model_params *params);

/* Opens a checkpoint. `path` is a folder in the published layout, or a hub name such as "BK-Lee/TroL-1.8B", which is
 * looked up in the hub cache on this machine ($HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub,
 * $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; "~" in them is the home folder) and never
 * downloaded. The weights are mapped and read when they are used: a file that is cut short or loses its disk while a
 * model is open raises SIGBUS, which a program that must survive it has to handle (replacing a file by a new one of the
 * same name, as rename() does, is harmless). */
TROL_API TROL_NODISCARD trol_status trol_model_load(const char *path, const trol_model_params *params,
                                                    trol_model **model, trol_error *error);
/* Sessions and features keep their model alive: they may be freed in any order. */
TROL_API void trol_model_free(trol_model *model);

enum { TROL_MAX_END_TOKENS = 8 };

typedef struct trol_model_info {
    size_t size;
    char family[32];    /* "internlm2-clip" or "phi3-internvit" */
    int32_t vocab_size; /* length of a row of logits */
    int32_t n_tokens;   /* ids 0 .. n_tokens-1 have an embedding and may be fed (vocab_size, or more: <image>) */
    int32_t hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim;
    int32_t max_positions;        /* of the config */
    int32_t image_size;           /* side of the square image or tile, in pixels */
    int32_t tokens_per_tile;      /* image tokens per tile */
    int32_t max_tiles;            /* the most tiles of an image, thumbnail included */
    int32_t image_token;          /* id whose embedding is replaced by an image's */
    int32_t bos_token, eos_token; /* of config.json; what ends an answer is in end_tokens */
    int32_t has_tokenizer;        /* 0: only raw token ids can be used */
    int64_t n_parameters;
    int64_t weight_bytes; /* of all tensors, as they are in memory or mapped */
    char weight_type[32]; /* of the decoder's matrices: "f16", "bf16", "f32", "q8", "q4" or "mixed" */
    char cpu_level[32];   /* the kernels in use: "scalar", "avx2", "avx512", ... */
    char compute[32];     /* what runs for 16- and 32-bit weights: "exact" or "bf16" */
    int32_t vision_layers, vision_hidden_size, vision_intermediate_size, vision_patch_size;
    int32_t n_end_tokens; /* any of them ends an answer */
    int32_t end_tokens[TROL_MAX_END_TOKENS];
    int32_t vision_feature_size; /* width of the projector's input */
    int32_t has_gate;            /* 0: a plain backbone, see trol_model_params.plain_backbone */
} trol_model_info;

/* Fills *info; info->size must be set by the caller to sizeof(trol_model_info). */
TROL_API TROL_NODISCARD trol_status trol_model_get_info(const trol_model *model, trol_model_info *info,
                                                        trol_error *error);

/* One line of a description, without a line break. Non-zero cancels. */
typedef int (*trol_line_callback)(void *user, const char *line);

/* Describes a checkpoint (`path` as for trol_model_load) line by line, including one that does not load: for each file
 * and each part that a model needs, whether it is there and what it holds or what is wrong with it; with list_tensors
 * non-zero, every tensor with dtype, shape and bytes. Reads only headers and small files. Returns TROL_OK if the
 * checkpoint would load, else the status and sentence of the first error; the lines report all of them.
 */
TROL_API TROL_NODISCARD trol_status trol_inspect(const char *path, int32_t list_tensors, trol_line_callback callback,
                                                 void *user, trol_error *error);

/* ---- tokens and text ------------------------------------------------------------------------- */

/* Tokenizes text without adding anything. With `special` non-zero, text that spells a special token becomes that token;
 * otherwise it stays plain text. *tokens is allocated by the library: free it with trol_free. */
TROL_API TROL_NODISCARD trol_status trol_tokenize(const trol_model *model, const char *text, size_t text_bytes,
                                                  int special, int32_t **tokens, size_t *n_tokens, trol_error *error);
/* The text of the tokens, NUL-terminated; special tokens are left out unless `special` is non-zero; bytes that are not
 * valid UTF-8 become U+FFFD. Free *text with trol_free. */
TROL_API TROL_NODISCARD trol_status trol_detokenize(const trol_model *model, const int32_t *tokens, size_t n_tokens,
                                                    int special, char **text, trol_error *error);
/* The bytes that one token stands for within a text, possibly part of a character; the spelling of a special token;
 * none where no token has this id. *bytes is NUL-terminated: free it with trol_free. */
TROL_API TROL_NODISCARD trol_status trol_token_bytes(const trol_model *model, int32_t token, char **bytes,
                                                     size_t *n_bytes, trol_error *error);
TROL_API void trol_free(void *memory);

/* ---- pictures -------------------------------------------------------------------------------- */

typedef struct trol_image trol_image;       /* a decoded image, RGB, 8 bits */
typedef struct trol_features trol_features; /* an encoded image: the embeddings that replace its image tokens */

typedef struct trol_image_params {
    size_t size;
    int64_t max_bytes;     /* of the file; default 1 GiB, at most 2^31 - 1 */
    int64_t max_pixels;    /* width times height; default 100 million, at most 2^29. Checked before decoding */
    trol_log_callback log; /* a warning if the file is damaged but decoded anyway; may be NULL */
    void *log_user;
} trol_image_params;

TROL_API void trol_image_params_init(trol_image_params *params);

/* JPEG, PNG, WebP and GIF (the first frame of an animation), BMP, TGA and PNM (P1 to P6) give exactly the pixels that
 * the authors' code gets (Pillow's convert("RGB")), except that 16-bit grey samples are scaled to 8 bits where Pillow
 * clips them at 255. HEIC and AVIF are decoded, and turned upright, by libheif. WebP, HEIC and AVIF are supported if
 * the library was built with libwebp and libheif. Grey is replicated to RGB, palettes are looked up, alpha is dropped,
 * colour profiles are ignored.
 * A file that ends before its last pixel is refused. One with damage that the reference tolerates (an impossible code
 * or a lost restart marker in a JPEG, the lost tail of a PNG or GIF whose pixels are all there) is decoded to the
 * reference's pixels, with a warning in the log. */
TROL_API TROL_NODISCARD trol_status trol_image_load_file(const char *path, const trol_image_params *params,
                                                         trol_image **image, trol_error *error);
TROL_API TROL_NODISCARD trol_status trol_image_load_memory(const void *bytes, size_t n_bytes,
                                                           const trol_image_params *params, trol_image **image,
                                                           trol_error *error);
/* rgb: [height, width, 3], copied; stride: bytes from one row to the next. */
TROL_API TROL_NODISCARD trol_status trol_image_load_rgb(const uint8_t *rgb, int32_t width, int32_t height,
                                                        size_t stride, trol_image **image, trol_error *error);
TROL_API int32_t trol_image_width(const trol_image *image);
TROL_API int32_t trol_image_height(const trol_image *image);
/* [height, width, 3], owned by the image. */
TROL_API const uint8_t *trol_image_pixels(const trol_image *image);
/* The EXIF orientation of the file, 1 (upright) to 8; 1 if it has none. Loading does not apply it. */
TROL_API int32_t trol_image_orientation(const trol_image *image);
/* A new image, turned upright according to the EXIF orientation. */
TROL_API TROL_NODISCARD trol_status trol_image_upright(const trol_image *image, trol_image **upright,
                                                       trol_error *error);
TROL_API void trol_image_free(trol_image *image);

/* Encodes an image (seconds for a big model). The result may be used in any number of sessions of the same model. */
TROL_API TROL_NODISCARD trol_status trol_encode_image(trol_model *model, const trol_image *image,
                                                      trol_features **features, trol_error *error);
/* Several images as one batch, which is faster than one after the other. features [n_images] gets a result for each, or
 * NULL for all on failure. progress (may be NULL) is called with TROL_STAGE_IMAGE, starting from 0 again for each group
 * of images that is encoded together. */
TROL_API TROL_NODISCARD trol_status trol_encode_images(trol_model *model, const trol_image *const *images,
                                                       size_t n_images, trol_progress_callback progress, void *user,
                                                       trol_features **features, trol_error *error);
/* [n_tokens, hidden_size], float32, owned by the features. */
TROL_API const float *trol_features_data(const trol_features *features);
TROL_API int32_t trol_features_n_tokens(const trol_features *features);
TROL_API int32_t trol_features_n_tiles(const trol_features *features);
TROL_API void trol_features_free(trol_features *features);

/* ---- sessions -------------------------------------------------------------------------------- */

typedef struct trol_session trol_session;
struct trol_sampler; /* trol_sampler, see sampling */

/* Which tokens go through each layer twice. */
typedef enum trol_traversal {
    TROL_TRAVERSAL_PROMPT = 0, /* the prompt's tokens, as in the authors' generate() */
    TROL_TRAVERSAL_ALL,        /* every token */
    TROL_TRAVERSAL_OFF         /* none: the plain backbone */
} trol_traversal;

/* How keys and values are stored. Use q8 for long contexts and many sessions: it takes 0.51 to 0.53 of f16's memory (at
 * heads of 128 to 32 values) and is at least as fast. It changes the bundled models' logits by 0.1% of the largest one
 * (median; 1% at most, where f16 changes 0.03%), which their shares of right answers do not show; small models with
 * random weights, which amplify any rounding, change by more. */
typedef enum trol_cache_type {
    TROL_CACHE_F16 = 0, /* magnitudes up to 65,504: larger ones end a call with TROL_ERROR_UNSUPPORTED */
    TROL_CACHE_F32,     /* as computed, for comparisons */
    TROL_CACHE_Q8       /* 8 bits with a scale for each head of each token; any magnitude */
} trol_cache_type;

/* Bytes of the keys and values of n_tokens tokens in one pass, which are kept in blocks of 64 tokens; 0 for a NULL
 * model, no tokens or an unknown type. A session holds one pass, or two where tokens are traversed and keep_pass2 is
 * set or the mode is TROL_TRAVERSAL_ALL. */
TROL_API int64_t trol_model_cache_bytes(const trol_model *model, trol_cache_type type, int32_t n_tokens);

typedef struct trol_session_params {
    size_t size;
    int32_t
        context_size; /* tokens at most; 0: the model's max_positions, at least 4096. Memory grows with what is held */
    trol_traversal traversal;
    trol_cache_type cache_type;
    int32_t keep_pass2;   /* non-zero: keep pass-2 keys and values after a prompt, so that a later turn can reuse
                           * them */
    float traversal_skip; /* tokens whose gate is below this skip their second pass; 0: exact */
    trol_progress_callback progress; /* prefill and image encoding; may be NULL */
    void *progress_user;
    int32_t keep_gates; /* non-zero: keep the gate of each token in each layer, for trol_session_gates */
} trol_session_params;

TROL_API void trol_session_params_init(trol_session_params *params);
TROL_API TROL_NODISCARD trol_status trol_session_new(trol_model *model, const trol_session_params *params,
                                                     trol_session **session, trol_error *error);
TROL_API void trol_session_free(trol_session *session);

typedef enum trol_role { TROL_ROLE_SYSTEM, TROL_ROLE_USER, TROL_ROLE_ASSISTANT } trol_role;

/* A message of a conversation. In a user's text each "<image>" places an image; "\\<image>" (a backslash before it) is
 * the literal text "<image>", and "\\\\<image>" a backslash and an image.
 * An assistant's message may be given as the generated tokens, without the end token, instead of text: a later turn
 * then continues exactly these. Nothing merges across their edges. (An answer given as text is part of the template's
 * text, as in the authors' code, and need not become the tokens it was decoded from.) */
typedef struct trol_message {
    trol_role role;
    const char *text;      /* UTF-8; NULL for an answer that is given as tokens */
    const int32_t *tokens; /* [n_tokens]; read only where text is NULL and the role is the assistant's */
    size_t n_tokens;
} trol_message;

enum {
    TROL_RENDER_RAW = 1,    /* no template: the text of one user message, with its images, is the whole prompt */
    TROL_RENDER_SPECIAL = 2 /* text in a message that spells a special token becomes it; otherwise it stays plain
                             * text */
};

/* The token ids of a conversation, image tokens included, as trol_session_set_prompt makes them: for
 * trol_session_prefill, trol_session_reusable and trol_step. Image i has image_tokens[i] of them
 * (trol_features_n_tokens of an encoded image); a 1 for each gives a first count before anything is encoded. `flags`: a
 * sum of TROL_RENDER_*. Free *tokens with trol_free. */
TROL_API TROL_NODISCARD trol_status trol_render_prompt(const trol_model *model, const trol_message *messages,
                                                       size_t n_messages, const int32_t *image_tokens, size_t n_images,
                                                       int32_t flags, int32_t **tokens, size_t *n_tokens,
                                                       trol_error *error);

/* Puts a conversation through the model's prompt template and processes it; the last message is the user's. If the
 * first message is not a system message, the authors' own is used (an empty text: none at all). `images`: those of all
 * messages in order; if no user message contains "<image>", they go before the first one. What an earlier prompt of
 * this session shares with this one is not computed again (see keep_pass2). Afterwards trol_session_logits holds the
 * logits of the answer's first token. */
TROL_API TROL_NODISCARD trol_status trol_session_set_prompt(trol_session *session, const trol_message *messages,
                                                            size_t n_messages, const trol_image *const *images,
                                                            size_t n_images, trol_error *error);
/* The same with images that are already encoded. */
TROL_API TROL_NODISCARD trol_status trol_session_set_prompt_features(trol_session *session,
                                                                     const trol_message *messages, size_t n_messages,
                                                                     trol_features *const *features, size_t n_features,
                                                                     trol_error *error);
/* One question, with or without images: trol_session_set_prompt with a single user message. */
TROL_API TROL_NODISCARD trol_status trol_session_ask(trol_session *session, const char *question,
                                                     const trol_image *const *images, size_t n_images,
                                                     trol_error *error);

/* Raw token ids, image tokens included: a whole prompt in one call. Replaces what the session held, reusing what is
 * equal. After any prompt that was refused, failed or was cancelled, the session has none to answer: TROL_ERROR_STATE
 * until a later one completes. What was computed is kept for reuse. */
TROL_API TROL_NODISCARD trol_status trol_session_prefill(trol_session *session, const int32_t *tokens, size_t n_tokens,
                                                         trol_features *const *features, size_t n_features,
                                                         trol_error *error);
/* The same in pieces: begin gives the number of tokens of the whole prompt and the images that fill its image tokens,
 * append adds the next tokens, end checks that all have been added. The logits do not depend on how the prompt is cut,
 * to the bit (where OpenBLAS multiplies: to rounding). */
TROL_API TROL_NODISCARD trol_status trol_session_prompt_begin(trol_session *session, size_t n_tokens_total,
                                                              trol_features *const *features, size_t n_features,
                                                              trol_error *error);
TROL_API TROL_NODISCARD trol_status trol_session_prompt_append(trol_session *session, const int32_t *tokens,
                                                               size_t n_tokens, trol_error *error);
TROL_API TROL_NODISCARD trol_status trol_session_prompt_end(trol_session *session, trol_error *error);

/* Logits of every prompt token, one token at a time while a prompt is processed: logits [vocab_size] after the token at
 * `position`. Non-zero cancels. NULL switches it off. Slower than a prompt that needs the last token's logits only. */
typedef int (*trol_logits_callback)(void *user, int64_t position, const float *logits, int32_t vocab_size);
TROL_API void trol_session_set_logits_callback(trol_session *session, trol_logits_callback callback, void *user);

/* Shows intermediate values while a prompt is processed: stage "embeddings", "pass1", "pass2", "gate" or "layer" (the
 * layer's output), with the layer's index (-1 for embeddings), values [n_rows, n_columns] of the tokens from position
 * `first` on. Non-zero cancels. For porting and research. Slower than a prompt that needs the last token's logits
 * only. */
typedef int (*trol_observer)(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows,
                             int64_t n_columns, const float *values);
TROL_API void trol_session_set_observer(trol_session *session, trol_observer observer, void *user);

/* The same for an image: "pixels" (normalized, [tiles, 3, S, S] as n_rows = tiles), "vision_features", "image_embeds".
 */
TROL_API TROL_NODISCARD trol_status trol_observe_image(trol_model *model, const trol_image *image,
                                                       trol_observer observer, void *user, trol_error *error);

/* How many tokens of this prompt the session could reuse instead of computing them: a server picks the session with the
 * most. 0 where an argument is NULL. */
TROL_API size_t trol_session_reusable(const trol_session *session, const int32_t *tokens, size_t n_tokens,
                                      trol_features *const *features, size_t n_features);

/* One session's part of a step. */
typedef struct trol_step_item {
    trol_session *session;
    const int32_t *tokens; /* [n_tokens]: between trol_session_prompt_begin and _end the prompt's next piece, else
                            * answer tokens */
    size_t n_tokens;
    trol_error *error;  /* of this item; may be NULL */
    trol_status status; /* set by the call */
} trol_step_item;

/* Tokens of n different sessions of one model as one batch: pieces of prompts and answer tokens in any mix. Each item
 * gets its own status. One that fails (a full context, a cancelled session, a token outside the vocabulary) does not
 * stop the others, and its session stays as it was, except that a prompt fails as a whole if one of its pieces does. An
 * item that is cancelled while the batch runs ends with the batch; when all are cancelled, the call returns within 200
 * ms. Once all of an item's tokens are in place, trol_session_logits holds the logits after the last one (for a prompt:
 * after its last piece and trol_session_prompt_end). The result is TROL_OK when every item has its status; any other
 * means that nothing was done (items is NULL, or there is no memory for the batch), and each item has that status. A
 * session's logits depend only on its own tokens, to the bit: not on the other items, on how prompts and answers are
 * cut into pieces, on what was reused or on the number of threads. There are two exceptions: where OpenBLAS multiplies
 * (trol_model_load logs it), and, in modes all and off, a later turn that reuses answer tokens, which were computed by
 * the kernels for answers. Both agree to rounding: 1e-5 of the largest logit (with keys in f16, which round the other
 * way now and then, 2e-4; where activations are rounded to 8 bits, hundredths, 0.044 at most in small models). */
TROL_API TROL_NODISCARD trol_status trol_step(trol_step_item *items, size_t n, trol_error *error);

/* Feeds one answer token; afterwards trol_session_logits holds the logits of the next. */
TROL_API TROL_NODISCARD trol_status trol_session_decode(trol_session *session, int32_t token, trol_error *error);
/* One answer token for each of n sessions (all of one model) as one batch; each session may appear only once. All or
 * none: if one cannot take its token, none does. */
TROL_API TROL_NODISCARD trol_status trol_decode_batch(trol_session *const *sessions, const int32_t *tokens, size_t n,
                                                      trol_error *error);
/* [vocab_size] logits after the last token; NULL before the first. Owned by the session, valid until its next call. */
TROL_API const float *trol_session_logits(const trol_session *session);

/* Tokens held, prompt and answer. */
TROL_API size_t trol_session_n_tokens(const trol_session *session);
/* [n_tokens], owned by the session, valid until its next call. */
TROL_API const int32_t *trol_session_tokens(const trol_session *session);
/* [n_tokens]: the gate s of each token held in a layer, counted from 0: how much of its second pass the layer took,
 * from 0 to 1. NaN for a token that was not traversed (an answer token in mode prompt, all in mode off). Gates are kept
 * when their tokens are reused, forked, truncated, saved and loaded. Owned by the session, valid until its next call;
 * NULL without keep_gates, before any token, or if there is no such layer. */
TROL_API const float *trol_session_gates(const trol_session *session, int32_t layer);
/* Forgets all tokens from n_tokens on. The logits are gone until the next decode or prefill. */
TROL_API TROL_NODISCARD trol_status trol_session_truncate(trol_session *session, size_t n_tokens, trol_error *error);
/* A second session that continues from here; keys and values are shared until one of them changes. */
TROL_API TROL_NODISCARD trol_status trol_session_fork(const trol_session *session, trol_session **fork,
                                                      trol_error *error);
/* Stops the call in progress in this session, or the next one, from any thread or a signal handler. */
TROL_API void trol_session_cancel(trol_session *session);

/* Writes the session's tokens, keys, values and logits, and a sampler (NULL: none), to a file, to continue later with
 * the same model. A file appears whole or not at all (it is written next to its destination and then renamed; a link is
 * followed); a device is written directly. */
TROL_API TROL_NODISCARD trol_status trol_session_save(const trol_session *session, const struct trol_sampler *sampler,
                                                      const char *path, trol_error *error);
/* A session that continues where the saved one stopped, to the bit. Refused are files of another model (weights or
 * tokenizer), of a model that is computed in another way (CPU, weight types, version of the library), and damaged ones.
 * params NULL: those of the file, without a callback; else the file's must be the same, except for context_size and the
 * callback, which are taken from params. *sampler (may be NULL): the one in the file; NULL if it has none. */
TROL_API TROL_NODISCARD trol_status trol_session_load(trol_model *model, const char *path,
                                                      const trol_session_params *params, trol_session **session,
                                                      struct trol_sampler **sampler, trol_error *error);

typedef struct trol_session_stats {
    size_t size;
    int64_t prompt_tokens;                    /* processed as prompt, all calls together */
    int64_t reused_tokens;                    /* reused from an earlier prompt instead */
    int64_t decoded_tokens;                   /* processed as answer */
    int64_t image_tokens;                     /* of the prompt tokens */
    int64_t skipped_tokens;                   /* (token, layer) pairs whose second pass was skipped (traversal_skip) */
    int64_t proposed_tokens, accepted_tokens; /* by prompt lookup */
    double image_seconds, prompt_seconds, decode_seconds;
    int64_t cache_bytes;                       /* keys and values held now */
    int64_t workspace_bytes;                   /* largest scratch memory used by a call */
    int64_t images_encoded, images_from_cache; /* by trol_session_set_prompt and trol_session_ask */
} trol_session_stats;

/* Fills *stats; stats->size must be set by the caller. */
TROL_API void trol_session_get_stats(const trol_session *session, trol_session_stats *stats);
/* The skipped_tokens of one layer, counted from 0; 0 if there is no such layer. */
TROL_API int64_t trol_session_skipped_in_layer(const trol_session *session, int32_t layer);

/* ---- text from tokens ------------------------------------------------------------------------ */

/* Tokens in, text out, for showing an answer while it is generated: whole UTF-8 characters, without the white space
 * around the answer (white space is held back until something follows it), up to a stop string, no part of which is
 * ever shown. The whole output depends only on the tokens. */
typedef struct trol_stream trol_stream;

typedef struct trol_stream_params {
    size_t size;
    const char *const *stops; /* [n_stops]: texts that end the answer where they first occur, each in full */
    size_t n_stops;
    int32_t keep_space; /* non-zero: white space around the answer is shown */
    int32_t special;    /* non-zero: special tokens are shown as they are spelled */
} trol_stream_params;

TROL_API void trol_stream_params_init(trol_stream_params *params);
/* Without a tokenizer the text is the token ids, separated by spaces. `stops` is copied. */
TROL_API TROL_NODISCARD trol_status trol_stream_new(const trol_model *model, const trol_stream_params *params,
                                                    trol_stream **stream, trol_error *error);
TROL_API void trol_stream_free(trol_stream *stream);
/* Takes a token. *text: the text that can now be shown in addition, often ""; owned by the stream, valid until its next
 * call. *stopped (may be NULL): 1 once a stop string is complete; then there is no more output. */
TROL_API TROL_NODISCARD trol_status trol_stream_put(trol_stream *stream, int32_t token, const char **text,
                                                    int32_t *stopped, trol_error *error);
/* The answer is over: *text is what was held back; an incomplete character becomes U+FFFD. */
TROL_API TROL_NODISCARD trol_status trol_stream_end(trol_stream *stream, const char **text, trol_error *error);
/* Forgets all tokens, ready for another answer. */
TROL_API void trol_stream_reset(trol_stream *stream);

/* ---- sampling -------------------------------------------------------------------------------- */

/* Chooses tokens from logits, in these steps:
 *  1. tokens that a constraint rules out (trol_sampler_choose_allowed) and NaN are excluded;
 *  2. the logit bias is added;
 *  3. penalties for tokens among the last repeat_last_n: in prompt and answer, a logit above 0 is divided by
 *     repeat_penalty and any other multiplied by it; in the answer only, frequency_penalty for each occurrence and
 *     presence_penalty once are subtracted;
 *  4. temperature 0 chooses the largest logit, the lowest id on a tie; otherwise logits are divided by it;
 *  5. the top_k likeliest remain (the lowest ids on a tie);
 *  6. of these, the fewest likeliest whose probabilities add up to at least top_p of the total remain;
 *  7. of these, those with at least min_p times the probability of the likeliest remain;
 *  8. one of these is drawn. Each draw takes one random number.
 * The choice depends only on the parameters, the logits, the tokens before and the state: the same seed gives the same
 * text with any number of threads, alongside any other sessions and on any machine that computes the same logits.
 * (Probabilities are rounded to multiples of at most 2^-40 of that of the likeliest.) One thread at a time. */
typedef struct trol_sampler trol_sampler;

typedef struct trol_logit_bias {
    int32_t token;
    float bias; /* added to the token's logit; -INFINITY: never chosen */
} trol_logit_bias;

typedef struct trol_sampler_params {
    size_t size;
    float temperature; /* 0: greedy */
    int32_t top_k;     /* 0: all */
    float top_p;       /* 1: all */
    uint64_t seed;
    float min_p;                               /* 0: all */
    float repeat_penalty;                      /* 1: none */
    float presence_penalty, frequency_penalty; /* 0: none; below 0: a bonus */
    int32_t repeat_last_n;                     /* tokens that the penalties consider; default 64; -1: all; 0: no
                                                * penalties */
    const trol_logit_bias *bias;               /* [n_bias], copied; entries for the same token add up */
    size_t n_bias;
} trol_sampler_params;

TROL_API void trol_sampler_params_init(trol_sampler_params *params);
TROL_API TROL_NODISCARD trol_status trol_sampler_new(const trol_sampler_params *params, trol_sampler **sampler,
                                                     trol_error *error);
TROL_API void trol_sampler_free(trol_sampler *sampler);
/* A copy with the same parameters, tokens and state: both make the same choices from here on. */
TROL_API TROL_NODISCARD trol_status trol_sampler_clone(const trol_sampler *sampler, trol_sampler **clone,
                                                       trol_error *error);
/* The token; -1 if there is nothing to choose (all logits are NaN, -infinity or ruled out), or no memory. A NULL
 * sampler is greedy. */
TROL_API int32_t trol_sampler_choose(trol_sampler *sampler, const float *logits, int32_t vocab_size);
/* The same among the tokens whose bit is set: bit t % 64 of allowed[t / 64]. NULL: among all. */
TROL_API int32_t trol_sampler_choose_allowed(trol_sampler *sampler, const float *logits, int32_t vocab_size,
                                             const uint64_t *allowed);
/* Penalties apply to the tokens that the sampler has been given: begin replaces them by the prompt's, accept adds a
 * token of the answer. trol_generate does both itself. The random numbers are not restarted. NULL samplers are
 * allowed. */
TROL_API TROL_NODISCARD trol_status trol_sampler_begin(trol_sampler *sampler, const int32_t *prompt, size_t n_prompt,
                                                       trol_error *error);
TROL_API TROL_NODISCARD trol_status trol_sampler_accept(trol_sampler *sampler, int32_t token, trol_error *error);
/* The state of the random numbers, to be kept with a saved session: parameters, tokens and state together restore a
 * sampler. */
TROL_API uint64_t trol_sampler_state(const trol_sampler *sampler);
TROL_API void trol_sampler_set_state(trol_sampler *sampler, uint64_t state);

typedef struct trol_token_logprob {
    int32_t token;
    float logprob; /* natural logarithm of its probability */
} trol_token_logprob;

/* Log-probabilities: the log-softmax of the logits as they are, before mask, bias, penalties and temperature. Returns
 * that of `token` (-INFINITY if there is no such token). top [n_top] (may be NULL) gets the likeliest tokens, best
 * first, lowest id first on a tie; token -1 past the end of the vocabulary. */
TROL_API float trol_logprobs(const float *logits, int32_t vocab_size, int32_t token, trol_token_logprob *top,
                             int32_t n_top);

/* ---- constraints ----------------------------------------------------------------------------- */

/* What an answer may be: JSON described by a schema, text generated by a grammar, or a program's own rule. After each
 * token it gives the tokens that may follow. It works on bytes, so a token may be part of a character; special tokens
 * stand for no text and never match. An answer that starts within its token limit always ends within it: the tokens
 * that close it are kept in reserve. One thread at a time; clones may be used by different threads. */
typedef struct trol_constraint trol_constraint;

/* A JSON answer that the JSON Schema text[0 .. n_bytes-1] accepts, of any draft from 4 to 2020-12 or OpenAPI 3.0: what
 * pydantic and zod write for usual models. Supported are
 *  - type, enum, const, anyOf, oneOf (where branches differ by type or by a constant), allOf, $ref within the schema,
 *    $defs and definitions, recursion, not (of {} and of types), nullable;
 *  - properties, required, additionalProperties, patternProperties (up to 6 at one place), propertyNames, minProperties
 *    and maxProperties (more than 1 at least only where all names are declared);
 *  - items, prefixItems, additionalItems, minItems, maxItems, uniqueItems (of at most 12 values);
 *  - minLength, maxLength, pattern (ECMA 262 with look-ahead, without look-behind, back references, \b and \p), format:
 *    date, time, date-time, duration, uuid (uuid1 to uuid8), email (with a dot in its domain), hostname, ipv4, ipv6,
 * uri (its host a name or an IPv4 address), json-pointer, relative-json-pointer, base64, base64url, byte, pydantic's
 *    interfaces and multi-host-uri; of binary, password and paths any text; of another format beside a pattern, what
 * the pattern says;
 *  - minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf (of decimals, exactly), format int8 to uint64.
 * Annotations are ignored; any other keyword is refused by its JSON pointer. Properties are written in the order of the
 * schema, followed by any others, which are allowed unless additionalProperties is false, as in the standard. Arrays
 * and objects are nested at most 64 deep, and white space between tokens is at most a space or a line break with its
 * indentation. */
TROL_API TROL_NODISCARD trol_status trol_constraint_new_json_schema(trol_model *model, const char *text, size_t n_bytes,
                                                                    trol_constraint **constraint, trol_error *error);
/* Any JSON object. */
TROL_API TROL_NODISCARD trol_status trol_constraint_new_json(trol_model *model, trol_constraint **constraint,
                                                             trol_error *error);
/* A grammar text[0 .. n_bytes-1] in GBNF, the notation of llama.cpp: the rule `root` is the answer. Its characters are
 * code points. Left recursion is refused. */
TROL_API TROL_NODISCARD trol_status trol_constraint_new_gbnf(trol_model *model, const char *text, size_t n_bytes,
                                                             trol_constraint **constraint, trol_error *error);

/* A program's own rule. Callbacks that can fail return non-zero, which cancels the call that made them. */
typedef struct trol_constraint_hooks {
    size_t size;
    /* Sets the bits of the tokens that may come next (all are 0 before): bit t % 64 of allowed[t / 64], n_tokens of
     * them. An end token's bit means that the answer may end here. n_left: how many tokens the answer may still have,
     * not counting the end token; -1: any number. */
    int (*fill)(void *user, int64_t n_left, uint64_t *allowed, int32_t n_tokens);
    int (*accept)(void *user, int32_t token); /* the token was taken */
    int (*clone)(void *user, void **clone);   /* a second state that continues from here; NULL: beams are refused */
    int (*reset)(void *user);                 /* back to the beginning; NULL: refused */
    void (*release)(void *user);              /* may be NULL */
} trol_constraint_hooks;

/* On success the constraint owns `user`. */
TROL_API TROL_NODISCARD trol_status trol_constraint_new_custom(trol_model *model, const trol_constraint_hooks *hooks,
                                                               void *user, trol_constraint **constraint,
                                                               trol_error *error);
TROL_API void trol_constraint_free(trol_constraint *constraint);
/* A second constraint that continues from here independently: for beams, forks, other sessions. What is costly is
 * shared. */
TROL_API TROL_NODISCARD trol_status trol_constraint_clone(const trol_constraint *constraint, trol_constraint **clone,
                                                          trol_error *error);
/* Back to the start, for another answer. */
TROL_API TROL_NODISCARD trol_status trol_constraint_reset(trol_constraint *constraint, trol_error *error);
/* The tokens that may come next, as trol_sampler_choose_allowed takes them: allowed [(vocab_size + 63) / 64]. End
 * tokens are among them where the answer may end. n_left as in trol_constraint_hooks: a token is allowed only if the
 * answer can be ended in the n_left - 1 after it. Fails if n_left is below what trol_constraint_min_tokens gives. */
TROL_API TROL_NODISCARD trol_status trol_constraint_fill(trol_constraint *constraint, int64_t n_left, uint64_t *allowed,
                                                         trol_error *error);
/* The token was taken. One that is not allowed is an error, after which the constraint is where it was. */
TROL_API TROL_NODISCARD trol_status trol_constraint_accept(trol_constraint *constraint, int32_t token,
                                                           trol_error *error);
/* How many tokens it takes to end the answer: those of the shortest text that does, longest tokens first. *n_tokens is
 * 0 if the answer may end here, and for a program's own rule. */
TROL_API TROL_NODISCARD trol_status trol_constraint_min_tokens(trol_constraint *constraint, int64_t *n_tokens,
                                                               trol_error *error);
/* Non-zero if nothing but the end may follow. */
TROL_API int trol_constraint_complete(const trol_constraint *constraint);

/* ---- generation ------------------------------------------------------------------------------- */

typedef enum trol_stop {
    TROL_STOP_END = 1,     /* the model ended its answer */
    TROL_STOP_LENGTH = 2,  /* max_tokens */
    TROL_STOP_CONTEXT = 3, /* the context is full */
    TROL_STOP_STRING = 4   /* a stop string */
} trol_stop;

/* A chosen token, the end token included. Valid during the callback. */
typedef struct trol_token_info {
    int64_t position; /* its place in the session, counted from 0 */
    int32_t token;
    float logprob;                 /* as in trol_logprobs */
    int32_t n_top;                 /* n_top_logprobs of the call */
    const trol_token_logprob *top; /* [n_top], best first */
} trol_token_info;

/* Non-zero cancels. */
typedef int (*trol_token_callback)(void *user, const trol_token_info *info);

typedef struct trol_generate_params {
    size_t size;
    int32_t max_tokens;          /* at most; 0: 256, as in the authors' demo */
    int32_t ignore_eos;          /* non-zero: run on past the end tokens */
    trol_sampler *sampler;       /* NULL: greedy */
    int32_t lookup;              /* n-gram length of prompt lookup; 0: off. Never changes a greedy answer */
    trol_logits_callback logits; /* logits that each token was chosen from; may be NULL */
    void *logits_user;
    trol_token_callback token; /* each token with its log-probability; may be NULL */
    void *token_user;
    int32_t n_top_logprobs;   /* for the token callback: this many of the likeliest tokens as well */
    const char *const *stops; /* [n_stops]: texts that end the answer; they may span tokens and are never shown */
    size_t n_stops;
    /* What the answer must match; it is shown with all its white space; NULL: none. It is left in its state after the
     * answer's last token, so that another call can continue; for another answer use trol_constraint_reset or a clone.
     * It is an error if no answer fits in max_tokens or the context. With ignore_eos the answer ends where it must. */
    trol_constraint *constraint;
    /* Non-zero: no other call continues the answer, so what is held back is shown after TROL_STOP_LENGTH,
     * TROL_STOP_CONTEXT and trol_session_cancel as well: what could have become a stop string; U+FFFD for half a
     * character. */
    int32_t show_all;
} trol_generate_params;

TROL_API void trol_generate_params_init(trol_generate_params *params);

/* A piece of the answer: whole UTF-8 characters, without the white space around the answer. Non-zero cancels. */
typedef int (*trol_text_callback)(void *user, const char *text);

/* Writes the answer to the prompt that the session holds. `stop` may be NULL. After TROL_STOP_LENGTH or a cancel
 * another call continues where this one stopped, and both together give what one call would have given. Without a
 * tokenizer the callback gets the token ids as text. */
TROL_API TROL_NODISCARD trol_status trol_generate(trol_session *session, const trol_generate_params *params,
                                                  trol_text_callback callback, void *user, trol_stop *stop,
                                                  trol_error *error);

/* ---- beam search ----------------------------------------------------------------------------- */

/* An answer that a search found. */
typedef struct trol_beam {
    const int32_t *tokens; /* [n_tokens], without an end token */
    size_t n_tokens;
    const char *text; /* as from trol_generate: without the white space around it, up to a stop string */
    float score; /* sum of the tokens' log-probabilities / number of tokens ^ length_penalty; an end token counts */
    trol_stop stop;
} trol_beam;

typedef struct trol_beams_params {
    size_t size;
    int32_t n_beams;           /* hypotheses followed at once, and answers kept; default 5; at most 64 */
    int32_t max_tokens;        /* at most; 0: 256 */
    float length_penalty;      /* 1: scores are means; 0: they are sums; the larger, the longer the answers */
    int32_t ignore_eos;        /* non-zero: run on past the end tokens */
    const int32_t *end_tokens; /* [n_end_tokens]: instead of the model's; n_end_tokens 0: the model's */
    size_t n_end_tokens;
    const char *const *stops; /* [n_stops]: texts that end an answer */
    size_t n_stops;
    /* All answers keep to it, and are shown with all their white space; NULL: none. It stays as it is: the beams have
     * clones. A max_tokens or a context that no answer of it fits in is an error. */
    trol_constraint *constraint;
} trol_beams_params;

TROL_API void trol_beams_params_init(trol_beams_params *params);

/* The answers of a search, best first. */
typedef struct trol_beam_list trol_beam_list;

/* Searches for the most probable answers to the prompt that the session holds, as transformers' generate does with
 * num_beams and without sampling, which is how the authors evaluated (5 beams, length_penalty 1). The beams share the
 * prompt's keys and values and go through the layers as one batch. The session is not changed; trol_session_cancel
 * stops the search, and another may follow. */
TROL_API TROL_NODISCARD trol_status trol_beams(trol_session *session, const trol_beams_params *params,
                                               trol_beam_list **list, trol_error *error);
TROL_API size_t trol_beam_list_count(const trol_beam_list *list);
/* Answer i, owned by the list; NULL past the last one. */
TROL_API const trol_beam *trol_beam_list_get(const trol_beam_list *list, size_t i);
TROL_API void trol_beam_list_free(trol_beam_list *list);

/* ---- the machine ----------------------------------------------------------------------------- */

/* The peak performance of the CPU, all threads together: the yardstick for speeds. A multiplication and the addition
 * after it count as two operations; 0 where the CPU has no such unit. */
typedef struct trol_peaks {
    size_t size;
    int32_t n_threads;
    int32_t read_streams;                        /* per thread, with which read_gbytes was reached */
    double float32_gflops;                       /* FMA in the widest registers */
    double int8_gops;                            /* 8-bit dot products (VNNI, or the best there is without it) */
    double bfloat16_gflops;                      /* AVX-512-BF16 */
    double tile_int8_gops, tile_bfloat16_gflops; /* AMX */
    double read_gbytes; /* 1e9 bytes a second, sequential reading of memory far larger than the caches */
} trol_peaks;

/* Takes a second or two. n_threads as in trol_threads_new. peaks->size must be set by the caller. */
TROL_API TROL_NODISCARD trol_status trol_measure_peaks(int32_t n_threads, trol_peaks *peaks, trol_error *error);

/* ---- packed checkpoints ---------------------------------------------------------------------- */

typedef struct trol_quantize_params {
    size_t size;
    trol_threads *threads;        /* shared pool; NULL: one of n_threads */
    int32_t n_threads;            /* used when threads is NULL; 0: one per core */
    trol_weight_type weight_type; /* TROL_WEIGHTS_Q8 (default) or TROL_WEIGHTS_Q4, of the decoder */
    trol_weight_type vision_type; /* of the encoder and the projector: TROL_WEIGHTS_AS_STORED (default), _Q8 or _Q4 */
    int32_t overwrite;            /* non-zero: files that are already in the output folder are replaced */
    trol_log_callback log;        /* may be NULL */
    void *log_user;
    trol_progress_callback progress; /* may be NULL; stage TROL_STAGE_LOAD, in bytes of the source */
    void *progress_user;
} trol_quantize_params;

TROL_API void trol_quantize_params_init(trol_quantize_params *params);

/* Writes the checkpoint `input` (as in trol_model_load) into the folder `output`, which is created if necessary, with
 * its matrices packed for the kernels. Such a folder is loaded like any other; its weights are mapped and used as
 * stored. The bytes written are those that a load with the same types makes in memory. Needs little memory. On failure
 * nothing is left behind. */
TROL_API TROL_NODISCARD trol_status trol_quantize(const char *input, const char *output,
                                                  const trol_quantize_params *params, trol_error *error);

#ifdef __cplusplus
}
#endif

#endif
