/* The hub's cache keeps each repository ORG/NAME in models--ORG--NAME: refs/main holds the commit that a download of
 * the main branch gave, snapshots/COMMIT its files as symbolic links. */
#include "engine/locate.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "format/json.h"

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* ORG/NAME of letters, digits, '-', '_' and '.', no part beginning with '.'. */
static bool is_hub_name(const char *text) {
    int slashes = 0;
    for (const char *c = text; *c; c++) {
        bool first = c == text || c[-1] == '/';
        bool letter =
            (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '-' || *c == '_';
        if (*c == '/' && !first)
            slashes++;
        else if (!letter && (*c != '.' || first))
            return false;
    }
    return slashes == 1 && text[strlen(text) - 1] != '/';
}

/* The home folder of a user, NULL: of this one; *home is allocated. */
static trol_status home_folder(const char *user, char **home, trol_error *error) {
    enum { MAX_ENTRY_BYTES = 64 << 10 };
    const char *variable = user ? NULL : getenv("HOME");
    if (variable && *variable)
        return memory_copy_text(variable, strlen(variable), home, error);
    struct passwd entry, *found = NULL;
    char *texts;
    TRY(memory_alloc(MAX_ENTRY_BYTES, 1, "a user's entry", (void **)&texts, error));
    if (user)
        (void)getpwnam_r(user, &entry, texts, MAX_ENTRY_BYTES, &found);
    else
        (void)getpwuid_r(getuid(), &entry, texts, MAX_ENTRY_BYTES, &found);
    trol_status status = found && found->pw_dir && found->pw_dir[0] == '/'
                             ? memory_copy_text(found->pw_dir, strlen(found->pw_dir), home, error)
                             : fail(error, TROL_ERROR_IO,
                                    "the hub cache cannot be found: HOME is not set and the %s%s has no home folder",
                                    user ? "user " : "user", user ? user : "");
    memory_free(texts);
    return status;
}

/* A path from the environment with a leading "~" or "~user" replaced, like Python's expanduser. */
static trol_status expand_home(const char *path, char **expanded, trol_error *error) {
    const size_t name_bytes = strcspn(path, "/");
    char user[256], *home;
    if (path[0] != '~' || name_bytes >= sizeof user)
        return memory_copy_text(path, strlen(path), expanded, error);
    snprintf(user, sizeof user, "%.*s", (int)name_bytes - 1, path + 1);
    TRY(home_folder(*user ? user : NULL, &home, error));
    trol_status status = path_join(home, path[name_bytes] ? path + name_bytes + 1 : "", expanded, error);
    memory_free(home);
    return status;
}

/* A variable that is set and not empty, else NULL. */
static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* $NAME and ${NAME} in a path replaced, except for variables that are not set, like Python's expandvars. */
static trol_status expand_variables(const char *path, char **expanded, trol_error *error) {
    char text[4096], name[256];
    size_t used = 0;
    while (*path && used < sizeof text) {
        const bool braced = path[0] == '$' && path[1] == '{';
        const char *start = path + 1 + braced;
        const size_t length = path[0] != '$' ? 0
                              : braced
                                  ? strcspn(start, "}")
                                  : strspn(start, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : 0), start);
        const char *value = *name && (!braced || start[length]) ? getenv(name) : NULL;
        used += (size_t)snprintf(text + used, sizeof text - used, "%.*s", value ? INT_MAX : 1, value ? value : path);
        path = value ? start + length + braced : path + 1;
    }
    if (used >= sizeof text)
        return fail(error, TROL_ERROR_ARGUMENT, "the path of the hub cache is longer than %zu bytes", sizeof text - 1);
    return memory_copy_text(text, used, expanded, error);
}

/* Both, in Python's order: "~" first. */
static trol_status expand(const char *path, char **expanded, trol_error *error) {
    char *from_home;
    TRY(expand_home(path, &from_home, error));
    trol_status status = expand_variables(from_home, expanded, error);
    memory_free(from_home);
    return status;
}

/* The folder that holds the cached repositories, found as huggingface_hub finds it, but never from an empty variable.
 */
static trol_status cache_folder(char **folder, trol_error *error) {
    const char *cache = variable("HF_HUB_CACHE"), *home = variable("HF_HOME"), *xdg = variable("XDG_CACHE_HOME");
    char *base;
    cache = cache ? cache : variable("HUGGINGFACE_HUB_CACHE");
    if (cache)
        return expand(cache, folder, error);
    TRY(expand(home ? home : xdg ? xdg : "~", &base, error));
    trol_status status = path_join(base,
                                   home  ? "hub"
                                   : xdg ? "huggingface/hub"
                                         : ".cache/huggingface/hub",
                                   folder, error);
    memory_free(base);
    return status;
}

/* The snapshot that refs/main names. */
static trol_status find_snapshot(const char *repository, const char *name, char **folder, trol_error *error) {
    char *ref = NULL, *commit = NULL, *snapshots = NULL;
    size_t n_bytes = 0;
    trol_status status;
    TRY_GOTO(path_join(repository, "refs/main", &ref, error), done);
    TRY_GOTO(file_read(ref, 256, &commit, &n_bytes, error), done);
    while (n_bytes > 0 && (commit[n_bytes - 1] == '\n' || commit[n_bytes - 1] == '\r' || commit[n_bytes - 1] == ' '))
        commit[--n_bytes] = '\0';
    if (n_bytes == 0 || strspn(commit, "0123456789abcdef") != n_bytes) {
        status = fail(error, TROL_ERROR_FORMAT, "%s: the file names no commit", ref);
        goto done;
    }
    TRY_GOTO(path_join(repository, "snapshots", &snapshots, error), done);
    TRY_GOTO(path_join(snapshots, commit, folder, error), done);
    if (!is_folder(*folder)) {
        status = fail(error, TROL_ERROR_IO, "%s: the cached snapshot %s is missing; download %s again", repository,
                      commit, name);
        memory_free(*folder);
        *folder = NULL;
    }
done:
    memory_free(ref);
    memory_free(commit);
    memory_free(snapshots);
    return status;
}

trol_status locate_checkpoint(const char *path, char **folder, trol_error *error) {
    *folder = NULL;
    struct stat info;
    if (is_folder(path))
        return memory_copy_text(path, strlen(path), folder, error);
    if (stat(path, &info) == 0)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: this is a file, expected the folder that holds config.json", path);
    if (!is_hub_name(path))
        return fail(error, TROL_ERROR_IO, "%s: the folder cannot be opened: %s", path, strerror(errno));
    char *cache = NULL, *repository = NULL, directory[512];
    trol_status status;
    const char *slash = strchr(path, '/');
    if (snprintf(directory, sizeof directory, "models--%.*s--%s", (int)(slash - path), path, slash + 1) >=
        (int)sizeof directory)
        return fail(error, TROL_ERROR_ARGUMENT, "the hub name is %zu bytes long, expected at most 500", strlen(path));
    TRY_GOTO(cache_folder(&cache, error), done);
    TRY_GOTO(path_join(cache, directory, &repository, error), done);
    if (is_folder(repository))
        status = find_snapshot(repository, path, folder, error);
    else
        status = fail(error, TROL_ERROR_IO,
                      "%s: there is no such folder, and the hub cache %s does not hold a model of that name (libtrol "
                      "downloads nothing)",
                      path, cache);
done:
    memory_free(cache);
    memory_free(repository);
    return status;
}
