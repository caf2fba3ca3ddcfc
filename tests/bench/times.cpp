// SPDX-License-Identifier: MIT
//
// What takes time, compared with what it is put against in the same run (rounds.hpp):
//   bench_times PLUGIN EMPTY_PLUGIN ROUNDS [--benchmark_...]
// --benchmark_format=json gives the counters to programs, --benchmark_filter=EXPRESSION chooses.
#include <benchmark/benchmark.h>
#include <dlfcn.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench_machine.hpp"
#include "host_kit/plugin_library.hpp"
#include "rounds.hpp"
#include "sim/backend.hpp"
#include "team.hpp"

namespace bench {
namespace {

struct Setup {
  std::string plugin, empty_plugin;
  int rounds = 0;
};

struct Size {
  uint32_t vcpus, threads;
};

/// The plugin's file, loaded as long as something is measured in it: `load` must find it unloaded.
class Plugin {
 public:
  explicit Plugin(const std::string& path) : library_(host_kit::PluginLibrary::open(path)) {
    if (!library_) throw std::runtime_error(library_.error());
  }
  const vmm_plugin& descriptor() const { return library_->descriptor(); }

 private:
  tl::expected<host_kit::PluginLibrary, std::string> library_;
};

constexpr const char* kDevice = "/dev/kvm";

/// The guest's CPUID decides which registers a reset has; this KVM may have none of them. The first
/// of these with which something is written.
BenchMachine machine_that_writes(const Plugin& plugin, uint32_t vcpus) {
  for (const char* cpuid : {"v2", "core"}) {
    const MachineSpec one{.kvm = kDevice, .cpuid = cpuid};
    if (BenchMachine(plugin.descriptor(), one).registers() > 0)
      return BenchMachine(plugin.descriptor(), {.kvm = kDevice, .cpuid = cpuid, .vcpus = vcpus});
  }
  return BenchMachine(plugin.descriptor(),
                      {.kvm = kDevice, .cpuid = "plain,vendor=amd", .vcpus = vcpus});
}

/// Throws if a call on this machine does not do its work.
void check(BenchMachine& machine) {
  if (machine.registers() == 0) throw std::runtime_error("this KVM has no PMU register");
  const auto all = static_cast<int32_t>(machine.registers());
  if (machine.reset(0) != 0 || machine.write_bare(0) != all || machine.write_one_by_one(0) != all)
    throw std::runtime_error("KVM refuses a register");
}

/// The hook, or the naive way of one ioctl a register, against the bare ioctl; on one vCPU.
void one_vcpu_against_bare(benchmark::State& state, const Setup& setup, int calls, bool naive) {
  const Plugin plugin(setup.plugin);
  BenchMachine machine = machine_that_writes(plugin, 1);
  check(machine);
  compare(state, calls, window(calls, [&](int) { machine.write_bare(0); }),
          window(calls, [&](int) { naive ? machine.write_one_by_one(0) : machine.reset(0); }));
  state.counters["registers"] = machine.registers();
}

/// The plugin alone, without a KVM: one VM of many vCPUs that several threads share, against as
/// many threads that share nothing, each with a plugin instance and a VM of its own, of which it
/// resets one vCPU. What CPUs take from each other (two threads of one core) is in both.
void shared_against_own(benchmark::State& state, const Setup& setup, Size size) {
  constexpr int kCalls = 8192;
  const Plugin plugin(setup.plugin);
  const BenchMachine shared(plugin.descriptor(), {.kvm = kNoKvm, .vcpus = size.vcpus});
  std::vector<std::unique_ptr<BenchMachine>> machines;
  std::vector<const BenchMachine*> own;
  for (uint32_t thread = 0; thread < size.threads; ++thread) {
    machines.push_back(std::make_unique<BenchMachine>(
        plugin.descriptor(), MachineSpec{.kvm = kNoKvm, .vcpus = size.threads}));
    own.push_back(machines.back().get());
  }
  const std::vector<const BenchMachine*> same(size.threads, &shared);
  Team team(size.threads);
  // both by the same way of pointers: they differ in what these lead to alone
  const auto walk = [&](const std::vector<const BenchMachine*>& ways, uint32_t vcpus) {
    return team.window(vcpus, kCalls,
                       [&ways](uint32_t thread, uint32_t vcpu) { ways[thread]->reset(vcpu); });
  };
  compare(state, kCalls, walk(own, size.threads), walk(same, size.vcpus));
}

/// The hook against the bare ioctl, both on many vCPUs from many threads.
void many_against_bare(benchmark::State& state, const Setup& setup, Size size) {
  constexpr int kCalls = 1024;
  const Plugin plugin(setup.plugin);
  BenchMachine machine = machine_that_writes(plugin, size.vcpus);
  check(machine);
  Team team(size.threads);
  compare(
      state, kCalls,
      team.window(size.vcpus, kCalls, [&](uint32_t, uint32_t vcpu) { machine.write_bare(vcpu); }),
      team.window(size.vcpus, kCalls, [&](uint32_t, uint32_t vcpu) { machine.reset(vcpu); }));
  state.counters["registers"] = machine.registers();
}

/// dlopen, create, destroy, dlclose.
void load_once(const std::string& path) {
  const auto library = host_kit::PluginLibrary::open(path);
  if (!library) throw std::runtime_error(library.error());
  vmm_host host{};
  host.struct_size = sizeof host;
  host.abi_major = VMM_PLUGIN_ABI_MAJOR;
  host.name = "bench";
  host.register_hooks = [](void*, const vmm_hooks*, void*) -> int32_t { return 0; };
  host.vm_ioctl = [](void*, vmm_vm_handle, uint32_t, void*) -> int32_t { return 0; };
  host.vcpu_ioctl = [](void*, vmm_vcpu_handle, uint32_t, void*) -> int32_t { return 0; };
  host.log = [](void*, uint32_t, const char*, uint64_t) {};
  void* ctx = nullptr;
  if (library->descriptor().create(&host, nullptr, &ctx, nullptr) != 0)
    throw std::runtime_error(path + ": create");
  library->descriptor().destroy(ctx);
}

void load(benchmark::State& state, const Setup& setup) {
  compare(state, 1, window(1, [&](int) { load_once(setup.empty_plugin); }),
          window(1, [&](int) { load_once(setup.plugin); }));
}

// ---- all of them -------------------------------------------------------------------------------

void add(const Setup& setup, const std::string& name, std::function<void(benchmark::State&)> body) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [body = std::move(body)](benchmark::State& state) {
                                 try {
                                   body(state);
                                 } catch (const std::exception& error) {
                                   state.SkipWithError(error.what());
                                 }
                               })
      ->UseManualTime()
      ->Iterations(setup.rounds)
      ->Unit(benchmark::kMicrosecond);
}

constexpr Size kSizes[] = {{1, 1},   {16, 1},  {16, 2},   {16, 8},   {256, 1},
                           {256, 2}, {256, 8}, {1024, 1}, {1024, 2}, {1024, 8}};

void add_all(const Setup& setup) {
  add(setup, "reset/kvm",
      [&setup](benchmark::State& state) { one_vcpu_against_bare(state, setup, 100, false); });
  add(setup, "one_by_one/kvm",
      [&setup](benchmark::State& state) { one_vcpu_against_bare(state, setup, 50, true); });
  for (const Size size : kSizes) {
    const std::string name = "/" + std::to_string(size.vcpus) + "/" + std::to_string(size.threads);
    add(setup, "bare" + name,
        [&setup, size](benchmark::State& state) { many_against_bare(state, setup, size); });
    add(setup, "shared" + name,
        [&setup, size](benchmark::State& state) { shared_against_own(state, setup, size); });
  }
  add(setup, "load", [&setup](benchmark::State& state) { load(state, setup); });
}

int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  Setup setup;
  if (argc == 4) setup = {argv[1], argv[2], static_cast<int>(std::strtol(argv[3], nullptr, 10))};
  if (setup.rounds < 2) {
    std::fputs(
        "usage: bench_times PLUGIN EMPTY_PLUGIN ROUNDS [--benchmark_...]; ROUNDS: 2 or more\n",
        stderr);
    return 2;
  }
  rlimit files{};  // a descriptor a vCPU
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  pin_to_cpu(0);
  add_all(setup);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv); }
