// SPDX-License-Identifier: MIT
//
// The validator: a plugin's file against every rule of abi/ABI.md that obliges a plugin. Each check
// runs in a child process with a time limit, so this process neither loads the plugin nor depends
// on what it does.
#pragma once

#include <chrono>
#include <vector>

#include "check/plugin/life.hpp"
#include "check/report.hpp"

namespace host_stub::validate {

struct Order {
  Subject subject;
  std::vector<unsigned> rules;  ///< only these; empty: all
  std::chrono::milliseconds limit{10000};
};

/// The rules that are checked, by number.
std::vector<unsigned> checked_rules();

/// A verdict for each rule of the order. To be called by a process with one thread.
RuleReport validate(const Order& order);

}  // namespace host_stub::validate
