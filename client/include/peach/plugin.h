/* Native functions: a shared object that a worker preloads (-l mathx.so).

   It exports one function, peach_plugin_init, which registers what it has:

       static peach_value_t *square(peach_call_t *call, const peach_value_t *const *args,
                                    size_t count)
       {
           double x;
           if (count != 1 || peach_value_as_double(args[0], &x) != 0)
               return peach_call_fail(call, "square takes one number");
           return peach_value_double(x * x);
       }

       int peach_plugin_init(peach_plugin_t *plugin)
       {
           return peach_plugin_function(plugin, "square", square);
       }

   Build it with  cc -shared -fPIC $(pkg-config --cflags peach) mathx.c -o mathx.so
   The executor has these functions and those of value.h; nothing is linked.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_PLUGIN_H
#define PEACH_PLUGIN_H

#include <peach/value.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct peach_plugin peach_plugin_t;
typedef struct peach_call peach_call_t;

/* One call: the arguments are lent. Returns the result, which the caller takes;
   or NULL after peach_call_fail(). It runs on the executor's only thread. */
typedef peach_value_t *(*peach_function_t)(peach_call_t *call, const peach_value_t *const *args,
                                           size_t count);

/* Exported by the plugin; called once in each executor. 0, or what
   peach_plugin_function returned, or the plugin's own negative status. */
PEACH_EXPORT int peach_plugin_init(peach_plugin_t *plugin);

/* Registers a function under a name (copied). PEACH_E_ARGUMENT when the name is
   empty or longer than 255 bytes, PEACH_E_MEMORY. */
PEACH_EXPORT int peach_plugin_function(peach_plugin_t *plugin, const char *name,
                                       peach_function_t function);

/* Makes this item fail with a message (printf). Always returns NULL. */
PEACH_EXPORT peach_value_t *peach_call_fail(peach_call_t *call, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Whether the client does not want the item any more, or its time is over: return soon. */
PEACH_EXPORT bool peach_call_cancelled(const peach_call_t *call);

/* The number of the item in its job, from 0. */
PEACH_EXPORT uint64_t peach_call_item(const peach_call_t *call);

/* A number to seed random generators with: the same for the same item and job
   seed whatever runs it, and different for every item. Without a job seed it
   comes from the operating system. */
PEACH_EXPORT uint64_t peach_call_seed(const peach_call_t *call);

#ifdef __cplusplus
}
#endif
#endif
