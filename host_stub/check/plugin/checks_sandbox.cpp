// SPDX-License-Identifier: MIT
//
// What a plugin's functions may do and leave behind: VMM-39, 40, 41, 42, 46.
#include <dirent.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>

#include "check/plugin/checks.hpp"
#include "check/plugin/import_traps.hpp"
#include "check/plugin/plugin_file.hpp"
#include "check/plugin/sandbox.hpp"
#include "kvm/ioctl_names.hpp"
#include "kvm/msr_request.hpp"

namespace host_stub::validate {
namespace {

using Answer = std::optional<int32_t>;

// ---- traces in the process

/// Threads, child processes, signal handlers and the calling thread's signal mask.
class Traces {
 public:
  Traces() {
    for (int number = 1; number < NSIG; ++number)
      sigaction(number, nullptr, &actions_[static_cast<std::size_t>(number)]);
    sigprocmask(SIG_SETMASK, nullptr, &mask_);
    if (DIR* tasks = opendir("/proc/self/task")) {
      while (const dirent* entry = readdir(tasks))
        if (entry->d_name[0] != '.') ++threads_;
      closedir(tasks);
    }
  }

  /// Notes what is there now and was not.
  void compare(Findings& findings, const char* when) const {
    const Traces now;
    if (now.threads_ > threads_)
      findings.fail(39, "{} threads more after {}", now.threads_ - threads_, when);
    if (waitpid(-1, nullptr, WNOHANG) == 0) findings.fail(39, "a child process after {}", when);
    for (int number = 1; number < NSIG; ++number) {
      const auto at = static_cast<std::size_t>(number);
      const char* name = sigabbrev_np(number);
      if (now.actions_[at].sa_handler != actions_[at].sa_handler)
        findings.fail(39, "another handler of signal {} after {}", name != nullptr ? name : "?",
                      when);
      if (sigismember(&now.mask_, number) != sigismember(&mask_, number))
        findings.fail(39, "signal {} is {} after {}", name != nullptr ? name : "?",
                      sigismember(&now.mask_, number) != 0 ? "blocked" : "unblocked", when);
    }
  }

 private:
  std::array<struct sigaction, NSIG> actions_{};
  sigset_t mask_{};
  int threads_ = 0;
};

void leaves_no_trace(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 39);
  if (const auto file = PluginFile::read(subject.plugin)) {
    if (file->does_import("__register_atfork"))
      findings.fail(39, "imports __register_atfork: it can install a fork handler");
    // the C++ library's function, and the C library's behind it, where the former is inside the
    // file
    for (const char* name : {"__cxa_thread_atexit", "__cxa_thread_atexit_impl"})
      if (file->does_import(name))
        findings.fail(39, "imports {}: it has thread-local objects with destructors", name);
  }
  const Traces before;
  const auto life = scene.live();
  if (life == nullptr) return;
  before.compare(findings, kCreate);
  if (const auto vm = scene.vm(*life)) {
    before.compare(findings, kVmCreated);
    if (life->has(kMsrListBuild)) {
      ProbeSink& sink = ProbeSink::lend(findings, ProbeSink::list);
      life->msr_list(*vm, sink);
      before.compare(findings, kMsrListBuild);
    }
    if (life->has(kVcpuReset)) life->reset(*vm, 0);
    before.compare(findings, kVcpuReset);
    life->end_vm(*vm);
  }
  life->destroy();
  before.compare(findings, kDestroy);
}

// ---- S1

void makes_no_new_resources(Findings& findings, const Subject& subject) {
  // on the main thread: an arena of another thread opens a file when it shrinks
  Scene scene(findings, subject, 40);
  const auto life = scene.live();
  if (life == nullptr) return;
  if (life->host.hooks.vm_created == nullptr && life->host.hooks.msr_list_build == nullptr)
    return findings.not_applicable(40, "it has neither vm_created nor msr_list_build");
  if (!enter_filter(kNoNewResources, findings, 40))
    return findings.not_applicable(40, "no system call filter here");
  const auto vm = scene.vm(*life);
  if (vm == nullptr) return;
  if (life->has(kMsrListBuild)) {
    ProbeSink& sink = ProbeSink::lend(findings, ProbeSink::list);
    life->msr_list(*vm, sink);
    ProbeSink& full = ProbeSink::lend(findings, ProbeSink::list);
    full.refusal = -ENOSPC;
    life->msr_list(*vm, full);
  }
  life->end_vm(*vm);
  // where it fails, too
  life->host.script = [](const Ioctl&) { return Answer(-EIO); };
  int32_t created = 0;
  const auto failing = life->make_vm(1, &created);
  if (failing != nullptr && created == 0) life->end_vm(*failing);
  life->destroy();
}

// ---- S2

/// How the host answers during one reset under watch.
struct Course {
  const char* name;
  bool batch;
  int32_t refusal;  ///< of the batch
  /// The result of an ioctl with so many entries, at its n-th call from 0.
  int32_t (*answer)(std::size_t entries, uint32_t call);
};

int32_t all(std::size_t entries, uint32_t) { return static_cast<int32_t>(entries); }
int32_t none(std::size_t, uint32_t) { return 0; }
int32_t broken(std::size_t, uint32_t) { return -EBADF; }
int32_t interrupted(std::size_t entries, uint32_t call) {
  return call < 3 ? -EINTR : static_cast<int32_t>(entries);
}
int32_t half_once(std::size_t entries, uint32_t call) {
  return static_cast<int32_t>(call == 0 ? entries / 2 : entries);
}

constexpr Course kCourses[] = {
    {"with a batch", true, 0, all},
    {"without a batch", false, 0, all},
    {"with a full batch", true, -ENOSPC, all},
    {"where ioctls are interrupted", false, 0, interrupted},
    {"where KVM stops half-way", false, 0, half_once},
    {"where KVM takes nothing", false, 0, none},
    {"where ioctls fail", false, 0, broken},
};

/// A scripted host and VM in which vcpu_reset can be called with nothing of ours in between: all
/// that it is given is made before.
class WatchedReset {
 public:
  explicit WatchedReset(Scene& scene) : scene_(scene) {}

  bool set_up(uint32_t vcpus) {
    life_ = scene_.live(kVcpuReset);
    if (life_ == nullptr) return false;
    // answers as set later: during vm_created everything is there and works
    life_->host.script = [this](const Ioctl& call) {
      const std::size_t entries = is_msr_request(call.request) ? msr_entries(call.arg).size() : 0;
      if (call.on_vcpu && real_filter != nullptr) {
        if (allows_ioctl(*real_filter, call.request))
          syscall(SYS_ioctl, -1, call.request, nullptr);
        else
          missing_request = call.request;
      }
      if (course_ == nullptr || !call.on_vcpu) return Answer();
      return Answer(course_->answer(entries, calls_++));
    };
    vm_ = scene_.vm(*life_, vcpus);
    return vm_ != nullptr;
  }
  /// Before the filter: handles and sinks for these courses and vCPUs.
  void prepare(const Course& course, uint32_t index, bool knows_cpuid = true) {
    const vmm_msr_sink* batch = nullptr;
    if (course.batch) {
      ProbeSink& sink = ProbeSink::lend(scene_.findings, ProbeSink::batch);
      sink.refusal = course.refusal;
      batch = sink.get();
    }
    const vmm_vcpu_handle handle = life_->host.vcpu_handle(*vm_, index);
    prepared_.push_back({&course, knows_cpuid, {sizeof(vmm_vcpu), index, 0, 0, handle, batch}, 0});
  }
  /// Behind the filter: all that was prepared, in order.
  void run() {
    for (Prepared& one : prepared_) {
      course_ = one.course;
      calls_ = 0;
      life_->host.knows_cpuid = one.knows_cpuid;
      const RunningCall call(scene_.findings, kVcpuReset, &life_->host, vm_.get(), one.vcpu.handle);
      try {
        one.result = life_->host.hooks.vcpu_reset(life_->host.hooks_ctx, vm_->ctx, &one.vcpu);
      } catch (...) {
        scene_.findings.fail(46, "an exception left vcpu_reset");
        one.result = -EIO;
      }
    }
  }
  /// Results in the order of preparing.
  std::vector<int32_t> results() const {
    std::vector<int32_t> all_results;
    for (const Prepared& one : prepared_) all_results.push_back(one.result);
    return all_results;
  }
  ProbeHost& host() { return life_->host; }

  /// If set, each ioctl that it lets through is made for real too, on no descriptor.
  const CallFilter* real_filter = nullptr;
  uint32_t missing_request = 0;  ///< one that it does not

 private:
  struct Prepared {
    const Course* course;
    bool knows_cpuid;
    vmm_vcpu vcpu;
    int32_t result;
  };

  Scene& scene_;
  std::unique_ptr<Life> life_;
  std::unique_ptr<Machine> vm_;
  std::vector<Prepared> prepared_;
  const Course* course_ = nullptr;
  uint32_t calls_ = 0;
};

void reset_only_touches_memory(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 41, Scene::scripted);
  WatchedReset watched(scene);
  if (!watched.set_up(4)) return;
  for (const Course& course : kCourses) watched.prepare(course, 0);
  for (const Course& course : kCourses) watched.prepare(course, 1, false);
  const int traps = trap_imports(reinterpret_cast<const void*>(scene.plugin.entry()), TrapKind::all,
                                 findings, 41);
  if (!on_filtered_thread(kNoCalls, findings, 41, [&] { watched.run(); }))
    return findings.not_applicable(41, "no system call filter here");
  if (traps < 0) findings.not_applicable(41, "its imports cannot be watched");
}

/// In the filters of real vCPU threads, with each ioctl made as such a VMM would make it.
void reset_fits_into_real_filters(Findings& findings, const Subject& subject) {
  std::string fits;
  for (const CallFilter* filter : {&kFirecrackerVcpu, &kCloudHypervisorVcpu}) {
    Scene scene(findings, subject, 41, Scene::scripted);
    WatchedReset watched(scene);
    if (!watched.set_up(1)) return;
    watched.real_filter = filter;
    for (const Course& course : {kCourses[0], kCourses[1]}) watched.prepare(course, 0);
    if (!on_filtered_thread(*filter, findings, 41, [&] { watched.run(); }))
      return findings.not_applicable(41, "no system call filter here");
    // an ioctl is the host's, which may make it on another thread: to be known, and no breach
    const uint32_t missing = watched.missing_request;
    fits += fmt::format(
        "{}fits {}'s vCPU threads{}", fits.empty() ? "" : ", ", filter->name,
        missing == 0 ? "" : fmt::format(" with a batch only (no {})", ioctl_name(missing)));
  }
  findings.pass(41, "{}", fits);
}

void every_vcpu_was_provided_for(Findings& findings, const Subject& subject) {
  constexpr uint32_t kVcpus = 1024;  // KVM_MAX_VCPUS
  constexpr uint32_t kIndexes[] = {0, kVcpus - 1, 1, 8, 64, 255, 256, 511};
  Scene scene(findings, subject, 42, Scene::scripted);
  WatchedReset watched(scene);
  if (!watched.set_up(kVcpus)) return;
  for (const uint32_t index : kIndexes) watched.prepare(kCourses[1], index);
  trap_imports(reinterpret_cast<const void*>(scene.plugin.entry()), TrapKind::allocations, findings,
               42);
  watched.run();
  const std::vector<int32_t> results = watched.results();
  if (results[0] != 0)
    return findings.not_applicable(42, "vcpu_reset of vCPU 0 failed with {}", results[0]);
  for (std::size_t i = 1; i < results.size(); ++i)
    if (results[i] != 0)
      findings.fail(42, "vcpu_reset of vCPU {} of {} failed with {}", kIndexes[i], kVcpus,
                    results[i]);
}

// ---- exceptions

void no_exception_comes_out(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 46);
  if (!scene.load()) return;
  const void* code = reinterpret_cast<const void*>(scene.plugin.entry());
  // each call notes an exception that comes out of it
  constexpr uint32_t kMostAllocations = 200;
  uint32_t failures = 0;
  const auto starve = [&](auto body) {
    for (uint32_t left = 0; left < kMostAllocations; ++left) {
      starve_imports(code, left);
      body();
      const uint32_t failed = feed_imports();
      failures += failed;
      if (failed == 0) break;
    }
  };
  for (const char* options : {subject.options.c_str(), "no-such-option-anywhere=1"})
    starve([&] {
      ProbeHost host(findings, nullptr);
      ErrorText error;
      void* ctx = nullptr;
      const vmm_host* table = host.lend();
      if (scene.plugin.create(host, table, options, &ctx, &error) == 0)
        scene.plugin.destroy(host, ctx);
    });
  const auto life = scene.live();
  if (life == nullptr) return;
  starve([&] {
    int32_t created = 0;
    const auto vm = life->make_vm(8, &created);
    if (vm == nullptr || created != 0) return;
    life->reset_and_list(*vm);
    life->end_vm(*vm);
  });
  life->destroy();
  findings.pass(46, "{} allocations failed in it", failures);
}

constexpr Check kChecks[] = {
    {39, leaves_no_trace},
    {40, makes_no_new_resources, Check::without},
    {41, reset_only_touches_memory, Check::without},
    {41, reset_fits_into_real_filters, Check::without},
    {42, every_vcpu_was_provided_for, Check::without},
    {46, no_exception_comes_out},
};

}  // namespace

std::span<const Check> sandbox_checks() { return kChecks; }

}  // namespace host_stub::validate
