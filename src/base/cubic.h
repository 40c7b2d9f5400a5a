/* cubic.h - the weights of bicubic resizes: cubic convolution (Keys 1981). */
#ifndef BASE_CUBIC_H
#define BASE_CUBIC_H

#include <math.h>

/* The weight of a pixel at the distance x; a is -0.75 in torch, -0.5 in Pillow. */
static inline double cubic_weight(double a, double x) {
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

#endif
