/* fuzz-image.c - any bytes as a picture: refused with a sentence, or pixels within the limits, all of which are there.
 */
#include <stdlib.h>

#include "format/image.h"

enum { SIDE = 28 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    trol_error error = {0};
    trol_image *image;
    if (trol_image_load_memory(bytes, n_bytes, NULL, &image, &error) != TROL_OK) {
        if (error.message[0] == '\0' || image)
            abort();
        return 0;
    }
    size_t n = 3 * (size_t)image->width * (size_t)image->height;
    if (image->orientation < 1 || image->orientation > 8 || (int64_t)image->width * image->height > IMAGE_MAX_PIXELS)
        abort();
    static uint8_t out[SIDE * SIDE * 3];
    /* The resizes read every pixel; large pictures only take time. */
    if (n < 3000000 && (image_resize_torch(image, SIDE, SIDE, out, &error) != TROL_OK ||
                        image_resize_pillow(image, SIDE, SIDE, out, &error) != TROL_OK))
        abort();
    trol_image_free(image);
    return 0;
}
