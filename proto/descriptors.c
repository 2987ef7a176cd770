/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "descriptors.h"

#include <sys/resource.h>

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
