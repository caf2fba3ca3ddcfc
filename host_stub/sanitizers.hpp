// SPDX-License-Identifier: MIT
//
// Whether this program was built with a sanitizer that brings its own allocator, threads and system
// calls.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOST_STUB_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HOST_STUB_SANITIZED 1
#endif
#endif
#ifndef HOST_STUB_SANITIZED
#define HOST_STUB_SANITIZED 0
#endif

namespace host_stub {
inline constexpr bool kSanitized = HOST_STUB_SANITIZED != 0;
}  // namespace host_stub
