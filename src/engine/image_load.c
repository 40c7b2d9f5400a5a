/* image_load.c - the public calls that load a picture from a file or from memory. */
#include <sys/stat.h>

#include "base/memory.h"
#include "engine/params.h"
#include "format/image.h"
#include "format/json.h"

void trol_image_params_init(trol_image_params *params) {
    if (params)
        *params =
            (trol_image_params){.size = sizeof *params, .max_bytes = IMAGE_MAX_BYTES, .max_pixels = IMAGE_MAX_PIXELS};
}

static trol_status check_limit(const char *name, int64_t limit, int64_t highest, trol_error *error) {
    return limit >= 1 && limit <= highest
               ? TROL_OK
               : fail(error, TROL_ERROR_ARGUMENT, "trol_image_params.%s is %lld, expected 1 to %lld", name,
                      (long long)limit, (long long)highest);
}

static trol_status read_params(const trol_image_params *params, image_settings *settings, trol_error *error) {
    trol_image_params full;
    trol_image_params_init(&full);
    TRY(params_copy(&full, sizeof full, params, "trol_image_params", error));
    TRY(check_limit("max_bytes", full.max_bytes, IMAGE_HIGHEST_MAX_BYTES, error));
    TRY(check_limit("max_pixels", full.max_pixels, IMAGE_HIGHEST_MAX_PIXELS, error));
    *settings =
        (image_settings){.max_bytes = full.max_bytes, .max_pixels = full.max_pixels, .log = {full.log, full.log_user}};
    return TROL_OK;
}

trol_status trol_image_load_memory(const void *bytes, size_t n_bytes, const trol_image_params *params,
                                   trol_image **image, trol_error *error) {
    if (!image)
        return fail(error, TROL_ERROR_ARGUMENT, "the place for the image is NULL");
    *image = NULL;
    if (!bytes && n_bytes)
        return fail(error, TROL_ERROR_ARGUMENT, "the picture's bytes are NULL");
    image_settings settings;
    TRY(read_params(params, &settings, error));
    return image_decode(bytes, n_bytes, &settings, image, error);
}

trol_status trol_image_load_file(const char *path, const trol_image_params *params, trol_image **image,
                                 trol_error *error) {
    if (!image)
        return fail(error, TROL_ERROR_ARGUMENT, "the place for the image is NULL");
    *image = NULL;
    if (!path)
        return fail(error, TROL_ERROR_ARGUMENT, "the picture's path is NULL");
    image_settings settings;
    TRY(read_params(params, &settings, error));
    settings.name = path;
    struct stat info;
    trol_status status = TROL_OK;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > settings.max_bytes)
        status = image_fail_too_long(info.st_size, settings.max_bytes, error);
    else {
        char *bytes;
        size_t n_bytes;
        TRY(file_read(path, (size_t)settings.max_bytes, &bytes, &n_bytes, error));
        status = image_decode(bytes, n_bytes, &settings, image, error);
        memory_free(bytes);
    }
    return status == TROL_OK ? TROL_OK : fail_prefix(error, status, path);
}
