/* SPDX-License-Identifier: MIT
 *
 * A plugin that keeps every rule of abi/ABI.md, and on demand breaks one: the environment variable
 * BAD names the fault, one of the names in the calls of bad() below. Without it nothing is wrong.
 *
 * It resets one event selector, its counter and LSTAR, and names them for save and restore.
 * EXTRA_EXPORT and ATFORK, at compile time, are faults that are in the file itself. */
/* NOLINTBEGIN(clang-analyzer-*): some of the faults are what it looks for */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#define SELECTOR 0xc0010200u
#define COUNTER 0xc0010201u
#define LSTAR 0xc0000082u
#define GLOBAL_STATUS 0xc0000300u /* KVM refuses bits of counters that are not there */
#define WRITES 3u

struct instance {
  struct vmm_host host; /* what the host does not have is NULL */
  pthread_t creator, thread;
  int stop; /* for the thread */
};
struct vm {
  struct instance* instance;
  vmm_vm_handle handle;
  uint32_t max_vcpus;
  uint32_t lists;
  const struct vmm_vm* shape;      /* for keeps_the_vm_struct */
  const struct vmm_msr_sink* sink; /* for keeps_the_sink */
  uint32_t resets[];
};

/* What more than one fault needs, and no plugin should have. */
static struct {
  struct instance* last_instance;
  const struct vmm_host* table; /* as the host lent it */
  vmm_vm_handle last_vm;
  vmm_vcpu_handle last_vcpu;
  char* leaked;
  int created, busy;
  pthread_mutex_t mutex;
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int bad(const char* fault) {
  const char* wanted = getenv("BAD");
  return wanted && strcmp(wanted, fault) == 0;
}

static void hang(void) {
  for (;;) pause();
}

/* ---- errors and log */

static size_t whole_characters(const char* text, size_t limit) {
  size_t length = strlen(text);
  if (length <= limit) return length;
  if (bad("cuts_characters")) return limit;
  while (limit > 0 && ((unsigned char)text[limit] & 0xc0) == 0x80) limit--;
  return limit;
}

static int32_t fail(struct vmm_error* error, int32_t code, const char* text) {
  if (!error && !bad("needs_an_error_buffer")) return code;
  if (bad("fails_without_text")) return code;
  if (bad("overruns_the_text")) {
    memset(error->message, 'x', error->capacity);
    error->message[error->capacity] = 0;
    return code;
  }
  const size_t length = whole_characters(text, error->capacity - 1);
  memcpy(error->message, text, length);
  error->message[length] = bad("text_without_end") ? 'x' : 0;
  if (bad("text_without_end")) memset(error->message, 'x', error->capacity);
  return code;
}

static void say(const struct instance* instance, uint32_t level, const char* text) {
  uint64_t length = strlen(text);
  if (bad("wrong_length")) length--;
  static const struct {
    const char* fault;
    const char* text;
  } kBadTexts[] = {
      {"newline", "two\nlines"},           {"overlong_2", "a slash: \xc0\xaf"},
      {"overlong_3", "a: \xe0\x81\xa1"},   {"overlong_4", "a: \xf0\x80\x81\xa1"},
      {"surrogate", "half: \xed\xa0\x80"}, {"beyond_unicode", "no: \xf4\x90\x80\x80"},
      {"cut_character", "cut: \xe2\x82"},
  };
  for (size_t i = 0; i < sizeof kBadTexts / sizeof *kBadTexts; ++i) {
    if (!bad(kBadTexts[i].fault)) continue;
    text = kBadTexts[i].text;
    length = strlen(text);
  }
  instance->host.log(instance->host.host_ctx, level, text, length);
}

/* ---- KVM */

static struct vmm_host* host_of(struct instance* instance) {
  return bad("last_instance_wins") ? &shared.last_instance->host : &instance->host;
}

static int32_t vm_ioctl(struct instance* instance, vmm_vm_handle vm, uint32_t request, void* arg) {
  struct vmm_host* host = host_of(instance);
  int32_t result;
  do result = host->vm_ioctl(host->host_ctx, vm, request, arg);
  while (result == -EINTR && !bad("interrupted_is_failed"));
  return result;
}

static int32_t set_msrs(struct instance* instance, vmm_vcpu_handle vcpu,
                        const struct vmm_msr* msrs) {
  struct vmm_host* host = host_of(instance);
  struct {
    struct vmm_kvm_msrs_header header;
    struct vmm_msr msrs[WRITES];
  } request = {{WRITES, 0}, {{0, 0, 0}}};
  int32_t result;
  memcpy(request.msrs, msrs, sizeof request.msrs);
  if (bad("reserved_in_request")) request.msrs[0].flags = 4;
  do result = host->vcpu_ioctl(host->host_ctx, vcpu, VMM_KVM_SET_MSRS, &request);
  while (result == -EINTR && !bad("interrupted_is_failed"));
  if (bad("failed_write_is_success") && result < 0) return 0;
  if (result < 0) {
    say(instance, VMM_LOG_ERROR, "KVM_SET_MSRS failed");
    return result;
  }
  if (bad("short_count_is_success") && result < (int32_t)WRITES) return 0;
  if (bad("any_count_is_success") && result > (int32_t)WRITES) return 0;
  return result == (int32_t)WRITES ? 0 : -EIO;
}

/* ---- faults of one line in a hook */

static void* thread_main(void* ctx) {
  struct instance* instance = ctx;
  while (!__atomic_load_n(&instance->stop, __ATOMIC_SEQ_CST)) usleep(500);
  return NULL;
}
static void on_signal(int number) { (void)number; }

static void leave_traces(const char* where) {
  sigset_t mask;
  if (strcmp(where, "create") == 0) {
    if (bad("installs_a_handler")) signal(SIGUSR1, on_signal);
    if (bad("keeps_a_descriptor")) open("/dev/null", O_RDWR | O_CLOEXEC);
    if (bad("closes_everything"))
      for (int fd = 0; fd < 64; fd++) close(fd);
    if (bad("hangs_in_create")) hang();
    if (bad("stops_itself")) raise(SIGSTOP);
    if (bad("exits_in_create")) exit(0);
    if (bad("aborts")) abort();
    if (bad("crashes")) raise(SIGSEGV);
    if (bad("kills_its_group")) kill(0, SIGKILL);
  } else if (strcmp(where, "vm_created") == 0) {
    if (bad("opens_a_file")) close(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (bad("exits_in_a_hook")) exit(0);
  } else if (strcmp(where, "vcpu_reset") == 0) {
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    if (bad("blocks_a_signal")) pthread_sigmask(SIG_BLOCK, &mask, NULL);
    if (bad("allocates_at_reset")) {
      volatile char* memory = malloc(100);
      if (memory) *memory = 1;
      free((void*)memory);
    }
    if (bad("locks_at_reset")) {
      pthread_mutex_lock(&shared.mutex);
      pthread_mutex_unlock(&shared.mutex);
    }
    if (bad("system_call_at_reset")) syscall(SYS_getppid);
    if (bad("hangs_at_reset")) hang();
    if (bad("spins_at_reset"))
      for (volatile int on = 1; on;) {
      }
  }
}

/* ---- hooks */

static int32_t vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                          struct vmm_error* error) {
  struct instance* instance = ctx;
  struct vmm_host* host = &instance->host;
  uint32_t registers[4];
  leave_traces("vm_created");
  if (bad("registers_later")) {
    const struct vmm_hooks hooks = {.struct_size = sizeof hooks};
    host->register_hooks(host->host_ctx, &hooks, ctx);
  }
  if (bad("refuses_larger_structs") && vm->struct_size != sizeof *vm)
    return fail(error, -EINVAL, "vmm_vm has another size");
  if (bad("context_of_a_refused_vm")) *vm_ctx = ctx;
  if (bad("tied_to_a_thread") && !pthread_equal(instance->creator, pthread_self()))
    return fail(error, -EPERM, "another thread than that of create");
  if (vm_ioctl(instance, vm->handle, KVM_CHECK_EXTENSION, (void*)KVM_CAP_X86_MSR_FILTER) < 0)
    return fail(error, -EIO, "KVM_CHECK_EXTENSION failed");
  if (host->get_cpuid) {
    const int32_t result = host->get_cpuid(host->host_ctx, vm->handle, NULL, 0, 0, registers);
    if (result != 0 && bad("needs_the_cpuid")) return fail(error, result, "no CPUID");
  }
  if (host->deny_msrs) {
    const struct vmm_msr_range range = {0x12340000, bad("empty_range") ? 0 : 4};
    host->deny_msrs(host->host_ctx, vm->handle, &range, 1);
  }
  if (host->hide_cpuid) {
    const struct vmm_cpuid_bits bits = {0x80000001, 0,
                                        bad("hides_in_no_register") ? 4 : VMM_CPUID_ECX,
                                        bad("hides_nothing") ? 0 : 1};
    host->hide_cpuid(host->host_ctx, vm->handle, &bits, 1);
  }
  struct vm* self = calloc(1, sizeof *self + vm->max_vcpus * sizeof self->resets[0]);
  if (!self) return fail(error, -ENOMEM, "no memory");
  self->instance = instance;
  self->handle = shared.last_vm = vm->handle;
  self->max_vcpus = bad("room_for_8_vcpus") && vm->max_vcpus > 8 ? 8 : vm->max_vcpus;
  self->shape = vm;
  *vm_ctx = self;
  if (bad("text_on_success") && error) strcpy(error->message, "all is well");
  return bad("positive_from_vm_created") ? 1 : 0;
}

static void vm_destroyed(void* ctx, void* vm_ctx) {
  say(ctx, VMM_LOG_INFO, "the VM is gone");
  free(vm_ctx);
}

static int32_t msr_list_build(void* ctx, void* vm_ctx, const struct vmm_vm* vm,
                              const struct vmm_msr_sink* sink, struct vmm_error* error) {
  struct vm* self = vm_ctx;
  const uint32_t required = VMM_MSR_SAVED | VMM_MSR_REQUIRED;
  struct vmm_msr list[] = {
      {SELECTOR, 0, 0},
      {COUNTER, 0, 0},
      {COUNTER, VMM_MSR_SAVED, bad("required_is_cut") ? 0 : UINT64_MAX},
      {SELECTOR, VMM_MSR_SAVED, UINT64_MAX},
      {LSTAR, required, UINT64_MAX},
  };
  uint32_t count = sizeof list / sizeof list[0];
  (void)ctx, (void)vm;
  if (bad("opens_a_socket")) close(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bad("required_is_cut")) list[2].flags = required;
  if (bad("list_changes")) list[1].value = ++self->lists;
  if (bad("adds_nothing")) count = 0;
  if (bad("unknown_flag")) list[0].flags = 0x80;
  if (bad("required_alone")) list[0].flags = VMM_MSR_REQUIRED;
  if (bad("saved_twice")) list[1] = list[4];
  if (bad("selector_first")) {
    const struct vmm_msr counter = list[2];
    list[2] = list[3];
    list[3] = counter;
  }
  if (bad("never_stopped")) list[0] = list[1];
  if (bad("refused_constant")) list[1].index = GLOBAL_STATUS, list[1].value = UINT64_C(1) << 40;
  if (bad("keeps_the_sink")) {
    if (!self->sink) self->sink = sink;
    sink = self->sink;
  }
  const int32_t result = sink->add(sink->sink_ctx, list, count);
  if (result == 0 || (result > 0 && bad("positive_add_is_success"))) return 0;
  return fail(error, result < 0 ? result : -EPROTO, "the host does not take the list");
}

static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  struct instance* instance = ctx;
  struct vm* self = vm_ctx;
  struct vmm_msr msrs[WRITES] = {{SELECTOR, 0, 0}, {COUNTER, 0, 0}, {LSTAR, 0, 0}};
  vmm_vcpu_handle handle = vcpu->handle;
  int32_t result = -ENOSPC;
  leave_traces("vcpu_reset");
  if (vcpu->index >= self->max_vcpus) return -EINVAL;
  if (bad("keeps_the_vm_struct") && self->shape->max_vcpus <= vcpu->index) return -EINVAL;
  if (bad("refuses_larger_structs") && vcpu->struct_size != sizeof *vcpu) return -EINVAL;
  if (bad("last_vm_wins") && instance->host.get_cpuid) {
    uint32_t registers[4];
    instance->host.get_cpuid(instance->host.host_ctx, shared.last_vm, NULL, 0, 0, registers);
  }
  if (bad("denies_later") && instance->host.deny_msrs) {
    const struct vmm_msr_range range = {0x12340000, 4};
    instance->host.deny_msrs(instance->host.host_ctx, self->handle, &range, 1);
  }
  if (bad("hides_later") && instance->host.hide_cpuid) {
    const struct vmm_cpuid_bits bits = {0x80000001, 0, VMM_CPUID_ECX, 1};
    instance->host.hide_cpuid(instance->host.host_ctx, self->handle, &bits, 1);
  }
  if (bad("old_vcpu_handle")) {
    handle = shared.last_vcpu ? shared.last_vcpu : handle;
    shared.last_vcpu = vcpu->handle;
  }
  if (bad("one_at_a_time")) {
    if (__atomic_exchange_n(&shared.busy, 1, __ATOMIC_SEQ_CST)) return -EBUSY;
  }
  if (self->resets[vcpu->index]++ != 0) {
    if (bad("second_reset_fails")) return -EALREADY;
    if (bad("counts_in_a_register")) msrs[2].value = self->resets[vcpu->index];
  }
  if (bad("flags_in_a_batch")) msrs[0].flags = VMM_MSR_SAVED;
  if (vcpu->batch) result = vcpu->batch->add(vcpu->batch->sink_ctx, msrs, WRITES);
  if (bad("flags_in_a_batch")) msrs[0].flags = 0;
  if (vcpu->batch && bad("full_batch_is_success")) return 0;
  if (result != 0) result = set_msrs(instance, handle, msrs);
  __atomic_store_n(&shared.busy, 0, __ATOMIC_SEQ_CST);
  if (bad("result_is_no_errno")) return -70000;
  return result == 0 && bad("positive_result") ? 1 : result;
}

/* ---- create and destroy */

static int32_t check_host(const struct vmm_host* host, struct vmm_error* error) {
  const size_t least = offsetof(struct vmm_host, get_cpuid);
  if (bad("reads_behind_the_table") && host->log == NULL) return fail(error, -EINVAL, "no log");
  if (bad("takes_a_small_table") && host->struct_size == least - 8) return 0;
  if (bad("wants_its_own_size") && host->struct_size != sizeof *host)
    return fail(error, -EINVAL, "a host of another size");
  if (host->struct_size < least) return fail(error, -EINVAL, "the host's table is too small");
  if (host->abi_major != VMM_PLUGIN_ABI_MAJOR && !bad("takes_any_major"))
    return fail(error, -EINVAL, "the host is of another ABI major");
  if (!host->name || !host->register_hooks || !host->vm_ioctl || !host->vcpu_ioctl ||
      (!host->log && !bad("does_without_log")))
    return fail(error, -EINVAL, "the host's table lacks a callback");
  return 0;
}

static struct vmm_plugin descriptor;

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  struct vmm_hooks hooks = {.struct_size = sizeof hooks,
                            .vm_created = vm_created,
                            .vm_destroyed = vm_destroyed,
                            .msr_list_build = msr_list_build,
                            .vcpu_reset = vcpu_reset};
  char text[256];
  int32_t result = check_host(host, error);
  if (result != 0) return result;
  leave_traces("create");
  if (bad("null_is_not_none") && !options) return fail(error, -EINVAL, "no options");
  if (options && *options && !bad("takes_any_option")) {
    if (bad("leaks_when_it_fails") && shared.leaked) shared.leaked[0] = 1;
    if (bad("leaks_when_it_fails")) shared.leaked = malloc(100);
    /* cppcheck-suppress autoVariables ; that is what is bad */
    if (bad("context_of_a_failure")) *ctx = text;
    snprintf(text, sizeof text, "there are no options, \"%s\" is one", options);
    if (bad("failure_is_for_ever")) shared.created = 1;
    return fail(error, -EINVAL, text);
  }
  if (bad("failure_is_for_ever") && shared.created) return fail(error, -EBUSY, "failed before");
  if (bad("one_instance") && shared.last_instance) return fail(error, -EBUSY, "there is one");
  struct instance* self = calloc(1, sizeof *self);
  if (!self) return fail(error, -ENOMEM, "no memory");
  memcpy(&self->host, host,
         host->struct_size < sizeof self->host ? host->struct_size : sizeof self->host);
  if (bad("needs_get_cpuid") && !self->host.get_cpuid) {
    free(self);
    return fail(error, -EINVAL, "the host has no get_cpuid");
  }
  self->creator = pthread_self();
  if (bad("small_hooks")) hooks.struct_size = offsetof(struct vmm_hooks, vcpu_reset);
  if (bad("reserved_in_hooks")) hooks.reserved = 1;
  if (!bad("never_registers")) result = host->register_hooks(host->host_ctx, &hooks, self);
  if (bad("registers_twice")) host->register_hooks(host->host_ctx, &hooks, self);
  if (result != 0) {
    free(self);
    if (bad("another_code")) result = -EIO;
    return fail(error, result < 0 ? result : -EPROTO, "the host refused the hooks");
  }
  if (bad("edits_its_descriptor")) descriptor.description = "edited";
  if (bad("forks") && fork() == 0) hang();
  if (bad("starts_a_thread")) pthread_create(&self->thread, NULL, thread_main, self);
  shared.last_instance = self;
  shared.table = host;
  *ctx = self;
  return 0;
}

static void destroy(void* ctx) {
  struct instance* instance = ctx;
  if (bad("ioctl_in_destroy"))
    vm_ioctl(instance, shared.last_vm, KVM_CHECK_EXTENSION, (void*)KVM_CAP_X86_MSR_FILTER);
  __atomic_store_n(&instance->stop, 1, __ATOMIC_SEQ_CST);
  if (bad("starts_a_thread")) pthread_join(instance->thread, NULL);
  if (!bad("last_instance_wins")) free(instance);
  if (shared.last_instance == instance && !bad("last_instance_wins")) shared.last_instance = NULL;
}

__attribute__((destructor)) static void unloaded(void) {
  if (bad("logs_when_unloaded") && shared.table)
    shared.table->log(shared.table->host_ctx, VMM_LOG_INFO, "unloaded", 8);
}

/* ---- the descriptor */

static const void* get_extension(const char* id) { return bad("extension_for_all") ? id : NULL; }

static struct vmm_plugin descriptor = {.struct_size = sizeof descriptor,
                                       .abi_major = VMM_PLUGIN_ABI_MAJOR,
                                       .abi_minor = VMM_PLUGIN_ABI_MINOR,
                                       .name = "bad_plugin",
                                       .version = "1.0.0",
                                       .description = "keeps every rule but one",
                                       .options_help = "none\n",
                                       .create = create,
                                       .destroy = destroy,
                                       .get_extension = get_extension};

const struct vmm_plugin* vmm_plugin_v1(void) {
  static struct vmm_plugin other;
  if (bad("entry_gives_null")) return NULL;
  if (bad("entry_allocates")) *(volatile char*)malloc(10) = 1;
  if (bad("entry_prints")) puts("here I am");
  if (bad("entry_gives_copies")) {
    static int calls;
    other = descriptor;
    return calls++ % 2 ? &other : &descriptor;
  }
  if (bad("capital_name")) descriptor.name = "Bad Plugin";
  if (bad("flags_in_the_descriptor")) descriptor.flags = 1;
  if (bad("two_lines_of_description")) descriptor.description = "one\ntwo";
  if (bad("help_without_newline")) descriptor.options_help = "none";
  if (bad("small_descriptor")) descriptor.struct_size = offsetof(struct vmm_plugin, destroy);
  return &descriptor;
}

#ifdef EXTRA_EXPORT
VMM_PLUGIN_EXPORT int another_symbol(void);
int another_symbol(void) { return 1; }
#endif
#ifdef ATFORK
static void before_fork(void) {}
__attribute__((constructor)) static void loaded(void) { pthread_atfork(before_fork, NULL, NULL); }
#endif
/* NOLINTEND(clang-analyzer-*) */
