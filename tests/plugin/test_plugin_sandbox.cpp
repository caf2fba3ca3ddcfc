// SPDX-License-Identifier: MIT
//
// vcpu_reset keeps to sandbox level S2 of vmm/plugin.h: no allocation, no exception, no lock and no
// system call, whatever KVM says. Seen from outside: this program's own malloc and
// pthread_mutex_lock count, and a child is killed by the kernel at the first system call.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <memory>
#include <optional>

#include "host_kit/msr_io.hpp"
#include "kvm/msr_request.hpp"
#include "plugin_fixture.hpp"
#include "sanitizers.hpp"
#include "support/not_sanitized.hpp"
#include "support/resource_counters.hpp"

using namespace host_stub;

namespace {

/// A KVM or a host that misbehaves, without allocating; arg is a request of MSRs.
using Answer = std::optional<int32_t> (*)(uint32_t request, void* arg);

int32_t msr_count(void* arg) { return static_cast<int32_t>(msr_entries(arg).size()); }

std::optional<int32_t> refuse_c0010204(uint32_t, void* arg) {
  const auto entries = msr_entries(arg);
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (entries[i].index == 0xc0010204) return static_cast<int32_t>(i);
  return std::nullopt;
}
std::optional<int32_t> refuse_write_of_c0010204(uint32_t request, void* arg) {
  return request == VMM_KVM_SET_MSRS ? refuse_c0010204(request, arg) : std::nullopt;
}
std::optional<int32_t> refuse_all(uint32_t, void*) { return 0; }
std::optional<int32_t> fail(uint32_t, void*) { return -EBADF; }
std::optional<int32_t> interrupt_always(uint32_t, void*) { return -EINTR; }
std::optional<int32_t> fail_reads(uint32_t request, void*) {
  return request == VMM_KVM_GET_MSRS ? std::optional<int32_t>(-EIO) : std::nullopt;
}
std::optional<int32_t> swallow(uint32_t request, void* arg) {
  if (request != VMM_KVM_SET_MSRS) return std::nullopt;
  return msr_count(arg);
}
std::optional<int32_t> say_too_much(uint32_t, void*) { return 100; }

/// One way through vcpu_reset.
struct Path {
  const char* name;
  const char* kvm;
  const char* cpuid;
  const char* options;
  Answer answer;
  bool batch;
  uint32_t index;
  int32_t result;
};
constexpr const char* kV2Host = "sim:linux-6.12,host-perfmonv2";
const Path kPaths[] = {
    {"success", kV2Host, "v2", "", nullptr, false, 0, 0},
    {"batch", kV2Host, "v2", "", nullptr, true, 0, 0},
    {"verified", kV2Host, "v2", "verify=on", nullptr, false, 0, 0},
    {"said at debug level", kV2Host, "v2", "log-level=debug", nullptr, false, 0, 0},
    {"no PMU", kV2Host, "core,vendor=intel", "", nullptr, false, 0, 0},
    {"vPMU off", kV2Host, "v2", "pmu-cap-disabled=on", nullptr, false, 0, 0},
    {"absent registers", "sim:linux-6.1", "v2", "verify=on", nullptr, false, 0, 0},
    {"vPMU off by the host", "sim:linux-6.12,enable_pmu=N", "core", "log-level=info", nullptr,
     false, 0, 0},
    {"refused register", kV2Host, "v2", "", refuse_write_of_c0010204, false, 0, -EIO},
    {"absent register", kV2Host, "v2", "", refuse_c0010204, false, 0, 0},
    {"all registers absent", kV2Host, "v2", "log-level=info", refuse_all, false, 0, 0},
    {"failing ioctl", kV2Host, "v2", "", fail, false, 0, -EBADF},
    {"interrupted for ever", kV2Host, "v2", "", interrupt_always, false, 0, -EINTR},
    {"failing read-back", kV2Host, "v2", "verify=on", fail_reads, false, 0, -EIO},
    {"swallowed writes", kV2Host, "v2", "verify=on", swallow, false, 0, -EIO},
    {"impossible count", kV2Host, "v2", "", say_too_much, false, 0, -EPROTO},
    {"no such vCPU", kV2Host, "v2", "", nullptr, false, 9, -EINVAL},
};

/// A VM in which a path is about to be walked.
struct Scene {
  explicit Scene(const Path& the_path)
      : path(the_path),
        host({.kvm = path.kvm, .cpuid = path.cpuid, .record = false}),
        plugin(make_plugin(host, path.options)),
        vm(host, *plugin, 2),
        batch(64) {
    vm.dirty(0);
    if (path.answer != nullptr) host.vcpu_answer = path.answer;
    host.keep_log = false;
  }
  int32_t walk() {
    return vm.hooks().vcpu_reset(path.index, vm.handle(0), path.batch ? batch.sink() : nullptr);
  }
  const Path& path;
  PluginHost host;
  std::unique_ptr<host_kit::PluginInstance> plugin;
  Machine vm;
  host_kit::MsrBatch batch;
};

// ---- the sandbox -------------------------------------------------------------------------------

/// From now on any system call of this process but write and exit kills it.
bool enter_sandbox() {
  const auto load = [](std::size_t offset) {
    return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
  };
  const auto if_equal = [](uint32_t value, uint8_t then, uint8_t otherwise) {
    return sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise);
  };
  std::array filter{
      load(offsetof(seccomp_data, nr)),
      if_equal(SYS_write, 2, 0),
      if_equal(SYS_exit_group, 1, 0),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

constexpr int kExitGood = 0, kExitWrongResult = 3, kExitNoSandbox = 4;

/// What became of a child that does `body`: its exit status, or minus the signal.
template <typename Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) syscall(SYS_exit_group, body() ? kExitGood : kExitWrongResult);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return kExitNoSandbox;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/// The same in the sandbox.
template <typename Body>
int in_sandbox(Body body) {
  return in_child([&] {
    if (!enter_sandbox()) syscall(SYS_exit_group, kExitNoSandbox);
    return body();
  });
}

int32_t take_all(void*, vmm_vcpu_handle, uint32_t, void* arg) { return msr_count(arg); }
int32_t take_all_but_c0010204(void*, vmm_vcpu_handle, uint32_t request, void* arg) {
  return refuse_c0010204(request, arg).value_or(msr_count(arg));
}

/// From now on a write to the page of `address` or the one behind it kills this process.
void lock_memory_around(void* address) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address) & ~(page - 1);
  if (mprotect(reinterpret_cast<void*>(begin), 2 * page, PROT_READ) != 0) _exit(kExitNoSandbox);
  signal(SIGSEGV, SIG_DFL);  // Boost.Test's handler would go on
}

}  // namespace

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_reset_allocates_nothing_and_takes_no_lock) {
  for (const Path& path : kPaths) {
    BOOST_TEST_CONTEXT(path.name) {
      Scene scene(path);
      for (int round = 0; round < 3; ++round) {
        counters = {.armed = true};
        const int32_t result = scene.walk();
        counters.armed = false;
        BOOST_TEST(result == path.result);
        BOOST_TEST(counters.allocations == 0u);
        BOOST_TEST(counters.frees == 0u);
        BOOST_TEST(counters.locks == 0u);
      }
    }
  }
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(the_counters_see_allocations_and_locks_of_the_plugins_own) {
  PluginHost host{HostSpec{}};
  counters = {.armed = true};
  const auto plugin = make_plugin(host, "strict=on");
  counters.armed = false;
  BOOST_TEST(counters.allocations > 10u);
  counters = {.armed = true};
  host.log(VMM_LOG_ERROR, "", "");
  counters.armed = false;
  BOOST_TEST(counters.locks == 1u);
  // and those behind the plugin's boundary, without host_kit in between
  RawHost raw;
  void* instance = nullptr;
  counters = {.armed = true};
  const int32_t created = plugin_descriptor().create(&raw.table, nullptr, &instance, nullptr);
  counters.armed = false;
  BOOST_REQUIRE(created == 0);
  BOOST_TEST(counters.allocations >= 1u);
  plugin_descriptor().destroy(instance);
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(wherever_memory_runs_out_the_plugin_says_so_and_leaves_nothing) {
  const vmm_plugin& descriptor = plugin_descriptor();
  RawHost host;
  const vmm_vm vm{sizeof(vmm_vm), 64, reinterpret_cast<vmm_vm_handle>(&host)};
  /// With only the first `left` allocations; what the call returned.
  const auto starved = [](unsigned left, auto call) {
    counters = {.armed = true, .left = left};
    const int32_t result = call();
    counters.armed = false;
    return result;
  };
  for (const char* options : {"", "verify=on,strict=yes,log-level=debug", "verify=wrong", "nothing",
                              "verify=on,verify=on"}) {
    unsigned failures = 0;
    for (int32_t result = -ENOMEM; result == -ENOMEM; ++failures) {
      ErrorText out;
      void* instance = nullptr;
      result = starved(
          failures, [&] { return descriptor.create(&host.table, options, &instance, &out.error); });
      BOOST_TEST((result == -ENOMEM ? says(out.text, "memory") : result == 0 || result == -EINVAL));
      BOOST_TEST((instance != nullptr) == (result == 0));
      // Boost.Program_options takes an option's value as a bare pointer: one such may stay behind
      if (result != 0)
        BOOST_TEST(std::min(counters.allocations, counters.left) - counters.frees <= 1u);
      if (instance != nullptr) descriptor.destroy(instance);
    }
    BOOST_TEST(failures > 1u);
  }
  void* instance = nullptr;
  BOOST_REQUIRE(descriptor.create(&host.table, "", &instance, nullptr) == 0);
  unsigned failures = 0;
  for (int32_t result = -ENOMEM; result == -ENOMEM; ++failures) {
    ErrorText out;
    void* vm_ctx = nullptr;
    result = starved(failures,
                     [&] { return host.hooks.vm_created(host.ctx, &vm, &vm_ctx, &out.error); });
    BOOST_TEST((result == -ENOMEM ? says(out.text, "memory") : result == 0));
    BOOST_TEST((vm_ctx != nullptr) == (result == 0));
    if (result != 0) BOOST_TEST(counters.frees == std::min(counters.allocations, counters.left));
    host.hooks.vm_destroyed(host.ctx, vm_ctx);
  }
  BOOST_TEST(failures == 3u);  // the VM, and its byte a vCPU; then it worked
  descriptor.destroy(instance);
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(an_instance_that_the_host_refuses_is_freed_whole) {
  const vmm_plugin& descriptor = plugin_descriptor();
  RawHost host;
  for (const int32_t answer : {0, -EPERM, 1}) {
    host.answer = answer;
    ErrorText out;
    void* instance = nullptr;
    counters = {.armed = true};
    const int32_t result = descriptor.create(&host.table, "", &instance, &out.error);
    if (result == 0) descriptor.destroy(instance);
    counters.armed = false;
    BOOST_TEST((result == 0) == (answer == 0));
    BOOST_TEST(counters.allocations > 0u);
    BOOST_TEST(counters.frees == counters.allocations);
  }
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_reset_makes_no_system_call) {
  for (const Path& path : kPaths) {
    BOOST_TEST_CONTEXT(path.name) {
      Scene scene(path);
      const int end = in_sandbox([&] { return scene.walk() == path.result; });
      BOOST_REQUIRE(end != kExitNoSandbox);
      BOOST_TEST(end == kExitGood);
    }
  }
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(a_reset_writes_nothing_that_vcpus_share) {
  // one cache line written at each reset is enough to make vCPUs wait for each other
  for (auto* const vcpu_ioctl : {take_all, take_all_but_c0010204}) {
    RawHost host;
    host.table.vcpu_ioctl = vcpu_ioctl;
    void* instance = nullptr;
    BOOST_REQUIRE(plugin_descriptor().create(&host.table, "", &instance, nullptr) == 0);
    const auto handle = reinterpret_cast<vmm_vcpu_handle>(&host);
    const vmm_vm vm{sizeof(vmm_vm), 2, reinterpret_cast<vmm_vm_handle>(&host)};
    const vmm_vcpu vcpu{sizeof(vmm_vcpu), 0, 0, 0, handle, nullptr};
    void* vm_ctx = nullptr;
    BOOST_REQUIRE(host.hooks.vm_created(host.ctx, &vm, &vm_ctx, nullptr) == 0);
    const auto reset = [&] { return host.hooks.vcpu_reset(host.ctx, vm_ctx, &vcpu); };
    BOOST_TEST(reset() == 0);  // learns what there is to learn
    const int end = in_child([&] {
      lock_memory_around(vm_ctx);
      return reset() == 0;
    });
    BOOST_TEST(end == kExitGood);
    BOOST_TEST(in_child([&] {
                 lock_memory_around(vm_ctx);
                 *static_cast<volatile char*>(vm_ctx) = 0;
                 return true;
               }) == -SIGSEGV);
    host.hooks.vm_destroyed(host.ctx, vm_ctx);
    plugin_descriptor().destroy(instance);
  }
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(the_sandbox_kills_at_a_system_call) {
  BOOST_TEST(in_sandbox([] { return syscall(SYS_getppid) > 0; }) == -SIGSYS);
  BOOST_TEST(in_sandbox([] { return true; }) == kExitGood);
  BOOST_TEST(in_sandbox([] { return false; }) == kExitWrongResult);
}
