// SPDX-License-Identifier: MIT
//
// create and destroy: VMM-8, 9, 10, 13, 14, 15, 17, 18, 43, 44, 45.
#include <malloc.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "check/plugin/checks.hpp"
#include "sanitizers.hpp"

namespace host_stub::validate {
namespace {

constexpr const char* kUnknown = "no-such-option-anywhere=1";

/// What *ctx holds where create must leave it alone.
int sentinel;

struct Refusal {
  const vmm_host* table;
  const char* options;
  int32_t code;  ///< that create must return
};

/// A create that must fail: with this code, a text, and *ctx as it was. Whether it failed at all.
bool refuses(Scene& scene, ProbeHost& host, const Refusal& wanted, unsigned rule,
             const std::string& what) {
  ErrorText error;
  void* ctx = &sentinel;
  const int32_t result = scene.plugin.create(host, wanted.table, wanted.options, &ctx, &error);
  if (result != wanted.code)
    scene.findings.fail(rule, "create returned {}, not {}: {}", result, wanted.code, what);
  else if (error.text().empty())
    scene.findings.fail(rule, "create failed without a text: {}", what);
  if (result != 0 && ctx != &sentinel)
    scene.findings.fail(13, "a create that failed set *ctx: {}", what);
  return result != 0;
}

void refuses_bad_tables(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 8);
  if (!scene.load()) return;
  const char* options = subject.options.c_str();
  const auto check = [&](auto edit, std::size_t size, const std::string& what) {
    ProbeHost host(findings, scene.kvm.get());
    edit(host.table);
    refuses(scene, host, {host.lend(size), options, -EINVAL}, 8, what);
    if (host.registrations != 0) findings.fail(8, "hooks were registered: {}", what);
  };
  for (uint32_t size = sizeof(uint32_t); size < ProbeHost::kLeastSize; size += 4)
    check([](vmm_host&) {}, size, fmt::format("a host table of {} bytes", size));
  for (const uint32_t major : {VMM_PLUGIN_ABI_MAJOR + 1, 0U})
    check([&](vmm_host& table) { table.abi_major = major; }, ProbeHost::kFullSize,
          fmt::format("a host of ABI major {}", major));
  check([](vmm_host& table) { table.name = nullptr; }, ProbeHost::kFullSize, "no name");
  check([](vmm_host& table) { table.register_hooks = nullptr; }, ProbeHost::kFullSize,
        "no register_hooks");
  check([](vmm_host& table) { table.vm_ioctl = nullptr; }, ProbeHost::kFullSize, "no vm_ioctl");
  check([](vmm_host& table) { table.vcpu_ioctl = nullptr; }, ProbeHost::kFullSize, "no vcpu_ioctl");
  check([](vmm_host& table) { table.log = nullptr; }, ProbeHost::kFullSize, "no log");
}

/// A whole life with this table. False: create failed.
bool lives_with(Scene& scene, Life& life, const vmm_host* table, unsigned rule,
                const std::string& what) {
  ErrorText error;
  void* ctx = nullptr;
  const int32_t result =
      scene.plugin.create(life.host, table, scene.subject.options.c_str(), &ctx, &error);
  if (result != 0) {
    scene.findings.fail(rule, "create failed with {}: {} ({})", result, what, error.text());
    return false;
  }
  int32_t hook = 0;
  const auto vm = life.make_vm(1, &hook);
  if (vm != nullptr && hook == 0) {
    life.reset_and_list(*vm);
    life.end_vm(*vm);
  }
  scene.plugin.destroy(life.host, ctx);
  return true;
}

void does_without_optional_callbacks(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 9);
  if (!scene.load()) return;
  const auto whole = scene.live();
  if (whole == nullptr) return;
  whole->destroy();
  for (unsigned missing = 0; missing < 32; ++missing) {
    Life life(findings, scene.plugin, scene.kvm.get());
    if ((missing & 1) != 0) life.host.table.get_cpuid = nullptr;
    if ((missing & 2) != 0) life.host.table.deny_msrs = nullptr;
    if ((missing & 4) != 0) life.host.table.get_extension = nullptr;
    if ((missing & 8) != 0) life.host.table.hide_cpuid = nullptr;
    if ((missing & 16) != 0) life.host.table.get_supported_cpuid = nullptr;
    lives_with(scene, life, life.host.lend(), 9,
               fmt::format("of get_cpuid, deny_msrs, get_extension, hide_cpuid and "
                           "get_supported_cpuid those are NULL: {}{}{}{}{}",
                           missing & 1, (missing >> 1) & 1, (missing >> 2) & 1, (missing >> 3) & 1,
                           (missing >> 4) & 1));
  }
  for (std::size_t size = ProbeHost::kLeastSize; size < ProbeHost::kFullSize;
       size += sizeof(void*)) {
    Life life(findings, scene.plugin, scene.kvm.get());
    lives_with(scene, life, life.host.lend(size), 9, fmt::format("a host table of {} bytes", size));
  }
}

void registers_once(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 10);
  if (!scene.load()) return;
  Life life(findings, scene.plugin, scene.kvm.get());
  const int32_t result = life.create(subject.options.c_str());
  if (result != 0) return findings.fail(10, "create failed with {}: {}", result, life.create_text);
  if (life.host.register_calls != 1)
    return findings.fail(10, "register_hooks was called {} times in a successful create",
                         life.host.register_calls.load());
  // elsewhere the host notes it
  if (const auto vm = scene.vm(life)) {
    life.reset_and_list(*vm);
    life.end_vm(*vm);
  }
  life.destroy();
}

std::size_t bytes_in_use() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

void failed_create_leaves_nothing(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 13);
  if (!scene.load()) return;
  const auto works = scene.live();
  if (works == nullptr) return;
  works->destroy();
  bool all_failed = true;
  const auto fail_with = [&](ProbeHost& host, const char* options) {
    ErrorText error;
    void* ctx = &sentinel;
    const int32_t result = scene.plugin.create(host, host.lend(), options, &ctx, &error);
    if (result != 0 && ctx != &sentinel) findings.fail(13, "a create that failed set *ctx");
    all_failed &= result != 0;
  };
  const auto fail_twice = [&] {
    ProbeHost host(findings, nullptr);
    fail_with(host, kUnknown);
    ProbeHost refusing(findings, nullptr);
    refusing.register_result = -ENOSPC;
    fail_with(refusing, subject.options.c_str());
  };
  constexpr int kWarmUp = 8, kRounds = 256;
  for (int i = 0; i < kWarmUp; ++i) fail_twice();
  const std::size_t before = bytes_in_use();
  for (int i = 0; i < kRounds; ++i) fail_twice();
  const std::size_t after = bytes_in_use();
  // less than malloc's smallest piece a round is not the plugin's
  constexpr std::size_t kLeastLeak = 16;
  if (!kSanitized && all_failed && after >= before + kRounds * kLeastLeak)
    findings.fail(13, "{} bytes stay behind each two creates that failed",
                  (after - before) / kRounds);
  // and nothing in the way
  Life life(findings, scene.plugin, scene.kvm.get());
  const int32_t result = life.create(subject.options.c_str());
  if (result != 0)
    return findings.fail(13, "create failed with {} after creates that failed: {}", result,
                         life.create_text);
  life.destroy();
}

void passes_on_why_registering_failed(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 14);
  if (!scene.load()) return;
  for (const int32_t code : {-ENOSPC, -EALREADY, -EINVAL, -ENOMEM}) {
    ProbeHost host(findings, scene.kvm.get());
    host.register_result = code;
    refuses(scene, host, {host.lend(), subject.options.c_str(), code}, 14,
            fmt::format("register_hooks gave {}", code));
  }
}

void takes_positive_results_for_eproto(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 43);
  if (!scene.load()) return;
  ProbeHost host(findings, scene.kvm.get());
  host.register_result = 5;
  ErrorText error;
  void* ctx = &sentinel;
  if (scene.plugin.create(host, host.lend(), subject.options.c_str(), &ctx, &error) == 0)
    findings.fail(43, "create returned 0 where register_hooks gave 5");
}

void options_are_as_agreed(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 15);
  if (!scene.load()) return;
  for (const char* options : {kUnknown, "no-such-option-anywhere", "no-such-option-anywhere=a,,b",
                              "no-such-option-anywhere=1,and-no-such=2"}) {
    ProbeHost host(findings, scene.kvm.get());
    refuses(scene, host, {host.lend(), options, -EINVAL}, 15, options);
    if (host.registrations != 0) findings.fail(15, "hooks were registered: {}", options);
  }
  if (!subject.options.empty()) {
    const std::string both = subject.options + "," + kUnknown;
    ProbeHost host(findings, scene.kvm.get());
    refuses(scene, host, {host.lend(), both.c_str(), -EINVAL}, 15, both);
  }
  // NULL and "" mean none, so both are taken or both are refused
  int32_t results[2] = {};
  for (int i = 0; i < 2; ++i) {
    ProbeHost host(findings, scene.kvm.get());
    void* ctx = nullptr;
    results[i] = scene.plugin.create(host, host.lend(), i == 0 ? nullptr : "", &ctx, nullptr);
    if (results[i] == 0) scene.plugin.destroy(host, ctx);
  }
  if (results[0] != results[1])
    findings.fail(15, "create returned {} for NULL and {} for \"\"", results[0], results[1]);
}

void instances_share_nothing(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 17);
  const auto first = scene.live();
  if (first == nullptr) return;
  const auto second = scene.live();
  if (second == nullptr) return findings.fail(17, "create failed while there was another instance");
  const auto vm_of_first = scene.vm(*first), vm_of_second = scene.vm(*second);
  if (vm_of_first == nullptr || vm_of_second == nullptr) return;
  for (int round = 0; round < 2; ++round) {
    // each in turn; the hosts note whose callbacks are called
    first->reset_and_list(*vm_of_first);
    second->reset_and_list(*vm_of_second);
  }
  second->end_vm(*vm_of_second);
  second->destroy();
  first->reset_and_list(*vm_of_first);
  first->end_vm(*vm_of_first);
  first->destroy();
  // and made and ended at once
  constexpr int kThreads = 3;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 10; ++round) {
        Life life(findings, scene.plugin, scene.kvm.get());
        if (const int32_t result = life.create(subject.options.c_str()); result != 0)
          return findings.fail(17, "create failed with {} while others were made: {}", result,
                               life.create_text);
        life.destroy();
      }
    });
  for (std::thread& thread : threads) thread.join();
}

void destroy_is_the_end(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 18);
  const auto life = scene.live();
  if (life == nullptr) return;
  if (const auto vm = scene.vm(*life)) {
    if (life->has(kVcpuReset)) life->reset(*vm, 0);
    life->end_vm(*vm);
  }
  life->destroy();  // closes the host's table too
  scene.plugin.unload();
  usleep(2000);  // for whoever is still at it
}

void takes_no_error_buffer(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 44);
  if (!scene.load()) return;
  ProbeHost host(findings, nullptr);
  void* ctx = &sentinel;
  ErrorText error;
  const int32_t with = scene.plugin.create(host, host.lend(), kUnknown, &ctx, &error);
  ProbeHost other(findings, nullptr);
  const int32_t without = scene.plugin.create(other, other.lend(), kUnknown, &ctx, nullptr);
  if (with != without)
    findings.fail(44, "create returned {} with an error buffer, {} without", with, without);
  ProbeHost refusing(findings, nullptr);
  refusing.register_result = -ENOSPC;
  scene.plugin.create(refusing, refusing.lend(), subject.options.c_str(), &ctx, nullptr);
  const auto life = scene.live();
  if (life == nullptr) return;
  const auto vm = scene.vm(*life);
  if (vm == nullptr) return;
  if (life->has(kMsrListBuild)) {
    ProbeSink& full = ProbeSink::lend(findings, ProbeSink::list);
    full.refusal = -ENOSPC;
    life->msr_list(*vm, full, false);
  }
  life->end_vm(*vm);
  for (const int32_t code : {-EIO, -EINVAL}) {
    life->host.script = [code](const Ioctl&) { return std::optional(code); };
    int32_t created = 0;
    const auto failing = life->make_vm(1, &created, false);
    if (failing != nullptr && created == 0) life->end_vm(*failing);
  }
  life->destroy();
}

void error_texts_stay_in_their_buffers(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 45);
  if (!scene.load()) return;
  // characters of 2, 3 and 4 bytes, for plugins that quote what they refuse
  const char* const unknown[] = {kUnknown, "gr\xc3\xb6\xc3\x9f\x65\xe2\x82\xac\xf0\x9d\x84\x9e=1"};
  for (const char* options : unknown)
    for (uint32_t capacity = 1; capacity < 160; ++capacity) {
      ProbeHost host(findings, nullptr);
      ErrorText error(capacity);
      void* ctx = &sentinel;
      scene.plugin.create(host, host.lend(), options, &ctx, &error);
    }
  // the hooks' own: the notes are made in each call
  const auto life = scene.live();
  if (life == nullptr) return;
  const auto vm = scene.vm(*life);
  if (vm == nullptr) return;
  if (life->has(kMsrListBuild)) {
    ProbeSink& full = ProbeSink::lend(findings, ProbeSink::list);
    full.refusal = -ENOSPC;
    life->msr_list(*vm, full);
  }
  life->end_vm(*vm);
  life->host.script = [](const Ioctl&) { return std::optional<int32_t>(-EIO); };
  int32_t created = 0;
  const auto failing = life->make_vm(1, &created);
  if (failing != nullptr && created == 0) life->end_vm(*failing);
  life->destroy();
}

constexpr Check kChecks[] = {
    {10, registers_once},
    {8, refuses_bad_tables},
    {9, does_without_optional_callbacks},
    {13, failed_create_leaves_nothing},
    {14, passes_on_why_registering_failed},
    {15, options_are_as_agreed},
    {17, instances_share_nothing},
    {18, destroy_is_the_end},
    {43, takes_positive_results_for_eproto},
    {44, takes_no_error_buffer},
    {45, error_texts_stay_in_their_buffers},
};

}  // namespace

std::span<const Check> instance_checks() { return kChecks; }

}  // namespace host_stub::validate
