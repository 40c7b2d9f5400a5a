#include "common/memory_usage.h"

#include <inttypes.h>
#include <stdio.h>

memory_usage memory_usage_read(void) {
    memory_usage usage = {0, 0};
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    while (status && fgets(line, sizeof line, status)) {
        int64_t kib;
        if (sscanf(line, "VmHWM: %" SCNd64 " kB", &kib) == 1)
            usage.peak_resident = kib * 1024;
        else if (sscanf(line, "RssAnon: %" SCNd64 " kB", &kib) == 1)
            usage.private_now = kib * 1024;
    }
    if (status)
        fclose(status);
    return usage;
}
