#define _GNU_SOURCE /* cpu_set_t */
#include "base/cpus.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CPUS = 1 << 18, FILE_BYTES = 16384, PATH_BYTES = 4096 + 256 };

/* The beginning of a small file of the system as text; false if there is none. */
static bool read_text(const char *path, char *text, size_t bytes) {
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    size_t used = 0;
    ssize_t n = 0;
    while (used + 1 < bytes && (n = read(descriptor, text + used, bytes - 1 - used)) > 0)
        used += (size_t)n;
    close(descriptor);
    text[used] = '\0';
    return n >= 0 && used > 0;
}

/* ---- cores ---------------------------------------------------------------------------------------------------------
 */

/* Whether a list such as "0-3,8" names the CPU. */
static bool names_cpu(const char *text, long cpu) {
    for (char *end; *text; text = end + (*end == ',')) {
        const long first = strtol(text, &end, 10);
        if (end == text)
            return false;
        long last = first;
        if (*end == '-') {
            text = end + 1;
            last = strtol(text, &end, 10);
            if (end == text)
                return false;
        }
        if (cpu >= first && cpu <= last)
            return true;
        if (*end != ',')
            return false;
    }
    return false;
}

/* The siblings of a CPU as such a list; false if the system does not state them. */
static bool read_siblings(const char *root, int cpu, char *text, size_t bytes) {
    static const char *const names[] = {"core_cpus_list", "thread_siblings_list"}; /* since Linux 5.3, and before */
    char path[PATH_BYTES];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/%s", root, cpu, names[i]);
        if (read_text(path, text, bytes))
            return true;
    }
    return false;
}

cpu_list cpus_of(const char *root, const int *cpus, int n_cpus) {
    cpu_list list = {.cpus = malloc((size_t)n_cpus * sizeof(int)), .core_of = malloc((size_t)n_cpus * sizeof(int))};
    char siblings[FILE_BYTES];
    if (n_cpus <= 0 || !list.cpus || !list.core_of) {
        cpus_free(&list);
        return list;
    }
    memcpy(list.cpus, cpus, (size_t)n_cpus * sizeof(int));
    list.n_cpus = n_cpus;
    for (int i = 0; i < n_cpus; i++)
        list.core_of[i] = -1;
    for (int i = 0; i < n_cpus; i++) {
        if (list.core_of[i] >= 0)
            continue;
        list.core_of[i] = cpus[i];
        list.n_cores++;
        if (!read_siblings(root, cpus[i], siblings, sizeof siblings))
            continue;
        for (int k = i + 1; k < n_cpus; k++)
            if (list.core_of[k] < 0 && names_cpu(siblings, cpus[k]))
                list.core_of[k] = cpus[i];
    }
    return list;
}

void cpus_free(cpu_list *list) {
    free(list->cpus);
    free(list->core_of);
    *list = (cpu_list){0};
}

/* The kernel refuses a mask smaller than its own, however many CPUs there are: doubled until it fits. */
cpu_list cpus_allowed(const char *root) {
    cpu_list list = {0};
    for (int capacity = CPU_SETSIZE; capacity <= MAX_CPUS; capacity *= 2) {
        const size_t bytes = CPU_ALLOC_SIZE(capacity);
        cpu_set_t *mask = CPU_ALLOC(capacity);
        int *cpus = malloc((size_t)capacity * sizeof *cpus), n_cpus = 0;
        const bool known = mask && cpus && sched_getaffinity(0, bytes, mask) == 0;
        for (int cpu = 0; known && cpu < capacity; cpu++)
            if (CPU_ISSET_S(cpu, bytes, mask))
                cpus[n_cpus++] = cpu;
        if (known)
            list = cpus_of(root, cpus, n_cpus);
        free(cpus);
        CPU_FREE(mask);
        if (known)
            return list;
    }
    /* No mask at all, as under a filter of system calls: the CPUs that are online, by number. */
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    int *cpus = online > 0 && online <= MAX_CPUS ? malloc((size_t)online * sizeof *cpus) : NULL;
    for (long cpu = 0; cpus && cpu < online; cpu++)
        cpus[cpu] = (int)cpu;
    if (cpus)
        list = cpus_of(root, cpus, (int)online);
    free(cpus);
    return list;
}

/* ---- control groups ------------------------------------------------------------------------------------------------
 */

/* quota / period rounded up, where both are limits; 0 where not. */
static int whole_cpus(long long quota, long long period) {
    if (quota <= 0 || period <= 0)
        return 0;
    const long long cpus = quota / period + (quota % period > 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

static int smaller_limit(int a, int b) { return a == 0 || (b > 0 && b < a) ? b : a; }

/* "cpu.max" of version 2: "max 100000", "150000 100000". */
static int limit_2(const char *folder) {
    char path[2 * PATH_BYTES], text[128];
    long long quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    return read_text(path, text, sizeof text) && sscanf(text, "%lld %lld", &quota, &period) == 2
               ? whole_cpus(quota, period)
               : 0;
}

static int limit_1(const char *folder) {
    char path[2 * PATH_BYTES], text[128];
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    const long long quota = read_text(path, text, sizeof text) ? strtoll(text, NULL, 10) : -1;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    return read_text(path, text, sizeof text) ? whole_cpus(quota, strtoll(text, NULL, 10)) : 0;
}

/* The smallest limit of a group and of all that it is nested in, up to where the hierarchy is mounted. In a container
 * the path may be that of the host, of which only the end, or nothing, is there. */
static int nested_limit(const char *mount, const char *group, int (*limit)(const char *folder)) {
    char folder[2 * PATH_BYTES - 32];
    const size_t n_mount = strlen(mount);
    int smallest = 0;
    if (snprintf(folder, sizeof folder, "%s%s", mount, strstr(group, "/..") ? "" : group) >= (int)sizeof folder)
        return 0;
    for (;;) {
        smallest = smaller_limit(smallest, limit(folder));
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < n_mount)
            return smallest;
        *slash = '\0';
    }
}

/* Whether a comma-separated list has "cpu". */
static bool has_cpu_controller(const char *list, size_t n_bytes) {
    for (size_t at = 0; at < n_bytes;) {
        const size_t n = strcspn(list + at, ",:");
        if (n == 3 && memcmp(list + at, "cpu", 3) == 0)
            return true;
        at += n + 1;
    }
    return false;
}

/* A line of /proc/self/cgroup: "0::/group" of version 2, "4:cpu,cpuacct:/group" of version 1. */
static int limit_of_line(const char *root, const char *line) {
    char mount[PATH_BYTES];
    const char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group)
        return 0;
    const size_t n = (size_t)(group - controllers - 1);
    int smallest = 0;
    if (n == 0) {
        static const char *const mounts[] = {"", "/unified"};
        for (int i = 0; i < 2; i++) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s", root, mounts[i]);
            smallest = smaller_limit(smallest, nested_limit(mount, group + 1, limit_2));
        }
    } else if (n < 256 && has_cpu_controller(controllers + 1, n)) {
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%.*s", root, (int)n, controllers + 1);
        smallest = nested_limit(mount, group + 1, limit_1);
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root);
        smallest = smaller_limit(smallest, nested_limit(mount, group + 1, limit_1));
    }
    return smallest;
}

int cpus_quota(const char *root) {
    char path[PATH_BYTES], text[FILE_BYTES];
    int smallest = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_text(path, text, sizeof text))
        return 0;
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        smallest = smaller_limit(smallest, limit_of_line(root, line));
    }
    return smallest;
}

int cpus_default_threads(const cpu_list *list, int quota) {
    const int threads = smaller_limit(list->n_cores, quota);
    return threads > 0 ? threads : 1;
}
