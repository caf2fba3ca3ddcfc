// SPDX-License-Identifier: MIT
//
// The plugins that the operator asked for, loaded and configured, or why that could not be done.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host_kit/host.hpp"
#include "host_kit/plugin_instance.hpp"
#include "host_kit/plugin_library.hpp"
#include "host_kit/plugin_list.hpp"

namespace host_kit {

/// What the operator asked for and cannot have.
struct Problem {
  int32_t code = 0;  ///< negated errno, for the VMM's KVM_CREATE_VM
  std::string text;  ///< one line
};

class PluginSet {
 public:
  explicit PluginSet(Host& host) noexcept : host_(host) {}

  /// Loads each and calls its create, in order. Those that fail are left out and named in
  /// problems(). May throw bad_alloc.
  void load(const std::vector<PluginSpec>& specs, const std::vector<std::string>& folders);

  /// Makes new instances of the plugins that work, in a child of the process that loaded them; the
  /// parent's instances are left as they are, and so are the problems.
  void renew();

  const std::vector<std::unique_ptr<PluginInstance>>& instances() const noexcept {
    return instances_;
  }
  const std::vector<Problem>& problems() const noexcept { return problems_; }
  void add_problem(Problem problem) { problems_.push_back(std::move(problem)); }

 private:
  struct Loaded {
    PluginLibrary library;
    std::string options;
  };
  bool create(const Loaded& loaded);

  Host& host_;
  // those whose create succeeded; instances refer to the descriptors in it
  std::vector<std::unique_ptr<Loaded>> loaded_;
  std::vector<std::unique_ptr<PluginInstance>> instances_;
  std::vector<std::unique_ptr<PluginInstance>> parents_;  // the process's before a fork
  std::vector<Problem> problems_;
};

}  // namespace host_kit
