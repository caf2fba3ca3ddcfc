// SPDX-License-Identifier: MIT
//
// What host_conformance.so recorded of a host: files of JSON lines, read back as instances of the
// plugin, and their hook calls as intervals. The lines are described in host_conformance.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace host_stub {

using RecordLine = nlohmann::json;

/// A field of a line; 0, false or "" where it is missing, null or of another type.
int64_t number(const RecordLine& line, const char* key);
bool truth(const RecordLine& line, const char* key);
std::string text(const RecordLine& line, const char* key);

/// One call of a hook. Positions are those of lines in Instance::lines.
struct HookCall {
  static constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

  std::string hook;
  int64_t call = 0;
  int64_t vm = 0;      ///< number of the VM: 0 = vm_ctx was NULL, -1 = it was none of the plugin's
  std::size_t at = 0;  ///< its line `enter`
  std::size_t end = kNever;  ///< its line `leave`
  int64_t result = 0;        ///< where it left
  std::string thread;

  bool left() const noexcept { return end != kNever; }
  /// Both were running at one time.
  bool overlaps(const HookCall& other) const noexcept { return at < other.end && other.at < end; }
};

/// One instance of the plugin, from create on.
struct Instance {
  std::string id;
  std::string run;                ///< option run=
  bool has_vm_created = true;     ///< it registered that hook
  std::vector<RecordLine> lines;  ///< in the order in which they happened
  std::vector<HookCall> calls;    ///< in the order of `at`

  const RecordLine& create() const { return lines.front(); }
  bool created() const;  ///< create returned 0
  /// The line of destroy; nullptr if it was not called.
  const RecordLine* destroy() const;
  std::size_t destroyed_at() const;  ///< HookCall::kNever if it was not

  /// The lines of an event, of `what` if that is not empty.
  std::vector<const RecordLine*> all(std::string_view event, std::string_view what = {}) const;
  const HookCall* call_of(const RecordLine& line) const;  ///< by the line's `call`
};

/// Reads records. Error: the file, and the line if one is not as the plugin writes it.
tl::expected<std::vector<Instance>, std::string> read_records(
    const std::vector<std::string>& files);

}  // namespace host_stub
