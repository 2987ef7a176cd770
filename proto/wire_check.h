/* The bounds of PROTOCOL.md, checked once on everything that is decoded, so that
   the code behind may rely on them.

This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_WIRE_CHECK_H
#define PEACH_WIRE_CHECK_H

#include "peach.pb-c.h"
#include <stddef.h>

/* 0, PEACH_E_PROTOCOL or PEACH_E_LIMIT with the reason in *why. frame_count is
   the number of payload frames that came with the envelope. */
int wire_check(const Peach__Envelope *envelope, size_t frame_count, const char **why);

#endif
