// SPDX-License-Identifier: MIT
//
// A plugin's life, driven by hand: load, create, VMs, hooks, destroy, unload, each as its own call
// with raw arguments. host_kit would not do: here the host's table, the order and the structs are
// what a check varies.
//
// What every call must keep is looked at in each: no exception (VMM-46), a result that is 0 or a
// negated errno (VMM-43), a text that stays in its buffer and belongs to an error (VMM-45).
#pragma once

#include <vmm/plugin.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "check/plugin/calls.hpp"
#include "check/plugin/findings.hpp"
#include "check/plugin/guarded_memory.hpp"
#include "check/plugin/probe_host.hpp"
#include "kvm/kvm.hpp"

namespace host_stub::validate {

/// What a validation is of.
struct Subject {
  std::string plugin;   ///< path, with a '/'
  std::string options;  ///< valid ones for this plugin; "" = none
  std::string kvm;      ///< spec of the KVM under the VMs (kvm/backend.hpp)
};

/// A text buffer to lend, with a canary behind it.
class ErrorText {
 public:
  explicit ErrorText(uint32_t capacity = 512, std::size_t struct_size = sizeof(vmm_error),
                     std::byte beyond = kGarbage);
  vmm_error* get() noexcept { return error_.get(); }
  /// What was written, up to the NUL or the end of the buffer.
  std::string_view text() const noexcept;
  bool is_terminated() const noexcept { return text().size() < capacity_; }
  /// Notes against VMM-45 what is wrong after a call that returned `result`.
  void judge(Findings& findings, const char* function, int32_t result) const noexcept;
  void close() noexcept { error_.close(); }

 private:
  uint32_t capacity_;
  std::vector<char> storage_;
  Guarded<vmm_error> error_;
};

/// A sink to lend. Notes what a plugin may not add or when (VMM-47, 48, 49, 58).
class ProbeSink {
 public:
  enum Kind : uint8_t { list, batch };
  /// It stays until the process ends: the plugin may have kept it, and the use is to be seen.
  static ProbeSink& lend(Findings& findings, Kind kind,
                         std::size_t struct_size = sizeof(vmm_msr_sink),
                         std::byte beyond = kGarbage);
  ProbeSink(const ProbeSink&) = delete;
  ProbeSink& operator=(const ProbeSink&) = delete;

  const vmm_msr_sink* get() noexcept { return sink_.get(); }
  /// The call that it was lent for is over. With `poison` a read of the struct is SIGSEGV.
  void end(bool poison = false) noexcept;

  std::vector<vmm_msr> entries;  ///< in the order of adding; never grows beyond its reserved room
  int32_t refusal = 0;           ///< not 0: what add returns
  uint32_t adds = 0;

 private:
  ProbeSink(Findings& findings, Kind kind, std::size_t struct_size, std::byte beyond);
  static int32_t add(void* self, const vmm_msr* msrs, uint32_t count) noexcept;

  Findings& findings_;
  Kind kind_;
  bool open_ = true;
  Guarded<vmm_msr_sink> sink_;
};

/// The plugin's file, loaded.
class LoadedPlugin {
 public:
  LoadedPlugin(Findings& findings, const std::string& path) : findings_(findings), path_(path) {}

  /// Loads it and looks its entry up. False: why() says it.
  bool open();
  /// The same, then asks the entry and copies the descriptor. False: why() says it.
  bool load();
  void unload();
  /// Whether anything of the file is mapped in this process.
  bool is_mapped() const;

  const std::string& why() const noexcept { return why_; }
  vmm_plugin_entry entry() const noexcept { return entry_; }
  /// As the entry gave it; members that it does not have are 0.
  const vmm_plugin& descriptor() const noexcept { return descriptor_; }

  int32_t create(ProbeHost& host, const vmm_host* table, const char* options, void** ctx,
                 ErrorText* error);
  void destroy(ProbeHost& host, void* ctx);

 private:
  Findings& findings_;
  std::string path_, why_;
  void* handle_ = nullptr;
  vmm_plugin_entry entry_ = nullptr;
  vmm_plugin descriptor_{};
};

/// Sizes of the structs that a host lends, and whether they are poisoned after the call.
struct Lending {
  std::size_t host = sizeof(vmm_host);
  std::size_t vm = sizeof(vmm_vm);
  std::size_t vcpu = sizeof(vmm_vcpu);
  std::size_t sink = sizeof(vmm_msr_sink);
  std::size_t error = sizeof(vmm_error);
  std::byte beyond = kGarbage;  ///< in members that this program does not know
  bool poison_structs = false;
  bool poison_sinks = false;
};

/// One instance of a plugin and its host. Functions for different VMs, and reset for different
/// vCPUs of one, may be called on different threads at once.
class Life {
 public:
  /// `kvm` nullptr: scripted host.
  Life(Findings& findings, LoadedPlugin& plugin, Kvm* kvm, const Lending& lending = {});

  ProbeHost host;
  LoadedPlugin& plugin;

  /// create with whole tables. What failed is in create_text.
  int32_t create(const char* options);
  void destroy();
  bool has(const char* hook) const noexcept;

  /// KVM_CREATE_VM and vm_created. The machine is there whatever the plugin said; nullptr: no KVM.
  /// An empty hook counts as 0.
  std::unique_ptr<Machine> make_vm(uint32_t max_vcpus, int32_t* result = nullptr,
                                   bool with_error = true);
  int32_t msr_list(Machine& vm, ProbeSink& sink, bool with_error = true);
  /// `batch` may be nullptr.
  int32_t reset(Machine& vm, uint32_t index, ProbeSink* batch = nullptr);
  /// The same with a handle that the caller makes and drops.
  int32_t reset_with(Machine& vm, uint32_t index, vmm_vcpu_handle handle, ProbeSink* batch);
  /// A reset of vCPU 0 and then a list, as far as there are hooks for them; the list's sink refuses
  /// with `refusal` unless that is 0. The first failure, or 0.
  int32_t reset_and_list(Machine& vm, int32_t refusal = 0);
  void end_vm(Machine& vm);

  Findings& findings() noexcept { return findings_; }

  std::string create_text;
  std::string hook_text;  ///< of the last vm_created or msr_list_build

 private:
  Guarded<vmm_vm>& lend_shape(const Machine& vm);
  ErrorText& lend_error();
  template <typename Hook>
  int32_t call_fallible(const char* function, Machine& vm, bool with_error, Hook hook);

  Findings& findings_;
  Lending lending_;
  std::string options_;
  void* ctx_ = nullptr;
  std::mutex mutex_;  // of what follows, and hook_text
  std::vector<std::unique_ptr<Guarded<vmm_vm>>> shapes_;
  std::vector<std::unique_ptr<ErrorText>> errors_;
};

}  // namespace host_stub::validate
