// SPDX-License-Identifier: MIT
//
// What a test cannot go on without.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tl/expected.hpp>
#include <type_traits>
#include <utility>

namespace host_stub {

/// The value. Throws std::runtime_error with `what` was wanted and why it is not there: the error's
/// text, or that of a negated errno.
template <typename T, typename E>
T need(tl::expected<T, E> result, const std::string& what) {
  if (result) return std::move(*result);
  if constexpr (std::is_same_v<E, int32_t>)
    throw std::runtime_error(what + ": " + std::strerror(-result.error()));
  else
    throw std::runtime_error(what + ": " + result.error());
}

}  // namespace host_stub
