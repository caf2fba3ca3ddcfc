// SPDX-License-Identifier: MIT
#pragma once

#include <boost/test/unit_test.hpp>

#include "../../host_stub/sanitizers.hpp"

/// Before a test case that says nothing about a build with a sanitizer, whose runtime brings its
/// own allocator, signals and system calls and is not preloaded beside other libraries: such a
/// build does not have the case, the other builds do.
#define NOT_SANITIZED BOOST_TEST_DECORATOR(*boost::unit_test::enable_if<!host_stub::kSanitized>())
