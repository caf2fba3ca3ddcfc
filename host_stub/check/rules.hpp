// SPDX-License-Identifier: MIT
//
// The numbered rules of abi/ABI.md, as far as a program needs them: their numbers and a title each.
// The page has the words; a test holds that both have the same numbers.
#pragma once

#include <span>

namespace host_stub {

struct Rule {
  unsigned number;    ///< n of VMM-n
  const char* title;  ///< a line's worth, without a full stop
};

/// All rules, by number: the first is VMM-1, none is left out.
std::span<const Rule> all_rules() noexcept;

/// The rule VMM-`number`; nullptr if there is none.
const Rule* find_rule(unsigned number) noexcept;

}  // namespace host_stub
