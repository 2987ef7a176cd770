/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "options.h"

#include "arguments.h"
#include "clock.h"
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

/* What an option's value becomes. */
typedef enum {
    FLAG,    /* true */
    COUNT,   /* a number from least to most */
    NUMERAL, /* the same, kept as its text */
    TIME,    /* seconds, kept in milliseconds */
    TEXT,
    TEXTS, /* one more text */
    WORD,  /* one of those in words */
} kind_t;

typedef struct {
    const char *name;
    int letter; /* 0: it has none */
    const char *value;
    unsigned commands;
    kind_t kind;
    size_t offset, size; /* of its place in options_t */
    uint64_t least, most;
    const char *words;
    int group;
    const char *help;
} option_t;

#define AT(field) offsetof(options_t, field), sizeof((options_t *)NULL)->field
#define ANY 0, 0, NULL
#define JOB (MAP | RUN | CALL)
#define ITEMS (MAP | RUN)
#define VIEW (STATUS | WORKERS | FUNCTIONS)
#define CONNECTS (MAP | CALL | VIEW | INIT | PRELOAD | UNLOAD | CANCEL | DRAIN | BENCH)
#define JSON (VIEW | INIT | UNLOAD | CANCEL | DRAIN | BENCH)

/* Options of a lower group stand first in --help, under its title. */
enum { OWN, ITEM, RESULT, HOW, BROKER, GROUPS };
static const char *const titles[GROUPS] = {NULL, "Items", "Results", "How they are run",
                                           "The broker"};

/* clang-format off: a line an option, as far as its help lets it be one */
static const option_t table[] = {
    {"slots", 'n', "N", RUN, NUMERAL, AT(slots), 1, 1024, NULL, OWN,
     "Executors to start (default: one a core)"},
    {"slots", 'n', "N", INIT, NUMERAL, AT(slots), 1, 1024, NULL, OWN,
     "Start workers here until the fleet has N slots"},
    {"slots", 'n', "N", BENCH, NUMERAL, AT(slots), 1, 1024, NULL, OWN,
     "Executors to start for it (default 4)"},
    {"preload", 'l', "PRELOAD", RUN, TEXTS, AT(preloads), ANY, OWN,
     "A Python file, module:NAME, or a .so plugin; may be repeated"},
    {"preload", 'l', "PRELOAD", INIT, TEXTS, AT(preloads), ANY, OWN,
     "Load this on all workers, now and later: a Python file, module:NAME, or a .so; may be "
     "repeated"},
    {"memory", 0, "MIB", RUN, NUMERAL, AT(memory), 16, INT_MAX, NULL, OWN,
     "Kill an executor that takes more"},
    {"recycle", 0, "N", RUN, NUMERAL, AT(recycle), 1, INT_MAX, NULL, OWN,
     "Replace an executor after N items"},
    {"start", 0, "HOW", RUN, WORD, AT(start), 0, 0, "spawn fork", OWN,
     "spawn (default), or fork: executors are copies of one that loaded the preloads"},
    {"port", 'p', "PORT", RUN, NUMERAL, AT(port), 1, 65535, NULL, OWN,
     "Of the broker on 127.0.0.1 (default: any free one)"},
    {"worker", 'w', "ID", DRAIN, TEXT, AT(worker), ANY, OWN,
     "The worker whose id begins so (peach workers)"},
    {"host", 0, "HOST", DRAIN, TEXT, AT(host), ANY, OWN, "All workers on this host"},
    {"all", 0, NULL, DRAIN, FLAG, AT(all), ANY, OWN, "All workers"},
    {"broker", 0, NULL, DRAIN, FLAG, AT(broker), ANY, OWN,
     "The broker: refuse new work, finish, exit"},
    {"all", 0, NULL, CANCEL, FLAG, AT(all), ANY, OWN, "All jobs"},
    {"runs", 'r', "N", BENCH, COUNT, AT(runs), 1, 99, NULL, OWN,
     "Runs of each measurement (default 5)"},
    {"only", 0, "PART", BENCH, WORD, AT(only), 0, 0, "maps latency bulk balance costs", OWN,
     "Only maps, latency, bulk, balance or costs"},

    {"source", 0, "TEXT", JOB, TEXT, AT(source), ANY, ITEM,
     "Run this Python function, an expression ('lambda x: x*x') or statements with a def, in "
     "place of FUNC"},
    {"lines", 0, NULL, ITEMS, FLAG, AT(lines), ANY, ITEM,
     "Items from standard input and files are lines of text, not of JSON: each is a string. "
     "Without ITEM it is standard input"},
    {"spread", 0, NULL, ITEMS, FLAG, AT(job.spread), ANY, ITEM,
     "An item is the list of the arguments, not the one argument"},

    {"raw", 0, NULL, JOB, FLAG, AT(raw), ANY, RESULT,
     "Print strings as they are, without quotes; all else as JSON"},
    {"unordered", 0, NULL, ITEMS, FLAG, AT(job.unordered), ANY, RESULT,
     "Print results as they finish"},
    {"errors", 0, "FILE", ITEMS, TEXT, AT(errors), ANY, RESULT,
     "Write what failed there, with the number of the item, not among the results"},
    {"logs", 0, NULL, JOB, FLAG, AT(logs), ANY, RESULT,
     "Show what the tasks print, on standard error: HOST/SLOT ITEM: LINE"},
    {"quiet", 'q', NULL, ITEMS | INIT | PRELOAD, FLAG, AT(quiet), ANY, RESULT, "No progress bar"},
    {"joblog", 0, "FILE", ITEMS, TEXT, AT(joblog), ANY, RESULT,
     "Write a line about each item that ended; what FILE had is replaced, but for --resume"},
    {"resume", 0, NULL, ITEMS, FLAG, AT(resume), ANY, RESULT,
     "Leave out the items that ended according to the joblog, and go on with it"},
    {"resume-failed", 0, NULL, ITEMS, FLAG, AT(resume_failed), ANY, RESULT,
     "The same, but those that failed run again"},
    {"halt", 0, "WHEN[,fail=N]", ITEMS, TEXT, AT(halt), ANY, RESULT,
     "Stop when N items failed (default 1): now cancels what runs, soon lets finish what was "
     "given out. Exit status 1"},

    {"chunk", 0, "ITEMS", ITEMS, COUNT, AT(job.chunk), 1, 1 << 20, NULL, HOW,
     "Items a task (default: chosen by the time they take)"},
    {"retries", 0, "N", JOB, COUNT, AT(job.retries), 0, 1000, NULL, HOW,
     "Further attempts for an item whose executor or worker was lost (default 2; 0 runs each item "
     "at most once)"},
    {"retry-errors", 0, NULL, JOB, FLAG, AT(job.retry_errors), ANY, HOW,
     "Retry items that raised, too"},
    {"item-timeout", 0, "SECONDS", JOB, TIME, AT(job.item_timeout_ms), ANY, HOW,
     "How long an item may run; then it is interrupted, and killed if it does not stop"},
    {"queue-timeout", 0, "SECONDS", JOB, TIME, AT(job.queue_timeout_ms), ANY, HOW,
     "How long a task may wait for a worker"},
    {"deadline", 0, "SECONDS", JOB, TIME, AT(job.deadline_ms), ANY, HOW,
     "Items that are unfinished after this time fail"},
    {"weight", 0, "1..1000", ITEMS, COUNT, AT(job.weight), 1, 1000, NULL, HOW,
     "Share of the fleet against other clients (default 1)"},
    {"seed", 0, "N", JOB, NUMERAL, AT(seed), 0, UINT64_MAX, NULL, HOW,
     "Give each item a random state of its own: the same results for the same seed, whatever "
     "runs it"},
    {"priority", 0, "0..7", ITEMS, COUNT, AT(job.priority), 0, 7, NULL, HOW,
     "Among this client's jobs; 7 goes first"},
    {"require", 0, "KEY=VALUE", JOB, TEXTS, AT(require), ANY, HOW,
     "Run on workers with this label only; may be repeated"},

    {"connect", 'c', "ENDPOINTS", CONNECTS, TEXT, AT(endpoints), ANY, BROKER,
     "Brokers to try in turn, commas between (default $PEACH_BROKER or tcp://127.0.0.1:5001; "
     "HOST:PORT, HOST and PORT are short for tcp://HOST:PORT)"},
    {"insecure", 0, NULL, CONNECTS, FLAG, AT(insecure), ANY, BROKER,
     "Connect to addresses that are not loopback although nothing is encrypted or authenticated"},
    {"patience", 0, "SECONDS", CONNECTS, TIME, AT(patience_ms), ANY, BROKER,
     "Go on so long while a broker that was there is away (default 30)"},
    {"timeout", 't', "SECONDS", CONNECTS | RUN, TIME, AT(timeout_ms), ANY, BROKER,
     "Give up after this time (exit status 3): a broker that is not there yet is waited for so "
     "long "
     "(default 3 s), and results (default for ever)"},
    {"json", 'j', NULL, JSON, FLAG, AT(json), ANY, BROKER, "Print JSON, for programs"},
};
/* clang-format on */
enum { OPTIONS = sizeof table / sizeof *table, KEYS = 256 };

/* The configuration may have these, for whatever command. */
static bool is_configurable(const option_t *o) { return o->group == BROKER; }

/* What argp and getopt know an option by: its letter, or its place in the table. */
static int key_of(const option_t *o) { return o->letter ? o->letter : KEYS + (int)(o - table); }

enum { ENTRIES = OPTIONS + GROUPS + 1 };

/* Those of the commands, or only what the configuration may have of them, as argp has them: with a
   title before each group. */
static void list_entries(struct argp_option entries[ENTRIES], unsigned commands, bool configurable)
{
    int group = OWN;
    for (const option_t *o = table; o < table + OPTIONS; o++) {
        if (!(o->commands & commands) || (configurable && !is_configurable(o))) continue;
        if (o->group != group)
            *entries++ = (struct argp_option){.doc = titles[o->group], .group = o->group + 1};
        group = o->group;
        *entries++ = (struct argp_option){o->name, key_of(o), o->value, 0, o->help, o->group + 1};
    }
    *entries = (struct argp_option){0};
}

bool options_find_commands(const char *name, char *text, size_t size)
{
    size_t count, used = 0, length = strcspn(name, "=");
    const command_t *const *commands = all_commands(&count);
    unsigned having = 0;
    for (const option_t *o = table; o < table + OPTIONS; o++)
        if (strncmp(o->name, name, length) == 0 && !o->name[length]) having |= o->commands;
    for (size_t i = 0; i < count && used < size; i++)
        if (commands[i]->bit & having)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
                                     commands[i]->name);
    return used > 0;
}

/* ---- values ---- */

static void store(options_t *options, const option_t *o, uint64_t number)
{
    char *place = (char *)options + o->offset;
    if (o->size == sizeof(uint64_t))
        *(uint64_t *)place = number;
    else if (o->size == sizeof(bool))
        *(bool *)place = number != 0;
    else
        *(unsigned *)place = (unsigned)number;
}

static uint64_t whole_number(struct argp_state *state, const option_t *o, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || *end || end == text || strchr(text, '-') || number < o->least || number > o->most)
        argp_error(state, "--%s: '%s' is not a whole number from %llu to %llu", o->name, text,
                   (unsigned long long)o->least, (unsigned long long)o->most);
    return number;
}

static uint64_t milliseconds(struct argp_state *state, const option_t *o, const char *text)
{
    char *end;
    double seconds = strtod(text, &end);
    if (*end || end == text || !(seconds >= 0.001 && seconds <= 1e6))
        argp_error(state, "--%s: '%s' is not a number of seconds from 0.001 to 1000000", o->name,
                   text);
    return (uint64_t)(seconds * 1000 + 0.5);
}

static bool is_among(const char *words, const char *text)
{
    for (size_t length; *words; words += length + (words[length] == ' ')) {
        length = strcspn(words, " ");
        if (strncmp(words, text, length) == 0 && !text[length]) return true;
    }
    return false;
}

static void take(options_t *options, struct argp_state *state, const option_t *o, char *text)
{
    void *place = (char *)options + o->offset;
    switch (o->kind) {
    case FLAG: store(options, o, true); break;
    case COUNT: store(options, o, whole_number(state, o, text)); break;
    case TIME: store(options, o, milliseconds(state, o, text)); break;
    case NUMERAL:
        whole_number(state, o, text);
        *(const char **)place = text;
        break;
    case WORD:
        if (!is_among(o->words, text))
            argp_error(state, "--%s: '%s' is none of: %s", o->name, text, o->words);
        *(const char **)place = text;
        break;
    case TEXT: *(const char **)place = text; break;
    case TEXTS: {
        texts_t *texts = place;
        if (texts->count == MAX_TEXTS) argp_error(state, "--%s: more than %d", o->name, MAX_TEXTS);
        texts->items[texts->count++] = text;
    }
    }
}

/* ---- parsing ---- */

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options_t *options = state->input;
    if (key == ARGP_KEY_ARGS) {
        options->arguments = state->argv + state->next;
        options->argument_count = (size_t)(state->argc - state->next);
        if (!options->command->arguments)
            argp_error(state, "'%s': no arguments, options only", options->arguments[0]);
        return 0;
    }
    for (const option_t *o = table; o < table + OPTIONS; o++) {
        if (!(o->commands & options->command->bit) || key_of(o) != key) continue;
        take(options, state, o, arg);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

int usage_error(const options_t *options, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "peach %s: ", options->command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, " (peach %s --help)\n", options->command->name);
    va_end(args);
    return EXIT_USAGE;
}

/* The option is unknown here: whose is it, or what was meant? */
static void refuse(const options_t *options, const struct argp_option *entries, const char *word)
{
    char text[512], commands[256];
    if (word[1] == '-' && options_find_commands(word + 2, commands, sizeof commands))
        snprintf(text, sizeof text, "'%.100s' is an option of %s, not of this command", word,
                 commands);
    else
        arguments_explain(entries, word, text, sizeof text);
    exit(usage_error(options, "%s", text));
}

/* argv with the options of the configuration that this command has. */
static char **configured(const command_t *command, int *argc, char **argv)
{
    struct argp_option configurable[ENTRIES], here[ENTRIES];
    char error[1024];
    int given = *argc;
    list_entries(configurable, ~0U, true);
    list_entries(here, command->bit, true);
    argv = config_arguments("client", configurable, argc, argv, error, sizeof error);
    if (!argv) {
        complain("%s", error);
        exit(EXIT_USAGE);
    }
    int kept = 1, from_file = *argc - given;
    for (int i = 1; i < *argc; i++) {
        if (i <= from_file && arguments_unknown(here, 2, argv + i - 1)) continue;
        argv[kept++] = argv[i];
    }
    *argc = kept;
    return argv;
}

/* The words that options refer to, as long as the program runs. */
static char **sorted;

void options_parse(options_t *options, const command_t *command, int argc, char **argv)
{
    struct argp_option entries[ENTRIES];
    static const struct argp_child help[] = {{&arguments_help, 0, NULL, 0}, {0}};
    const struct argp argp = {entries, parse, command->arguments, command->about, help, NULL, NULL};
    *options = (options_t){.command = command, .started_ms = clock_ms(), .job = peach_job_defaults};
    list_entries(entries, command->bit, false);
    argv = configured(command, &argc, argv);
    const char *unknown = arguments_unknown(entries, argc, argv);
    if (unknown) refuse(options, entries, unknown);
    sorted = arguments_sort(entries, &argc, argv);
    if (!sorted) {
        complain("%s", peach_status_text(PEACH_E_MEMORY));
        exit(EXIT_FAILED);
    }
    argp_parse(&argp, argc, sorted, ARGP_NO_HELP, NULL, options);
    options->job.require = options->require.items;
    options->job.require_count = options->require.count;
    if (options->seed) {
        options->job.seeded = true;
        options->job.seed = strtoull(options->seed, NULL, 10);
    }
}
