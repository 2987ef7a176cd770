/* Maps a function of the fleet over 0..9 from C:

   cc client.c $(pkg-config --cflags --libs peach) -o client
   ./client fnc */
#include <peach/peach.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    peach_error_t error;
    peach_t *fleet = peach_connect(NULL, 3000, &error);
    if (!fleet) {
        fprintf(stderr, "%s\n", error.message);
        return 3;
    }
    peach_value_t *items = peach_value_range(0, 9);
    peach_job_t *job = peach_map(fleet, argc > 1 ? argv[1] : "fnc", &items, NULL);
    peach_result_t result;
    int failed = 0;
    while (job && peach_job_next(job, &result, 10000) == 0) {
        if (result.value) {
            char *json = peach_value_to_json(result.value);
            printf("%s\n", json);
            free(json);
        } else {
            fprintf(stderr, "item %llu: %s\n", (unsigned long long)result.item,
                    result.failure->message);
            failed = 1;
        }
        peach_result_clear(&result);
    }
    peach_job_destroy(&job);
    peach_close(&fleet);
    return failed;
}
