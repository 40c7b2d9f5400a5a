/* image_webp.c - WebP through libwebp: lossy and lossless, alpha dropped after decoding; of an animation the first
 * frame on its canvas, which is black where the frame does not cover it, as in Pillow. */
#include "format/image_formats.h"

#ifndef TROL_WEBP

trol_status webp_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    (void)in;
    (void)settings;
    (void)image;
    return fail(error, TROL_ERROR_UNSUPPORTED,
                "the file is in WebP format, for which this library was built without libwebp (CMake: -DTROL_WEBP=ON)");
}

#else

#include <webp/decode.h>
#include <webp/demux.h>

static trol_status fail_damaged(trol_error *error) {
    return fail(error, TROL_ERROR_FORMAT, "the WebP is damaged: its parts do not fit together");
}

static trol_status open_file(byte_reader in, WebPDemuxer **file, trol_error *error) {
    WebPData data = {in.bytes, in.n_bytes};
    WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
    *file = WebPDemuxPartial(&data, &state);
    if (state == WEBP_DEMUX_DONE && *file)
        return TROL_OK;
    trol_status status;
    if (state == WEBP_DEMUX_PARSE_ERROR || (state == WEBP_DEMUX_DONE && !*file))
        status = fail_damaged(error);
    else
        status = fail_cut_short("WebP", *file ? WebPDemuxGetI(*file, WEBP_FF_CANVAS_WIDTH) : 0,
                                *file ? WebPDemuxGetI(*file, WEBP_FF_CANVAS_HEIGHT) : 0, error);
    WebPDemuxDelete(*file);
    *file = NULL;
    return status;
}

static trol_status fail_decoding(VP8StatusCode code, const trol_image *image, trol_error *error) {
    switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY:
        return fail(error, TROL_ERROR_MEMORY, "out of memory: a WebP of %d x %d pixels", image->width, image->height);
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return fail_cut_short("WebP", image->width, image->height, error);
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return fail(error, TROL_ERROR_UNSUPPORTED, "the WebP is of a kind that libwebp does not decode");
    default:
        return fail(error, TROL_ERROR_FORMAT, "the WebP is damaged: its data cannot be decoded");
    }
}

/* Copies the frame to its place on the canvas image->pixels. */
static trol_status decode_frame(const WebPIterator *frame, trol_image *image, trol_error *error) {
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the installed libwebp is not the version that this library was built with");
    int64_t right = (int64_t)frame->x_offset + frame->width, bottom = (int64_t)frame->y_offset + frame->height;
    if (frame->width < 1 || frame->height < 1 || frame->x_offset < 0 || frame->y_offset < 0 || right > image->width ||
        bottom > image->height)
        return fail_damaged(error);
    size_t stride = 3 * (size_t)image->width, place = (size_t)frame->y_offset * stride + 3 * (size_t)frame->x_offset;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->pixels + place;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)image->height - place;
    VP8StatusCode code = WebPGetFeatures(frame->fragment.bytes, frame->fragment.size, &config.input);
    if (code == VP8_STATUS_OK && (config.input.width != frame->width || config.input.height != frame->height))
        return fail_damaged(error);
    if (code == VP8_STATUS_OK)
        code = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? TROL_OK : fail_decoding(code, image, error);
}

static trol_status decode_file(WebPDemuxer *file, const image_settings *settings, trol_image *image,
                               trol_error *error) {
    TRY(image_alloc("WebP", WebPDemuxGetI(file, WEBP_FF_CANVAS_WIDTH), WebPDemuxGetI(file, WEBP_FF_CANVAS_HEIGHT),
                    settings->max_pixels, image, error));
    WebPChunkIterator exif;
    if (WebPDemuxGetChunk(file, "EXIF", 1, &exif))
        image->orientation = exif_orientation_tiff(exif.chunk.bytes, exif.chunk.size);
    WebPDemuxReleaseChunkIterator(&exif);
    WebPIterator frame;
    trol_status status = fail_damaged(error);
    if (WebPDemuxGetFrame(file, 1, &frame)) {
        if (frame.width != image->width || frame.height != image->height)
            memset(image->pixels, 0, 3 * (size_t)image->width * (size_t)image->height);
        status = decode_frame(&frame, image, error);
    }
    WebPDemuxReleaseIterator(&frame);
    return status;
}

trol_status webp_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    WebPDemuxer *file;
    TRY(open_file(in, &file, error));
    trol_status status = decode_file(file, settings, image, error);
    WebPDemuxDelete(file);
    return status;
}

#endif
