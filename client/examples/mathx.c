/* A plugin: two native functions.

   cc -shared -fPIC $(pkg-config --cflags peach) mathx.c -o mathx.so
   peach run -n 4 -l ./mathx.so square 1..5 */
#include <peach/plugin.h>

static peach_value_t *square(peach_call_t *call, const peach_value_t *const *args, size_t count)
{
    int64_t n;
    double x;
    if (count == 1 && peach_value_as_int(args[0], &n) == 0) return peach_value_int(n * n);
    if (count == 1 && peach_value_as_double(args[0], &x) == 0) return peach_value_double(x * x);
    return peach_call_fail(call, "square takes one number");
}

/* Whether a number is prime, by trial division: something to keep cores busy. */
static peach_value_t *prime(peach_call_t *call, const peach_value_t *const *args, size_t count)
{
    int64_t n;
    if (count != 1 || peach_value_as_int(args[0], &n) != 0)
        return peach_call_fail(call, "prime takes one integer");
    for (int64_t d = 2; d <= n / d; d++)
        if (n % d == 0) return peach_value_bool(false);
    return peach_value_bool(n > 1);
}

int peach_plugin_init(peach_plugin_t *plugin)
{
    int rc = peach_plugin_function(plugin, "square", square);
    return rc ? rc : peach_plugin_function(plugin, "prime", prime);
}
