/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "descriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static struct rlimit before;

void descriptors_raise(void)
{
    if (getrlimit(RLIMIT_NOFILE, &before) != 0) return;
    struct rlimit most = {before.rlim_max, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &most);
}

void descriptors_restore(void)
{
    if (before.rlim_cur > 0) setrlimit(RLIMIT_NOFILE, &before);
}

bool descriptors_spare(unsigned count)
{
    int fds[64];
    unsigned made = 0;
    while (made < count && made < 64 && (fds[made] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        made++;
    for (unsigned i = 0; i < made; i++) close(fds[i]);
    return made == count;
}

void descriptors_count(uint32_t *open, uint32_t *limit)
{
    struct rlimit now;
    uint32_t entries = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder)) entries++;
    if (folder) closedir(folder);
    *open = entries > 3 ? entries - 3 : 0; /* without ., .. and the folder itself */
    *limit = getrlimit(RLIMIT_NOFILE, &now) == 0 ? (uint32_t)now.rlim_cur : 0;
}
