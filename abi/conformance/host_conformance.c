/* SPDX-License-Identifier: MIT
 *
 * A plugin that watches its host: it records what the host does, asks the host's callbacks, and
 * fails on purpose where the rules of ABI.md say what a host does then. Run the VMM with it as
 * `host_stub conformance-host --runs` lists, then let `host_stub conformance-host RECORD` judge.
 *
 * OPTIONS
 *   record=FILE    JSON lines, behind what FILE holds already; without it nothing is recorded
 *   run=NAME       what to do, one of `runs` below; default watch
 *   msr=ADDRESS    the register to mark; default 0xc0000083 (CSTAR)
 *   msr2=ADDRESS   a second one; default 0xc0000084 (SFMASK)
 * Marks tell whether a batch, a restore or neither wrote a register last. They need two registers
 * that take any 32-bit value, and that neither the VMM's own reset nor the guest writes.
 *
 * RECORD
 *   One JSON object a line, each with `id` (the instance) and `event`:
 *   create, created   create with the host's table, and its result
 *   stale             a hook of the table as it was after register_hooks
  enter, leave      a hook with its arguments, and its result; `call` pairs them, `vm` is this
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
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include "record.h"

/* ---- runs ---------------------------------------------------------------------------------- */

enum {
  HAS_CREATED = 1 << 0,
  HAS_DESTROYED = 1 << 1,
  HAS_LIST = 1 << 2,
  HAS_RESET = 1 << 3,
  HAS_ALL = HAS_CREATED | HAS_DESTROYED | HAS_LIST | HAS_RESET
};

enum {
  ASK = 1 << 0,
  ASK_REGISTER = 1 << 1,
  THREADS = 1 << 2,
  SLOW = 1 << 3,
  MARK_BATCH = 1 << 4,
  MARK_LIST = 1 << 5,
  FAIL_RESETS = 1 << 6,
  NEVER_REGISTER = 1 << 7
};

struct run {
  const char* name;
  unsigned hooks; /* HAS_* */
  unsigned does;
  int32_t create, vm_created, list; /* results */
};
static const struct run runs[] = {
    {"watch", HAS_ALL, 0, 0, 0, 0},
    {"ask", HAS_ALL, ASK, 0, 0, 0},
    {"register", HAS_ALL, ASK_REGISTER, 0, 0, 0},
    {"threads", HAS_ALL, THREADS, 0, 0, 0},
    {"slow", HAS_ALL, SLOW, 0, 0, 0},
    {"batch", HAS_ALL & ~HAS_LIST, MARK_BATCH, 0, 0, 0},
    {"list", HAS_ALL, MARK_LIST, 0, 0, 0},
    {"only-reset", HAS_RESET, 0, 0, 0, 0},
    {"no-vm-created", HAS_ALL & ~HAS_CREATED, 0, 0, 0, 0},
    {"fail-create", HAS_ALL, 0, -EPERM, 0, 0},
    {"positive-create", HAS_ALL, 0, 1, 0, 0},
    {"never-register", HAS_ALL, NEVER_REGISTER, 0, 0, 0},
    {"fail-vm-created", HAS_ALL, 0, 0, -EPERM, 0},
    {"positive-vm-created", HAS_ALL, 0, 0, 1, 0},
    {"fail-list", HAS_ALL, MARK_LIST, 0, 0, -EPERM},
    {"fail-reset", HAS_ALL & ~HAS_LIST, MARK_BATCH | FAIL_RESETS, 0, 0, 0},
};
enum { RUNS = sizeof runs / sizeof runs[0] };

static const struct run* find_run(const char* name) {
  for (size_t i = 0; i < RUNS; i++)
    if (strcmp(runs[i].name, name) == 0) return &runs[i];
  return NULL;
}

/* ---- state --------------------------------------------------------------------------------- */

enum { MOST_INSTANCES = 16, MOST_VMS = 256, LONG_BATCH = 300, OPTIONS_SIZE = 4096 };

struct vcpu {
  uint32_t resets;
};

struct vm {
  int used;
  vmm_vm_handle handle;
  uint32_t vcpus; /* entries of vcpu */
  struct vcpu* vcpu;
};

enum worker_state { IDLE, CLAIMED, GIVEN, DONE, ENDED };
struct instance;
struct worker {
  int started, state;
  pthread_t thread;
  int32_t (*job)(struct instance* me, void* handle);
  void* handle;
  int32_t result;
};

enum life { UNUSED, LIVE, OVER };
/* As a plugin of a later minor has it: one member more, which this host must not mind. */
struct later_hooks {
  struct vmm_hooks hooks;
  void (*appended)(void);
};

/* Never freed, so that a call that comes when its time is over finds it. */
struct instance {
  int life;
  const struct vmm_host* host; /* the host's own table */
  struct vmm_host table;       /* as it was in create, cut or filled with 0 to our size */
  const char* options;         /* the host's own string; may be NULL */
  char options_copy[OPTIONS_SIZE];
  char name_copy[256];
  const struct run* run;
  uint32_t msr, msr2;
  struct later_hooks hooks; /* what was registered */
  int64_t calls;
  struct vm vms[MOST_VMS];
  struct vmm_msr many[LONG_BATCH];
  struct worker worker;
  struct record record;
};
static struct instance pool[MOST_INSTANCES];

static struct instance* take_instance(void) {
  for (int wanted = UNUSED; wanted <= OVER; wanted += OVER)
    for (size_t i = 0; i < MOST_INSTANCES; i++) {
      int expected = wanted;
      if (__atomic_compare_exchange_n(&pool[i].life, &expected, LIVE, 0, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED)) {
        memset((char*)&pool[i] + sizeof pool[i].life, 0, sizeof pool[i] - sizeof pool[i].life);
        return &pool[i];
      }
    }
  return NULL;
}

static int is_live(const struct instance* me) {
  return __atomic_load_n(&me->life, __ATOMIC_ACQUIRE) == LIVE;
}

static void end_instance(struct instance* me) {
  for (size_t i = 0; i < MOST_VMS; i++) free(me->vms[i].vcpu);
  memset(me->vms, 0, sizeof me->vms);
  record_close(&me->record);
  __atomic_store_n(&me->life, OVER, __ATOMIC_RELEASE);
}

static struct vm* take_vm(struct instance* me) {
  for (size_t i = 0; i < MOST_VMS; i++) {
    int expected = 0;
    if (__atomic_compare_exchange_n(&me->vms[i].used, &expected, 1, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED))
      return &me->vms[i];
  }
  return NULL;
}

/* Our VM behind a vm_ctx; NULL if there is none. */
static struct vm* vm_of(struct instance* me, void* vm_ctx) {
  const uintptr_t at = (uintptr_t)vm_ctx, begin = (uintptr_t)me->vms;
  if (at < begin || at >= begin + sizeof me->vms || (at - begin) % sizeof(struct vm) != 0)
    return NULL;
  return vm_ctx;
}

static int64_t vm_number(struct instance* me, void* vm_ctx) {
  const struct vm* vm = vm_of(me, vm_ctx);
  return vm ? vm - me->vms + 1 : vm_ctx ? -1 : 0;
}

static struct vcpu* vcpu_of(const struct vm* vm, uint32_t index) {
  return vm && index < vm->vcpus ? &vm->vcpu[index] : NULL;
}

/* Some milliseconds, without a system call: long enough to be overlapped. */
static void take_time(void) {
  for (volatile uint32_t i = 0; i < 2000000u; i++) continue;
}

/* ---- texts --------------------------------------------------------------------------------- */

/* Says why: at most the buffer that the host lent, and all of it where `whole`. */
static int32_t fail(struct vmm_error* error, int32_t code, const char* text, int whole) {
  const size_t length = strlen(text);
  if (!error || !error->message || error->capacity == 0) return code;
  const size_t room = error->capacity - 1u;
  size_t end = whole || length > room ? room : length;
  if (!whole && end < length)
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) end--; /* inside a character */
  for (size_t i = 0; i < end; i++) error->message[i] = text[i % length];
  error->message[end] = 0;
  return code;
}

static void record_error(struct line* line, const struct vmm_error* error) {
  line_bool(line, "error", error != NULL);
  if (!error) return;
  line_number(line, "error_size", error->struct_size);
  line_number(line, "error_capacity", error->capacity);
  line_bool(line, "error_empty", error->message && error->message[0] == 0);
}

/* ---- hooks: what they all record ----------------------------------------------------------- */

static int same_text(const char* now, const char* before, size_t size) {
  return !now ? before[0] == 0 : strncmp(now, before, size - 1) == 0;
}

static int table_is_the_same(const struct instance* me) {
  const size_t size =
      me->table.struct_size < sizeof me->table ? me->table.struct_size : sizeof me->table;
  return memcmp(me->host, &me->table, size) == 0 &&
         same_text(me->table.name, me->name_copy, sizeof me->name_copy);
}

static void record_kept(struct line* line, const struct instance* me) {
  line_bool(line, "options_same", same_text(me->options, me->options_copy, OPTIONS_SIZE));
  line_bool(line, "table_same", table_is_the_same(me));
}

/* Begins a hook's line. The call's number; -1: the instance is over, which was recorded. */
static int64_t enter(struct line* line, struct instance* me, const char* hook, int64_t vm) {
  if (!is_live(me)) {
    line_begin(line, &me->record, "late");
    line_string(line, "hook", hook);
    line_end_late(line);
    return -1;
  }
  const int64_t call = __atomic_add_fetch(&me->calls, 1, __ATOMIC_RELAXED);
  line_begin(line, &me->record, "enter");
  line_string(line, "hook", hook);
  line_number(line, "call", call);
  line_number(line, "vm", vm);
  line_address(line, "thread", (const void*)(uintptr_t)pthread_self());
  record_kept(line, me);
  return call;
}

static int32_t leave(struct instance* me, const char* hook, int64_t call, int32_t result) {
  struct line line;
  if (me->run->does & SLOW) take_time();
  line_begin(&line, &me->record, "leave");
  line_string(&line, "hook", hook);
  line_number(&line, "call", call);
  line_number(&line, "result", result);
  line_end(&line);
  return result;
}

/* ---- questions ----------------------------------------------------------------------------- */

static void answer_begin(struct line* line, struct instance* me, int64_t call, const char* what,
                         int64_t result) {
  line_begin(line, &me->record, "answer");
  line_number(line, "call", call);
  line_string(line, "what", what);
  line_number(line, "result", result);
}

static void answer(struct instance* me, int64_t call, const char* what, int64_t result) {
  struct line line;
  answer_begin(&line, me, call, what, result);
  line_end(&line);
}

static int32_t vm_ioctl(struct instance* me, vmm_vm_handle vm, uint32_t request, void* arg) {
  int32_t result;
  do result = me->table.vm_ioctl(me->table.host_ctx, vm, request, arg);
  while (result == -EINTR);
  return result;
}

static int32_t vcpu_ioctl(struct instance* me, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
  int32_t result;
  do result = me->table.vcpu_ioctl(me->table.host_ctx, vcpu, request, arg);
  while (result == -EINTR);
  return result;
}

static int32_t check_extension(struct instance* me, vmm_vm_handle vm, uintptr_t capability) {
  return vm_ioctl(me, vm, (uint32_t)KVM_CHECK_EXTENSION, (void*)capability);
}

struct one_msr {
  struct vmm_kvm_msrs_header header;
  struct kvm_msr_entry entry;
};

/* Where KVM does not write it, *value stays as it is. */
static int32_t get_msr(struct instance* me, vmm_vcpu_handle vcpu, uint32_t index, uint64_t* value) {
  struct one_msr request = {{1, 0}, {index, 0, *value}};
  const int32_t result = vcpu_ioctl(me, vcpu, VMM_KVM_GET_MSRS, &request);
  *value = request.entry.data;
  return result;
}

static int32_t set_msr(struct instance* me, vmm_vcpu_handle vcpu, uint32_t index, uint64_t value) {
  struct one_msr request = {{1, 0}, {index, 0, value}};
  return vcpu_ioctl(me, vcpu, VMM_KVM_SET_MSRS, &request);
}

/* A number that no KVM gives to a request, a capability, an MSR or a CPUID leaf. */
#define NO_REQUEST ((uint32_t)_IO(KVMIO, 0xff))
static const uintptr_t no_capability = 0x7ffffff;
static const uint32_t no_msr = 0x12345678, no_leaf = 0x8fffffff;
static const uint32_t untouched = 0xdeadbeef;

static void ask_cpuid(struct instance* me, int64_t call, const char* what, vmm_vm_handle vm,
                      vmm_vcpu_handle vcpu, uint32_t leaf) {
  static const char* const names[] = {"eax", "ebx", "ecx", "edx"};
  uint32_t registers[4] = {untouched, untouched, untouched, untouched};
  struct line line;
  if (!me->table.get_cpuid) return;
  const int32_t result = me->table.get_cpuid(me->table.host_ctx, vm, vcpu, leaf, 0, registers);
  answer_begin(&line, me, call, what, result);
  for (int i = 0; i < 4; i++) line_number(&line, names[i], registers[i]);
  line_end(&line);
}

static void ask_in_create(struct instance* me) {
  static const uint32_t levels[] = {VMM_LOG_DEBUG, 150, 250, 99999};
  static const char text[] = "host_conformance: a line of a level that may be unknown";
  for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
    me->table.log(me->table.host_ctx, levels[i], text, sizeof text - 1);
  answer(me, 0, "log", 0);
  if (me->table.get_extension)
    answer(me, 0, "get_extension",
           me->table.get_extension(me->table.host_ctx, "vmm.host-conformance.none/1") != NULL);
}

static void ask_deny(struct instance* me, int64_t call, vmm_vm_handle vm) {
  struct vmm_msr_range ranges[40];
  if (!me->table.deny_msrs) return;
  for (uint32_t i = 0; i < 40; i++) {
    ranges[i].base = 0xc0012000 + 4 * i;
    ranges[i].count = 1;
  }
  answer(me, call, "deny_msrs_40", me->table.deny_msrs(me->table.host_ctx, vm, ranges, 40));
  answer(me, call, "deny_msrs_1", me->table.deny_msrs(me->table.host_ctx, vm, ranges, 1));
}

/* Is there a vCPU already? Two ioctls that KVM refuses then, with the values that it has anyway. */
static void ask_first(struct instance* me, int64_t call, vmm_vm_handle vm) {
  struct kvm_enable_cap cap;
  answer(me, call, "boot_cpu", vm_ioctl(me, vm, (uint32_t)KVM_SET_BOOT_CPU_ID, NULL));
  const int32_t offered = check_extension(me, vm, KVM_CAP_PMU_CAPABILITY);
  if (offered <= 0 || !(offered & KVM_PMU_CAP_DISABLE)) return;
  memset(&cap, 0, sizeof cap);
  cap.cap = KVM_CAP_PMU_CAPABILITY;
  answer(me, call, "pmu_capability", vm_ioctl(me, vm, (uint32_t)KVM_ENABLE_CAP, &cap));
}

static void ask_in_vm_created(struct instance* me, int64_t call, vmm_vm_handle vm) {
  answer(me, call, "capability", check_extension(me, vm, KVM_CAP_USER_MEMORY));
  answer(me, call, "no_capability", check_extension(me, vm, no_capability));
  answer(me, call, "no_vm_request", vm_ioctl(me, vm, NO_REQUEST, NULL));
  ask_first(me, call, vm);
  ask_cpuid(me, call, "cpuid_vm", vm, NULL, 0);
  ask_deny(me, call, vm);
}

static int32_t sink_add(const struct vmm_msr_sink* sink, const struct vmm_msr* msrs,
                        uint32_t count) {
  return sink->add(sink->sink_ctx, msrs, count);
}

static void ask_sink(struct instance* me, int64_t call, const struct vmm_msr_sink* sink) {
  const struct vmm_msr one = {me->msr, 0, 0};
  const struct vmm_msr then_bad[2] = {{me->msr2, 0, 0}, {me->msr2, 1u << 30, 0}};
  answer(me, call, "add_none", sink_add(sink, &one, 0));
  answer(me, call, "add_null", sink_add(sink, NULL, 1));
  answer(me, call, "add_unknown_flag", sink_add(sink, then_bad, 2));
}

static void ask_in_list(struct instance* me, int64_t call, vmm_vm_handle vm,
                        const struct vmm_msr_sink* sink) {
  const struct vmm_msr saved = {me->msr, VMM_MSR_SAVED, UINT32_MAX};
  const struct vmm_msr required = {me->msr2, VMM_MSR_REQUIRED, 0};
  const struct vmm_msr half[2] = {{me->msr2, VMM_MSR_SAVED, UINT32_MAX},
                                  {me->msr, VMM_MSR_SAVED, UINT32_MAX}};
  ask_cpuid(me, call, "cpuid_list", vm, NULL, 0);
  ask_sink(me, call, sink);
  answer(me, call, "add_required_alone", sink_add(sink, &required, 1));
  answer(me, call, "add_saved", sink_add(sink, &saved, 1));
  answer(me, call, "add_saved_again", sink_add(sink, &saved, 1));
  /* the second is there already: the first must not have been taken */
  answer(me, call, "add_half", sink_add(sink, half, 2));
  answer(me, call, "add_after_half", sink_add(sink, half, 1));
}

static void ask_in_reset(struct instance* me, int64_t call, const struct vm* vm,
                         const struct vmm_vcpu* vcpu) {
  struct vmm_kvm_cpuid2_header cpuid = {0, 0};
  struct vmm_kvm_msrs_header too_many = {VMM_KVM_MAX_MSRS + 1, 0};
  const vmm_vm_handle handle = vm ? vm->handle : NULL;
  uint64_t before = untouched, after = 0;
  struct line line;
  answer(me, call, "no_vcpu_request", vcpu_ioctl(me, vcpu->handle, NO_REQUEST, &cpuid));
  answer(me, call, "too_many_msrs", vcpu_ioctl(me, vcpu->handle, VMM_KVM_GET_MSRS, &too_many));
  answer(me, call, "cpuid2", vcpu_ioctl(me, vcpu->handle, VMM_KVM_GET_CPUID2, &cpuid));
  const int32_t got = get_msr(me, vcpu->handle, me->msr, &before);
  if (got == 1) {
    const int32_t set = set_msr(me, vcpu->handle, me->msr, 0x5a5a00);
    const int32_t again = get_msr(me, vcpu->handle, me->msr, &after);
    const int32_t back = set_msr(me, vcpu->handle, me->msr, before);
    answer_begin(&line, me, call, "msr", set);
    line_number(&line, "read", again);
    line_bool(&line, "kept", after == 0x5a5a00);
    line_number(&line, "back", back);
    line_end(&line);
  } else {
    answer_begin(&line, me, call, "msr_read", got);
    line_bool(&line, "written", before != untouched);
    line_end(&line);
  }
  answer(me, call, "no_msr", set_msr(me, vcpu->handle, no_msr, 0));
  if (vm) {
    ask_cpuid(me, call, "cpuid_vcpu", handle, vcpu->handle, 0);
    ask_cpuid(me, call, "cpuid_no_leaf", handle, vcpu->handle, no_leaf);
  }
  if (vcpu->batch) ask_sink(me, call, vcpu->batch);
}

/* ---- a thread of our own, started in create: a sandboxed one could start none ---------------- */

static void* work(void* argument) {
  struct instance* me = argument;
  struct worker* worker = &me->worker;
  const struct timespec nap = {0, 50000};
  for (;;) {
    const int state = __atomic_load_n(&worker->state, __ATOMIC_ACQUIRE);
    if (state == ENDED) return NULL;
    if (state == GIVEN) {
      worker->result = worker->job(me, worker->handle);
      __atomic_store_n(&worker->state, DONE, __ATOMIC_RELEASE);
    }
    nanosleep(&nap, NULL);
  }
}

static int32_t ask_vm_on_thread(struct instance* me, void* handle) {
  static const char text[] = "host_conformance: a line from a thread of the plugin's";
  me->table.log(me->table.host_ctx, VMM_LOG_DEBUG, text, sizeof text - 1);
  return check_extension(me, handle, KVM_CAP_USER_MEMORY);
}

static int32_t ask_vcpu_on_thread(struct instance* me, void* handle) {
  uint64_t value = 0;
  return get_msr(me, handle, me->msr, &value);
}

/* Asks here and on the thread. Where another hook has the thread, nothing. */
static void ask_both(struct instance* me, int64_t call, const char* what,
                     int32_t (*job)(struct instance* me, void* handle), void* handle) {
  struct worker* worker = &me->worker;
  int expected = IDLE;
  struct line line;
  if (!worker->started || !__atomic_compare_exchange_n(&worker->state, &expected, CLAIMED, 0,
                                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
    return;
  const int32_t here = job(me, handle);
  line_begin(&line, &me->record, "ask");
  line_number(&line, "call", call);
  line_string(&line, "what", what);
  line_end(&line);
  worker->job = job;
  worker->handle = handle;
  __atomic_store_n(&worker->state, GIVEN, __ATOMIC_RELEASE);
  while (__atomic_load_n(&worker->state, __ATOMIC_ACQUIRE) != DONE) continue;
  answer_begin(&line, me, call, what, worker->result);
  line_number(&line, "here", here);
  line_end(&line);
  __atomic_store_n(&worker->state, IDLE, __ATOMIC_RELEASE);
}

/* ---- marks --------------------------------------------------------------------------------- */

/* Values tell the reset that they come from, and of what kind they are. */
enum mark { DIRECT = 0x11, FIRST = 0x22, LAST = 0x33, DROPPED = 0x44, CONSTANT = 0x55 };
static uint64_t mark(uint32_t reset, enum mark kind) {
  return 0x40000000u | (reset & 0xffffu) << 8 | kind;
}
/* The bits of a mark that a list says exist. */
static const uint64_t list_mask = 0xffffff00;

static void record_read(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu,
                        uint32_t reset) {
  uint64_t value = 0, value2 = 0;
  struct line line;
  const int32_t got = get_msr(me, vcpu->handle, me->msr, &value);
  const int32_t got2 = get_msr(me, vcpu->handle, me->msr2, &value2);
  line_begin(&line, &me->record, "read");
  line_number(&line, "call", call);
  line_number(&line, "index", vcpu->index);
  line_number(&line, "reset", reset);
  line_number(&line, "result", got == 1 ? got2 : got);
  line_number(&line, "value", (int64_t)value);
  line_number(&line, "value2", (int64_t)value2);
  line_end(&line);
}

/* `how`: direct, order, refused, long or dropped. The value is the one that has to be found. */
static void record_mark(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu,
                        uint32_t reset, const char* how, int32_t result, uint64_t value) {
  struct line line;
  line_begin(&line, &me->record, "mark");
  line_number(&line, "call", call);
  line_number(&line, "index", vcpu->index);
  line_number(&line, "reset", reset);
  line_string(&line, "how", how);
  line_number(&line, "result", result);
  line_number(&line, "value", (int64_t)value);
  line_end(&line);
}

static void mark_direct(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu,
                        uint32_t reset) {
  const uint64_t value = mark(reset, DIRECT);
  const int32_t result = set_msr(me, vcpu->handle, me->msr, value);
  const int32_t result2 = set_msr(me, vcpu->handle, me->msr2, value);
  record_mark(me, call, vcpu, reset, "direct", result == 1 ? result2 : result, value);
}

/* Resets take turns: by ioctl, which shows that a mark stays; two values in order; a register that
 * KVM refuses between them; more entries than one ioctl takes. */
static int32_t mark_batch(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu,
                          uint32_t reset) {
  struct vmm_msr msrs[3] = {{me->msr, 0, mark(reset, FIRST)}, {0, 0, 0}, {0, 0, 0}};
  const int fails = (me->run->does & FAIL_RESETS) != 0;
  const uint32_t turn = vcpu->batch ? reset % (fails ? 2 : 4) : 0;
  if (turn == 0) {
    mark_direct(me, call, vcpu, reset);
  } else if (fails) {
    msrs[0].value = mark(reset, DROPPED);
    record_mark(me, call, vcpu, reset, "dropped", sink_add(vcpu->batch, msrs, 1), msrs[0].value);
    return -EPERM;
  } else if (turn == 3) {
    record_mark(me, call, vcpu, reset, "long", sink_add(vcpu->batch, me->many, LONG_BATCH),
                me->many[LONG_BATCH - 1].value);
  } else {
    const uint32_t count = turn == 1 ? 2 : 3;
    msrs[1].index = no_msr;
    msrs[count - 1].index = me->msr;
    msrs[count - 1].value = mark(reset, LAST);
    const int32_t result = sink_add(vcpu->batch, msrs, count);
    memset(msrs, 0xff, sizeof msrs); /* add copies */
    record_mark(me, call, vcpu, reset, turn == 1 ? "order" : "refused", result, mark(reset, LAST));
  }
  return 0;
}

static void fill_list(struct instance* me, int64_t call, const struct vmm_msr_sink* sink) {
  struct vmm_msr msrs[3] = {
      {me->msr2, 0, FIRST}, {me->msr2, 0, CONSTANT}, {me->msr, VMM_MSR_SAVED, list_mask}};
  if (me->run->list) msrs[0].value = msrs[1].value = DROPPED;
  answer(me, call, "add_list", sink_add(sink, msrs, 3));
  memset(msrs, 0xff, sizeof msrs); /* add copies */
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
  if (!vm || !vm->vcpu)
    return leave(me, "vm_created", call, fail(error, -ENOMEM, "no room for one more VM", 0));
  if (me->run->does & ASK) ask_in_vm_created(me, call, shape->handle);
  if (me->run->does & THREADS)
    ask_both(me, call, "vm_ioctl_on_thread", ask_vm_on_thread, shape->handle);
  const int32_t result = me->run->vm_created;
  if (result == 0)
    *vm_ctx = vm;
  else
    __atomic_store_n(&vm->used, 0, __ATOMIC_RELEASE);
  if (result != 0) fail(error, result, "host_conformance was told to refuse this VM. ", 1);
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
  if (vm) __atomic_store_n(&vm->used, 0, __ATOMIC_RELEASE);
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
    fail(error, me->run->list, "host_conformance was told to refuse its list. ", 1);
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
  if (me->run->does & THREADS)
    ask_both(me, call, "vcpu_ioctl_on_thread", ask_vcpu_on_thread, vcpu->handle);
  if (mine) {
    const uint32_t reset = mine->resets++;
    if (me->run->does & (MARK_BATCH | MARK_LIST)) record_read(me, call, vcpu, reset);
    if (me->run->does & MARK_LIST) mark_direct(me, call, vcpu, reset);
    if (me->run->does & MARK_BATCH) result = mark_batch(me, call, vcpu, reset);
  }
  return leave(me, "vcpu_reset", call, result);
}

/* What a host that did not copy the table would call. */
static void stale(const char* hook) {
  for (size_t i = 0; i < MOST_INSTANCES; i++)
    if (is_live(&pool[i])) {
      struct line line;
      line_begin(&line, &pool[i].record, "stale");
      line_string(&line, "hook", hook);
      line_end(&line);
    }
}
static int32_t stale_vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                                struct vmm_error* error) {
  (void)ctx, (void)vm, (void)vm_ctx, (void)error;
  stale("vm_created");
  return 0;
}
static void stale_vm_destroyed(void* ctx, void* vm_ctx) {
  (void)ctx, (void)vm_ctx;
  stale("vm_destroyed");
}
static int32_t stale_msr_list_build(void* ctx, void* vm_ctx, const struct vmm_vm* vm,
                                    const struct vmm_msr_sink* sink, struct vmm_error* error) {
  (void)ctx, (void)vm_ctx, (void)vm, (void)sink, (void)error;
  stale("msr_list_build");
  return 0;
}
static int32_t stale_vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  (void)ctx, (void)vm_ctx, (void)vcpu;
  stale("vcpu_reset");
  return 0;
}

/* ---- create and destroy -------------------------------------------------------------------- */

/* Copies the value of the option `key` to `value`, commas no longer doubled. NULL, or what is wrong
 * with the string. Unset options leave `value` as it is. */
struct option {
  const char* key;
  char* value;
  size_t size;
  int seen;
};

static const char* parse_options(const char* text, struct option* options, size_t count) {
  while (text && *text) {
    const size_t key = strcspn(text, "=,");
    struct option* option = NULL;
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
      if (strlen(options[i].key) == key && strncmp(options[i].key, text, key) == 0)
        option = &options[i];
    if (!option || text[key] != '=' || option->seen)
      return "options are record=FILE, run=NAME, msr=ADDRESS and msr2=ADDRESS, each once";
    option->seen = 1;
    for (text += key + 1; *text; text++) {
      if (*text == ',' && *++text != ',') break;
      if (length + 1 == option->size) return "an option's value is too long";
      option->value[length++] = *text;
    }
    option->value[length] = 0;
    if (length == 0) return "an option's value is empty";
    if (text[-1] == ',' && !*text && length > 0) return "the options end in a comma";
  }
  return NULL;
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
  char text[RECORD_PATH + 512];
  size_t at;
  if (options && strlen(options) >= OPTIONS_SIZE)
    return fail(error, -EINVAL, "the options have 4096 bytes or more", 0);
  const char* wrong = parse_options(options, known, sizeof known / sizeof known[0]);
  if (wrong) return fail(error, -EINVAL, wrong, 0);
  me->run = find_run(run);
  if (!me->run) {
    at = (size_t)snprintf(text, sizeof text, "run=%s: there is", run);
    for (size_t i = 0; i < RUNS; i++)
      at += (size_t)snprintf(text + at, sizeof text - at, " %s", runs[i].name);
    return fail(error, -EINVAL, text, 0);
  }
  if (!parse_address(msr, &me->msr) || !parse_address(msr2, &me->msr2) || me->msr == me->msr2)
    return fail(error, -EINVAL, "msr= and msr2= are two different addresses of 32 bits", 0);
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
  } callbacks[] = {
      {"register_hooks", host->register_hooks != NULL}, {"vm_ioctl", host->vm_ioctl != NULL},
      {"vcpu_ioctl", host->vcpu_ioctl != NULL},         {"log", host->log != NULL},
      {"get_cpuid", host->get_cpuid != NULL},           {"deny_msrs", host->deny_msrs != NULL},
      {"get_extension", host->get_extension != NULL}};
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
  memcpy(&me->table, host, size - size % (size > least_host ? sizeof(void*) : 1));
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
  if (me->run->does & THREADS)
    me->worker.started = pthread_create(&me->worker.thread, NULL, work, me) == 0;
  if (me->run->create != 0) fail(error, me->run->create, "host_conformance was told to fail. ", 1);
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
  if (me->worker.started) {
    __atomic_store_n(&me->worker.state, ENDED, __ATOMIC_RELEASE);
    pthread_join(me->worker.thread, NULL);
  }
  end_instance(me);
}

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {
      .struct_size = sizeof plugin,
      .abi_major = VMM_PLUGIN_ABI_MAJOR,
      .abi_minor = VMM_PLUGIN_ABI_MINOR,
      .name = "host_conformance",
      .version = "1.0.0",
      .description = "records what a host does, asks its callbacks and fails on purpose",
      .options_help =
          "record=FILE: append JSON lines to this file\n"
          "run=NAME: what to do; 'host_stub conformance-host --runs' lists them\n"
          "msr=ADDRESS, msr2=ADDRESS: the registers to mark\n",
      .create = create,
      .destroy = destroy};
  return &plugin;
}
