#!/usr/bin/python3
"""Breaks the programs on purpose, one place at a time, and expects a test to notice.

    tests/integration/mutants.py [NAME...]

As tests/sim/mutants.py, for what is around the core. Exit status 0: all were noticed.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# name: file, what stands there, what is put in its place, the test that must fail
BUGS = {
    "sessions never go on": (
        "broker/session.c", "if (ours && peer->role", "if (false && ours && peer->role",
        "test_faults.py -k broken_connection"),
    "nobody is held": ("broker/work.c", "if (client->outbox.bytes > limit)", "if (false)",
                       "test_fairness.py -k never_reads"),
    "freed memory is kept": ("broker/broker.c", "if (mallinfo2().fordblks > TRIM_BYTES)", "if (false)",
                             "test_strangers.py"),
    "a silent broker is not left (client)": (
        "client/lib/session.c", "if (self->clock.awake_ms - self->heard_ms > silence &&", "if (false &&",
        "test_faults.py -k half_open"),
    "a silent broker is not left (worker)": (
        "worker/link.c", "if (silent && !link->resolve)", "if (false)",
        "test_faults.py -k half_open"),
    "a loop is not told that more is there": (
        "client/lib/session.c", "self->socket && wire_has_message(self->socket) > 0", "false",
        "test_client.py"),
    "verdicts go to new sessions only": (
        "worker/link.c", "    verdicts_send(w, link); /*", "    if (!resumed) verdicts_send(w, link); /*",
        "test_at_most_once.py -k was_away"),
    "orders that wait for a lost broker go without a word": (
        "worker/stops.c", "        verdicts_add(w, order);\n        order_free", "        order_free",
        "test_at_most_once.py -k was_away"),
    "orders that wait for a lost broker are ended": (
        "worker/stops.c", "order->link->welcomed && w->now_ms", "w->now_ms",
        "test_at_most_once.py -k was_away"),
    "values on their way count as there": (
        "client/lib/put.c", "put->there = resumed && came;", "put->there = resumed;",
        "test_faults.py -k values_that_were_on_their_way"),
    "a name server is waited for": (
        "client/lib/connection.c", "if (self->resolve && late) connection_move_on(self);", "",
        "test_endpoints.py -k silent_name_server"),
    "deadlines are the broker's only": (
        "client/lib/feed.c", "if (job->deadline_ms && self->now_ms >= job->deadline_ms) expire(job);", "",
        "test_limits.py -k without_a_broker"),
    "interrupts do not reach Python": (
        "worker/python/bootstrap.py", "_signal.signal(_signal.SIGINT, interrupt)", "pass",
        "test_limits.py -k over_its_time"),
    "interrupts hit Python's start": (
        "worker/python/runtime.c", "    pthread_sigmask(SIG_BLOCK, &interrupt, &before);\n",
        "    pthread_sigmask(SIG_BLOCK, NULL, &before);\n", "test_interrupts.py -k python_starts"),
    "items may run for ever": (
        "worker/stops.c", "if (!limit_ms || order->cancelled) return;", "return;",
        "test_limits.py -k over_its_time"),
    "what does not stop is not killed": (
        "worker/stops.c", 'crew_kill(seat, "the executor did not stop: it was killed");', "",
        "test_limits.py -k does_not_stop"),
    "executors are not weighed": (
        "worker/crew.c", "        weigh(w, seat);\n", "",
        "test_limits.py -k over_its_memory"),
    "executors load what is in the file by now": (
        "worker/python/bootstrap.py", "return self.source if path == self.path else", "return",
        "test_reload.py -k edited"),
    "tracebacks show what is in the file by now": (
        "worker/python/bootstrap.py", "    remember_lines()\n", "    pass\n",
        "test_reload.py -k lines_that_ran"),
    "plugins are loaded from whatever is there": (
        "worker/shelf.c", "((!plugin || has_neighbours(source->source)) && same_file",
        "(same_file", "test_reload.py -k plugin"),
    "one executor's failure is the worker's": (
        "worker/loads.c", "if (item->state != PEACH__PRELOAD_STATE__PRELOAD_READY) return false;",
        "return false;", "test_reload.py -k takes_nothing"),
    "a late interrupt hits a preload": (
        "worker/python/runtime.c", "if (!loading && is_stopped())", "if (is_stopped())",
        "test_reload.py -k too_late"),
    "executors are not replaced": (
        "worker/orders.c", "return w->options.recycle && seat->sent_items", "return false && seat->sent_items",
        "test_limits.py -k replaced"),
    "lost chunks go on whole": (
        "broker/lease.c", "if (ran) part->piece = (left + PIECES - 1) / PIECES;", "",
        "test_faults.py -k among_its_mates"),
    "a worker leaves before its results are there": (
        "worker/worker.c", "if (!link_settled(&w->links[i])) return false;", "",
        "test_faults.py -k results_are_there"),
    "bad workers do not rest": (
        "broker/lease.c", "w->rest_ms = s->now_ms +", "w->rest_ms = 0 * s->now_ms + 0 *",
        "test_fairness.py -k fails_everything"),
    "a worker's Goodbye is a loss": (
        "broker/broker.c", "session_leave(b, peer);", 'session_end(b, peer, "left");',
        "test_faults.py -k goodbye"),
    "the file is not read": ("proto/config.c", "if (!file && errno == 0) return argv;", "return argv;",
                             "test_limits.py -k times_come_from"),
    "memory is used again while it is read": (
        "proto/block.c", "if (atomic_load(&self->head->users) != 0) return false;\n    randombytes_buf",
        "if (false) return false;\n    randombytes_buf", "test_bulk.py -k as_they_went"),
    "a result's memory is taken back before it was opened": (
        "worker/results.c", "if (x->sent_count == 0 || atomic_load(&x->shared->taken) < x->sent_flush)",
        "if (x->sent_count == 0)", "test_bulk.py -k supervisor_that_is_slow"),
    "a new broker is not given what was put": (
        "client/lib/session.c", "    puts_judge(self, resumed, welcome->received);\n", "",
        "test_bulk.py -k after_a_loss"),
    "what was put may be written to": (
        "proto/value.c", "if (alias) alias->array.frozen = true;", "",
        "test_bulk.py -k used_many_times"),
    "an executor that is new lacks what was put": (
        "worker/crew.c", "blobs_unseat(w, seat);", "", "test_bulk.py -k after_a_loss"),
    "idle executors keep memory": (
        "worker/executor.c", "            results_release(x);\n            block_pool_trim(x->pool);", "",
        "test_bulk.py -k not_used"),
    "copies do not say what they have": (
        "worker/loading.c", "if (x->template && !failure->status) remember(x, &envelope);", "",
        "test_start.py -k copies_run"),
    "what tasks leave behind stays a zombie": (
        "worker/crew.c", "    reap_strangers(w);\n", "", "test_start.py -k zombie"),
    "nobody takes the place of a task that waits": (
        "worker/crew.c", "while (w->seat_count < needed && w->seat_count < crew_most(w)) open_seat(w);",
        "", "../python/test_nested.py -k futures_inside"),
    "seats are not closed": (
        "worker/crew.c", "if (w->spare_ms && w->now_ms - w->spare_ms > SPARE_MS &&", "if (false &&",
        "../python/test_nested.py -k go_again"),
    "what a dead task submitted goes on": (
        "broker/work.c", "session_end_of(b, failure->host, failure->pid);", "",
        "../python/test_nested.py -k process_dies"),
    "tasks may print for ever": (
        "worker/prints.c", "} else if (p->bytes <= MOST_BYTES) {", "} else {",
        "../python/test_logs.py -k gigabytes"),
    "functions are thought to mean what they meant": (
        "client/python/peach/_functions.py", "if known is not None and known[1].holds(function):",
        "if known is not None:", "../python/test_client.py -k refer_to_now"),
    "warnings come from every slot": (
        "client/python/peach/_client.py", "if text in self._warned:", "if False:",
        "../python/test_logs.py -k standard_error"),
    "pickles are not refused": (
        "worker/python/runtime.c", 'getenv(NO_PUSH_VARIABLE) ? "refuse" : "loads"', '"loads"',
        "../python/test_errors.py -k no_code"),
    "code of another Python is loaded": (
        "worker/python/bootstrap.py", 'if needs["python"].split(".")[:2] != here', "if False and here",
        "../python/test_logs.py -k other_versions"),
    "a forked child serves": (
        "worker/running.c", "    executor_check_fork();\n    if (args != one)", "    if (args != one)",
        "test_executors.py -k forked_serves"),
    "a page is believed": (
        "worker/claims.c", "return seat->process.shared->token == seat->process.token &&\n",
        "return true || seat->process.shared->token == seat->process.token &&\n",
        "test_executors.py -k scribbled"),
    "a channel's marks are not looked at": (
        "worker/channel.c", "have < sizeof mark ? have : sizeof mark) != 0)",
        "have < sizeof mark ? have : sizeof mark) != 0 && false)",
        "test_executors.py -k writes_into"),
    "descriptors stay closed": (
        "worker/running.c", "        executor_check_descriptors(x);\n", "",
        "test_executors.py -k closes_descriptors"),
    "executors inherit ignored signals": (
        "worker/slot.c", "    signal(SIGCHLD, SIG_DFL);\n", "", "test_executors.py -k exit_status"),
    "who does not end is let be": (
        "worker/crew.c", 'crew_kill(seat, "the executor did not end within its grace time: it was killed");',
        "", "test_executors.py -k does_not_end"),
    "children of a stopped item stay": (
        "worker/running.c", "    group_end_since(x->now_ns);\n", "",
        "test_children.py -k 'over_its_time or cancelled'"),
    "an interrupted item returns what it likes": (
        "worker/running.c", "if (shared_stops(x->shared, number, index)) {", "if (false) {",
        "test_children.py -k over_its_time"),
    "children are not weighed": (
        "worker/memory.c", "(deep < MOST_DEEP ? sum_children(pid, kib, deep + 1) : 0)", "0 * deep",
        "test_children.py -k counts"),
    "what is shared is weighed": (
        "worker/memory.c", '"RssAnon:"', '"VmRSS:"', "test_memory.py -k nobodys"),
    "folders that were left stay": (
        "worker/store.c", "    sweep();\n", "", "test_store.py -k killed"),
    "what was pushed again is known": (
        "worker/shelf.c", "    item->now.pushed_us = pushed_us;\n", "", "test_versions.py -k last_of_two"),
    "a plugin's new version goes to the old process": (
        "worker/loads.c", "if (seat_set_has(&item->stuck, i) || ask(w, seat, item) != 0)",
        "if (ask(w, seat, item) != 0)", "test_versions.py -k edited"),
    "a version that failed everywhere stays": (
        "broker/library.c", "if (failed && !hope) go_back(b, preload);", "", "test_versions.py -k fails_everywhere"),
    "sources are not asked for": (
        "worker/link.c", "case PEACH__ENVELOPE__BODY_SOURCE_REQUEST:",
        "case PEACH__ENVELOPE__BODY_SOURCE_REQUEST: break; case 99:", "test_versions.py -k outlives"),
    "a worker wants all the slots that it was asked for": (
        "worker/worker.c", "if (rc && (!lacks || i <= crew_first(w))) return rc;", "if (rc) return rc;",
        "test_descriptors.py -k fewer"),
    "connections may take the last descriptor": (
        "broker/listener.c", "if ((int)value >= first_spare()) refuse(b, (int)value);", "",
        "test_descriptors.py -k says_so"),
    "soft limits stay": (
        "proto/descriptors.c", "    setrlimit(RLIMIT_NOFILE, &most);\n", "", "test_descriptors.py -k soft"),
    "readers keep descriptors": (
        "proto/block.c", "    forget_name(self);\n    self->settled", "    self->settled",
        "test_descriptors.py -k kept"),
    "a template is waited for": (
        "worker/crew.c", "    if (stalls)\n        crew_kill(template", "    if (false)\n        crew_kill(template", "test_templates.py -k replaced"),
    "bytes of a task are marks": (
        "worker/prints.c", "return memmem(line, length, mark, PRINT_MARK_BYTES);",
        "return memmem(line, length, mark, 1);", "test_printing.py -k any_bytes"),
    "names are not looked up": (
        "worker/link.c", "state == RESOLVE_IPV6)", "false)", "test_endpoints.py -k ipv6"),
    "clients go anywhere": (
        "client/lib/session.c", "options->insecure, text", "true, text",
        "test_endpoints.py -k 'word or sent'"),
    "each item of a missing function is tried": (
        "client/lib/job.c", "    job_fail_rest(job, failure);\n", "", "test_missing.py -k however"),
    "tasks in doubt run again": (
        "client/lib/doubt.c", "    if (!fail_begun(task, said)) return; /* it stays in doubt */\n", "",
        "test_at_most_once.py"),
    "values that were dropped go round": (
        "broker/blob.c", "job->refs[i]->blob = 0; /* it was dropped", "; /* it was dropped",
        "test_client.py"),
    # ---- what a reader and a hostile user found ----
    "neighbours stay what was imported first": (
        "worker/python/bootstrap.py", "    enter_folder(folder)\n",
        "    if folder not in sys.path:\n        sys.path.insert(0, folder)\n",
        "test_versions.py -k neighbour"),
    "neighbours are not compared": (
        "worker/shelf.c", "    if (!item->files) return false;\n", "    return false;\n",
        "test_versions.py -k neighbour"),
    "who waits for a worker that is gone waits on": (
        "broker/session.c", "    if (loads) library_judge(b);\n", "    (void)loads;\n",
        "test_versions.py -k holds_nobody"),
    "who waits for a worker that drains waits on": (
        "broker/broker.c", "    library_judge(b);\n    if (drain->broker)", "    if (drain->broker)",
        "test_versions.py -k holds_nobody"),
    "a job without tasks cannot be cancelled": (
        "broker/work.c", "    if (jobs_is_cancelled(&client->jobs, job->id)) return PEACH_E_CANCELLED;\n",
        "", "test_views.py -k input_can"),
    "nothing is sent while there is no slot": (
        "client/lib/feed.c", "return job->session->slots ? job->session->slots : 1;",
        "return job->session->slots;", "test_at_most_once.py -k no_worker_takes"),
    "what was reported when it was abandoned is not read": (
        "worker/orders.c", "    crew_receive(w, seat);\n    if (list_empty", "    if (list_empty",
        "test_at_most_once.py -k told_to_stop"),
    "sources are one function to the joblog": (
        "client/cli/joblog.c", "    if (source)\n        snprintf", "    if (false)\n        snprintf",
        "test_joblog.py -k source"),
    "errors of before are dropped": (
        "client/cli/work.c", 'o->resume || o->resume_failed ? "ae" : "we"', '"we"',
        "test_joblog.py -k errors"),
    "what is read is written over": (
        "client/cli/work.c", "if (known[i] && items_read_file(", "if (false && items_read_file(",
        "test_joblog.py -k written_over"),
    "the second fork is not looked at": (
        "client/lib/fleet.c", "        if (worker < 0) tell_and_exit(told[1]);\n", "",
        "test_views.py -k cannot_start"),
    "imports are interrupted": (
        "worker/python/bootstrap.py", "    while frame:\n", "    while False:\n",
        "test_limits.py -k half_done"),
    "input is waited for": (
        "client/cli/input.c", "    if (poll(&item, 1, 0) == 0) return PEACH_E_TIMEOUT;\n", "",
        "test_shell.py -k shown"),
}


def main():
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for path in subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, text=True,
                                   capture_output=True).stdout.splitlines():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path)
        build = folder / "build"
        subprocess.run(["cmake", "-G", "Ninja", "-S", folder, "-B", build,
                        "-DCMAKE_BUILD_TYPE=RelWithDebInfo"], check=True, stdout=subprocess.DEVNULL)
        for name, (path, right, wrong, test) in BUGS.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            file = folder / path
            text = file.read_text()
            assert text.count(right) == 1, f"{path} has changed: {name}"
            file.write_text(text.replace(right, wrong))
            subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            done = subprocess.run(
                f"timeout 150 /usr/bin/python3 -m pytest -q -x -p no:cacheprovider {folder}/tests/integration/{test}",
                shell=True, env={**os.environ, "PEACH_BIN": str(build / "bin")}, text=True,
                capture_output=True)
            file.write_text(text)
            missed += done.returncode == 0
            why = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            print(f"{'MISSED' if done.returncode == 0 else 'noticed'}: {name}: {' '.join(why)[:150]}",
                  flush=True)
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
