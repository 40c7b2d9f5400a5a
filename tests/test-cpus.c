/* test-cpus.c - the default number of threads: cores within the affinity mask, also with more than 1,024 possible CPUs,
 * and quotas of control groups of both versions, from folders in place of /sys and /proc. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cpus.h"
#include "test.h"

/* A kernel with this many possible CPUs, of which every eighth is allowed, in place of the real one; 0: one that
 * refuses. It refuses a mask that is too small, as the real one does. */
static size_t possible_cpus;

int sched_getaffinity(pid_t process, size_t bytes, cpu_set_t *mask) {
    (void)process;
    if (possible_cpus == 0 || 8 * bytes < possible_cpus) {
        errno = EINVAL;
        return -1;
    }
    CPU_ZERO_S(bytes, mask);
    for (size_t cpu = 0; cpu < possible_cpus; cpu += 8)
        CPU_SET_S(cpu, bytes, mask);
    return 0;
}

static char root[64];

/* A file below root, with the folders that lead to it. */
static void put(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
}

static void new_root(void) {
    snprintf(root, sizeof root, "test-cpus.XXXXXX");
    CHECK(mkdtemp(root) != NULL, "%s", root);
}

static void remove_root(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    CHECK(system(command) == 0, "%s", root);
}

static void put_siblings(int cpu, const char *name, const char *list) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
    put(path, list);
}

static void check_cores(const int *cpus, int n_cpus, int expected) {
    cpu_list list = cpus_of(root, cpus, n_cpus);
    CHECK(list.n_cpus == n_cpus && list.n_cores == expected, "%d cores of %d CPUs, expected %d of %d", list.n_cores,
          list.n_cpus, expected, n_cpus);
    CHECK(cpus_default_threads(&list, 0) == expected, "threads without a quota");
    CHECK(cpus_default_threads(&list, 1) == 1, "a quota of one");
    CHECK(cpus_default_threads(&list, 1000) == expected, "a quota without a limit");
    cpus_free(&list);
}

static void test_cores(void) {
    new_root();
    put_siblings(0, "core_cpus_list", "0,4\n"); /* as Intel numbers them */
    put_siblings(1, "core_cpus_list", "1,5\n");
    put_siblings(4, "core_cpus_list", "0,4\n");
    put_siblings(5, "core_cpus_list", "1,5\n");
    put_siblings(8, "thread_siblings_list", "8-9\n"); /* an older kernel's name, neighbours */
    put_siblings(9, "thread_siblings_list", "8-9\n");
    put_siblings(10, "core_cpus_list", "9x\n"); /* malformed: a core of its own */
    check_cores((const int[]){0, 1, 4, 5}, 4, 2);
    check_cores((const int[]){0, 1}, 2, 2);
    check_cores((const int[]){4, 5}, 2, 2); /* the others of their cores are not allowed */
    check_cores((const int[]){0, 4}, 2, 1);
    check_cores((const int[]){0, 4, 8, 9, 10}, 5, 3);
    check_cores((const int[]){20, 21, 22}, 3, 3); /* the system states nothing about these */
    cpu_list list = cpus_of(root, (const int[]){1, 5, 8}, 3);
    CHECK(list.core_of[0] == 1 && list.core_of[1] == 1 && list.core_of[2] == 8, "which core");
    cpus_free(&list);
    list = cpus_of(root, NULL, 0);
    CHECK(list.n_cpus == 0 && cpus_default_threads(&list, 0) == 1 && cpus_default_threads(&list, 4) == 4, "no CPUs");
    cpus_free(&list);
    remove_root();
}

static void test_masks(void) {
    static const size_t possible[] = {16, 1024, 1025, 8192, 100000};
    for (size_t i = 0; i < sizeof possible / sizeof *possible; i++) {
        possible_cpus = possible[i];
        cpu_list list = cpus_allowed("/nowhere");
        CHECK(list.n_cpus == (int)((possible[i] + 7) / 8) && list.cpus[1] == 8, "%d of %zu CPUs", list.n_cpus,
              possible[i]);
        cpus_free(&list);
    }
    possible_cpus = 0;
    cpu_list list = cpus_allowed("/nowhere");
    CHECK(list.n_cpus == sysconf(_SC_NPROCESSORS_ONLN), "%d CPUs where the mask is refused", list.n_cpus);
    cpus_free(&list);
}

static void check_quota(int expected, const char *what) {
    CHECK(cpus_quota(root) == expected, "%s: %d, expected %d", what, cpus_quota(root), expected);
}

static void test_version_2(void) {
    new_root();
    check_quota(0, "no control groups");
    put("/proc/self/cgroup", "0::/a/b\n");
    check_quota(0, "no limits");
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    check_quota(0, "max");
    put("/sys/fs/cgroup/a/b/cpu.max", "250000 100000\n");
    check_quota(3, "two and a half CPUs");
    put("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    check_quota(2, "less in the group above");
    put("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    check_quota(1, "less at the root of a container");
    put("/sys/fs/cgroup/cpu.max", "0 0\n");
    check_quota(2, "no quota");
    put("/proc/self/cgroup", "0::/../elsewhere\n");
    put("/sys/fs/cgroup/cpu.max", "400000 100000\n");
    check_quota(4, "a path that leads out of the container");
    put("/proc/self/cgroup", "0::/docker/0123/of/the/host\n");
    check_quota(4, "a path that is not there");
    put("/proc/self/cgroup", "0::/");
    check_quota(4, "the root, without a line break");
    put("/proc/self/cgroup", "nonsense\n:\n7:\n");
    check_quota(0, "malformed lines");
    remove_root();
}

static void test_version_1(void) {
    new_root();
    put("/proc/self/cgroup", "5:memory:/x\n4:cpuset:/y\n3:cpu,cpuacct:/docker/1\n1:name=systemd:/z\n0::/\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
    check_quota(0, "-1");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "300000\n");
    check_quota(3, "three CPUs");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "0\n");
    check_quota(0, "a period of nothing");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n"); /* as a container sees its own group */
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    check_quota(2, "mounted as cpu");
    put("/sys/fs/cgroup/cpuset/y/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpuset/y/cpu.cfs_period_us", "100000\n");
    check_quota(2, "another controller whose name begins alike");
    put("/sys/fs/cgroup/unified/cpu.max", "100000 100000\n");
    check_quota(1, "both versions at once");
    remove_root();
}

int main(void) {
    test_cores();
    test_masks();
    test_version_2();
    test_version_1();
    return test_summary("cpus");
}
