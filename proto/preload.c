/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "preload.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int wrong(char *error, size_t size, int status, const char *spec, const char *why)
{
    snprintf(error, size, "preload '%s': %s", spec, why);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static int read_file(preload_source_t *self, const char *spec, char *error, size_t error_size)
{
    FILE *file = fopen(spec, "rb");
    if (!file) return wrong(error, error_size, PEACH_E_SYSTEM, spec, strerror(errno));
    struct stat stat;
    int rc = 0;
    char *bytes = NULL;
    if (fstat(fileno(file), &stat) != 0 || !S_ISREG(stat.st_mode))
        rc = wrong(error, error_size, PEACH_E_SYSTEM, spec, "not a regular file");
    else if ((uint64_t)stat.st_size > WIRE_DEFAULT_MAX_PAYLOAD)
        rc = wrong(error, error_size, PEACH_E_SYSTEM, spec, "larger than 256 MiB");
    else if (!(bytes = malloc((size_t)stat.st_size + 1)))
        rc = wrong(error, error_size, PEACH_E_MEMORY, spec, "out of memory");
    size_t size = bytes ? fread(bytes, 1, (size_t)stat.st_size, file) : 0;
    if (rc == 0 && ferror(file)) rc = wrong(error, error_size, PEACH_E_SYSTEM, spec, "read error");
    fclose(file);
    if (rc) {
        free(bytes);
        return rc;
    }
    crypto_hash_sha256(self->digest, (const uint8_t *)bytes, size);
    self->source = payload_new_taking(bytes, size);
    self->path = realpath(spec, NULL);
    if (self->source && self->path) return 0;
    return wrong(error, error_size, PEACH_E_MEMORY, spec, "out of memory");
}

int preload_read(preload_source_t *self, const char *spec, char *error, size_t error_size)
{
    *self = (preload_source_t){0};
    const char *slash = strrchr(spec, '/'), *name = slash ? slash + 1 : spec;
    if (strlen(name) > WIRE_MAX_NAME)
        return wrong(error, error_size, PEACH_E_ARGUMENT, spec, "the name is too long");
    strcpy(self->name, name);
    int rc;
    if (ends_with(name, ".py") || ends_with(name, ".so")) {
        self->kind = ends_with(name, ".py") ? PEACH__PRELOAD_KIND__PRELOAD_PYTHON_FILE
                                            : PEACH__PRELOAD_KIND__PRELOAD_PLUGIN;
        rc = read_file(self, spec, error, error_size);
    } else if (strchr(spec, ':') && *spec != ':' && spec[strlen(spec) - 1] != ':' && !slash) {
        self->kind = PEACH__PRELOAD_KIND__PRELOAD_MODULE;
        crypto_hash_sha256(self->digest, (const uint8_t *)spec, strlen(spec));
        self->source = payload_new(NULL, 0);
        self->path = strdup("");
        rc = self->source && self->path
                 ? 0
                 : wrong(error, error_size, PEACH_E_MEMORY, spec, "out of memory");
    } else {
        rc = wrong(error, error_size, PEACH_E_ARGUMENT, spec,
                   "a preload is a Python file (multip.py), module:NAME, or a plugin (mathx.so)");
    }
    if (rc) preload_clear(self);
    return rc;
}

void preload_clear(preload_source_t *self)
{
    free(self->path);
    payload_unref(&self->source);
    *self = (preload_source_t){0};
}

static void add_file(crypto_hash_sha256_state *state, const char *path)
{
    unsigned char bytes[16384];
    size_t n;
    FILE *file = fopen(path, "rbe");
    crypto_hash_sha256_update(state, (const unsigned char *)path, strlen(path) + 1);
    while (file && (n = fread(bytes, 1, sizeof bytes, file)) > 0)
        crypto_hash_sha256_update(state, bytes, n);
    if (file) fclose(file);
}

void preload_digest_files(const char *files, uint8_t digest[WIRE_DIGEST_BYTES])
{
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    while (*files) {
        char path[PATH_MAX];
        size_t length = strcspn(files, "\n");
        snprintf(path, sizeof path, "%.*s", (int)length, files);
        add_file(&state, path);
        files += length + (files[length] == '\n');
    }
    crypto_hash_sha256_final(&state, digest);
}

int preload_item(const preload_source_t *self, wire_frames_t *frames, Peach__Payload *field,
                 Peach__PreloadItem *item)
{
    peach__preload_item__init(item);
    item->kind = self->kind;
    item->name = (char *)self->name;
    item->digest = (ProtobufCBinaryData){sizeof self->digest, (uint8_t *)self->digest};
    item->path = self->path;
    item->source = field;
    return field ? wire_attach(frames, self->source, field) : 0;
}
