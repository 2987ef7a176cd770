/* What a peach function can report.

   Functions that can fail return 0 or one of these negative values. The same
   numbers travel in the protocol (Failure.status, Error.status), so they are
   never reassigned.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_STATUS_H
#define PEACH_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PEACH_EXPORT __attribute__((visibility("default")))
#else
#define PEACH_EXPORT
#endif

typedef enum peach_status {
    PEACH_END = 1,             /* an iteration has no more results */
    PEACH_OK = 0,              /* */
    PEACH_E_ARGUMENT = -1,     /* the caller's argument is wrong */
    PEACH_E_MEMORY = -2,       /* out of memory */
    PEACH_E_SYSTEM = -3,       /* the operating system refused; errno says why */
    PEACH_E_PROTOCOL = -4,     /* bytes that are not the peach protocol */
    PEACH_E_VERSION = -5,      /* another version of the protocol */
    PEACH_E_LIMIT = -6,        /* too large, too deep or too many */
    PEACH_E_TIMEOUT = -7,      /* not done in the time given */
    PEACH_E_NO_BROKER = -8,    /* no broker answered */
    PEACH_E_REFUSED = -9,      /* the broker or a worker does not allow it */
    PEACH_E_NO_SESSION = -10,  /* the broker does not know this peer: Hello again */
    PEACH_E_NO_FUNCTION = -11, /* no worker has the function */
    PEACH_E_RAISED = -12,      /* the function raised, or returned an error */
    PEACH_E_DIED = -13,        /* the executor that ran the item died */
    PEACH_E_LOST = -14,        /* the worker that ran the item was lost */
    PEACH_E_CANCELLED = -15,   /* */
    PEACH_E_PRELOAD = -16,     /* a preload could not be loaded */
    PEACH_E_TYPE = -17,        /* a value has another type, or no Value form */
    PEACH_E_JSON = -18,        /* text that is not JSON, or a value JSON cannot say */
    PEACH_E_UNSUPPORTED = -19, /* this build or this peer cannot do it */
} peach_status_t;

/* One sentence in English, without a full stop. Never NULL; static storage. */
PEACH_EXPORT const char *peach_status_text(int status);

/* The name of the code ("PEACH_E_TIMEOUT"). Never NULL; static storage. */
PEACH_EXPORT const char *peach_status_name(int status);

#ifdef __cplusplus
}
#endif
#endif
