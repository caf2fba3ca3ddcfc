// SPDX-License-Identifier: MIT
//
// Growth of structs, pointers beyond their time, and unloading: VMM-48, 63, 65, 66, 67.
#include <unistd.h>

#include <atomic>
#include <thread>

#include "check/plugin/checks.hpp"
#include "check/plugin/plugin_file.hpp"

namespace host_stub::validate {
namespace {

/// What the hooks said and gave in one life.
struct Story {
  int32_t created = 0, listed = 0, reset = 0, reset_into_batch = 0;
  std::size_t list_entries = 0, batch_entries = 0;
  bool operator==(const Story&) const = default;
};

/// Two VMs with all hooks, each twice, so that what was kept of the first calls is used.
Story live_through(Life& life, Findings& findings, const Lending& lending) {
  Story story;
  for (int round = 0; round < 2; ++round) {
    const auto vm = life.make_vm(2, &story.created);
    if (vm == nullptr || story.created != 0) return story;
    for (int repeat = 0; repeat < 2; ++repeat) {
      if (life.has(kMsrListBuild)) {
        ProbeSink& list = ProbeSink::lend(findings, ProbeSink::list, lending.sink, lending.beyond);
        story.listed = life.msr_list(*vm, list);
        story.list_entries = list.entries.size();
      }
      for (uint32_t index = 0; index < 2 && life.has(kVcpuReset); ++index) {
        ProbeSink& batch =
            ProbeSink::lend(findings, ProbeSink::batch, lending.sink, lending.beyond);
        story.reset_into_batch = life.reset(*vm, index, &batch);
        story.batch_entries = batch.entries.size();
        story.reset = life.reset(*vm, index);
      }
    }
    life.end_vm(*vm);
  }
  return story;
}

void live_with(Findings& findings, const Subject& subject, unsigned rule, const Lending& lending) {
  Scene scene(findings, subject, rule);
  const auto life = scene.live(nullptr, lending);
  if (life == nullptr) return;
  live_through(*life, findings, lending);
  life->destroy();
}

void sinks_are_used_in_their_call(Findings& findings, const Subject& subject) {
  live_with(findings, subject, 48, {.poison_sinks = true});
}

void pointers_are_used_in_their_call(Findings& findings, const Subject& subject) {
  live_with(findings, subject, 63, {.poison_structs = true});
}

void hook_table_is_well_formed(Findings& findings, const Subject& subject) {
  Scene scene(findings, subject, 66);
  if (!scene.load()) return;
  if (const uint32_t size = scene.plugin.entry()()->struct_size; size % alignof(vmm_plugin) != 0)
    findings.fail(66, "vmm_plugin.struct_size is {}, no sizeof", size);
  // register_hooks notes what is wrong with the table, and then create fails
  Life life(findings, scene.plugin, scene.kvm.get());
  const int32_t result = life.create(subject.options.c_str());
  if (life.host.register_calls == 0)
    return findings.not_applicable(66, "create returned {} and registered nothing", result);
  if (result == 0 && life.host.hooks.struct_size % alignof(vmm_hooks) != 0)
    findings.fail(66, "vmm_hooks.struct_size is {}, no sizeof", life.host.hooks.struct_size);
  if (result == 0) life.destroy();
}

void structs_of_other_sizes_are_taken(Findings& findings, const Subject& subject) {
  constexpr std::size_t kMore = 40;
  const struct {
    const char* name;
    Lending lending;
    uint32_t minor;
  } hosts[] = {
      {"a host of ABI 1.0", {}, 0},
      {"a host whose table is longer", {.host = sizeof(vmm_host) + kMore}, 99},
      {"a host whose table ends behind log", {.host = ProbeHost::kLeastSize}, 0},
      {"a host whose vmm_vm is longer", {.vm = sizeof(vmm_vm) + kMore}, 99},
      {"a host whose vmm_vcpu is longer", {.vcpu = sizeof(vmm_vcpu) + kMore}, 99},
      {"a host whose vmm_msr_sink is longer", {.sink = sizeof(vmm_msr_sink) + kMore}, 99},
      {"a host whose vmm_error is longer", {.error = sizeof(vmm_error) + kMore}, 99},
  };
  std::optional<Story> first;
  for (const auto& host : hosts) {
    Scene scene(findings, subject, 67);
    if (!scene.load()) return;
    // a plugin newer than this program may know the members: then 0, which means "not there"
    Lending lending = host.lending;
    if (scene.plugin.descriptor().abi_minor > VMM_PLUGIN_ABI_MINOR) lending.beyond = std::byte{0};
    Life life(findings, scene.plugin, scene.kvm.get(), lending);
    life.host.table.abi_minor = host.minor;
    const int32_t result = life.create(subject.options.c_str());
    if (!first && result != 0)
      return findings.not_applicable(67, "create failed with {}: {}", result, life.create_text);
    if (result != 0) {
      findings.fail(67, "create failed with {} for {}: {}", result, host.name, life.create_text);
      continue;
    }
    const Story story = live_through(life, findings, lending);
    if (!first) first = story;
    // a table without get_cpuid may well mean other registers
    const bool may_differ = host.lending.host < sizeof(vmm_host) && story.created == 0 &&
                            story.listed == first->listed && story.reset == first->reset;
    if (story != *first && !may_differ)
      findings.fail(67, "with {} the hooks give {} {} {} {}, else {} {} {} {}", host.name,
                    story.created, story.listed, story.reset, story.reset_into_batch,
                    first->created, first->listed, first->reset, first->reset_into_batch);
    life.destroy();
  }
}

void nothing_is_mapped_after_dlclose(Findings& findings, const Subject& subject) {
  if (const auto file = PluginFile::read(subject.plugin))
    for (const PluginFile::Symbol& symbol : file->exports)
      if (symbol.is_unique) findings.fail(65, "exports the unique symbol {}", symbol.name);
  constexpr int kRounds = 12;
  for (int round = 0; round < kRounds; ++round) {
    Scene scene(findings, subject, 65);
    std::unique_ptr<Life> life = scene.live();
    if (life == nullptr) return;
    // on a thread that lives on: what it keeps of the plugin keeps the file
    std::atomic<bool> done = false, unloaded = false;
    std::thread thread([&] {
      live_through(*life, findings, {});
      done = true;
      while (!unloaded) usleep(100);
    });
    while (!done) usleep(100);
    live_through(*life, findings, {});
    life->destroy();
    // loaded twice, unloaded twice
    LoadedPlugin again(findings, subject.plugin);
    again.load();
    again.unload();
    scene.plugin.unload();
    const bool mapped = scene.plugin.is_mapped();
    unloaded = true;
    thread.join();
    if (mapped) return findings.fail(65, "the file is still mapped after dlclose {}", round + 1);
  }
}

constexpr Check kChecks[] = {
    {66, hook_table_is_well_formed},       {67, structs_of_other_sizes_are_taken},
    {63, pointers_are_used_in_their_call}, {48, sinks_are_used_in_their_call},
    {65, nothing_is_mapped_after_dlclose},
};

}  // namespace

std::span<const Check> memory_checks() { return kChecks; }

}  // namespace host_stub::validate
