// SPDX-License-Identifier: MIT
//
// Hooks, their handles, VMs and threads: VMM-20, 22, 23, 25, 29, 30, 36, 37, 43, 62, 76.
#include <dirent.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check/plugin/checks.hpp"
#include "check/plugin/import_traps.hpp"
#include "kvm/ioctl_names.hpp"
#include "kvm/msr_request.hpp"

namespace host_stub::validate {
namespace {

using Answer = std::optional<int32_t>;

bool operator==(const vmm_msr& a, const vmm_msr& b) {
  return a.index == b.index && a.flags == b.flags && a.value == b.value;
}
bool same(const std::vector<vmm_msr>& a, const std::vector<vmm_msr>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(),
                    [](const vmm_msr& x, const vmm_msr& y) { return x == y; });
}

/// The open descriptors, "5 -> /dev/null".
std::set<std::string> descriptors() {
  std::set<std::string> all;
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return all;
  const std::string own = std::to_string(dirfd(directory));
  while (const dirent* entry = readdir(directory)) {
    char target[PATH_MAX] = "";
    const std::string path = std::string("/proc/self/fd/") + entry->d_name;
    const ssize_t length = readlink(path.c_str(), target, sizeof target - 1);
    if (length <= 0 || entry->d_name == own) continue;
    all.insert(fmt::format("{} -> {}", entry->d_name,
                           std::string_view(target, static_cast<std::size_t>(length))));
  }
  closedir(directory);
  return all;
}

void reaches_kvm_by_the_host_alone(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 20, Scene::simulated);  // has no descriptors of its own
  const std::set<std::string> before = descriptors();
  const auto compare = [&](const char* when) {
    const std::set<std::string> now = descriptors();
    for (const std::string& open : now)
      if (!before.contains(open)) findings.fail(20, "after {} there is descriptor {}", when, open);
    for (const std::string& closed : before)
      if (!now.contains(closed))
        findings.fail(63, "after {} the host's descriptor {} is closed", when, closed);
  };
  const auto life = scene.live();
  if (life == nullptr) return;
  compare(kCreate);
  for (int round = 0; round < 2; ++round) {
    const auto vm = scene.vm(*life);
    if (vm == nullptr) return;
    compare(kVmCreated);
    // each call has a new handle, and the host notes the use of an old one
    for (const uint32_t index : {0U, 1U, 0U})
      if (life->has(kVcpuReset)) life->reset(*vm, index);
    if (life->has(kMsrListBuild)) {
      ProbeSink& sink = ProbeSink::lend(findings, ProbeSink::list);
      life->msr_list(*vm, sink);
    }
    compare("the hooks");
    life->end_vm(*vm);
  }
  life->destroy();
  compare(kDestroy);
}

/// Interrupts the first calls of each ioctl, and expects the same one next on the same thread.
class Interrupter {
 public:
  explicit Interrupter(Findings& findings) : findings_(findings) {}

  Answer operator()(const Ioctl& call) {
    if (pending_ && (call.request != pending_->request || call.on_vcpu != pending_->on_vcpu))
      not_repeated();
    pending_.reset();
    const auto key = std::make_pair(call.on_vcpu, call.request);
    if (interrupted_[key]++ >= kTimes) return std::nullopt;
    pending_ = call;
    return -EINTR;
  }
  /// The hook came back: nothing may be left to repeat.
  void hook_ended(const char* hook, int32_t result) {
    if (pending_) not_repeated();
    if (result != 0 && !interrupted_.empty())
      findings_.fail(22, "{} failed with {} where its ioctls were interrupted", hook, result);
    pending_.reset();
    count_ += interrupted_.size();
    interrupted_.clear();
  }
  std::size_t count() const { return count_; }

 private:
  static constexpr int kTimes = 3;

  void not_repeated() {
    findings_.fail(22, "{} that was interrupted was not repeated", ioctl_name(pending_->request));
  }

  Findings& findings_;
  std::map<std::pair<bool, uint32_t>, int> interrupted_;
  std::optional<Ioctl> pending_;
  std::size_t count_ = 0;
};

void repeats_interrupted_ioctls(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 22);
  const auto life = scene.live();
  if (life == nullptr) return;
  const auto quiet = scene.vm(*life);  // whether it works without
  if (quiet == nullptr) return;
  const bool resets = life->has(kVcpuReset) && life->reset(*quiet, 0) == 0;
  life->end_vm(*quiet);
  Interrupter interrupter(findings);
  life->host.script = std::ref(interrupter);
  int32_t created = 0;
  const auto vm = life->make_vm(2, &created);
  interrupter.hook_ended(kVmCreated, created);
  if (created == 0 && resets)
    for (const uint32_t index : {0U, 1U})
      interrupter.hook_ended(kVcpuReset, life->reset(*vm, index));
  if (created == 0) life->end_vm(*vm);
  life->destroy();
  if (interrupter.count() == 0) findings.not_applicable(22, "it made no ioctl");
}

void log_lines_are_finished(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 23);
  if (!scene.load()) return;
  uint32_t lines = 0;
  const IoctlScript scripts[] = {
      nullptr,
      [](const Ioctl& call) { return call.on_vcpu ? Answer(-EIO) : std::nullopt; },
      [](const Ioctl& call) { return call.on_vcpu ? Answer(0) : std::nullopt; },
      [](const Ioctl& call) { return call.on_vcpu ? std::nullopt : Answer(-EIO); },
      [](const Ioctl& call) { return call.on_vcpu ? std::nullopt : Answer(0); },
  };
  for (const IoctlScript& script : scripts) {
    const auto life = scene.live();
    if (life == nullptr) return;
    life->host.script = script;
    int32_t created = 0;
    const auto vm = life->make_vm(2, &created);
    if (vm != nullptr && created == 0) {
      life->reset_and_list(*vm, -ENOSPC);
      life->end_vm(*vm);
    }
    life->destroy();
    lines += life->host.log_lines;
  }
  ProbeHost host(findings, nullptr);
  ErrorText error;
  void* ctx = nullptr;
  scene.plugin.create(host, host.lend(), "no-such-option-anywhere=1", &ctx, &error);
  lines += host.log_lines;
  if (lines == 0)
    findings.not_applicable(23, "it logged nothing");
  else
    findings.pass(23, "log lines seen: {}", lines);
}

void does_without_the_guests_cpuid(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 25);
  int32_t results[2] = {};
  uint32_t asked = 0;
  for (const bool known : {true, false}) {
    const auto life = scene.live();
    if (life == nullptr) return;
    life->host.knows_cpuid = known;
    int32_t result = 0;
    const auto vm = life->make_vm(1, &result);
    if (vm == nullptr) return findings.not_applicable(25, "KVM_CREATE_VM failed");
    if (result == 0) {
      result = life->reset_and_list(*vm);
      life->end_vm(*vm);
    }
    life->destroy();
    asked += life->host.cpuid_calls;
    results[known ? 0 : 1] = result;
  }
  if (asked == 0) return findings.not_applicable(25, "it does not call get_cpuid");
  if (results[0] == 0 && results[1] != 0)
    findings.fail(25, "a hook failed with {} where get_cpuid gave -ENOENT", results[1]);
}

void each_vm_is_its_own(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 29);
  const auto life = scene.live();
  if (life == nullptr) return;
  const auto small = scene.vm(*life, 1);
  if (small == nullptr || !scene.works(*life, *small)) return;
  const auto large = scene.vm(*life, 6);
  if (large == nullptr) return;
  const auto drive = [&](Machine& vm, const char* when) {
    for (uint32_t index = 0; index < vm.max_vcpus && life->has(kVcpuReset); ++index)
      if (const int32_t result = life->reset(vm, index); result != 0)
        findings.fail(29, "vcpu_reset of vCPU {} of {} failed with {} {}", index, vm.max_vcpus,
                      result, when);
    if (!life->has(kMsrListBuild)) return;
    ProbeSink& sink = ProbeSink::lend(findings, ProbeSink::list);
    if (const int32_t result = life->msr_list(vm, sink); result != 0)
      findings.fail(29, "msr_list_build failed with {} {}", result, when);
  };
  drive(*large, "beside a smaller VM");
  drive(*small, "beside a larger VM");
  life->end_vm(*small);
  drive(*large, "after another VM was destroyed");
  const auto third = scene.vm(*life, 2);
  if (third == nullptr) return;
  life->end_vm(*large);
  drive(*third, "after another VM was destroyed");
  life->end_vm(*third);
  life->destroy();
}

void refused_vm_has_no_context(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 30);
  const auto life = scene.live(kVmCreated);
  if (life == nullptr) return;
  int failures = 0;
  const auto try_once = [&] {  // make_vm notes a context of a VM that was refused
    int32_t result = 0;
    const auto vm = life->make_vm(4, &result);
    if (vm == nullptr) return false;
    if (result == 0)
      life->end_vm(*vm);
    else
      ++failures;
    return result != 0;
  };
  for (const int32_t code : {-EIO, -EBADF, -EINVAL}) {
    life->host.script = [code](const Ioctl&) { return Answer(code); };
    try_once();
  }
  life->host.script = nullptr;
  constexpr uint32_t kMostAllocations = 64;
  for (uint32_t left = 0; left < kMostAllocations; ++left) {
    starve_imports(reinterpret_cast<const void*>(scene.plugin.entry()), left);
    try_once();
    if (feed_imports() == 0) break;
  }
  if (failures == 0)
    findings.not_applicable(30, "vm_created fails neither by ioctl errors nor by lack of memory");
}

void lists_are_the_same_each_time(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 36);
  const auto life = scene.live(kMsrListBuild);
  if (life == nullptr) return;
  const auto vm = scene.vm(*life);
  if (vm == nullptr) return;
  if (!scene.works(*life, *vm)) return;
  std::optional<std::vector<vmm_msr>> first;
  const auto compare = [&](const char* when) {
    ProbeSink& sink = ProbeSink::lend(findings, ProbeSink::list);
    const int32_t result = life->msr_list(*vm, sink);
    if (result != 0)
      return findings.fail(36, "msr_list_build failed with {} {}: {}", result, when,
                           life->hook_text);
    if (!first) first = sink.entries;
    if (!same(*first, sink.entries))
      findings.fail(36, "the list has {} entries at first, and differs {} with {}", first->size(),
                    when, sink.entries.size());
  };
  compare("at first");
  compare("when repeated");
  if (life->has(kVcpuReset)) life->reset(*vm, 1);
  compare("after another reset");
  std::thread([&] { compare("on another thread"); }).join();
  life->end_vm(*vm);
  life->destroy();
}

// ---- threads

void no_thread_is_special(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 37);
  std::unique_ptr<Life> life;
  std::unique_ptr<Machine> vm;
  std::thread([&] { life = scene.live(); }).join();
  if (life == nullptr) return;
  std::thread([&] { vm = scene.vm(*life); }).join();
  if (vm == nullptr || !scene.works(*life, *vm)) return;
  for (uint32_t round = 0; round < 4 && life->has(kVcpuReset); ++round)
    std::thread([&] {
      const int32_t result = life->reset(*vm, round % 2);
      if (result != 0) findings.fail(37, "vcpu_reset on a new thread failed with {}", result);
    }).join();
  std::thread([&] { life->end_vm(*vm); }).join();
  std::thread([&] { life->destroy(); }).join();
}

/// What one vCPU's reset adds to a batch.
std::vector<vmm_msr> batch_of(Life& life, Machine& vm, uint32_t index) {
  ProbeSink& sink = ProbeSink::lend(life.findings(), ProbeSink::batch);
  life.reset(vm, index, &sink);
  return sink.entries;
}

void vcpus_are_reset_in_parallel(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 37);
  const auto life = scene.live();
  if (life == nullptr) return;
  constexpr uint32_t kVcpus = 3;
  constexpr int kRounds = 25;
  const std::unique_ptr<Machine> vms[] = {scene.vm(*life, kVcpus), scene.vm(*life, kVcpus)};
  if (vms[0] == nullptr || vms[1] == nullptr) return;
  if (!life->has(kVcpuReset)) return findings.not_applicable(37, "it has no vcpu_reset");
  // what each adds when nothing else runs
  std::vector<vmm_msr> alone;
  for (const auto& vm : vms)
    for (uint32_t index = 0; index < kVcpus; ++index) {
      if (const int32_t result = life->reset(*vm, index); result != 0)
        return findings.not_applicable(37, "vcpu_reset failed with {}", result);
      alone = batch_of(*life, *vm, index);
    }
  // a thread that waits in its ioctl lets the others in
  life->host.script = [](const Ioctl&) {
    usleep(20);
    return Answer();
  };
  std::vector<std::thread> threads;
  for (const auto& vm : vms)
    for (uint32_t index = 0; index < kVcpus; ++index)
      threads.emplace_back([&, index] {
        for (int round = 0; round < kRounds; ++round) {
          if (const int32_t result = life->reset(*vm, index); result != 0)
            return findings.fail(37, "vcpu_reset failed with {} beside those of other vCPUs",
                                 result);
          if (!same(batch_of(*life, *vm, index), alone))
            return findings.fail(37, "a batch differs beside resets of other vCPUs");
        }
      });
  // and VMs that come and go meanwhile
  threads.emplace_back([&] {
    for (int round = 0; round < kRounds; ++round) {
      int32_t result = 0;
      const auto vm = life->make_vm(1, &result);
      if (vm == nullptr || result != 0)
        return findings.fail(37, "vm_created failed with {} beside hooks of other VMs", result);
      life->end_vm(*vm);
    }
  });
  for (std::thread& thread : threads) thread.join();
  for (const auto& vm : vms) life->end_vm(*vm);
  life->destroy();
}

// ---- results

void takes_impossible_results_for_errors(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 43);
  const auto life = scene.live();
  if (life == nullptr) return;
  const auto vm = scene.vm(*life);
  if (vm == nullptr) return;
  if (life->has(kMsrListBuild)) {
    ProbeSink& sink = ProbeSink::lend(findings, ProbeSink::list);
    sink.refusal = 7;
    const int32_t result = life->msr_list(*vm, sink);
    if (result == 0 && sink.adds != 0)
      findings.fail(43, "msr_list_build returned 0 where add gave 7");
  }
  if (life->has(kVcpuReset)) {
    bool wrote = false;
    life->host.script = [&](const Ioctl& call) {
      if (!call.on_vcpu || call.request != VMM_KVM_SET_MSRS) return Answer();
      wrote = true;
      return Answer(static_cast<int32_t>(msr_entries(call.arg).size()) + 85);
    };
    const int32_t result = life->reset(*vm, 0);
    if (result == 0 && wrote)
      findings.fail(43, "vcpu_reset returned 0 where KVM_SET_MSRS gave more than its entries");
  }
  life->host.script = [](const Ioctl&) { return Answer(-EIO); };
  if (life->has(kVcpuReset)) life->reset(*vm, 1);
  life->host.script = nullptr;
  life->end_vm(*vm);
  life->destroy();
}

/// Lives on the subject's KVM and on an older one, where there is more to deny; the host notes each
/// wrong call, and `counter` is its count of calls.
void calls_in_vm_created_alone(Findings& findings, const Subject& subject, unsigned rule,
                               const char* name, std::atomic<uint32_t> ProbeHost::*counter) {
  Subject older = subject;
  older.kvm = "sim:linux-5.10";
  uint32_t calls = 0;
  for (const Subject* which : {&subject, static_cast<const Subject*>(&older)}) {
    Scene scene(findings, *which, rule);
    const auto life = scene.live();
    if (life == nullptr) return;
    int32_t created = 0;
    const auto vm = life->make_vm(2, &created);
    if (vm != nullptr && created == 0) {
      life->reset_and_list(*vm);
      life->end_vm(*vm);
    }
    life->destroy();
    calls += (life->host.*counter).load();
  }
  if (calls == 0)
    findings.not_applicable(rule, "it did not call {}, here nor on {}", name, older.kvm);
}

void denies_in_vm_created_alone(Findings& findings, const Subject& subject) {
  calls_in_vm_created_alone(findings, subject, 62, "deny_msrs", &ProbeHost::deny_calls);
}
void hides_in_vm_created_alone(Findings& findings, const Subject& subject) {
  calls_in_vm_created_alone(findings, subject, 76, "hide_cpuid", &ProbeHost::hide_calls);
}

constexpr Check kChecks[] = {
    {20, reaches_kvm_by_the_host_alone},
    {22, repeats_interrupted_ioctls},
    {23, log_lines_are_finished},
    {25, does_without_the_guests_cpuid},
    {29, each_vm_is_its_own},
    {30, refused_vm_has_no_context},
    {36, lists_are_the_same_each_time},
    {37, no_thread_is_special},
    {37, vcpus_are_reset_in_parallel},
    {43, takes_impossible_results_for_errors},
    {62, denies_in_vm_created_alone},
    {76, hides_in_vm_created_alone},
};

}  // namespace

std::span<const Check> hook_checks() { return kChecks; }

}  // namespace host_stub::validate
