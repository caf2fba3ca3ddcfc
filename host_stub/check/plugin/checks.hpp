// SPDX-License-Identifier: MIT
//
// The checks: each is a function for one rule of abi/ABI.md, run in a child of its own. A check
// that comes to its end without a note for its rule has passed it; it may note other rules too.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "check/plugin/findings.hpp"
#include "check/plugin/life.hpp"

namespace host_stub::validate {

struct Check {
  enum Sanitizers : uint8_t { with, without };  ///< whether it works in a program built with one

  unsigned rule;
  void (*run)(Findings& findings, const Subject& subject);
  Sanitizers sanitizers = with;
};

// By subject; all of them together are the validator's table.
std::span<const Check> file_checks();        ///< the file, its entry and descriptor
std::span<const Check> instance_checks();    ///< create and destroy; the first is a plain life
std::span<const Check> descriptor_checks();  ///< the descriptor after a life
std::span<const Check> hook_checks();        ///< hooks, handles, VMs and threads
std::span<const Check> msr_checks();         ///< batches and lists
std::span<const Check> sandbox_checks();     ///< system calls, allocation, what is left behind
std::span<const Check> memory_checks();  ///< growth of structs, pointers beyond their time, unload

/// A KVM, the plugin loaded, and one instance of it: what most checks begin with. Whatever keeps it
/// from that makes `rule` not applicable, with the reason.
class Scene {
 public:
  enum KvmUse : uint8_t {
    as_given,   ///< the subject's
    simulated,  ///< the subject's if it is a simulated one, else the default simulated one
    scripted,   ///< its CPUID alone: results by script, nothing allocated in callbacks
  };
  Scene(Findings& findings, const Subject& subject, unsigned rule, KvmUse use = as_given);

  /// Loads. False: noted.
  bool load();
  /// Loads if need be and makes a first or further instance, which `hook` (if not nullptr) must be
  /// registered by. nullptr: noted.
  std::unique_ptr<Life> live(const char* hook = nullptr, const Lending& lending = {});
  /// A VM of it, with vm_created done. nullptr: noted.
  std::unique_ptr<Machine> vm(Life& life, uint32_t max_vcpus = 2);
  /// A first reset of vCPU 0 and a first list, where nothing is wrong. False: one failed; noted.
  bool works(Life& life, Machine& vm);

  Findings& findings;
  const Subject& subject;
  const unsigned rule;
  LoadedPlugin plugin;
  std::unique_ptr<Kvm> kvm;

 private:
  KvmUse use_;
  bool loaded_ = false;
  std::string kvm_error_;
};

}  // namespace host_stub::validate
