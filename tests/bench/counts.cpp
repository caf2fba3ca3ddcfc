// SPDX-License-Identifier: MIT
//
// What can be counted, and does not depend on what else the machine does:
//   bench_counts PLUGIN vm_created    ioctls, allocations and bytes, one JSON object a line
//   bench_counts PLUGIN memory        bytes held for a VM of so many vCPUs; allocations of a reset
//   bench_counts PLUGIN instructions  to be run under callgrind: one dump a case, by its name
//   bench_counts PLUGIN resets KVM VCPUS THREADS ROUNDS
//                                     to be run under strace: each thread's resets are between
//                                     write(-1, "begin") and write(-1, "end")
#include <unistd.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench_machine.hpp"
#include "host_kit/plugin_library.hpp"
#include "sim/backend.hpp"
#include "sim/profile.hpp"
#include "support/resource_counters.hpp"

namespace bench {
namespace {

using Words = std::span<char* const>;

// ---- vm_created --------------------------------------------------------------------------------

void vm_created(const vmm_plugin& plugin, Words) {
  std::vector<std::string> kernels;
  for (const host_stub::Kernel& kernel : host_stub::kernels())
    for (const char* more : {"", ",enable_pmu=N"}) {
      if (*more != '\0' && !kernel.enable_pmu_parameter) continue;
      kernels.push_back("sim:" + std::string(kernel.name) + more);
    }
  for (const std::string& kvm : kernels)
    for (const char* options : {"", "pmu-cap-disabled=on"}) {
      BenchMachine machine(plugin, {.kvm = kvm, .options = options});
      const auto sim = host_stub::open_kvm(kvm);
      const int32_t offered = (*sim)->ioctl(
          KVM_CHECK_EXTENSION, reinterpret_cast<void*>(uintptr_t{KVM_CAP_PMU_CAPABILITY}));
      std::printf("{\"kvm\": \"%s\", \"options\": \"%s\", \"capability\": %s, \"ioctls\": %u}\n",
                  kvm.c_str(), options, offered > 0 ? "true" : "false", machine.host().vm_ioctls);
    }
}

// ---- memory ------------------------------------------------------------------------------------

void memory(const vmm_plugin& plugin, Words) {
  for (const uint32_t vcpus : {1u, 16u, 256u, 1024u}) {
    BenchMachine machine(plugin, {.kvm = kNoKvm, .vcpus = vcpus});
    const vmm_vm vm{sizeof(vmm_vm), vcpus, reinterpret_cast<vmm_vm_handle>(&machine)};
    const vmm_hooks& hooks = machine.host().hooks();
    void* vm_ctx = nullptr;
    counters = {.armed = true};
    const int32_t created = hooks.vm_created(machine.host().ctx(), &vm, &vm_ctx, nullptr);
    counters.armed = false;
    const ResourceCounters creation = counters;
    if (created != 0) throw std::runtime_error("vm_created");
    hooks.vm_destroyed(machine.host().ctx(), vm_ctx);

    counters = {.armed = true};
    for (uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) machine.reset(vcpu);
    counters.armed = false;
    std::printf(
        "{\"vcpus\": %u, \"bytes\": %zu, \"allocations\": %u, \"reset_allocations\": %u, "
        "\"reset_locks\": %u}\n",
        vcpus, creation.bytes, creation.allocations, counters.allocations, counters.locks);
  }
}

// ---- instructions ------------------------------------------------------------------------------

constexpr int kCalls = 2048;  // the program divides by it; a multiple of the vCPUs below

template <typename Call>
void count(const char* name, uint32_t vcpus, Call call) {
  CALLGRIND_ZERO_STATS;
  uint32_t vcpu = 0;
  for (int i = 0; i < kCalls; ++i) {
    call(vcpu);
    if (++vcpu == vcpus) vcpu = 0;
  }
  CALLGRIND_DUMP_STATS_AT(name);
}

/// Takes nothing: what is left of a batch is the call.
int32_t take(void*, const vmm_msr*, uint32_t) { return 0; }

void instructions(const vmm_plugin& plugin, Words) {
  const vmm_msr_sink sink{sizeof(vmm_msr_sink), 0, nullptr, take};
  for (const uint32_t vcpus : {1u, 1024u}) {
    BenchMachine machine(plugin, {.kvm = kNoKvm, .vcpus = vcpus});
    std::vector<vmm_msr> plan;
    for (const kvm_msr_entry& entry : machine.entries())
      plan.push_back({entry.index, 0, entry.data});
    const std::string tail = " " + std::to_string(vcpus);
    auto* const volatile add = sink.add;  // as the plugin, which does not know it either
    const auto size = static_cast<uint32_t>(plan.size());
    count(("add" + tail).c_str(), vcpus, [&](uint32_t) { add(sink.sink_ctx, plan.data(), size); });
    count(("batch" + tail).c_str(), vcpus, [&](uint32_t vcpu) { machine.reset(vcpu, &sink); });
    count(("callback" + tail).c_str(), vcpus,
          [&](uint32_t vcpu) { machine.write_by_callback(vcpu); });
    count(("reset" + tail).c_str(), vcpus, [&](uint32_t vcpu) { machine.reset(vcpu); });
    std::printf("{\"vcpus\": %u, \"calls\": %d, \"registers\": %u}\n", vcpus, kCalls, size);
  }
}

// ---- resets ------------------------------------------------------------------------------------

/// A line in strace's output; the call fails.
void mark(std::string_view text) {
  [[maybe_unused]] const ssize_t failed = write(-1, text.data(), text.size());
}

uint32_t number(const char* text) { return static_cast<uint32_t>(std::strtoul(text, nullptr, 10)); }

void resets(const vmm_plugin& plugin, Words words) {
  const uint32_t vcpus = number(words[1]), threads = number(words[2]), rounds = number(words[3]);
  if (vcpus == 0 || threads == 0 || threads > vcpus)
    throw std::runtime_error("VCPUS and THREADS: 1 or more, THREADS at most VCPUS");
  BenchMachine machine(plugin, {.kvm = words[0], .cpuid = "plain,vendor=amd", .vcpus = vcpus});
  {
    std::vector<std::jthread> team;
    for (uint32_t thread = 0; thread < threads; ++thread)
      team.emplace_back([&, thread] {
        mark("begin");
        for (uint32_t round = 0; round < rounds; ++round)
          for (uint32_t vcpu = thread; vcpu < vcpus; vcpu += threads) machine.reset(vcpu);
        mark("end");
      });
  }
  std::printf("{\"resets\": %u, \"registers\": %u}\n", rounds * vcpus, machine.registers());
}

// ---- the program -------------------------------------------------------------------------------

constexpr struct {
  std::string_view name;
  std::size_t words;
  void (*run)(const vmm_plugin&, Words);
} kCommands[] = {
    {"vm_created", 0, vm_created},
    {"memory", 0, memory},
    {"instructions", 0, instructions},
    {"resets", 4, resets},
};

int run(std::span<char* const> words) {
  for (const auto& command : kCommands) {
    if (words.size() != 3 + command.words || command.name != words[2]) continue;
    const auto library = host_kit::PluginLibrary::open(words[1]);
    if (!library) throw std::runtime_error(library.error());
    command.run(library->descriptor(), words.subspan(3));
    return 0;
  }
  std::fputs(
      "usage: bench_counts PLUGIN vm_created|memory|instructions\n"
      "       bench_counts PLUGIN resets KVM VCPUS THREADS ROUNDS\n",
      stderr);
  return 2;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  try {
    return bench::run({argv, static_cast<std::size_t>(argc)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_counts: %s\n", error.what());
    return 1;
  }
}
