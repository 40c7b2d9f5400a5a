/* image_jpeg.c - JPEG through libjpeg-turbo, with the defaults, as in Pillow (slow integer DCT, fancy upsampling, block
 * smoothing), so that the pixels are the reference's: baseline, progressive and arithmetic coding, every sampling
 * factor, grey, RGB, YCbCr, CMYK and YCCK. Of an MPO the first image is taken: it is the first JPEG in the file.
 *
 * What counts as an error is also Pillow's choice: what libjpeg calls fatal, and input that ends before the last row.
 * Other damage is decoded, with a notice. libjpeg neither prints nor exits here: errors leave it by longjmp. */
#include "format/image_formats.h"

#include <limits.h>
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>

#include "base/memory.h"

enum {
    /* libjpeg's fast decoder of Huffman codes skips impossible codes without a warning; it is used only when at least
     * 512 bytes of input are available, so the input is passed in smaller pieces. The pixels are the same. */
    PIECE_BYTES = 511,
    /* Pillow passes pieces of this size: it sees at most one such piece of what follows the last row. */
    PILLOW_PIECE_BYTES = 65536,
    /* Each scan of a progressive JPEG covers the whole image, however short its data. Ten are usual; libjpeg's own
     * fuzzers also stop at 500. */
    MAX_SCANS = 500
};

typedef struct jpeg {
    struct jpeg_error_mgr errors; /* the first member: libjpeg knows only its address */
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct library;
    jmp_buf escape;
    const uint8_t *bytes;
    size_t end, given;  /* input is passed up to `end`; so far up to `given` */
    const char *damage; /* the first one found; NULL: none */
    bool too_many_scans;
} jpeg;

/* ---- errors and warnings --------------------------------------------------------------------- */

static jpeg *state_of(j_common_ptr library) { return (jpeg *)library->err; }

static void leave(j_common_ptr library) { longjmp(state_of(library)->escape, 1); }

static void print_nothing(j_common_ptr library) { (void)library; }

/* What a warning means for the image; NULL: nothing that affects its pixels. */
static const char *damage_of(const struct jpeg_error_mgr *errors) {
    switch (errors->msg_code) {
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
        return "its data contain an impossible code";
    case JWRN_HIT_MARKER:
    case JWRN_JPEG_EOF:
        return "a part of its data ends too early";
    case JWRN_MUST_RESYNC:
        return "a restart marker is missing or in the wrong place";
    case JWRN_BOGUS_PROGRESSION:
        return "its scans do not follow from each other";
    case JWRN_EXTRANEOUS_DATA: /* before a restart marker: what is decoded is not what was encoded */
        return errors->msg_parm.i[1] >= 0xd0 && errors->msg_parm.i[1] <= 0xd7
                   ? "a part of its data is longer than its pixels need"
                   : NULL;
    default:
        return NULL;
    }
}

static void note_message(j_common_ptr library, int level) {
    jpeg *j = state_of(library);
    if (level >= 0)
        return;
    j->errors.num_warnings++;
    if (!j->damage)
        j->damage = damage_of(&j->errors);
}

static void limit_scans(j_common_ptr library) {
    jpeg *j = state_of(library);
    if (j->library.input_scan_number > MAX_SCANS) {
        j->too_many_scans = true;
        leave(library);
    }
}

static trol_status fail_decoding(jpeg *j, trol_error *error) {
    if (j->too_many_scans)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the JPEG has more than %d scans, which is not supported",
                    (int)MAX_SCANS);
    char reason[JMSG_LENGTH_MAX];
    j->errors.format_message((j_common_ptr)&j->library, reason);
    size_t length = strlen(reason);
    if (length && reason[length - 1] == '.')
        reason[length - 1] = '\0';
    switch (j->errors.msg_code) {
    case JERR_OUT_OF_MEMORY:
        return fail(error, TROL_ERROR_MEMORY, "out of memory: a JPEG of %u x %u pixels", j->library.image_width,
                    j->library.image_height);
    case JERR_CANT_SUSPEND: /* how the arithmetic decoder reports the end of the input */
        return fail_cut_short("JPEG", j->library.image_width, j->library.image_height, error);
    case JERR_NO_BACKING_STORE:
        return fail(error, TROL_ERROR_UNSUPPORTED, "the JPEG of %u x %u pixels takes more memory than its size allows",
                    j->library.image_width, j->library.image_height);
    default:
        return fail(error, TROL_ERROR_FORMAT, "the JPEG cannot be decoded: %s", reason);
    }
}

/* ---- input ----------------------------------------------------------------------------------- */

static jpeg *source_of(j_decompress_ptr library) { return state_of((j_common_ptr)library); }

static void begin_input(j_decompress_ptr library) { (void)library; }

static boolean give_input(j_decompress_ptr library) {
    jpeg *j = source_of(library);
    if (j->given == j->end)
        return FALSE;
    size_t n = j->end - j->given < PIECE_BYTES ? j->end - j->given : PIECE_BYTES;
    j->source.next_input_byte = j->bytes + j->given;
    j->source.bytes_in_buffer = n;
    j->given += n;
    return TRUE;
}

static void skip_input(j_decompress_ptr library, long n_bytes) {
    jpeg *j = source_of(library);
    if (n_bytes <= 0)
        return;
    size_t n = (size_t)n_bytes, at_hand = j->source.bytes_in_buffer;
    if (n <= at_hand) {
        j->source.next_input_byte += n;
        j->source.bytes_in_buffer -= n;
        return;
    }
    n -= at_hand;
    j->source.bytes_in_buffer = 0;
    j->given += n < j->end - j->given ? n : j->end - j->given;
}

static void end_input(j_decompress_ptr library) { (void)library; }

static void limit_input_as_pillow(jpeg *j) {
    size_t used = j->given - j->source.bytes_in_buffer;
    size_t piece = (used + PILLOW_PIECE_BYTES - 1) / PILLOW_PIECE_BYTES * PILLOW_PIECE_BYTES;
    if (piece >= j->end)
        return;
    j->end = piece;
    if (j->given > piece) {
        j->source.bytes_in_buffer -= j->given - piece;
        j->given = piece;
    }
}

static void set_up(jpeg *j, byte_reader in) {
    j->bytes = in.bytes;
    j->end = in.n_bytes;
    j->library.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = leave;
    j->errors.output_message = print_nothing;
    j->errors.emit_message = note_message;
    j->source = (struct jpeg_source_mgr){.init_source = begin_input,
                                         .fill_input_buffer = give_input,
                                         .skip_input_data = skip_input,
                                         .resync_to_restart = jpeg_resync_to_restart,
                                         .term_source = end_input};
    j->progress.progress_monitor = limit_scans;
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* The memory in which libjpeg may keep a whole image's coefficients: 2 bytes each, all components at full size.
 */
static long coefficient_bytes(const struct jpeg_decompress_struct *library) {
    int64_t width = ((int64_t)library->image_width + 31) / 32 * 32,
            height = ((int64_t)library->image_height + 31) / 32 * 32;
    int64_t bytes = width * height * 2 * library->num_components + ((int64_t)16 << 20);
    return bytes < LONG_MAX ? (long)bytes : LONG_MAX;
}

static trol_status read_header(jpeg *j, const image_settings *settings, trol_image *image, trol_error *error) {
    struct jpeg_decompress_struct *library = &j->library;
    int found;
    do
        found = jpeg_read_header(library, FALSE);
    while (found == JPEG_HEADER_TABLES_ONLY);
    if (found != JPEG_HEADER_OK)
        return fail_cut_short("JPEG", library->image_width, library->image_height, error);
    int n = library->num_components;
    if (n != 1 && n != 3 && n != 4)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the JPEG has %d components, expected 1, 3 or 4", n);
    library->out_color_space = n == 1 ? JCS_GRAYSCALE : n == 3 ? JCS_RGB : JCS_CMYK;
    TRY(image_alloc("JPEG", library->image_width, library->image_height, settings->max_pixels, image, error));
    library->mem->max_memory_to_use = coefficient_bytes(library);
    return TROL_OK;
}

/* Spreads grey values, packed at the start of a row of three bytes per pixel, over the row. */
static void spread_grey(uint8_t *row, int32_t width) {
    for (int32_t x = width - 1; x >= 0; x--)
        memset(row + 3 * x, row[x], 3);
}

static unsigned divide_255(unsigned product) {
    unsigned rounded = product + 128;
    return ((rounded >> 8) + rounded) >> 8;
}

/* CMYK as Adobe stores it, inverted, with or without Adobe's marker; then Pillow's conversion to RGB. */
static void convert_cmyk(const uint8_t *cmyk, int32_t width, uint8_t *row) {
    for (int32_t x = 0; x < width; x++)
        for (int k = 0; k < 3; k++)
            row[3 * x + k] = (uint8_t)(cmyk[4 * x + 3] - divide_255((255u - cmyk[4 * x + k]) * cmyk[4 * x + 3]));
}

static trol_status read_rows(jpeg *j, const trol_image *image, trol_error *error) {
    struct jpeg_decompress_struct *library = &j->library;
    if (!jpeg_start_decompress(library))
        return fail_cut_short("JPEG", image->width, image->height, error);
    JSAMPARRAY cmyk = NULL;
    if (library->out_color_space == JCS_CMYK)
        cmyk = library->mem->alloc_sarray((j_common_ptr)library, JPOOL_IMAGE, 4 * (JDIMENSION)image->width, 1);
    while (library->output_scanline < library->output_height) {
        uint8_t *row = image->pixels + 3 * (size_t)library->output_scanline * (size_t)image->width;
        if (jpeg_read_scanlines(library, cmyk ? cmyk : &row, 1) != 1)
            return fail_cut_short("JPEG", image->width, image->height, error);
        if (cmyk)
            convert_cmyk(cmyk[0], image->width, row);
        else if (library->out_color_space == JCS_GRAYSCALE)
            spread_grey(row, image->width);
    }
    limit_input_as_pillow(j);
    jpeg_finish_decompress(library); /* an error after the last row may be fatal; missing data there is not */
    return TROL_OK;
}

static trol_status decode(jpeg *j, const image_settings *settings, trol_image *image, trol_error *error) {
    if (setjmp(j->escape))
        return fail_decoding(j, error);
    jpeg_create_decompress(&j->library);
    j->library.src = &j->source;
    j->library.progress = &j->progress;
    TRY(read_header(j, settings, image, error));
    return read_rows(j, image, error);
}

trol_status jpeg_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    jpeg *j;
    TRY(memory_alloc_zero(1, sizeof *j, "a JPEG decoder", (void **)&j, error));
    set_up(j, in);
    image->orientation = exif_orientation_jpeg(in);
    trol_status status = decode(j, settings, image, error);
    jpeg_destroy_decompress(&j->library);
    if (status == TROL_OK && j->damage)
        image_notice(settings, "the JPEG is damaged (%s); it is decoded as well as it can be", j->damage);
    memory_free(j);
    return status;
}
