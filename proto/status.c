/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include <peach/status.h>

#define CASES(X)                                                      \
    X(PEACH_END, "no more results")                                   \
    X(PEACH_OK, "success")                                            \
    X(PEACH_E_ARGUMENT, "an argument is wrong")                       \
    X(PEACH_E_MEMORY, "out of memory")                                \
    X(PEACH_E_SYSTEM, "the operating system refused")                 \
    X(PEACH_E_PROTOCOL, "not the peach protocol")                     \
    X(PEACH_E_VERSION, "another version of the peach protocol")       \
    X(PEACH_E_LIMIT, "over a limit: too large, too deep or too many") \
    X(PEACH_E_TIMEOUT, "not done in the time given")                  \
    X(PEACH_E_NO_BROKER, "no broker answered")                        \
    X(PEACH_E_REFUSED, "refused")                                     \
    X(PEACH_E_NO_SESSION, "the broker does not know this session")    \
    X(PEACH_E_NO_FUNCTION, "no worker has the function")              \
    X(PEACH_E_RAISED, "the function failed")                          \
    X(PEACH_E_DIED, "the executor that ran the item died")            \
    X(PEACH_E_LOST, "the worker that ran the item was lost")          \
    X(PEACH_E_CANCELLED, "cancelled")                                 \
    X(PEACH_E_PRELOAD, "a preload could not be loaded")               \
    X(PEACH_E_TYPE, "a value has another type")                       \
    X(PEACH_E_JSON, "not JSON")                                       \
    X(PEACH_E_UNSUPPORTED, "not supported")

const char *peach_status_text(int status)
{
    switch (status) {
#define TEXT(code, text) \
    case code: return text;
        CASES(TEXT)
    default: return "unknown status";
    }
}

const char *peach_status_name(int status)
{
    switch (status) {
#define NAME(code, text) \
    case code: return #code;
        CASES(NAME)
    default: return "PEACH_E_UNKNOWN";
    }
}
