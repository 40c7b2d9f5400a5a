#include "common/bundled_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {"trol-tiny-internlm2", "trol-tiny-phi3"};

static bool is_there(const char *folder, const char *name, char *path, size_t bytes) {
    char config[4096];
    int length = snprintf(config, sizeof config, "%s/%s/config.json", folder, name);
    if (length < 0 || (size_t)length >= sizeof config || access(config, R_OK) != 0)
        return false;
    length = snprintf(path, bytes, "%s/%s", folder, name);
    return length > 0 && (size_t)length < bytes;
}

bool bundled_model_find(char *path, size_t bytes) {
    const char *named = getenv("TROL_MODEL");
    if (named && *named)
        return (size_t)snprintf(path, bytes, "%s", named) < bytes;
    char program[2048], installed[3072] = "";
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length > 0) {
        program[length] = '\0';
        char *slash = strrchr(program, '/');
        if (slash) {
            *slash = '\0';
            snprintf(installed, sizeof installed, "%s/%s", program, TROL_INSTALLED_MODELS);
        }
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((installed[0] && is_there(installed, names[i], path, bytes)) ||
            is_there(TROL_SOURCE_MODELS, names[i], path, bytes))
            return true;
    return false;
}
