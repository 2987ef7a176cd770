/* A plugin with the function that does nothing: noop(x) is x, for ints.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include <peach/plugin.h>

static peach_value_t *noop(peach_call_t *call, const peach_value_t *const *args, size_t count)
{
    int64_t n;
    if (count != 1 || peach_value_as_int(args[0], &n) != 0)
        return peach_call_fail(call, "noop takes one int");
    return peach_value_int(n);
}

int peach_plugin_init(peach_plugin_t *plugin)
{
    return peach_plugin_function(plugin, "noop", noop);
}
