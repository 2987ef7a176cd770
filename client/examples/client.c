/* Maps a function of the fleet over 0..9. README shows this program from here on. */
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
    int status = PEACH_E_ARGUMENT, failed = 0;
    while (job && (status = peach_job_next(job, &result, -1)) == PEACH_OK) {
        if (result.value) {
            char *json = peach_value_to_json(result.value);
            puts(json ? json : "out of memory");
            free(json);
        } else {
            fprintf(stderr, "%s\n", result.failure->message);
            failed = 1;
        }
        peach_result_clear(&result);
    }
    if (status != PEACH_END) {
        fprintf(stderr, "%s\n", peach_error(fleet));
        failed = 1;
    }
    peach_job_destroy(&job);
    peach_close(&fleet);
    return failed;
}
