/* SPDX-License-Identifier: MIT
 *
 * A plugin that watches its host: it records what the host does, asks the host's callbacks, and
 * fails on purpose where the rules of ABI.md say what a host does then. Run the VMM with it as
 * `host_stub conformance-host --runs` lists, then let `host_stub conformance-host RECORD` judge.
 *
 * OPTIONS
 *   record=FILE    JSON lines, behind what FILE holds already; without it nothing is recorded
 *   run=NAME       what to do, one of `runs` in instance.c; default watch
 *   msr=ADDRESS    the register to mark; default 0xc0000083 (CSTAR)
 *   msr2=ADDRESS   a second one; default 0xc0000084 (SFMASK)
 * Marks tell whether a batch, a restore or neither wrote a register last. They need two registers
 * that take any 32-bit value, and that neither the VMM's own reset nor the guest writes.
 *
 * RECORD
 *   One JSON object a line, each with `id` (the instance) and `event`:
 *   create, created   create with the host's table, and its result
 *   stale             a hook of the table as it was after register_hooks
 *   enter, leave      a hook with its arguments, and its result; `call` pairs them, `vm` is this
 *                     plugin's number of the VM: 0 = vm_ctx was NULL, -1 = it was not ours
 *   ask, answer       a question to a callback that may not come back, and any callback's answer
 *   read, mark        the registers as found in vcpu_reset number `reset`, and what was put there
 *   destroy, late     destroy; a hook or destroy that was called behind destroy or a failed create
 *   full              lines were lost
 *   Numbers are signed; pointers are strings, only to be compared; sizes are bytes.
 *
 * It is a plugin by the page's rules, except where `run` says otherwise: `register` registers more
 * than once, `never-register` not at all, `threads` starts a thread in create, `positive-*` return
 * what may not be returned. In vcpu_reset it only touches memory and calls the host. */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include "marks.h"
#include "questions.h"

/* ---- texts --------------------------------------------------------------------------------- */

/* Says why, in the buffer that the host lent; where `whole`, to its last byte. */
static int32_t fail(struct vmm_error* error, int32_t code, const char* text, int whole) {
  size_t length = strlen(text);
  if (!error || !error->message || error->capacity == 0) return code;
  if (length >= error->capacity) {
    length = error->capacity - 1u;
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) length--; /* a character */
  }
  memcpy(error->message, text, length);
  memset(error->message + length, 0, whole ? error->capacity - length : 1);
  return code;
}

static void record_error(struct line* line, const struct vmm_error* error) {
  line_bool(line, "error", error != NULL);
  if (!error) return;
  line_number(line, "error_size", error->struct_size);
  line_number(line, "error_capacity", error->capacity);
  line_bool(line, "error_empty", error->message && error->message[0] == 0);
}

/* ---- the hooks ----------------------------------------------------------------------------- */

static int32_t vm_created(void* ctx, const struct vmm_vm* shape, void** vm_ctx,
                          struct vmm_error* error) {
  struct instance* me = ctx;
  struct line line;
  const int64_t call = enter(&line, me, "vm_created", 0);
  if (call < 0) return -ESHUTDOWN;
  struct vm* vm = take_vm(me);
  if (vm) {
    free(vm->vcpu); /* of a VM that had it before */
    vm->vcpus = shape->max_vcpus < 65536 ? shape->max_vcpus : 65536;
    vm->vcpu = calloc(vm->vcpus ? vm->vcpus : 1, sizeof *vm->vcpu);
    vm->handle = shape->handle;
  }
  line_number(&line, "made", vm_number(me, vm));
  line_number(&line, "size", shape->struct_size);
  line_number(&line, "max_vcpus", shape->max_vcpus);
  line_address(&line, "handle", shape->handle);
  line_bool(&line, "vm_ctx_null", *vm_ctx == NULL);
  record_error(&line, error);
  line_end(&line);
  if (!vm || !vm->vcpu) {
    if (vm) leave_vm(vm);
    return leave(me, "vm_created", call, fail(error, -ENOMEM, "no room for one more VM", 0));
  }
  if (me->run->does & ASK) ask_in_vm_created(me, call, shape->handle);
  if (me->run->does & THREADS) ask_vm_both(me, call, shape->handle);
  const int32_t result = me->run->vm_created;
  if (result == 0) {
    *vm_ctx = vm;
  } else {
    leave_vm(vm);
    fail(error, result, "host_conformance was told to refuse this VM", 1);
  }
  return leave(me, "vm_created", call, result);
}

static void vm_destroyed(void* ctx, void* vm_ctx) {
  struct instance* me = ctx;
  struct vm* vm = vm_of(me, vm_ctx);
  struct line line;
  const int64_t call = enter(&line, me, "vm_destroyed", vm_number(me, vm_ctx));
  if (call < 0) return;
  line_end(&line);
  leave(me, "vm_destroyed", call, 0);
  if (vm) leave_vm(vm);
}

static int32_t msr_list_build(void* ctx, void* vm_ctx, const struct vmm_vm* shape,
                              const struct vmm_msr_sink* sink, struct vmm_error* error) {
  struct instance* me = ctx;
  struct line line;
  const int64_t call = enter(&line, me, "msr_list_build", vm_number(me, vm_ctx));
  if (call < 0) return -ESHUTDOWN;
  line_number(&line, "size", shape->struct_size);
  line_number(&line, "max_vcpus", shape->max_vcpus);
  line_address(&line, "handle", shape->handle);
  line_number(&line, "sink_size", sink->struct_size);
  line_number(&line, "sink_reserved", sink->reserved);
  record_error(&line, error);
  line_end(&line);
  if (me->run->does & ASK) ask_in_list(me, call, shape->handle, sink);
  if (me->run->does & MARK_LIST) fill_list(me, call, sink);
  if (me->run->list != 0)
    fail(error, me->run->list, "host_conformance was told to refuse its list", 1);
  return leave(me, "msr_list_build", call, me->run->list);
}

static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  struct instance* me = ctx;
  struct line line;
  const int64_t call = enter(&line, me, "vcpu_reset", vm_number(me, vm_ctx));
  if (call < 0) return -ESHUTDOWN;
  const struct vm* vm = vm_of(me, vm_ctx);
  struct vcpu* mine = vcpu_of(vm, vcpu->index);
  int32_t result = 0;
  line_number(&line, "size", vcpu->struct_size);
  line_number(&line, "index", vcpu->index);
  line_number(&line, "flags", vcpu->flags);
  line_number(&line, "reserved", vcpu->reserved);
  line_address(&line, "handle", vcpu->handle);
  line_bool(&line, "batch", vcpu->batch != NULL);
  if (vcpu->batch) {
    line_number(&line, "sink_size", vcpu->batch->struct_size);
    line_number(&line, "sink_reserved", vcpu->batch->reserved);
  }
  line_end(&line);
  if (me->run->does & SLOW) take_time();
  if (me->run->does & ASK) ask_in_reset(me, call, vm, vcpu);
  if (me->run->does & THREADS) ask_vcpu_both(me, call, vcpu->handle);
  if (mine) {
    const uint32_t reset = __atomic_fetch_add(&mine->resets, 1, __ATOMIC_RELAXED);
    if (me->run->does & (MARK_BATCH | MARK_LIST)) record_read(me, call, vcpu, reset);
    if (me->run->does & MARK_LIST) mark_direct(me, call, vcpu, reset);
    if (me->run->does & MARK_BATCH) result = mark_batch(me, call, vcpu, reset);
  }
  return leave(me, "vcpu_reset", call, result);
}

/* What a host that did not copy the table would call. */
static void stale(struct instance* me, const char* hook) {
  struct line line;
  if (!is_live(me)) return;
  line_begin(&line, &me->record, "stale");
  line_string(&line, "hook", hook);
  line_end(&line);
}
static int32_t stale_vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                                struct vmm_error* error) {
  (void)vm, (void)vm_ctx, (void)error;
  stale(ctx, "vm_created");
  return 0;
}
static void stale_vm_destroyed(void* ctx, void* vm_ctx) {
  (void)vm_ctx;
  stale(ctx, "vm_destroyed");
}
static int32_t stale_msr_list_build(void* ctx, void* vm_ctx, const struct vmm_vm* vm,
                                    const struct vmm_msr_sink* sink, struct vmm_error* error) {
  (void)vm_ctx, (void)vm, (void)sink, (void)error;
  stale(ctx, "msr_list_build");
  return 0;
}
static int32_t stale_vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  (void)vm_ctx, (void)vcpu;
  stale(ctx, "vcpu_reset");
  return 0;
}

/* ---- create and destroy -------------------------------------------------------------------- */

struct option {
  const char* key;
  char* value; /* as it is where the option is not set */
  size_t size;
  int seen;
};

/* Puts the options' values, commas no longer doubled, where they belong. 0, or -EINVAL and in
 * `wrong` what is wrong with the string. */
static int32_t parse_options(const char* text, struct option* options, size_t count, char* wrong,
                             size_t wrong_size) {
  while (text && *text) {
    const int key = (int)strcspn(text, "=,");
    const char* const begin = text;
    struct option* option = NULL;
    size_t length = 0;
    int comma = 0;
    for (size_t i = 0; i < count; i++)
      if (strlen(options[i].key) == (size_t)key && strncmp(options[i].key, text, (size_t)key) == 0)
        option = &options[i];
    if (!option || text[key] != '=' || option->seen)
      return snprintf(wrong, wrong_size,
                      "%.*s: %s; there are record=FILE, run=NAME, msr=ADDRESS and msr2=ADDRESS",
                      key < 64 ? key : 64, begin,
                      !option            ? "no such option"
                      : text[key] != '=' ? "has no value"
                                         : "comes twice"),
             -EINVAL;
    option->seen = 1;
    for (text += key + 1; *text; text++) {
      if (*text == ',' && *++text != ',') {
        comma = 1;
        break;
      }
      if (length + 1 == option->size)
        return snprintf(wrong, wrong_size, "%s: its value has %zu bytes or more", option->key,
                        option->size),
               -EINVAL;
      option->value[length++] = *text;
    }
    option->value[length] = 0;
    if (length == 0 || (comma && !*text))
      return snprintf(wrong, wrong_size, "%s: %s", option->key,
                      length == 0 ? "its value is empty" : "there is nothing behind its comma"),
             -EINVAL;
  }
  return 0;
}

static int parse_address(const char* text, uint32_t* address) {
  char* end = NULL;
  if (text[0] < '0' || text[0] > '9') return 0;
  errno = 0;
  const unsigned long value = strtoul(text, &end, 0);
  if (errno != 0 || *end || value > UINT32_MAX) return 0;
  *address = (uint32_t)value;
  return 1;
}

/* 0, or -errno with a text. */
static int32_t configure(struct instance* me, const char* options, struct vmm_error* error) {
  char record[RECORD_PATH] = "", run[32] = "watch", msr[32] = "0xc0000083", msr2[32] = "0xc0000084";
  struct option known[] = {{"record", record, sizeof record, 0},
                           {"run", run, sizeof run, 0},
                           {"msr", msr, sizeof msr, 0},
                           {"msr2", msr2, sizeof msr2, 0}};
  char text[RECORD_PATH + 512], names[512];
  if (options && strlen(options) >= OPTIONS_SIZE)
    return fail(error, -EINVAL, "the options have 4096 bytes or more", 0);
  if (parse_options(options, known, sizeof known / sizeof known[0], text, sizeof text) != 0)
    return fail(error, -EINVAL, text, 0);
  me->run = find_run(run);
  if (!me->run) {
    list_runs(names, sizeof names);
    snprintf(text, sizeof text, "run=%s: there is%s", run, names);
    return fail(error, -EINVAL, text, 0);
  }
  if (!parse_address(msr, &me->msr) || !parse_address(msr2, &me->msr2) || me->msr == me->msr2) {
    snprintf(text, sizeof text,
             "msr=%s, msr2=%s: allowed are two different addresses, 0 to 0xffffffff", msr, msr2);
    return fail(error, -EINVAL, text, 0);
  }
  if (record[0] == 0) return 0;
  const int32_t result = record_open(&me->record, record);
  if (result == 0) return 0;
  snprintf(text, sizeof text, "record=%s: cannot be written: %s", record, strerror(-result));
  return fail(error, result, text, 0);
}

/* The end of what every host's table has. */
static const size_t least_host = offsetof(struct vmm_host, log) + sizeof(void (*)(void));

static int table_is_usable(const struct vmm_host* host) {
  return host->struct_size >= least_host && host->abi_major == VMM_PLUGIN_ABI_MAJOR && host->name &&
         host->register_hooks && host->vm_ioctl && host->vcpu_ioctl && host->log;
}

static const void* program_headers(void) { return (const void*)getauxval(AT_PHDR); }

/* What can be seen of the process: is this library in the global scope, has the program the host's
 * marker, are the host's callbacks the program's own? */
static void record_process(struct line* line, const struct vmm_host* host) {
  void* program = dlopen(NULL, RTLD_NOW);
  void* callback = NULL;
  Dl_info where;
  memcpy(&callback, &host->register_hooks, sizeof callback);
  const int found = callback && dladdr(callback, &where) != 0;
  const uintptr_t headers = (uintptr_t)program_headers();
  line_bool(line, "global",
            program && dlsym(program, VMM_PLUGIN_ENTRY_NAME) == (void*)(uintptr_t)vmm_plugin_v1);
  line_bool(line, "marker", program && dlsym(program, VMM_PLUGIN_HOST_MARKER_NAME) != NULL);
  line_bool(line, "host_is_program", found && headers - (uintptr_t)where.dli_fbase < 4096);
  line_string(line, "host_file", found ? where.dli_fname : NULL);
  if (program) dlclose(program);
}

static void record_create(struct instance* me, const struct vmm_error* error) {
  const struct vmm_host* host = &me->table;
  const struct {
    const char* key;
    int there;
  } callbacks[] = {{"register_hooks", host->register_hooks != NULL},
                   {"vm_ioctl", host->vm_ioctl != NULL},
                   {"vcpu_ioctl", host->vcpu_ioctl != NULL},
                   {"log", host->log != NULL},
                   {"get_cpuid", host->get_cpuid != NULL},
                   {"deny_msrs", host->deny_msrs != NULL},
                   {"get_extension", host->get_extension != NULL},
                   {"hide_cpuid", host->hide_cpuid != NULL},
                   {"get_supported_cpuid", host->get_supported_cpuid != NULL}};
  struct line line;
  line_begin(&line, &me->record, "create");
  line_string(&line, "run", me->run->name);
  line_bool(&line, "has_vm_created", (me->run->hooks & HAS_CREATED) != 0);
  line_number(&line, "size", host->struct_size);
  line_number(&line, "abi_major", host->abi_major);
  line_number(&line, "abi_minor", host->abi_minor);
  line_number(&line, "reserved", host->reserved);
  line_string(&line, "name", host->name);
  for (size_t i = 0; i < sizeof callbacks / sizeof callbacks[0]; i++)
    line_bool(&line, callbacks[i].key, callbacks[i].there);
  record_error(&line, error);
  record_process(&line, host);
  line_end(&line);
}

static void record_created(struct instance* me, int32_t result) {
  struct line line;
  line_begin(&line, &me->record, "created");
  line_number(&line, "result", result);
  line_end(&line);
}

static int32_t register_hooks(struct instance* me) {
  struct vmm_hooks* const table = &me->hooks.hooks;
  struct vmm_hooks small;
  const unsigned has = me->run->hooks;
  int32_t (*const add)(void*, const struct vmm_hooks*, void*) = me->table.register_hooks;
  void* const host_ctx = me->table.host_ctx;
  table->struct_size = (uint32_t)(me->run->does & ASK_REGISTER ? sizeof me->hooks : sizeof *table);
  if (has & HAS_CREATED) table->vm_created = vm_created;
  if (has & HAS_DESTROYED) table->vm_destroyed = vm_destroyed;
  if (has & HAS_LIST) table->msr_list_build = msr_list_build;
  if (has & HAS_RESET) table->vcpu_reset = vcpu_reset;
  if (me->run->does & ASK_REGISTER) {
    small = *table;
    small.struct_size = (uint32_t)offsetof(struct vmm_hooks, vcpu_reset);
    answer(me, 0, "register_null", add(host_ctx, NULL, me));
    answer(me, 0, "register_small", add(host_ctx, &small, me));
  }
  const int32_t result = add(host_ctx, table, me);
  answer(me, 0, me->run->does & ASK_REGISTER ? "register_larger" : "register", result);
  if (me->run->does & ASK_REGISTER && result == 0)
    answer(me, 0, "register_again", add(host_ctx, table, me));
  /* the host has copied the table, so that nobody sees what it holds from now on */
  table->vm_created = stale_vm_created;
  table->vm_destroyed = stale_vm_destroyed;
  table->msr_list_build = stale_msr_list_build;
  table->vcpu_reset = stale_vcpu_reset;
  return result > 0 ? -EPROTO : result;
}

static int32_t start(struct instance* me, const struct vmm_host* host, const char* options,
                     struct vmm_error* error) {
  /* of a table that is too small only the sizes and versions, and of no pointer a part */
  const size_t known =
      host->struct_size < least_host ? offsetof(struct vmm_host, host_ctx) : sizeof me->table;
  const size_t size = host->struct_size < known ? host->struct_size : known;
  me->table_size = size - size % (size > least_host ? sizeof(void*) : 1);
  memcpy(&me->table, host, me->table_size);
  me->host = host;
  me->options = options;
  const int32_t configured = configure(me, options, error);
  if (configured != 0) return configured;
  if (options) memcpy(me->options_copy, options, strlen(options) + 1);
  if (me->table.name) snprintf(me->name_copy, sizeof me->name_copy, "%s", me->table.name);
  for (uint32_t i = 0; i < LONG_BATCH; i++) {
    me->many[i].index = me->msr;
    me->many[i].value = 0x50000000 + i;
  }
  record_create(me, error);
  if (!table_is_usable(&me->table))
    return fail(error, -EINVAL, "the host's table is too small, of another major or incomplete", 0);
  if (me->run->does & ASK) ask_in_create(me);
  if (me->run->does & NEVER_REGISTER) return 0;
  const int32_t registered = register_hooks(me);
  if (registered != 0) return fail(error, registered, "the host refused the hooks", 0);
  if (me->run->does & THREADS) start_worker(me);
  if (me->run->create != 0) fail(error, me->run->create, "host_conformance was told to fail", 1);
  return me->run->create;
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  struct instance* me = take_instance();
  if (!me) return fail(error, -EAGAIN, "16 instances are there already", 0);
  const int32_t result = start(me, host, options, error);
  record_created(me, result);
  if (result == 0) {
    *ctx = me;
  } else {
    end_instance(me); /* what is called in spite of it finds that out, and records it */
  }
  return result;
}

static void destroy(void* ctx) {
  struct instance* me = ctx;
  struct line line;
  if (!is_live(me)) {
    line_begin(&line, &me->record, "late");
    line_string(&line, "hook", "destroy");
    line_end_late(&line);
    return;
  }
  line_begin(&line, &me->record, "destroy");
  record_kept(&line, me);
  line_end(&line);
  end_worker(me);
  end_instance(me);
}

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {
      .struct_size = sizeof plugin,
      .abi_major = VMM_PLUGIN_ABI_MAJOR,
      .abi_minor = VMM_PLUGIN_ABI_MINOR,
      .name = "host_conformance",
      .version = SVM_PMU_VERSION,
      .description = "records what a host does, asks its callbacks and fails on purpose",
      .options_help =
          "record=FILE: append JSON lines to this file\n"
          "run=NAME: what to do; 'host_stub conformance-host --runs' lists them\n"
          "msr=ADDRESS, msr2=ADDRESS: the registers to mark\n",
      .create = create,
      .destroy = destroy};
  return &plugin;
}
